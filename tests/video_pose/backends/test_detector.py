"""Detectron2's detectors with their dense parts as graphs: the same people, within rounding."""

from __future__ import annotations

import collections
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from video_pose.backends import detector
from video_pose.backends.detector import accelerate
from video_pose.backends.graphs import FORMATS
from video_pose.engine.defaults import get_pose_cfg
from video_pose.modeling.recurrent_keypoint_rcnn import PeopleMemory


@pytest.fixture(scope="module")
def cfg() -> CfgNode:
    """A small Keypoint R-CNN with FPN, all parts of which run on any picture."""
    cfg = get_pose_cfg()
    cfg.merge_from_list([
        "MODEL.DEVICE", "cpu", "MODEL.META_ARCHITECTURE", "GeneralizedRCNN",
        "MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.RESNETS.DEPTH", 18,
        "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.STEM_OUT_CHANNELS", 16,
        "MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"],
        "MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"], "MODEL.FPN.OUT_CHANNELS", 32,
        "MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64], [128], [256], [512]],
        "MODEL.RPN.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"], "MODEL.RPN.POST_NMS_TOPK_TEST", 20,
        "MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.ROI_HEADS.NUM_CLASSES", 1,
        "MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"],
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0,
        "MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", 1,
        "MODEL.ROI_BOX_HEAD.FC_DIM", 32, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 7,
        "MODEL.KEYPOINT_ON", True, "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 3,
        "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", [16], "TEST.DETECTIONS_PER_IMAGE", 5,
        "TEST.PRECISION", "float32",
    ])  # fmt: skip
    return cfg


@pytest.fixture(scope="module")
def model(cfg: CfgNode) -> nn.Module:
    torch.manual_seed(0)
    return build_model(cfg).eval()


def find(model: nn.Module, height: int, width: int) -> Any:
    generator = torch.Generator().manual_seed(1)
    picture = torch.rand((3, height, width), generator=generator) * 255
    with torch.no_grad():
        return model([{"image": picture, "height": height, "width": width}])[0]["instances"]


def test_the_same_people_within_rounding(cfg: CfgNode, model: nn.Module) -> None:
    """Made on one size, run on others; the number of regions is open as well."""
    pytest.importorskip("openvino")
    ours = copy.deepcopy(model)
    used = accelerate(cfg, ours, "openvino")
    assert used == ["backbone", "rpn_head", "box_head", "keypoint_head"]
    for size in ((160, 224), (128, 97)):
        plain, found = find(model, *size), find(ours, *size)
        assert len(found) == len(plain) > 0
        np.testing.assert_allclose(
            found.pred_boxes.tensor.numpy(), plain.pred_boxes.tensor.numpy(), atol=0.05
        )
        np.testing.assert_allclose(found.scores.numpy(), plain.scores.numpy(), atol=1e-4)
        # Scores are exponentials of random maps, of any size.
        keypoints = [of.pred_keypoints[..., 2].numpy() for of in (found, plain)]
        np.testing.assert_allclose(*keypoints, rtol=5e-3)


def test_graphs_from_the_cache_need_neither_a_run_nor_the_weights(
    cfg: CfgNode, model: nn.Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("VIDEO_POSE_CACHE", str(tmp_path))
    first, second = copy.deepcopy(model), copy.deepcopy(model)
    accelerate(cfg, first, "openvino")
    assert first.backbone.bottom_up.stem.conv1.weight.numel() > 0
    monkeypatch.setattr(detector, "_watch", None)
    used = accelerate(cfg, second, "openvino", keep_weights=False)
    assert used == ["backbone", "rpn_head", "box_head", "keypoint_head"]
    assert {parameter.numel() for parameter in second.backbone.parameters()} == {0}
    expected, found = find(first, 160, 224), find(second, 160, 224)
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(found.pred_keypoints, expected.pred_keypoints)
    # No regions: what comes out has none either, in the shapes that PyTorch gives.
    nobody = torch.zeros(0, 32, 7, 7)
    assert second.roi_heads.box_head(nobody).shape == model.roi_heads.box_head(nobody).shape


def test_a_graph_sees_few_numbers_of_regions() -> None:
    """Each row comes out as it went in, times 10; 15 stay, 17 become 32, and none becomes one."""
    seen = []

    def graph(inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        seen.append(len(inputs["in0"]))
        return [inputs["in0"] * 10]

    run = detector._runner(graph, torch.empty(0), True)
    for rows in (0, 15, 16, 17):
        maps = torch.arange(rows * 4.0).reshape(rows, 1, 2, 2)
        assert torch.equal(run(maps), maps * 10)
    assert seen == [1, 15, 16, 32]
    assert len(detector._runner(graph, torch.empty(0), False)(torch.ones(17, 1, 2, 2))) == 17
    assert seen[-1] == 17


def test_nestings_of_results() -> None:
    example = ([torch.zeros(1)], {"p3": torch.ones(2), "p2": (torch.ones(1),)})
    nesting = json.loads(json.dumps(detector._nesting(example)))
    assert nesting == ["tuple", ["list", None], {"p3": None, "p2": ["tuple", None]}]
    built = detector._from_nesting(nesting)
    assert [type(part) for part in built] == [list, dict]
    assert list(built[1]) == ["p3", "p2"] and isinstance(built[1]["p2"], tuple)
    with pytest.raises(TypeError, match="State is no list"):
        detector._nesting([collections.namedtuple("State", "fresh")(torch.ones(1))])


@pytest.mark.parametrize(
    ("engine", "align"), [("openvino", True), ("openvino", False), ("onnx", True)]
)
def test_a_memorys_step_is_a_graph_whose_inputs_are_state_and_moves(
    cfg: CfgNode, engine: str, align: bool
) -> None:
    """People who are carried on from frame to frame, in boxes that move."""
    for package in FORMATS[engine][1]:
        pytest.importorskip(package)
    recurrent = cfg.clone()
    recurrent.merge_from_list([
        "MODEL.META_ARCHITECTURE", "RecurrentKeypointRCNN",
        "MODEL.ROI_HEADS.NAME", "RecurrentROIHeads",
        "MODEL.ROI_KEYPOINT_HEAD.NAME", "RecurrentKeypointHead",
        "MODEL.RECURRENT_KEYPOINT.MIN_SCORE", 0.0, "MODEL.RECURRENT_KEYPOINT.ALIGN", align,
    ])  # fmt: skip
    torch.manual_seed(0)
    plain = build_model(recurrent).eval()
    for module in plain.roi_heads.keypoint_head.memory_modules():
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.2)
    ours = copy.deepcopy(plain)
    used = accelerate(recurrent, ours, engine)
    assert used == ["backbone", "rpn_head", "box_head", "keypoint_convolutions", "keypoint_step"]
    generator = torch.Generator().manual_seed(1)
    picture = torch.rand((3, 160, 224), generator=generator) * 255
    memories = [PeopleMemory(), PeopleMemory()]
    for shift in (0, 3, 8):
        frame = {"image": picture.roll(shift, -1), "height": 160, "width": 224}
        one, two = (m.step(frame, memory) for m, memory in zip((plain, ours), memories))
        one, two = one["instances"], two["instances"]
        assert one.pred_track_ids.tolist() == two.pred_track_ids.tolist()
        maps = [item.pred_keypoint_heatmaps for item in (two, one)]
        torch.testing.assert_close(*maps, atol=5e-3, rtol=5e-3)
    assert max(memories[0].ages) == 3, "nobody is carried on: nothing was compared"


def test_every_stage_of_a_cascade(cfg: CfgNode) -> None:
    pytest.importorskip("openvino")
    cascade = cfg.clone()
    cascade.defrost()
    cascade.merge_from_list([
        "MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.KEYPOINT_ON", False,
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True,
    ])  # fmt: skip
    torch.manual_seed(0)
    plain = build_model(cascade).eval()
    ours = copy.deepcopy(plain)
    used = accelerate(cascade, ours, "openvino")
    assert used == ["backbone", "rpn_head", "box_head1", "box_head2", "box_head3"]
    expected, found = find(plain, 160, 224), find(ours, 160, 224)
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(
        found.pred_boxes.tensor.numpy(), expected.pred_boxes.tensor.numpy(), atol=0.05
    )
    np.testing.assert_allclose(found.scores.numpy(), expected.scores.numpy(), atol=1e-4)


def test_without_room_auto_runs_by_pytorch(
    cfg: CfgNode, model: nn.Module, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    pytest.importorskip("openvino")

    def full(key: str, make: Any) -> Any:
        raise ValueError("graphs cannot be written to /tmp/x either (No space left on device)")

    monkeypatch.setattr(detector, "cached", full)
    monkeypatch.setattr(detector, "choose_backend", lambda cfg, device: "openvino")
    ours = copy.deepcopy(model)
    with caplog.at_level("WARNING"):
        assert accelerate(cfg, ours, "auto") == []
    assert "the detector runs by PyTorch: graphs cannot be written" in caplog.text
    with pytest.raises(ValueError, match="TEST.BACKEND openvino: graphs cannot be written"):
        accelerate(cfg, ours, "openvino")


def test_what_does_not_export_stays_pytorchs(
    cfg: CfgNode, model: nn.Module, monkeypatch: pytest.MonkeyPatch, caplog: Any, tmp_path: Any
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("VIDEO_POSE_CACHE", str(tmp_path))
    write = detector.write_graph

    def refuse(graph: Any, path: Any, *, what: str) -> None:
        if graph.name != "box_head":
            raise ValueError(f"{graph.name} of {what} does not export: it branches")
        write(graph, path, what=what)

    monkeypatch.setattr(detector, "write_graph", refuse)
    ours = copy.deepcopy(model)
    with caplog.at_level("WARNING"):
        assert accelerate(cfg, ours, "openvino") == ["box_head"]
    assert "backbone of GeneralizedRCNN does not export: it branches: PyTorch" in caplog.text
    assert len(find(ours, 128, 96)) == len(find(model, 128, 96))


def test_nothing_changes_by_pytorch_and_without_a_backbone(cfg: CfgNode, model: nn.Module) -> None:
    assert accelerate(cfg, model, "torch") == []
    assert accelerate(cfg, nn.Conv2d(1, 1, 1), "openvino") == []
    assert "forward" not in vars(model.backbone)
