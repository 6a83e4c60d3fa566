"""Formats of the field: each is read by the library that owns it, and comes back as it was."""

from __future__ import annotations

import json
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from video_pose.inference.frames import PoseFrame
from video_pose.inference.writers import (
    COLUMNS,
    WRITERS,
    Recording,
    format_of,
    open_writers,
    read_poses,
    result_paths,
    to_dataframe,
)
from video_pose.inference.writers.recordings import RecordingWriter
from video_pose.inference.writers.tables import number_untracked, stored_frame

JOINTS = ("neck", "left_shoulder", "right_shoulder", "left_hip", "right_hip", "left_wrist")
READABLE = [name for name in WRITERS if WRITERS.get(name).read is not None]
NEEDS = {"parquet": "pyarrow", "c3d": "ezc3d", "dlc": "pandas", "dlc_h5": "tables",
         "sleap": "sleap_io", "nwb": "pynwb"}  # fmt: skip


def pose(start: float) -> np.ndarray:
    """Joint k at (start + k, 2 start + k), score .5."""
    k = np.arange(len(JOINTS))
    return np.stack([start + k, 2 * start + k, np.full(len(JOINTS), 0.5)], axis=1)


def frames(people: int = 2) -> list[PoseFrame]:
    """Four frames: track 4 on all but the third, track 7 on the last two, without a left wrist."""
    broken = pose(50)
    broken[5] = np.nan
    poses = [
        {4: pose(10)}, {4: pose(11)}, {7: pose(40)}, {4: pose(13), 7: broken}
    ]  # fmt: skip
    return [
        stored_frame(
            i, i / 20, "clip", JOINTS, np.array(list(here.values())),
            scores=np.full(len(here), 0.5, np.float32), track_ids=np.array(list(here)),
            size=(480, 640),
        )
        for i, here in enumerate(poses)
    ]  # fmt: skip


def write(kind: str, folder: Path, content: list[PoseFrame], **choices: object) -> Path:
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    recording = Recording("clip", JOINTS, 20.0, connections=((1, 2), (3, 4)), **choices)  # type: ignore[arg-type]
    (writer,) = open_writers([kind], folder, recording)
    for frame in content:
        writer.write(frame)
    writer.close()
    return result_paths([kind], folder, "clip")[kind]


@pytest.mark.parametrize("kind", READABLE)
def test_what_is_written_comes_back(tmp_path: Path, kind: str) -> None:
    """Frames, people and joints by name; a joint that a format has no place for is not there."""
    path = write(kind, tmp_path, frames())
    assert format_of(path) == kind
    back = read_poses(path)
    assert [frame.index for frame in back] == [0, 1, 2, 3]
    for frame, origin in zip(back, frames(), strict=True):
        assert frame.track_ids.tolist() == origin.track_ids.tolist()
        for name in set(frame.joint_names) & set(JOINTS):
            found = frame.keypoints[:, frame.joint_names.index(name), :2]
            expected = origin.keypoints[:, JOINTS.index(name), :2]
            np.testing.assert_allclose(found, expected, atol=2e-3)
    if kind not in ("openpose", "openpose18", "posetrack"):
        assert back[0].joint_names == JOINTS
    for frame in back:
        there = frame.keypoints[np.isfinite(frame.keypoints).all(axis=2)]
        # Of TRC and C3D, which have no scores, what is there counts in full.
        assert set(there[:, 2].tolist()) == {1.0 if kind in ("trc", "c3d") else 0.5}
        # A joint that is not there has no score either.
        empty = np.isnan(frame.keypoints)
        assert (empty.any(axis=2) == empty.all(axis=2)).all()
        has_times = kind in ("jsonl", "csv", "parquet", "trc", "c3d", "nwb")
        np.testing.assert_allclose(frame.time, frame.index / 20 if has_times else np.nan)
    sizes = {"coco_dataset": (480, 640), "posetrack": (480, 640)}
    assert {frame.image.shape for frame in back} == {(*sizes.get(kind, (0, 0)), 3)}


@pytest.mark.parametrize("table", ["long", "wide"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_both_tables_come_back_whole(tmp_path: Path, kind: str, table: str) -> None:
    empty = stored_frame(4, 0.2, "clip", JOINTS, np.zeros((0, len(JOINTS), 3)), size=(480, 640))
    content = [*frames(), empty]
    back = read_poses(write(kind, tmp_path, content, table=table))
    assert len(back) == 5 and len(back[4]) == 0
    for frame, origin in zip(back, content, strict=True):
        assert (frame.video, frame.time) == ("clip", origin.time)
        for field in ("keypoints", "boxes", "scores"):
            np.testing.assert_allclose(getattr(frame, field), getattr(origin, field), atol=1e-3)


def test_openpose_has_its_own_order_and_middles(tmp_path: Path) -> None:
    """Files, keys and order are those of OpenPose's documentation."""
    folder = write("openpose", tmp_path, frames())
    names = sorted(path.name for path in folder.iterdir())
    assert names[1] == "clip_000000000001_keypoints.json" and len(names) == 4
    content = json.loads((folder / names[0]).read_text())
    assert content["version"] == 1.3
    (person,) = content["people"]
    flat = np.reshape(person["pose_keypoints_2d"], (25, 3))
    # 1 neck, 2 right shoulder, 5 left shoulder, 8 mid-hip, 9 right hip, 12 left hip.
    assert flat[1].tolist() == [9.5, 19.5, 0.5]
    assert flat[2].tolist() == [11.5, 21.5, 0.5]
    # Hips at x 13 and 14: the middle is 13.5, as pixel index 13.
    assert flat[8].tolist() == [13.0, 23.0, 0.5]
    assert not flat[[0, 3, 4, 10, 11, 15, 16, 17, 18, *range(19, 25)]].any()
    eighteen = write("openpose18", tmp_path, frames())
    (person,) = json.loads((eighteen / names[0]).read_text())["people"]
    flat = np.reshape(person["pose_keypoints_2d"], (18, 3))
    assert flat[8].tolist() == [13.5, 23.5, 0.5] and flat[11].tolist() == [12.5, 22.5, 0.5]


def test_a_middle_of_a_joint_that_is_missing_is_missing(tmp_path: Path) -> None:
    """Never guessed."""
    (first, *_) = frames()
    first.keypoints[0, JOINTS.index("left_hip")] = np.nan
    (file,) = write("openpose", tmp_path, [first]).iterdir()
    flat = json.loads(file.read_text())["people"][0]["pose_keypoints_2d"]
    assert flat[24:27] == [0, 0, 0]


@pytest.mark.parametrize(("ids", "tracks"), [([0, 4], [0, 4]), ([-1, 4], [5, 4])])
def test_the_number_0_of_openpose_is_a_track(
    tmp_path: Path, ids: list[int], tracks: list[int]
) -> None:
    """-1 stands for somebody who is not tracked, and gets an own number."""
    flat = [float(v) for k in range(25) for v in (k + 1, k + 2, 0.5)]
    people = [{"person_id": [number], "pose_keypoints_2d": flat} for number in ids]
    (tmp_path / "a_000000000000_keypoints.json").write_text(json.dumps({"people": people}))
    (frame,) = read_poses(tmp_path)
    assert frame.track_ids.tolist() == tracks
    assert frame.untracked == set(tracks) - set(ids)


def test_seconds_are_the_frames_own(tmp_path: Path) -> None:
    """A video of a changing rate: frame 1 came after 0.3 s, of frame 2, which was left out, only
    the mean rate of 20 a second is known."""
    first, second, _, last = frames()
    content = [first, replace(second, time=0.3), replace(last, time=0.9)]
    folder = write("trc", tmp_path, content)
    rows = (folder / "person_4.trc").read_text().splitlines()[6:]
    assert [row.split("\t")[1] for row in rows] == ["0.000000", "0.300000", "0.100000", "0.900000"]


def test_trc_as_pose2sim_reads_it(tmp_path: Path) -> None:
    """Names in the fourth line, three columns a marker below the fifth, empty where missing."""
    pandas = pytest.importorskip("pandas")
    folder = write("trc", tmp_path, frames())
    assert sorted(path.name for path in folder.iterdir()) == ["person_4.trc", "person_7.trc"]
    lines = (folder / "person_7.trc").read_text().splitlines()
    assert lines[2].split("\t")[:5] == ["20", "20", "4", "6", "px"]
    markers = lines[3].split("\t")[2::3]
    assert markers == list(JOINTS)
    table = pandas.read_csv(folder / "person_7.trc", sep="\t", skiprows=4)
    values = table.iloc[:, 2:].to_numpy(float)
    assert values.shape == (4, 18)
    assert values[2, :3].tolist() == [39.5, 79.5, 0]
    assert np.isnan(values[0]).all() and np.isnan(values[3, 15:]).all()
    assert table.iloc[:, 1].tolist() == [0, 0.05, 0.1, 0.15]


def test_c3d_as_ezc3d_reads_it(tmp_path: Path) -> None:
    ezc3d = pytest.importorskip("ezc3d")
    file = ezc3d.c3d(str(write("c3d", tmp_path, frames()) / "person_4.c3d"))
    assert file["parameters"]["POINT"]["LABELS"]["value"] == list(JOINTS)
    assert file["parameters"]["POINT"]["RATE"]["value"] == [20]
    points = file["data"]["points"]
    assert points.shape == (4, 6, 4)
    np.testing.assert_allclose(points[:3, 0, 1], [10.5, 21.5, 0])
    assert np.isnan(points[:3, :, 2]).all()
    assert file["parameters"]["POINT"]["UNITS"]["value"] == ["px"]
    # As of every C3D of two dimensions: z is 0 where there is somebody.
    assert points[2, 0].tolist() == pytest.approx([0, 0, np.nan, 0], nan_ok=True)


@pytest.mark.parametrize("kind", ["dlc", "dlc_h5"])
def test_deeplabcuts_table(tmp_path: Path, kind: str) -> None:
    """As DeepLabCut's analysis writes it; sleap-io opens the CSV."""
    pandas = pytest.importorskip("pandas")
    path = write(kind, tmp_path, frames())
    if kind == "dlc":
        table = pandas.read_csv(path, header=[0, 1, 2, 3], index_col=0)
    else:
        table = pandas.read_hdf(path, "df_with_missing")
    assert list(table.columns.names) == ["scorer", "individuals", "bodyparts", "coords"]
    assert table.index.tolist() == [0, 1, 2, 3]
    column = table["video_pose"]["person_4"]["right_hip"]
    assert column["x"].tolist()[:2] == [13.5, 14.5] and column["likelihood"][0] == 0.5
    assert column["x"].isna().tolist() == [False, False, True, False]
    one = write(kind, tmp_path, [frame for frame in frames() if 7 not in frame.track_ids])
    if kind == "dlc":
        assert one.read_text().splitlines()[1].startswith("bodyparts,neck,neck,neck,left_shoulder")


def test_who_has_no_coordinates_is_not_there(tmp_path: Path) -> None:
    """DeepLabCut's filters leave out coordinates of joints and keep their likelihoods."""
    pytest.importorskip("pandas")
    path = tmp_path / "a.dlc.csv"
    path.write_text(
        "scorer,me,me,me\nbodyparts,nose,nose,nose\ncoords,x,y,likelihood\n"
        "0,3.5,4.5,0.9\n1,,,0.02\n"
    )
    first, second = read_poses(path)
    assert first.keypoints.tolist() == [[[4, 5, np.float32(0.9)]]] and len(second.keypoints) == 0


def test_sleap_by_sleap_io(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sio = pytest.importorskip("sleap_io")
    capfd.readouterr()
    labels = sio.load_slp(str(write("sleap", tmp_path, frames())), open_videos=False)
    assert labels.skeletons[0].node_names == list(JOINTS)
    assert labels.skeletons[0].edge_inds == [(1, 2), (3, 4)]
    assert [track.name for track in labels.tracks] == ["person_4", "person_7"]
    last = labels.labeled_frames[-1]
    assert last.frame_idx == 3 and len(last) == 2
    np.testing.assert_allclose(last[0].numpy()[0], [12.5, 25.5])
    assert np.isnan(last[1].numpy()[5]).all() and last[0].score == 0.5
    assert last[0].numpy(scores=True)[:, 2].tolist() == [0.5] * 6
    assert last[1].numpy(scores=True)[5, 2] == 0 and labels.skeletons[0].name == "person"
    assert [frame.frame_idx for frame in labels.labeled_frames] == [0, 1, 2, 3]
    assert labels.videos[0].filename == "clip.mp4" and len(labels.videos) == 1
    assert capfd.readouterr() == ("", "")  # the command has a bar of its own
    again = write("sleap", tmp_path, frames(), path="films/of a walk.avi")
    assert sio.load_slp(str(again), open_videos=False).video.filename == "films/of a walk.avi"


def test_nwb_by_pynwb(tmp_path: Path) -> None:
    pynwb = pytest.importorskip("pynwb")
    path = write("nwb", tmp_path, frames(), path="films/a.avi")
    with pynwb.NWBHDF5IO(str(path), "r", load_namespaces=True) as file:
        person = file.read().processing["SLEAP_VIDEO_000_clip"]["track=person_7"]
        series = person["right_hip"]
        assert series.unit == "pixels" and series.timestamps[:].tolist() == [0, 0.05, 0.1, 0.15]
        np.testing.assert_allclose(series.data[2], [43.5, 83.5])
        assert np.isnan(series.data[:2]).all() and series.confidence[2] == 0.5
        assert list(person.skeleton.nodes[:]) == list(JOINTS)
        assert person.skeleton.edges[:].tolist() == [[1, 2], [3, 4]]
        assert person.original_videos[:].tolist() == ["films/a.avi"]
        assert person.source_software == "video_pose" and person.skeleton.name == "person"
        assert list(person.pose_estimation_series) == sorted(JOINTS)


def test_people_of_nwb_by_their_names(tmp_path: Path) -> None:
    """A name stands before a number; two videos of one file have people of one name."""
    pytest.importorskip("pynwb")
    h5py = pytest.importorskip("h5py")
    path = write("nwb", tmp_path, frames())
    module = "processing/SLEAP_VIDEO_000_clip"
    known = {track: read_poses(path)[3].keypoints[i] for i, track in enumerate((4, 7))}
    with h5py.File(path, "a") as file:
        file.move(f"{module}/track=person_4", f"{module}/track=mouse")
    frame = read_poses(path)[3]
    assert sorted(frame.track_ids.tolist()) == [0, 7]
    for track, pose in zip(frame.track_ids.tolist(), frame.keypoints, strict=True):
        np.testing.assert_equal(pose, known[track or 4])
    with h5py.File(path, "a") as file:
        file.copy(module, "processing/other")
    with pytest.raises(ValueError, match="people of one name, 'mouse': expected one video"):
        read_poses(path)


@pytest.mark.parametrize(
    ("name", "joints"), [("take 1:2", JOINTS), ("a/b", JOINTS), ("clip", ("left:wrist",))]
)
def test_names_that_nwb_cannot_take_are_refused_at_once(
    tmp_path: Path, name: str, joints: tuple[str, ...]
) -> None:
    """Not when the video is over."""
    pytest.importorskip("pynwb")
    with pytest.raises(ValueError, match=r"v\.nwb: the name '.*' has a ':' or '/'"):
        open_writers(["nwb"], tmp_path, Recording(name, joints), "v")


def test_a_deeplabcut_table_that_excel_has_saved(tmp_path: Path) -> None:
    path = write("dlc", tmp_path, frames())
    path.rename(other := tmp_path / "other.csv")
    other.write_bytes(b"\xef\xbb\xbf" + other.read_bytes())
    assert format_of(other) == "dlc"
    assert [frame.track_ids.tolist() for frame in read_poses(other)] == [[4], [4], [7], [4, 7]]


def test_what_cannot_be_read_names_the_file(tmp_path: Path) -> None:
    cases = {
        "a.csv": "frame,x\n0,1\n", "b.jsonl": "[1]\n", "c.jsonl": "{\n",
        "d.coco_dataset.json": '{"images": []}', "e.trc": "nothing\n", "g.dlc.csv": "a,b\n1,2\n",
        "h.dlc.csv": "a\nb\nc\n",
        "f.coco.json": "[]",
    }  # fmt: skip
    for name, text in cases.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=name):
            read_poses(tmp_path / name)
    with pytest.raises(ValueError, match=r"x\.doc: no known ending of poses"):
        format_of("x.doc")
    with pytest.raises(FileNotFoundError, match="nothing.csv"):
        read_poses(tmp_path / "nothing.csv")


def test_a_damaged_parquet_file_is_one_line(tmp_path: Path) -> None:
    """Thrift's words end with a new line."""
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1" + b"\xff" * 40 + (40).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(ValueError, match=r"a\.parquet: no poses can be read") as error:
        read_poses(path)
    assert "\n" not in str(error.value)


def test_sizes_that_are_not_known_are_asked_for(tmp_path: Path) -> None:
    blank = [replace(frame, image=np.zeros((0, 0, 3), np.uint8)) for frame in frames()]
    with pytest.raises(ValueError) as error:
        write("coco_dataset", tmp_path, blank)
    assert str(error.value) == (
        "clip: the size of its pictures is not known, which this format needs: give --size W H"
    )
    for shape in ((0, 4, 3), (4, 0, 3)):
        blank = [replace(frame, image=np.zeros(shape, np.uint8)) for frame in frames()]
        with pytest.raises(ValueError, match="the size of its pictures is not known"):
            write("posetrack", tmp_path, blank)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("p/clip_person_1.trc", "trc"),
        ("p/clip_person_1.c3d", "c3d"),
        ("clipDLC_resnet50.h5", "dlc_h5"),
        ("clip_trc/", "trc"),
        ("clip_openpose18", "openpose18"),
        ("clip.coco.json", "coco"),
        ("clip.posetrack.json", "posetrack"),
        ("labels.json", "coco_dataset"),
        ("clip.dlc.csv", "dlc"),
        ("clip.csv", "csv"),
    ],
)
def test_formats_by_the_ending(name: str, kind: str) -> None:
    assert format_of(name) == kind


def test_formats_by_the_content(tmp_path: Path) -> None:
    """DeepLabCut's own names end as tables do, OpenPose's folders as they like."""
    (tmp_path / "clipDLC.csv").write_text("scorer,a,a\n")
    assert format_of(tmp_path / "clipDLC.csv") == "dlc"
    (tmp_path / "short.csv").write_text("sco")
    assert format_of(tmp_path / "short.csv") == "csv"
    (tmp_path / "poses").mkdir()
    with pytest.raises(ValueError, match="no known ending"):
        format_of(tmp_path / "poses")
    (tmp_path / "poses" / "a_keypoints.json").touch()
    assert format_of(tmp_path / "poses") == "openpose"


def flat(joints: int, start: float = 1) -> list[float]:
    return [value for k in range(joints) for value in (start + k, start, 0.5)]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.json": {}}, r"no file \*_keypoints.json of OpenPose"),
        ({"a_0_keypoints.json": {}}, "a_0_keypoints.json: people: expected a value, got no"),
        ({"a_0_keypoints.json": {"people": [{"pose_keypoints_2d": flat(7)}]}}, r"\[7\] joints"),
        (
            {"a_0_keypoints.json": {"people": [{"pose_keypoints_2d": flat(n)} for n in (25, 18)]}},
            r"people with \[18, 25\] joints: expected 25 or 18",
        ),
        (
            {"a_0_keypoints.json": {"people": [{"pose_keypoints_2d": [1, 2]}]}},
            r"people\[0\].pose_keypoints_2d: expected x, y and score of each joint",
        ),
        (
            {"a_0_keypoints.json": {"people": [{"pose_keypoints_2d": ["1"] * 75}]}},
            r"people\[0\].pose_keypoints_2d: expected numbers",
        ),
        (
            {"a_1_keypoints.json": {"people": []}, "a_01_keypoints.json": {"people": []}},
            "a_1_keypoints.json: the number of a frame that a_01_keypoints.json is already",
        ),
        (
            {
                "a_0_keypoints.json": {
                    "people": [{"pose_keypoints_2d": [1] * 75, "person_id": [3]}] * 2
                }
            },
            "frame 0 of video 'a' has two people of track 3",
        ),
        (
            {
                f"a_{i}_keypoints.json": {"people": [{"pose_keypoints_2d": flat(n)}] if n else []}
                for i, n in enumerate((0, 18, 0, 25))
            },
            "a_3_keypoints.json: people with 25 joints: expected 18, as in the files before",
        ),
    ],
)
def test_what_is_no_folder_of_openpose(tmp_path: Path, files: dict, message: str) -> None:
    folder = tmp_path / "x_openpose"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_poses(folder)


def test_a_folder_of_openpose_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    """Frames 2, 9 and 10; nobody on the first; a joint of score 0 is not there."""
    one = flat(18)
    one[3:6] = [4, 4, 0]
    for number, people in ((10, [one]), (9, [flat(18), flat(18, 3)]), (2, [])):
        content = {"people": [{"pose_keypoints_2d": values} for values in people]}
        (tmp_path / f"clip_{number:03d}_keypoints.json").write_text(json.dumps(content))
    (tmp_path / "notes_keypoints.json").write_text("{}")
    found = read_poses(tmp_path, "openpose18")
    assert [(f.index, f.video, f.track_ids.tolist()) for f in found] == [
        (2, "clip", []), (9, "clip", [0, 1]), (10, "clip", [2]),
    ]  # fmt: skip
    assert [len(f.joint_names) for f in found] == [18, 18, 18]
    assert found[1].keypoints[1, 0].tolist() == [3.5, 3.5, 0.5]
    assert np.isnan(found[2].keypoints[0, 1]).all() and np.isfinite(found[2].keypoints[0, 0]).all()
    assert found[2].boxes[0].tolist() == [1.5, 1.5, 18.5, 1.5] and found[2].scores[0] == 0.5


def test_a_folder_of_openpose_with_several_cameras(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is a video of its own; what is not read of them is said."""
    for camera, x in (("cam1", 1), ("cam2", 5)):
        for number in (0, 2):
            one = {"pose_keypoints_2d": flat(25, x), "person_id": 7, "face_keypoints_2d": [],
                   "hand_left_keypoints_2d": [1.0]}  # fmt: skip
            path = tmp_path / f"{camera}_{number:012d}_keypoints.json"
            path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"people": [one]}).encode())
    (tmp_path / "notes_keypoints.json").write_text("{}")
    found = read_poses(tmp_path, "openpose")
    assert [(f.video, f.index, f.track_ids.tolist(), f.keypoints[0, 0, 0]) for f in found] == [
        ("cam1", 0, [7], 1.5), ("cam1", 2, [7], 1.5), ("cam2", 0, [7], 5.5), ("cam2", 2, [7], 5.5),
    ]  # fmt: skip
    assert "4 people's hand_left_keypoints_2d: not read" in caplog.text
    assert "1 files *_keypoints.json without a number: not read" in caplog.text
    assert "face" not in caplog.text


def test_coordinates_from_0_to_1_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """OpenPose writes them with --keypoint_scale 3."""
    path = tmp_path / "a_0_keypoints.json"
    for last, said in ((1, True), (1.25, False)):
        values = [0.25, 0.5, 0.5, 1, last, 0.5, *[0] * 69]
        path.write_text(json.dumps({"people": [{"pose_keypoints_2d": values}]}))
        caplog.clear()
        read_poses(tmp_path, "openpose")
        assert ("1 poses with all joints between 0 and 1: px are expected" in caplog.text) is said


@pytest.mark.parametrize(("kind", "joints"), [("openpose", 25), ("openpose18", 18)])
def test_a_folder_of_openpose_has_one_set_of_joints(tmp_path: Path, kind: str, joints: int) -> None:
    """Frames without people have that of the others; where all are, it is the format's."""
    somebody = frames()
    nobody = [replace(f, **{
        part: getattr(f, part)[:0] for part in ("keypoints", "boxes", "scores", "track_ids")
    }) for f in somebody]  # fmt: skip
    for content in ([nobody[0], somebody[1], nobody[2], somebody[3]], nobody):
        back = read_poses(write(kind, tmp_path, content))
        assert [len(frame) for frame in back] == [len(frame) for frame in content]
        (names,) = {frame.joint_names for frame in back}
        assert len(names) == joints


def test_old_files_of_a_folder_are_not_left_beside_new_ones(tmp_path: Path) -> None:
    for kind, old, other in (
        ("openpose", "b_000000000009_keypoints.json", "readme.txt"),
        ("trc", "person_99.trc", "other.trc"),
    ):
        folder = result_paths([kind], tmp_path, "clip")[kind]
        folder.mkdir()
        (folder / old).touch()
        (folder / other).touch()
        write(kind, tmp_path, frames())
        names = {path.name for path in folder.iterdir()}
        assert old not in names and other in names and len(names) > 2


def _trc(names: str, rows: list[str], rate: str = "20") -> str:
    head = ["PathFileType", "DataRate", rate, f"Frame#\tTime\t{names}", "\t\tX1\tY1\tZ1", ""]
    return "\n".join(head + rows) + "\n"


def test_trc_files_by_hand(tmp_path: Path) -> None:
    """Two people, the second shorter and with an empty marker; without times they are those of the
    rate; a rate of 0 tells none."""
    row = "\t\t1\t2\t0\t3\t4\t0"
    (tmp_path / "person_3.trc").write_text(_trc("a\t\t\tb\t\t", [f"1{row}", f"2{row}"]))
    (tmp_path / "person_-2.trc").write_text(_trc("a\t\t\tb\t\t", ["1\t\t\t\t\t5\t6\t0"]))
    (tmp_path / "person_x.trc").write_text("nothing")
    first, second = read_poses(tmp_path, "trc")
    assert first.track_ids.tolist() == [-2, 3] and second.track_ids.tolist() == [3]
    assert np.isnan(first.keypoints[0, 0]).all()
    assert first.keypoints[:, 1].tolist() == [[5.5, 6.5, 1], [3.5, 4.5, 1]]
    assert (first.time, second.time, first.joint_names) == (0.0, 0.05, ("a", "b"))
    alone = tmp_path / "alone.trc"
    alone.write_text(_trc("a\t\t", ["1\t\t1\t2\t0"], rate="0"))
    (frame,) = read_poses(alone)
    assert np.isnan(frame.time) and frame.track_ids.tolist() == [0] and frame.video == "alone"
    (tmp_path / "person_3.trc").write_text(_trc("a\t\t\tc\t\t", ["1\t0\t1\t2\t0\t3\t4\t0"]))
    with pytest.raises(ValueError) as error:
        read_poses(tmp_path, "trc")
    assert str(error.value) == f"{tmp_path}: its files have different markers"
    (tmp_path / "no_trc").mkdir()
    with pytest.raises(ValueError, match="no file person_<number>.trc"):
        read_poses(tmp_path / "no_trc")
    good = "7\t0\t1\t2\t0"
    for row, message in (
        ("1\t0\tx\t2\t0", "could not convert"),
        ("7\t0.5\t1\t2\t0", "frame 7 stands twice"),
        ("-1\t0\t1\t2\t0", "frame -1: expected a number from 0"),
        ("7.5\t0\t1\t2\t0", "frame '7.5': expected a whole number"),
        ("inf\t0\t1\t2\t0", "frame 'inf': expected a whole number"),
        ("nan\t0\t1\t2\t0", "frame 'nan': expected a whole number"),
        ("\t0\t1\t2\t0", "could not convert"),
        ("1\tinf\t1\t2\t0", "time 'inf': expected seconds"),
    ):
        alone.write_text(_trc("a\t\t", [good, row]))
        with pytest.raises(ValueError, match=rf"alone\.trc: no TRC file: line 8: {message}"):
            read_poses(alone)


def test_trc_files_may_write_whole_numbers_as_numpy_does(tmp_path: Path) -> None:
    path = tmp_path / "a.trc"
    path.write_text(_trc("a\t\t", [f"{n}\t0\t1\t2\t0" for n in ("1.0", " 2. ", "3.00e+00")]))
    assert [frame.index for frame in read_poses(path)] == [0, 1, 2]


@pytest.mark.parametrize(("start", "index"), [(0, 0), (1, 0), (101, 100)])
def test_trc_files_tell_frames_and_times(tmp_path: Path, start: int, index: int) -> None:
    """A video of a changing rate, a part of it, or one whose frames count from 0: whoever comes
    later does not begin where it begins, and a frame that was left out is none."""
    row = "\t1\t2\t0"
    first = [f"{start + n}\t{time}{row}" for n, time in ((0, 5.0), (1, 5.25), (3, 6.0))]
    (tmp_path / "person_0.trc").write_text(_trc("a\t\t", first))
    (tmp_path / "person_1.trc").write_text(_trc("a\t\t", [f"{start + 3}\t6{row}"]))
    found = read_poses(tmp_path, "trc")
    assert [(f.index - index, f.time, f.track_ids.tolist()) for f in found] == [
        (0, 5.0, [0]), (1, 5.25, [0]), (3, 6.0, [0, 1]),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["c3d", "nwb", "sleap", "dlc_h5"])
def test_a_file_of_something_else_is_named(tmp_path: Path, kind: str) -> None:
    pytest.importorskip(NEEDS[kind])
    path = tmp_path / f"a{WRITERS.get(kind).ending}"
    if kind == "c3d":
        path.mkdir()
        path = path / "person_0.c3d"
    path.write_bytes(b"something else" * 100)
    words = "no C3D file: " if kind == "c3d" else f"no poses can be read from it as {kind}: "
    with pytest.raises(ValueError) as error:
        read_poses(path if kind != "c3d" else path.parent, kind)
    assert str(error.value).startswith(f"{path}: {words}")


def test_sleap_files_by_hand(tmp_path: Path) -> None:
    """A frame without people between two; a person without a track, and one of another name."""
    sio = pytest.importorskip("sleap_io")
    skeleton = sio.Skeleton([sio.Node("a"), sio.Node("b")], name="s")
    video = sio.Video("v.mp4", open_backend=False)
    track = sio.Track("someone")
    points = np.array([[3.0, 4], [np.nan, np.nan]])
    people = [
        sio.Instance.from_numpy(points, skeleton, track=track),
        sio.PredictedInstance.from_numpy(
            points + 1, skeleton, point_scores=np.array([0.3, 0]), score=0.25
        ),
    ]
    frames = [sio.LabeledFrame(video, 0, people[:1]), sio.LabeledFrame(video, 2, people[::-1])]
    path = tmp_path / "a.slp"
    labels = sio.Labels(frames, videos=[video], skeletons=[skeleton], tracks=[track])
    sio.save_slp(labels, str(path), verbose=False)
    first, none, last = read_poses(path)
    assert len(none) == 0 and (first.video, none.index, last.index) == ("a", 1, 2)
    assert first.track_ids.tolist() == [0] and first.scores.tolist() == [1]
    assert first.is_tracked and none.is_tracked and not last.is_tracked
    assert first.keypoints[0, 0].tolist() == [3.5, 4.5, 1] and np.isnan(first.keypoints[0, 1]).all()
    assert last.scores.tolist() == [0.25, 1] and last.track_ids.tolist() == [1, 0]
    assert last.untracked == {1}
    assert last.keypoints[0, 0].tolist() == pytest.approx([4.5, 5.5, 0.3])
    other = sio.Video("w.mp4", open_backend=False)
    labels = sio.Labels(
        [*frames, sio.LabeledFrame(other, 0, people[:1])], videos=[video, other],
        skeletons=[skeleton], tracks=[track],
    )  # fmt: skip
    sio.save_slp(labels, str(path), verbose=False)
    with pytest.raises(ValueError, match="2 videos and 1 skeletons: expected one of each"):
        read_poses(path)


def coco(**changes: object) -> str:
    image = {"id": 5, "video_id": "v", "frame_id": 3, "height": 40, "width": 60}
    box = {"image_id": 5, "bbox": [1, 2, 3, 4]}
    content = {
        "images": [image, {"id": 4, "video_id": "v", "frame_id": 1}],
        "annotations": [
            {**box, "category_id": 2, "keypoints": [1, 2, 2, 9, 9, 0]},
            {**box, "category_id": 7},
            {**box, "category_id": 1},
        ],
        "categories": [{"id": 7}, {"id": 2, "keypoints": ["a", "b"]}],
    }  # fmt: skip
    return json.dumps({**content, **changes})


PERSON = {"image_id": 5, "category_id": 2, "keypoints": [1, 2, 2, 9, 7, 1]}


def with_person(**changes: object) -> str:
    return coco(annotations=[{**PERSON, **changes}])


@pytest.mark.parametrize(
    ("told", "keypoints", "box"),
    [
        ({"category_id": "2", "image_id": "5"}, [[1.5, 2.5, 1], [9.5, 7.5, 1]], None),
        # Trackers write scores in place of visibilities.
        ({"keypoints": [1, 2, 0.75, 9, 7, 0.25]}, [[1.5, 2.5, 0.75], [9.5, 7.5, 0.25]], None),
        ({"keypoints": [1, 2, 1, 9, 7, 1.5]}, [[1.5, 2.5, 1], [9.5, 7.5, 1.5]], None),
        (
            {"keypoints": [1, 2, 0.75, 9, 7, 0.25], "scores": [0.5, 1]},
            [[1.5, 2.5, 0.5], [9.5, 7.5, 1]],
            None,
        ),
        ({"bbox": [0, 0, 0, 0]}, [[1.5, 2.5, 1], [9.5, 7.5, 1]], None),
        ({"bbox": [1, 1, -3, 4]}, [[1.5, 2.5, 1], [9.5, 7.5, 1]], None),
        ({"bbox": [None, 1, 3, 4]}, [[1.5, 2.5, 1], [9.5, 7.5, 1]], None),
        ({"keypoints": [None, 2, 2, 9, 7, 1], "bbox": [1, 1, 3, 4]}, [[9.5, 7.5, 1]], [1, 1, 4, 5]),
        ({"keypoints": [], "bbox": [1, 1, 3, 4]}, [], [1, 1, 4, 5]),
    ],
)
def test_fields_of_coco_files_of_others(
    tmp_path: Path, told: dict, keypoints: list, box: list | None
) -> None:
    """Ids as text; numbers of another meaning; boxes that are none; people of a box alone."""
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + with_person(**told).encode())  # as editors of Windows do
    frame = read_poses(path)[1]
    (found,) = frame.keypoints
    assert found[np.isfinite(found[:, 0])].tolist() == keypoints
    assert frame.boxes.tolist() == [box or [1.5, 2.5, 9.5, 7.5]]


def test_whom_a_coco_file_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The category called person, in whatever place; no crowds; text as a track gets a number."""
    path = tmp_path / "a.json"
    kinds = [{"id": 3, "name": "racket", "keypoints": ["top", "end"]},
             {"id": 2, "name": "person", "keypoints": ["a", "b"]}]  # fmt: skip
    people = [
        {**PERSON, "category_id": 3}, {**PERSON, "iscrowd": 1}, {**PERSON, "track_id": "anna"},
        {**PERSON, "track_id": "person_0"}, {**PERSON, "track_id": "7"}, {**PERSON, "track_id": 8},
    ]  # fmt: skip
    path.write_text(coco(categories=kinds, annotations=people))
    frame = read_poses(path)[1]
    assert frame.joint_names == ("a", "b") and frame.track_ids.tolist() == [1, 0, 7, 8]
    for said in (
        "1 annotations of category 3, which is not 'person': left out",
        "1 crowd regions: no people",
        "1 people with names are given numbers: 'anna' is 1",
    ):
        assert said in caplog.text


def test_frames_of_coco_files_without_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Those in the images' names count, where they are of one video; null is no name of one."""
    path = tmp_path / "a.json"
    for names, numbers, said in (
        (("v/a_10.jpg", "v/a_7.jpg"), [7, 10], "the number in their name is taken"),
        (("v/a_10.jpg", "v/b_7.jpg"), [0, 1], "numbered in the order of their ids"),
        (("v/a_1.jpg", "v/a_1.png"), [0, 1], "numbered in the order of their ids"),
        (("v\\a_1.jpg", "v/a_3.png"), [1, 3], "the number in their name is taken"),
    ):
        images = [
            {"id": n, "file_name": name, "video_id": None, "height": None}
            for n, name in enumerate(names, 5)
        ]
        path.write_text(coco(images=images))
        caplog.clear()
        found = read_poses(path)
        assert [(frame.index, frame.video) for frame in found] == [(n, "") for n in numbers]
        assert f"2 images without frame_id: {said}" in caplog.text
    images[0] |= {"frame_id": 9, "vid_id": "w"}
    images[1] |= {"vid_id": "w", "is_labeled": False}
    path.write_text(coco(images=images))
    assert [frame.video for frame in read_poses(path)] == ["w", "w"]
    assert "1 frame_id of images, which others lack: not read" in caplog.text
    assert "1 images that are not labelled (is_labeled): taken for frames without" in caplog.text


def test_a_coco_dataset_by_hand(tmp_path: Path) -> None:
    """Of two kinds one has joints; no scores, tracks or sizes are told: 1, the place, unknown."""
    path = tmp_path / "a.json"
    path.write_text(coco())
    nobody, frame = read_poses(path)
    assert (nobody.index, len(nobody), nobody.image.shape) == (1, 0, (0, 0, 3))
    assert frame.index == 3 and frame.image.shape == (40, 60, 3) and np.isnan(frame.time)
    assert frame.keypoints[0, 0].tolist() == [1.5, 2.5, 1] and np.isnan(frame.keypoints[0, 1]).all()
    assert frame.boxes.tolist() == [[1, 2, 4, 6]] and frame.video == nobody.video == "v"
    assert (frame.scores.tolist(), frame.track_ids.tolist()) == ([1], [0])
    odd = {"image_id": 5, "category_id": 2, "bbox": [1, 2, 3, 4], "keypoints": [1, 2, -1, 3, 4, 1]}
    path.write_text(coco(annotations=[odd]))
    assert np.isfinite(read_poses(path)[1].keypoints[0]).all(axis=1).tolist() == [False, True]
    path.write_text(coco(images=[], annotations=[]))
    assert read_poses(path) == []
    two = {"image_id": 5, "category_id": 2, "bbox": [1, 2, 3, 4], "keypoints": [1, 2, 1, 3, 4, 2]}
    told = {**two, "scores": [0.25, 0.75], "score": 0.5, "track_id": 9}
    path.write_text(coco(images=[{"id": 6}, {"id": 5}], annotations=[two, told]))
    frame, nobody = read_poses(path)  # in the order of the ids
    assert (nobody.index, len(nobody), nobody.video) == (1, 0, "")
    assert (frame.index, frame.track_ids.tolist(), frame.scores.tolist()) == (0, [10, 9], [1, 0.5])
    assert frame.keypoints[:, :, 2].tolist() == [[1, 1], [0.25, 0.75]]
    assert frame.keypoints[1, :, :2].tolist() == [[1.5, 2.5], [3.5, 4.5]]


def test_what_a_coco_file_does_not_tell(tmp_path: Path) -> None:
    """Boxes are the joints' extent; who is who is left open; frame_index goes before frame_id."""
    path = tmp_path / "a.json"
    person = {"image_id": 5, "category_id": 2, "keypoints": [1, 2, 2, 9, 7, 1]}
    path.write_text(coco(annotations=[person]))
    nobody, frame = read_poses(path)
    assert frame.boxes.tolist() == [[1.5, 2.5, 9.5, 7.5]] and frame.track_ids.tolist() == [0]
    assert nobody.is_tracked and not frame.is_tracked
    for told, tracked in (
        ({"track_id": 4}, True), ({"attributes": {"track_id": 4}}, True), ({"track_id": -1}, False),
        ({"track_id": None, "attributes": 3}, False), ({"track_id": 0}, True),
    ):  # fmt: skip
        path.write_text(coco(annotations=[{**person, **told}]))
        frame = read_poses(path)[1]
        assert frame.is_tracked is tracked
        assert frame.track_ids.tolist() == (
            [told["track_id"] if "track_id" in told else 4] if tracked else [0]
        )
    images = [{"id": 5, "frame_id": 3, "frame_index": 70}, {"id": 4, "frame_id": 1}]
    path.write_text(coco(images=images, annotations=[]))
    assert [frame.index for frame in read_poses(path)] == [1, 3]
    images[1]["frame_index"] = 80
    path.write_text(coco(images=images, annotations=[]))
    assert [frame.index for frame in read_poses(path)] == [70, 80]


def refuse(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_poses(path)
    assert path.name in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("[]", "is a list of COCO results, which has neither joint names"),
        (coco(categories=[{"id": 7}]), "expected one list of joint names"),
        (coco(annotations=[{"image_id": 5}]), r"annotations\[0\].category_id: expected a value"),
        (
            coco(images=[{"id": ord(v), "video_id": v} for v in "ab"]),
            r"holds 2 videos: \['a', 'b'\]",
        ),
        (
            coco(images=[{"id": ord(v), "vid_id": v} for v in "dcab"]),
            r"4 videos: \['a', 'b', 'c'\]$",
        ),
        (
            coco(
                annotations=[
                    {"image_id": 5, "category_id": 2, "bbox": [1, 2, 3, 4], "keypoints": [1, 2]}
                ]
            ),
            r"annotations\[0\].keypoints: expected 6 numbers \(2 x \(x, y, v\)\), got a list",
        ),
        (with_person(image_id=9), r"image_id: expected the id of one of images\[\], got 9"),
        (with_person(bbox=[1, 2, 3]), r"annotations\[0\].bbox: expected 4 numbers"),
        (with_person(track_id=1.5), r"annotations\[0\].track_id: expected a whole number, got 1.5"),
        (with_person(scores=[1]), r"annotations\[0\].scores: expected 2 numbers, one a joint"),
        (with_person(scores=[1, None]), r"annotations\[0\].scores: expected 2 numbers"),
        (with_person(score="high"), r"annotations\[0\].score: expected a number, got text 'high'"),
        (with_person(keypoints=[1, 2, 3, 4, 5, 1]), "v 0, 1 or 2, or a score"),
        (with_person(keypoints=[1, 2, None, 4, 5, 1]), "v 0, 1 or 2, or a score"),
        (coco(images=[{"id": 5}, {"id": "5"}]), r"images\[1\].id .*which no other has"),
        (
            coco(images=[{"id": n, "frame_id": 3} for n in (5, 6)]),
            r"images\[1\].frame_id \(id 6\): expected a frame's number, which no other has",
        ),
        (coco(images=[{"id": 5, "frame_id": 1.5}]), "frame_id .*a whole number of at least 0"),
        (coco(images=[{"id": 5, "frame_id": -1}]), "frame_id .*a whole number of at least 0"),
        (
            coco(images=[{"id": n, "file_name": f"cam{n}/7.jpg"} for n in (4, 5)]),
            r"lie in 2 folders, \['cam4', 'cam5'\]: expected one video, or a video_id",
        ),
        (coco(annotations=None), "annotations: expected a value, got null"),
        (
            coco().replace('"frame_id": 3', '"frame_id": 3, "frame_id": 4'),
            "the key 'frame_id' twice",
        ),
        (
            coco(annotations=[{**PERSON, "track_id": 3}] * 2),
            "frame 3 of video 'v' has two people of track 3$",
        ),
    ],
)
def test_what_is_no_coco_dataset(tmp_path: Path, text: str, message: str) -> None:
    refuse(tmp_path / "a.json", text, message)


def _table(**changes: object) -> str:
    row = {"video": "v", "frame": 0, "time": 0.5, "track": 1, "person_score": 0.5, "joint": "a"}
    row |= dict.fromkeys(("box_x0", "box_y0", "box_x1", "box_y1", "x", "y", "score"), 1.0)
    return json.dumps({**row, **changes}) + "\n"


NOBODY = {**dict.fromkeys(COLUMNS), "track": -1}


def _wide(*joints: str) -> str:
    row = json.loads(_table(track=2))
    row = {key: row[key] for key in row if key not in ("joint", "x", "y", "score")}
    row |= {f"{name}_{part}": 0.5 for name in joints for part in ("x", "y", "score")}
    return json.dumps(row) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_table() + _table(frame="first"), "row 2, column frame: 'first' is no whole number"),
        (_table() + _table(frame=None), "row 2, column frame: None is no whole number"),
        (_table() + _table(frame=1.5), "row 2, column frame: 1.5 is no whole number"),
        (_table() + _table(frame=True), "row 2, column frame: True is no whole number"),
        (_table() + _table(frame=float("inf")), "row 2, column frame: inf is no whole number"),
        (_table() + _table(joint="b", x="left"), "row 2, column x: 'left' is no number"),
        (_table() + _table(joint="b", x="1,5"), "row 2, column x: '1,5' is no number"),
        (_table() + _table(joint="b", y=float("inf")), "row 2, column y: inf is no number"),
        (_table() + _table(track="somebody"), "row 2, column track: 'somebody' is no whole number"),
        (_table() + _table(track=2**63), "row 2, column track: 9223372036854775808 is no whole"),
        (_table() + _table(track=1.5), "row 2, column track: 1.5 is no whole number"),
        (_table() + _table(), "row 2: joint 'a' of track 1 is on frame 0 twice"),
        (_wide("a") + _wide("a"), "row 2: track 2 is on frame 0 twice"),
        (_table() + _table(frame=-1), "frame -1 of video 'v': expected a number from 0"),
        (
            _wide("a").replace('"track": 2', '"track": -1'),
            "row 1, column person_score: 0.5: expected",
        ),
        (_table() + "{}\n", "."),
        (_table() + "7\n", "line 2 is no JSON object"),
        (_table() + "{\n", "line 2 is no JSON: "),
        (_table() + _table(joint="b", z=1).replace('"x"', '"u"'), "row 2 lacks the column 'x'"),
        (
            _wide("a", "b") + _wide("a").replace('"frame": 0', '"frame": 1'),
            "row 2 lacks the column 'b_x'",
        ),
        (
            '{"frame": 1, "track": 2, "time": 0, "person_score": 1, "box_x0": 1, "box_x1": 2}\n',
            r"the columns \['video', 'box_y0', 'box_y1'\] are missing: it is no table of poses$",
        ),
    ],
)
def test_what_is_no_table(tmp_path: Path, text: str, message: str) -> None:
    refuse(tmp_path / "a.jsonl", text, message)


def test_a_table_by_hand(tmp_path: Path) -> None:
    """Two videos; a joint that is not told; a person without a joint; nobody."""
    path = tmp_path / "a.jsonl"
    path.write_text(
        _table() + _table(joint="b", x=None, y="", score=3, time=9)
        + _table(track=2, joint=None, time=9)
        + "\n" + json.dumps({**NOBODY, "video": "w", "frame": 4})
    )  # fmt: skip
    both, nobody = read_poses(path)
    assert (both.video, both.time, both.joint_names) == ("v", 0.5, ("a", "b"))
    assert both.track_ids.tolist() == [1, 2] and both.boxes.tolist() == [[1, 1, 1, 1]] * 2
    assert both.keypoints[0, 0].tolist() == [1, 1, 1] and both.keypoints[0, 1, 2] == 3
    assert np.isnan(both.keypoints[0, 1, :2]).all() and np.isnan(both.keypoints[1]).all()
    assert (nobody.video, nobody.index, len(nobody)) == ("w", 4, 0) and np.isnan(nobody.time)
    path.write_text("")
    assert read_poses(path) == []


def _csv(text: str) -> str:
    """A wide table of a joint "a", in CSV."""
    columns = [*json.loads(_wide("a"))]
    return "\n".join([",".join(columns), *text.split()]) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_csv("v,0,0,1,.5,0,0,9").rstrip(), "the last row has 8 of 12 cells: it is cut off"),
        (_csv("v,0,0,1,.5,0,0,9,9,1,2,.5,7"), "row 1 has 13 cells: expected 12"),
        (_csv("v,0,0,1,.5,0,0,9,9,1,2,.5").replace(",", ";"), "separated by ';': expected ','"),
        (
            _csv("v,0,0,1,.5,0,0,9,9,1,2,.5").replace("a_y", "a_x"),
            "the column 'a_x' is there twice",
        ),
    ],
)
def test_what_is_no_csv_table(tmp_path: Path, text: str, message: str) -> None:
    refuse(tmp_path / "a.csv", text, message)


def test_csv_tables_of_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Numbers as pandas writes them, rows' too; rows in any order; a column that is not read; a
    joint without a score."""
    path = tmp_path / "A.CSV"
    rows = _csv("v,2.0,.2,1.0,.5,0,0,9,9,1,2,.5 v,0,0,1,.5,0,0,9,9,3,4, u,7,0,1,.5,0,0,9,9,,,.5")
    first, *others = rows.splitlines()
    lines = [f",{first},activity", *(f"{i},{row},walks" for i, row in enumerate(others))]
    path.write_text("\n".join(lines))
    found = read_poses(path)
    assert [(f.video, f.index, f.track_ids.tolist()) for f in found] == [
        ("v", 0, [1]), ("v", 2, [1]), ("u", 7, [1]),
    ]  # fmt: skip
    assert found[0].keypoints.tolist() == [[[3, 4, 1]]] and found[1].keypoints[0, 0, 2] == 0.5
    assert "1 columns 'activity': not read" in caplog.text and "columns ''" not in caplog.text
    assert "1 joints without a score: 1 is taken" in caplog.text


def test_rows_of_excel_lack_the_commas_behind_their_last_cell(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(_csv("v,0,0,-1 v,1,0,1,.5,0,0,9,9,1,2,.5 v,2,0,-1"))
    assert [len(frame) for frame in read_poses(path)] == [0, 1, 0]
    assert "2 rows that lack cells: taken as empty" in caplog.text


def test_empty_cells_beside_a_table_are_none_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.csv"
    head, row = _csv("v,1,0,1,.5,0,0,9,9,1,2,.5").splitlines()
    path.write_text(f"{head},,\n{row},,,\n")
    assert [frame.index for frame in read_poses(path)] == [1] and not caplog.text


@pytest.mark.parametrize("kind", ["openpose", "sleap"])
def test_whom_nobody_follows_has_no_track_in_a_file_that_can_say_so(
    tmp_path: Path, kind: str
) -> None:
    content = [replace(frame, untracked=frozenset({7})) for frame in frames()]
    back = read_poses(write(kind, tmp_path, content))
    assert [len(frame.untracked) for frame in back] == [0, 0, 1, 1]
    assert [sorted({*f.track_ids.tolist()} - f.untracked) for f in back] == [[4], [4], [], [4]]


def test_rows_of_nobody_may_lack_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    head = {key: value for key, value in NOBODY.items() if key not in ("joint", "x", "y", "score")}
    path.write_text(json.dumps({**head, "video": "v", "frame": 3}) + "\n" + _wide("a", "b"))
    person, nobody = read_poses(path)
    assert person.joint_names == nobody.joint_names == ("a", "b")
    assert person.keypoints.tolist() == [[[0.5] * 3] * 2] and len(nobody) == 0


def test_poses_without_coordinates_have_no_extent_and_no_score() -> None:
    frame = stored_frame(0, 0.0, "v", ("a", "b"), np.full((1, 2, 3), np.nan))
    assert np.isnan(frame.boxes).all() and np.isnan(frame.scores).all()
    poses = np.array([[[1, 5, 0.5], [3, 4, np.nan]], [[1, 5, 0.25], [3, 4, 0.75]]])
    frame = stored_frame(0, 0.0, "v", ("a", "b"), poses)
    assert frame.boxes.tolist() == [[1, 4, 3, 5]] * 2 and frame.scores.tolist() == [0.5, 0.5]
    assert frame.track_ids.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("module", "kind", "words"),
    [
        ("pyarrow", "parquet", "the format parquet needs the package pyarrow"),
        ("ezc3d", "c3d", r"the format c3d needs the package ezc3d: pip install .*interchange"),
        ("pandas", "dlc", "the format dlc needs the package pandas"),
        ("tables", "dlc_h5", "the format dlc_h5 needs the package tables"),
        ("sleap_io", "sleap", "the format sleap needs the package sleap-io"),
        ("pynwb", "nwb", "the format nwb needs the package pynwb"),
        ("ndx_pose", "nwb", "the format nwb needs the package ndx-pose"),
    ],
)
def test_a_package_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, kind: str, words: str
) -> None:
    if kind == "dlc_h5":
        pytest.importorskip("pandas")
    if module == "ndx_pose":
        pytest.importorskip("pynwb")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=f"^{words}") as error:
        open_writers([kind], tmp_path, Recording("clip", JOINTS))
    if kind != "parquet":
        command = 'pip install "video-pose-detectron2[interchange]"'
        assert str(error.value).endswith(f"{module.replace('_', '-')}: {command}")
    if kind == "parquet":
        (tmp_path / "a.parquet").touch()
        with pytest.raises(ValueError, match="a.parquet: Parquet needs the package pyarrow"):
            read_poses(tmp_path / "a.parquet")
    if kind == "dlc":
        with pytest.raises(ValueError, match="a DataFrame needs the package pandas"):
            to_dataframe(frames())


def test_recordings_wait_without_pictures() -> None:
    """A video's poses are held until it is over: only numbers, 12 bytes a joint."""
    (frame, *_) = frames()
    extra = np.ones((1, 6))
    full = replace(
        frame, image=np.ones((480, 640, 3), np.uint8), heatmaps=extra, map_to_image=extra,
        masks=extra, peaks=extra, probabilities=extra,
    )  # fmt: skip
    writer = RecordingWriter("x", Recording("clip", JOINTS))
    writer.write(full)
    (kept,) = writer.frames
    assert kept.image.shape == (480, 640, 3) and kept.image.strides == (0, 0, 1)
    assert not kept.image.any() and kept.keypoints is full.keypoints
    for name in ("heatmaps", "map_to_image", "masks", "peaks", "probabilities"):
        assert getattr(kept, name) is None, name


@pytest.mark.parametrize("kind", ["trc", "c3d", "dlc", "dlc_h5", "sleap", "nwb"])
@pytest.mark.parametrize("count", [0, 2])
def test_a_video_of_nobody(tmp_path: Path, kind: str, count: int) -> None:
    """It has a file or folder of the format as well; a folder of nobody's files is said when it is
    read."""
    nobody = np.zeros((0, len(JOINTS), 3))
    content = [stored_frame(i, i / 20, "clip", JOINTS, nobody) for i in range(count)]
    path = write(kind, tmp_path, content)
    assert path.exists()
    if kind in ("trc", "c3d"):
        with pytest.raises(ValueError) as error:
            read_poses(path)
        assert str(error.value) == f"{path}: no file person_<number>.{kind}"
    else:
        assert read_poses(path) == []


def test_frames_that_were_left_out_are_empty(tmp_path: Path) -> None:
    """Frame 0 and 3 of four: rows are frames, times those of the frames or of the rate."""
    first, *_, last = frames()
    writer = RecordingWriter(tmp_path, Recording("clip", JOINTS, 20.0))
    assert writer.count() == 0 and list(writer.tracks()) == [] and writer.times().tolist() == []
    writer.write(replace(first, time=np.nan))
    writer.write(replace(last, time=0.75))
    assert writer.count() == 4 and writer.times().tolist() == [0, 0.05, 0.1, 0.75]
    tracks = dict(writer.tracks())
    assert [(track, poses.shape, poses.dtype.name) for track, poses in tracks.items()] == [
        (4, (4, 6, 3), "float32"), (7, (4, 6, 3), "float32"),
    ]  # fmt: skip
    there = [np.isfinite(poses).all(axis=2).sum(axis=1).tolist() for poses in tracks.values()]
    assert there == [[6, 0, 0, 6], [0, 0, 0, 5]]
    assert tracks[4][3, 2].tolist() == [14.5, 27.5, 0.5]  # 13 + 2 and 26 + 2, less a half
    assert last.keypoints[0, 2].tolist() == [15, 28, 0.5]  # the frame itself is left alone


def test_people_of_a_long_video_are_made_one_at_a_time() -> None:
    """200 people of 5 frames each on 1,000 frames: all frames of all of them together
    would be 14 MB."""
    writer = RecordingWriter("x", Recording("clip", JOINTS))
    for i in range(1000):
        poses = np.full((1, len(JOINTS), 3), float(i), np.float32)
        writer.write(stored_frame(i, i / 25, "clip", JOINTS, poses, track_ids=np.array([i // 5])))
    tracemalloc.start()
    for track, poses in writer.tracks():
        there = np.flatnonzero(np.isfinite(poses[:, 0, 0]))
        assert there.tolist() == list(range(5 * track, 5 * track + 5))
        assert poses[there, 0].tolist() == [[i - 0.5, i - 0.5, i] for i in there.tolist()]
    assert writer.track_ids() == list(range(200))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000  # one track: 72 kB


def test_nwb_takes_no_memory_for_frames_without_people(tmp_path: Path) -> None:
    """40 people of a frame each of a video of 20,000: all frames of all of them are 10 MB."""
    pytest.importorskip("pynwb")
    (writer,) = open_writers(["nwb"], tmp_path, Recording("clip", ("a",)))
    for i in range(40):
        poses = np.full((1, 1, 3), i + 0.5)
        writer.write(stored_frame(i * 512, i / 2, "clip", ("a",), poses, track_ids=np.array([i])))
    tracemalloc.start()
    writer.close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000_000
    found = {f.index: f.keypoints[0, 0, 0] for f in read_poses(tmp_path / "clip.nwb") if len(f)}
    assert found == {i * 512: i + 0.5 for i in range(40)}


def test_sleap_needs_no_empty_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sleap_io")
    monkeypatch.setattr(RecordingWriter, "tracks", lambda _: pytest.fail("all frames of a track"))
    assert len(read_poses(write("sleap", tmp_path, frames()))) == 4


def test_a_joint_with_one_number_missing_is_missing() -> None:
    frame = stored_frame(0, 0.0, "v", ("a", "b"), np.array([[[1, 2, np.nan], [3, 4, 0.5]]]))
    writer = RecordingWriter("x", Recording("v", ("a", "b")))
    writer.write(frame)
    poses = dict(writer.tracks())[0][0]
    assert np.isnan(poses[0]).all() and poses[1].tolist() == [2.5, 3.5, 0.5]


def test_trc_files_of_other_programs(tmp_path: Path) -> None:
    """Without a blank line below the names; a row that ends in its middle; half a joint."""
    path = tmp_path / "a.trc"
    head = ["PathFileType", "DataRate", "10\tx", "Frame#\tTime\ta\t\t\tb\t\t", "\t\tX1"]
    rows = ["1\t0\t1\t2\t0\t3\t4\t0", "2\t.1\t1\t2\t0\t3", "", "3\t.2\t\t2\t0\t 3 \t4"]
    path.write_text("\n".join(head + rows))
    found = read_poses(path)
    assert [frame.time for frame in found] == [0, 0.1, 0.2] and found[0].joint_names == ("a", "b")
    there = [np.isfinite(frame.keypoints[0]).all(axis=1).tolist() for frame in found]
    assert there == [[True, True], [True, False], [False, True]]
    assert found[2].keypoints[0, 1].tolist() == [3.5, 4.5, 1] and found[0].scores.tolist() == [1]
    with pytest.raises(ValueError, match="a.trc: no TRC file: 3 lines: expected 5 lines"):
        path.write_text("\n".join(head[:3]))
        read_poses(path)


@pytest.mark.parametrize(
    ("names", "markers", "places", "said"),
    [
        ("a\t\t\tb\t\t\t\t\t", ("a", "b"), (1, 3), ""),
        ("a\t\t\t\t\t\tb\t\t", ("a", "b"), (1, 5), "1 markers without a name: not read"),
        ("\t\t\ta\t\t\tb", ("a", "b"), (3, 5), "1 markers without a name: not read"),
        ("a\tb\tc", ("a", "b", "c"), (1, 3, 5), ""),
    ],
)
def test_the_columns_of_trc_files_are_those_of_their_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: str, markers: tuple, places: tuple,
    said: str,
) -> None:  # fmt: skip
    path = tmp_path / "a.trc"
    path.write_text(_trc(names, ["1\t0\t1\t1\t0\t3\t3\t0\t5\t5\t0"]))
    (frame,) = read_poses(path)
    assert frame.joint_names == markers
    assert frame.keypoints[0, :, 0].tolist() == [place + 0.5 for place in places]
    assert said in caplog.text and bool(said) == ("not read" in caplog.text)


def test_what_a_trc_file_says_of_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Metres, depth and fewer rows than frames are said; two markers of one name are refused."""
    path = tmp_path / "a.trc"
    for units, z, count, said in (
        ("px", 0, 1, []), ("px", "nan", 1, []), ("px", "", 1, []),
        ("m", 2, 8, ["1 points with a Z: it is not read", "NumFrames, 8, is not that of their rows",
                     "1 recordings in 'm': their numbers are taken for px"]),
    ):  # fmt: skip
        rate = f"20\t20\t{count}\t1\t{units}\t20\t1\t{count}"
        path.write_text(_trc("a\t\t", [f"1\t0\t1\t2\t{z}"], rate=rate))
        caplog.clear()
        assert read_poses(path)[0].keypoints.tolist() == [[[1.5, 2.5, 1]]]
        assert all(words in caplog.text for words in said) and bool(said) == bool(caplog.text)
    for names, message in (("a\t\t\ta", "a marker's name stands twice"),
                           ("a\t\tb", "above every third column")):  # fmt: skip
        path.write_text(_trc(names, []))
        with pytest.raises(ValueError, match=f"a.trc: no TRC file: line 4: .*{message}"):
            read_poses(path)


def test_c3d_files_begin_at_their_first_frame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ezc3d = pytest.importorskip("ezc3d")
    file = ezc3d.c3d()
    for key, value in (("RATE", [10]), ("LABELS", ["a"]), ("UNITS", ["mm"])):
        file["parameters"]["POINT"][key]["value"] = value
    points = np.ones((4, 1, 3))
    points[2, :, 1:] = np.nan, 7
    file["data"]["points"], file["header"]["points"]["first_frame"] = points, 99
    file.write(str(tmp_path / "a.c3d"))
    found = read_poses(tmp_path / "a.c3d")
    assert [frame.index for frame in found] == [99, 100, 101]
    assert [frame.time for frame in found] == pytest.approx([9.9, 10, 10.1])
    assert "2 points with a Z: it is not read" in caplog.text
    assert "1 recordings in 'mm': their numbers are taken for px" in caplog.text


def _dlc(people: list[str], rows: list[str], parts: str = "nose", scorers: str = "me") -> str:
    """A table of individuals, each of whom has a bodypart or one of several."""
    names = parts.split() * len(people) if len(parts.split()) == 1 else parts.split()
    makers = scorers.split() * len(people) if len(scorers.split()) == 1 else scorers.split()
    head = [("scorer", makers), ("individuals", people), ("bodyparts", names)]
    lines = [",".join([word, *(c for cell in cells for c in [cell] * 3)]) for word, cells in head]
    coords = ",".join(["coords", *["x", "y", "likelihood"] * len(people)])
    return "\n".join([*lines, coords, *rows]) + "\n"


def test_frames_of_deeplabcut_are_those_of_its_first_column(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    path = tmp_path / "a.dlc.csv"
    for names, numbers in (
        (["100", "102"], [100, 102]), (["7.0", "8.0"], [7, 8]),
        (["labeled-data/v/img009.png", "labeled-data/v/img010.png"], [9, 10]),
    ):  # fmt: skip
        path.write_text(_dlc(["person_4"], [f"{name},1,2,.5" for name in names]))
        assert [frame.index for frame in read_poses(path)] == numbers
    assert "2 rows with a picture's name: the number in it is taken" in caplog.text
    # Newer versions write the folders of pictures in columns of their own.
    table = _dlc(["person_4"], ["labeled-data,v,img009.png,1,2,.5"])
    for word in ("scorer", "individuals", "bodyparts", "coords"):
        table = table.replace(word, f"{word},,")
    path.write_text(table)
    table = pandas.read_csv(path, header=[0, 1, 2, 3], index_col=[0, 1, 2])
    table.to_hdf(tmp_path / "a.dlc.h5", key="df_with_missing")
    for (frame,) in (read_poses(path), read_poses(tmp_path / "a.dlc.h5")):
        assert (frame.index, frame.track_ids.tolist()) == (9, [4])
        assert frame.keypoints.tolist() == [[[1.5, 2.5, 0.5]]]
    for name, message in (
        ("img.png", "'img.png': expected a frame's number"), ("3", "frame 3 stands"),
        ("3.5", "3.5: expected a frame's number"),
    ):  # fmt: skip
        path.write_text(_dlc(["person_4"], ["3,1,2,.5", f"{name},1,2,.5"]))
        with pytest.raises(ValueError, match=f"a.dlc.csv: .*{message}"):
            read_poses(path)


def test_individuals_of_deeplabcut_keep_apart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The number of one is another's place; a bodypart that one individual alone has."""
    pytest.importorskip("pandas")
    path = tmp_path / "a.dlc.csv"
    path.write_text(
        _dlc(["person_1", "mouse", "single"], ["0,1,2,.5,3,4,.5,5,6,.5"], "nose nose box")
    )
    (frame,) = read_poses(path)
    assert frame.joint_names == ("nose", "box") and frame.track_ids.tolist() == [1, 0, 2]
    there = frame.keypoints[np.isfinite(frame.keypoints[..., 0])]
    assert there[:, 0].tolist() == [1.5, 3.5, 5.5]
    assert "2 people with names are given numbers: 'mouse' is 0, 'single' is 2" in caplog.text
    path.write_text(_dlc(["a", "a"], ["0,1,2,.5,3,4,.5"], scorers="me you"))
    with pytest.raises(ValueError, match=r"columns of several scorers, \['me', 'you'\]"):
        read_poses(path)
    path.write_text(_dlc(["a", "b"], ["0,1,2,.5,3,4,.5"]).replace("likelihood", "score"))
    with pytest.raises(ValueError, match=r"a: expected x, y and .* got \['x', 'y', 'score'\] of"):
        read_poses(path)


def test_sleap_tracks_of_one_name_and_corrected_predictions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A number that is another's place; two tracks of one name; a label made of a prediction."""
    sio = pytest.importorskip("sleap_io")
    skeleton = sio.Skeleton([sio.Node("a")], name="s")
    video = sio.Video("v.mp4", open_backend=False)
    tracks = [sio.Track(name) for name in ("person_1", "mouse", "mouse")]
    people = [
        sio.PredictedInstance.from_numpy(np.array([[x, 2.0]]), skeleton, track=track)
        for x, track in enumerate(tracks)
    ]
    mine = sio.Instance.from_numpy(np.array([[9.0, 2]]), skeleton, track=tracks[0])
    mine.from_predicted = people[0]
    labels = sio.Labels(
        [sio.LabeledFrame(video, 3, [*people, mine])], videos=[video], skeletons=[skeleton],
        tracks=tracks,
    )  # fmt: skip
    sio.save_slp(labels, str(tmp_path / "a.slp"), verbose=False)
    *_, frame = read_poses(tmp_path / "a.slp")
    assert dict(zip(frame.track_ids.tolist(), frame.keypoints[:, 0, 0])) == {0: 1.5, 2: 2.5, 1: 9.5}
    assert "1 people whom SLEAP predicted and a user corrected: left out" in caplog.text


@pytest.mark.parametrize("kind", ["trc", "c3d"])
def test_a_folder_of_ours_is_called_as_its_video(tmp_path: Path, kind: str) -> None:
    folder = write(kind, tmp_path, frames())
    assert folder.name == f"clip_{kind}" and {f.video for f in read_poses(folder)} == {"clip"}
    other = folder.rename(tmp_path / "walk")
    assert {f.video for f in read_poses(other, kind)} == {"walk"}


def test_an_id_is_no_number_of_a_frame(tmp_path: Path) -> None:
    """PoseTrack's frame_id, in a format that has a place for every frame."""
    writer = RecordingWriter(tmp_path / "a.trc", Recording("v", ("a",)))
    frame = stored_frame(10003420000, 0.0, "v", ("a",), np.ones((1, 1, 3)))
    with pytest.raises(ValueError, match="a.trc: frame 10003420000: expected a number below"):
        writer.write(frame)


def test_people_of_deeplabcut_by_their_names(tmp_path: Path) -> None:
    """Numbers of ours come back, also below 0; others are numbered by their place."""
    pytest.importorskip("pandas")
    path = tmp_path / "a.dlc.csv"
    names = ("person_12", "mouse", "person_-3")
    rows = [
        ["scorer", *["me"] * 9],
        ["individuals", *[name for name in names for _ in range(3)]],
        ["bodyparts", *["nose"] * 9],
        ["coords", *["x", "y", "likelihood"] * 3],
        [0, 1, 2, 0.5, 3, 4, 0.25, 5, 6, 0.75],
    ]
    path.write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    (frame,) = read_poses(path)
    assert frame.track_ids.tolist() == [12, 1, -3] and frame.joint_names == ("nose",)
    assert frame.keypoints[:, 0].tolist() == [
        [1.5, 2.5, 0.5], [3.5, 4.5, 0.25], [5.5, 6.5, 0.75],
    ]  # fmt: skip


def test_a_folder_of_openpose_without_a_name_or_numbers_of_people(tmp_path: Path) -> None:
    """Its video then has the folder's name; people without a number get new ones on each frame."""
    folder = tmp_path / "walk_openpose"
    folder.mkdir()
    people = [{"pose_keypoints_2d": flat(25)}, {"pose_keypoints_2d": flat(25), "person_id": [3]}]
    for number in (3, 12):
        file = folder / f"{number:012d}_keypoints.json"
        file.write_text(json.dumps({"people": people}))
    found = read_poses(folder)
    assert [(f.index, f.video, f.track_ids.tolist()) for f in found] == [
        (3, "walk_openpose", [4, 3]), (12, "walk_openpose", [5, 3]),
    ]  # fmt: skip
    people[0]["person_id"] = []
    (folder / "000000000012_keypoints.json").write_text(json.dumps({"people": people}))
    with pytest.raises(
        ValueError, match="12_keypoints.json: .*person_id: expected a list of a number"
    ):
        read_poses(folder)


@pytest.mark.parametrize(
    ("tracks", "numbers"),
    [
        ([[1, 2], [None, 1, None, 2], [2, None]], [[1, 2], [3, 1, 4, 2], [2, 5]]),
        ([[None, None], [], [None]], [[0, 1], [], [2]]),
        ([[-7], [None]], [[-7], [0]]),  # -1 is nobody's
        ([[None], [], [None]], [[0], [], [0]]),  # one person alone
        ([[None], [4]], [[5], [4]]),
        ([], []),
    ],
)
def test_numbers_of_who_is_not_followed(tracks: list, numbers: list) -> None:
    found = number_untracked(tracks)
    assert [ids.tolist() for ids, _ in found] == numbers
    assert all(ids.dtype == np.int64 for ids, _ in found)
    assert [others for _, others in found] == [
        {n for n, track in zip(ids, people, strict=True) if track is None}
        for ids, people in zip(numbers, tracks, strict=True)
    ]


def test_sizes_and_joints_of_stored_frames() -> None:
    """A file in which nobody was found may name no joint."""
    nobody = stored_frame(3, 0.5, "v", (), np.zeros((0, 0)), size=(4, 6))
    assert nobody.keypoints.shape == (0, 0, 3) and nobody.boxes.shape == (0, 4)
    assert nobody.image.shape == (4, 6, 3) and not nobody.image.any()
    assert (nobody.index, nobody.time, nobody.video, nobody.joint_names) == (3, 0.5, "v", ())
    for part, kind in (("keypoints", "float32"), ("boxes", "float32"), ("scores", "float32"),
                       ("track_ids", "int64")):  # fmt: skip
        assert getattr(nobody, part).dtype.name == kind
    one = stored_frame(0, 0.0, "v", ("a",), np.array([[[1, 2, 0.5]]]))
    assert one.image.shape == (0, 0, 3) and one.boxes.tolist() == [[1, 2, 1, 2]]


@pytest.mark.parametrize(
    "kind", ["jsonl", "csv", "coco_dataset", "trc", "c3d", "dlc", "dlc_h5", "sleap", "nwb"]
)
def test_a_model_of_one_joint(tmp_path: Path, kind: str) -> None:
    """One person, who is away on the second of three frames, in a folder that is to be made."""
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    folder = tmp_path
    if kind in ("trc", "c3d"):  # which are folders themselves
        folder = tmp_path / "new" / "folder"
    poses = [np.full((int(i != 1), 1, 3), 3 + i, np.float32) for i in range(3)]
    for pose in poses:
        pose[..., 2] = 1
    content = [
        stored_frame(i, i / 20, "clip", ("tip",), pose, size=(40, 60))
        for i, pose in enumerate(poses)
    ]
    (writer,) = open_writers([kind], folder, Recording("clip", ("tip",), 20.0))
    for frame in content:
        writer.write(frame)
    writer.close()
    path = result_paths([kind], folder, "clip")[kind]
    if kind == "trc":
        lines = (path / "person_0.trc").read_text().splitlines()
        assert lines[3:5] == ["Frame#\tTime\ttip\t\t", "\t\tX1\tY1\tZ1"]
    back = read_poses(path)
    assert [frame.keypoints.tolist() for frame in back] == [[[[3, 3, 1]]], [], [[[5, 5, 1]]]]
    assert {frame.joint_names for frame in back} == {("tip",)}


def test_a_folder_of_openpose_is_made_with_those_above_it(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "deeper"
    (writer,) = open_writers(["openpose"], folder, Recording("clip", JOINTS))
    writer.write(frames()[0])
    writer.close()
    assert [path.name for path in (folder / "clip_openpose").iterdir()] == [
        "clip_000000000000_keypoints.json"
    ]


def test_c3d_files_of_different_markers_are_refused(tmp_path: Path) -> None:
    """Else the points of one would bear the names of another."""
    pytest.importorskip("ezc3d")
    for name, joints in (("a", JOINTS), ("b", JOINTS[::-1])):
        (writer,) = open_writers(["c3d"], tmp_path, Recording(name, joints, 20.0))
        writer.write(replace(frames()[0], joint_names=joints))
        writer.close()
    (tmp_path / "b_c3d" / "person_4.c3d").rename(tmp_path / "a_c3d" / "person_5.c3d")
    with pytest.raises(ValueError, match="a_c3d: its files have different markers$"):
        read_poses(tmp_path / "a_c3d")
