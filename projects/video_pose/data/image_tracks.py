"""The persons of an image dataset (COCO, `register_coco_instances`) as tracks of one frame each.

The reverse of `frames`: what is scored by track, such as PCK, then takes images, too. ``X`` is also
``X_tracks``: the catalog's dicts, one per annotation with a labelled joint that is no crowd region;
``video_id`` is the image's id, ``track_id`` counts the annotations of the image.

K joints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from .datasets.builtin_meta import JointSet, dataset_metadata
from .datasets.coco_joints import derivable
from .datasets.tracks import make_keypoints, make_track
from .frames import free_view_name

TRACKS_SUFFIX = "_tracks"

Record = dict[str, Any]


def register_tracks(name: str, joints: Sequence[str]) -> str:
    """Register the persons of the image dataset ``name``, or do so anew; nothing is read.

    Args:
        joints: names of its joints, in the order of the annotations.

    Returns:
        The new name, ``<name>_tracks``. Mirror pairs and widths are those of ``name``'s metadata,
        other facts follow from the joints' names.

    Raises:
        ValueError: the new name is taken by another dataset.
    """
    tracks_name = name + TRACKS_SUFFIX
    free_view_name(tracks_name, "image_dataset", name)
    given = MetadataCatalog.get(name)
    # Without mirror pairs, none are looked for, which a list of joints may lack.
    pairs = [tuple(pair) for pair in given.get("keypoint_flip_map", [])] or [("", "")]
    skeleton = JointSet(
        list(joints),
        flip_map=pairs,
        sigmas=list(given.get("keypoint_oks_sigmas", [])),
        derived=derivable(list(joints)),
    )
    facts = dataset_metadata("coco_video", skeleton, str(given.get("image_root", "")))
    facts["keypoint_flip_map"] = [pair for pair in pairs if pair != ("", "")]
    DatasetCatalog.register(
        tracks_name, lambda: images_to_tracks(DatasetCatalog.get(name), len(joints), name)
    )
    MetadataCatalog.get(tracks_name).set(**facts, image_dataset=name, box_margin=0.0)
    return tracks_name


def images_to_tracks(images: Iterable[Record], joints: int, name: str) -> list[Record]:
    """Tracks of Detectron2's image dicts.

    Args:
        images: dicts, whose keypoints are continuous pixels. joints: K. name: for messages.

    Raises:
        ValueError: an annotation has another number of joints.
    """
    tracks = []
    for image in images:
        for number, annotation in enumerate(image.get("annotations", [])):
            points = np.asarray(annotation.get("keypoints", []), np.float64)
            if annotation.get("iscrowd") or not points.any():
                continue
            if points.size != 3 * joints:
                raise ValueError(
                    f"{name}: a person in {image['file_name']} has {points.size} numbers as "
                    f"keypoints: expected {joints} x (x, y, v)"
                )
            tracks.append(_track(image, number, annotation, points.reshape(joints, 3)))
    return [track for track in tracks if track["labelled"].any()]


def _track(image: Record, number: int, annotation: Record, points: np.ndarray) -> Record:
    box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
    return make_track(
        video_id=str(image["image_id"]),
        track_id=str(number),
        source={"file_names": [image["file_name"]]},
        size=(image["height"], image["width"]),
        keypoints=make_keypoints(points[None, :, :2], points[None, :, 2]),
        boxes=np.array([box]),
        image_ids=np.array([image["image_id"]]),
    )
