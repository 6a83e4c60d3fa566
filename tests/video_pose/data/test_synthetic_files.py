"""Synthetic datasets on disk: fixed bytes, reuse, and what the real loaders read back."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import loadmat

from video_pose.data.datasets.bbc_pose import load_bbc_pose
from video_pose.data.datasets.coco_video import load_video_keypoints
from video_pose.data.datasets.jhmdb import load_jhmdb, read_masks
from video_pose.data.datasets.penn_action import load_penn_action
from video_pose.data.frame_reader import FrameReader
from video_pose.data.synthetic.body import JOINTS
from video_pose.data.synthetic.dataset import SyntheticOptions, make_dataset
from video_pose.data.synthetic.plan import (
    VideoPlan,
    inspect_folder,
    plan_videos,
    write_manifest,
)
from video_pose.data.synthetic.scene import PersonTrack, render_scene
from video_pose.data.synthetic.writers import (
    JHMDB_JOINTS,
    PENN_JOINTS,
    JHMDBClip,
    _penn_labels,
    jhmdb_clip_name,
    write_jhmdb_splits,
    write_mat,
)

TOOL = Path(__file__).resolve().parents[3] / "tools" / "make_synthetic.py"


def _options(
    form: str, videos: int = 3, test_videos: int = 1, **changes: object
) -> SyntheticOptions:
    values = {"frames": (4, 6), "size": (96, 72), "seed": 5, **changes}
    return SyntheticOptions(form, videos, test_videos, **values)


def _digests(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _make(root: Path, *arguments: object, **changes: object) -> SyntheticOptions:
    options = _options(*arguments, **changes)
    assert make_dataset(root, options, workers=1)
    return options


def test_mat_files_hold_no_date(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    write_mat(path, {"x": np.arange(3.0)})
    header = path.read_bytes()[:116]
    assert header.startswith(b"MATLAB 5.0") and b"Created on" not in header
    np.testing.assert_array_equal(loadmat(path)["x"], [[0, 1, 2]])


@pytest.mark.parametrize("form", ["jhmdb", "penn_action", "bbc_pose", "coco_video"])
def test_the_seed_fixes_every_byte_also_in_other_processes(form: str, tmp_path: Path) -> None:
    options = _make(tmp_path / "here", form)
    command = [sys.executable, str(TOOL), "--format", form, "--out", str(tmp_path / "there")]
    command += "--videos 3 --test-videos 1 --frames 4 6 --size 96 72 --seed 5 --workers 2".split()
    command += ["--people", "1"] if form == "coco_video" else []
    subprocess.run(command, check=True, capture_output=True)
    digests = _digests(tmp_path / "here")
    assert digests == _digests(tmp_path / "there")
    assert len(digests) > options.videos
    _make(tmp_path / "other", form, seed=6)
    assert digests != _digests(tmp_path / "other")


def test_video_files_are_fixed_too_and_decode_to_the_frames(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _make(tmp_path / name, "jhmdb", frames_as="avi", frames=(15, 18))
    assert _digests(tmp_path / "a") == _digests(tmp_path / "b")
    track = load_jhmdb(str(tmp_path / "a"), 1, "train")[0]
    plan = _plans("jhmdb", frames=(15, 18))
    scenes = {jhmdb_clip_name(p): render_scene(p.seed, **p.scene_arguments()) for p in plan}
    frames = scenes[Path(track["video_file"]).stem].frames
    decoded = FrameReader(1 << 24, "BGR").read(track, list(range(len(frames))))
    assert len(decoded) == len(frames)
    for ours, theirs in zip(decoded, frames):
        assert np.abs(ours.astype(int) - theirs).mean() < 8


def test_a_second_run_keeps_what_is_there_and_repairs_what_is_not(tmp_path: Path) -> None:
    options = _make(tmp_path, "jhmdb")
    digests = _digests(tmp_path)
    assert not make_dataset(tmp_path, options, workers=1)
    next(tmp_path.rglob("*.png")).unlink()
    assert make_dataset(tmp_path, options, workers=1)
    assert _digests(tmp_path) == digests


def test_other_arguments_need_force_and_foreign_folders_are_never_touched(tmp_path: Path) -> None:
    _make(tmp_path / "set", "jhmdb")
    other = _options("penn_action")
    with pytest.raises(FileExistsError, match="--force"):
        make_dataset(tmp_path / "set", other, workers=1)
    assert make_dataset(tmp_path / "set", other, force=True, workers=1)
    assert not (tmp_path / "set" / "Rename_Images").exists()
    assert (tmp_path / "set" / "labels" / "0001.mat").is_file()
    foreign = tmp_path / "mine" / "frames" / "precious.jpg"
    foreign.parent.mkdir(parents=True)
    foreign.touch()
    with pytest.raises(FileExistsError, match="left alone"):
        make_dataset(tmp_path / "mine", other, force=True, workers=1)
    assert foreign.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"form": "mpii"}, "format='mpii'.*jhmdb"),
        ({"form": "penn_action", "frames_as": "avi"}, "frames_as='avi'"),
        ({"form": "jhmdb", "videos": 0}, "videos=0"),
        ({"form": "jhmdb", "frames": (9, 4)}, r"frames=\(9, 4\)"),
        ({"form": "jhmdb", "size": (97, 72)}, r"size=\(97, 72\)"),
        ({"form": "jhmdb", "occluders": "some"}, "occluders='some'.*heavy"),
        ({"form": "jhmdb", "people": 2}, "people=2"),
    ],
)
def test_impossible_options_are_refused(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        make_dataset(tmp_path, _options(**changes), workers=1)


def _plans(form: str, videos: int = 3, test_videos: int = 1, frames: tuple = (4, 6)) -> list:
    parts = {"train": videos, "test": test_videos}
    if form == "bbc_pose":
        parts["val"] = (test_videos + 1) // 2
    return plan_videos(parts, frames=frames, size=(96, 72), seed=5, occluders="light")


def test_jhmdb_reads_back_joints_boxes_and_masks(tmp_path: Path) -> None:
    _make(tmp_path, "jhmdb")
    plans = {jhmdb_clip_name(p): p for p in _plans("jhmdb")}
    tracks = load_jhmdb(str(tmp_path), 1, "train")
    assert len(tracks) == 3 and len(load_jhmdb(str(tmp_path), 1, "test")) == 1
    order = [JOINTS.index(name) for name in JHMDB_JOINTS]
    for track in tracks:
        name = Path(track["file_names"][0]).parent.name
        scene = render_scene(plans[name].seed, **plans[name].scene_arguments())
        person = scene.people[0]
        # The very coordinates: a shift by half a pixel on the way would show.
        np.testing.assert_allclose(track["keypoints"][..., :2], person.joints[:, order], atol=1e-3)
        hidden = person.covered | ~person.inside
        np.testing.assert_array_equal(track["keypoints"][..., 2] == 1, hidden[:, order])
        np.testing.assert_allclose(track["boxes"], person.boxes)
        masks = read_masks(track["masks"])
        assert masks.any() and person.masks.sum() == (masks > 0).sum()
        np.testing.assert_array_equal(cv2.imread(track["file_names"][1]), scene.frames[1])


def test_jhmdb_has_awkward_names_and_clips_with_less(tmp_path: Path) -> None:
    _make(tmp_path, "jhmdb", videos=12)
    names = "".join(p.name for p in (tmp_path / "joint_positions").glob("*/*"))
    assert all(mark in names for mark in "!('@\"&[")
    lengths = {}
    for path in (tmp_path / "joint_positions").glob("*/*/*.mat"):
        clip = path.parent.relative_to(tmp_path / "joint_positions")
        images = len(list((tmp_path / "Rename_Images" / clip).iterdir()))
        masks = loadmat(tmp_path / "puppet_mask" / clip / "puppet_mask.mat")["part_mask"].shape[2]
        lengths[str(clip)] = (loadmat(path)["pos_img"].shape[2] - images, masks - images)
    assert (-1, 0) in lengths.values() and (0, -1) in lengths.values()
    # Three splits, and a part of the clips (those inside the frame) in sub_splits.
    assert len(list((tmp_path / "splits").iterdir())) == 3 * 12
    listed = [p.read_text().count(".avi") for p in (tmp_path / "sub_splits").iterdir()]
    assert 0 < sum(listed) < 3 * 13


def test_splits_rotate_the_test_clips(tmp_path: Path) -> None:
    clips = [JHMDBClip("walk", n, n == "a", n != "b") for n in "abc"]
    write_jhmdb_splits(tmp_path, clips)

    def read(folder: str, split: int) -> str:
        return (tmp_path / folder / f"walk_test_split{split}.txt").read_text()

    assert read("splits", 1) == "a.avi 2\nb.avi 1\nc.avi 1\n"
    assert read("splits", 2) == "a.avi 1\nb.avi 1\nc.avi 2\n"
    assert read("splits", 3) == "a.avi 1\nb.avi 2\nc.avi 1\n"
    assert read("sub_splits", 1) == "a.avi 2\nc.avi 1\n"


def test_penn_action_reads_back_joints_and_visibility(tmp_path: Path) -> None:
    _make(tmp_path, "penn_action")
    tracks = load_penn_action(str(tmp_path), "train")
    assert len(tracks) == 3 and len(load_penn_action(str(tmp_path), "test")) == 1
    order = [JOINTS.index(name) for name in PENN_JOINTS]
    # The third video's coordinates are rounded.
    for track, plan, error in zip(tracks, _plans("penn_action"), (1e-3, 1e-3, 0.501)):
        person = render_scene(plan.seed, **plan.scene_arguments()).people[0]
        np.testing.assert_allclose(track["keypoints"][..., :2], person.joints[:, order], atol=error)
        visible = np.where(person.visible[:, order], 2, 1)
        np.testing.assert_array_equal(track["keypoints"][..., 2], visible)
        np.testing.assert_allclose(track["boxes"], person.boxes)


def test_penn_action_has_the_defects_of_the_real_files(tmp_path: Path) -> None:
    _make(tmp_path, "penn_action", videos=12, size=(320, 240))
    labels = [loadmat(p) for p in sorted((tmp_path / "labels").iterdir())]
    assert labels[0]["nframes"].dtype == np.uint8
    assert {label["x"].dtype.kind for label in labels} == {"f", "u"}
    short = [len(label["bbox"]) - len(label["x"]) for label in labels]
    assert short[6] == -1 and sum(short) == -1
    areas = [(label["bbox"][:, 2:] - label["bbox"][:, :2]).prod(axis=1).min() for label in labels]
    assert areas[9] == 0 and areas[0] > 0
    assert [int(label["train"].item()) for label in labels] == [1] * 12 + [-1]
    assert sum(len(load_penn_action(str(tmp_path), part)) for part in ("train", "test")) == 13


def test_bbc_pose_reads_back_labelled_frames(tmp_path: Path) -> None:
    _make(tmp_path, "bbc_pose", frames=(8, 12))
    for part, count in (("train", 3), ("val", 1), ("test", 1)):
        tracks = load_bbc_pose(str(tmp_path), part, None)
        assert len(tracks) == count
        for track in tracks:
            labelled = track["labelled"]
            assert labelled.any() and len(track["file_names"]) == len(labelled)
            # Manual labels are a third of the frames; the second training video has gaps.
            if part != "train":
                assert labelled.mean() < 0.5
            points = track["keypoints"][labelled]
            assert points.shape[1:] == (7, 3) and (points[..., 2] > 0).all()
    numbers = [int(p.stem) for p in (tmp_path / "1").iterdir()]
    assert max(numbers) - min(numbers) >= len(numbers)


def test_coco_video_reads_back_tracks(tmp_path: Path) -> None:
    options = _make(tmp_path, "coco_video", 1, 1, people=3, occluders="none")
    path = tmp_path / "annotations" / "train.json"
    tracks = load_video_keypoints(str(path), str(tmp_path), list(JOINTS))
    assert sorted(track["track_id"] for track in tracks) == ["0", "1", "2"]
    plan = plan_videos(
        {"train": 1, "test": 1}, frames=(4, 6), size=(96, 72), seed=5, occluders="none"
    )
    arguments = {**plan[0].scene_arguments(), "action": None}
    people = render_scene(plan[0].seed, people=options.people, **arguments).people
    for track, person in zip(tracks, people):
        points, known = track["keypoints"][..., :2], track["keypoints"][..., 2] > 0
        np.testing.assert_array_equal(known, person.inside)
        np.testing.assert_allclose(points[known], person.joints[known], atol=2e-3)
    content = json.loads(path.read_text())
    for n, image in enumerate(content["images"]):
        assert image == {
            "id": 100_000 + n, "video_file": "videos/0001.mp4", "video_id": 1, "frame_id": n,
            "frame_index": n, "height": 72, "width": 96,
        }  # fmt: skip
    assert len(content["images"]) == plan[0].frames
    ids = [(a["id"], a["image_id"], a["track_id"]) for a in content["annotations"]]
    frames = range(100_000, 100_000 + plan[0].frames)
    assert ids == [(frame * 100 + track, frame, track) for frame in frames for track in range(3)]
    # Numbers of videos go on in the next part.
    later = json.loads((tmp_path / "annotations" / "test.json").read_text())["images"][0]
    assert (later["id"], later["video_file"], later["video_id"]) == (200_000, "videos/0002.mp4", 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"form": "jhmdb", "frames_as": "gif"}, "frames_as='gif'"),
        ({"form": "coco_video", "people": 0}, "people=0"),
        ({"form": "jhmdb", "test_videos": -1}, "test_videos=-1"),
        ({"form": "jhmdb", "frames": (1, 4)}, r"frames=\(1, 4\): expected 2 <= shortest"),
        ({"form": "jhmdb", "size": (62, 72)}, r"size=\(62, 72\)"),
        ({"form": "jhmdb", "size": (72, 62)}, r"size=\(72, 62\)"),
        ({"form": "jhmdb", "size": (72, 65)}, r"size=\(72, 65\)"),
    ],
)
def test_each_option_is_held_to_its_range(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _options(**changes).check()


@pytest.mark.parametrize(
    "changes",
    [
        {"form": "jhmdb", "frames_as": "avi", "videos": 1, "test_videos": 0},
        {"form": "coco_video", "people": 5, "size": (64, 64)},
        {"form": "penn_action", "frames": (2, 2), "people": 1},
        {"form": "bbc_pose", "occluders": "blocking"},
    ],
)
def test_bounds_of_options_are_taken(changes: dict) -> None:
    _options(**changes).check()


def test_an_older_version_and_a_lost_file_are_written_anew(tmp_path: Path) -> None:
    """The manifest tells arguments, version, and how many files of how many bytes there are."""
    arguments = {"a": (1, 2)}
    assert inspect_folder(tmp_path / "x", arguments) == "nothing"
    (tmp_path / "x").mkdir()
    assert inspect_folder(tmp_path / "x", arguments) == "nothing"
    (tmp_path / "x" / "f").write_bytes(b"123")
    write_manifest(tmp_path / "x", arguments, complete=False)
    assert inspect_folder(tmp_path / "x", arguments) == "part"
    write_manifest(tmp_path / "x", arguments, complete=True)
    assert inspect_folder(tmp_path / "x", arguments) == "complete"
    assert inspect_folder(tmp_path / "x", {"a": (1, 3)}) == "other"
    file = tmp_path / "x" / "synthetic.json"
    manifest = json.loads(file.read_text())
    assert file.read_text() == json.dumps(manifest, indent=2) + "\n"  # for reading
    assert manifest["inventory"] == {"files": 1, "bytes": 3}
    assert manifest["arguments"] == {"a": [1, 2]}
    file.write_text(json.dumps({**manifest, "hash": "0"}))
    assert inspect_folder(tmp_path / "x", arguments) == "part"
    write_manifest(tmp_path / "x", arguments, complete=True)
    for content in (b"1234", b"12"):
        (tmp_path / "x" / "f").write_bytes(content)
        assert inspect_folder(tmp_path / "x", arguments) == "part"


PENN = {
    # Index of the video -> (frames of its box, whether joints are at (1, 1), kind of coordinates).
    0: (4, False, "f"), 2: (4, False, "u"), 3: (4, True, "f"), 6: (3, False, "f"),
    7: (4, False, "u"), 9: (4, False, "f"),
}  # fmt: skip


@pytest.mark.parametrize("index", PENN)
def test_which_videos_of_penn_have_which_defect(index: int) -> None:
    joints = np.arange(4 * 15 * 2, dtype=float).reshape(4, 15, 2) + 3
    inside = np.ones((4, 15), bool)
    inside[:, :3] = False
    person = PersonTrack(
        "walk", joints, inside, ~inside, inside, np.ones((4, 8, 8), bool),
        np.tile([0.5, 0.5, 7.5, 6.5], (4, 1)), np.ones(4),
    )  # fmt: skip
    plan = VideoPlan(index, "test" if index == 7 else "train", "walk", 4, (96, 72), "none", (0,))
    labels = _penn_labels(plan, person)
    boxes, at_one, kind = PENN[index]
    assert len(labels["bbox"]) == boxes and labels["x"].dtype.kind == kind
    corner = (labels["x"] == 1) & (labels["y"] == 1)
    assert bool(corner.any()) == at_one and corner.sum() == 4 * at_one
    assert labels["train"] == (-1 if index == 7 else 1)
    assert labels["dimensions"].tolist() == [[72, 96, 4]] and labels["nframes"].dtype == np.uint8
    flat = (labels["bbox"][:, 2:] == labels["bbox"][:, :2]).all(axis=1)
    assert flat.tolist() == [False] * 2 + [index == 9] + [False] * (boxes - 3)
    assert labels["bbox"][0].tolist() == [1, 1, 8, 7]
