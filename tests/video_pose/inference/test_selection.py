"""Parts of videos, and the people and joints that are wanted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from video_pose.inference.frames import Frame
from video_pose.inference.predictor import VideoPosePredictor
from video_pose.inference.selection import Excerpt, Moment, keep_wanted
from video_pose.inference.video_source import VideoSource
from video_pose.inference.writers.tables import stored_frame
from video_pose.video_io.reading import VideoIndex
from video_pose.video_io.writing import VideoWriter


class Source:
    """Ten frames, a quarter of a second each; it notices trouble behind the eighth."""

    name, fps, num_frames, path = "v", 4.0, 10, "v.mp4"

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.read = 0

    def __iter__(self):
        for i in range(10):
            self.read = i
            if i == 9:
                self.problems.append("damaged")
            yield Frame(i, i / 4, np.zeros((2, 2, 3), np.uint8))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("250f", Moment(frames=250)),
        ("2.5", Moment(seconds=2.5)),
        ("3s", Moment(seconds=3)),
        ("1:30", Moment(seconds=90)),
        ("1:02:03.5", Moment(seconds=3723.5)),
        ("0:05", Moment(seconds=5)),
        ("2:00:00", Moment(seconds=7200)),
        (".5s", Moment(seconds=0.5)),
    ],
)
def test_moments(text: str, moment: Moment) -> None:
    assert Moment.parse(text) == moment


@pytest.mark.parametrize("text", ["", "f", "2.5f", "-1", "-0.1", "-3f", "nan", "inf", "1:", "soon"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError) as error:
        Moment.parse(text)
    assert str(error.value) == (f"{text!r}: expected frames (250f), seconds (2.5) or a time (1:30)")


@pytest.mark.parametrize(
    ("start", "end", "step", "frames"),
    [
        ("2f", "5f", None, [2, 3, 4]),
        ("0.5", "1.25", None, [2, 3, 4]),
        (None, None, "3f", [0, 3, 6, 9]),
        ("1f", None, "4f", [1, 5, 9]),
        (None, "2", "0.5", [0, 2, 4, 6]),
        (None, "1", "0.3", [0, 2, 3]),  # the first at or behind 0, .3, .6; .9 is at 1
        ("1f", None, "0.3", [1, 3, 4, 5, 6, 7, 9]),  # .25, .55, .85, 1.15, 1.45, 1.75, 2.05
        ("0.3", None, "0.5", [2, 4, 6, 8]),  # .3, .8, 1.3, 1.8
        ("9", None, None, []),
    ],
)
def test_a_part_keeps_numbers_and_times(
    start: str | None, end: str | None, step: str | None, frames: list[int]
) -> None:
    part = [None if text is None else Moment.parse(text) for text in (start, end, step)]
    excerpt = Excerpt(Source(), *part)
    assert [(frame.index, frame.time) for frame in excerpt] == [(i, i / 4) for i in frames]
    assert excerpt.problems == ([] if end else ["damaged"])


@pytest.mark.parametrize("step", [0.1, 0.3, 0.04, 1.0])
def test_steps_of_seconds_do_not_drift(step: float) -> None:
    """Ten seconds at 25 a second: as many frames as steps begin, each the first of its step."""
    frames = [Frame(i, i / 25, np.zeros((2, 2, 3), np.uint8)) for i in range(250)]

    class Long(Source):
        def __iter__(self) -> Iterator[Frame]:
            return iter(frames)

    source = Long()
    taken = [frame.time for frame in Excerpt(source, step=Moment(seconds=step))]
    assert len(taken) == math.ceil(10 / step - 1e-9)
    assert all(0 <= time - i * step + 1e-9 < 0.04 for i, time in enumerate(taken))
    # In a gap of the video's times no frame stands for those that are missing.
    del frames[100:200]
    taken = [frame.time for frame in Excerpt(source, step=Moment(seconds=step))]
    steps = [math.floor(time / step + 1e-9) for time in taken]
    assert len(set(steps)) == len(steps) and taken[-1] > 10 - step - 0.04


def test_a_real_video_is_entered_at_a_key_frame(tmp_path: Path) -> None:
    """Frames of the part are those of the whole video."""
    path = tmp_path / "v.mp4"
    with VideoWriter(path, 10) as writer:
        for i in range(40):
            writer.write(np.full((32, 32, 3), 6 * i, np.uint8), i / 10)
    whole = list(VideoSource(str(path)))
    part = list(Excerpt(VideoSource(str(path)), Moment.parse("2.5"), Moment.parse("28f")))
    assert [frame.index for frame in part] == [25, 26, 27]
    for frame in part:
        np.testing.assert_array_equal(frame.image, whole[frame.index].image)
        assert frame.time == pytest.approx(whole[frame.index].time)


def test_what_comes_after_the_end_is_not_read() -> None:
    source = Source()
    assert len(list(Excerpt(source, end=Moment(frames=3)))) == 3 and source.read == 3


def test_doubtful_joints_and_people() -> None:
    poses = np.array([[[5, 6, 0.8], [7, 8, 0.7]], [[1, 2, 0.2], [3, 4, 0.1]]], np.float32)
    frame = stored_frame(0, 0.0, "v", ("a", "b"), poses, track_ids=np.array([4, 9]))
    found = keep_wanted(frame, min_person_score=0.5, min_joint_score=0.75)
    assert found.track_ids.tolist() == [4] and len(found.boxes) == len(found.scores) == 1
    assert found.keypoints[0, 0].tolist() == pytest.approx([5, 6, 0.8])
    assert math.isnan(found.keypoints[0, 1, 0]) and found.keypoints[0, 1, 2] == pytest.approx(0.7)
    assert np.isfinite(frame.keypoints).all()  # the frame itself is left alone
    assert keep_wanted(frame) is frame and keep_wanted(frame, -0.1, -0.1) is frame


def test_sources_read_side_by_side_have_problems_of_their_own() -> None:
    predictor = VideoPosePredictor(lambda frames, name: iter(frames), ["nose"])
    damaged, part = predictor(Source()), predictor(Excerpt(Source(), end=Moment(frames=4)))
    assert [next(poses).index for poses in (damaged, part)] == [0, 0]
    assert len(list(damaged)) == 9 and len(list(part)) == 3
    assert (damaged.problems, part.problems) == (["damaged"], [])


def test_bounds_belong_to_what_is_wanted() -> None:
    """A score that is the bound; a bound of people or joints alone; all that a person has."""
    from dataclasses import replace

    poses = np.array([[[5, 6, 0.5], [7, 8, 0.5]], [[1, 2, 0.25], [3, 4, 0.25]]], np.float32)
    frame = stored_frame(0, 0.0, "v", ("a", "b"), poses, track_ids=np.array([4, 9]))
    frame = replace(
        frame, probabilities=np.ones((2, 2)), masks=np.ones((2, 3, 3), bool),
        heatmaps=np.ones((2, 1)), map_to_image=np.ones((2, 1)), peaks=np.arange(2)[:, None],
    )  # fmt: skip
    people = keep_wanted(frame, min_person_score=0.5)
    assert people.track_ids.tolist() == [4] and people.keypoints[..., 2].tolist() == [[0.5, 0.5]]
    for name in ("masks", "heatmaps", "map_to_image", "peaks", "probabilities"):
        assert len(getattr(people, name)) == 1, name
    assert people.peaks.tolist() == [[0]]
    assert len(keep_wanted(frame, min_person_score=0.25)) == 2
    joints = keep_wanted(frame, min_joint_score=0.5)
    assert len(joints) == 2 and np.isfinite(joints.keypoints[0]).all()
    assert np.isnan(joints.keypoints[1, :, :2]).all() and joints.peaks.tolist() == [[0], [1]]


@pytest.mark.parametrize(("seconds", "reached"), [(1.0, True), (1.0000005, True), (1.00001, False)])
def test_a_moment_a_millionth_away_is_reached(seconds: float, reached: bool) -> None:
    frame = Frame(4, 1.0, np.zeros((2, 2, 3), np.uint8))
    assert Moment(seconds=seconds).is_reached(frame, 0.0) is reached
    assert Moment(seconds=seconds - 0.75).is_reached(frame, 0.75) is reached
    assert Moment(frames=4).is_reached(frame, 0.5) and not Moment(frames=5).is_reached(frame, 0)
    assert not Moment().is_reached(frame, 0.0)


def test_a_part_tells_what_its_source_tells() -> None:
    whole = Excerpt(Source())
    assert (whole.name, whole.fps, whole.num_frames, whole.path) == ("v", 4.0, 10, "v.mp4")
    assert whole.reads_twice and not whole.sound
    for part in ("start", "end", "step"):
        assert Excerpt(Source(), **{part: Moment(frames=1)}).num_frames is None
    for none in (Moment(seconds=0.0), Moment(frames=0)):
        with pytest.raises(ValueError) as error:
            Excerpt(Source(), step=none)
        assert str(error.value) == "a step of 0: expected 1f or more, or seconds above 0"
    camera = Source()
    camera.reads_twice = False  # type: ignore[attr-defined]
    assert not Excerpt(camera).reads_twice
    bare = SimpleNamespace(name="a", fps=1.0, num_frames=None, problems=[])  # of one in memory
    assert Excerpt(bare).path == "" and Excerpt(bare).reads_twice  # type: ignore[arg-type]
    assert Moment.parse("0f") == Moment(frames=0) and Moment.parse("0") == Moment(seconds=0)


@pytest.fixture
def video(monkeypatch: pytest.MonkeyPatch) -> VideoSource:
    """A video of ten frames at 0, 0.25 and so on, whose index is known. It tells what it is asked
    for by `asked`."""

    def inspect(self: VideoSource) -> None:
        self.fps, self._time_base, self._raw = 4.0, Fraction(1, 100), False
        self._index = VideoIndex(np.arange(10) * 25, [(0, 0)], packets=10)
        self._listed, self._duration, self._missing = 10, 0.0, 0

    monkeypatch.setattr(VideoSource, "_inspect", inspect)

    def frames_from(self: VideoSource, first: int, since: int | None = None) -> Iterator[Frame]:
        self.asked = (first, since)  # type: ignore[attr-defined]
        return iter([Frame(i, i / 4, np.zeros((2, 2, 3), np.uint8)) for i in range(first, 10)])

    monkeypatch.setattr(VideoSource, "frames_from", frames_from)
    return VideoSource("v.mp4")


@pytest.mark.parametrize(
    ("start", "asked", "again"),
    [
        (None, (0, None), (6, 0)),
        ("0", (0, None), (6, 0)),
        ("4f", (4, None), (6, 4)),
        ("0.75", (3, None), (6, 3)),
        ("0.8", (4, None), (6, 4)),
    ],
)
def test_where_a_video_is_entered(
    video: Any, start: str | None, asked: tuple[int, int | None], again: tuple[int, int]
) -> None:
    """Frames before the part are not decoded; a part that is gone on with counts what was missing
    in it from its own start."""
    part = Excerpt(video, start and Moment.parse(start), Moment(frames=9), Moment(frames=2))
    frames = [frame.index for frame in part]
    assert video.asked == asked and frames == list(range(asked[0], 9, 2))
    assert [frame.index for frame in part.resume_at(6)] == [6, 8] and video.asked == again


@pytest.mark.parametrize("start", [None, "3f", "0.75", "0.6"])
@pytest.mark.parametrize("step", [0.3, 0.4, 0.6])
def test_a_part_that_is_gone_on_with_has_the_same_steps(
    video: Any, start: str | None, step: float
) -> None:
    """Wherever it goes on: steps count from the part's start, not from there."""
    part = Excerpt(video, start and Moment.parse(start), step=Moment(seconds=step))
    whole = [frame.index for frame in part]
    assert len(whole) >= 3
    for place, index in enumerate(whole):
        assert [frame.index for frame in part.resume_at(index)] == whole[place:]


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize(
    ("start", "end", "step", "frames"),
    [
        ("0.5", "1.25", None, [2, 3, 4]), (None, "1", None, [0, 1, 2, 3]),
        ("0.5", None, "0.5", [2, 4, 6, 8]), ("1f", "2", "0.3", [1, 3, 4, 5, 6, 7]),
    ],
)  # fmt: skip
def test_seconds_count_from_the_first_frame_whatever_its_time(
    video: Any, monkeypatch, indexed: bool, start: Any, end: Any, step: Any, frames: list[int]
) -> None:
    """A transport stream seldom begins at 0; players count from where it begins."""
    pictures = [Frame(i, 5 + i / 4, np.zeros((2, 2, 3), np.uint8)) for i in range(10)]

    class Late(Source):
        def __iter__(self) -> Iterator[Frame]:
            return iter(pictures)

    source: Any = video if indexed else Late()
    if indexed:
        video._index = VideoIndex(500 + np.arange(10) * 25, [(0, 0)], packets=10)
        monkeypatch.setattr(video, "frames_from", lambda first, since=None: iter(pictures[first:]))
    bounds = [None if text is None else Moment.parse(text) for text in (start, end, step)]
    part = Excerpt(source, *bounds)
    found = list(part)
    assert [(f.index, f.time) for f in found] == [(i, 5 + i / 4) for i in frames]
    if indexed:
        for place, index in enumerate(frames):
            assert [f.index for f in part.resume_at(index)] == frames[place:]


def test_seconds_of_a_bare_stream_go_by_the_given_rate(video: Any) -> None:
    """Its own times are FFmpeg's filling."""
    video._raw, video.fps = True, 2.0
    assert [video.number_at(seconds) for seconds in (0, 0.4, 0.5, 2)] == [0, 1, 1, 4]


def test_a_part_is_as_sound_as_its_video(video: Any) -> None:
    part = Excerpt(video, end=Moment(frames=3))
    assert part.sound
    video._sound = False
    assert not part.sound and not Excerpt(Source()).sound


def test_moments_are_values() -> None:
    assert len({Moment(frames=3), Moment(frames=3), Moment(seconds=3)}) == 2
