"""`video-pose convert`: stored poses to other formats and skeletons."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from video_pose.cli.main import main
from video_pose.inference.writers import Recording, open_writers, read_poses
from video_pose.inference.writers.tables import stored_frame

JOINTS = ("nose", "left_shoulder", "right_shoulder", "left_hip", "right_hip")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three frames at 20 a second, one person on the first two; the nose is missing on the second.

    Joint k of frame i is at (10 i + k, 2 k).
    """
    (writer,) = open_writers(["csv"], tmp_path, Recording("v", JOINTS))
    for i in range(3):
        k = np.arange(len(JOINTS))
        pose = np.stack([10 * i + k, 2.0 * k, np.full(len(k), 0.5)], axis=1)
        if i == 1:
            pose[0, :2] = np.nan
        poses = pose[None] if i < 2 else np.zeros((0, len(k), 3))
        writer.write(stored_frame(i, i / 20, "v.mp4", JOINTS, poses))
    writer.close()
    return tmp_path / "v.csv"


def test_to_several_formats_and_back(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["convert", str(table), "--output", str(out), "--size", "64", "48"]
    assert main([*arguments, "--format", "jsonl", "coco_dataset", "trc"]) == 0
    assert {path.name for path in out.iterdir()} == {"v.jsonl", "v.coco_dataset.json", "v_trc"}
    content = json.loads((out / "v.coco_dataset.json").read_text())
    assert [(i["width"], i["height"]) for i in content["images"]] == [(64, 48)] * 3
    assert content["annotations"][1]["num_keypoints"] == 4
    (row,) = [line for line in (out / "v_trc/person_0.trc").read_text().splitlines()
              if line.startswith("20\t")]  # fmt: skip
    assert row.split("\t")[2] == "3"  # also the frame without anybody
    back = read_poses(out / "v.jsonl")
    assert [frame.time for frame in back] == [0, 0.05, 0.1] and len(back[2]) == 0


def test_another_skeleton_by_names(table: Path, tmp_path: Path) -> None:
    """Middles are computed, what is missing stays empty, nothing is guessed."""
    out = tmp_path / "out"
    arguments = ["convert", str(table), "--output", str(out), "--format", "csv", "--table", "wide"]
    assert main([*arguments, "--skeleton", "openpose_25"]) == 0
    with open(out / "v.csv", newline="") as file:
        first, second, nobody = csv.DictReader(file)
    # Shoulders at (1, 2) and (2, 4), hips at (3, 6) and (4, 8).
    assert (first["neck_x"], first["neck_y"]) == ("1.5", "3.0")
    assert (first["mid_hip_x"], first["mid_hip_y"]) == ("3.5", "7.0")
    assert first["nose_x"] == "0.0" and second["nose_x"] == ""
    assert first["left_knee_x"] == "" and nobody["track"] == "-1"


def test_one_who_is_not_followed_leaves_the_others_their_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The own number is of that frame alone, and is said to tell nothing; retrack gives another."""
    people = [(n, track) for n in range(3) for track in ([1, None, 2] if n == 1 else [1, 2])]
    content = {
        "images": [{"id": n, "frame_id": n, "vid_id": "v"} for n in range(3)],
        "categories": [{"id": 1, "keypoints": ["nose"]}],
        "annotations": [
            {"image_id": n, "category_id": 1, "keypoints": [5, 6, 2], "bbox": [90 * k, 0, 50, 50]}
            | ({} if track is None else {"track_id": track})
            for k, (n, track) in enumerate(people)
        ],
    }
    path, out = tmp_path / "a.json", tmp_path / "out"
    path.write_text(json.dumps(content))
    arguments = [str(path), "--format", "csv", "--output"]
    assert main(["convert", *arguments, str(out)]) == 0
    frames = read_poses(out / "v.csv")
    assert [frame.track_ids.tolist() for frame in frames] == [[1, 2], [1, 3, 2], [1, 2]]
    said = f"{path}: 1 of 7 poses are of people who are not followed: "
    assert capsys.readouterr().out.count(said) == 1
    assert main(["retrack", *arguments, str(tmp_path / "again")]) == 0
    assert "not followed" not in capsys.readouterr().out


def test_angles_and_times(table: Path, tmp_path: Path) -> None:
    arguments = ["convert", str(table), "--output", str(tmp_path / "o"), "--format", "csv"]
    assert main([*arguments, "--angles"]) == 0
    with open(tmp_path / "o" / "v.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["time"] for row in rows] == ["0.0", "0.05", "0.1"]
    # From (3.5, 7) to (1.5, 3): 2 to the left and 4 up.
    assert float(rows[0]["length_trunk"]) == pytest.approx(20**0.5, abs=1e-3)
    assert float(rows[0]["angle_trunk_inclination"]) == pytest.approx(-26.565, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "sleep"], "format 'sleep': choose from"),
        (["--format", "csv", "--skeleton", "ape"], "--skeleton 'ape': choose from penn_action"),
        (["--format", "csv", "--fps", "0"], "--fps 0.0: expected a number above 0"),
        (["--format", "csv", "--fps", "10"], "--fps 10 has no effect: every frame of the inputs"),
        (["--format", "sleap", "--angles"], "--angles has no effect with --format sleap: it is of"),
        (
            ["--format", "trc", "coco", "--table", "wide"],
            "--table wide has no effect with --format trc coco",
        ),
        (["--format", "coco_dataset"], "the size of its pictures is not known"),
        (["--format", "csv", "--from", "coco"], "coco cannot be read back"),
    ],
)
def test_what_cannot_be(
    table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list, message: str
) -> None:
    out = tmp_path / "out"
    assert main(["convert", str(table), "--output", str(out), *arguments]) == 1
    assert message in capfd.readouterr().err
    assert not out.exists() or list(out.iterdir()) == []


def test_nothing_is_replaced_unasked(table: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = table.read_text()
    arguments = ["convert", str(table), "--output", str(table.parent), "--format", "csv"]
    assert main(arguments) == 1 and "v.csv exists" in capfd.readouterr().err
    assert table.read_text() == before


def test_the_rate_is_of_frames_without_times(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A video of a changing rate keeps its times; the frame that has none is at its number."""
    path = tmp_path / "v.jsonl"
    (writer,) = open_writers(["jsonl"], tmp_path, Recording("v", ("a",)))
    for index, seconds in ((0, 0.0), (1, 0.375), (2, np.nan), (4, 0.5)):
        writer.write(stored_frame(index, seconds, "v", ("a",), np.ones((1, 1, 3))))
    writer.close()
    for arguments, rate, middle in (([], 25, 0.08), (["--fps", "4"], 4, 0.5)):
        out = tmp_path / f"at {rate}"
        arguments = [*arguments, "--output", str(out), "--format", "csv", "trc"]
        assert main(["convert", str(path), *arguments]) == 0
        assert f"4 frames without times, {rate} a second, to" in capsys.readouterr().out
        assert [f.time for f in read_poses(out / "v.csv")] == [0, 0.375, middle, 0.5]
        # The mean rate of 8 frames a second is that of the frames that have a time.
        assert (out / "v_trc/person_0.trc").read_text().splitlines()[2].startswith("8\t8\t5\t1\t")


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("shape", ["long", "wide"])
def test_probabilities_are_kept(tmp_path: Path, kind: str, shape: str) -> None:
    """Of a calibrated model; of a joint that is computed from others there is none."""
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    (writer,) = open_writers([kind], tmp_path, Recording("v", JOINTS, 20, "", shape, False, True))
    chances = np.array([[0.5, 0.25, 0.75, 0.125, np.nan]], np.float32)
    frame = stored_frame(0, 0.0, "v", JOINTS, np.full((1, 5, 3), 0.5))
    writer.write(replace(frame, probabilities=chances))
    writer.write(stored_frame(1, 0.05, "v", JOINTS, np.zeros((0, 5, 3))))
    writer.close()
    arguments = ["convert", str(tmp_path / f"v.{kind}"), "--format", "csv"]
    assert main([*arguments, "--output", str(tmp_path / "o")]) == 0
    first, second = read_poses(tmp_path / "o" / "v.csv")
    np.testing.assert_array_equal(first.probabilities, chances)
    assert second.probabilities is not None and second.probabilities.shape == (0, 5)
    arguments += ["--output", str(tmp_path / "p"), "--skeleton", "openpose_25", "--table", "wide"]
    assert main(arguments) == 0
    with open(tmp_path / "p" / "v.csv", newline="") as file:
        row, _ = csv.DictReader(file)
    names = ("nose", "left_shoulder", "left_hip", "right_hip", "neck", "mid_hip", "left_knee")
    assert [row[f"{name}_probability"] for name in names] == [
        "0.5", "0.25", "0.125", "", "", "", "",
    ]  # fmt: skip
    assert row["neck_score"] == "0.5"


def test_tables_that_excel_has_saved(table: Path, tmp_path: Path) -> None:
    """They begin with a mark of their encoding."""
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    assert main(["convert", str(table), "--output", str(tmp_path / "o"), "--format", "csv"]) == 0
    assert (tmp_path / "o" / "v.csv").read_bytes() == table.read_bytes()[3:]


def some_table(path: Path, *videos: str) -> Path:
    """A table of videos of a frame each, in which joint 0 is at x = 0, 1 ... of the videos."""
    (writer,) = open_writers(["csv"], path.parent, Recording(path.stem, ("a",)), path.stem)
    for x, video in enumerate(videos):
        writer.write(stored_frame(0, 0.0, video, ("a",), np.array([[[x, 0, 1.0]]])))
    writer.close()
    return path


@pytest.mark.parametrize(
    ("videos", "names"),
    [
        (["Directions 1.54138969", "Directions 1.55011271"], None),
        (["clip.v1", "clip.v2.mp4"], ["clip.v1", "clip.v2"]),
        (["clip.mp4", "clip.AVI", "other.png"], ["clip.mp4", "clip.AVI", "other"]),
        (["sub/a.mov", "b."], ["a", "b."]),
    ],
)
def test_names_lose_the_endings_of_videos_alone(
    tmp_path: Path, videos: list[str], names: list[str] | None
) -> None:
    """A point is a part of many names; where two would be one, they keep their endings."""
    path = some_table(tmp_path / "poses.csv", *videos)
    out = tmp_path / "out"
    arguments = ["--output", str(out), "--format", "jsonl", "--overwrite"]
    assert main(["convert", str(path), *arguments]) == 0
    assert {file.name for file in out.iterdir()} == {f"{name}.jsonl" for name in names or videos}
    for x, (video, name) in enumerate(zip(videos, names or videos)):
        (frame,) = read_poses(out / f"{name}.jsonl")
        assert (frame.video, frame.keypoints[0, 0, 0]) == (video, x)


def test_two_results_of_one_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """They are refused before the first is written, also with --overwrite."""
    for folder in "ab":
        (tmp_path / folder).mkdir()
    first = some_table(tmp_path / "a" / "v.csv", "u.mp4", "V.mp4")
    second = some_table(tmp_path / "b" / "v.csv", "v.mp4")
    third = some_table(tmp_path / "b" / "w.csv", "one/v.mp4", "two/v.mp4")
    out = tmp_path / "out"
    for paths in ((first, second), (third,)):
        arguments = ["--output", str(out), "--format", "jsonl", "--overwrite"]
        assert main(["convert", *map(str, paths), *arguments]) == 1
        error = capfd.readouterr().err
        assert "would hold both video" in error and str(paths[-1]) in error
        assert not out.exists() or not list(out.iterdir())


def test_no_result_takes_the_place_of_another_input(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It would be read afterwards. An input itself is replaced with --overwrite."""
    first, second = some_table(tmp_path / "u.csv", "v"), some_table(tmp_path / "v.csv", "w")
    before = second.read_text()
    arguments = ["--output", str(tmp_path), "--format", "csv", "--overwrite"]
    assert main(["convert", str(first), str(second), *arguments]) == 1
    assert f"{second} would overwrite another input" in capfd.readouterr().err
    assert second.read_text() == before
    assert main(["convert", str(some_table(tmp_path / "x.csv", "x")), *arguments]) == 0


def test_names_of_files_that_tell_no_video(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    for kind, name in (("dlc", "clip.v1.dlc.csv"), ("trc", "clip.v1_trc")):
        (writer,) = open_writers([kind], tmp_path, Recording("clip.v1", ("a",)))
        writer.write(stored_frame(0, 0.0, "clip.v1", ("a",), np.ones((1, 1, 3))))
        writer.close()
        arguments = ["--output", str(tmp_path / kind), "--format", "jsonl"]
        assert main(["convert", str(tmp_path / name), *arguments]) == 0
        assert [file.name for file in (tmp_path / kind).iterdir()] == ["clip.v1.jsonl"]


def test_a_folder_with_an_empty_frame_keeps_its_columns(table: Path, tmp_path: Path) -> None:
    """OpenPose's 18 joints: a frame without anybody, here the first, has them as well."""
    frames = read_poses(table)
    empty = stored_frame(0, 0.0, "v", JOINTS, np.zeros((0, len(JOINTS), 3)))
    (writer,) = open_writers(["openpose18"], tmp_path, Recording("v", JOINTS))
    for frame in (empty, frames[1]):
        writer.write(frame)
    writer.close()
    arguments = ["convert", str(tmp_path / "v_openpose18"), "--output", str(tmp_path / "o")]
    assert main([*arguments, "--format", "csv", "--table", "wide"]) == 0
    with open(tmp_path / "o" / "v.csv", newline="") as file:
        nobody, somebody = csv.DictReader(file)
    assert nobody["track"] == "-1" and "mid_hip_x" not in somebody
    assert (somebody["right_hip_x"], somebody["left_hip_x"]) == ("14.0", "13.0")


def test_frames_of_different_joints_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Else the columns of one would hold the joints of another."""
    (tmp_path / "v.csv").touch()
    poses = np.ones((1, 2, 3))
    frames = [stored_frame(i, 0.0, "v", ("a", "bc"[i]), poses) for i in range(2)]
    monkeypatch.setattr("video_pose.inference.writers.read_poses", lambda *_: frames)
    out = tmp_path / "o"
    arguments = ["convert", str(tmp_path / "v.csv"), "--output", str(out), "--format", "csv"]
    assert main(arguments) == 1
    assert "v: frame 1 has the joints ['a', 'c'], frame 0 has ['a', 'b']" in capfd.readouterr().err
    assert not list(out.iterdir())


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("table", ["long", "wide"])
def test_people_without_joints(tmp_path: Path, kind: str, table: str) -> None:
    """Of a model of boxes or masks: their rows have no joint."""
    (writer,) = open_writers([kind], tmp_path, Recording("v", table=table))
    boxes = np.array([[1, 2, 5, 9], [3, 4, 8, 8]], np.float32)
    scores = np.array([0.75, 0.5], np.float32)
    for i, count in enumerate((2, 0)):
        poses = np.zeros((count, 0, 3))
        writer.write(stored_frame(i, i / 20, "v", (), poses, boxes[:count], scores[:count]))
    writer.close()
    arguments = ["--output", str(tmp_path / "o"), "--format", "coco", "jsonl", "--table", table]
    assert main(["convert", str(tmp_path / f"v.{kind}"), *arguments]) == 0
    first, second = json.loads((tmp_path / "o" / "v.coco.json").read_text())
    assert (first["bbox"], first["score"]) == ([1, 2, 4, 7], 0.75) and second["track_id"] == 1
    back = read_poses(tmp_path / "o" / "v.jsonl")
    assert [frame.keypoints.shape for frame in back] == [(2, 0, 3), (0, 0, 3)]
    assert back[0].boxes.tolist() == boxes.tolist() and back[0].scores.tolist() == [0.75, 0.5]
