"""Synthetic datasets on disk: fixed bytes, reuse, and what the real loaders read back."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from scipy.io import loadmat

from video_pose.data.datasets.bbc_pose import load_bbc_pose
from video_pose.data.datasets.coco_video import load_video_keypoints
from video_pose.data.datasets.jhmdb import load_jhmdb, read_masks
from video_pose.data.datasets.penn_action import load_penn_action
from video_pose.data.frame_reader import FrameReader
from video_pose.data.synthetic import dataset, writers
from video_pose.data.synthetic.body import JOINTS
from video_pose.data.synthetic.dataset import SyntheticOptions, make_dataset
from video_pose.data.synthetic.plan import (
    VideoPlan,
    inspect_folder,
    plan_videos,
    write_manifest,
)
from video_pose.data.synthetic.scene import PersonTrack, Scene, render_scene
from video_pose.data.synthetic.writers import (
    BBC_JOINTS,
    JHMDB_JOINTS,
    PENN_JOINTS,
    BBCEntry,
    CocoVideo,
    JHMDBClip,
    _as_integers,
    _coco_person,
    _jhmdb_positions,
    _penn_labels,
    finish_bbc,
    finish_coco,
    jhmdb_clip_name,
    write_bbc_video,
    write_coco_video,
    write_image,
    write_jhmdb_clip,
    write_jhmdb_splits,
    write_mat,
    write_penn_video,
    write_video,
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
    # 116 bytes of text, 8 of none, version 1.0, and the mark of the byte order.
    text = b"MATLAB 5.0 MAT-file, synthetic video pose" + 75 * b" "
    assert path.read_bytes()[:128] == text + bytes(8) + b"\x00\x01IM"
    np.testing.assert_array_equal(loadmat(path)["x"], [[0, 1, 2]])
    write_mat(path, {"x": np.zeros(10_000)})  # 80 kB, compressed
    assert path.stat().st_size < 1000


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
    7: (4, False, "u"), 9: (4, False, "f"), 16: (3, False, "f"), 19: (4, True, "f"),
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
    assert flat.tolist() == [False] * 2 + [index in (9, 19)] + [False] * (boxes - 3)
    assert labels["bbox"][0].tolist() == [1, 1, 8, 7]


# ---- files of a scene that is known: which video has which surprise, and every number


def _person(frames: int = 4, **changes: Any) -> PersonTrack:
    """Joint k of frame n at (20 + k, 10 + n), all visible; a silhouette of 2 x 3 px at (5, 6)."""
    joints = np.zeros((frames, 15, 2))
    joints[..., 0], joints[..., 1] = 20 + np.arange(15), 10 + np.arange(frames)[:, None]
    masks = np.zeros((frames, 40, 80), bool)
    masks[:, 6:9, 5:7] = True
    yes = np.ones((frames, 15), bool)
    values = {
        "action": "walk", "joints": joints, "visible": yes, "covered": ~yes, "inside": yes,
        "masks": masks, "boxes": np.tile([5.5, 6.5, 6.5, 8.5], (frames, 1)),
        "scale": np.full(frames, 100.0), **changes,
    }  # fmt: skip
    return PersonTrack(**values)


def _plan(index: int, part: str = "train", frames: int = 4) -> VideoPlan:
    return VideoPlan(index, part, "walk", frames, (80, 40), "none", (9, index))


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """What was asked to be rendered; given is one person, or as many as were asked for."""
    calls: list[tuple[Any, dict[str, Any]]] = []

    def render(seed: Any, **arguments: Any) -> Scene:
        calls.append((seed, arguments))
        count = arguments["frames"]
        pictures = np.full((count, 40, 80, 3), 90, np.uint8)
        pictures[:, 0, 0] = np.arange(count)[:, None]
        return Scene(pictures, [_person(count)] * arguments.get("people", 1))

    monkeypatch.setattr(writers, "render_scene", render)
    return calls


def test_fields_of_jhmdbs_joints() -> None:
    """World coordinates: from the middle, in heights of the frame, by a scale of 200 px."""
    scene = Scene(np.zeros((2, 40, 80, 3), np.uint8), [])
    joints = np.full((2, 15, 2), (39.5, 9.5))
    joints[1, 3] = 79.5, 39.5
    found = _jhmdb_positions(joints, np.array([100.0, 400.0, 7.0]), scene, "walk")
    assert found.keys() == {"pos_img", "pos_world", "scale", "viewpoint", "action"}
    assert found["pos_img"].shape == (2, 15, 2) and found["scale"].tolist() == [[0.5, 2.0]]
    assert found["pos_img"][:, 0, 0].tolist() == [40, 10]
    assert found["pos_img"][:, 3, 1].tolist() == [80, 40]
    # (40, 10) is (0, -1/4) from the middle; (80, 40) is (1/2, 1/2), in widths and heights.
    assert found["pos_world"][:, 0, 0].tolist() == [0, -0.5]
    assert found["pos_world"][:, 3, 1].tolist() == [0.5, 0.25]
    assert (found["viewpoint"], found["action"]) == ("S", "walk")


@pytest.mark.parametrize(
    ("index", "framing", "masks", "joints"),
    [
        (0, "whole", 4, 4), (7, "cut", 4, 4), (8, "whole", 3, 4), (11, "whole", 4, 3),
        (12, "whole", 4, 4), (19, "cut", 4, 4), (23, "whole", 3, 4), (26, "whole", 4, 3),
    ],
)  # fmt: skip
def test_which_clips_of_jhmdb_have_which_surprise(
    tmp_path: Path, rendered: list, index: int, framing: str, masks: int, joints: int
) -> None:
    clip = write_jhmdb_clip(tmp_path, _plan(index, "test"))
    assert rendered == [
        ((9, index), {"framing": framing, "frames": 4, "size": (80, 40), "action": "walk",
                      "occluders": "none"})
    ]  # fmt: skip
    assert clip == JHMDBClip("walk", jhmdb_clip_name(_plan(index)), True, True)
    assert f"_{index}_walk_f_cm_np1_fr_med_0" in clip.name
    labels = loadmat(tmp_path / "joint_positions" / "walk" / clip.name / "joint_positions.mat")
    assert labels["pos_img"].shape == (2, 15, joints) and labels["hidden"].shape == (15, joints)
    # "neck" is the second of the body's joints: x 21; the frames go on in y.
    assert labels["pos_img"][:, 0].T.tolist() == [[21.5, 10.5 + n] for n in range(joints)]
    assert labels["hidden"].dtype == np.uint8 and not labels["hidden"].any()
    found = loadmat(tmp_path / "puppet_mask" / "walk" / clip.name / "puppet_mask.mat")["part_mask"]
    assert found.shape == (40, 80, masks) and found.dtype == np.uint8
    assert np.argwhere(found[..., 0]).tolist() == [[y, x] for y in (6, 7, 8) for x in (5, 6)]
    folder = tmp_path / "Rename_Images" / "walk" / clip.name
    assert sorted(p.name for p in folder.iterdir()) == [f"0000{n}.png" for n in (1, 2, 3, 4)]
    assert cv2.imread(str(folder / "00003.png"))[0, 0].tolist() == [2, 2, 2]


def test_a_clip_with_a_joint_outside_or_covered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, covered = np.ones((4, 15), bool), np.zeros((4, 15), bool)
    inside[3, 0], covered[1, JOINTS.index("left_ankle")] = False, True
    person = _person(inside=inside, covered=covered)
    scene = Scene(np.zeros((4, 40, 80, 3), np.uint8), [person])
    monkeypatch.setattr(writers, "render_scene", lambda *_, **__: scene)
    clip = write_jhmdb_clip(tmp_path, _plan(0), "avi")
    assert not clip.whole and not clip.is_test
    labels = loadmat(tmp_path / "joint_positions" / "walk" / clip.name / "joint_positions.mat")
    assert np.argwhere(labels["hidden"]).tolist() == [[JHMDB_JOINTS.index("left_ankle"), 1]]
    assert [p.name for p in tmp_path.rglob("*.avi")] == [f"{clip.name}.avi"]
    assert not (tmp_path / "Rename_Images").exists()


def test_names_of_clips_repeat_their_stems() -> None:
    names = [jhmdb_clip_name(_plan(index)) for index in (0, 5, 6)]
    assert names == [
        "film_scene_0_walk_f_cm_np1_fr_med_0", "A&B_[HD]_5_walk_f_cm_np1_fr_med_0",
        "film_scene_6_walk_f_cm_np1_fr_med_0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("index", "framing"), [(0, "whole"), (4, "cut"), (9, "whole"), (13, "cut")]
)
def test_files_of_a_penn_video(tmp_path: Path, rendered: list, index: int, framing: str) -> None:
    write_penn_video(tmp_path, _plan(index))
    assert [arguments["framing"] for _, arguments in rendered] == [framing]
    name = f"{index + 1:04d}"
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")) == [
        *(f"frames/{name}/00000{n}.jpg" for n in (1, 2, 3, 4)), f"labels/{name}.mat",
    ]  # fmt: skip


def test_labels_of_a_penn_video_as_a_whole() -> None:
    visible = np.ones((4, 15), bool)
    visible[2, JOINTS.index("left_wrist")] = False
    labels = _penn_labels(_plan(0), _person(visible=visible))
    order = [JOINTS.index(name) for name in PENN_JOINTS]
    assert labels["x"].tolist() == [[20.5 + k for k in order]] * 4
    assert labels["y"].tolist() == [[10.5 + n] * 13 for n in range(4)]
    assert np.argwhere(labels["visibility"] == 0).tolist() == [[2, PENN_JOINTS.index("left_wrist")]]
    assert labels["visibility"].dtype == np.uint8 and labels["bbox"].tolist() == [[6, 7, 7, 9]] * 4
    assert (labels["action"], labels["pose"], labels["train"]) == ("walk", "other", 1)
    # A counter as the real files have it: of a byte while it fits.
    for frames, kind in ((255, np.uint8), (256, np.uint16)):
        count = _penn_labels(_plan(0, frames=frames), _person(frames))["nframes"]
        assert count == frames and count.dtype == kind


def test_joints_that_penn_does_not_annotate() -> None:
    """In every eighth video: hidden ones beyond the frame are at (1, 1), all others stay."""
    visible, inside = np.ones((4, 15), bool), np.ones((4, 15), bool)
    for k, name in enumerate(("head", "left_hip", "right_hip")):
        place = JOINTS.index(name)
        visible[0, place], inside[0, place] = k == 1, k == 2
    person = _person(visible=visible, inside=inside)
    for index, unannotated in ((3, ["head"]), (11, ["head"]), (4, [])):
        labels = _penn_labels(_plan(index), person)
        places = np.argwhere((labels["x"] == 1) & (labels["y"] == 1)).tolist()
        assert places == [[0, PENN_JOINTS.index(name)] for name in unannotated]
        assert (labels["x"] == 1).sum() == (labels["y"] == 1).sum() == len(unannotated)


@pytest.mark.parametrize(
    ("values", "expected", "kind"),
    [
        ([-3.2, 0.4, 254.6], [0, 0, 255], np.uint8), ([1.6, 255.6], [2, 256], np.uint16),
        ([-0.6], [0], np.uint8),
    ],
)  # fmt: skip
def test_coordinates_stored_as_small_integers(
    values: list[float], expected: list[int], kind: type
) -> None:
    found = _as_integers(np.array(values))
    assert found.tolist() == expected and found.dtype == kind


@pytest.mark.parametrize(
    ("index", "part", "frames", "annotated"),
    [
        (0, "train", 6, [0, 1, 2, 3, 4, 5]), (2, "train", 3, [0, 1, 2]), (1, "val", 7, [2, 5]),
        (4, "test", 3, [2]), (4, "test", 2, [0, 1]),
    ],
)  # fmt: skip
def test_which_frames_of_bbc_are_annotated(
    tmp_path: Path, rendered: list, index: int, part: str, frames: int, annotated: list[int]
) -> None:
    entry = write_bbc_video(tmp_path, _plan(index, part, frames))
    ((seed, arguments),) = rendered
    assert (seed, arguments["framing"], arguments["action"]) == ((9, index), "bust", None)
    numbers = sorted(int(path.stem) for path in (tmp_path / str(index + 1)).iterdir())
    assert len(numbers) == frames and set(np.diff(numbers)) <= {1, 3} and 1 < numbers[0] < 503
    assert (entry.name, entry.part) == (str(index + 1), part)
    assert entry.frames.tolist() == [numbers[i] for i in annotated]
    x = [[20.5 + JOINTS.index(name)] * len(annotated) for name in BBC_JOINTS]
    assert entry.joints.tolist() == [x, [[10.5 + i for i in annotated]] * 7]


def test_gaps_and_frames_without_labels_of_bbc(tmp_path: Path, rendered: list) -> None:
    """About one gap of two frames in eight; every fourth training video has 7 of 10 labels."""
    entries = [write_bbc_video(tmp_path / str(i), _plan(i, frames=40)) for i in (1, 5, 0)]
    assert [len(entry.frames) for entry in entries] == [29, 27, 40]
    folders = [tmp_path / str(i) / str(i + 1) for i in (1, 5, 0)]
    numbers = [sorted(int(path.stem) for path in folder.iterdir()) for folder in folders]
    assert [(n[0], n[-1], sum(n)) for n in numbers] == [
        (435, 486, 18396),
        (269, 312, 11652),
        (388, 437, 16452),
    ]


def test_the_table_of_bbc(tmp_path: Path) -> None:
    entries = [
        BBCEntry("1", "train", np.array([4, 6]), np.ones((2, 7, 2))),
        BBCEntry("2", "val", np.array([9]), np.zeros((2, 7, 1))),
    ]
    finish_bbc(tmp_path, entries)
    table = loadmat(tmp_path / "bbcpose.mat")["bbcpose"]
    assert table.shape == (1, 2) and table.dtype.names == (
        "videoName", "type", "source", "train_frames", "train_joints", "test_frames", "test_joints",
    )  # fmt: skip
    first, second = table[0]
    assert [first[i].item() for i in range(3)] == ["1", "train", "synthetic"]
    assert first[3].tolist() == [[4, 6]] and first[4].shape == (2, 7, 2)
    assert first[5].shape == (1, 0) and first[6].shape == (2, 7, 0)
    assert second[1].item() == "val" and second[3].shape == (1, 0) and second[4].size == 0
    assert second[5].tolist() == [[9]] and second[6].shape == (2, 7, 1)


def test_a_person_as_coco_counts() -> None:
    """Pixel indices; a box along the outer edges; 2 visible, 1 hidden, 0 outside the frame."""
    visible, inside = np.ones((2, 15), bool), np.ones((2, 15), bool)
    visible[1, 1:3], inside[1, 2:4] = False, False
    joints = _person(2).joints
    joints[1, 0] = 20.12345, 11.9
    found = _coco_person(_person(2, joints=joints, visible=visible, inside=inside), 1)
    segmentation = found.pop("segmentation")
    points = [[20.5 + k - 1, 10.5, 2] for k in range(15)]
    points[0], points[1][2], points[2], points[3] = [19.623, 11.4, 2], 1, [0] * 3, [0] * 3
    assert found == {
        "category_id": 1, "iscrowd": 0, "num_keypoints": 13, "bbox": [5, 6, 2, 3], "area": 6,
        "keypoints": [value for point in points for value in point],
    }  # fmt: skip
    assert segmentation["size"] == [40, 80]
    mask = writers.mask_tools.decode(segmentation)
    assert np.argwhere(mask).tolist() == [[y, x] for y in (6, 7, 8) for x in (5, 6)]


def test_people_who_are_not_in_a_frame_have_no_annotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = _person(2).masks
    masks[0] = False
    scene = Scene(np.zeros((2, 40, 80, 3), np.uint8), [_person(2), _person(2, masks=masks)])
    monkeypatch.setattr(writers, "render_scene", lambda *_, **__: scene)
    video = write_coco_video(tmp_path, _plan(1, "val", 2))
    assert video.part == "val" and len(video.images) == 2
    found = [(a["id"], a["image_id"], a["track_id"]) for a in video.annotations]
    assert found == [(20_000_000, 200_000, 0), (20_000_100, 200_001, 0), (20_000_101, 200_001, 1)]


def test_as_many_people_as_were_asked_for(tmp_path: Path, rendered: list) -> None:
    write_coco_video(tmp_path, _plan(0))
    write_coco_video(tmp_path, _plan(1), people=1)
    assert [arguments["people"] for _, arguments in rendered] == [3, 1]


def test_files_of_annotations_by_part(tmp_path: Path) -> None:
    videos = [CocoVideo(part, [{"id": n}], [{"id": n}] * n) for n, part in enumerate("aba")]
    finish_coco(tmp_path, videos)
    files = sorted((tmp_path / "annotations").iterdir())
    assert [path.name for path in files] == ["a.json", "b.json"]
    content = json.loads(files[0].read_text())
    assert files[0].read_text() == json.dumps(content, sort_keys=True)
    assert content["images"] == [{"id": 0}, {"id": 2}] and content["annotations"] == [{"id": 2}] * 2
    (person,) = content["categories"]
    links = person.pop("skeleton")
    assert person == {"id": 1, "name": "person", "keypoints": JOINTS}
    # Counted from 1: head - neck, neck - right shoulder; 14 lines join 15 joints.
    assert links[:2] == [[1, 2], [2, 4]] and len(links) == 14
    assert {end for link in links for end in link} == set(range(1, 16))


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", [cv2.IMWRITE_PNG_COMPRESSION, 1]), ("a.jpg", [cv2.IMWRITE_JPEG_QUALITY, 95])],
)
def test_pictures_are_of_one_quality(tmp_path: Path, name: str, options: list[int]) -> None:
    picture = np.arange(16 * 24 * 3).reshape(16, 24, 3).astype(np.uint8)
    write_image(tmp_path / "new" / name, picture)
    expected = cv2.imencode(Path(name).suffix, picture, options)[1].tobytes()
    assert (tmp_path / "new" / name).read_bytes() == expected


def test_a_picture_that_can_not_be_encoded_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imencode", lambda *_: (False, np.zeros(0, np.uint8)))
    with pytest.raises(OSError) as error:
        write_image(tmp_path / "a.png", np.zeros((2, 3, 3), np.uint8))
    words = "OpenCV could not encode a picture of shape (2, 3, 3)"
    assert str(error.value) == f"{tmp_path}/a.png: {words}" and not list(tmp_path.iterdir())


def test_videos_have_a_key_frame_every_twelve(tmp_path: Path) -> None:
    frames = np.full((25, 48, 64, 3), 90, np.uint8)
    write_video(tmp_path / "new" / "a.mp4", frames)
    write_video(tmp_path / "b.mp4", frames[:2], fps=10)
    with av.open(str(tmp_path / "new" / "a.mp4")) as container:
        stream = container.streams.video[0]
        keys = [packet.is_keyframe for packet in container.demux(stream) if packet.size]
        assert (stream.average_rate, stream.width, stream.height) == (25, 64, 48)
        assert stream.codec_context.pix_fmt == "yuv420p"
    assert [i for i, key in enumerate(keys) if key] == [0, 12, 24] and len(keys) == 25
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.video[0].average_rate == 10


# ---- the whole of a dataset


def test_parts_of_a_dataset_in_order() -> None:
    for tests, val in ((0, 0), (1, 1), (2, 1), (3, 2)):
        plans = dataset._plan(_options("bbc_pose", 2, tests))
        parts = ["train"] * 2 + ["test"] * tests + ["val"] * val
        assert [(p.index, p.part) for p in plans] == list(enumerate(parts))
        assert [p.part for p in dataset._plan(_options("jhmdb", 2, tests))] == parts[: 2 + tests]
    (plan,) = dataset._plan(_options("jhmdb", 1, 0, occluders="heavy", frames=(7, 7)))
    assert (plan.size, plan.occluders, plan.frames, plan.seed) == ((96, 72), "heavy", 7, (5, 0))


def test_a_run_that_ended_early_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = _options("penn_action", 1, 0)
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "_write_videos", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make_dataset(tmp_path / "a" / "b", options)
    assert json.loads((tmp_path / "a" / "b" / "synthetic.json").read_text())["complete"] is False
    monkeypatch.setattr(writers, "render_scene", lambda *_, **__: Scene(
        np.zeros((4, 40, 80, 3), np.uint8), [_person()]))  # fmt: skip
    assert make_dataset(tmp_path / "a" / "b", options, workers=0)
    assert not make_dataset(tmp_path / "a" / "b", options, workers=-1)
    assert make_dataset(tmp_path / "a" / "b", options, force=True, workers=1)
    assert (tmp_path / "a" / "b" / "labels" / "0001.mat").is_file()


def test_results_of_several_processes_are_in_the_order_of_the_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is ready first; here threads stand for the processes."""
    asked = []

    def pool(workers: int, context: Any, initializer: Any) -> ThreadPoolExecutor:
        asked.append((workers, initializer))
        return ThreadPoolExecutor(workers)

    monkeypatch.setattr(dataset, "ProcessPoolExecutor", pool)
    options = _options("coco_video", 3, 1, frames=(2, 2), size=(64, 64), people=2)
    found = dataset._write_videos(tmp_path / "a", options, 2)
    assert [(video.part, video.images[0]["video_id"]) for video in found] == [
        ("train", 1), ("train", 2), ("train", 3), ("test", 4),
    ]  # fmt: skip
    assert found == dataset._write_videos(tmp_path / "b", options, 1)
    assert asked == [(2, dataset._start_worker)]


def test_processes_are_forked_from_a_clean_server_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert dataset._context().get_start_method() == "forkserver"
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert dataset._context().get_start_method() == "spawn"


def test_a_worker_leaves_the_other_cores_alone() -> None:
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        dataset._start_worker()
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


def test_only_what_a_run_wrote_is_removed(tmp_path: Path) -> None:
    for name in ("frames/0001/a.jpg", "12/1.jpg", "mine/frames/a.jpg", "annotations/x", "1a/b"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    for name in ("7", "bbcpose.mat", "notes.txt", "labels"):
        (tmp_path / name).touch()
    dataset._clear(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1a", "7", "mine", "notes.txt"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"form": "x"}, "format='x' is not one of ['bbc_pose', 'coco_video', 'jhmdb', "
         "'penn_action']"),
        ({"form": "jhmdb", "frames_as": "gif"},
         "frames_as='gif': 'png', or 'avi' with format 'jhmdb'"),
        ({"form": "bbc_pose", "frames_as": "avi"},
         "frames_as='avi': 'png', or 'avi' with format 'jhmdb'"),
        ({"form": "jhmdb", "people": 2}, "people=2: 1, or more with format 'coco_video'"),
        ({"form": "jhmdb", "people": -1}, "people=-1: 1, or more with format 'coco_video'"),
        ({"form": "jhmdb", "occluders": "x"},
         "occluders='x' is not one of ['none', 'light', 'heavy', 'blocking']"),
        ({"form": "jhmdb", "videos": 0}, "videos=0 (1 or more), test_videos=1 (0 or more)"),
        ({"form": "jhmdb", "test_videos": -1}, "videos=3 (1 or more), test_videos=-1 (0 or more)"),
        ({"form": "jhmdb", "frames": (1, 1)}, "frames=(1, 1): expected 2 <= shortest <= longest"),
        ({"form": "jhmdb", "frames": (3, 2)}, "frames=(3, 2): expected 2 <= shortest <= longest"),
        ({"form": "jhmdb", "size": (62, 64)},
         "size=(62, 64): both sides must be even and at least 64 px"),
        ({"form": "jhmdb", "size": (64, 67)},
         "size=(64, 67): both sides must be even and at least 64 px"),
    ],
)  # fmt: skip
def test_messages_of_impossible_options(changes: dict, words: str) -> None:
    with pytest.raises(ValueError) as error:
        _options(**changes).check()
    assert str(error.value) == words


def test_folders_of_others_and_of_other_arguments_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(FileExistsError) as error:
        inspect_folder(tmp_path, {})
    assert str(error.value) == (
        f"{tmp_path} is not empty and has no synthetic.json: it is left alone, name another folder"
    )
    (tmp_path / "synthetic.json").write_text('{"arguments": {}}')
    assert inspect_folder(tmp_path, {}) == "part"
    with pytest.raises(FileExistsError) as error:
        make_dataset(tmp_path, _options("jhmdb"))
    assert str(error.value) == (
        f"{tmp_path} holds a synthetic dataset with other arguments (see synthetic.json there); "
        "--force replaces it"
    )


def test_a_manifest_counts_the_files_of_all_folders(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "a").write_bytes(b"12345")
    (tmp_path / "b").write_bytes(b"1")
    write_manifest(tmp_path, {"k": [1]}, complete=False)
    first = json.loads((tmp_path / "synthetic.json").read_text())
    write_manifest(tmp_path, {"k": [1]}, complete=True)
    second = json.loads((tmp_path / "synthetic.json").read_text())
    assert second == {**first, "complete": True, "inventory": {"files": 2, "bytes": 6}}
    text = json.dumps([3, {"k": [1]}]).encode()
    assert first == {
        "version": 3, "arguments": {"k": [1]}, "hash": hashlib.sha256(text).hexdigest(),
        "complete": False,
    }  # fmt: skip
    (tmp_path / "x" / "y" / "a").rename(tmp_path / "a")
    assert inspect_folder(tmp_path, {"k": (1,)}) == "complete"
    (tmp_path / "c").touch()
    assert inspect_folder(tmp_path, {"k": (1,)}) == "part"
