"""JHMDB: split files, PNG or AVI frames, boxes from masks, and lengths that disagree."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from video_pose.data.datasets.jhmdb import (
    holdout_sources,
    load_jhmdb,
    mask_boxes,
    read_masks,
    read_split,
    select_clips,
    source_video,
)

W, H = 64, 48
ODD_NAME = "Don't_Stop!_(2)_@home_catch_f_cm_np1_fr_goo_0"


def _positions(frames: int) -> np.ndarray:
    """(2, 15, N): frame i's joints at 1-based (11 + i, 21), but joint 0 at (31, 41)."""
    positions = np.zeros((2, 15, frames))
    positions[0], positions[1] = 11.0 + np.arange(frames), 21
    positions[0, 0], positions[1, 0] = 31, 41
    return positions


def _masks(frames: int) -> np.ndarray:
    """(h, w, N): two pixels, (x 5, y 7) and (x 20 + i, y 40)."""
    masks = np.zeros((H, W, frames), np.uint8)
    masks[7, 5] = 3
    for i in range(frames):
        masks[40, 20 + i, i] = 12
    return masks


def _write_clip(
    root: Path, clip: str, action: str = "catch", images: int = 3, joints: int = 3,
    masks: int = 3, **changes: Any,
) -> None:  # fmt: skip
    content = {
        "joint_positions": {"pos_img": _positions(joints), "viewpoint": "W"},
        "puppet_mask": {"part_mask": _masks(masks)},
    }
    for kind, values in content.items():
        folder = root / kind / action / clip
        folder.mkdir(parents=True)
        savemat(folder / f"{kind}.mat", changes.get(kind, values))
    folder = root / "Rename_Images" / action / clip
    folder.mkdir(parents=True)
    for number in range(1, images + 1):
        Image.new("RGB", (W, H)).save(folder / f"{number:05d}.png")
    (folder / ".DS_Store").touch()


def _write_split(root: Path, lines: str, name: str = "catch_test_split1.txt") -> None:
    folder = root / "splits"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(lines)


def _one(root: Path, clip: str = "a", **clip_changes: Any) -> dict[str, Any]:
    _write_clip(root, clip, **clip_changes)
    _write_split(root, f"{clip}.avi 1\n")
    (track,) = load_jhmdb(str(root), 1, "train")
    return track


def test_values_by_hand(tmp_path: Path) -> None:
    track = _one(tmp_path, ODD_NAME)
    assert track["video_id"] == f"catch/{ODD_NAME}" and track["action"] == "catch"
    assert [Path(f).name for f in track["file_names"]] == ["00001.png", "00002.png", "00003.png"]
    assert all(os.path.isfile(f) for f in track["file_names"])
    assert (track["height"], track["width"]) == (H, W)
    assert track["keypoints"].shape == (3, 15, 3) and track["keypoints"].dtype == np.float32
    # 1-based (31, 41) and (11 + 2, 21).
    assert track["keypoints"][2, :2].tolist() == [[30.5, 40.5, 2], [12.5, 20.5, 2]]
    # Pixels 5..20 + i and 7..40: centres of the extreme pixels, so x2 - x1 is the index difference.
    assert track["boxes"].tolist() == [[5.5, 7.5, 20.5 + i, 40.5] for i in range(3)]
    assert track["labelled"].tolist() == [True] * 3
    assert "annotations" not in track


def test_masks_are_read_on_demand(tmp_path: Path) -> None:
    track = _one(tmp_path)
    masks = read_masks(track["masks"])
    assert masks.shape == (3, H, W) and masks.dtype == bool
    assert np.argwhere(masks[1]).tolist() == [[7, 5], [40, 21]]


def test_joints_outside_the_image_are_kept_as_hidden(tmp_path: Path) -> None:
    positions = _positions(3)
    positions[:, 3, 0] = (W + 0.4, 21)  # the last pixel's right part: continuous 63.9
    positions[:, 4, 0] = (W + 10, 21)
    positions[:, 5, 0] = (11, -6)
    track = _one(tmp_path, joint_positions={"pos_img": positions})
    got = track["keypoints"][0, 3:6]
    np.testing.assert_allclose(got, [[W - 0.1, 20.5, 2], [W + 9.5, 20.5, 1], [10.5, -6.5, 1]])


def test_hidden_joints_where_a_file_marks_them(tmp_path: Path) -> None:
    hidden = np.zeros((15, 3), np.uint8)
    hidden[1, 2] = 1
    track = _one(tmp_path, joint_positions={"pos_img": _positions(3), "hidden": hidden})
    assert np.argwhere(track["keypoints"][..., 2] == 1).tolist() == [[2, 1]]
    assert track["keypoints"][2, 1].tolist() == [12.5, 20.5, 1]


@pytest.mark.parametrize(
    ("images", "joints", "masks", "expected"),
    [(3, 2, 3, 2), (3, 3, 5, 3), (3, 1, 1, 1)],
)
def test_the_track_has_the_common_frames(
    tmp_path: Path, images: int, joints: int, masks: int, expected: int
) -> None:
    track = _one(tmp_path, images=images, joints=joints, masks=masks)
    lengths = {len(track[k]) for k in ("file_names", "keypoints", "boxes", "labelled", "image_ids")}
    assert lengths == {expected}
    assert track["boxes"][0].tolist() == [5.5, 7.5, 20.5, 40.5]


def test_a_clip_that_lacks_its_last_frames_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 frames, but .*joints of 3; frame 3 is missing"):
        _one(tmp_path, images=2, joints=3, masks=3)


def test_without_a_mask_the_box_is_the_joints_extent(tmp_path: Path) -> None:
    masks = _masks(2)
    masks[..., 0] = 0
    track = _one(tmp_path, masks=2, puppet_mask={"part_mask": masks})
    # Frame 0 (empty mask): 10.5..30.5 x 20.5..40.5 about (20.5, 30.5), half side 10 x 1.25.
    assert track["boxes"][0].tolist() == [8, 18, 33, 43]
    assert track["boxes"][1].tolist() == [5.5, 7.5, 21.5, 40.5]
    # Frame 2 (no mask): 12.5..30.5 about 21.5, half side 9 x 1.25 = 11.25.
    assert track["boxes"][2].tolist() == [10.25, 18, 32.75, 43]


def test_mask_boxes_at_the_borders() -> None:
    masks = np.zeros((4, 6, 3), bool)
    masks[:, :, 0] = True
    masks[3, 5, 1] = True
    boxes, present = mask_boxes(masks)
    assert boxes.tolist() == [[0.5, 0.5, 5.5, 3.5], [5.5, 3.5, 5.5, 3.5], [0, 0, 0, 0]]
    assert present.tolist() == [True, True, False]


def _write_avi(path: Path, frames: int) -> None:
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        for i in range(frames):
            image = np.full((H, W, 3), 20 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def test_avi_where_there_are_no_images(tmp_path: Path) -> None:
    clip = ODD_NAME
    _write_clip(tmp_path, clip, joints=4, masks=4)
    folder = tmp_path / "Rename_Images" / "catch" / clip
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    video = tmp_path / "ReCompress_Videos" / "catch" / f"{clip}.avi"
    _write_avi(video, 5)
    _write_split(tmp_path, f"{clip}.avi 1\n")
    (track,) = load_jhmdb(str(tmp_path), 1, "train")
    assert track["video_file"] == str(video) and "file_names" not in track
    # Five frames, four joints.
    assert track["frame_numbers"].tolist() == [0, 1, 2, 3]
    assert len(track["keypoints"]) == 4 and (track["height"], track["width"]) == (H, W)
    video.write_bytes(b"no video")
    with pytest.raises(ValueError, match="avi"):
        load_jhmdb(str(tmp_path), 1, "train")
    video.unlink()
    with pytest.raises(FileNotFoundError, match="Rename_Images.*avi"):
        load_jhmdb(str(tmp_path), 1, "train")


def test_v73_files(tmp_path: Path) -> None:
    _write_clip(tmp_path, "a")
    for kind, field, value in (
        ("joint_positions", "pos_img", _positions(3)),
        ("puppet_mask", "part_mask", _masks(3)),
    ):
        with h5py.File(tmp_path / kind / "catch" / "a" / f"{kind}.mat", "w") as file:
            file.create_dataset(field, data=value.T).attrs["MATLAB_class"] = np.bytes_("double")
    _write_split(tmp_path, "a.avi 1\n")
    (track,) = load_jhmdb(str(tmp_path), 1, "train")
    assert track["keypoints"][2, 1].tolist() == [12.5, 20.5, 2]
    assert track["boxes"][2].tolist() == [5.5, 7.5, 22.5, 40.5]
    assert read_masks(track["masks"]).shape == (3, H, W)


def test_split_files(tmp_path: Path) -> None:
    lines = f"b.avi 1\na (1).avi 2\n{ODD_NAME}.avi 1\n\nleft_out.avi 0\n"
    _write_split(tmp_path, lines)
    _write_split(tmp_path, "s.avi 2\n", "shoot_ball_test_split_1.txt")
    _write_split(tmp_path, "other.avi 1\n", "catch_test_split2.txt")
    folder = str(tmp_path / "splits")
    assert read_split(folder, 1, "train") == [("catch", "b"), ("catch", ODD_NAME)]
    assert read_split(folder, 1, "test") == [("catch", "a (1)"), ("shoot_ball", "s")]
    assert read_split(folder, 2, "train") == [("catch", "other")]
    with pytest.raises(FileNotFoundError, match="test_split3"):
        read_split(folder, 3, "train")
    _write_split(tmp_path, "a.avi 1\nb.avi train\n")
    with pytest.raises(ValueError, match="catch_test_split1.txt, line 2.*b.avi train"):
        read_split(folder, 1, "train")


def test_subset_and_image_ids(tmp_path: Path) -> None:
    for clip in "abc":
        _write_clip(tmp_path, clip)
    _write_split(tmp_path, "c.avi 1\nb.avi 2\na.avi 1\n")
    train, test = (load_jhmdb(str(tmp_path), 1, s) for s in ("train", "test"))
    assert [t["video_id"] for t in train] == ["catch/a", "catch/c"]
    assert [t["video_id"] for t in test] == ["catch/b"]
    ids = [i for t in train for i in t["image_ids"].tolist()]
    assert len(set(ids)) == 6


def test_an_image_lacking_in_between_is_an_error(tmp_path: Path) -> None:
    _write_clip(tmp_path, "a")
    _write_split(tmp_path, "a.avi 1\n")
    (tmp_path / "Rename_Images" / "catch" / "a" / "00002.png").unlink()
    with pytest.raises(FileNotFoundError, match="00002.png"):
        load_jhmdb(str(tmp_path), 1, "train")


def test_missing_things_name_path_variable_and_tree(tmp_path: Path) -> None:
    root = tmp_path / "jhmdb"
    with pytest.raises(FileNotFoundError) as error:
        load_jhmdb(str(root), 1, "train")
    for part in (str(root), "DETECTRON2_DATASETS", "puppet_mask/<action>"):
        assert part in str(error.value)
    _write_split(root, "gone.avi 1\n")
    with pytest.raises(FileNotFoundError, match="gone.joint_positions.mat"):
        load_jhmdb(str(root), 1, "train")
    with pytest.raises(FileNotFoundError, match="sub_splits"):
        load_jhmdb(str(root), 1, "train", ("sub_splits",))
    with pytest.raises(ValueError, match="no usable frame"):
        load_jhmdb(str(root), 1, "test")


@pytest.mark.parametrize(
    ("kind", "content", "parts"),
    [
        ("joint_positions", {"pos_world": np.ones((2, 15, 3))}, ["'pos_img'", "pos_world"]),
        ("joint_positions", {"pos_img": np.ones((15, 2, 3))}, ["(2, 15, any)", "(15, 2, 3)"]),
        ("puppet_mask", {"mask": np.ones((H, W, 3))}, ["'part_mask'", "mask"]),
        ("puppet_mask", {"part_mask": np.ones((H, W, 3, 2))}, ["'part_mask'", "(48, 64, 3, 2)"]),
        ("puppet_mask", {"part_mask": np.ones((W, H, 3))}, ["(48, 64)", "(64, 48)"]),
    ],
)
def test_wrong_files_name_file_field_expected_and_got(
    tmp_path: Path, kind: str, content: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(ValueError) as error:
        _one(tmp_path, **{kind: content})
    for part in [f"{kind}.mat", *parts]:
        assert part in str(error.value)


def test_the_real_clips() -> None:
    root = os.environ.get("DETECTRON2_DATASETS")
    if not root or not os.path.isdir(os.path.join(root, "jhmdb", "sub_splits")):
        pytest.skip("no jhmdb/sub_splits under DETECTRON2_DATASETS")
    tracks = load_jhmdb(os.path.join(root, "jhmdb"), 1, "test", ("sub_splits",))
    keypoints = np.concatenate([t["keypoints"] for t in tracks])
    boxes = np.concatenate([t["boxes"] for t in tracks])
    inside = (keypoints[..., :2] > boxes[:, None, :2] - 10) & (
        keypoints[..., :2] < boxes[:, None, 2:] + 10
    )
    assert inside.all(axis=-1).mean() > 0.99


# ---- training clips divided by source video: nothing on both sides, nothing lost, always the same


def _named_clips(action: str, **counts: int) -> list[tuple[str, str]]:
    return [(action, source) for source, count in counts.items() for _ in range(count)]


def test_whole_sources_by_the_order_of_their_hashes() -> None:
    # sha256: "b" 3e23.., "c" 2e7d.., "a" ca97.., "d" 18ac..: taken in the order d, c, b, a.
    clips = _named_clips("run", a=3, b=2, c=4, d=1)
    # 20 % of 10 are 2. d: 1 is closer than 0. c: 5 is further than 1. b: 3 is as far as 1, so not
    # closer. a: 4 is further.
    assert holdout_sources(clips) == {"d"}
    # 40 % are 4. d: 1. c: 5 is closer than 1. b, a: further.
    assert holdout_sources(clips[::-1], 0.4) == {"c", "d"}


def test_each_action_gives_its_share_and_keeps_its_only_source() -> None:
    clips = _named_clips("run", a=1, b=1, c=1, d=1, e=1) + _named_clips("walk", f=7)
    held = holdout_sources(clips)
    # e: 3f79.., so d is still the first of five.
    assert held == {"d"}


def test_a_source_of_several_actions_counts_where_most_of_its_clips_are() -> None:
    # d has 1 clip of run and 4 of walk, so that walk has 5 + 5 + 2 and wants 2.4 of them. d and e
    # bring 5, which is further away than 0 is; g brings 2. Run is left with its only source.
    clips = _named_clips("run", a=1, d=1) + _named_clips("walk", d=4, e=5, g=2)
    assert holdout_sources(clips) == {"g"}


def test_impossible_share() -> None:
    with pytest.raises(ValueError, match="0.6"):
        holdout_sources(_named_clips("run", a=1), 0.6)


@pytest.mark.parametrize(
    ("action", "clip", "expected"),
    [
        ("catch", "Ball_(2)!_catch_u_cm_np1_fr_goo_0", "Ball_(2)!"),
        # The last mention counts: a title may name the action as well.
        ("push", "Box_push_it_push_f_cm_np1_ba_bad_2", "Box_push_it"),
        ("shoot_ball", "Playing_shoot_ball_f_nm_np1_ba_med_6", "Playing"),
        ("run", "a", "a"),
    ],
)
def test_source_video(action: str, clip: str, expected: str) -> None:
    assert source_video(action, clip) == expected


def _require_division(folder: str, split: int) -> tuple[int, int]:
    """(held back, all) clips, after checking that nothing is on both sides and nothing is lost."""
    train, fit, holdout = (select_clips(folder, split, s) for s in ("train", "fit", "holdout"))
    assert sorted(fit + holdout) == sorted(train)
    sources = [{source_video(*clip) for clip in part} for part in (fit, holdout)]
    assert not sources[0] & sources[1]
    return len(holdout), len(train)


def test_parts_of_a_split(tmp_path: Path) -> None:
    for action in ("run", "swing_baseball"):
        names = [f"{s}_{action}_f_cm_np1_ba_med_{i}" for s in "abcde" for i in range(2)]
        lines = [f"{name}.avi 1\n" for name in names] + [f"x_{action}_f_cm_np1_ba_med_0.avi 2\n"]
        (tmp_path / f"{action}_test_split2.txt").write_text("".join(lines))
    assert _require_division(str(tmp_path), 2) == (4, 20)


def test_parts_of_the_real_training_named_clips() -> None:
    folder = os.path.join(os.environ.get("DETECTRON2_DATASETS", ""), "jhmdb", "sub_splits")
    if not os.path.isdir(folder):
        pytest.skip("no jhmdb/sub_splits under DETECTRON2_DATASETS")
    held, clips = _require_division(folder, 1)
    assert 0.15 < held / clips < 0.25
    actions = {action for action, _ in select_clips(folder, 1, "holdout")}
    assert len(actions) >= 10


# ---- split files that contradict themselves or say nothing


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.avi 1\nb.avi 2\na.avi 2\n", "line 3: 'a.avi' is marked 2, but 1 in line 1"),
        ("a.avi 2\na.avi 0\n", "line 2: 'a.avi' is marked 0, but 2 in line 1"),
        ("", "is empty"),
        ("a.avi one\n", "line 1: expected"),
    ],
)
def test_split_files_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "run_test_split1.txt").write_text(text)
    with pytest.raises(ValueError, match=f"run_test_split1.txt.*{words}"):
        read_split(str(tmp_path), 1, "train")


def test_a_split_file_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "run_test_split1.txt").write_bytes(b"caf\xe9.avi 1\n")
    with pytest.raises(ValueError, match="run_test_split1.txt is no text in UTF-8"):
        read_split(str(tmp_path), 1, "train")


def test_a_clip_without_a_row_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="joint_positions.mat: field 'pos_img'"):
        _one(tmp_path, joints=0)


# ---- whole messages and every bound


def _said(call: Any, *arguments: Any) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        call(*arguments)
    return str(error.value)


def test_a_track_as_a_whole(tmp_path: Path) -> None:
    """Of two clips the second by name has the next video's ids; the source is the name's start."""
    for clip in ("b_catch_f_0", "a_catch_f_0"):
        _write_clip(tmp_path, clip, images=1, joints=1, masks=1)
    _write_split(tmp_path, "b_catch_f_0.avi 2\na_catch_f_0.avi 2\n")
    track = load_jhmdb(str(tmp_path), 1, "test")[1]
    arrays = {key: track.pop(key) for key in ("keypoints", "boxes", "labelled", "image_ids")}
    folder = tmp_path / "{}" / "catch" / "b_catch_f_0"
    assert track == {
        "video_id": "catch/b_catch_f_0", "track_id": "0", "height": H, "width": W,
        "file_names": [str(folder).format("Rename_Images") + "/00001.png"], "action": "catch",
        "source_video": "b",
        "masks": {
            "mat_file": str(folder).format("puppet_mask") + "/puppet_mask.mat",
            "field": "part_mask",
        },
    }  # fmt: skip
    assert arrays["image_ids"].tolist() == [1_000_000]
    assert arrays["keypoints"].tolist() == [[[30.5, 40.5, 2], *[[10.5, 20.5, 2]] * 14]]
    assert arrays["boxes"].tolist() == [[5.5, 7.5, 20.5, 40.5]]


def test_messages_of_a_clip_that_does_not_fit(tmp_path: Path) -> None:
    kinds = ("joint_positions", "puppet_mask", "Rename_Images")
    joints, masks, frames = (tmp_path / kind / "catch" / "a" for kind in kinds)
    assert _said(lambda: _one(tmp_path, images=2)) == (
        f"{frames}: 2 frames, but {joints}/joint_positions.mat has joints of 3; frame 3 is missing."
    )
    savemat(masks / "puppet_mask.mat", {"part_mask": np.ones((H, W - 1, 3))})
    assert _said(load_jhmdb, str(tmp_path), 1, "train") == (
        f"{masks}/puppet_mask.mat: field 'part_mask': expected masks of the frames' size "
        f"({H}, {W}) (height, width), got ({H}, {W - 1})."
    )
    savemat(masks / "puppet_mask.mat", {"part_mask": _masks(1)})
    savemat(joints / "joint_positions.mat", {"pos_img": np.zeros((2, 15, 0))})
    assert _said(load_jhmdb, str(tmp_path), 1, "train") == (
        f"{joints}/joint_positions.mat: field 'pos_img': expected at least one frame, got none."
    )
    hidden = {"pos_img": _positions(2), "hidden": np.zeros((15, 3))}
    savemat(joints / "joint_positions.mat", hidden)
    assert "field 'hidden': expected shape (15, 2)" in _said(load_jhmdb, str(tmp_path), 1, "train")
    for file in frames.iterdir():
        file.unlink()
    assert _said(load_jhmdb, str(tmp_path), 1, "train").startswith(f"{frames}/00001.png does not")
    frames.rmdir()
    video = tmp_path / "ReCompress_Videos" / "catch" / "a.avi"
    assert _said(load_jhmdb, str(tmp_path), 1, "train").startswith(
        f"{frames} (nor {video}) does not exist."
    )
    _write_avi(video, 1)
    savemat(joints / "joint_positions.mat", {"pos_img": _positions(2)})
    assert _said(load_jhmdb, str(tmp_path), 1, "train") == (
        f"{video}: 1 frames, but {joints}/joint_positions.mat has joints of 2; frame 2 is missing."
    )
    split = tmp_path / "gone"
    assert _said(load_jhmdb, str(tmp_path), 1, "train", ("gone", "neither")).startswith(
        f"{split} or {tmp_path}/neither does not exist."
    )


def test_the_first_folder_of_split_files_that_exists_is_read(tmp_path: Path) -> None:
    for clip in "ab":
        _write_clip(tmp_path, clip)
    for folder, clip in (("one", "a"), ("two", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "catch_test_split3.txt").write_text(f"{clip}.avi 1\n")
    (tmp_path / "file").touch()
    for folders, clip in (
        (("one", "two"), "a"), (("two", "one"), "b"), (("gone", "file", "two"), "b"),
    ):  # fmt: skip
        (track,) = load_jhmdb(str(tmp_path), 3, "train", folders)
        assert track["video_id"] == f"catch/{clip}"
    assert _said(load_jhmdb, str(tmp_path), 3, "test", ("one",)).startswith(
        f"{tmp_path}/one (split 3, test) has no usable frame: 0 tracks"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", " is empty: expected lines '<clip>.avi 1' or '2'."),
        ("\na.avi 3\n", ", line 2: expected '<clip>.avi 1' (train) or '2' (test), got 'a.avi 3'."),
        (" 1 \n", ", line 1: expected '<clip>.avi 1' (train) or '2' (test), got '1'."),
        ("a.avi1\n", ", line 1: expected '<clip>.avi 1' (train) or '2' (test), got 'a.avi1'."),
        ("\n\na.avi 1\nb.avi 1\n a  2\n",
         ", line 5: 'a' is marked 2, but 1 in line 3: a clip is of one part only."),
    ],
)  # fmt: skip
def test_lines_of_split_files_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "run_test_split1.txt"
    path.write_text(text)
    assert _said(read_split, str(tmp_path), 1, "train") == f"{path}{words}"
    path.unlink()
    assert _said(read_split, str(tmp_path), 1, "train").startswith(
        f"{tmp_path}/<action>_test_split1.txt does not exist."
    )


def test_lines_that_say_a_thing_again_or_nothing(tmp_path: Path) -> None:
    (tmp_path / "run_test_split12.txt").write_text("z.avi 1\n")
    (tmp_path / "a_b_test_split2.txt").write_text("a b.avi  1\n\n \nc 1\na b.avi 1\nd.avi 2\n")
    assert read_split(str(tmp_path), 2, "train") == [("a_b", "a b"), ("a_b", "c")]
    assert read_split(str(tmp_path), 2, "test") == [("a_b", "d")]


@pytest.mark.parametrize(
    "masks",
    [
        np.array([[0, 0.5], [-1, 0]]), np.array([[False, True], [True, False]]),
        np.array([[[0], [200]], [[1], [0]]], np.uint8), np.array([[0, -1], [7, 0]], np.int16),
    ],
)  # fmt: skip
def test_whatever_is_not_zero_is_of_the_person(tmp_path: Path, masks: np.ndarray) -> None:
    savemat(tmp_path / "m.mat", {"m": masks})
    found = read_masks({"mat_file": str(tmp_path / "m.mat"), "field": "m"})
    assert found.tolist() == [[[False, True], [True, False]]] and found.dtype == bool


@pytest.mark.parametrize("masks", [np.ones((2, 2), complex), np.ones((1, 2, 2, 2)), "text"])
def test_masks_that_are_none(tmp_path: Path, masks: Any) -> None:
    savemat(tmp_path / "m.mat", {"m": masks})
    with pytest.raises(ValueError, match="field 'm': expected"):
        read_masks({"mat_file": str(tmp_path / "m.mat"), "field": "m"})


def test_joints_on_the_borders_of_the_image(tmp_path: Path) -> None:
    positions = _positions(1)
    # Continuous 0 and just below the size are inside; below 0 and the size itself are not.
    for joint, point in enumerate([(0.5, 0.5), (0.25, 9), (9, 0.25), (W + 0.5, 9), (9, H + 0.5),
                                   (W + 0.25, H + 0.25)]):  # fmt: skip
        positions[:, joint, 0] = point
    track = _one(tmp_path, images=1, masks=1, joint_positions={"pos_img": positions})
    assert track["keypoints"][0, :6, 2].tolist() == [2, 1, 1, 1, 1, 2]


def test_frames_are_taken_by_their_numbers(tmp_path: Path) -> None:
    _write_clip(tmp_path, "a", images=0, joints=10, masks=10)
    _write_split(tmp_path, "a.avi 1\n")
    folder = tmp_path / "Rename_Images" / "catch" / "a"
    for number in range(1, 13):
        Image.new("RGB", (W, H)).save(folder / f"{number}.png")
    Image.new("RGB", (W, H)).save(folder / "x1.png")
    (track,) = load_jhmdb(str(tmp_path), 1, "train")
    assert track["file_names"] == [str(folder / f"{number}.png") for number in range(1, 11)]
    (folder / "12.png").unlink()
    assert len(load_jhmdb(str(tmp_path), 1, "train")) == 1
    for number in (3, 2):
        (folder / f"{number}.png").unlink()
    assert _said(load_jhmdb, str(tmp_path), 1, "train").startswith(f"{folder}/00002.png does not")


@pytest.mark.parametrize("share", [-0.1, 0, 0.51])
def test_shares_that_can_not_be_held_back(share: float) -> None:
    assert _said(holdout_sources, [], share) == (
        f"the share held back must be above 0 and at most 0.5, got {share}"
    )


def test_half_of_the_clips_can_be_held_back() -> None:
    assert holdout_sources([], 0.5) == set()
    # Hashes order d, c, b, a: one of two.
    assert holdout_sources(_named_clips("run", a=1, d=1), 0.5) == {"d"}
    assert holdout_sources(_named_clips("run", a=1, b=2, c=1, d=2), 0.5) == {"c", "d"}


def test_a_source_of_two_actions_alike_counts_for_the_first_by_name() -> None:
    # d counts for run, whose 4 clips want 1.6: d's 2 are closer than 0. Walk is left with e.
    clips = _named_clips("walk", d=1, e=3) + _named_clips("run", d=1, a=2)
    assert holdout_sources(clips, 0.4) == {"d"}
    # Counted for walk, d and e would be 5, which want 2.
    assert holdout_sources(
        _named_clips("walk", d=1, e=3) + _named_clips("zoom", d=1, a=2), 0.4
    ) == {"d"}
