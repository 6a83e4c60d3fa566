from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from video_pose.data import clip_mapper
from video_pose.data.clip_mapper import PoseClipMapper, build_pose_mapper, joint_table
from video_pose.data.clips import Chunk
from video_pose.data.cropping import RegionRule, apply_affine
from video_pose.skeleton import match_joints


def _bright_center(image: torch.Tensor, near: np.ndarray) -> np.ndarray:
    """Centre of mass of the light within 6 px of a point of a (3, H, W) crop."""
    weights = image[0].double().numpy()
    y, x = np.mgrid[: weights.shape[0], : weights.shape[1]] + 0.5
    weights = weights * ((np.abs(x - near[0]) < 6) & (np.abs(y - near[1]) < 6))
    return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


def _assert_joints_on_dots(clip: dict[str, Any]) -> None:
    for image, joints in zip(clip["image"], clip["keypoints"].numpy(), strict=True):
        for joint in joints:
            np.testing.assert_allclose(_bright_center(image, joint), joint[:2], atol=0.1)


def _equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) if torch.is_tensor(a[k]) else a[k] == b[k] for k in a
    )


@pytest.fixture
def track(make_track: Callable) -> dict[str, Any]:
    return make_track()


@pytest.fixture
def train_cfg(cfg: CfgNode, register: Callable, track: dict) -> CfgNode:
    cfg.DATASETS.TRAIN = (register([track]),)
    cfg.INPUT.CROP_SIZE = (128, 160)
    cfg.INPUT.PAD_VALUE = 0
    return cfg


def test_plain_clip_by_hand(train_cfg: CfgNode, track: dict) -> None:
    clip = build_pose_mapper(train_cfg, True)({**track, "clip_seed": 0})
    # The box of 50 x 40 times 1.25 in 160 x 128: scale min(160 / 62.5, 128 / 50) = 2.56.
    start = int(clip["frame_indices"][0])
    assert clip["image"].shape == (4, 3, 128, 160) and clip["image"].dtype == torch.uint8
    assert clip["frame_indices"].tolist() == [start, start + 1, start + 2, start + 3]
    assert clip["image_ids"].tolist() == [1000 + start + i for i in range(4)]
    assert not clip["is_padding"].any()
    assert clip["keypoints"].dtype == torch.float32
    # The box follows the joints, so that every frame looks alike; its centre is (45.5, 30.5).
    expected = [
        [80 - 5 * 2.56, 64 - 10 * 2.56, 2],
        [80 - 15 * 2.56, 64, 2],
        [80 + 15 * 2.56, 64, 2],
    ]
    for joints, center in zip(clip["keypoints"], clip["center"], strict=True):
        np.testing.assert_allclose(joints, expected, atol=1e-4)
        np.testing.assert_allclose(center, [80, 64], atol=1e-4)
    _assert_joints_on_dots(clip)


def test_augmented_joints_stay_on_their_dots(train_cfg: CfgNode, track: dict) -> None:
    train_cfg.INPUT.AUG.SCALE_RANGE = (0.6, 1.1)
    train_cfg.INPUT.AUG.ROTATION = 45.0
    train_cfg.INPUT.AUG.FLIP_PROB = 0.5
    train_cfg.INPUT.AUG.TRANSLATION = 0.05
    mapper = build_pose_mapper(train_cfg, True)
    flips = set()
    for seed in range(12):
        clip = mapper({**track, "clip_seed": seed})
        _assert_joints_on_dots(clip)
        linear = clip["crop_to_image"][:, :, :2]
        flips.add(bool(torch.linalg.det(linear)[0] < 0))
        # One draw: the linear part is the same in all frames.
        torch.testing.assert_close(linear, linear[:1].expand_as(linear))
    assert flips == {False, True}


def test_a_mirrored_clip_swaps_left_and_right(train_cfg: CfgNode, track: dict) -> None:
    plain = build_pose_mapper(train_cfg, True)({**track, "clip_seed": 3})["keypoints"]
    train_cfg.INPUT.AUG.FLIP_PROB = 1.0
    clip = build_pose_mapper(train_cfg, True)({**track, "clip_seed": 3})
    mirrored = plain.clone()
    mirrored[..., 0] = 160 - plain[..., 0]
    # The right hand of the mirrored picture is where the left one's picture went.
    torch.testing.assert_close(clip["keypoints"], mirrored[:, [0, 2, 1]])
    _assert_joints_on_dots(clip)


def test_crop_to_image_leads_back(train_cfg: CfgNode, track: dict) -> None:
    train_cfg.INPUT.AUG.ROTATION = 30.0
    clip = build_pose_mapper(train_cfg, True)({**track, "clip_seed": 1})
    for index, joints, matrix in zip(
        clip["frame_indices"], clip["keypoints"], clip["crop_to_image"], strict=True
    ):
        back = apply_affine(matrix.numpy().astype(np.float64), joints[:, :2].numpy())
        np.testing.assert_allclose(back, track["keypoints"][index, :, :2], atol=1e-3)


def test_visibility_and_joints_outside_are_kept(train_cfg: CfgNode, track: dict) -> None:
    track["keypoints"][:, 0, 2] = 0
    track["keypoints"][:, 1] = (500, -300, 1)
    clip = build_pose_mapper(train_cfg, True)({**track, "clip_seed": 0})
    assert (clip["keypoints"][:, 0] == 0).all()
    assert (clip["keypoints"][:, 1, 2] == 1).all()
    assert (clip["keypoints"][:, 1, 0] > 160).all() and (clip["keypoints"][:, 1, 1] < 0).all()
    assert (clip["keypoints"][:, 2, 2] == 2).all()


def test_the_input_is_not_changed(train_cfg: CfgNode, track: dict) -> None:
    train_cfg.INPUT.AUG.FLIP_PROB = 1.0
    before = copy.deepcopy(track)
    build_pose_mapper(train_cfg, True)(track)
    build_pose_mapper(train_cfg, False)(track)
    assert before.keys() == track.keys()
    for key in before:
        np.testing.assert_array_equal(before[key], track[key])


def test_the_seed_decides_and_without_one_numpy_does(train_cfg: CfgNode, track: dict) -> None:
    train_cfg.INPUT.AUG.ROTATION = 45.0
    mapper = build_pose_mapper(train_cfg, True)
    copied = pickle.loads(pickle.dumps(mapper))
    assert _equal(mapper({**track, "clip_seed": 7}), copied({**track, "clip_seed": 7}))
    assert not _equal(mapper({**track, "clip_seed": 7}), mapper({**track, "clip_seed": 8}))
    np.random.seed(0)
    first, second = mapper(track), mapper(track)
    np.random.seed(0)
    assert _equal(first, mapper(track)) and not _equal(first, second)


def test_short_tracks_are_padded(train_cfg: CfgNode, make_track: Callable) -> None:
    clip = build_pose_mapper(train_cfg, True)(make_track("short", frames=2))
    assert clip["frame_indices"].tolist() == [0, 1, 1, 1]
    assert clip["is_padding"].tolist() == [False, False, True, True]
    assert torch.equal(clip["image"][1], clip["image"][3])


def test_stride_is_obeyed(train_cfg: CfgNode, track: dict) -> None:
    train_cfg.INPUT.CLIP.STRIDE = 2
    train_cfg.INPUT.CLIP.LENGTH = 3
    start = (clip := build_pose_mapper(train_cfg, True)(track))["frame_indices"][0]
    assert clip["frame_indices"].tolist() == [start, start + 2, start + 4]


def test_unlabelled_frames_use_the_nearest_box(train_cfg: CfgNode, track: dict) -> None:
    track["labelled"][1:] = False
    track["keypoints"][1:] = 0
    track["boxes"][1:] = 0
    clip = build_pose_mapper(train_cfg, True)(track)
    assert clip["frame_indices"].tolist() == [0, 1, 2, 3]  # the only clip with frame 0
    assert (clip["keypoints"][1:] == 0).all()
    torch.testing.assert_close(clip["crop_to_image"], clip["crop_to_image"][:1].expand(4, 2, 3))


def test_one_region_per_clip(train_cfg: CfgNode, track: dict) -> None:
    train_cfg.INPUT.REGION_PER = "clip"
    clip = build_pose_mapper(train_cfg, True)({**track, "clip_seed": 0})
    # The union over 4 frames is 53 wide and 40 high: scale min(160 / 66.25, 128 / 50).
    scale = 160 / (53 * 1.25)
    torch.testing.assert_close(clip["crop_to_image"], clip["crop_to_image"][:1].expand(4, 2, 3))
    np.testing.assert_allclose(clip["crop_to_image"][0, 0, 0], 1 / scale, rtol=1e-5)
    # The person's centre wanders by a pixel of the image per frame about the crop's centre.
    np.testing.assert_allclose(
        clip["center"][:, 0], 80 + scale * np.array([-1.5, -0.5, 0.5, 1.5]), rtol=1e-5
    )


def test_test_regions_do_not_depend_on_the_chunk(cfg: CfgNode, track: dict) -> None:
    cfg.INPUT.REGION_PER = "clip"
    mapper = build_pose_mapper(cfg, False)
    whole = mapper(track)
    part = mapper({**track, "chunk": Chunk(2, 4, 0, 6)})
    assert torch.equal(part["image"], whole["image"][2:4])
    assert torch.equal(part["crop_to_image"], whole["crop_to_image"][2:4])
    assert part["frame_indices"].tolist() == [2, 3]
    assert (part["is_first"], part["is_last"]) == (False, False)
    assert (whole["is_first"], whole["is_last"]) == (True, True)
    # A run of its own shows its own boxes.
    assert not torch.equal(mapper({**track, "chunk": Chunk(2, 4, 2, 4)})["image"], part["image"])


def test_boxes_that_tremble_in_the_test_do_so_alike_in_any_chunk(cfg: CfgNode, track: dict) -> None:
    """The box of 50 x 40: each centre is off by up to a tenth of its sides, 5 px and 4 px."""
    cfg.INPUT.CROP_SIZE = (128, 160)
    still = build_pose_mapper(cfg, False)(track)
    cfg.TEST.BOX_JITTER = 0.1
    mapper = build_pose_mapper(cfg, False)
    whole = mapper(track)
    parts = [mapper({**track, "chunk": Chunk(a, b, 0, 6)}) for a, b in ((0, 2), (2, 6))]
    joined = torch.cat([part["crop_to_image"] for part in parts])
    assert torch.equal(joined, whole["crop_to_image"])
    places = [item["crop_to_image"] @ torch.tensor([80.0, 64.0, 1.0]) for item in (whole, still)]
    shift = (places[0] - places[1]).abs()
    assert (shift <= torch.tensor([5.0, 4.0]) + 1e-4).all() and shift.mean() > 0.5
    assert len({round(float(x), 3) for x in shift[:, 0]}) == 6, "every frame has a draw of its own"
    other = mapper({**track, "track_id": "other"})
    assert not torch.equal(other["crop_to_image"], whole["crop_to_image"])
    cfg.TEST.BOX_JITTER = 0.5
    with pytest.raises(ValueError, match=r"TEST.BOX_JITTER is 0.5: expected 0 to below 0.5"):
        build_pose_mapper(cfg, False)


def test_test_chunks_have_no_labels_and_no_randomness(train_cfg: CfgNode, track: dict) -> None:
    train_cfg.INPUT.AUG.ROTATION = 45.0
    train_cfg.INPUT.AUG.COLOR = 0.5
    mapper = build_pose_mapper(train_cfg, False)
    clip = mapper(track)
    assert "keypoints" not in clip and "flipped" not in clip
    assert clip["image"].shape == (6, 3, 128, 160)
    assert _equal(clip, mapper(track))


def test_test_rows_are_scales_then_mirrored_scales(train_cfg: CfgNode, track: dict) -> None:
    plain = build_pose_mapper(train_cfg, False)(track)
    train_cfg.TEST.SCALES = (0.5, 1.0)
    train_cfg.TEST.FLIP = True
    rows = build_pose_mapper(train_cfg, False)(track)
    assert rows["image"].shape == (4, 6, 3, 128, 160)
    assert rows["crop_to_image"].shape == (4, 6, 2, 3) and rows["center"].shape == (4, 6, 2)
    assert rows["flipped"].tolist() == [False, False, True, True]
    assert torch.equal(rows["image"][1], plain["image"])
    assert torch.equal(rows["image"][3], plain["image"].flip(-1))
    # Half the scale: a crop pixel is twice as many image pixels.
    torch.testing.assert_close(
        rows["crop_to_image"][0, :, :, :2], 2 * plain["crop_to_image"][:, :, :2]
    )
    # A mirrored row's map contains the mirroring: crop (x, y) and plain (W - x, y) are one point.
    back = apply_affine(rows["crop_to_image"][3, 0].double().numpy(), np.array([[10.0, 20.0]]))
    other = apply_affine(plain["crop_to_image"][0].double().numpy(), np.array([[150.0, 20.0]]))
    np.testing.assert_allclose(back, other, atol=1e-4)


def test_a_single_scale_with_a_mirrored_copy_has_rows(cfg: CfgNode, track: dict) -> None:
    cfg.TEST.FLIP = True
    assert build_pose_mapper(cfg, False)(track)["image"].shape == (2, 6, 3, 64, 64)


def test_a_track_of_one_frame_alone_is_mirrored(
    cfg: CfgNode, track: dict, make_track: Callable
) -> None:
    """By TEST.FLIP_STILLS; a chunk of one frame is a part of a video."""
    cfg.TEST.FLIP_STILLS = True
    mapper = build_pose_mapper(cfg, False)
    assert "flipped" not in mapper(track)
    assert "flipped" not in mapper({**track, "chunk": Chunk(2, 3, 0, 6)})
    one = {
        key: value[:1] if isinstance(value, np.ndarray) else value for key, value in track.items()
    }
    one["file_names"] = track["file_names"][:1]
    still = mapper(one)
    assert still["flipped"].tolist() == [False, True]
    cfg.TEST.FLIP = True
    assert _equal(still, build_pose_mapper(cfg, False)(one))
    # And at other sizes, by TEST.SCALES_STILLS, in place of TEST.SCALES.
    cfg.TEST.FLIP, cfg.TEST.FLIP_STILLS, cfg.TEST.SCALES_STILLS = False, False, (0.5, 2.0)
    assert "flipped" not in build_pose_mapper(cfg, False)(track)
    sizes = build_pose_mapper(cfg, False)(one)
    assert sizes["flipped"].tolist() == [False, False]
    cfg.TEST.SCALES, cfg.TEST.SCALES_STILLS = (0.5, 2.0), ()
    assert _equal(sizes, build_pose_mapper(cfg, False)(one))
    with pytest.raises(ValueError, match=r"TEST.SCALES_STILLS is \(1.0, 0.0\): expected factors"):
        cfg.TEST.SCALES_STILLS = (1.0, 0.0)
        build_pose_mapper(cfg, False)


def test_datasets_are_mixed_by_name(cfg: CfgNode, register: Callable, make_track: Callable) -> None:
    first, second = make_track("a"), make_track("b")
    second["keypoints"] = second["keypoints"][:, [2, 0, 1]]
    names = (register([first]), register([second], ["left_hand", "head", "right_hand"]))
    cfg.DATASETS.TRAIN = names
    cfg.INPUT.PAD_VALUE = 0
    mapper = build_pose_mapper(cfg, True)
    got = [
        mapper({**t, "dataset_name": name, "clip_seed": 4})["keypoints"]
        for t, name in zip((first, second), names, strict=True)
    ]
    torch.testing.assert_close(got[0], got[1])
    with pytest.raises(KeyError, match="None"):
        mapper(first)


def test_a_missing_frame_is_named(train_cfg: CfgNode, track: dict) -> None:
    track["file_names"] = [name + ".gone" for name in track["file_names"]]
    with pytest.raises(FileNotFoundError, match=r"v_\d.png.gone"):
        build_pose_mapper(train_cfg, True)(track)


def test_absolute_scale_keeps_the_images_size(train_cfg: CfgNode, track: dict) -> None:
    train_cfg.INPUT.SCALE_MODE = "absolute"
    train_cfg.INPUT.AUG.SCALE_RANGE = (2.0, 2.0)
    clip = build_pose_mapper(train_cfg, True)(track)
    np.testing.assert_allclose(clip["crop_to_image"][0, :, :2], np.eye(2) / 2, atol=1e-6)
    _assert_joints_on_dots(clip)


def test_colour_and_cover_are_the_same_in_all_frames(train_cfg: CfgNode, track: dict) -> None:
    train_cfg.INPUT.AUG.OCCLUSION_PROB = 1.0
    train_cfg.INPUT.PAD_VALUE = 200
    train_cfg.INPUT.AUG.COLOR = 0.4
    clip = build_pose_mapper(train_cfg, True)({**track, "clip_seed": 2})
    # The boxes move with the joints, so that the crops differ in padding alone; the inside of the
    # covered rectangle is exactly the pad value, which the colours changed elsewhere.
    covered = (clip["image"] == 200).all(dim=1)
    assert covered.any() and (covered == covered[:1]).all()


def test_a_cover_of_half_the_clip_leaves_the_other_frames(train_cfg: CfgNode, track: dict) -> None:
    train_cfg.INPUT.AUG.OCCLUSION_PROB = 1.0
    train_cfg.INPUT.AUG.OCCLUSION_SIZE = (1.0, 1.0)
    train_cfg.INPUT.AUG.OCCLUSION_SPAN = (0.5, 0.5)
    train_cfg.INPUT.PAD_VALUE = 200
    frames = build_pose_mapper(train_cfg, True)({**track, "clip_seed": 2})["image"]
    covered = [bool((frame == 200).all()) for frame in frames]
    assert len(covered) == 4 and sum(covered) == 2
    assert covered in (
        [True, True, False, False],
        [False, True, True, False],
        [False] * 2 + [True] * 2,
    )


@pytest.fixture
def keys_cfg(cfg: CfgNode, register: Callable) -> CfgNode:
    cfg.DATASETS.TRAIN = (register([]),)
    return cfg


def test_joints_come_from_the_first_dataset_and_pairs_from_metadata(keys_cfg: CfgNode) -> None:
    assert build_pose_mapper(keys_cfg, True).flip_order == [0, 2, 1]
    keys_cfg.MODEL.POSE.JOINTS = ["left_hand", "right_hand", "head"]
    assert build_pose_mapper(keys_cfg, True).flip_order == [1, 0, 2]


def test_a_flip_map_of_the_model_wins(keys_cfg: CfgNode) -> None:
    keys_cfg.MODEL.POSE.FLIP_MAP = [["head", "left_hand"]]
    assert build_pose_mapper(keys_cfg, True).flip_order == [2, 1, 0]


def test_a_joint_that_the_dataset_lacks_is_an_error(keys_cfg: CfgNode) -> None:
    keys_cfg.MODEL.POSE.JOINTS = ["head", "tail"]
    with pytest.raises(ValueError, match="(?s)tail.*right_hand.*head"):
        build_pose_mapper(keys_cfg, True)


@pytest.mark.parametrize(
    ("name", "mode", "scales", "rotation", "per", "padding"),
    [
        ("PoseClipMapper", "", (0.75, 1.25), 30, "frame", 1.25),
        ("PoseClipMapper", "absolute", (0.7, 1.3), 40, "frame", 1.25),
        ("PennActionClipMapper", "absolute", (0.8, 1.4), 40, "frame", 1.25),
        ("PennActionClipMapper", "", (0.75, 1.25), 30, "frame", 1.25),
        ("JHMDBClipMapper", "absolute", (1.2, 1.8), 40, "frame", 1.25),
        ("JHMDBClipMapper", "region", (0.75, 1.25), 30, "frame", 1.25),
        ("BBCPoseClipMapper", "", (0.8, 1.2), 20, "clip", 1.0),
        ("BBCPoseClipMapper", "absolute", (0.8, 1.2), 20, "clip", 1.0),
    ],
)
def test_empty_keys_take_the_named_mappers_defaults(
    keys_cfg: CfgNode,
    name: str,
    mode: str,
    scales: tuple,
    rotation: float,
    per: str,
    padding: float,
) -> None:
    keys_cfg.INPUT.MAPPER, keys_cfg.INPUT.SCALE_MODE = name, mode
    keys_cfg.INPUT.AUG.SCALE_RANGE, keys_cfg.INPUT.AUG.ROTATION = (), -1.0
    mapper = build_pose_mapper(keys_cfg, True)
    assert type(mapper).__name__ == name and isinstance(mapper, PoseClipMapper)
    assert mapper.augmentation.scale_range == scales and mapper.augmentation.rotation == rotation
    assert (mapper.rule.per, mapper.rule.padding, mapper.rule.region) == (per, padding, "box")


def test_given_keys_win_over_defaults(keys_cfg: CfgNode) -> None:
    keys_cfg.INPUT.MAPPER = "BBCPoseClipMapper"
    keys_cfg.INPUT.REGION, keys_cfg.INPUT.REGION_PER = "frame", "frame"
    keys_cfg.INPUT.WINDOW, keys_cfg.INPUT.REGION_PADDING = (-60, -60, 0, 0), 2.0
    mapper = build_pose_mapper(keys_cfg, True)
    assert mapper.augmentation.rotation == 0 and mapper.augmentation.scale_range == (1, 1)
    rule = mapper.rule
    assert (rule.region, rule.per, rule.padding) == ("frame", "frame", 2.0)
    assert rule.window == (-60, -60, 0, 0)


def test_an_unknown_mapper_is_an_error(cfg: CfgNode) -> None:
    cfg.INPUT.MAPPER = "ClipMapper"
    with pytest.raises(KeyError, match="(?s)'ClipMapper'.*JHMDBClipMapper"):
        build_pose_mapper(cfg, False)


# ---- partly labelled skeletons

HANDS = ["left_hand", "right_hand"]


@pytest.fixture
def two_datasets(cfg: CfgNode, register: Callable, track: dict) -> tuple[CfgNode, str, str]:
    """One with head and hands, one with the hands alone."""
    hands = {**track, "keypoints": track["keypoints"][:, 1:]}
    full = register([track], joints=["head", "right_hand", "left_hand"])
    part = register([hands], joints=["right_hand", "left_hand"])
    cfg.DATASETS.TRAIN = (full, part)
    cfg.MODEL.POSE.JOINTS = ["head", *HANDS]
    return cfg, full, part


def test_a_dataset_may_lack_joints_that_another_has(two_datasets: tuple, track: dict) -> None:
    cfg, full, part = two_datasets
    with pytest.raises(ValueError, match="head"):
        build_pose_mapper(cfg, True)
    cfg.MODEL.POSE.PARTIAL_JOINTS = True
    mapper = build_pose_mapper(cfg, True)
    hands = {**track, "keypoints": track["keypoints"][:, 1:], "dataset_name": part}
    got = mapper({**hands, "clip_seed": 0})["keypoints"]
    assert (got[:, 0] == 0).all() and (got[:, 1:, 2] == 2).all()
    whole = mapper({**track, "dataset_name": full, "clip_seed": 0})["keypoints"]
    assert (whole[..., 2] == 2).all()
    torch.testing.assert_close(whole[:, 1:], got[:, 1:])
    table = joint_table({"full": mapper.joint_maps[full], "hand": mapper.joint_maps[part]})
    assert table.splitlines() == [
        "            full  hand",
        "head         x     -  ",
        "left_hand    x     x  ",
        "right_hand   x     x  ",
    ]


def test_a_joint_that_no_dataset_has_is_an_error(two_datasets: tuple) -> None:
    cfg, *_ = two_datasets
    cfg.MODEL.POSE.PARTIAL_JOINTS = True
    cfg.MODEL.POSE.JOINTS = ["head", "tail", *HANDS]
    with pytest.raises(ValueError, match=r"\['tail'\], which none of the datasets"):
        build_pose_mapper(cfg, True)


def test_only_a_joint_that_its_dataset_labels_in_full_is_absent(
    two_datasets: tuple, track: dict
) -> None:
    cfg, full, part = two_datasets
    cfg.MODEL.POSE.PARTIAL_JOINTS = True
    keypoints = track["keypoints"].copy()
    keypoints[:, 1, 2] = 0  # no right hand, wherever the file puts it
    keypoints[:, 0, 1] = -3  # the head is above the picture
    keypoints[2] = 0  # a frame without labels
    cfg.INPUT.AUG.FLIP_PROB = 1.0
    seen = {}
    for name, points in ((full, keypoints), (part, keypoints[:, 1:])):
        for declared in (False, True):
            if declared:
                MetadataCatalog.get(name).set(unlabelled_is_absent=True)
            mapper = build_pose_mapper(cfg, True)
            clip = mapper({**track, "keypoints": points, "dataset_name": name, "clip_seed": 0})
            rows = [i for i, frame in enumerate(clip["frame_indices"].tolist()) if frame != 2]
            assert len(rows) == 3
            seen[name, declared] = clip["keypoints"][..., 2]
            for row in rows[1:]:
                assert torch.equal(seen[name, declared][row], seen[name, declared][rows[0]])
            seen[name, declared] = seen[name, declared][rows[0]].tolist()
    # Mirrored: the missing right hand is the model's left one. The second dataset has no head.
    assert seen == {
        (full, False): [2, 0, 2],
        (full, True): [2, -1, 2],
        (part, False): [0, 0, 2],
        (part, True): [0, -1, 2],
    }


def test_a_half_body_crop_is_centred_on_its_joints(cfg: CfgNode, register: Callable) -> None:
    names = ["head", "left_wrist", "right_wrist", "left_hip", "left_knee", "left_ankle"]
    points = np.array([[40, 20], [30, 30], [50, 30], [40, 50], [44, 60], [40, 70]], np.float32)
    keypoints = np.concatenate([points, np.full((6, 1), 2, np.float32)], 1)[None]
    cfg.DATASETS.TRAIN = (register([], joints=names),)
    cfg.MODEL.POSE.JOINTS = names
    cfg.INPUT.CLIP.LENGTH, cfg.INPUT.AUG.HALF_BODY_PROB = 1, 1.0
    mapper = build_pose_mapper(cfg, True)
    assert mapper.halves == {"upper": [0, 1, 2], "lower": [3, 4, 5]}
    mapper.reader = _OneFrame()
    track = {
        "video_id": "v", "track_id": "0", "height": 80, "width": 100, "keypoints": keypoints,
        "boxes": np.array([[20, 10, 60, 80]]), "labelled": np.array([True]),
        "image_ids": np.array([1]), "dataset_name": cfg.DATASETS.TRAIN[0],
    }  # fmt: skip
    centers = set()
    for seed in range(12):
        clip = mapper({**track, "clip_seed": seed})
        np.testing.assert_allclose(clip["center"][0], (32, 32), atol=1e-4)
        matrix = clip["crop_to_image"][0].numpy()
        centers.add(tuple(np.round(apply_affine(matrix, np.array([32.0, 32.0])), 3)))
    assert centers == {(40.0, 25.0), (42.0, 60.0)}


class _OneFrame:
    def read(self, track: dict[str, Any], indices: list[int]) -> list[np.ndarray]:
        return [np.zeros((80, 100, 3), np.uint8) for _ in indices]


def test_clips_without_a_seed_follow_from_the_global_generator() -> None:
    """Whoever seeds NumPy gets the same clips again, and each clip draws anew."""
    np.random.seed(3)
    first = [clip_mapper._clip_rng({}).random() for _ in range(100)]
    np.random.seed(3)
    assert [clip_mapper._clip_rng({}).random() for _ in range(100)] == first
    assert len(set(first)) == 100
    seeded = clip_mapper._clip_rng({"clip_seed": 7}).random()
    assert seeded == np.random.default_rng(7).random() and seeded not in first


def test_draws_stay_what_they_were() -> None:
    """A training, or a test with trembling boxes, that is repeated sees the same pictures."""
    np.random.seed(3)
    assert clip_mapper._clip_rng({}).random() == pytest.approx(0.135881007, abs=1e-9)
    shifts = clip_mapper.frame_jitters({"video_id": "v", "track_id": "0"}, np.array([0, 7]), 0.1)
    expected = [
        [-0.015691, 0.035754, 0.072247, 0.043484],
        [-0.0278, 0.070449, -0.066065, -0.096534],
    ]
    np.testing.assert_allclose(shifts, expected, atol=1e-6)


@pytest.mark.parametrize("key", ["INPUT.AUG.FLIP_PROB", "TEST.FLIP", "TEST.FLIP_STILLS"])
def test_who_mirrors_has_to_know_the_other_side(cfg: CfgNode, register: Callable, key: str) -> None:
    """A knee alone is nobody's concern until pictures are mirrored."""
    cfg.DATASETS.TRAIN = (register([], ["head", "left_knee"]),)
    assert build_pose_mapper(cfg, True).flip_order == [0, 1]
    cfg.merge_from_list([key, 0.1 if "PROB" in key else True])
    with pytest.raises(ValueError, match="'left_knee' .no right_knee."):
        build_pose_mapper(cfg, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joint_maps": {}}, "a training mapper needs the joint maps of its datasets"),
        ({"test_scales": ()}, "TEST.SCALES is (): expected factors above 0"),
        ({"test_scales": (1.0, 0.0)}, "TEST.SCALES is (1.0, 0.0): expected factors above 0"),
        ({"test_scales": (-1.0,)}, "TEST.SCALES is (-1.0,): expected factors above 0"),
        ({"test_jitter": -0.1}, "TEST.BOX_JITTER is -0.1: expected 0 to below 0.5"),
        ({"test_jitter": 0.5}, "TEST.BOX_JITTER is 0.5: expected 0 to below 0.5"),
        ({"clip_length": 0}, "INPUT.CLIP: LENGTH 0 and STRIDE 1 must be 1 or more"),
        ({"clip_stride": 0}, "INPUT.CLIP: LENGTH 1 and STRIDE 0 must be 1 or more"),
    ],
)
def test_each_argument_of_a_mapper_has_its_bounds(changes: dict, message: str) -> None:
    good = {
        "is_train": True, "rule": RegionRule((8, 8)), "reader": _OneFrame(), "image_format": "BGR",
        "joint_maps": {"d": match_joints(["a"], ["a"])},
    }  # fmt: skip
    PoseClipMapper(**good, test_scales=(0.01,), test_jitter=0.49, clip_length=1, clip_stride=1)
    PoseClipMapper(**{**good, "is_train": False, "joint_maps": None})
    with pytest.raises(ValueError) as error:
        PoseClipMapper(**{**good, **changes})
    assert str(error.value) == message


def test_a_video_without_frames_is_named(train_cfg: CfgNode, track: dict) -> None:
    nothing = {**track, "keypoints": track["keypoints"][:0]}
    for train in (True, False):
        with pytest.raises(ValueError, match="^video 'v' has no frames$"):
            build_pose_mapper(train_cfg, train)(nothing)


def test_frames_without_a_label_or_a_visible_joint_are_not_usable(
    train_cfg: CfgNode, track: dict
) -> None:
    """Of frames 0 to 5: 1 is not labelled, 2 has no joint that is visible, 3 has one."""
    track["labelled"][1] = False
    track["keypoints"][2, :, 2] = 0
    track["keypoints"][3, 1:, 2] = 0
    usable = build_pose_mapper(train_cfg, True).usable_frames(track)
    assert usable.tolist() == [True, False, False, True, True, True]


def test_boxes_tremble_in_training_as_the_clip_has_drawn(train_cfg: CfgNode, track: dict) -> None:
    """The box of 50 x 40 from (20.5, 10.5): where its centre lies in the crop, and its scale."""
    train_cfg.INPUT.AUG.BOX_JITTER = 0.2
    for per, span in (("frame", 50), ("clip", 53)):
        train_cfg.INPUT.REGION_PER = per
        mapper = build_pose_mapper(train_cfg, True)
        clip = mapper({**track, "clip_seed": 11})
        rng = np.random.default_rng(11)
        start = int(rng.integers(3))
        draw = mapper.augmentation.draw(rng, (128, 160))
        x0, y0, x1, y1 = draw.jitter
        width, height = span * (1 + x1 - x0), 40 * (1 + y1 - y0)
        scale = min(160 / width, 128 / height) / 1.25
        assert clip["frame_indices"][0] == start
        matrix = clip["crop_to_image"][0].numpy()
        np.testing.assert_allclose(matrix[:, :2], np.eye(2) / scale, atol=1e-5)
        middle = (20.5 + start + span / 2 + span * (x0 + x1) / 2, 30.5 + 40 * (y0 + y1) / 2)
        found = apply_affine(matrix, np.array([80.0, 64.0]))
        np.testing.assert_allclose(found, middle, atol=1e-3)


def test_the_one_dataset_of_a_mapper_need_not_be_named(two_datasets: tuple, track: dict) -> None:
    cfg, full, part = two_datasets
    cfg.DATASETS.TRAIN = (full,)
    mapper = build_pose_mapper(cfg, True)
    assert mapper._joint_map(track) is mapper._joint_map({**track, "dataset_name": full})
    with pytest.raises(KeyError, match=f"no joint map for dataset 'x': known .'{full}'."):
        mapper._joint_map({**track, "dataset_name": "x"})
