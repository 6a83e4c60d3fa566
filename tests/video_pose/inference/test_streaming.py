"""Streaming against the offline test: clip mapper and `forward` on the same frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from detectron2.config import CfgNode

from video_pose.data.clip_mapper import build_pose_mapper
from video_pose.data.clips import Chunk
from video_pose.data.synthetic.scene import Scene, render_scene
from video_pose.inference.frames import Frame, PoseFrame
from video_pose.inference.people import GivenBoxes, Person, Verdict
from video_pose.inference.streaming import CutDetector, StreamingPosePredictor
from video_pose.modeling.backend import TorchBackend

MakeCfg = Callable[..., CfgNode]
MakeBackend = Callable[[CfgNode], TorchBackend]
FRAMES = 9


@pytest.fixture(scope="module")
def scene() -> Scene:
    return render_scene(5, people=2, frames=FRAMES, size=(160, 120), occluders="none")


def frames_of(scene: Scene) -> list[Frame]:
    return [Frame(i, i / 25, image) for i, image in enumerate(scene.frames)]


def offline(
    cfg: CfgNode, backend: TorchBackend, scene: Scene, folder: Path, boxes: np.ndarray
) -> np.ndarray:
    """Poses (N, K, 3) of the test loop, in chunks of 4 frames."""
    names = [str(folder / f"{i:03d}.png") for i in range(FRAMES)]
    for name, image in zip(names, scene.frames):
        cv2.imwrite(name, image)
    track = {
        "video_id": "v", "track_id": "0", "file_names": names, "height": 120, "width": 160,
        "keypoints": np.zeros((FRAMES, 1, 3), np.float32), "boxes": boxes,
        "labelled": np.ones(FRAMES, bool), "image_ids": np.arange(FRAMES),
    }  # fmt: skip
    mapper = build_pose_mapper(cfg, False)
    poses = []
    for start in range(0, FRAMES, 4):
        chunk = Chunk(start, min(start + 4, FRAMES), 0, FRAMES)
        out = backend.model([mapper({**track, "chunk": chunk})])[0]["instances"]
        poses += [instances.pred_keypoints[0].numpy() for instances in out]
    return np.stack(poses)


def streaming(
    cfg: CfgNode, backend: TorchBackend, people: Any, **options: Any
) -> StreamingPosePredictor:
    return StreamingPosePredictor(
        backend=backend, mapper=build_pose_mapper(cfg, False), people=lambda: people, **options
    )


@pytest.mark.parametrize("batch_frames", [1, 4])
@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("unipose_lstm", ()),
        ("lstm_pm", ()),
        ("lstm_pm", ("INPUT.SCALE_MODE", "absolute", "INPUT.FORMAT", "RGB")),
        ("unipose_lstm", ("INPUT.REGION_PER", "clip", "TEST.RESET_EVERY", 3)),
        ("unipose_lstm", ("TEST.SCALES", (0.8, 1.1), "TEST.FLIP", True)),
        ("unipose_lstm", ("MODEL.POSE.ALIGN_STATE", True, "TEST.FLIP", True)),
        ("lstm_pm", ("MODEL.POSE.ALIGN_STATE", True)),
    ],
)
def test_streaming_equals_the_offline_test(
    pose_cfg: MakeCfg,
    build_backend: MakeBackend,
    scene: Scene,
    tmp_path: Path,
    model: str,
    options: tuple[object, ...],
    batch_frames: int,
) -> None:
    cfg = pose_cfg(model, *options)
    backend = build_backend(cfg)
    boxes = scene.people[0].boxes.copy()
    boxes[4] = 0  # missing: takes frame 3's
    expected = offline(cfg, backend, scene, tmp_path, boxes)
    predictor = streaming(cfg, backend, GivenBoxes(boxes), batch_frames=batch_frames)
    found = list(predictor(frames_of(scene)))
    assert [frame.index for frame in found] == list(range(FRAMES))
    poses = np.stack([frame.keypoints[0] for frame in found])
    np.testing.assert_allclose(poses, expected, atol=1e-4)
    # The comparison has something to compare: joints differ, and poses move.
    assert np.ptp(poses[..., 0]) > 20 and np.abs(np.diff(poses[..., :2], axis=0)).max() > 1


def test_a_photo_is_looked_at_mirrored_as_well(
    pose_cfg: MakeCfg, build_backend: MakeBackend, scene: Scene
) -> None:
    """By TEST.FLIP_STILLS, which leaves videos alone."""
    boxes, photo = scene.people[0].boxes, frames_of(scene)[:1]

    def pose(key: str, stills: bool) -> np.ndarray:
        cfg = pose_cfg("unipose_lstm", key, True)
        predictor = streaming(cfg, build_backend(cfg), GivenBoxes(boxes), stills=stills)
        return next(iter(predictor(photo))).keypoints

    mirrored = pose("TEST.FLIP", False)
    np.testing.assert_array_equal(pose("TEST.FLIP_STILLS", True), mirrored)
    assert not np.allclose(pose("TEST.FLIP_STILLS", False), mirrored, atol=1e-3)


class TwoPeople:
    """Persons 7 and 3, who come and go by a timetable."""

    independent = False

    def __init__(self, scene: Scene, present: dict[int, Sequence[int]]) -> None:
        self.scene, self.present = scene, present
        self.seen: list[tuple[int, ...]] = []

    def propose(self, frame: Frame) -> list[Person]:
        ids = [number for number in (7, 3) if frame.index in self.present[number]]
        boxes = {7: self.scene.people[0].boxes, 3: self.scene.people[1].boxes}
        return [Person(i, boxes[i][frame.index], boxes[i][frame.index]) for i in ids]

    def update(self, people: list[Person], keypoints: np.ndarray) -> Verdict:
        assert len(people) == len(keypoints)
        ids = np.array([person.track_id for person in people])
        return Verdict(ids, ids)

    def tracked(self) -> set[int] | None:
        return {7, 3}

    def reset(self) -> None:
        pass


def poses_of(frames: list[PoseFrame], track: int) -> dict[int, np.ndarray]:
    return {
        frame.index: frame.keypoints[frame.track_ids.tolist().index(track)]
        for frame in frames
        if track in frame.track_ids
    }


def test_people_share_a_batch_and_nothing_else(
    pose_cfg: MakeCfg, build_backend: MakeBackend, scene: Scene
) -> None:
    """Each of two people gets what he gets alone; an absence holds the memory still."""
    cfg = pose_cfg("lstm_pm")
    backend = build_backend(cfg)
    present = {7: range(FRAMES), 3: (2, 3, 6, 7)}
    together = list(streaming(cfg, backend, TwoPeople(scene, present))(frames_of(scene)))
    assert [len(frame) for frame in together] == [1, 1, 2, 2, 1, 1, 2, 2, 1]
    for number in (7, 3):
        alone = TwoPeople(scene, {7: (), 3: (), number: present[number]})
        frames = [f for f in frames_of(scene) if f.index in present[number]]
        expected = poses_of(list(streaming(cfg, backend, alone)(frames)), number)
        found = poses_of(together, number)
        assert found.keys() == expected.keys()
        for index in expected:
            # Random maps are nearly flat, where rounding by the batch's size moves a peak further.
            np.testing.assert_allclose(found[index], expected[index], atol=1e-3)


def test_frames_without_anybody_have_a_row(
    pose_cfg: MakeCfg, build_backend: MakeBackend, scene: Scene
) -> None:
    cfg = pose_cfg()
    people = TwoPeople(scene, {7: (3,), 3: ()})
    found = list(streaming(cfg, build_backend(cfg), people)(frames_of(scene), "name"))
    assert [(frame.index, len(frame)) for frame in found] == [(i, int(i == 3)) for i in range(9)]
    empty = found[0]
    assert (empty.video, empty.time, empty.keypoints.shape) == ("name", 0.0, (0, 15, 3))
    assert (empty.boxes.shape, empty.scores.shape, empty.track_ids.shape) == ((0, 4), (0,), (0,))
    assert len(empty.instances()) == 0
    assert len(found[3].instances()) == 1


@pytest.mark.parametrize("batch_frames", [1, 5])
def test_a_cut_restarts(
    pose_cfg: MakeCfg, build_backend: MakeBackend, scene: Scene, batch_frames: int
) -> None:
    """After a cut poses are those of a video that begins there; uncut they differ."""
    cfg = pose_cfg("unipose_lstm")
    backend = build_backend(cfg)
    inverse = [Frame(i + 4, 0, 255 - image) for i, image in enumerate(scene.frames[:3])]
    frames = frames_of(scene)[:4] + inverse
    options = {"batch_frames": batch_frames}
    cut = list(streaming(cfg, backend, GivenBoxes(), cuts=CutDetector, **options)(frames))
    through = list(streaming(cfg, backend, GivenBoxes(), **options)(frames))
    anew = list(streaming(cfg, backend, GivenBoxes(), **options)(inverse))
    for i in range(4):
        np.testing.assert_allclose(cut[i].keypoints, through[i].keypoints, atol=1e-4)
    for i in range(3):
        np.testing.assert_allclose(cut[4 + i].keypoints, anew[i].keypoints, atol=1e-4)
    assert np.abs(through[4].keypoints - anew[0].keypoints).max() > 1e-2
    assert [frame.index for frame in cut if frame.starts_shot] == [0, 4]


def test_a_second_video_starts_from_nothing(
    pose_cfg: MakeCfg, build_backend: MakeBackend, scene: Scene
) -> None:
    cfg = pose_cfg("lstm_pm")
    predictor = streaming(cfg, build_backend(cfg), GivenBoxes())
    first, second = (list(predictor(frames_of(scene))) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.keypoints, b.keypoints)


def test_frames_are_asked_for_one_at_a_time(
    pose_cfg: MakeCfg, build_backend: MakeBackend, scene: Scene
) -> None:
    """A result is there before the next frame is read: a camera would not wait."""
    cfg = pose_cfg()
    read: list[int] = []

    def camera() -> Iterator[Frame]:
        for frame in frames_of(scene):
            read.append(frame.index)
            yield frame

    results = streaming(cfg, build_backend(cfg), GivenBoxes())(camera())
    for i in range(3):
        assert next(results).index == i
        assert read == list(range(i + 1))


def test_heatmaps_on_request(pose_cfg: MakeCfg, build_backend: MakeBackend, scene: Scene) -> None:
    """The peak of a map, taken through the crop's matrix, is where the joint is (within a cell)."""
    cfg = pose_cfg()
    backend = build_backend(cfg)
    predictor = streaming(cfg, backend, GivenBoxes(scene.people[0].boxes), keep_heatmaps=True)
    frame = next(iter(predictor(frames_of(scene))))
    assert frame.heatmaps is not None and frame.map_to_image is not None
    assert frame.heatmaps.shape == (1, 15, 16, 16)
    for joint, maps in zip(frame.keypoints[0], frame.heatmaps[0], strict=True):
        row, column = np.unravel_index(maps.argmax(), maps.shape)
        cell = frame.map_to_image[0] @ (column, row, 1)
        # The peak is refined by at most half a cell along each axis.
        half_a_cell = np.abs(frame.map_to_image[0][:, :2]).max() / 2
        assert np.abs(joint[:2] - cell).max() <= half_a_cell + 1e-3


def test_two_streams_of_one_predictor_do_not_mix(
    pose_cfg: MakeCfg, build_backend: MakeBackend, scene: Scene
) -> None:
    """Read in turn, each gives what it gives alone, and counts its people from 0."""
    cfg = pose_cfg("unipose_lstm")
    predictor = StreamingPosePredictor(
        backend=build_backend(cfg), mapper=build_pose_mapper(cfg, False), people=GivenBoxes
    )
    frames = frames_of(scene)[:4]
    mirrored = [Frame(f.index, f.time, np.ascontiguousarray(f.image[:, ::-1])) for f in frames]
    alone = [list(predictor(frames)), list(predictor(mirrored))]
    for pair, *single in zip(zip(predictor(frames), predictor(mirrored)), *alone):
        for mixed, own in zip(pair, single):
            np.testing.assert_array_equal(mixed.keypoints, own.keypoints)
            assert mixed.track_ids.tolist() == [0]
    assert "\n" not in repr(alone[0][0]) and "people: 0" in repr(alone[0][0])
