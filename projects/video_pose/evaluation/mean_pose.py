"""The mean-pose baseline: one constant pose, placed in each ground-truth box.

Shape letters: N frames, K joints. A method that knows the box and nothing else reaches this; on
JHMDB it is 76 % at .2 of the box, so that a figure by box alone proves little. The middle is the
median of each coordinate, which a few odd labels do not move.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from video_pose.data.records import Track

_EVALUATED_SUFFIXES = ("_test", "_val")


def median_pose(tracks: Iterable[Track], min_visibility: int) -> np.ndarray:
    """Median position of every joint in the person's box.

    Args:
        tracks: catalog dicts (``keypoints`` (N, K, 3), ``boxes`` (N, 4), ``labelled`` (N,)).
        min_visibility: smallest v of a joint that takes part.

    Returns:
        float64 (K, 2), as shares of the box: (0, 0) is its top left, (1, 1) its bottom right; NaN
        for a joint that is nowhere labelled. Frames without a box's area take no part.
    """
    shares = []
    for track in tracks:
        boxes = np.asarray(track["boxes"], np.float64)
        sides = boxes[:, 2:] - boxes[:, :2]
        rows = np.asarray(track["labelled"], bool) & (sides > 0).all(axis=1)
        keypoints = np.asarray(track["keypoints"], np.float64)[rows]
        share = (keypoints[..., :2] - boxes[rows, None, :2]) / sides[rows, None]
        shares.append(np.where(keypoints[..., 2:] >= min_visibility, share, np.nan))
    if not shares:
        raise ValueError("the mean pose needs at least one track, got none")
    stacked = np.concatenate(shares)
    pose = np.full(stacked.shape[1:], np.nan)
    seen = ~np.isnan(stacked).all(axis=(0, 2))
    pose[seen] = np.nanmedian(stacked[:, seen], axis=0)
    return pose


def place_pose(pose: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The pose (K, 2) in shares of a box, in the pixels of boxes (N, 4): float64 (N, K, 2)."""
    boxes = np.asarray(boxes, np.float64)
    return boxes[:, None, :2] + pose[None] * (boxes[:, 2:] - boxes[:, :2])[:, None]


def training_split(dataset_name: str) -> str:
    """The registered dataset that the mean pose for ``dataset_name`` is taken from.

    That is the metadata's ``train_dataset`` where there is one, else the registered name with
    "_train" in place of "_test" or "_val", else the dataset itself.
    """
    named = MetadataCatalog.get(dataset_name).get("train_dataset")
    if named:
        return named
    for suffix in _EVALUATED_SUFFIXES:
        if dataset_name.endswith(suffix):
            candidate = dataset_name.removesuffix(suffix) + "_train"
            if candidate in DatasetCatalog.list():
                return candidate
    return dataset_name


def mean_pose_of(dataset_name: str, min_visibility: int) -> tuple[np.ndarray, str]:
    """The baseline's pose for a dataset, and the name of the split that it was taken from.

    Where the training split is not on this disk, the evaluated split itself is used: that makes the
    baseline a little higher, never lower than it should be, and the returned name says so.
    """
    source = training_split(dataset_name)
    try:
        tracks = DatasetCatalog.get(source)
        known = MetadataCatalog.get(source).get("keypoint_names")
        if known != MetadataCatalog.get(dataset_name).get("keypoint_names"):
            raise ValueError(f"joints of {source!r} are {known}")
    except (FileNotFoundError, ValueError) as error:
        if source == dataset_name:
            raise
        logging.getLogger(__name__).warning(
            "mean pose: %s cannot be used (%s); taking it from %s itself",
            source,
            error,
            dataset_name,
        )
        source, tracks = dataset_name, DatasetCatalog.get(dataset_name)
    return median_pose(tracks, min_visibility), source
