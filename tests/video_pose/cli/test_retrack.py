"""`video-pose retrack`: new numbers for stored poses, by boxes alone."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from video_pose.cli.main import main
from video_pose.cli.retrack import number_people
from video_pose.inference.writers import Recording, open_writers, read_poses
from video_pose.inference.writers.tables import stored_frame

JOINTS = ("a", "b")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two people stand still for ten frames of a tenth of a second; every frame has other numbers.
    The second is away on frames 3 to 7."""
    (writer,) = open_writers(["csv"], tmp_path, Recording("v", JOINTS))
    for i in range(10):
        places = [0.0] if 3 <= i <= 7 else [0.0, 200.0]
        poses = [[[x + i % 2, 10, 0.9], [x + 50, 90, 0.2]] for x in places]
        writer.write(
            stored_frame(i, i / 10, "v", JOINTS, np.array(poses),
                         track_ids=np.arange(len(places)) + 100 * i)
        )  # fmt: skip
    writer.close()
    return tmp_path / "v.csv"


def tracks(path: Path) -> list[list[int]]:
    return [frame.track_ids.tolist() for frame in read_poses(path)]


@pytest.mark.parametrize(("memory", "second"), [("2", 1), ("0.2", 2)])
def test_numbers_last_as_long_as_the_memory(
    table: Path, tmp_path: Path, memory: str, second: int
) -> None:
    """Gone for .6 s: with two seconds of memory it is the same person, with .2 somebody new."""
    out = tmp_path / "out"
    arguments = ["--tracker", "iou", "--max-missed", memory, "--format", "csv"]
    assert main(["retrack", str(table), "--output", str(out), *arguments]) == 0
    assert tracks(out / "v.csv") == [[0, 1]] * 3 + [[0]] * 5 + [[0, second]] * 2


def test_who_was_not_followed_is() -> None:
    """Frames whose people have just been numbered say so."""
    options = argparse.Namespace(tracker="iou", confidence_threshold=None, max_missed=1.0)
    poses = np.array([[[0, 10, 0.9], [50, 90, 0.2]]])
    frames = [stored_frame(i, i / 10, "v", JOINTS, poses) for i in range(2)]
    assert not any(frame.is_tracked for frame in frames)
    found = list(number_people(frames, options))
    assert all(frame.is_tracked and frame.track_ids.tolist() == [0] for frame in found)


def test_smoothing_and_doubtful_joints(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--smooth", "--joint-threshold", ".5", "--format", "csv", "--tracker", "iou"]
    assert main(["retrack", str(table), "--output", str(out), *arguments]) == 0
    frames = read_poses(out / "v.csv")
    x = np.array([frame.keypoints[0, 0, 0] for frame in frames])
    # The first joint jumps by 1 px from frame to frame; smoothed, by less each time.
    assert np.abs(np.diff(x))[2:].max() < 0.8 and x[0] == 0
    assert all(np.isnan(frame.keypoints[0, 1, 0]) for frame in frames)


def test_an_unknown_tracker(table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--output", str(tmp_path / "o"), "--format", "csv", "--tracker", "magic"]
    assert main(["retrack", str(table), *arguments]) == 1
    assert "'magic': choose from" in capfd.readouterr().err


def test_offline_correction(table: Path, tmp_path: Path) -> None:
    """The first joint jumps by 1 px from frame to frame: by less once it is smoothed. Who is away
    for half a second is filled in."""
    out = tmp_path / "out"
    arguments = ["--offline", "--format", "csv", "--tracker", "iou"]
    assert main(["retrack", str(table), "--output", str(out), *arguments]) == 0
    frames = read_poses(out / "v.csv")
    x = np.array([frame.keypoints[0, 0, 0] for frame in frames])
    assert np.abs(np.diff(x))[2:-2].max() < 0.3
    assert tracks(out / "v.csv") == [[0, 1]] * 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--offline", "--lag", "2"], "name one of them"),
        (["--repair-sides"], "need --offline or --lag"),
        (["--max-gap", "1"], "max_gap 1.0 and join_gap 2.0 have an effect offline alone"),
        (["--lag", "1", "--join-gap", "1"], "join_gap 1.0 have an effect offline alone"),
        (["--lag", "-1"], "a lag of -1 frames"),
        (["--offline", "--refiner", "none.safetensors"], "no such refiner: none.safetensors"),
    ],
)
def test_contradictions_over_time(
    table: Path, tmp_path: Path, arguments: list[str], message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    common = ["--output", str(tmp_path / "o"), "--format", "csv", "--tracker", "iou"]
    assert main(["retrack", str(table), *common, *arguments]) == 1
    assert message in capfd.readouterr().err


@pytest.mark.parametrize("table", ["long", "wide"])
def test_people_without_joints(
    tmp_path: Path, table: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of a model of boxes or masks: they are followed by their boxes."""
    recording = Recording("v", table=table)
    (writer,) = open_writers(["jsonl"], tmp_path, recording)
    for i in range(3):
        boxes = np.array([[10 * k + i, 5, 10 * k + 6 + i, 40] for k in range(2)], np.float32)
        writer.write(
            stored_frame(i, i / 10, "v", (), np.zeros((2, 0, 3)), boxes,
                         np.array([0.9, 0.8], np.float32), np.array([7, 9]) + i)
        )  # fmt: skip
    writer.close()
    arguments = ["retrack", str(tmp_path / "v.jsonl"), "--format", "jsonl", "--tracker", "iou"]
    assert main([*arguments, "--output", str(tmp_path / "o")]) == 0
    back = read_poses(tmp_path / "o" / "v.jsonl")
    assert [frame.track_ids.tolist() for frame in back] == [[0, 1]] * 3
    assert back[2].boxes.tolist() == [[2, 5, 8, 40], [12, 5, 18, 40]]
    assert back[2].keypoints.shape == (2, 0, 3)
    assert main([*arguments, "--output", str(tmp_path / "p"), "--offline"]) == 1
    assert "correct joints: the poses have none" in capfd.readouterr().err


def scored_table(folder: Path, scores: list[float]) -> Path:
    """Six frames of people of these scores, 100 px from each other; all move by 2 px a frame."""
    (writer,) = open_writers(["csv"], folder, Recording("v", JOINTS))
    for i in range(6):
        poses = [[[100 * k + 2 * i, 10, 0.9], [100 * k + 50, 90, 0.8]] for k in range(len(scores))]
        writer.write(
            stored_frame(i, i / 25, "v", JOINTS, np.array(poses), scores=np.array(scores),
                         track_ids=np.arange(len(scores)) + 10 * i)
        )  # fmt: skip
    writer.close()
    return folder / "v.csv"


@pytest.mark.parametrize("tracker", ["iou", "ocsort", "bytetrack", "botsort", "cbiou"])
def test_everybody_in_a_table_is_followed(
    tmp_path: Path, tracker: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever wrote it has accepted them: those that predict begins at .4, the means of OpenPose's
    joints, weak ones, and people without a score."""
    if tracker != "iou":
        pytest.importorskip("trackers")
    path = scored_table(tmp_path, [0.45, 0.05, float("nan"), 0.0, 0.9])
    arguments = ["retrack", str(path), "--format", "csv", "--tracker", tracker]
    assert main([*arguments, "--output", str(tmp_path / "o")]) == 0
    found = [dict(zip(f.boxes[:, 0] // 100, f.track_ids)) for f in read_poses(tmp_path / "o/v.csv")]
    assert [len(people) for people in found] == [5] * 6
    assert all(people == found[0] for people in found) and len(set(found[0].values())) == 5
    assert "left out" not in capsys.readouterr().out


def test_who_is_left_out_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = scored_table(tmp_path, [0.45, float("nan"), 0.9])
    arguments = ["retrack", str(path), "--format", "csv", "--tracker", "iou"]
    arguments += ["--confidence-threshold", ".5"]
    assert main([*arguments, "--output", str(tmp_path / "o")]) == 0
    assert [len(frame) for frame in read_poses(tmp_path / "o/v.csv")] == [2] * 6
    assert "v: 6 of 18 poses are left out: below --confidence-threshold" in (
        capsys.readouterr().out
    )


def test_probabilities_stay_with_their_people(tmp_path: Path) -> None:
    """Who is left out takes them away; of corrected poses there are none."""
    recording = Recording("v", JOINTS, probabilities=True)
    (writer,) = open_writers(["csv"], tmp_path, recording)
    for i in range(3):
        poses = np.array([[[300 * k, 10, 0.9], [300 * k + 50, 90, 0.8]] for k in range(3)])
        frame = stored_frame(
            i, i / 25, "v", JOINTS, poses, scores=np.array([0.9, 0.2, 0.7]), size=(10, 10)
        )
        chances = np.array([[0.5, 0.625], [0.25, 0.125], [0.75, 0.875]], np.float32)
        writer.write(replace(frame, probabilities=chances))
    writer.close()
    arguments = ["retrack", str(tmp_path / "v.csv"), "--format", "csv", "--tracker", "iou"]
    arguments += ["--confidence-threshold", ".5"]
    assert main([*arguments, "--output", str(tmp_path / "o"), "--smooth"]) == 0
    for frame in read_poses(tmp_path / "o/v.csv"):
        assert frame.probabilities is not None
        assert frame.probabilities.tolist() == [[0.5, 0.625], [0.75, 0.875]]
    for option in (["--offline"], ["--lag", "1"]):
        assert main([*arguments, "--output", str(tmp_path / option[0]), *option]) == 0
        found = read_poses(tmp_path / option[0] / "v.csv")
        assert [(len(frame), frame.probabilities) for frame in found] == [(2, None)] * 3
