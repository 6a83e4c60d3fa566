"""A run that is cut off and gone on with gives what an uninterrupted one gives, to the bit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from video_pose.data.clip_mapper import build_pose_mapper
from video_pose.data.synthetic.scene import Scene, render_scene
from video_pose.inference.detected_people import DetectedPeople
from video_pose.inference.frames import Frame, PoseFrame
from video_pose.inference.people import FollowedPerson, GivenBoxes
from video_pose.inference.predictor import VideoPosePredictor
from video_pose.inference.rcnn import PersonRCNN, StreamingRCNNPredictor, _restore, _stored
from video_pose.inference.resume import CHECKPOINT, Checkpoint, Past, describe_files, describe_text
from video_pose.inference.selection import Excerpt, Moment
from video_pose.inference.smoothing import OneEuroSmoother
from video_pose.inference.streaming import CutDetector, StreamingPosePredictor
from video_pose.inference.trackers import build_tracker
from video_pose.inference.video_source import VideoSource
from video_pose.inference.writers import tables
from video_pose.modeling.backend import TorchBackend
from video_pose.modeling.recurrent_keypoint_rcnn import KeypointMemory, PeopleMemory

FRAMES = 16
CUT = 6  # from this frame on the pictures are inverted


@pytest.fixture(scope="module")
def scene() -> Scene:
    return render_scene(5, people=2, frames=FRAMES, size=(160, 120), occluders="none")


class Listed:
    """Frames in memory that can be read from any place; counts what was read."""

    name, fps, num_frames, path, problems, sound = "listed", 25.0, FRAMES, "", [], True

    def __init__(self, scene: Scene) -> None:
        pictures = [255 - p if i >= CUT else p for i, p in enumerate(scene.frames)]
        self.frames = [Frame(i, i / 25, picture) for i, picture in enumerate(pictures)]
        self.read: list[int] = []

    def __iter__(self) -> Iterator[Frame]:
        return self.resume_at(0)

    def resume_at(self, index: int) -> Iterator[Frame]:
        for frame in self.frames[index:]:
            self.read.append(frame.index)
            yield frame


class Detector:
    """Knows people by the picture. The second is hidden for two frames, and a weak box for two."""

    def __init__(self, scene: Scene, source: Listed) -> None:
        self.people = scene.people
        self.number = {frame.image.tobytes(): frame.index for frame in source.frames}
        self.calls = 0

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.calls += 1
        i = self.number[image.tobytes()]
        boxes = np.stack([person.boxes[i] for person in self.people]).astype(np.float32)
        scores = np.array([0.9, 0.3 if i in (3, 4) else 0.8], np.float32)
        return (boxes[:1], scores[:1]) if i in (9, 10) else (boxes, scores)


def make_people(kind: str, detector: Detector) -> Callable[[], Any]:
    if kind == "frame":
        return GivenBoxes
    if kind == "pose":
        return partial(FollowedPerson, min_score=0.0)

    def make() -> DetectedPeople:
        tracker = build_tracker(kind, min_score=0.5, max_missed_seconds=1.0)
        return DetectedPeople(detector, tracker, every=2, sigmas=[0.1] * 15)

    return make


def assert_equal(found: Sequence[PoseFrame], expected: Sequence[PoseFrame]) -> None:
    assert [frame.index for frame in found] == [frame.index for frame in expected]
    for a, b in zip(found, expected):
        assert (a.time, a.starts_shot, a.image.shape) == (b.time, b.starts_shot, b.image.shape)
        for name in ("keypoints", "boxes", "scores", "track_ids"):
            assert getattr(a, name).tobytes() == getattr(b, name).tobytes(), (a.index, name)


@pytest.mark.parametrize("pictures", [True, False])
@pytest.mark.parametrize(
    ("kind", "model", "options", "batch"),
    [
        ("frame", "lstm_pm", ("TEST.RESET_EVERY", 5), 4),
        ("pose", "unipose_lstm", ("MODEL.POSE.ALIGN_STATE", True, "TEST.FLIP", True), 1),
        ("iou", "unipose_lstm", ("MODEL.POSE.ALIGN_STATE", True), 1),
        ("bytetrack", "unipose_lstm", (), 1),
        ("ocsort", "lstm_pm", (), 1),
        ("botsort", "unipose_lstm", (), 1),
        ("cbiou", "unipose_lstm", (), 1),
    ],
)
def test_a_stream_cut_off_three_times(
    pose_cfg: Callable[..., CfgNode],
    build_backend: Callable[[CfgNode], TorchBackend],
    scene: Scene,
    tmp_path: Path,
    kind: str,
    model: str,
    options: tuple[Any, ...],
    batch: int,
    pictures: bool,
) -> None:
    """At the 5th, the 8th (behind the cut) and the 12th frame, with a save after every third."""
    if kind not in ("frame", "pose", "iou"):
        pytest.importorskip("trackers")
    cfg = pose_cfg(model, *options)
    backend = build_backend(cfg)
    source = Listed(scene)
    detector = Detector(scene, source)
    stream = StreamingPosePredictor(
        backend=backend,
        mapper=build_pose_mapper(cfg, False),
        people=make_people(kind, detector),
        cuts=CutDetector,
        batch_frames=batch,
    )
    predictor = VideoPosePredictor(stream, backend.joint_names, smoother=OneEuroSmoother())
    expected = list(predictor(source))
    assert [frame.index for frame in expected if frame.starts_shot] == [0, CUT]
    whole, source.read, detector.calls = detector.calls, [], 0
    for stop in (5, 8, 12):
        checkpoint = Checkpoint(tmp_path / "c", {}, frames=3, pictures=pictures)
        results = predictor(source, checkpoint=checkpoint)
        for _ in range(stop):
            next(results)
        del results
    checkpoint = Checkpoint(tmp_path / "c", {}, frames=3, pictures=pictures)
    done = checkpoint.count
    assert done >= 9
    source.read, detector.calls = [], 0
    assert_equal(list(predictor(source, checkpoint=checkpoint)), expected)
    first = 0 if pictures else done - 1
    assert source.read == list(range(first, FRAMES))
    assert detector.calls < whole or kind in ("frame", "pose")
    checkpoint.remove()
    assert not (tmp_path / "c").exists()


class RememberingRCNN(PersonRCNN):
    """Finds one person whose place, mask and number follow from a memory."""

    model = torch.nn.Identity()  # on the CPU

    joint_names = ("a",)

    def __init__(self) -> None:
        pass

    def new_memory(self) -> Any:
        return PeopleMemory()

    def instances(self, image: np.ndarray, memory: Any = None) -> Any:
        from detectron2.structures import Boxes, Instances

        if memory.state is None:
            part = torch.zeros(1, 2, 3, 3)
            memory.state = KeypointMemory(part, part + 0.1, part, torch.ones(1, 1, 1, 1))
            memory.ids, memory.next_id, memory.ages = [memory.next_id], memory.next_id + 1, [1]
            memory.poses = torch.zeros(1, 1, 3)
        memory.state = memory.state._replace(cell=torch.sin(memory.state.cell + 1 + image.mean()))
        memory.boxes, memory.missed = memory.state.cell[:, 0, 0, :1] + torch.arange(4.0), [0]
        memory.frame += 1
        found = Instances(image.shape[:2], pred_boxes=Boxes(memory.boxes))
        found.scores = torch.tensor([0.7])
        found.pred_keypoints = memory.state.cell[:, 0, :1]
        found.pred_track_ids = torch.tensor(memory.ids)
        found.pred_masks = torch.from_numpy(image[..., 0] > 100)[None]
        return found


def test_an_rcnn_that_remembers_people_and_finds_masks(scene: Scene, tmp_path: Path) -> None:
    source, rcnn = Listed(scene), RememberingRCNN()
    people = partial(DetectedPeople, rcnn, build_tracker("iou", min_score=0.5,
                                                         max_missed_seconds=1))  # fmt: skip
    predictor = VideoPosePredictor(StreamingRCNNPredictor(rcnn, people, cuts=CutDetector), ("a",))
    expected = list(predictor(source))
    assert [frame.track_ids.tolist() for frame in expected] == [[int(i >= CUT)] for i in range(16)]
    for stop in (4, 9, 16):
        checkpoint = Checkpoint(tmp_path / "c", {}, frames=2)
        results = predictor(source, checkpoint=checkpoint)
        found = [next(results) for _ in range(stop)]
    assert_equal(found, expected)
    for a, b in zip(found, expected):
        assert a.masks is not None and b.masks is not None
        np.testing.assert_array_equal(a.masks, b.masks)


def test_a_memory_of_people_goes_on_as_if_it_had_never_been_written(
    tiny_rcnn_cfg: Callable[..., CfgNode], tmp_path: Path
) -> None:
    """A detector that begins everybody's memory anew every three frames: ages count, too."""
    torch.manual_seed(0)
    model = build_model(tiny_rcnn_cfg("TEST.RESET_EVERY", 3, "DATASETS.TEST", ())).eval()
    for module in model.roi_heads.keypoint_head.memory_modules():
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    picture = torch.randint(256, (3, 64, 96), dtype=torch.uint8)
    frame = {"image": picture, "height": 64, "width": 96}
    memory = PeopleMemory()
    for _ in range(2):
        model.step(frame, memory)
    assert max(memory.ages) == 2, "nobody was seen again: the test shows nothing"

    def written(name: str, tensors: dict[str, torch.Tensor], rest: dict[str, Any]) -> Checkpoint:
        checkpoint = Checkpoint(tmp_path / name, {}, frames=1)
        checkpoint.add(past(0), image())
        checkpoint.save(tensors, rest)
        return Checkpoint(tmp_path / name, {})

    cpu = torch.device("cpu")
    _restore(again := PeopleMemory(), written("c", *_stored(memory)), cpu)
    for part in fields(PeopleMemory):
        first, second = getattr(memory, part.name), getattr(again, part.name)
        if isinstance(first, torch.Tensor | tuple):
            torch.testing.assert_close(tuple(second), tuple(first), atol=0, rtol=0)
        else:
            assert first == second, part.name
    for _ in range(3):
        one, other = (model.step(frame, m)["instances"] for m in (memory, again))
        assert torch.equal(one.pred_keypoints, other.pred_keypoints)
        assert one.pred_track_ids.tolist() == other.pred_track_ids.tolist()
    nobody = PeopleMemory(next_id=4, frame=7)
    _restore(again := PeopleMemory(), written("d", *_stored(nobody)), cpu)
    assert again == nobody
    tensors, rest = _stored(memory)
    del tensors["poses"]
    with pytest.raises(ValueError, match="/e was begun by an earlier version, .*: remove it to"):
        _restore(PeopleMemory(), written("e", tensors, rest), cpu)


def past(index: int, **arrays: np.ndarray) -> Past:
    return Past(index, index / 10, (4, 6), index == 1, arrays)


def image(value: int = 0) -> np.ndarray:
    return np.full((4, 6, 3), value, np.uint8)


def test_what_was_taken_down_comes_back(tmp_path: Path) -> None:
    """Arrays of any number of rows, none at all, and a state in its order in memory."""
    state = torch.arange(24.0).view(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    given = [
        past(0, x=np.arange(6, dtype=np.float32).reshape(2, 3)),
        past(1),
        past(2, x=np.zeros((0, 3), np.float32), y=np.array([5], np.int64)),
    ]
    checkpoint = Checkpoint(tmp_path / "c", {"model": "m"}, frames=2)
    for one in given[:2]:
        assert not checkpoint.is_due()
        checkpoint.add(one, image())
    assert checkpoint.is_due()
    checkpoint.save({}, {"ids": [1]})
    checkpoint.add(given[2], image(9))
    checkpoint.save({"s": state, "h": state.bfloat16()}, {"ids": [4, 7]})
    checkpoint.add(past(3), image())  # not saved
    again = Checkpoint(tmp_path / "c", {"model": "m"})
    assert again.count == 3
    found = list(again.past())
    assert [(p.index, p.time, p.size, p.cut) for p in found] == [
        (0, 0.0, (4, 6), False), (1, 0.1, (4, 6), True), (2, 0.2, (4, 6), False),
    ]  # fmt: skip
    assert [sorted(p.arrays) for p in found] == [["x"], [], ["x", "y"]]
    assert found[0].arrays["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found[2].arrays["x"].shape == (0, 3) and found[2].arrays["y"].tolist() == [5]
    stored = again.state()
    assert stored is not None
    tensors, rest = stored
    assert rest == {"ids": [4, 7]} and torch.equal(tensors["s"], state)
    assert tensors["s"].stride() == state.stride() and tensors["h"].dtype == torch.bfloat16
    # One state, and a segment a save.
    names = {"checkpoint.json", "frames-000000.safetensors", "frames-000001.safetensors"}
    assert {p.name for p in (tmp_path / "c").iterdir()} == names | {
        ".lock", "state-000001.safetensors",
    }  # fmt: skip


def test_a_kill_between_two_files_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, {}, seconds=0)
    checkpoint.add(past(0), image())
    checkpoint.save({}, {"n": 1})
    for name in ("frames-000001.safetensors", "state-000001.safetensors", ".checkpoint.json.7.tmp"):
        (tmp_path / name).write_bytes(b"half of it")
    again = Checkpoint(tmp_path, {})
    assert again.count == 1 and len(list(again.past())) == 1 and again.state() == ({}, {"n": 1})
    again.add(past(1), image())
    again.save({}, {"n": 2})
    assert [p.index for p in Checkpoint(tmp_path, {}).past()] == [0, 1]


def test_what_is_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    checkpoint = Checkpoint(folder, {"model": "a", "input": "b"})
    checkpoint.add(past(0), image())
    checkpoint.save({}, {})
    for about, names in (
        ({"model": "a", "input": "c"}, "input"),
        ({"model": "x", "input": "c"}, "model and input"),
        ({"model": "a"}, "input"),
        ({"model": "a", "input": "b", "size": "c"}, "size"),
    ):
        with pytest.raises(ValueError) as error:
            Checkpoint(folder, about)
        assert str(error.value) == (
            f"{folder} was begun with another {names}: delete it to begin anew, or go on with "
            "what it was begun with"
        )
    other = [Frame(0, 0.0, image(1))]  # another picture
    with pytest.raises(ValueError, match="frame 0 is another than when .* delete it"):
        list(Checkpoint(folder, {"model": "a", "input": "b"}).frames(other))
    (folder / "frames-000000.safetensors").write_bytes(b"?")
    with pytest.raises(ValueError, match="frames-000000.safetensors cannot be read .* delete"):
        list(Checkpoint(folder, {"model": "a", "input": "b"}).past())
    (folder / "frames-000000.safetensors").unlink()
    (folder / "state-000000.safetensors").unlink()
    again = Checkpoint(folder, {"model": "a", "input": "b"})
    with pytest.raises(ValueError, match="frames-000000.safetensors cannot be read .* delete"):
        list(again.past())
    with pytest.raises(ValueError, match="state-000000.safetensors cannot be read .* delete"):
        again.state()
    whole = json.loads((folder / CHECKPOINT).read_text())
    for content, words in (
        ("{", r"Expecting .*"), ('{"version": 9}', "version 9, this program writes 1"),
        ("[]", "list .*"), (json.dumps({**whole, "frames": "many"}), "invalid literal .*"),
        (json.dumps({k: v for k, v in whole.items() if k != "state"}), "'state'"),
    ):  # fmt: skip
        (folder / CHECKPOINT).write_text(content)
        message = rf"checkpoint.json cannot be read \({words}\): delete {folder} to begin anew$"
        with pytest.raises(ValueError, match=message):
            Checkpoint(folder, {"model": "a", "input": "b"})


HOLD = """
import sys, time
from video_pose.inference.resume import Checkpoint
held = Checkpoint(sys.argv[1], {})
print("held", flush=True)
time.sleep(600)
"""


def test_a_video_is_one_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "c")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="c is in use by another run: wait for it"):
            Checkpoint(tmp_path / "c", {})
        other.kill()
    Checkpoint(tmp_path / "c", {}).remove()


def test_files_are_known_by_content_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "v"
    path.write_bytes(b"0123456789")
    os.utime(path, (5, 5))
    first = describe_files([path])
    assert describe_files([path]) == first
    os.utime(path, (6, 6))
    assert describe_files([path]) != first
    path.write_bytes(b"0123456780")
    os.utime(path, (5, 5))
    assert describe_files([path]) != first
    path.write_bytes(b"0123456789")
    os.utime(path, (5, 5))
    assert describe_files([path]) == first and describe_files([path, path]) != first
    other = path.rename(tmp_path / "w")
    assert describe_files([other]) != first and len(describe_files([])) == 32
    # Of equal ends and times the size tells: zeros, of which the middle ones are not read.
    found = set()
    for megabytes in (3, 4):
        other.write_bytes(bytes(megabytes << 20))
        os.utime(other, (5, 5))
        found.add(describe_files([other]))
    assert len(found) == 2
    with pytest.raises(FileNotFoundError):
        describe_files([tmp_path / "absent"])


def numbers(frames: Iterator[Frame]) -> list[tuple[int, bytes]]:
    return [(frame.index, frame.image.tobytes()) for frame in frames]


@pytest.mark.parametrize("part", [None, ("5f", "0.9", "3f")])
def test_a_video_is_read_from_behind_what_was_done(
    numbers_video: Callable[..., str], part: tuple[str, str, str] | None
) -> None:
    """Key frames are every 12 frames; B frames are decoded out of order."""

    def make() -> VideoSource | Excerpt:
        source = VideoSource(numbers_video())
        return Excerpt(source, *map(Moment.parse, part)) if part else source

    source = make()
    whole = numbers(iter(source))
    assert source.sound and source.problems == []
    for place in (1, len(whole) // 2, len(whole) - 1):
        again = make()
        assert numbers(again.resume_at(whole[place][0])) == whole[place:]
        assert again.sound and again.problems == []


def test_a_damaged_video_is_read_from_its_start(
    numbers_video: Callable[..., str], tmp_path: Path
) -> None:
    """Else the report on its damage would tell of the rest alone. The whole one is gone on with."""
    path = Path(numbers_video("cut.ts", options={"mpegts_flags": "resend_headers"}))
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 400] = bytes(400)
    path.write_bytes(data)
    source = VideoSource(str(path))
    frames = list(source)
    problems = source.problems
    assert problems and not source.sound
    checkpoint = Checkpoint(tmp_path / "c", {}, pictures=False)
    taken = checkpoint.frames(source)
    for frame in taken:
        size = (frame.image.shape[0], frame.image.shape[1])
        checkpoint.add(Past(frame.index, frame.time, size, False, {}), frame.image)
        if frame.index >= 20:
            checkpoint.save({}, {})
            break
    again = VideoSource(str(path))
    found = list(Checkpoint(tmp_path / "c", {}, pictures=False).frames(again))
    assert [frame.index for frame in found] == [frame.index for frame in frames]
    assert all(frame.image.any() for frame in found) and again.problems == problems


def test_a_parquet_file_follows_from_its_rows_and_not_from_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """90 rows in parts of 2, of 14 and of all frames: row groups of 40, 40 and 10 each time."""
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    monkeypatch.setattr(tables, "ROW_GROUP", 40)
    contents = set()
    for every in (2, 14, 1000):
        path = tmp_path / "t.parquet"
        writer = tables.ParquetWriter(path, tables.Recording("v", ("a", "b")))
        monkeypatch.setattr(writer._flusher, "is_due", lambda: False)
        for i in range(45):
            pose = np.full((1, 2, 3), i, np.float32)
            writer.write(tables.stored_frame(i, i / 25, "v", ("a", "b"), pose))
            if i % every == every - 1:
                writer._write_part()
        writer.close()
        contents.add(path.read_bytes())
    file = pyarrow.parquet.ParquetFile(path)
    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert groups == [40, 40, 10] and len(contents) == 1
    assert file.read()["x"].to_pylist() == [i for i in range(45) for _ in "ab"]


def test_a_checkpoint_is_due_by_frames_or_by_seconds(tmp_path: Path, monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr("video_pose.inference.resume.time.monotonic", lambda: now[0])
    by_time = Checkpoint(tmp_path / "t", {}, seconds=5)
    assert not by_time.is_due()
    now[0] = 104.9
    by_time.add(past(0), image())
    assert not by_time.is_due()
    now[0] = 105.0
    assert by_time.is_due()
    by_time.save({}, {})
    now[0] = 109.9
    by_time.add(past(1), image())
    assert not by_time.is_due()
    now[0] = 110.0
    assert by_time.is_due()
    # A run that is cut off soon has something to go on from; then once a minute.
    minutely = Checkpoint(tmp_path / "m", {})
    begin = now[0]
    for wait in (5, 10, 20, 40, 60, 60):
        minutely.add(past(0), image())
        for seconds, due in ((begin + wait - 0.1, False), (begin + wait, True)):
            now[0] = seconds
            assert minutely.is_due() is due
        minutely.save({}, {})
        begin = now[0]
    now[0] = 110.0
    by_frames = Checkpoint(tmp_path / "f", {}, seconds=0, frames=3)
    for i in range(3):
        assert not by_frames.is_due()
        by_frames.add(past(i), image())
    assert by_frames.is_due()
    for wrong in ({"seconds": -1}, {"frames": -1}):
        with pytest.raises(ValueError, match="a checkpoint every .* frames: expected >= 0"):
            Checkpoint(tmp_path / "w", {}, **wrong)  # type: ignore[arg-type]


def test_frames_of_a_checkpoint_are_those_that_it_was_written_of(tmp_path: Path) -> None:
    """Another number, another time, another last picture, fewer: each is said."""
    frames = [Frame(i, i / 10, image(i)) for i in range(4)]
    checkpoint = Checkpoint(tmp_path / "c", {})
    for frame in frames[:3]:
        checkpoint.add(past(frame.index), frame.image)
    checkpoint.save({}, {})
    again = Checkpoint(tmp_path / "c", {})
    assert [f.index for f in again.frames(frames)] == [0, 1, 2, 3]
    for place, other in (
        (1, Frame(5, 0.1, image(1))), (1, Frame(1, 0.11, image(1))), (2, Frame(2, 0.2, image(7))),
    ):  # fmt: skip
        changed = [*frames[:place], other, *frames[place + 1 :]]
        with pytest.raises(ValueError, match=f"frame {place} is another than when"):
            list(Checkpoint(tmp_path / "c", {}).frames(changed))
    with pytest.raises(ValueError, match="frame 2 is another than when"):
        list(Checkpoint(tmp_path / "c", {}).frames(frames[:2]))
    # Pictures before the last one are not compared.
    changed = [Frame(0, 0.0, image(9)), *frames[1:]]
    assert len(list(Checkpoint(tmp_path / "c", {}).frames(changed))) == 4


def test_the_middle_of_a_long_file_is_not_read(tmp_path: Path) -> None:
    """A megabyte of its start and one of its end; of a thousand files 4 KB of each."""
    path = tmp_path / "v"

    def described(place: int, files: int = 1) -> str:
        data = bytearray(3 << 20)
        data[place] = 1
        path.write_bytes(data)
        os.utime(path, (5, 5))
        return describe_files([path] * files)

    ends = [described(place) for place in (0, (1 << 20) - 1, 2 << 20, (3 << 20) - 1)]
    assert len(set(ends)) == 4 and len(ends[0]) == 32
    assert described(1 << 20) == described((2 << 20) - 1) == described(3 << 19)
    assert described(4095, 1000) != described(4096, 1000) == described(3 << 19, 1000)
    assert describe_text("a", "b") != describe_text("ab") and len(describe_text(1)) == 32


def test_what_a_checkpoint_says_of_itself(tmp_path: Path) -> None:
    """Runs of other days read it: the whole file, of two saves, the first of two frames."""
    source = Listed.__new__(Listed)
    source.frames, source.read = [Frame(i, i / 10, image(i)) for i in range(4)], []
    checkpoint = Checkpoint(tmp_path / "a" / "c", {"model": "m"})
    path = tmp_path / "a" / "c" / CHECKPOINT
    empty = {"version": 1, "about": {"model": "m"}, "frames": 0, "segments": 0, "last": {},
             "state": None}  # fmt: skip
    assert json.loads(path.read_text()) == empty and checkpoint.state() is None
    frames = checkpoint.frames(source)
    for count in (2, 1):
        for _ in range(count):
            frame = next(frames)
            checkpoint.add(past(frame.index), frame.image)
        checkpoint.save({}, {"n": count})
    assert json.loads(path.read_text()) == {
        "version": 1, "about": {"model": "m"}, "frames": 3, "segments": 2,
        # Of 72 bytes of 2, by sha256sum.
        "last": {"index": 2, "time": 0.2, "sound": True, "picture": DIGEST},
        "state": {"channels_last": [], "rest": {"n": 1}},
    }  # fmt: skip
    again = Checkpoint(tmp_path / "a" / "c", {"model": "m"})
    assert again.count == checkpoint.count == 3 and again.state() == ({}, {"n": 1})
    assert [p.index for p in again.past()] == [0, 1, 2]


DIGEST = "c6f392711fffabbea5986f8e2cef7f6bad3bc4bda1664259406e4675fc66ed8e"


class Placed:
    """A source that can, or says that it cannot, be entered at a place."""

    def __init__(self, frames: list[Frame], sound: bool = True) -> None:
        self.frames, self.sound, self.begun = frames, sound, []  # type: ignore[var-annotated]

    def __iter__(self) -> Iterator[Frame]:
        self.begun.append("start")
        return iter(self.frames)

    def resume_at(self, index: int) -> Iterator[Frame]:
        self.begun.append(index)
        return iter([frame for frame in self.frames if frame.index >= index])


def some_frames() -> list[Frame]:
    return [Frame(i, i / 10, image(i)) for i in (0, 2, 4, 6, 8)]


def done(folder: Path, source: Any, count: int = 3) -> None:
    """A run over ``source`` that was cut off behind ``count`` frames."""
    checkpoint = Checkpoint(folder, {})
    taken = checkpoint.frames(source)
    for _ in range(count):
        frame = next(taken)
        checkpoint.add(Past(frame.index, frame.time, (4, 6), False, {}), frame.image)
    checkpoint.save({}, {})


def go_on(folder: Path, source: Any, pictures: bool = False) -> list[Frame]:
    return list(Checkpoint(folder, {}, pictures=pictures).frames(source))


def test_reading_begins_with_the_last_frame_that_was_done(tmp_path: Path) -> None:
    """Those before it have their number, time and size, and a black picture of no memory."""
    done(tmp_path, Placed(some_frames()))
    source = Placed(some_frames())
    found = go_on(tmp_path, source)
    assert source.begun == [4]
    assert [(f.index, f.time) for f in found] == [(i, i / 10) for i in (0, 2, 4, 6, 8)]
    assert [f.image.max() for f in found] == [0, 0, 4, 6, 8]
    assert {f.image.shape for f in found} == {(4, 6, 3)} and found[1].image.strides == (0, 0, 1)
    source.begun.clear()
    assert [f.image.max() for f in go_on(tmp_path, source, pictures=True)] == [0, 2, 4, 6, 8]
    assert source.begun == ["start"]


def test_where_a_source_cannot_be_entered_it_is_read_anew(tmp_path: Path) -> None:
    """Frames were lost, now or then, or it has no places, now or then."""
    for number, (first, second) in enumerate(
        (
            (Placed(some_frames(), sound=False), Placed(some_frames())),
            (some_frames(), Placed(some_frames())),
            (Placed(some_frames()), some_frames()),
        )
    ):
        done(tmp_path / str(number), first)
        assert [f.image.max() for f in go_on(tmp_path / str(number), second)] == [0, 2, 4, 6, 8]
        assert not isinstance(second, Placed) or second.begun == ["start"]


@pytest.mark.parametrize("lost", [{4, 6, 8}, {4}, "time", "picture"])
def test_a_source_that_is_entered_elsewhere_is_read_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lost: Any
) -> None:
    """A wrong index leads to another frame, or behind the end: so it is read from its start."""
    done(tmp_path, Placed(some_frames()))

    class Elsewhere(Placed):
        def resume_at(self, index: int) -> Iterator[Frame]:
            frames = super().resume_at(index)
            if isinstance(lost, set):
                return iter([frame for frame in frames if frame.index not in lost])
            first = Frame(4, 0.5, image(4)) if lost == "time" else Frame(4, 0.4, image(5))
            next(frames)
            return iter([first, *frames])

    source = Elsewhere(some_frames())
    assert [f.image.max() for f in go_on(tmp_path, source)] == [0, 2, 4, 6, 8]
    assert source.begun == [4, "start"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: frames cannot be found again, it is read anew"
    ]


def test_a_folder_that_is_gone_already_is_removed_in_silence(tmp_path: Path) -> None:
    """Whoever tidied up did what was asked."""
    checkpoint = Checkpoint(tmp_path / "c", {})
    shutil.rmtree(tmp_path / "c")
    checkpoint.remove()
    assert checkpoint._lock.closed
    again = Checkpoint(tmp_path / "c", {})
    assert again.count == 0
    again.remove()
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("shape", [(1, 2, 3, 4), (1, 1, 3, 4), (2, 3, 1, 1), (2, 3, 4), (3,), (0,)])
def test_states_come_back_in_their_order_in_memory(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """An engine's arithmetic depends on it, to the last bit."""
    for order in ("rows", "channels"):
        state = torch.rand(shape)
        if order == "channels" and state.dim() == 4:
            state = state.contiguous(memory_format=torch.channels_last)
        checkpoint = Checkpoint(tmp_path / order, {})
        checkpoint.add(past(0), image())
        checkpoint.save({"s": state}, {})
        again = Checkpoint(tmp_path / order, {}).state()
        assert again is not None and torch.equal(again[0]["s"], state)
        for layout in (torch.contiguous_format, torch.channels_last):
            assert again[0]["s"].is_contiguous(memory_format=layout) == state.is_contiguous(
                memory_format=layout
            )


def test_only_what_was_added_since_the_last_save_is_due(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, {}, seconds=0)
    assert not checkpoint.is_due()
    checkpoint.add(past(0), image())
    assert checkpoint.is_due()
    checkpoint.save({}, {})
    assert not checkpoint.is_due() and checkpoint.count == 1


def test_texts_are_known_by_their_parts() -> None:
    """The sums are those of sha256sum, of which 32 digits are kept: other days have them, too."""
    assert describe_text("a", 1) == "05a9c569a185ac60f5511f9760bc3f1a"
    assert describe_text() == "e3b0c44298fc1c149afbf4c8996fb924"
