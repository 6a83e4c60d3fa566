"""Loaders of the frames view: single images, for stock Detectron2 models."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetFromList,
    build_batch_data_loader,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.common import ToIterableDataset
from detectron2.data.detection_utils import check_metadata_consistency
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from video_pose.data.build import ResumableTrainingSampler

from .build import repeat_factors
from .frames import thin_frames
from .frames_mapper import FrameMapper
from .mosaic import Mosaic

logger = logging.getLogger(__name__)

Record = dict[str, Any]


class FrameDataset(Dataset):
    """Items (frame, position in the training stream) -> a mapped frame.

    Detectron2's augmentations draw from NumPy's global generator: it is seeded by run and position
    for each frame, so that a resumed run, and any number of workers, see the same images.
    """

    def __init__(
        self, frames: list[Record], mapper: FrameMapper, seed: int, mosaic: Mosaic | None = None
    ) -> None:
        self._frames = DatasetFromList(frames, copy=False)
        self._mapper = mapper
        self._seed = seed
        self._mosaic = mosaic

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, item: tuple[int, int]) -> Record:
        index, position = item
        sequence = np.random.SeedSequence([self._seed, position])
        with numpy_seed(int(sequence.generate_state(1)[0])):
            others = None if self._mosaic is None else self._mosaic.draw(len(self))
            if self._mosaic is None or others is None:
                return self._mapper(self._frames[index])
            return self._mosaic([self._mapper(self._frames[i]) for i in (index, *others)])


@contextmanager
def numpy_seed(seed: int) -> Iterator[None]:
    """Start NumPy's global generator at ``seed``, and put it back afterwards."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def build_frames_train_loader(
    cfg: CfgNode, start_iter: int = 0, mapper: FrameMapper | None = None
) -> DataLoader:
    """An infinite loader of lists of mapped frames, ``SOLVER.IMS_PER_BATCH`` over all ranks.

    Args:
        start_iter: iterations done already; a resumed run goes on with the frames that would have
            come next (given ``SEED`` >= 0, the same batch size, and no aspect ratio grouping,
            which holds frames back).
        mapper: default: `FrameMapper`.

    Raises:
        ValueError: no dataset is named, the batch does not divide among the processes, or a key has
            no meaning here.
    """
    world_size = comm.get_world_size()
    batch = cfg.SOLVER.IMS_PER_BATCH
    if batch < 1 or batch % world_size:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {batch} frames: must be a multiple of {world_size} processes"
        )
    frames = get_training_frames(cfg)
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    repeats = repeat_factors(cfg, frames)
    sampler = ResumableTrainingSampler(len(frames), seed, start=start_iter * batch, repeats=repeats)
    options = cfg.INPUT.FRAMES
    mosaic = None
    if options.MOSAIC_PROB:
        mosaic = Mosaic(options.MOSAIC_PROB, options.MOSAIC_SIZE, repeats)
    dataset = FrameDataset(frames, mapper or FrameMapper(cfg, is_train=True), seed, mosaic)
    grouping = cfg.DATALOADER.ASPECT_RATIO_GROUPING
    chunk = 1 if grouping else batch // world_size
    return build_batch_data_loader(
        ToIterableDataset(dataset, sampler, shard_chunk_size=chunk),
        None,
        batch,
        aspect_ratio_grouping=grouping,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


def build_frames_test_loader(
    cfg: CfgNode, dataset_name: str, mapper: FrameMapper | None = None
) -> DataLoader:
    """All frames of a dataset in order, one a batch, each on one rank."""
    frames = named_frames(dataset_name, filter_empty=False, min_keypoints=0)
    return build_detection_test_loader(
        dataset=frames,
        mapper=mapper or FrameMapper(cfg, is_train=False),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


def get_training_frames(cfg: CfgNode) -> list[Record]:
    """The frames of ``DATASETS.TRAIN``, thinned by ``INPUT.FRAMES.STRIDE``, with ``dataset_name``.

    Frames without a usable annotation are left out as Detectron2 does
    (``DATALOADER.FILTER_EMPTY_ANNOTATIONS``, ``ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE``).

    Raises:
        ValueError: no dataset is named, the datasets have different classes, or pre-computed
            proposals are asked for.
    """
    names = list(cfg.DATASETS.TRAIN)
    if not names:
        raise ValueError("DATASETS.TRAIN is empty: name at least one dataset")
    if cfg.MODEL.LOAD_PROPOSALS:
        raise ValueError("MODEL.LOAD_PROPOSALS: pre-computed proposals are not supported here")
    keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0
    frames: list[Record] = []
    for name in names:
        found = named_frames(name, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS, keypoints)
        kept = thin_frames(found, cfg.INPUT.FRAMES.STRIDE)
        logger.info("%s: %d of %d frames", name, len(kept), len(found))
        frames += kept
    check_metadata_consistency("thing_classes", names)
    return frames


def named_frames(name: str, filter_empty: bool, min_keypoints: int) -> list[Record]:
    """Detectron2's dicts of a dataset, each with ``dataset_name``."""
    frames = get_detection_dataset_dicts(
        name, filter_empty=filter_empty, min_keypoints=min_keypoints, check_consistency=False
    )
    return [{**frame, "dataset_name": name} for frame in frames]


__all__ = ["build_frames_test_loader", "build_frames_train_loader", "get_training_frames"]
