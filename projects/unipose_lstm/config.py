"""Configuration keys of UniPose and UniPose-LSTM."""

from __future__ import annotations

from detectron2.config import CfgNode as CN


def add_config(cfg: CN) -> None:
    """Add ``MODEL.UNIPOSE`` and the backbone keys that dilation needs, in place."""
    resnets = cfg.MODEL.RESNETS
    # Dilation of res4, 1 or 2 (2 gives output stride 8 together with RES5_DILATION 4), and the
    # multi-grid of res5; read by Detectron2's build_resnet_deeplab_backbone.
    if "RES4_DILATION" not in resnets:
        resnets.RES4_DILATION = 1
    if "RES5_MULTI_GRID" not in resnets:
        resnets.RES5_MULTI_GRID = [1, 2, 4]
    if "STEM_TYPE" not in resnets:
        resnets.STEM_TYPE = "basic"

    unipose = cfg.MODEL.UNIPOSE = CN()
    # Backbone outputs that feed the decoder (stride 4) and WASP.
    unipose.LOW_FEATURE = "res2"
    unipose.HIGH_FEATURE = "res5"
    # Norm of WASP and decoder: Detectron2's names ("BN", "SyncBN", "GN", "FrozenBN", ...).
    unipose.NORM = "BN"

    wasp = unipose.WASP = CN()
    # Channels of every branch.
    wasp.CHANNELS = 256
    # Dilations of the waterfall's 3x3 convolutions, in order. The paper's suit a 23x23 map.
    wasp.DILATIONS = [18, 12, 6]
    # Norm in the global-average branch: the released image model has one, the video model has none.
    wasp.POOL_NORM = True
    # Dropout after WASP's last convolution, 0-1.
    wasp.DROPOUT = 0.5

    decoder = unipose.DECODER = CN()
    # Channels of the reduced low-level features and of the two 3x3 convolutions.
    decoder.LOW_CHANNELS = 48
    decoder.CHANNELS = 256
    # Dropout after the first and the second 3x3 convolution, 0-1.
    decoder.DROPOUT = [0.5, 0.1]

    lstm = unipose.LSTM = CN()
    # "paper": input is [decoder maps, previous final maps, centre map], an ordinary cell from zero.
    # "released": the released graph: [decoder maps, centre map], a first-frame cell of its own, a
    # ReLU after the last convolution; previous maps are not used.
    lstm.FORM = "paper"
    # Kernel of the gates, odd.
    lstm.KERNEL = 3
    # Initial bias of the forget gate ("paper").
    lstm.FORGET_BIAS = 1.0
    # "paper" only: the final maps are the head's output added to the decoder maps.
    lstm.RESIDUAL = False
    # Weight of a loss on the decoder maps beside the loss on the final maps; 0 = none.
    lstm.DECODER_LOSS_WEIGHT = 0.0

    head = lstm.HEAD = CN()
    # The convolutions after the LSTM: width, kernel (odd) and number of the large ones.
    head.CHANNELS = 128
    head.KERNEL = 11
    head.NUM_LARGE = 3
