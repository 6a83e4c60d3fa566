"""Keypoint R-CNN that remembers people: stock where untrained, states that follow their boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, pairwise_iou
from detectron2.utils.events import EventStorage

from video_pose.engine.defaults import get_pose_cfg, merge_config_file
from video_pose.engine.trainer import parameter_groups
from video_pose.modeling.recurrent_keypoint_rcnn import (
    PeopleMemory,
    RecurrentKeypointRCNN,
    _turns,
    jittered,
    move_memory,
    pose_similarity,
)
from video_pose.modeling.states import select_rows

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


@pytest.mark.parametrize("trained", ["all", "head", "head_without_memory", "memory"])
def test_every_trained_parameter_gets_a_gradient_and_no_other_does(trained: str) -> None:
    model = build(TRAIN=trained).train()
    train_memory(model)
    with EventStorage():
        losses = model(clips())
        sum(losses.values()).backward()
    assert all(name.startswith("loss_") for name in losses)
    assert len(losses) > 3 if trained == "all" else set(losses) == {"loss_keypoint"}
    head = model.roi_heads.keypoint_head
    memory = {id(p) for module in head.memory_modules() for p in module.parameters()}
    for name, parameter in head.named_parameters():
        left_out = {"memory": False, "head_without_memory": True}.get(trained)
        if left_out is not None and (id(parameter) in memory) == left_out:
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    if trained != "all":
        assert all(p.grad is None for p in model.backbone.parameters())
        assert all(p.grad is None for p in model.roi_heads.box_head.parameters())


def test_each_person_gives_so_many_regions_with_rows_of_their_own() -> None:
    """Tracks 0 and 5 in three regions each: rows 0, 1, 2 and 15, 16, 17 in every frame."""
    heads = build(REGIONS=3).roi_heads
    boxes = torch.tensor([[5.0, 5, 40, 60], [45.0, 5, 90, 60], [0.0, 0, 9, 9]])
    proposals = Instances(
        (64, 96),
        proposal_boxes=Boxes(boxes),
        gt_boxes=Boxes(boxes),
        gt_classes=torch.tensor([0, 0, heads.num_classes]),
        gt_tracks=torch.tensor([5, 0, 0]),
    )
    for _ in range(2):
        regions = heads._training_regions(proposals)
        assert regions.gt_tracks.tolist() == [0, 1, 2, 15, 16, 17]
        overlap = pairwise_iou(regions.proposal_boxes, Boxes(boxes[:2]))
        assert overlap.argmax(1).tolist() == [1, 1, 1, 0, 0, 0], "each row shows its own person"
        assert len(regions.proposal_boxes.tensor.unique(dim=0)) > 2, "jitter of their own"


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
        ("MODEL.RECURRENT_KEYPOINT.REGIONS", 0, "REGIONS is 0: expected 1 or more"),
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


@pytest.mark.parametrize("sizes", [[1] * 5, [2, 3], [5]])
def test_batches_of_frames_and_a_stream_give_the_same(sizes: list[int]) -> None:
    """The test loop's batches, of any size, and `step` with a stream's own memory."""
    model, memory = build(), PeopleMemory()
    train_memory(model)
    video = frames(5)
    streamed = [model.step(frame, memory)["instances"] for frame in video]
    parts = iter(video)
    batches = [[next(parts) for _ in range(size)] for size in sizes]
    offline = [result["instances"] for batch in batches for result in model(batch)]
    for one, other in zip(streamed, offline, strict=True):
        assert torch.equal(one.pred_keypoints, other.pred_keypoints)
        assert torch.equal(one.pred_track_ids, other.pred_track_ids)
    alone = model.step(video[4], PeopleMemory())["instances"]
    assert (alone.pred_keypoint_heatmaps - offline[4].pred_keypoint_heatmaps).abs().max() > 1e-3


def random_features(count: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    levels = (("p2", 4), ("p3", 8), ("p4", 16), ("p5", 32))
    return [
        {n: torch.rand((1, 16, 64 // s, 96 // s), generator=generator) for n, s in levels}
        for _ in range(count)
    ]


def found_at(boxes: torch.Tensor) -> Instances:
    found = Instances((64, 96), pred_boxes=Boxes(boxes), scores=torch.ones(len(boxes)))
    found.pred_classes = torch.zeros(len(boxes), dtype=torch.long)
    return found


@pytest.mark.parametrize("align", [True, False])
def test_training_scans_a_track_as_a_stream_goes_over_it(align: bool) -> None:
    """The same regions, which move: logits of `_scan` and of `remember`, frame by frame."""
    model = build(ALIGN=align)
    train_memory(model)
    heads, features = model.roi_heads, random_features(4)
    steps = torch.tensor([[0.0, 0, 0, 0], [3, 2, 5, 2], [-4, 1, -2, 3], [6, -3, 9, -1]])
    boxes = torch.tensor([[20.0, 10, 50, 58]]) + steps
    memory = PeopleMemory()
    with torch.no_grad():
        pooled = [
            heads.keypoint_pooler([f[n] for n in heads.keypoint_in_features], [Boxes(b[None])])
            for f, b in zip(features, boxes)
        ]
        convolved = heads.keypoint_head.convolve(torch.cat(pooled))
        scanned = heads._scan(convolved, boxes, torch.zeros(4, dtype=torch.long))
        streamed = [
            heads.remember(f, found_at(b[None]), memory).pred_keypoint_heatmaps
            for f, b in zip(features, boxes)
        ]
        alone = heads._scan(convolved[3:], boxes[3:], torch.zeros(1, dtype=torch.long))
    assert memory.ids == [0]
    torch.testing.assert_close(torch.cat(streamed), scanned, atol=1e-5, rtol=1e-4)
    assert (alone - scanned[3:]).abs().max() > 1e-3, "memory says nothing: nothing was compared"


def test_a_state_moved_by_two_cells_is_that_of_the_moved_region() -> None:
    """Two regions of 28 px on one picture, 2 px a cell, 4 px apart: away from the edges, where
    convolutions see different things, what the first remembers is what the second would."""
    model = build()
    train_memory(model)
    heads, features = model.roi_heads, random_features(1)[0]
    boxes = torch.tensor([[20.0, 10, 48, 38], [24.0, 10, 52, 38]])
    with torch.no_grad():
        maps = [features[name] for name in heads.keypoint_in_features]
        convolved = heads.keypoint_head.convolve(heads.keypoint_pooler(maps, [Boxes(boxes)]))
        _, state = heads.keypoint_head.advance(convolved, heads.keypoint_head.begin(convolved))
    moved = move_memory(select_rows(state, [0]), boxes[:1], boxes[1:])
    inside = (slice(None), slice(None), slice(4, 10), slice(4, 8))
    for name in ("hidden", "cell"):
        first, found, wanted = getattr(state, name)[:1], getattr(moved, name), getattr(state, name)
        torch.testing.assert_close(found[inside], wanted[1:][inside], atol=1e-4, rtol=1e-4)
        assert (first[inside] - wanted[1:][inside]).abs().max() > 0.01, "the same without moving"


def test_a_memory_begins_anew_every_n_frames() -> None:
    model = build()
    train_memory(model)
    heads = model.roi_heads
    heads.reset_every = 2
    features, box = random_features(3), torch.tensor([[20.0, 10, 50, 58]])
    memory = PeopleMemory()
    with torch.no_grad():
        kept = [heads.remember(f, found_at(box), memory) for f in features]
        alone = [heads.remember(f, found_at(box), PeopleMemory()) for f in features]
    differ = [
        bool((a.pred_keypoint_heatmaps - b.pred_keypoint_heatmaps).abs().max() > 1e-3)
        for a, b in zip(kept, alone)
    ]
    assert differ == [False, True, False]
    # The person stays the same one.
    assert [item.pred_track_ids.tolist() for item in kept] == [[0], [0], [0]]
    assert memory.ages == [3]


def test_similarity_of_poses_by_hand() -> None:
    """Boxes of 10 x 10 px, width .05: 2 (2 .05)^2 100 = 2 px^2; joints 2 px apart give exp(-2)."""
    boxes, sigmas = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([0.05, 0.05])
    pose = torch.tensor([[[1.0, 1, 0.5], [5, 5, 0.5]]])
    other = torch.tensor([[[3.0, 1, 1.0], [5, 5, 0.25]]])
    expected = (0.5 * torch.tensor(-2.0).exp() + 0.125) / 0.625
    found = pose_similarity(pose, boxes, other, boxes, sigmas)
    torch.testing.assert_close(found, expected.view(1, 1))


@pytest.mark.parametrize(("weight", "expected"), [(0.5, [1, 0]), (0.0, [0, 1])])
def test_poses_say_who_is_who_where_boxes_do_not(
    monkeypatch: pytest.MonkeyPatch, weight: float, expected: list[int]
) -> None:
    """Two people who cross: each box is nearer to the other one's last one, each pose is its own:
    joints at the left edge, or at the right one."""
    model = build(OKS_WEIGHT=weight)
    heads, memory = model.roi_heads, PeopleMemory()
    first = torch.tensor([[10.0, 0, 50, 60], [20.0, 0, 60, 60]])
    second = torch.tensor([[12.0, 0, 52, 60], [18.0, 0, 58, 60]])
    columns = {"now": [0, 55]}

    def advance(features: torch.Tensor, state: Any, *moves: torch.Tensor) -> Any:
        logits = torch.zeros(len(features), JOINTS, 56, 56)
        for row, column in enumerate(columns["now"]):
            logits[row, :, 28, column] = 20.0
        return logits, state

    monkeypatch.setattr(heads.keypoint_head, "advance", advance, raising=True)
    features = random_features(1)[0]
    with torch.no_grad():
        assert heads.remember(features, found_at(first), memory).pred_track_ids.tolist() == [0, 1]
        columns["now"] = [55, 0]
        found = heads.remember(features, found_at(second), memory).pred_track_ids.tolist()
    assert found == expected


def test_a_mask_head_goes_beside_the_memory() -> None:
    """Masks are the stock model's; training the memory alone leaves the mask head as it is."""
    options = ["MODEL.MASK_ON", True, "MODEL.ROI_MASK_HEAD.CONV_DIM", 8]
    models = []
    for recurrent in (False, True):
        cfg = small_cfg(recurrent)
        cfg.merge_from_list([*options, "MODEL.ROI_MASK_HEAD.NUM_CONV", 1])
        torch.manual_seed(0)
        models.append(build_model(cfg).eval())
    stock, ours = models
    ours.load_state_dict(stock.state_dict(), strict=False)
    with torch.no_grad():
        (expected,), (found,) = stock(frames(1)), ours(frames(1))
    expected, found = expected["instances"], found["instances"]
    assert len(found) > 0 and torch.equal(found.pred_masks, expected.pred_masks)
    assert torch.equal(found.pred_keypoints, expected.pred_keypoints)
    batch = clips(count=1)
    for frame in batch[0]["frames"]:
        count = len(frame["instances"])
        frame["instances"].gt_masks = BitMasks(torch.ones(count, 64, 96, dtype=torch.bool))
    with EventStorage():
        losses = ours.train()(batch)
    assert {"loss_mask", "loss_keypoint", "loss_cls"} <= set(losses)
    ours.trained = "head"
    with EventStorage():
        assert set(ours.train()(batch)) == {"loss_keypoint"}
    assert not any(p.requires_grad for p in ours.roi_heads.mask_head.parameters())


def test_the_backbone_may_learn_more_slowly() -> None:
    cfg = small_cfg()
    cfg.MODEL.POSE.ENCODER_LR_FACTOR = 0.1
    model = build_model(cfg)
    backbone = {id(p) for p in model.backbone.parameters()}
    for group in parameter_groups(cfg, model):
        for parameter in group["params"]:
            factor = 0.1 if id(parameter) in backbone else 1.0
            assert group["lr"] == pytest.approx(factor * cfg.SOLVER.BASE_LR)
