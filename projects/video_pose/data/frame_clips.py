"""Clips of whole frames, for models that find people and remember them.

A video of the frames view (``X_frames``) is a list of its frames in order. Training takes T frames
of a video, all under one draw of the augmentations; testing takes the frames of a video one by one,
in order and on one process. A picture of an image dataset is a video of one frame.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from typing import TypeVar

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, MapDataset
from detectron2.data.common import ToIterableDataset
from torch.utils.data import DataLoader, Dataset

from video_pose.data.build import (
    WholeRunSampler,
    repeat_factors,
    share_of_batch,
    training_sampler,
)
from video_pose.data.clips import sample_clip
from video_pose.data.frames import (
    named_frames,
    numpy_seed,
    require_classes,
    require_same_classes,
)
from video_pose.data.frames_mapper import FrameMapper
from video_pose.data.records import Annotation, FrameClip, FrameRecord

logger = logging.getLogger(__name__)
Item = TypeVar("Item")


def frames_by_video(frames: Iterable[FrameRecord]) -> list[list[FrameRecord]]:
    """Frames of each video in order of time; a frame without a video is one by itself.

    The frames are copies whose ``frame_index`` is the place in that order, and whose ``video_id``
    is there for pictures as well.

    Raises:
        ValueError: the tracks of a video contradict one another about the order of its frames.
    """
    videos: dict[str, list[FrameRecord]] = {}
    for frame in frames:
        video = frame.get("video_id", f"image {frame['image_id']}")
        videos.setdefault(video, []).append(frame)
    return [
        [
            {**frame, "video_id": video, "frame_index": place}
            for place, frame in enumerate(_in_order(members, video))
        ]
        for video, members in videos.items()
    ]


def _in_order(frames: list[FrameRecord], video: str) -> list[FrameRecord]:
    """Frames of one video sorted by their tracks, each of which is in order of time.

    A frame of the view knows its place in each of its tracks alone; frames that no track compares
    go by ``frame_number``, else by ``image_id``.
    """
    tracks: dict[str, list[tuple[int, int]]] = {}
    for number, frame in enumerate(frames):
        for track, place in frame.get("tracks", ()):
            tracks.setdefault(track, []).append((place, number))
    sorter: TopologicalSorter[int] = TopologicalSorter({i: () for i in range(len(frames))})
    for places in tracks.values():
        numbers = [number for _, number in sorted(places)]
        for before, after in zip(numbers, numbers[1:]):
            sorter.add(after, before)
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError(f"video {video!r}: its tracks disagree on the order of frames") from error
    order: list[int] = []
    waiting: list[tuple[int, int]] = []
    while sorter.is_active():
        for number in sorter.get_ready():
            frame = frames[number]
            key = frame["frame_number"] if "frame_number" in frame else frame["image_id"]
            heappush(waiting, (int(key), number))
        _, number = heappop(waiting)
        order.append(number)
        sorter.done(number)
    return [frames[number] for number in order]


class FrameClipDataset(Dataset):
    """Items (video, position in the training stream) -> ``{"frames": T mapped frames}``.

    Every person of a mapped frame's ``instances`` has a number in ``gt_tracks``, int64, which is
    the same in all frames of the clip. A clip follows from the run's seed and the position alone.

    Args:
        videos: see `frames_by_video`. mapper: of training. seed: of the run.
        length: T; a shorter video gives all of its frames. stride: distance of neighbours, frames.
    """

    def __init__(
        self,
        videos: list[list[FrameRecord]],
        mapper: FrameMapper,
        *,
        seed: int,
        length: int,
        stride: int = 1,
    ) -> None:
        if length < 1 or stride < 1:
            raise ValueError(f"INPUT.CLIP: LENGTH {length} and STRIDE {stride} must be 1 or more")
        self._videos = DatasetFromList(videos)
        self._mapper = mapper
        self._seed, self._length, self._stride = seed, length, stride

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, item: tuple[int, int]) -> FrameClip:
        index, position = item
        video = self._videos[index]
        sequence = np.random.SeedSequence([self._seed, position])
        clip_seed, draw = (int(value) for value in sequence.generate_state(2))
        useful = np.array([bool(frame.get("annotations")) for frame in video])
        clip = sample_clip(
            len(video), self._length, self._stride, np.random.default_rng(clip_seed), useful
        )
        chosen = clip.frames[~clip.is_padding].tolist()
        numbers: dict[str, int] = {}
        mapped = []
        for i in chosen:
            # Detectron2's augmentations draw from NumPy's generator: started anew for every frame,
            # they draw the same for all frames of the clip.
            with numpy_seed(draw):
                mapped.append(self._mapper(_numbered(video[i], numbers)))
        return {"frames": mapped}


def _numbered(frame: FrameRecord, numbers: dict[str, int]) -> FrameRecord:
    """A frame whose annotations carry ``track_number``; ``numbers`` grows by new tracks.

    Persons of an image dataset have no track: each is one.
    """
    annotations: list[Annotation] = []
    for place, annotation in enumerate(frame.get("annotations", [])):
        track = str(annotation.get("track_id", f"person {place}"))
        number = numbers.setdefault(track, len(numbers))
        annotations.append({**annotation, "track_number": number})
    return {**frame, "annotations": annotations}


def build_frame_clips_train_loader(
    cfg: CfgNode, start_iter: int = 0, mapper: FrameMapper | None = None
) -> DataLoader:
    """An infinite loader of lists of clips, ``SOLVER.IMS_PER_BATCH`` **clips** over all processes.

    Args:
        start_iter: iterations done already; a resumed run goes on with the clips that would have
            come next.
        mapper: of a frame; default: `FrameMapper`.

    Raises:
        ValueError: no dataset is named, none has a labelled person, the batch does not divide, or
            the datasets have different classes, or one that the model does not have.
    """
    per_rank = share_of_batch(cfg, "clips")
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN is empty: name at least one dataset")
    videos: list[list[FrameRecord]] = []
    for name in cfg.DATASETS.TRAIN:
        frames = named_frames(name, filter_empty=False, min_keypoints=0)
        require_classes(cfg, name, frames)
        found = frames_by_video(frames)
        usable = [video for video in found if any(frame.get("annotations") for frame in video)]
        logger.info("%s: %d of %d videos have a labelled person", name, len(usable), len(found))
        if cfg.INPUT.CLIP.LENGTH > 1 and not any(len(video) > 1 for video in usable):
            logger.warning(
                "%s has no tracks: its pictures are clips of one frame, from which a memory learns "
                "nothing of time (INPUT.CLIP.LENGTH is %d)", name, cfg.INPUT.CLIP.LENGTH,
            )  # fmt: skip
        videos += usable
    require_same_classes(list(cfg.DATASETS.TRAIN))
    if not videos:
        raise ValueError(f"no labelled person in {list(cfg.DATASETS.TRAIN)}")
    repeats = repeat_factors(cfg, [video[0] for video in videos])
    sampler = training_sampler(cfg, len(videos), start_iter, repeats)
    dataset = FrameClipDataset(
        videos,
        mapper or FrameMapper(cfg, is_train=True),
        seed=sampler.seed,
        length=cfg.INPUT.CLIP.LENGTH,
        stride=cfg.INPUT.CLIP.STRIDE,
    )
    return DataLoader(
        ToIterableDataset(dataset, sampler, shard_chunk_size=per_rank),
        batch_size=per_rank,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=_as_list,
    )


def build_frame_clips_test_loader(
    cfg: CfgNode, dataset_name: str, mapper: FrameMapper | None = None
) -> DataLoader:
    """The frames of each video in order, one a batch; all of a video on one process."""
    videos = frames_by_video(named_frames(dataset_name, filter_empty=False, min_keypoints=0))
    frames = [frame for video in videos for frame in video]
    items: list[list[int]] = []
    for video in videos:
        start = items[-1][-1] + 1 if items else 0
        items.append(list(range(start, start + len(video))))
    dataset = MapDataset(DatasetFromList(frames), mapper or FrameMapper(cfg, is_train=False))
    return DataLoader(
        dataset,
        batch_size=1,
        sampler=WholeRunSampler(items, [len(video) for video in videos]),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=_as_list,
    )


def _as_list(batch: list[Item]) -> list[Item]:
    return batch
