"""Keypoint R-CNN that remembers people: stock where untrained, states that follow their boxes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import detection_utils as d2
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model, build_roi_heads
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, pairwise_iou
from detectron2.utils.events import EventStorage

from video_pose.engine.defaults import get_pose_cfg, merge_config_file
from video_pose.engine.trainer import parameter_groups
from video_pose.modeling import recurrent_keypoint_rcnn as module
from video_pose.modeling.recurrent_keypoint_rcnn import (
    KeypointMemory,
    PeopleMemory,
    RecurrentKeypointRCNN,
    RecurrentROIHeads,
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


def build_heads(cfg: CfgNode | None = None, **node: Any) -> Any:
    """The part behind the pyramid, which costs less to make."""
    torch.manual_seed(0)
    levels = {f"p{n}": ShapeSpec(channels=16, stride=2**n) for n in (2, 3, 4, 5)}
    return build_roi_heads(cfg or small_cfg(**node), levels).eval()


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
    for part in head.memory_modules():
        for parameter in part.parameters():
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


def test_a_frame_in_which_nobody_is_labelled_has_no_fields() -> None:
    """As Detectron2 makes it: neither joints nor tracks, in a clip in which there is somebody."""
    model = build().train()
    batch = clips()
    nobody = d2.annotations_to_instances([], (64, 96))
    assert not nobody.has("gt_tracks")
    batch[1]["frames"][1]["instances"] = nobody
    with EventStorage():
        losses = model(batch)
        sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values()) and losses["loss_keypoint"] > 0


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
        ("MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.ROI_HEADS.NAME RecurrentROIHeads$"),
        (
            "MODEL.RECURRENT_KEYPOINT.TRAIN", "some",
            "^MODEL.RECURRENT_KEYPOINT.TRAIN is 'some': choose from .*'head_without_memory'",
        ),
        (
            "MODEL.RECURRENT_KEYPOINT.REGIONS", 0,
            "^MODEL.RECURRENT_KEYPOINT.REGIONS is 0: expected 1 or more$",
        ),
        (
            "MODEL.RECURRENT_KEYPOINT.OKS_WEIGHT", -0.1,
            "^MODEL.RECURRENT_KEYPOINT.OKS_WEIGHT is -0.1: expected 0 to 1$",
        ),
        ("MODEL.RECURRENT_KEYPOINT.OKS_WEIGHT", 1.1, "OKS_WEIGHT is 1.1: expected 0 to 1$"),
        ("MODEL.ROI_KEYPOINT_HEAD.NAME", "KRCNNConvDeconvUpsampleHead", "RecurrentKeypointHead$"),
        ("MODEL.KEYPOINT_ON", False, "^RecurrentROIHeads needs MODEL.KEYPOINT_ON True and"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_are_refused(key: str, value: str, message: str) -> None:
    cfg = small_cfg()
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=message):
        build_model(cfg)


def test_what_the_heads_take_from_a_configuration() -> None:
    cfg = small_cfg(
        ALIGN=False, REGIONS=4, BOX_JITTER=0.1, MIN_SCORE=0.2, MIN_IOU=0.4, OKS_WEIGHT=1.0,
        MAX_MISSED=7, FEATURE_CHANNELS=5, HIDDEN_CHANNELS=6, SUBPIXEL=True,
    )  # fmt: skip
    cfg.TEST.RESET_EVERY = 9
    heads = build_heads(cfg)
    assert (heads.align, heads.regions, heads.box_jitter) == (False, 4, 0.1)
    assert (heads.min_score, heads.min_iou, heads.oks_weight) == (0.2, 0.4, 1.0)
    assert (heads.max_missed, heads.reset_every) == (7, 9)
    assert heads.sigmas.tolist() == pytest.approx([0.079] * JOINTS), "about a shoulder's"
    head = heads.keypoint_head
    assert head.subpixel and (head.reduce.in_channels, head.reduce.out_channels) == (8, 5)
    assert (head.correct.in_channels, head.correct.out_channels) == (6, JOINTS)
    cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.1, 0.2, 0.3]
    cfg.MODEL.RECURRENT_KEYPOINT.OKS_WEIGHT = 0.0
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = []
    heads = build_heads(cfg)
    assert heads.sigmas.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert not any("sigmas" in name for name in heads.state_dict()), "no part of a checkpoint"
    assert heads.keypoint_head.reduce.in_channels == 16, "of the pyramid itself"


def test_a_fresh_memory_corrects_nothing_and_forgets_little() -> None:
    """As it is made: the last layer is 0, gates of forgetting are open, activations keep their
    size: He's weights of 8 channels have the variance 2 / 8."""
    head = build_heads(FEATURE_CHANNELS=400).keypoint_head
    assert head.correct.weight.abs().max() == head.correct.bias.abs().max() == 0
    assert head.reduce.bias.abs().max() == 0
    assert head.reduce.weight.var().item() == pytest.approx(2 / 8, rel=0.1)
    biases = [bias for name, bias in head.cell.named_parameters() if "bias" in name]
    assert torch.cat([bias.flatten() for bias in biases]).eq(1.0).any()


def test_a_step_of_the_memory_by_its_parts() -> None:
    """Logits: the stock layer's plus the memory's, enlarged by two; what is remembered of them: the
    highest of two by two cells, as shares of the highest of all."""
    head = build_heads().keypoint_head
    torch.manual_seed(3)
    features, regions = torch.rand(2, 8, 14, 14), torch.rand(2, 16, 14, 14)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        state = head.begin(features)
        assert state.maps.shape == (2, JOINTS, 14, 14) and state.maps.abs().max() == 0
        assert state.hidden.shape == state.cell.shape == (2, 32, 14, 14)
        assert state.fresh.tolist() == [[[[1.0]]]] * 2
        logits, after = head.advance(features, state)
        seen = torch.cat([head.reduce(features).relu(), state.maps], 1)
        hidden, _ = head.cell(seen, state.hidden, state.cell, state.fresh)
        coarse = head.score_lowres(features) + head.correct(hidden)
        assert after.fresh.abs().max() == 0 and torch.equal(after.hidden, hidden)
        assert logits.shape == (2, JOINTS, 56, 56)
        # Centres of the enlarged cells lie a quarter of a cell about those of the coarse one.
        inner = coarse[0, 0, 4:6, 7:9]
        near = torch.tensor([[0.75, 0.25]])
        assert logits[0, 0, 9, 15].item() == pytest.approx((near @ inner @ near.T).item(), abs=1e-5)
        shares = (coarse - coarse.amax(dim=(2, 3), keepdim=True)).exp()
        blocks = shares.view(2, JOINTS, 14, 2, 14, 2).amax(dim=(3, 5))
        torch.testing.assert_close(after.maps, blocks)
        assert after.maps.amax(dim=(2, 3)).tolist() == [[1.0] * JOINTS] * 2
        again, _ = head.advance(features, after)
        assert (again - logits).abs().max() > 1e-3, "the second step remembers the first"
        alone, _ = head.advance(head.convolve(regions), state)
        assert torch.equal(head.layers(regions), alone)


@pytest.mark.parametrize("subpixel", [False, True])
def test_how_logits_are_decoded(subpixel: bool) -> None:
    """One person, the best cell (row 2, column 5) of 56 over 56 px: Detectron2 rounds to whole
    pixels, the decoding between cells finds the peak of the quadratic at the cell's centre."""
    head = build_heads(SUBPIXEL=subpixel).keypoint_head
    logits = torch.zeros(1, JOINTS, 56, 56, dtype=torch.bfloat16)
    logits[0, :, 2, 5], logits[0, :, 2, 6] = 9.0, 8.0
    people = [found_at(torch.tensor([[0.0, 0, 56, 56]]))]
    head.decode(logits, people)
    x, y, score = people[0].pred_keypoints[0, 0].tolist()
    assert (x > 5.6) is subpixel and (x, y) == pytest.approx((5.5, 2.5), abs=0.45)
    if not subpixel:
        assert (x, y) == (5.5, 2.5)
    assert people[0].pred_keypoint_heatmaps.shape == (1, JOINTS, 56, 56)
    assert 0 < score < 1


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


def test_the_head_as_detectron2_calls_it() -> None:
    """Losses in training, joints otherwise; of regions without a past both times."""
    head = build_heads().keypoint_head
    regions, boxes = torch.rand(2, 16, 14, 14), torch.tensor([[0.0, 0, 28, 28], [4, 4, 60, 60]])
    people = [found_at(boxes[:1]), found_at(boxes[1:])]
    with torch.no_grad():
        assert head(regions, people) is people
        logits = torch.cat([item.pred_keypoint_heatmaps for item in people])
        torch.testing.assert_close(logits, head.layers(regions))
    joints = torch.tensor([[10.0, 10, 2]]).repeat(2, JOINTS, 1)
    truth = Instances((64, 96), proposal_boxes=Boxes(boxes), gt_keypoints=Keypoints(joints))
    with EventStorage():
        losses = head.train()(regions, [truth])
    assert list(losses) == ["loss_keypoint"] and losses["loss_keypoint"] > 0


def test_stock_code_has_regions_without_a_past_and_training_has_tracks(monkeypatch) -> None:
    heads, features = build_heads(), random_features(1)[0]
    found = [found_at(torch.tensor([[20.0, 10, 50, 58]]))]
    with torch.no_grad():
        (stock,) = heads._forward_keypoint(features, found)
        (alone,) = [heads.remember(features, found_at(stock.pred_boxes.tensor), PeopleMemory())]
    torch.testing.assert_close(stock.pred_keypoints, alone.pred_keypoints)
    monkeypatch.setattr(heads, "keypoint_losses", lambda *given: given)
    assert heads.train()._forward_keypoint(features, found) == (features, found)


def matched(
    monkeypatch: pytest.MonkeyPatch,
    overlap: list[list[float]],
    scores: list[float] | None = None,
    similar: list[list[float]] | None = None,
    weight: float = 0.0,
) -> tuple[list[int | None], bool]:
    """Rows of a memory for detections, of the boxes' overlap with its people, and of the poses'
    similarity; and whether poses were asked for."""
    asked: list[bool] = []
    table = torch.tensor(overlap)
    found = found_at(torch.zeros(len(table), 4))
    found.scores = torch.tensor(scores or [1.0] * len(table))
    sure = [i for i, score in enumerate(found.scores.tolist()) if score >= 0.3]
    monkeypatch.setattr(module, "pairwise_iou", lambda a, b: table[sure])
    monkeypatch.setattr(module, "decode_logits", lambda logits, boxes: logits)

    def similarity(*_parts: Any) -> torch.Tensor:
        asked.append(True)
        return torch.tensor(similar)[sure]

    monkeypatch.setattr(module, "pose_similarity", similarity)
    head = SimpleNamespace(begin=lambda x: None, advance=lambda x, state: (x, state))
    heads: Any = SimpleNamespace(
        min_score=found.scores.new_tensor(0.3).item(), min_iou=0.25, oks_weight=weight,
        keypoint_head=head, sigmas=None, _still=lambda x: (),
    )  # fmt: skip
    count = table.shape[1]
    memory = PeopleMemory(
        ids=list(range(10, 10 + count)), boxes=torch.zeros(count, 4), poses=torch.zeros(count, 1, 3)
    )
    features = torch.zeros(len(table), 1, 1, 1)
    return RecurrentROIHeads._match(heads, found, memory, features), bool(asked)


@pytest.mark.parametrize(
    ("overlap", "scores", "rows"),
    [
        ([[0.9, 0.1], [0.1, 0.8]], None, [0, 1]),
        ([[0.1, 0.8], [0.9, 0.1]], None, [1, 0]),
        # Together 1.1 is more than 0.6 + 0.3; but 0.2 is too little to be the same person.
        ([[0.6, 0.5], [0.6, 0.3]], None, [1, 0]),
        ([[0.6, 0.2], [0.45, 0.0]], None, [0, -1]),
        ([[0.25]], None, [0]),  # exactly as much as is wanted
        ([[0.2]], None, [-1]),
        ([[0.9]], [0.3], [0]),  # exactly as sure as is wanted
        ([[0.9]], [0.2], [None]),
        ([[0.9, 0.0], [0.8, 0.0], [0.0, 0.7]], [0.1, 1.0, 1.0], [None, 0, 1]),
        ([[0.9, 0.0]], [0.1], [None]),
        ([[0.5], [0.9], [0.4]], None, [-1, 0, -1]),  # one person, three detections
        ([[0.3, 0.9, 0.4]], None, [1]),
    ],
)
def test_who_is_who_by_boxes(monkeypatch, overlap, scores, rows) -> None:
    assert matched(monkeypatch, overlap, scores) == (rows, False)


@pytest.mark.parametrize(
    ("overlap", "weight", "asked", "rows"),
    [
        ([[0.6, 0.5], [0.5, 0.6]], 0.0, False, [0, 1]),
        ([[0.6, 0.5], [0.5, 0.6]], 0.5, True, [1, 0]),  # (0.5 + 0.8) / 2 against (0.6 + 0) / 2
        ([[0.6, 0.5], [0.5, 0.6]], 0.1, True, [1, 0]),  # 0.53 against 0.54
        ([[0.6, 0.0], [0.0, 0.6]], 0.5, False, [0, 1]),  # boxes say all
        ([[0.6, 0.5], [0.0, 0.6]], 0.5, True, [1, -1]),  # two people under one detection
        ([[0.6, 0.0], [0.5, 0.6]], 0.5, True, [-1, 0]),
        ([[0.6, 0.2], [0.2, 0.6]], 1.0, False, [0, 1]),
    ],
)
def test_poses_are_asked_where_several_overlap(monkeypatch, overlap, weight, asked, rows) -> None:
    """By them each detection is the other person: 0.8 against 0."""
    similar = [[0.0, 0.8], [0.8, 0.0]]
    if rows == [1, 0] and weight == 0.1:  # 0.9 * 0.6 = 0.54; 0.9 * 0.5 + 0.1 * 1 = 0.55
        similar = [[0.0, 1.0], [1.0, 0.0]]
    assert matched(monkeypatch, overlap, similar=similar, weight=weight) == (rows, asked)


def rows_of(*values: float) -> KeypointMemory:
    """A state whose rows hold these numbers."""
    column = torch.tensor(values).view(-1, 1, 1, 1)
    return KeypointMemory(column, column + 0.1, column + 0.2, column * 0)


def test_what_is_kept_of_a_frame() -> None:
    """People 4 to 8: 5 is seen again; 4, missed twice, is forgotten now, 6 not yet, and 7 and 8 are
    not seen for the first time. A doubtful detection leaves nothing, and two new people come."""
    memory = PeopleMemory(
        ids=[4, 5, 6, 7, 8], ages=[9, 3, 2, 1, 6], missed=[2, 1, 1, 0, 0], next_id=20,
        boxes=torch.arange(5.0)[:, None].repeat(1, 4), state=rows_of(0, 1, 2, 3, 4),
        poses=torch.arange(5.0).view(5, 1, 1).repeat(1, 2, 3),
    )  # fmt: skip
    boxes = torch.tensor([50.0, 51, 52, 53])
    found = found_at(boxes[:, None].repeat(1, 4))
    found.pred_keypoints = boxes.view(4, 1, 1).repeat(1, 2, 3)
    heads: Any = SimpleNamespace(max_missed=2)
    rows = [None, -1, 1, -1]
    ids = RecurrentROIHeads._store(heads, memory, rows, found, rows_of(50, 51, 52, 53))
    assert ids.tolist() == [-1, 20, 5, 21] and ids.dtype == torch.int64
    assert memory.ids == [20, 5, 21, 6, 7, 8] and memory.next_id == 22
    assert memory.ages == [1, 4, 1, 2, 1, 6] and memory.missed == [0, 0, 0, 2, 1, 1]
    kept = [51, 52, 53, 2, 3, 4]
    assert memory.boxes[:, 3].tolist() == memory.poses[:, 1, 2].tolist() == kept
    assert memory.state.maps.flatten().tolist() == kept
    memory.forget()
    assert memory == PeopleMemory(next_id=22)


@pytest.mark.parametrize(("most", "kept"), [(0, []), (1, [6]), (2, [6, 5]), (9, [6, 5, 4])])
def test_for_how_many_frames_somebody_is_remembered(most: int, kept: list[int]) -> None:
    """Whoever was missed more often than MAX_MISSED, as it is now, is forgotten, too."""
    memory = PeopleMemory(
        ids=[6, 5, 4], ages=[1, 1, 1], missed=[0, 1, 2], boxes=torch.zeros(3, 4),
        poses=torch.zeros(3, 1, 3), state=rows_of(0, 1, 2),
    )  # fmt: skip
    found = found_at(torch.zeros(0, 4))
    found.pred_keypoints = torch.zeros(0, 1, 3)
    heads: Any = SimpleNamespace(max_missed=most)
    assert RecurrentROIHeads._store(heads, memory, [], found, rows_of()).tolist() == []
    assert memory.ids == kept and memory.missed == [7 - number for number in kept]


def test_a_first_frame_is_kept_and_an_empty_one_keeps_who_was_there() -> None:
    memory, heads = PeopleMemory(), SimpleNamespace(max_missed=1)
    found = found_at(torch.zeros(1, 4))
    found.pred_keypoints = torch.zeros(1, 2, 3)
    nobody = found[:0]
    for item, state, rows, missed in (
        (found, rows_of(7), [-1], [0]),
        (nobody, rows_of(), [], [1]),
        (nobody, rows_of(), [], []),
    ):
        RecurrentROIHeads._store(heads, memory, rows, item, state)
        assert memory.missed == missed and memory.state.maps.flatten().tolist() == [7] * len(missed)
    assert memory.next_id == 1 and memory.ids == memory.ages == []


@pytest.mark.parametrize(
    ("row", "reset_every", "carries"),
    [
        (None, 0, False), (-1, 0, False), (0, 0, True), (1, 0, True),
        (0, 3, False),  # seen on three frames: the fourth begins anew
        (1, 3, True), (2, 3, False), (0, 1, False), (1, 2, False), (0, 2, True),
    ],
)  # fmt: skip
def test_whose_memory_goes_on(row: int | None, reset_every: int, carries: bool) -> None:
    heads: Any = SimpleNamespace(reset_every=reset_every)
    memory = PeopleMemory(ids=[0, 1, 2], ages=[3, 4, 6])
    assert RecurrentROIHeads._carries(heads, memory, row) is carries


def test_half_of_the_training_regions_are_true_boxes() -> None:
    """The others are any of the proposals that were matched to the person."""
    heads = build_heads(REGIONS=400, BOX_JITTER=0.0)
    boxes = torch.tensor([[0.0, 0, 40, 60], [2, 0, 40, 60], [4, 0, 40, 60], [6, 0, 40, 60]])
    proposals = Instances(
        (64, 96),
        proposal_boxes=Boxes(boxes),
        gt_boxes=Boxes(torch.tensor([[1.0, 0, 40, 60]]).repeat(4, 1)),
        gt_classes=torch.tensor([0, 0, heads.num_classes, -1]),
        gt_tracks=torch.zeros(4, dtype=torch.long),
    )
    lefts = heads._training_regions(proposals).proposal_boxes.tensor[:, 0].tolist()
    counts = {left: lefts.count(left) for left in sorted(set(lefts))}
    assert list(counts) == [0, 1, 2], "neither background nor an ignored region"
    assert 160 < counts[1] < 240 and min(counts[0], counts[2]) > 70
    assert proposals.proposal_boxes.tensor[0, 0] == 0, "what was given stays"


def test_regions_of_a_picture_without_people() -> None:
    heads = build_heads()
    proposals = Instances((64, 96), proposal_boxes=Boxes(torch.zeros(5, 4)))
    regions = heads._training_regions(proposals)
    assert len(regions) == 0 and regions.image_size == (64, 96)
    assert regions.gt_keypoints.tensor.shape == (0, JOINTS, 3)
    assert regions.gt_tracks.dtype == torch.long and regions.proposal_boxes.tensor.shape == (0, 4)


@pytest.mark.parametrize("visible", [True, False])
def test_how_a_loss_is_counted(monkeypatch: pytest.MonkeyPatch, visible: bool) -> None:
    """By visible joints, or by all joints of the three regions that there are, not of the 512 / 4
    that Detectron2 samples of a picture; times its weight."""
    cfg = small_cfg()
    cfg.MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS = visible
    cfg.MODEL.ROI_KEYPOINT_HEAD.LOSS_WEIGHT = 3.0
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE, cfg.MODEL.ROI_HEADS.POSITIVE_FRACTION = 512, 0.25
    heads = build_heads(cfg)
    given: list[Any] = []

    def loss(logits: Any, instances: list[Instances], normalizer: Any) -> float:
        given.append((logits.dtype, len(instances), len(instances[0]), normalizer))
        return 0.5

    monkeypatch.setattr(module, "keypoint_rcnn_loss", loss)
    proposals = []
    for frame in clips(1, 2)[0]["frames"]:
        item = frame["instances"]
        item.proposal_boxes = item.gt_boxes
        proposals.append(item)
    features = {name: torch.cat([value] * 2) for name, value in random_features(1)[0].items()}
    assert heads.keypoint_losses(features, proposals) == {"loss_keypoint": 1.5}
    assert given == [(torch.float32, 1, 3, None if visible else 3 * JOINTS)]


def test_tracks_of_different_clips_share_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(TRAIN="head").train()
    seen: list[list[int]] = []

    def sample(proposals: Any, targets: list[Instances]) -> list[Instances]:
        seen.extend(item.gt_tracks.tolist() for item in targets)
        return targets

    monkeypatch.setattr(model.roi_heads, "label_and_sample_proposals", sample)
    monkeypatch.setattr(model.roi_heads, "keypoint_losses", lambda features, items: {"n": items})
    batch = clips(3, 2)
    model(batch)
    assert seen == [[0, 1], [0], [2**20, 2**20 + 1], [2**20], [2**21, 2**21 + 1], [2**21]]


def test_videos_come_one_after_the_other() -> None:
    model = build()
    first = model._memory_of({"video_id": "a", "frame_index": 3})
    assert first.frame == 3 and model._memory_of({"video_id": "a", "frame_index": 4}) is first
    for index in (4, 2):
        with pytest.raises(ValueError) as error:
            model._memory_of({"video_id": "a", "frame_index": index})
        assert str(error.value) == (
            f"video 'a': frame {index} comes after frame 4; the frames of a video must come in "
            "order"
        )
    other = model._memory_of({"video_id": "b", "frame_index": 0})
    assert other is not first and list(model._memory) == ["b"]
    alone = [model._memory_of({}) for _ in range(2)]
    assert alone[0] is not alone[1] and alone[0].frame == -1 and list(model._memory) == ["b"]
    model.train().eval()
    assert model._memory == {}, "weights may have changed"


@pytest.mark.parametrize("trained", ["all", "head", "head_without_memory", "memory"])
def test_what_is_not_trained_stays_as_it_was_loaded(trained: str) -> None:
    """In evaluation mode, with parameters that want no gradient."""
    model = build(TRAIN=trained).train()
    head = model.roi_heads.keypoint_head
    whole = trained == "all"
    assert model.training and head.training
    for part in (model.backbone, model.proposal_generator, model.roi_heads.box_head):
        assert part.training is whole
        assert any(p.requires_grad for p in part.parameters()) is whole
    assert head.score_lowres.weight.requires_grad is (trained != "memory")
    for part in head.memory_modules():
        wanted = trained != "head_without_memory"
        assert all(p.requires_grad is wanted for p in part.parameters())
    model.eval()
    assert not head.training and not model.training


def test_jitter_by_hand() -> None:
    """Centres move by a share of the sides; sides grow by the exponential of another."""
    boxes = torch.tensor([[10.0, 20, 50, 30], [0, 0, 8, 4]])
    torch.manual_seed(5)
    moved = jittered(boxes, 0.2)
    torch.manual_seed(5)
    noise = 0.2 * torch.randn(2, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    center = (boxes[:, :2] + boxes[:, 2:]) / 2 + noise[:, :2] * sides
    grown = sides * noise[:, 2:].exp()
    torch.testing.assert_close(moved, torch.cat([center - grown / 2, center + grown / 2], dim=1))


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


def test_similarity_of_several_people_of_any_size() -> None:
    """Boxes of 10 x 10 and of 20 x 80 px, whose mean is 400 px^2, and one of 0.5 x 100 px, which
    counts a px in width; each joint has a width of its own. Of scores of 0 nothing follows."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 0.5, 100]])
    others = torch.tensor([[5.0, 5, 25, 85], [5, 5, 15, 15], [0, 0, 10, 10]])
    sigmas = torch.tensor([0.1, 0.25])
    poses = torch.tensor([[[1.0, 2, 1.0], [3, 4, 0.5]], [[0, 0, 1], [0, 0, 1]]])
    other = torch.tensor([[[4.0, 6, 1.0], [3, 4, 1]], [[1, 2, 0.5], [9, 12, 0.5]], [[1, 2, 0]] * 2])
    found = pose_similarity(poses, boxes, other, others, sigmas)
    areas = ((100, 100), (1600, 100, 100))
    for p, q in np.ndindex(2, 3):
        size = (areas[0][p] * areas[1][q]) ** 0.5
        total = weights = 0.0
        for k in range(2):
            apart = float((poses[p, k, :2] - other[q, k, :2]).square().sum())
            weight = float(poses[p, k, 2] * other[q, k, 2])
            total += weight * np.exp(-apart / (2 * size * (2 * float(sigmas[k])) ** 2))
            weights += weight
        assert found[p, q].item() == pytest.approx(total / weights if weights else 0.0, rel=1e-5)


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
