"""Register a dataset of one's own: tracks of people, from whatever gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from video_pose.data.datasets.tracks import (
    joint_boxes,
    make_image_ids,
    make_keypoints,
    make_track,
    noted,
    require_labelled,
)
from video_pose.data.frames import register_frames
from video_pose.data.records import Track, dataset_metadata
from video_pose.skeleton import JointSet

_NEEDED = ("video_id", "height", "width", "keypoints")
_SOURCES = ("file_names", "video_file", "frame_numbers")


def register_video_tracks(
    name: str,
    loader: Callable[[], Sequence[Any]],
    joints: JointSet | Sequence[str],
    **facts: Any,
) -> None:
    """Register a dataset of person tracks, and ``<name>_frames``, in Detectron2's catalogs.

    The dataset works in both views, in training, evaluation and drawing. Nothing is read now.

    Args:
        name: a new dataset name.
        loader: gives the track dicts, see `complete_track`.
        joints: the skeleton, or the joints' names, from which the rest of it follows.
        facts: further metadata, in place of the defaults: ``pck_protocols`` ("bbox", and "torso"
            and "torso_diagonal" where there are shoulders and hips), ``pck_min_visibility`` (1),
            ``box_margin`` (0: px from a box to the pixels that it bounds), ``root_hint`` ("").

    Raises:
        ValueError: the name is taken, or the joints are no skeleton.
    """
    require_free(name)
    skeleton = joints if isinstance(joints, JointSet) else JointSet(list(joints))
    metadata = dataset_metadata("coco_video", skeleton, str(facts.get("image_root", "")))
    DatasetCatalog.register(name, lambda: load_tracks(loader, name, len(skeleton.names)))
    MetadataCatalog.get(name).set(**{**metadata, "box_margin": 0.0, **facts})
    register_frames(name)


def require_free(name: str) -> None:
    """Raise ValueError where ``name`` is a dataset's already."""
    if name in DatasetCatalog.list():
        raise ValueError(
            f"Dataset {name!r} is already registered; choose another name, or call "
            "DatasetCatalog.remove and MetadataCatalog.remove first."
        )


def load_tracks(loader: Callable[[], Sequence[Any]], name: str, joints: int) -> list[Track]:
    """What a loader gives, completed.

    Raises:
        ValueError: it is no list of track dicts, or no frame is labelled; the dataset is named.
    """
    with noted(f"dataset {name!r}"):
        tracks = loader()
        if not isinstance(tracks, (list, tuple)) or not all(isinstance(t, dict) for t in tracks):
            raise ValueError(
                f"the loader of {name!r} must give a list of dicts, got {tracks!r:.80}"
            )
        completed = [
            complete_track(track, joints, number, f"dataset {name!r}, track {number}")
            for number, track in enumerate(tracks)
        ]
        return require_labelled(completed, f"dataset {name!r}")


def complete_track(track: dict[str, Any], joints: int, number: int, where: str) -> Track:
    """A track dict with every key that anything reads, in the type that it has to have.

    Needed are ``video_id``, ``height``, ``width``, ``keypoints`` (N, K, 3) and ``file_names``, or
    ``video_file`` with ``frame_numbers``. Defaults: ``track_id`` "0"; ``boxes`` the joints' extent
    x 1.25; ``image_ids`` a range of its own for each track, so they are needed where a video has
    several people; ``labelled`` frames with a joint of v > 0.

    Args:
        joints: K. number: of the track in the dataset. where: for errors.

    Raises:
        ValueError: a key lacks, is unknown, or has another shape.
    """
    lacking = [key for key in _NEEDED if key not in track]
    source = {key: track[key] for key in _SOURCES if key in track}
    if lacking or set(source) not in ({"file_names"}, {"video_file", "frame_numbers"}):
        raise ValueError(
            f"{where}: expected {', '.join(_NEEDED)}, and file_names or video_file with "
            f"frame_numbers; got the keys {sorted(track)}"
        )
    known = set(Track.__annotations__)
    unknown = sorted(set(track) - known)
    if unknown:
        raise ValueError(f"{where}: the keys {unknown} mean nothing; known are {sorted(known)}")
    frames = len(source.get("file_names", source.get("frame_numbers", ())))
    keypoints = _array(track["keypoints"], (frames, joints, 3), f"{where}: keypoints")
    visible = keypoints[..., 2]
    wrong = visible[~np.isin(visible, (0, 1, 2))]
    if wrong.size:
        raise ValueError(f"{where}: keypoints: expected v 0, 1 or 2, got {wrong[0]:g}")
    keypoints = make_keypoints(keypoints[..., :2], visible)
    boxes = track.get("boxes")
    boxes = joint_boxes(keypoints) if boxes is None else boxes
    ids = track.get("image_ids")
    ids = make_image_ids(number, frames) if ids is None else ids
    taken = {*_NEEDED, *_SOURCES, "boxes", "image_ids", "track_id", "labelled"}
    return make_track(
        video_id=str(track["video_id"]),
        track_id=str(track.get("track_id", "0")),
        source=source,
        size=(_side(track, "height", where), _side(track, "width", where)),
        keypoints=keypoints,
        boxes=_array(boxes, (frames, 4), f"{where}: boxes"),
        image_ids=_array(ids, (frames,), f"{where}: image_ids").astype(np.int64),
        **{key: value for key, value in track.items() if key not in taken},
    )


def _array(value: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: expected numbers of shape {shape}: {error}") from error
    if array.shape != shape:
        raise ValueError(f"{where}: expected shape {shape}, got {array.shape}")
    return array


def _side(track: dict[str, Any], key: str, where: str) -> int:
    value = track[key]
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{where}: {key}: expected a whole number of px, got {value!r}")
    return int(value)
