"""UniPose: sizes, the waterfall by hand, and what the configuration refuses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from torch import nn

from unipose_lstm.unipose import WASP, Decoder
from video_pose.engine.defaults import get_pose_cfg

PENN = [
    "head",
    *(f"{s}_{j}" for j in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
      for s in ("right", "left")),
]  # fmt: skip


def paper_cfg(architecture: str, *options):
    """R-101 at output stride 16, 13 joints and a background, all parameters trained."""
    cfg = get_pose_cfg()
    cfg.merge_from_file("configs/UniPose-LSTM/Base-UniPose-R101.yaml")
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", architecture, "MODEL.DEVICE", "meta", *options])
    cfg.MODEL.POSE.JOINTS = PENN
    return cfg


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_of_the_papers_image_model(monkeypatch, request) -> None:
    monkeypatch.chdir(request.config.rootpath)
    with torch.device("meta"):
        model = build_model(paper_cfg("UniPose"))
        assert count(model.backbone) == 42_500_160
        assert count(model) == 47_021_742
        # 46x46 maps of 13 joints and a background from 368x368 crops.
        features = model.backbone.eval()(torch.empty(1, 3, 368, 368))
        assert features["res2"].shape[2:] == (92, 92) and features["res5"].shape[2:] == (23, 23)
        assert model.eval().encode(torch.empty(1, 3, 368, 368)).shape == (1, 14, 46, 46)
    # Output stride 16: res5 does not halve, its 3x3 convolutions are dilated 2 x (1, 2, 4).
    dilations = [block.conv2.dilation[0] for block in model.backbone.res5]
    assert dilations == [2, 4, 8]


def test_parameters_of_the_released_video_model(monkeypatch, request) -> None:
    monkeypatch.chdir(request.config.rootpath)
    cfg = paper_cfg(
        "UniPoseLSTM", "MODEL.UNIPOSE.LSTM.FORM", "released", "MODEL.UNIPOSE.WASP.POOL_NORM", False
    )
    with torch.device("meta"):
        assert count(build_model(cfg)) == 51_259_620


def test_wasp_is_a_waterfall_with_a_shared_linear_pair() -> None:
    torch.manual_seed(0)
    wasp = WASP(in_channels=5, channels=4, dilations=[3, 2], norm="", dropout=0.0).eval()
    x = torch.randn(2, 5, 9, 10)
    one, two, three = wasp.branches
    first = F.relu(F.conv2d(x, one.weight, one.bias))
    second = F.relu(F.conv2d(first, two.weight, two.bias, padding=3, dilation=3))
    third = F.relu(F.conv2d(second, three.weight, three.bias, padding=2, dilation=2))
    pair = torch.einsum("oi,ij->oj", wasp.shared.weight[:, :, 0, 0], wasp.shared.weight[:, :, 0, 0])
    outputs = [torch.einsum("oi,nihw->nohw", pair, y) for y in (first, second, third)]
    mean = x.mean(dim=(2, 3))
    pooled = F.relu(mean @ wasp.pool.weight[:, :, 0, 0].T)
    outputs.append(pooled[:, :, None, None].expand(-1, -1, 9, 10))
    expected = F.relu(F.conv2d(torch.cat(outputs, 1), wasp.project.weight, wasp.project.bias))
    torch.testing.assert_close(wasp(x), expected, atol=1e-5, rtol=1e-4)


def test_decoder_by_hand() -> None:
    torch.manual_seed(0)
    decoder = Decoder(
        low_channels=6, wasp_channels=4, reduced_channels=3, channels=5, out_channels=7, norm="",
    ).eval()  # fmt: skip
    wasp, low = torch.randn(2, 4, 4, 4), torch.randn(2, 6, 16, 16)
    reduced = F.relu(F.conv2d(low, decoder.reduce.weight, decoder.reduce.bias))
    reduced = F.max_pool2d(F.pad(reduced, (1, 1, 1, 1), value=float("-inf")), 3, 2)
    assert reduced.shape[2:] == (8, 8)
    enlarged = F.interpolate(wasp, size=(8, 8), mode="bilinear", align_corners=True)
    y = torch.cat([enlarged, reduced], 1)  # WASP first, as released weights expect
    for conv in (decoder.conv1, decoder.conv2):
        y = F.relu(F.conv2d(y, conv.weight, conv.bias, padding=1))
    expected = F.conv2d(y, decoder.predict.weight, decoder.predict.bias)
    torch.testing.assert_close(decoder(wasp, low), expected, atol=1e-5, rtol=1e-4)


def test_batch_norm_over_one_pooled_image_is_refused_with_a_way_out() -> None:
    wasp = WASP(in_channels=5, channels=4, dilations=[1])
    with pytest.raises(ValueError, match="IMS_PER_BATCH.*POOL_NORM False"):
        wasp(torch.randn(1, 5, 6, 6))
    assert wasp(torch.randn(2, 5, 6, 6)).shape == (2, 4, 6, 6)
    assert wasp.eval()(torch.randn(1, 5, 6, 6)).shape == (1, 4, 6, 6)
    without = WASP(in_channels=5, channels=4, dilations=[1], pool_norm=False)
    assert without(torch.randn(1, 5, 6, 6)).shape == (1, 4, 6, 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["MODEL.POSE.HEATMAP.STRIDE", 4], r"HEATMAP\.STRIDE is 4.*stride of 8"),
        (["INPUT.CROP_SIZE", (64, 100)], r"CROP_SIZE \(64, 100\).*multiples of 8"),
        (["MODEL.UNIPOSE.HIGH_FEATURE", "res5"], r"'res5' is not in \['res2', 'res4'\]"),
        (
            ["MODEL.POSE.CENTER_MAP.POOL_CEIL", True],
            r"CENTER_MAP: .*\(9, 9\) cells.*makes \(8, 8\)",
        ),
        (["MODEL.POSE.CENTER_MAP.POOL_PADDING", 0], r"makes \(7, 7\) cells.*POOL_PADDING 1"),
        (["MODEL.UNIPOSE.NORM", "BatchNorm"], "UNIPOSE.NORM is 'BatchNorm': must be 'BN', .*'GN'"),
        (["MODEL.POSE.ENCODER", "half"], "ENCODER 'half'.*'train', 'freeze'"),
        (["TEST.PRECISION", "int8"], "PRECISION is 'int8'.*bfloat16"),
        (["MODEL.UNIPOSE.LSTM.FORM", "best"], "FORM 'best'.*'paper', 'released'"),
        (["MODEL.UNIPOSE.LSTM.KERNEL", 2], "kernel_size 2"),
    ],
)
def test_wrong_keys_are_named_with_what_is_right(tiny_cfg, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(tiny_cfg("UniPoseLSTM", *options))


@pytest.mark.parametrize("background", ["first", "last", "none"])
def test_maps_and_poses_have_the_models_joints(tiny_cfg, background: str) -> None:
    cfg = tiny_cfg("UniPose", "MODEL.POSE.HEATMAP.BACKGROUND", background)
    model = build_model(cfg).eval()
    channels = 15 + (background != "none")  # JHMDB
    with torch.no_grad():
        assert model.encode(torch.zeros(2, 3, 64, 64)).shape == (2, channels, 8, 8)
    chunk = {
        "image": torch.zeros(2, 3, 64, 64, dtype=torch.uint8),
        "crop_to_image": torch.eye(3)[:2].expand(2, 2, 3),
        "center": torch.full((2, 2), 32.0),
        "frame_indices": torch.arange(2),
        "video_id": "v", "track_id": "0", "height": 64, "width": 64,
        "is_first": True, "is_last": True,
    }  # fmt: skip
    (output,) = model([chunk])
    assert [frame.pred_keypoints.shape for frame in output["instances"]] == [(1, 15, 3)] * 2
