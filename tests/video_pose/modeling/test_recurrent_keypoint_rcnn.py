"""Keypoint R-CNN that remembers people: stock where untrained, states that follow their boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage

from video_pose.engine.defaults import get_pose_cfg, merge_config_file
from video_pose.modeling.recurrent_keypoint_rcnn import (
    PeopleMemory,
    RecurrentKeypointRCNN,
    _turns,
    jittered,
    move_memory,
)

SMALL = Path(__file__).parents[3] / "configs" / "Base-RCNN-FPN-small.yaml"
JOINTS = 3


def small_cfg(recurrent: bool = True, **node: Any) -> CfgNode:
    cfg = get_pose_cfg()
    merge_config_file(cfg, str(SMALL))
    cfg.merge_from_list(
        ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.KEYPOINT_ON", True]
        + ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
        + ["MODEL.RESNETS.STRIDE_IN_1X1", False, "MODEL.FPN.OUT_CHANNELS", 16]
        + ["MODEL.ROI_BOX_HEAD.FC_DIM", 16, "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", (8, 8)]
        + ["MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", JOINTS]
        + ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "TEST.DETECTIONS_PER_IMAGE", 3]
    )
    if recurrent:
        cfg.MODEL.META_ARCHITECTURE = "RecurrentKeypointRCNN"
        cfg.MODEL.ROI_HEADS.NAME = "RecurrentROIHeads"
        cfg.MODEL.ROI_KEYPOINT_HEAD.NAME = "RecurrentKeypointHead"
        cfg.MODEL.RECURRENT_KEYPOINT.MIN_SCORE = 0.0
        for key, value in node.items():
            cfg.MODEL.RECURRENT_KEYPOINT[key] = value
    return cfg


def build(recurrent: bool = True, **node: Any) -> Any:
    torch.manual_seed(0)
    return build_model(small_cfg(recurrent, **node)).eval()


def frames(count: int, *, video: str = "v", seed: int = 0) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "image": torch.randint(256, (3, 64, 96), generator=generator, dtype=torch.uint8),
            "height": 64,
            "width": 96,
            "video_id": video,
            "frame_index": i,
        }
        for i in range(count)
    ]


def train_memory(model: RecurrentKeypointRCNN) -> None:
    """Weights under which the memory matters."""
    torch.manual_seed(1)
    head = model.roi_heads.keypoint_head
    for module in head.memory_modules():
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)


def test_an_untrained_memory_is_stock_keypoint_rcnn() -> None:
    stock, ours = build(recurrent=False), build()
    missing = ours.load_state_dict(stock.state_dict(), strict=False)
    assert not missing.unexpected_keys
    names = ("reduce", "cell", "correct")
    assert all(key.split(".")[2] in names for key in missing.missing_keys)
    for frame in frames(3):
        (expected,), (found,) = stock([frame]), ours([frame])
        expected, found = expected["instances"], found["instances"]
        assert len(found) > 0
        assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert torch.equal(found.pred_keypoints, expected.pred_keypoints)


def test_a_trained_memory_changes_the_second_frame_alone() -> None:
    ours = build()
    train_memory(ours)
    first, second = frames(2)
    alone = ours([{**second, "video_id": "other", "frame_index": 0}])[0]["instances"]
    one = ours([first])[0]["instances"]
    after = ours([second])[0]["instances"]
    again = ours([{**first, "video_id": "third"}])[0]["instances"]
    assert torch.equal(one.pred_keypoints, again.pred_keypoints)
    assert torch.equal(alone.pred_boxes.tensor, after.pred_boxes.tensor)
    seen = torch.isin(after.pred_track_ids, one.pred_track_ids)
    if not seen.any():
        pytest.fail("no person of the first frame is found again: the test shows nothing")
    logits = after.pred_keypoint_heatmaps - alone.pred_keypoint_heatmaps
    assert logits[seen].abs().amax() > 1e-3
    assert logits[~seen].abs().sum() == 0


def test_frames_out_of_order_are_refused() -> None:
    ours = build()
    first, second = frames(2)
    ours([second])
    with pytest.raises(ValueError, match="video 'v': frame 0 comes after frame 1"):
        ours([first])


def remember(model: RecurrentKeypointRCNN, memory: PeopleMemory, boxes: list[list[float]]) -> Any:
    """Tracks of detections at ``boxes`` on constant features."""
    features = {
        name: torch.ones(1, 16, 64 // stride, 96 // stride)
        for name, stride in (("p2", 4), ("p3", 8), ("p4", 16), ("p5", 32))
    }
    found = Instances((64, 96), pred_boxes=Boxes(torch.tensor(boxes).view(-1, 4)))
    found.scores = torch.ones(len(boxes))
    found.pred_classes = torch.zeros(len(boxes), dtype=torch.long)
    with torch.no_grad():
        return model.roi_heads.remember(features, found, memory).pred_track_ids.tolist()


def test_people_keep_their_rows() -> None:
    model, memory = build(MAX_MISSED=2), PeopleMemory()
    left, right = [0.0, 0, 30, 60], [60.0, 0, 90, 60]
    assert remember(model, memory, [left, right]) == [0, 1]
    # Order of the detections means nothing; a box between the two is a third person.
    assert remember(model, memory, [[61.0, 1, 91, 61], [1.0, 1, 31, 61]]) == [1, 0]
    assert remember(model, memory, [[31.0, 0, 59, 60]]) == [2]
    # The first two were missed once; on the right one is back.
    assert remember(model, memory, [right]) == [1]
    assert sorted(memory.ids) == [0, 1, 2]
    # 0 has been missed for three frames now, more than MAX_MISSED, and is new when it comes back.
    assert remember(model, memory, []) == []
    assert remember(model, memory, [left]) == [3]
    assert memory.state is not None and len(memory.state.maps) == len(memory.ids)


def test_a_state_moves_with_its_box() -> None:
    """A peak at cell (row 3, column 5); the new box begins a cell (2 px) further right."""
    model = build()
    state = model.roi_heads.keypoint_head.begin(torch.zeros(1, 8, 14, 14))
    state.maps[0, 1, 3, 5] = 1.0
    old, new = torch.tensor([[10.0, 10, 38, 38]]), torch.tensor([[12.0, 10, 40, 38]])
    moved = move_memory(state, old, new)
    assert moved.maps[0, 1, 3, 4] == pytest.approx(1.0)
    assert moved.maps.sum() == pytest.approx(1.0)
    assert move_memory(state, old, old) is state


def clips(count: int = 2, length: int = 3) -> list[dict[str, Any]]:
    found = []
    for clip in range(count):
        items = frames(length, seed=clip)
        for t, frame in enumerate(items):
            # The second person is absent in the middle frame.
            people = [0, 1] if t != 1 else [0]
            boxes = torch.tensor([[5.0, 5, 40, 60], [45.0, 5, 90, 60]])[people] + t
            points = torch.stack([(boxes[:, :2] + boxes[:, 2:]) / 2] * JOINTS, 1)
            joints = torch.cat([points, torch.full((len(people), JOINTS, 1), 2.0)], -1)
            frame["instances"] = Instances(
                (64, 96),
                gt_boxes=Boxes(boxes),
                gt_classes=torch.zeros(len(people), dtype=torch.long),
                gt_keypoints=Keypoints(joints),
                gt_tracks=torch.tensor(people),
            )
        found.append({"frames": items})
    return found


@pytest.mark.parametrize("trained", ["all", "head"])
def test_every_trained_parameter_gets_a_gradient(trained: str) -> None:
    model = build(TRAIN=trained).train()
    train_memory(model)
    with EventStorage():
        losses = model(clips())
        sum(losses.values()).backward()
    assert all(name.startswith("loss_") for name in losses)
    assert set(losses) == {"loss_keypoint"} if trained == "head" else len(losses) > 3
    head = model.roi_heads.keypoint_head
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    if trained == "head":
        assert all(p.grad is None for p in model.backbone.parameters())


def test_a_clip_without_people_costs_nothing_and_reaches_every_parameter() -> None:
    model = build(TRAIN="head").train()
    empty = frames(2)
    for frame in empty:
        frame["instances"] = Instances(
            (64, 96),
            gt_boxes=Boxes(torch.zeros(0, 4)),
            gt_classes=torch.zeros(0, dtype=torch.long),
            gt_keypoints=Keypoints(torch.zeros(0, JOINTS, 3)),
            gt_tracks=torch.zeros(0, dtype=torch.long),
        )
    with EventStorage():
        losses = model([{"frames": empty}])
        losses["loss_keypoint"].backward()
    assert losses["loss_keypoint"] == 0
    for name, parameter in model.roi_heads.keypoint_head.named_parameters():
        assert parameter.grad is not None, name


def test_rows_do_not_depend_on_the_batch() -> None:
    """The scan of two tracks together gives each track what it gets alone."""
    model = build()
    train_memory(model)
    torch.manual_seed(2)
    features = torch.rand(5, 8, 14, 14)
    boxes = torch.tensor([[0.0, 0, 20, 40]]) + torch.rand(5, 4) * 4
    tracks = torch.tensor([7, 9, 7, 9, 7])
    heads = model.roi_heads
    with torch.no_grad():
        both = heads._scan(features, boxes, tracks)
        for track in (7, 9):
            mine = tracks == track
            alone = heads._scan(features[mine], boxes[mine], tracks[mine])
            torch.testing.assert_close(both[mine], alone)


def test_turns() -> None:
    assert _turns([7, 9, 7, 7]) == [[0, 1], [2], [3]]
    assert _turns([]) == []


def test_jitter_keeps_boxes_about_their_place() -> None:
    torch.manual_seed(0)
    boxes = torch.tensor([[0.0, 0, 100, 50]]).repeat(4000, 1)
    moved = jittered(boxes, 0.1)
    center = (moved[:, :2] + moved[:, 2:]) / 2
    torch.testing.assert_close(center.mean(0), torch.tensor([50.0, 25]), atol=1.0, rtol=0)
    torch.testing.assert_close(center.std(0), torch.tensor([10.0, 5]), atol=0.5, rtol=0)
    assert torch.equal(jittered(boxes, 0.0), boxes)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.ROI_HEADS.NAME RecurrentROIHeads"),
        ("MODEL.RECURRENT_KEYPOINT.TRAIN", "some", "choose from"),
        ("MODEL.ROI_KEYPOINT_HEAD.NAME", "KRCNNConvDeconvUpsampleHead", "RecurrentKeypointHead"),
    ],
)
def test_parts_that_do_not_fit_are_refused(key: str, value: str, message: str) -> None:
    cfg = small_cfg()
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=message):
        build_model(cfg)


def test_streams_of_one_model_do_not_mix() -> None:
    """Two streams, frame by frame in turn, give what each gives alone."""
    model = build()
    train_memory(model)
    one, two = frames(3), frames(3, seed=5)
    alone = [
        [model.step(frame, memory)["instances"].pred_keypoints for frame in stream]
        for stream, memory in ((one, PeopleMemory()), (two, PeopleMemory()))
    ]
    first, second = PeopleMemory(), PeopleMemory()
    for t in range(3):
        with torch.no_grad():
            assert torch.equal(model.step(one[t], first)["instances"].pred_keypoints, alone[0][t])
            assert torch.equal(model.step(two[t], second)["instances"].pred_keypoints, alone[1][t])


def test_a_cut_forgets_people_and_numbers_go_on() -> None:
    model, memory = build(), PeopleMemory()
    left = [0.0, 0, 30, 60]
    assert remember(model, memory, [left]) == [0]
    memory.forget()
    assert remember(model, memory, [left]) == [1]
