"""Frames in, poses out, one frame at a time and with bounded memory.

`CutDetector` finds where every person's memory must be dropped, `FrameCropper` cuts out the people
of a frame by the cropper that cut them out in training, `PersonRows` holds their recurrent
states and advances them as one batch, `StreamingPosePredictor` runs all three on a stream.

Shape letters: P persons, K joints, S test rows (scales and flips), R = P S rows, C channels, H, W
crop px, h, w cells.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from video_pose.data.clip_mapper import PoseClipMapper
from video_pose.data.cropping import fill_boxes, invert_affine, is_valid_box, union_box
from video_pose.inference.frames import Frame, PoseFrame
from video_pose.inference.people import Detections, People, Person, Verdict
from video_pose.inference.resume import Checkpoint, Past
from video_pose.modeling.backend import PoseBackend, image_peaks
from video_pose.modeling.heatmaps import decode_rows, to_instances
from video_pose.modeling.states import append_rows, codec_moves, select_rows

_THUMBNAIL = (64, 48)  # width, height
_BINS = 8


class CutDetector:
    """Compares the colours of neighbouring frames, quarter by quarter of the picture.

    A cut is where the colour histograms (8 bins a channel) of two frames have less than
    1 - ``threshold`` of their mass in common, or where the size changes. Motion moves colours about
    and changes them little: within 40 shots of JHMDB neighbouring frames differed by at most .12,
    the first frames of different shots by at least .25. A flash counts as a cut.
    """

    def __init__(self, threshold: float = 0.2) -> None:
        """Raises ValueError unless 0 < ``threshold`` <= 1; at 1 only a change of size is a cut."""
        if not 0 < threshold <= 1:
            raise ValueError(f"cut threshold is {threshold}: expected more than 0 and at most 1")
        self.threshold = threshold
        self.reset()

    def reset(self) -> None:
        """Begin a new video."""
        self._last: np.ndarray | None = None
        self._size: tuple[int, ...] = ()

    def __call__(self, image: np.ndarray) -> bool:
        """Whether uint8 (H, W, 3) ``image`` begins a new shot; False for a video's first frame."""
        histogram = _histograms(cv2.resize(image, _THUMBNAIL, interpolation=cv2.INTER_AREA))
        last, size = self._last, self._size
        self._last, self._size = histogram, image.shape
        if last is None:
            return False
        common = float(np.minimum(last, histogram).sum())
        return size != self._size or 1 - common > self.threshold


def _histograms(small: np.ndarray) -> np.ndarray:
    """Colours of the four quarters, (4, bins, bins, bins), of sum 1."""
    width, height = _THUMBNAIL[0] // 2, _THUMBNAIL[1] // 2
    quarters = [small[y : y + height, x : x + width] for y in (0, height) for x in (0, width)]
    counts = np.stack(
        [cv2.calcHist([q], [0, 1, 2], None, [_BINS] * 3, [0, 256] * 3) for q in quarters]
    )
    # A value between two bins counts for both, so that a little more light moves no whole counts.
    for axis in (1, 2, 3):
        counts = _blur(counts, axis)
    return counts / counts.sum()


def _blur(histogram: np.ndarray, axis: int) -> np.ndarray:
    """Weights 1/4, 1/2, 1/4 along one axis; what would leave the ends stays there."""
    padded = np.concatenate(
        [histogram.take([0], axis), histogram, histogram.take([-1], axis)], axis
    )
    count = histogram.shape[axis]
    before, after = padded.take(range(count), axis), padded.take(range(2, count + 2), axis)
    return before / 4 + histogram / 2 + after / 4


class PersonCrops(NamedTuple):
    """The mapper's tensors, with persons in the place of frames."""

    images: Tensor  # uint8 (S, P, 3, H, W), in the model's channel order
    crop_to_image: Tensor  # (S, P, 2, 3)
    centers: Tensor  # (S, P, 2), crop px
    flipped: Tensor  # bool (S,)


class FrameCropper:
    """All persons of a frame, at every test scale and mirrored as the mapper of testing would."""

    def __init__(self, mapper: PoseClipMapper, stills: bool = False) -> None:
        """``mapper``: of testing; ``stills``: frames are photos, not parts of videos."""
        assert not mapper.is_train
        self._mapper = mapper
        self._draws = mapper.test_draws(stills)
        self.crop_size: tuple[int, int] = mapper.rule.crop_size

    def __call__(self, image: np.ndarray, people: Sequence[Person]) -> PersonCrops:
        """``image``: uint8 (H, W, 3), BGR; ``people``: at least one."""
        mapper = self._mapper
        if mapper.image_format == "RGB":
            image = np.ascontiguousarray(image[:, :, ::-1])
        boxes = np.stack([person.box for person in people])
        unions = np.stack([_union(person) for person in people])
        height, width = image.shape[:2]
        crops = mapper.cropper(
            [image] * len(people),
            fill_boxes(boxes, height, width),
            fill_boxes(unions, height, width),
            [draw.placement for draw in self._draws],
        )
        return PersonCrops(
            torch.from_numpy(crops.pictures),
            torch.from_numpy(invert_affine(crops.image_to_crop).astype(np.float32)),
            torch.from_numpy(crops.centers.astype(np.float32)),
            torch.tensor([draw.flip for draw in self._draws]),
        )


def _union(person: Person) -> np.ndarray:
    """What REGION_PER "clip" shows of a person: (4,), the boxes of the shot so far."""
    both = np.stack([person.box, person.shot_box])
    valid = is_valid_box(both)
    return union_box(both[valid] if valid.any() else both)


class PersonRows:
    """For every track its age in frames, one state of S rows, and the place of its last crop."""

    def __init__(self, backend: PoseBackend) -> None:
        self._backend = backend
        self._states: dict[int, tuple[int, Any, Tensor]] = {}

    def __len__(self) -> int:
        return len(self._states)

    def clear(self) -> None:
        """Forget everybody."""
        self._states.clear()

    def keep(self, tracks: Collection[int]) -> None:
        """Forget everybody else."""
        for track in set(self._states) - set(tracks):
            del self._states[track]

    def rename(self, tracks: Sequence[int], names: Sequence[int]) -> None:
        """Give the states of ``tracks`` to ``names``, in turn; other states under them are lost."""
        moved = {name: self._states.pop(track) for track, name in zip(tracks, names)}
        self._states.update(moved)

    def stored(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everybody's rows by the state's fields, and ``place``; whose they are, and their ages."""
        tracks = list(self._states)
        about = {"tracks": tracks, "ages": [self._states[track][0] for track in tracks]}
        if not tracks:
            return {}, about
        rows = append_rows([self._states[track][1] for track in tracks])
        places = torch.stack([self._states[track][2] for track in tracks])
        return {**{f"state.{i}": part for i, part in enumerate(rows)}, "place": places}, about

    def restore(self, tensors: dict[str, Tensor], about: dict[str, Any], form: Any) -> None:
        """The inverse of `stored`.

        Args:
            form: some state of the model.

        Raises:
            ValueError: the tensors are no states of such a form.
        """
        self.clear()
        if not about["tracks"]:
            return
        names = [f"state.{i}" for i in range(len(form))]
        parts = [tensors[name] for name in names if name in tensors]
        if [(x.shape[1:], x.dtype) for x in parts] != [(x.shape[1:], x.dtype) for x in form]:
            raise ValueError("a checkpoint's states are not this model's: delete it to begin anew")
        states = type(form)(*(part.to(like.device) for part, like in zip(parts, form)))
        count = len(states[0]) // len(about["tracks"])
        for i, (track, age) in enumerate(zip(about["tracks"], about["ages"], strict=True)):
            part = select_rows(states, range(i * count, (i + 1) * count))
            self._states[track] = (age, part, tensors["place"][i])

    def step(
        self,
        tracks: Sequence[int],
        images: Tensor,
        features: Tensor,
        center_maps: Tensor,
        crop_to_image: Tensor,
    ) -> Tensor:
        """Advance these people by one frame; those without a state begin.

        Args:
            tracks: P numbers. images, features: (S, P, ...), as the backend's ``encode`` made them.
            center_maps: (S, P, 1, h, w). crop_to_image: (S, P, 2, 3).

        Returns:
            Heatmaps (S, P, C, h, w), float32.
        """
        rows = features.shape[0]
        ages = {track: self._states[track][0] if track in self._states else 0 for track in tracks}
        period = self._backend.reset_every
        fresh = [
            i
            for i, track in enumerate(tracks)
            if track not in self._states or (period and ages[track] % period == 0)
        ]
        # Person by person, so that a person's rows lie together.
        by_person = features.transpose(0, 1)
        old = {track: self._states[track][1] for track in tracks if track in self._states}
        if fresh:
            first = images.transpose(0, 1)[fresh].flatten(0, 1)
            begun = self._backend.begin(first, by_person[fresh].flatten(0, 1))
            for place, i in enumerate(fresh):
                old[tracks[i]] = select_rows(begun, range(place * rows, (place + 1) * rows))
        state = append_rows([old[track] for track in tracks])
        places, moves = crop_to_image.transpose(0, 1), None
        if self._backend.align_state:
            # A fresh state is of this crop. Whoever was away comes back to where the crop was.
            before = [
                places[i] if i in fresh else self._states[track][2]
                for i, track in enumerate(tracks)
            ]
            moves = codec_moves(torch.cat(before), places.flatten(0, 1), self._backend.codec)
        heatmaps, state = self._backend.advance(
            by_person.flatten(0, 1), center_maps.transpose(0, 1).flatten(0, 1), state, moves
        )
        for i, track in enumerate(tracks):
            # A copy of the rows: a view would keep everybody's memory alive.
            part = select_rows(state, range(i * rows, (i + 1) * rows))
            self._states[track] = (ages[track] + 1, part, places[i])
        heatmaps = heatmaps.float().view(len(tracks), rows, *heatmaps.shape[1:])
        return heatmaps.transpose(0, 1)


def center_maps(backend: PoseBackend, centers: Tensor, crop_size: tuple[int, int]) -> Tensor:
    """Centres (S, P, 2) in crop px -> centre maps (S, P, 1, h, w), as in the offline test."""
    size = (int(crop_size[0]), int(crop_size[1]))
    flat = backend.center_map(centers.flatten(0, 1).to(backend.device), size, training=False)
    return torch.unflatten(flat, 0, centers.shape[:2])


class _Prepared(NamedTuple):
    frame: Frame
    cut: bool
    starts_shot: bool
    people: list[Person]
    crops: PersonCrops | None  # None where there is nobody
    found: Detections | None  # by a detector, where one ran


class _Poses(NamedTuple):
    """What the network said about P people."""

    keypoints: np.ndarray  # float32 (P, K, 3)
    boxes: np.ndarray  # float32 (P, 4)
    scores: np.ndarray  # float32 (P,)
    peaks: np.ndarray | None = None  # float32 (P, K, C, 3), where they are wanted


class StreamingPosePredictor:
    """A recurrent pose model on streams of frames: the offline test's numbers, without its wait.

    The crops come from the clip mapper and the joints from the functions that the model's own
    ``forward`` uses. Every person has a state of the network, all people of a frame are one batch.
    At a cut, and where the frames' size changes, all states are dropped.

    Everything that a stream remembers is the stream's own: several may run side by side.
    """

    def __init__(
        self,
        *,
        backend: PoseBackend,
        mapper: PoseClipMapper,
        people: Callable[[], People],
        cuts: Callable[[], CutDetector] | None = None,
        batch_frames: int = 1,
        keep_heatmaps: bool = False,
        keep_peaks: bool = False,
        stills: bool = False,
    ) -> None:
        """
        Args:
            mapper: of testing; it becomes the predictor's own.
            people: makes the policy of one stream: whom to look for where.
            cuts: makes the cut detector of one stream; None never restarts.
            batch_frames: frames that are encoded together, where ``people`` does not depend on
                poses; results do not depend on it, but come later.
            keep_heatmaps: put the joints' heatmaps (of the first test row) into the results.
            keep_peaks: put the highest peaks of every joint into the results.
            stills: every stream is a photo.
        """
        if batch_frames < 1:
            raise ValueError(f"batches of {batch_frames} frames: expected 1 or more")
        self.backend = backend
        self.people, self.cuts = people, cuts
        self.cropper = FrameCropper(mapper, stills)
        self.batch_frames = batch_frames
        self.keep_heatmaps = keep_heatmaps
        self.keep_peaks = keep_peaks

    def __call__(
        self, frames: Iterable[Frame], video: str = "video", checkpoint: Checkpoint | None = None
    ) -> Iterator[PoseFrame]:
        """Yield a result for every frame, in order, also where nobody is found.

        Args:
            checkpoint: of these frames. What it holds is not computed again; from then on it is
                brought forward. ``frames`` are `Checkpoint.frames`.

        Raises:
            ValueError: heatmaps are wanted with a checkpoint, which keeps none.
        """
        if checkpoint is not None and self.keep_heatmaps:
            raise ValueError("a checkpoint keeps no heatmaps: leave one of the two out")
        return _PoseStream(self, video, checkpoint).run(frames)


class _PoseStream:
    """One run of a `StreamingPosePredictor`, with all that it remembers."""

    def __init__(
        self, predictor: StreamingPosePredictor, video: str, checkpoint: Checkpoint | None
    ) -> None:
        self.backend = predictor.backend
        self._checkpoint = checkpoint
        self.people = predictor.people()
        self._video = video
        self._cropper = predictor.cropper
        self._cuts = None if predictor.cuts is None else predictor.cuts()
        self._batch_frames = predictor.batch_frames if self.people.independent else 1
        self._keep_heatmaps = predictor.keep_heatmaps
        self._keep_peaks = predictor.keep_peaks
        self._rows = PersonRows(self.backend)
        self._is_new = True

    def run(self, frames: Iterable[Frame]) -> Iterator[PoseFrame]:
        iterator = iter(frames)
        checkpoint = self._checkpoint
        if checkpoint is not None:
            yield from self._replay(checkpoint, iterator)
        ahead = getattr(self.people, "ahead", iter)(iterator)
        try:
            while batch := list(islice(ahead, self._batch_frames)):
                results = self._run(batch)
                if checkpoint is not None and checkpoint.is_due():
                    checkpoint.save(*self._rows.stored())
                yield from results
        finally:
            if isinstance(ahead, Generator):  # which may have a thread to end
                ahead.close()

    def _replay(self, checkpoint: Checkpoint, frames: Iterator[Frame]) -> Iterator[PoseFrame]:
        """The frames that were done before, without a network; afterwards all is as it was then."""
        frame = None
        for past, frame in zip(checkpoint.past(), frames):
            if past.cut:
                self.people.reset()
            starts_shot, self._is_new = past.cut or self._is_new, False
            given = past.arrays
            found = (given["boxes"], given["scores"]) if "boxes" in given else None
            people = self.people.recall(frame, found)
            poses = None
            if "keypoints" in given:
                told = (given["keypoints"], given["pose_boxes"], given["pose_scores"])
                poses = _Poses(*told, given.get("peaks"))
            if len(people) != (0 if poses is None else len(poses.keypoints)):
                raise ValueError(f"{checkpoint.folder} does not fit: delete it to begin anew")
            item = _Prepared(frame, past.cut, starts_shot, people, None, found)
            yield self._result(item, poses, {})[0]
        if frame is not None and self._cuts is not None:
            self._cuts(frame.image)
        state = checkpoint.state()
        if state is not None:
            self._rows.restore(*state, self._form() if state[1]["tracks"] else ())

    @torch.no_grad()
    def _form(self) -> Any:
        """A state of the network, of a blank crop."""
        blank = torch.zeros(1, 3, *self._cropper.crop_size, dtype=torch.uint8)
        with self.backend.autocast():
            return self.backend.begin(*self.backend.encode(blank))

    @torch.no_grad()
    def _run(self, frames: list[Frame]) -> list[PoseFrame]:
        with self.backend.autocast():
            prepared = [self._prepare(frame) for frame in frames]
            crops = [item.crops for item in prepared if item.crops is not None]
            encoded = iter(self._encode(crops)) if crops else iter(())
            return [
                self._step(item, next(encoded) if item.crops is not None else None)
                for item in prepared
            ]

    def _prepare(self, frame: Frame) -> _Prepared:
        is_cut = self._cuts is not None and bool(self._cuts(frame.image))
        starts_shot, self._is_new = is_cut or self._is_new, False
        if is_cut:
            # States are dropped only when this frame's turn comes: earlier ones of the batch wait.
            self.people.reset()
        people = self.people.propose(frame)
        crops = self._cropper(frame.image, people) if people else None
        found = self.people.found if self._checkpoint is not None else None
        return _Prepared(frame, is_cut, starts_shot, people, crops, found)

    def _encode(self, crops: list[PersonCrops]) -> list[tuple[Tensor, Tensor]]:
        """Images as ``begin`` wants them and features, each (S, P, ...), of every frame."""
        shapes = [part.images.shape[:2] for part in crops]
        flat = torch.cat([part.images.flatten(0, 1) for part in crops])
        images, features = self.backend.encode(flat)
        counts = [rows * people for rows, people in shapes]
        return [
            (torch.unflatten(i, 0, shape), torch.unflatten(f, 0, shape))
            for i, f, shape in zip(images.split(counts), features.split(counts), shapes)
        ]

    def _step(self, item: _Prepared, encoded: tuple[Tensor, Tensor] | None) -> PoseFrame:
        if item.starts_shot:
            self._rows.clear()
        tracked = self.people.tracked()
        if tracked is not None:
            self._rows.keep(tracked)
        if encoded is None:
            self._record(item, None)
            return self._result(item, None, {})[0]
        assert item.crops is not None
        centers = center_maps(self.backend, item.crops.centers, self._cropper.crop_size)
        tracks = [person.track_id for person in item.people]
        heatmaps = self._rows.step(tracks, *encoded, centers, item.crops.crop_to_image)
        poses = self._decode(item.frame, item.crops, heatmaps)
        self._record(item, poses)
        maps: dict[str, np.ndarray] = {}
        if self._keep_heatmaps:
            maps["heatmaps"] = self.backend.codec.joint_maps(heatmaps[0]).cpu().numpy()
            maps["map_to_image"] = self._map_to_image(item.crops)
        result, verdict = self._result(item, poses, maps)
        assert verdict is not None
        self._rows.rename(tracks, verdict.track_ids.tolist())
        return result

    def _decode(self, frame: Frame, crops: PersonCrops, heatmaps: Tensor) -> _Poses:
        """``heatmaps``: (S, P, C, h, w)."""
        size = (frame.image.shape[0], frame.image.shape[1])
        peaks = None
        # The network's precision does not tell one pixel of a picture from the next.
        with torch.autocast(heatmaps.device.type, enabled=False):
            poses = decode_rows(
                heatmaps,
                crops.crop_to_image.to(heatmaps.device),
                codec=self.backend.codec,
                swap=self.backend.flip_channels,
                flipped=crops.flipped,
                image_size=size,
            )
            if self._keep_peaks:
                places = crops.crop_to_image, crops.flipped
                peaks = image_peaks(self.backend, heatmaps, *places, poses).cpu().numpy()
        found = to_instances(poses, size)
        return _Poses(
            poses.cpu().numpy(),
            torch.cat([person.pred_boxes.tensor for person in found]).numpy(),
            torch.cat([person.scores for person in found]).numpy(),
            peaks,
        )

    def _record(self, item: _Prepared, poses: _Poses | None) -> None:
        if self._checkpoint is None:
            return
        arrays: dict[str, np.ndarray] = {}
        if item.found is not None:
            arrays |= {"boxes": np.asarray(item.found[0]), "scores": np.asarray(item.found[1])}
        if poses is not None:
            arrays |= {"keypoints": poses.keypoints, "pose_boxes": poses.boxes}
            arrays["pose_scores"] = poses.scores
            if poses.peaks is not None:
                arrays["peaks"] = poses.peaks
        frame = item.frame
        size = (frame.image.shape[0], frame.image.shape[1])
        past = Past(frame.index, frame.time, size, item.cut, arrays)
        self._checkpoint.add(past, frame.image)

    def _result(
        self, item: _Prepared, poses: _Poses | None, maps: dict[str, np.ndarray]
    ) -> tuple[PoseFrame, Verdict | None]:
        """What is shown of the poses, and what the policy said of them; None where is nobody.

        Args:
            maps: heatmaps and where they are, of all people.
        """
        frame, names = item.frame, tuple(self.backend.joint_names)
        keypoints = np.zeros((0, len(names), 3), np.float32)
        boxes, scores = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        numbers = np.zeros(0, np.int64)
        verdict: Verdict | None = None
        if poses is not None:
            verdict = self.people.update(item.people, poses.keypoints)
            shown = np.flatnonzero(verdict.numbers >= 0)
            numbers = verdict.numbers[shown]
            keypoints, boxes, scores = (part[shown] for part in poses[:3])
            if poses.peaks is not None:
                maps = {**maps, "peaks": poses.peaks}
            maps = {name: part[shown] for name, part in maps.items()}
        result = PoseFrame(
            index=frame.index,
            time=frame.time,
            image=frame.image,
            video=self._video,
            joint_names=names,
            keypoints=keypoints,
            boxes=boxes,
            scores=scores,
            track_ids=numbers,
            starts_shot=item.starts_shot,
            **maps,
        )
        return result, verdict

    def _map_to_image(self, crops: PersonCrops) -> np.ndarray:
        """(P, 2, 3): cell indices of the first row's maps to image pixels."""
        codec, matrices = self.backend.codec, crops.crop_to_image[0].numpy()
        linear, offset = matrices[..., :2], codec.decode_offset + 0.5
        shift = linear.sum(axis=-1, keepdims=True) * offset + matrices[..., 2:]
        return np.concatenate([linear * codec.stride, shift], axis=-1)
