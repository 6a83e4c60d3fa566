"""Loaders of clips for training and of chunks in order for testing, with their samplers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, cast

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetFromList
from detectron2.data.common import ToIterableDataset
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from video_pose.data.clip_mapper import PoseClipMapper, build_pose_mapper, joint_table
from video_pose.data.clips import Chunk, cut_run, warmup_runs, whole_run
from video_pose.data.records import ClipRecord, FrameRecord, Track, is_person

logger = logging.getLogger(__name__)

# What to do about a dataset of images that a model of clips is given.
NO_TRACKS = (
    "register COCO-style files by video_pose.data.datasets.coco_video.register_video_keypoints, "
    "others by video_pose.data.register.register_video_tracks"
)


class ResumableTrainingSampler(Sampler):
    """An infinite shuffled stream of (item, position), sharded by rank, that can start anywhere.

    All ranks share one stream, which depends on the seed alone; rank r of R reads its positions
    r, r + R, ... Detectron2's ``TrainingSampler`` always starts at 0, so that a resumed run would
    see the first items again. The position is handed on, to seed the augmentation of that clip.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        start: int = 0,
        repeats: Sequence[float] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        """
        Args:
            size: number of items.
            start: positions of the common stream that were consumed already, over all ranks.
            repeats: how often each item comes in an epoch on average, > 0; None: once.
            rank, world_size: this process and their number; None asks Detectron2.
        """
        if size < 1 or start < 0:
            raise ValueError(f"sampler of {size} items from position {start}: nothing to sample")
        self._repeats = None if repeats is None else torch.tensor(repeats, dtype=torch.float64)
        if self._repeats is not None and (len(self._repeats) != size or self._repeats.min() <= 0):
            raise ValueError(f"repeat factors of {size} items must be {size} numbers above 0")
        self._size = size
        self.seed = int(seed)
        self._start = start
        self._rank = comm.get_rank() if rank is None else rank
        self._world_size = comm.get_world_size() if world_size is None else world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position, epoch = 0, 0
        if self._repeats is None:
            epoch = self._start // self._size
            position = epoch * self._size
        while True:
            for item in self._epoch(epoch):
                if position >= self._start and position % self._world_size == self._rank:
                    yield item, position
                position += 1
            epoch += 1

    def _epoch(self, epoch: int) -> list[int]:
        generator = torch.Generator()
        generator.manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
        items = torch.arange(self._size)
        if self._repeats is not None:
            # A fraction is drawn anew each epoch, so that it holds on average.
            extra = torch.rand(self._size, generator=generator) < self._repeats.frac()
            items = items.repeat_interleave(self._repeats.long() + extra)
        return items[torch.randperm(len(items), generator=generator)].tolist()


class WholeRunSampler(Sampler):
    """Items of consecutive runs, each run on one rank and in order.

    Detectron2's ``InferenceSampler`` cuts the item list into equal parts, which tears a video apart
    that a recurrent model must see in order.
    """

    def __init__(
        self,
        items: Sequence[Sequence[int]],
        frames: Sequence[int],
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        """
        Args:
            items: per run, its item numbers in order.
            frames: per run, its number of frames; runs are dealt so that ranks get about equally
                many.
            rank, world_size: this process and their number; None asks Detectron2.
        """
        rank = comm.get_rank() if rank is None else rank
        world_size = comm.get_world_size() if world_size is None else world_size
        mine = deal_runs(frames, world_size)[rank]
        self._items = [item for run in mine for item in items[run]]

    def __iter__(self) -> Iterator[int]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


def deal_runs(frames: Sequence[int], world_size: int) -> list[list[int]]:
    """Deal runs to ranks, the longest first, each to the rank with the fewest frames so far.

    Returns:
        Per rank, the ascending numbers of its runs; every run is in exactly one of them.
    """
    ranks: list[list[int]] = [[] for _ in range(world_size)]
    loads = [0] * world_size
    for run in sorted(range(len(frames)), key=lambda i: (-frames[i], i)):
        rank = loads.index(min(loads))
        ranks[rank].append(run)
        loads[rank] += frames[run]
    return [sorted(runs) for runs in ranks]


# Batches on their way from a loader's worker to the process that trains. PyTorch moves every tensor
# through a piece of shared memory of its own: a file to create, to send a handle of and to map. A
# clip has one large tensor and many small ones, which cost most of the time.

# Up to this size a tensor is part of the message.
_SMALL_BYTES = 1 << 14


class _Inline:
    """A small tensor that is pickled by value, and arrives as the tensor."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __reduce__(self) -> tuple[Any, ...]:
        return torch.from_numpy, (self.array,)


def collate(batch: list[ClipRecord]) -> list[ClipRecord]:
    """The batch as it is; where a worker sends it, its small tensors are sent by value."""
    if get_worker_info() is None:
        return batch
    sent = [{key: _prepare(value) for key, value in item.items()} for item in batch]
    return cast(list[ClipRecord], sent)


def _prepare(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.nbytes <= _SMALL_BYTES:
        return _Inline(value.numpy())
    return value


class ClipDataset(Dataset):
    """Items (track, position in the training stream) -> a mapped clip.

    The seed of a clip's random numbers comes from the run's seed and the position alone: batches do
    not depend on the number of workers or ranks' timing, and a resumed run continues with the
    same clips.
    """

    def __init__(self, tracks: list[Track], mapper: PoseClipMapper, seed: int) -> None:
        self._tracks = DatasetFromList(tracks)
        self._mapper = mapper
        self._seed = seed

    def __len__(self) -> int:
        return len(self._tracks)

    def __getitem__(self, item: tuple[int, int]) -> ClipRecord:
        index, position = item
        sequence = np.random.SeedSequence([self._seed, position])
        clip_seed = sequence.generate_state(1, np.uint64).item()
        track: Track = self._tracks[index]
        return self._mapper({**track, "clip_seed": clip_seed})


class ChunkDataset(Dataset):
    """Items -> mapped chunks of tracks, in the order of the tracks."""

    def __init__(
        self,
        tracks: list[Track],
        chunks: list[tuple[int, Chunk]],
        mapper: PoseClipMapper,
    ) -> None:
        """``chunks``: (number of the track, part of it)."""
        self._tracks = DatasetFromList(tracks)
        self._chunks = chunks
        self._mapper = mapper

    def __len__(self) -> int:
        return len(self._chunks)

    def __getitem__(self, index: int) -> ClipRecord:
        number, chunk = self._chunks[index]
        track: Track = self._tracks[number]
        return self._mapper({**track, "chunk": chunk})


def build_pose_train_loader(
    cfg: CfgNode, start_iter: int = 0, mapper: PoseClipMapper | None = None
) -> DataLoader:
    """An infinite loader of lists of clips, ``SOLVER.IMS_PER_BATCH`` clips over all ranks.

    Args:
        start_iter: iterations done already; a resumed run goes on with the clips that would have
            come next (given ``SEED`` >= 0 and the same batch size).
        mapper: default: the one of ``INPUT.MAPPER``.

    Raises:
        ValueError: no dataset is named, none of its frames can be used, the model's joints cannot
            be had from it, or a key has no meaning here.
    """
    per_rank = share_of_batch(cfg, "clips")
    if cfg.DATALOADER.ASPECT_RATIO_GROUPING:
        raise ValueError("DATALOADER.ASPECT_RATIO_GROUPING must be False: all crops have one size")
    mapper = mapper or build_pose_mapper(cfg, True, list(cfg.DATASETS.TRAIN))
    if cfg.MODEL.POSE.ABSENT_WEIGHT > 0 and not mapper.absent:
        logger.warning(
            "MODEL.POSE.ABSENT_WEIGHT is ignored: no dataset of DATASETS.TRAIN says "
            "unlabelled_is_absent in its metadata"
        )
    if cfg.MODEL.POSE.PARTIAL_JOINTS:
        logger.info("Joints of the model by dataset:\n%s", joint_table(mapper.joint_maps))
    tracks = get_training_tracks(list(cfg.DATASETS.TRAIN), mapper)
    sampler = training_sampler(cfg, len(tracks), start_iter, repeat_factors(cfg, tracks))
    # Every worker walks the sampler and takes each n-th batch of it: the order is the stream's.
    dataset = ToIterableDataset(
        ClipDataset(tracks, mapper, sampler.seed), sampler, shard_chunk_size=per_rank
    )
    return _loader(cfg, dataset, batch_size=per_rank, persistent=True)


def share_of_batch(cfg: CfgNode, items: str) -> int:
    """How many of a batch's ``items`` each process takes. Raises ValueError unless it is whole."""
    world_size, batch = comm.get_world_size(), cfg.SOLVER.IMS_PER_BATCH
    if batch < 1 or batch % world_size:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {batch} {items}: must be a multiple of {world_size} "
            "(processes)"
        )
    return batch // world_size


def training_sampler(
    cfg: CfgNode, size: int, start_iter: int, repeats: Sequence[float] | None
) -> ResumableTrainingSampler:
    """The stream of a run's ``size`` items, after ``start_iter`` batches; see its ``repeats``.

    A run without SEED draws one that all processes share.
    """
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    start = start_iter * cfg.SOLVER.IMS_PER_BATCH
    return ResumableTrainingSampler(size, seed, start=start, repeats=repeats)


def build_pose_test_loader(
    cfg: CfgNode, dataset_name: str, mapper: PoseClipMapper | None = None
) -> DataLoader:
    """A loader of chunks, each a list of one; a track's chunks stay on one rank and in order.

    With ``TEST.WARMUP_FRAMES`` >= 0 only labelled frames and the frames before them are run.

    Raises:
        ValueError: the dataset has no frame to run.
    """
    tracks = _named_tracks(dataset_name)
    mapper = mapper or build_pose_mapper(_cfg_for_test(cfg, tracks), False)
    chunks: list[tuple[int, Chunk]] = []
    run_items: list[list[int]] = []
    run_frames: list[int] = []
    for number, track in enumerate(tracks):
        for start, stop in _runs(track, cfg.TEST.WARMUP_FRAMES):
            length = stop - start
            # Poses that are corrected over time are so over a whole run.
            whole = cfg.TEST.OVER_TIME.MODE != "causal"
            parts = cut_run((start, stop), length if whole else cfg.TEST.CHUNK_LENGTH)
            run_items.append(list(range(len(chunks), len(chunks) + len(parts))))
            run_frames.append(length)
            chunks += [(number, part) for part in parts]
    if not chunks:
        raise ValueError(f"dataset {dataset_name!r} has no frame to run ({len(tracks)} tracks)")
    logger.info(
        "%s: %d tracks, %d frames in %d chunks",
        dataset_name, len(tracks), sum(run_frames), len(chunks),
    )  # fmt: skip
    sampler = WholeRunSampler(run_items, run_frames)
    return _loader(cfg, ChunkDataset(tracks, chunks, mapper), batch_size=1, sampler=sampler)


def get_training_tracks(dataset_names: list[str], mapper: PoseClipMapper) -> list[Track]:
    """The tracks of all datasets that have a frame to learn from, each with its ``dataset_name``.

    Raises:
        ValueError: a dataset has no usable frame.
    """
    tracks: list[Track] = []
    for name in dataset_names:
        found = _named_tracks(name)
        usable = [track for track in found if mapper.usable_frames(track).any()]
        if not usable:
            raise ValueError(
                f"dataset {name!r} has no usable frame: none of {len(found)} tracks has a labelled "
                "joint of MODEL.POSE.JOINTS"
            )
        if len(usable) < len(found):
            logger.info("%s: %d tracks without labels left out", name, len(found) - len(usable))
        tracks += usable
    return tracks


def _named_tracks(dataset_name: str) -> list[Track]:
    """The people of whom joints can be asked, not those with boxes alone, nor crowds."""
    tracks: list[Track] = DatasetCatalog.get(dataset_name)
    if any("labelled" not in track for track in tracks):
        raise ValueError(
            f"dataset {dataset_name!r} has no tracks of people, but dicts with "
            f"{sorted(tracks[0])}: {NO_TRACKS}"
        )
    return [{**track, "dataset_name": dataset_name} for track in tracks if is_person(track)]


def _cfg_for_test(cfg: CfgNode, tracks: list[Track]) -> CfgNode:
    """``cfg`` without a cache of frames where every video has one track: a test reads each of its
    frames once, and memory would grow with the video for nothing."""
    videos = [track["video_id"] for track in tracks]
    if len(set(videos)) < len(videos):
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.FRAME_CACHE_BYTES = 0
    return cfg


def _runs(track: Track, warmup: int) -> list[tuple[int, int]]:
    if warmup < 0:
        return whole_run(len(track["keypoints"]))
    return warmup_runs(np.asarray(track["labelled"]), warmup)


def repeat_factors(cfg: CfgNode, items: Sequence[Track | FrameRecord]) -> list[float] | None:
    """How often each item comes in an epoch, by its ``dataset_name``; None: once each.

    Raises:
        ValueError: unknown DATALOADER.SAMPLER_TRAIN, or factors of datasets not trained on.
    """
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name == "TrainingSampler":
        return None
    if name != "WeightedTrainingSampler":
        raise ValueError(
            f"DATALOADER.SAMPLER_TRAIN is {name!r}: expected 'TrainingSampler' or "
            "'WeightedTrainingSampler' (with DATASETS.TRAIN_REPEAT_FACTOR)"
        )
    factors = dict(cfg.DATASETS.TRAIN_REPEAT_FACTOR)
    unknown = sorted(set(factors) - set(cfg.DATASETS.TRAIN))
    if unknown:
        raise ValueError(
            f"DATASETS.TRAIN_REPEAT_FACTOR names {unknown}: DATASETS.TRAIN is {cfg.DATASETS.TRAIN}"
        )
    return [float(factors.get(item["dataset_name"], 1.0)) for item in items]


def _loader(
    cfg: CfgNode, dataset: Dataset, batch_size: int, persistent: bool = False, **kwargs: Any
) -> DataLoader:
    workers = cfg.DATALOADER.NUM_WORKERS
    if workers:
        # Before the fork: OpenCV's thread pool does not survive one, and a worker that touches the
        # inherited one hangs.
        cv2.setNumThreads(1)
    on_gpu = cfg.MODEL.DEVICE.startswith("cuda") and torch.cuda.is_available()
    return DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_init_worker,
        pin_memory=on_gpu,
        persistent_workers=persistent and workers > 0,
        **kwargs,
    )


def _init_worker(worker_id: int) -> None:
    """One thread a worker: the workers are the parallelism. Clips bring their own seeds."""
    if cv2.getNumThreads() != 1:  # a spawned worker, which inherits nothing
        cv2.setNumThreads(1)
