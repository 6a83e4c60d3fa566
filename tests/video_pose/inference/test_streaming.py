"""Streaming against the offline test: clip mapper and `forward` on the same frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from torch import Tensor

from video_pose.data.clip_mapper import build_pose_mapper
from video_pose.data.clips import Chunk
from video_pose.data.synthetic.scene import Scene, render_scene
from video_pose.inference.frames import Frame, PoseFrame
from video_pose.inference.people import GivenBoxes, Person, Verdict
from video_pose.inference.resume import Checkpoint
from video_pose.inference.streaming import (
    CutDetector,
    FrameCropper,
    PersonRows,
    StreamingPosePredictor,
    _blur,
    _histograms,
    _PoseStream,
    center_maps,
)
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
    """Poses, box and score (N, K + 2, 3) of the test loop, in chunks of 4 frames."""
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
        poses += [
            told(i.pred_keypoints[0], i.pred_boxes.tensor[0], i.scores[0]).numpy() for i in out
        ]
    return np.stack(poses)


def told(pose: Tensor, box: Tensor, score: Tensor) -> Tensor:
    """(K + 2, 3): the joints, and rows of x0, y0, score and x1, y1, score."""
    return torch.cat([pose, torch.cat([box.view(2, 2), score.expand(2, 1)], dim=1)])


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
        ("unipose_lstm", ("TEST.PRECISION", "bfloat16")),
        ("unipose_lstm", ("TEST.PRECISION", "bfloat16", "TEST.FLIP", True)),
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
    rows = [map(torch.from_numpy, (f.keypoints[0], f.boxes[0], f.scores)) for f in found]
    poses = torch.stack([told(*row) for row in rows]).numpy()
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
    assert [part.dtype.name for part in (empty.keypoints, empty.boxes, empty.scores)] == (
        ["float32"] * 3
    ) and empty.track_ids.dtype == np.int64
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


# ------------------------------------------------------------------ people's states, by hand


class Counted(NamedTuple):
    """A state that knows the picture that it began with, and how often it was advanced."""

    first: Tensor
    count: Tensor


class CountingBackend:
    """Heatmaps are 1000 first + 100 count + feature + .5 centre map, of one cell."""

    codec = SimpleNamespace(stride=4, decode_offset=1.5)
    device = torch.device("cpu")

    def __init__(self, reset_every: int = 0, align_state: bool = False) -> None:
        self.reset_every, self.align_state = reset_every, align_state
        self.moves: list[Any] = []
        self.begun = 0

    def begin(self, images: Tensor, features: Tensor) -> Counted:
        self.begun += len(images)
        assert len(images) == len(features)
        return Counted(images.view(-1, 1).float(), torch.zeros(len(images), 1))

    def advance(
        self, features: Tensor, centers: Tensor, state: Counted, moves: Tensor | None
    ) -> tuple[Tensor, Counted]:
        self.moves.append(moves)
        total = 1000 * state.first + 100 * state.count
        maps = total.view(-1, 1, 1, 1) + features.view(-1, 1, 1, 1) + 0.5 * centers
        return maps.double(), Counted(state.first, state.count + 1)


def advance(rows: PersonRows, tracks: list[int], image: int, left: float = 0.0) -> list[list]:
    """One frame with two test rows: of person p and row s the picture is ``image`` + s, the feature
    p + 10 s, the centre map 2 p; the crop lies at ``left`` + 8 p. Heatmaps by test row."""
    places = torch.eye(2, 3).repeat(2, len(tracks), 1, 1)
    places[..., 0, 2] = left + 8 * torch.arange(len(tracks))
    s, p = torch.meshgrid(torch.arange(2.0), torch.arange(float(len(tracks))), indexing="ij")
    maps = rows.step(
        tracks, (image + s)[..., None], (p + 10 * s)[..., None], (2 * p)[..., None, None, None],
        places,
    )  # fmt: skip
    assert maps.dtype == torch.float32 and maps.shape == (2, len(tracks), 1, 1, 1)
    return maps[..., 0, 0, 0].tolist()


def test_every_person_has_rows_of_his_own() -> None:
    """Somebody new begins with his first picture; who is away stays as he was; order is free."""
    backend = CountingBackend()
    rows = PersonRows(backend)  # type: ignore[arg-type]
    assert advance(rows, [7], 1) == [[1000], [2010]]
    # 7 goes on with picture 1 and one step, as the second of two: feature 1 + 10 s, half of 2.
    assert advance(rows, [3, 7], 4) == [[4000, 1102], [5010, 2112]]
    assert advance(rows, [3], 5) == [[4100], [5110]]
    assert advance(rows, [7, 3], 6) == [[1200, 4202], [2210, 5212]]
    assert len(rows) == 2 and rows.stored()[1] == {"tracks": [7, 3], "ages": [3, 3]}
    rows.rename([7, 3], [3, 9])
    assert advance(rows, [3, 9], 6) == [[1300, 4302], [2310, 5312]]
    rows.keep([9, 5])
    assert len(rows) == 1 and advance(rows, [3], 8) == [[8000], [9010]]
    rows.clear()
    assert len(rows) == 0 and rows.stored() == ({}, {"tracks": [], "ages": []})
    assert set(backend.moves) == {None}  # states stay in their cells


def test_a_memory_that_is_dropped_after_every_second_step() -> None:
    """By a person's own steps, whenever others came."""
    backend = CountingBackend(reset_every=2)
    rows = PersonRows(backend)  # type: ignore[arg-type]
    assert advance(rows, [7], 1)[0] == [1000]
    assert advance(rows, [7, 3], 2)[0] == [1100, 2002] and backend.begun == 4
    assert advance(rows, [7, 3], 3)[0] == [3000, 2102] and backend.begun == 6
    assert advance(rows, [7, 3], 4)[0] == [3100, 4002] and backend.begun == 8
    assert rows.stored()[1]["ages"] == [4, 3]


def test_memories_move_from_where_a_person_was_seen_last() -> None:
    """A crop that goes 4 px to the right, a cell: the new cell 0 is the old cell 1. Whoever begins,
    or begins anew, stays; who was away comes from his last crop, not from the last frame's."""
    backend = CountingBackend(reset_every=3, align_state=True)
    rows = PersonRows(backend)  # type: ignore[arg-type]
    lefts = [([7], 0.0), ([7, 3], 4.0), ([3], 14.0), ([7, 3], 12.0)]
    for number, (tracks, left) in enumerate(lefts):
        advance(rows, tracks, number, left)
    shifts = [moves[:, 0, 2].tolist() for moves in backend.moves]
    # 3 was at 4 + 8 = 12, then at 14, then at 12 + 8 = 20; 7 at 0, 4 and 12.
    assert shifts == [
        pytest.approx(x) for x in ([0] * 2, [1, 1, 0, 0], [0.5] * 2, [2, 2, 1.5, 1.5])
    ]
    advance(rows, [7], 9, 99.0)
    assert backend.moves[-1][:, 0, 2].tolist() == [0, 0]  # its fourth step begins anew


def test_states_are_stored_and_come_back() -> None:
    rows = PersonRows(CountingBackend())  # type: ignore[arg-type]
    advance(rows, [7], 1)
    advance(rows, [7, 3], 4, 6.0)
    tensors, about = rows.stored()
    assert {name: part.tolist() for name, part in tensors.items() if name != "place"} == {
        "state.0": [[1], [2], [4], [5]], "state.1": [[2], [2], [1], [1]],
    }  # fmt: skip
    assert tensors["place"].shape == (2, 2, 2, 3) and about["ages"] == [2, 1]
    assert tensors["place"][:, :, 0, 2].tolist() == [[6, 6], [14, 14]]
    form = Counted(torch.zeros(2, 1), torch.zeros(2, 1))
    backend = CountingBackend(align_state=True)
    again = PersonRows(backend)  # type: ignore[arg-type]
    advance(again, [1], 9)
    again.restore(tensors, about, form)
    assert again.stored()[1] == about and len(again) == 2
    assert advance(again, [3, 7], 6, 14.0) == [[4100, 1202], [5110, 2212]]
    assert backend.moves[-1][:, 0, 2].tolist() == pytest.approx([0, 0, 4, 4])
    again.restore({}, {"tracks": [], "ages": []}, ())
    assert len(again) == 0
    for name, wrong in (
        ("state.1", tensors["state.1"][:, :0]),
        ("state.1", tensors["state.1"].double()),
        ("state.1", None),
    ):
        other = {**tensors, name: wrong}
        other = {key: part for key, part in other.items() if part is not None}
        with pytest.raises(ValueError, match="^a checkpoint's states are not this model's: delete"):
            PersonRows(backend).restore(other, about, form)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="zip"):
        again.restore(tensors, {"tracks": [7, 3], "ages": [1]}, form)


def test_cells_of_heatmaps_lie_in_the_picture() -> None:
    """Of the first test row. Cells of 8 px, cell 0 centred on the crop's pixel 3.5, which is 4 from
    its border: 8 c + 4 crop px; x is twice that and 10, y three times and 20."""
    rows = torch.tensor([[[[2.0, 0, 10], [0, 3, 20]]] * 2, [[[9.0, 0, 9], [0, 9, 9]]] * 2])
    stream: Any = SimpleNamespace(
        backend=SimpleNamespace(codec=SimpleNamespace(stride=8, decode_offset=3.5))
    )
    crops: Any = SimpleNamespace(crop_to_image=rows)
    found = _PoseStream._map_to_image(stream, crops)
    assert found.tolist() == [[[16, 0, 18], [0, 24, 32]]] * 2


def test_centre_maps_are_those_of_a_test() -> None:
    """Drawn at the crop's size for every person and test row, in their places."""
    asked = []

    def center_map(centers: Tensor, size: tuple[int, int], training: bool) -> Tensor:
        asked.append((size, training))
        return centers.sum(dim=1).view(-1, 1, 1, 1).expand(-1, 1, 2, 3)

    backend: Any = SimpleNamespace(center_map=center_map, device=torch.device("cpu"))
    centers = torch.arange(12.0).view(2, 3, 2)
    maps = center_maps(backend, centers, (48, 64))
    assert maps.shape == (2, 3, 1, 2, 3) and asked == [((48, 64), False)]
    assert maps[..., 0, 1, 2].tolist() == [[1, 5, 9], [13, 17, 21]]


# ------------------------------------------------------------------ pieces of a stream


def test_colours_of_a_picture_by_hand() -> None:
    """A picture of 64 x 48 whose upper left quarter is magenta: a quarter of the mass is in the
    last bin of blue and red and the first of green, and a quarter of that, a channel, in the bin
    beside it."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32] = (255, 0, 255)
    found = _histograms(image)
    assert found.shape == (4, 8, 8, 8) and found.sum() == pytest.approx(1)
    edge = np.array([0.25, 0.75])
    magenta = np.einsum("i,j,k->ijk", edge, edge[::-1], edge) / 4
    np.testing.assert_allclose(found[0, 6:, :2, 6:], magenta, atol=1e-7)
    for quarter in (1, 2, 3):
        dark = magenta[::-1, :, ::-1]
        np.testing.assert_allclose(found[quarter, :2, :2, :2], dark, atol=1e-7)
    counts = np.array([[4.0, 0, 0, 8, 0, 0]])
    assert _blur(counts, 1).tolist() == [[3, 1, 2, 4, 2, 0]]
    assert _blur(counts.T, 0).T.tolist() == [[3, 1, 2, 4, 2, 0]]


class Shown:
    """Two people, of whom a policy shows the second, and calls the first by another number."""

    independent, found = False, None

    def __init__(self, boxes: np.ndarray) -> None:
        self.boxes = boxes
        self.asked: list[list[int]] = []

    def propose(self, frame: Frame) -> list[Person]:
        self.asked.append([frame.index])
        return [Person(number, box, box) for number, box in zip((8, 5), self.boxes)]

    recall = propose  # type: ignore[assignment]

    def update(self, people: list[Person], keypoints: np.ndarray) -> Verdict:
        return Verdict(np.array([8, 5]), np.array([-1, 0]))

    def tracked(self) -> set[int] | None:
        return None

    def reset(self) -> None:
        raise AssertionError


def test_only_those_who_are_shown_have_something(
    pose_cfg: MakeCfg, build_backend: MakeBackend, scene: Scene
) -> None:
    """Poses, boxes, scores, heatmaps and peaks are those of the second person, with number 0."""
    cfg = pose_cfg()
    backend = build_backend(cfg)
    boxes = np.stack([person.boxes[0] for person in scene.people])
    options = {"keep_heatmaps": True, "keep_peaks": True}
    frame = next(iter(streaming(cfg, backend, Shown(boxes), **options)(frames_of(scene)[:1])))
    alone = GivenBoxes(boxes[1])
    single = next(iter(streaming(cfg, backend, alone, **options)(frames_of(scene)[:1])))
    assert frame.track_ids.tolist() == [0] and frame.starts_shot
    for name in ("keypoints", "boxes", "scores", "heatmaps", "map_to_image", "peaks"):
        found, expected = getattr(frame, name), getattr(single, name)
        assert found.dtype == expected.dtype == np.float32 and found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-3, err_msg=name)
    assert frame.peaks is not None and frame.peaks.shape[:2] == (1, 15)
    np.testing.assert_allclose(frame.peaks[:, :, 0], frame.keypoints, atol=1e-4)
    bare = next(iter(streaming(cfg, backend, Shown(boxes))(frames_of(scene)[:1])))
    assert bare.heatmaps is None and bare.map_to_image is None and bare.peaks is None


def test_a_checkpoint_of_other_people_is_refused(
    pose_cfg: MakeCfg, build_backend: MakeBackend, scene: Scene, tmp_path: Path
) -> None:
    """Of three frames with one person; a policy that now finds two, or nobody, is another one."""
    cfg = pose_cfg()
    backend = build_backend(cfg)
    frames = frames_of(scene)[:3]
    boxes = np.stack([person.boxes[0] for person in scene.people])

    def run(people: Any, **options: Any) -> list[PoseFrame]:
        checkpoint = Checkpoint(tmp_path / "c", {}, frames=1)
        predictor = streaming(cfg, backend, people, **options)
        return list(predictor(checkpoint.frames(frames), checkpoint=checkpoint))

    assert len(run(GivenBoxes())) == 3
    for people in (Shown(boxes), TwoPeople(scene, {7: (), 3: ()})):
        people.recall = lambda frame, found, people=people: people.propose(frame)  # type: ignore
        with pytest.raises(ValueError) as error:
            run(people)
        assert str(error.value) == f"{tmp_path / 'c'} does not fit: delete it to begin anew"
    with pytest.raises(ValueError) as error:
        run(GivenBoxes(), keep_heatmaps=True)
    assert str(error.value) == "a checkpoint keeps no heatmaps: leave one of the two out"


@pytest.mark.parametrize("stops", [(1,), (3,), (4,), (2, 5)])
def test_a_stream_that_is_gone_on_with(
    pose_cfg: MakeCfg, build_backend: MakeBackend, scene: Scene, tmp_path: Path, stops: tuple
) -> None:
    """Three frames and, behind a cut, three more: cut off after the first, right before and behind
    the cut, and twice, all that comes is what an uninterrupted run gives."""
    cfg = pose_cfg("lstm_pm")
    backend = build_backend(cfg)
    frames = frames_of(scene)[:3]
    frames += [Frame(i + 3, i / 25, 255 - image) for i, image in enumerate(scene.frames[3:6])]
    box = scene.people[0].boxes[0]
    predictor = streaming(cfg, backend, GivenBoxes(box), cuts=CutDetector, keep_peaks=True)
    expected = list(predictor(frames, "v"))
    for stop in stops:
        checkpoint = Checkpoint(tmp_path / "c", {}, frames=1)
        results = predictor(checkpoint.frames(frames), "v", checkpoint)
        assert [next(results).index for _ in range(stop)] == list(range(stop))  # type: ignore
    checkpoint = Checkpoint(tmp_path / "c", {}, frames=1)
    assert checkpoint.count == stops[-1]
    found = list(predictor(checkpoint.frames(frames), "v", checkpoint))
    assert [(f.index, f.time, f.starts_shot, f.video) for f in found] == [
        (i, i / 25 if i < 3 else (i - 3) / 25, i in (0, 3), "v") for i in range(6)
    ]
    for a, b in zip(found, expected, strict=True):
        for name in ("keypoints", "boxes", "scores", "track_ids", "peaks"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert np.abs(found[3].keypoints - found[2].keypoints).max() > 1


def test_nobody_so_far_is_gone_on_with_as_well(
    pose_cfg: MakeCfg, build_backend: MakeBackend, scene: Scene, tmp_path: Path
) -> None:
    """There is no state yet. The picture before is known, so that a cut is seen."""
    cfg = pose_cfg()
    backend = build_backend(cfg)
    frames = frames_of(scene)[:2]
    frames += [Frame(2, 0.5, 255 - scene.frames[0])]
    people = TwoPeople(scene, {7: (2,), 3: ()})
    people.recall = lambda frame, found: people.propose(frame)  # type: ignore[attr-defined]
    people.found = None  # type: ignore[attr-defined]
    for stop in (2, 3):
        checkpoint = Checkpoint(tmp_path / "c", {}, frames=1)
        predictor = streaming(cfg, backend, people, cuts=CutDetector)
        results = predictor(checkpoint.frames(frames), checkpoint=checkpoint)
        found = [next(results) for _ in range(stop)]  # type: ignore[call-overload]
    assert [(len(f), f.starts_shot) for f in found] == [(0, True), (0, False), (1, True)]


@pytest.mark.parametrize("number", [0, -1])
def test_batches_hold_a_frame_at_least(
    pose_cfg: MakeCfg, build_backend: MakeBackend, number: int
) -> None:
    cfg = pose_cfg()
    with pytest.raises(ValueError) as error:
        streaming(cfg, build_backend(cfg), GivenBoxes(), batch_frames=number)
    assert str(error.value) == f"batches of {number} frames: expected 1 or more"


@pytest.mark.parametrize(("independent", "batches"), [(True, [4, 4, 1]), (False, [1] * 9)])
def test_frames_are_encoded_together_where_poses_do_not_say_whom_to_look_for(
    pose_cfg: MakeCfg, build_backend: MakeBackend, scene: Scene, independent: bool, batches: list
) -> None:
    cfg = pose_cfg()
    backend = build_backend(cfg)
    sizes: list[int] = []
    encode = backend.encode
    backend.encode = lambda images: sizes.append(len(images)) or encode(images)  # type: ignore
    people = GivenBoxes()
    people.independent = independent
    assert len(list(streaming(cfg, backend, people, batch_frames=4)(frames_of(scene)))) == 9
    assert sizes == batches


def test_frames_go_through_a_policy_that_prepares_them(
    pose_cfg: MakeCfg, build_backend: MakeBackend, scene: Scene
) -> None:
    """And whoever stops early ends what it has begun."""
    ended = []

    class Ahead(GivenBoxes):
        def ahead(self, frames: Iterator[Frame]) -> Iterator[Frame]:
            try:
                yield from frames
            finally:
                ended.append(True)

    cfg = pose_cfg()
    results = streaming(cfg, build_backend(cfg), Ahead())(frames_of(scene))
    assert next(results).index == 0 and not ended  # type: ignore[call-overload]
    results.close()  # type: ignore[attr-defined]
    assert ended == [True]


def test_crops_of_a_test_alone(pose_cfg: MakeCfg, scene: Scene) -> None:
    """Every person at every scale and mirrored: shapes, kinds of numbers, and which is mirrored."""
    mapper = build_pose_mapper(pose_cfg("lstm_pm", "TEST.FLIP", True), False)
    cropper = FrameCropper(mapper)
    boxes = [person.boxes[0] for person in scene.people]
    image = scene.frames[0]
    crops = cropper(image, [Person(i, box, box) for i, box in enumerate(boxes)])
    height, width = cropper.crop_size
    assert crops.images.shape == (2, 2, 3, height, width) and crops.images.dtype == torch.uint8
    assert crops.crop_to_image.shape == (2, 2, 2, 3) and crops.centers.shape == (2, 2, 2)
    assert crops.crop_to_image.dtype == crops.centers.dtype == torch.float32
    assert crops.flipped.tolist() == [False, True]
    for p, box in enumerate(boxes):
        middle = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
        for s in range(2):
            place = crops.crop_to_image[s, p].double()
            point = torch.cat([crops.centers[s, p].double(), torch.ones(1)])
            assert (place @ point).tolist() == pytest.approx(middle, abs=0.51)
    with pytest.raises(AssertionError):
        FrameCropper(build_pose_mapper(pose_cfg("lstm_pm"), True))


class Renaming(Shown):
    """One person, whom the tracker gives another number after every frame; a detector ran."""

    found = (np.float32([[1, 2, 3, 4], [5, 6, 7, 8]]), np.float32([0.5, 0.25]))  # type: ignore

    def __init__(self, box: np.ndarray) -> None:
        self.box, self.told = box, []  # type: ignore[var-annotated]

    def propose(self, frame: Frame) -> list[Person]:
        return [Person(10 + frame.index, self.box, self.box)]

    def recall(self, frame: Frame, found: Any) -> list[Person]:
        self.told.append(found)
        return self.propose(frame)

    def update(self, people: list[Person], keypoints: np.ndarray) -> Verdict:
        return Verdict(np.array([people[0].track_id + 1]), np.array([6]))


def test_a_memory_goes_with_its_new_number(
    pose_cfg: MakeCfg, build_backend: MakeBackend, scene: Scene
) -> None:
    cfg = pose_cfg("lstm_pm")
    backend = build_backend(cfg)
    box = scene.people[0].boxes[0]
    frames = frames_of(scene)[:4]
    expected = list(streaming(cfg, backend, GivenBoxes(box))(frames))
    for a, b in zip(streaming(cfg, backend, Renaming(box))(frames), expected, strict=True):
        np.testing.assert_array_equal(a.keypoints, b.keypoints)
        assert a.track_ids.tolist() == [6]


def test_what_a_checkpoint_keeps_of_a_frame(
    pose_cfg: MakeCfg, build_backend: MakeBackend, scene: Scene, tmp_path: Path
) -> None:
    """Its size, what a detector found, and what the network said of everybody, shown or not; the
    policy is told again what was found, and decides again whom to show."""
    cfg = pose_cfg()
    frames = frames_of(scene)[:2]
    people = Renaming(scene.people[0].boxes[0])
    predictor = streaming(cfg, build_backend(cfg), people, keep_peaks=True)
    checkpoint = Checkpoint(tmp_path, {}, frames=1)
    results = list(predictor(checkpoint.frames(frames), checkpoint=checkpoint))
    for past, result in zip(checkpoint.past(), results, strict=True):
        assert (past.index, past.time, past.size) == (result.index, result.time, (120, 160))
        told = {"boxes": people.found[0], "scores": people.found[1], "peaks": result.peaks}
        told |= {"keypoints": result.keypoints, "pose_boxes": result.boxes}
        told["pose_scores"] = result.scores
        assert past.arrays.keys() == told.keys() and past.cut is False
        for name, part in told.items():
            np.testing.assert_array_equal(past.arrays[name], part, err_msg=name)
    again = Checkpoint(tmp_path, {}, frames=1)
    assert len(list(predictor(again.frames(frames), checkpoint=again))) == 2
    assert [[part.tolist() for part in found] for found in people.told] == [
        [part.tolist() for part in people.found]
    ] * 2


def test_heatmaps_are_those_of_the_picture_as_it_is(
    pose_cfg: MakeCfg, build_backend: MakeBackend, scene: Scene
) -> None:
    """Where it is looked at mirrored as well: a map of the mirrored crop would lie elsewhere."""
    found = []
    for flip in (False, True):
        cfg = pose_cfg("unipose_lstm", "TEST.FLIP", flip)
        people = GivenBoxes(scene.people[0].boxes[0])
        predictor = streaming(cfg, build_backend(cfg), people, keep_heatmaps=True)
        found.append(next(iter(predictor(frames_of(scene)[:1]))))
    for name in ("heatmaps", "map_to_image"):
        both = [getattr(frame, name) for frame in found]
        np.testing.assert_allclose(*both, atol=1e-4, err_msg=name)
    assert not np.allclose(found[0].keypoints, found[1].keypoints, atol=1e-3)
