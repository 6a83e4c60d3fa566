"""Configuration keys of LSTM Pose Machines."""

from __future__ import annotations

from detectron2.config import CfgNode as CN


def add_config(cfg: CN) -> None:
    """Add ``MODEL.LSTM_PM`` in place. The defaults are the paper's network."""
    node = cfg.MODEL.LSTM_PM = CN()
    # Steps of the LSTM on every frame, >= 1, each with a loss on its maps: 1 for video, 5 for the
    # single-image pre-model, which unrolls six stages (ConvNet1 and five of these) on one image.
    node.STAGES_PER_FRAME = 1
    # Factor on the learning rate of ConvNet1 (5 in the pre-model's recipe); > 0.
    node.CONVNET1_LR_FACTOR = 1.0
    # Standard deviation of every convolution's initial weights. 0: He et al.'s, by fan-in, which a
    # narrow network needs (0.01 suits the paper's widths only).
    node.INIT_STD = 0.01

    # ConvNet2, and with weights of its own the beginning of ConvNet1: convolutions, each followed
    # by a pooling that halves the map (rounding up), then one without that makes the features.
    stem = node.STEM = CN()
    # Width of each pooled convolution. HEATMAP.STRIDE is 2 to the power of their number.
    stem.CHANNELS = [128, 128, 128]
    # Their kernel, odd, px.
    stem.KERNEL = 9
    # Width and kernel (odd) of the features.
    stem.FEATURE_CHANNELS = 32
    stem.FEATURE_KERNEL = 5

    # The rest of ConvNet1: a large convolution and two 1x1.
    initial = node.INITIAL = CN()
    initial.CHANNELS = 512
    # Kernel of the large convolution, odd.
    initial.KERNEL = 9
    # Dropout after the first two, 0-1.
    initial.DROPOUT = 0.5

    lstm = node.LSTM = CN()
    # Width of hidden and cell maps; the paper's 48 is the input's at K = 14.
    lstm.HIDDEN_CHANNELS = 48
    # Kernel of the gates, odd.
    lstm.KERNEL = 3
    # Initial values of the gates' additional biases, in the order g, f, i, o.
    lstm.GATE_BIAS = [0.0, 1.0, 1.4, 0.2]

    # ConvNet3: width, kernel (odd) and number of its large convolutions.
    head = node.HEAD = CN()
    head.CHANNELS = 128
    head.KERNEL = 11
    head.NUM_LARGE = 3
