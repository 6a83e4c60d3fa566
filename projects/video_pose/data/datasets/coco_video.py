"""A user's own video keypoints, from COCO-style JSON (PoseTrack18's included).

``images``: ``id``, ``file_name`` (relative to the image root), ``video_id`` (or ``vid_id``) and
``frame_id`` or ``frame_index``; or, in place of ``file_name``, ``video_file`` (relative to the
image root), whose ``frame_index`` counts decoded frames from 0. ``height``/``width`` are read from
the first image where they lack. An image without a video id is a still: a video of one frame.
``annotations``: ``image_id``, ``keypoints`` (K x (x, y, v), pixel indices), ``track_id`` (may lack
where every frame has one person, who is then track "0"; persons of a still are counted), ``bbox``
(may lack: the joints' extent x 1.25).
``categories``: the one with ``keypoints`` names the joints.

Rules:

* A track covers its first to its last annotated frame, and the frames next to it on which nobody is
  annotated (PoseTrack's ``is_labeled: false``). So one person's track is the whole video, while a
  person who leaves a scene of several is not looked for after leaving. Frames without an annotation
  of the person have ``labelled`` False.
* A video without any annotation is one track "0" with no labelled frame.
* Crowd regions (``iscrowd``) and annotations without ``keypoints`` are skipped.
* The mirror pairs are left_<joint> and right_<joint>. A category without ``skeleton`` gets the
  limbs of those joints whose names are known.
* Points become continuous pixels, d + 0.5, as Detectron2 does; a box is (x, y, x + w, y + h).

N frames of a track, K joints.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from video_pose.data.datasets.builtin_meta import dataset_metadata
from video_pose.data.datasets.coco_joints import infer_joints
from video_pose.data.datasets.tracks import require_path
from video_pose.data.datasets.tracks import (
    image_size,
    joint_boxes,
    make_keypoints,
    make_track,
    require_labelled,
)
from video_pose.data.frames import register_frames
from video_pose.skeleton import JointSet

TREE = """<json_file>     {"images": [...], "annotations": [...], "categories": [...]}
<image_root>/   the files that images[].file_name names"""

Record = dict[str, Any]


def register_video_keypoints(
    name: str, json_file: str, image_root: str, joints: JointSet | None = None
) -> None:
    """Register a dataset of person tracks, and ``<name>_frames``, in Detectron2's catalogs.

    Args:
        name: a new dataset name.
        json_file: annotations, see the module's description.
        image_root: the folder that file names are relative to.
        joints: the skeleton. None infers it from the JSON's category, for which the file is read
            now; given, no file is read before the dataset is loaded.

    Raises:
        FileNotFoundError: ``joints`` is None and there is no such file.
        ValueError: the name is taken, or no skeleton can be inferred.
    """
    if name in DatasetCatalog.list():
        raise ValueError(
            f"Dataset {name!r} is already registered; choose another name, or call "
            "DatasetCatalog.remove and MetadataCatalog.remove first."
        )
    skeleton = joints if joints is not None else infer_joints(_read_json(json_file), json_file)
    metadata = dataset_metadata("coco_video", skeleton, image_root)
    DatasetCatalog.register(
        name, lambda: load_video_keypoints(json_file, image_root, list(skeleton.names))
    )
    # Boxes of COCO bound the pixels' areas already.
    MetadataCatalog.get(name).set(
        **metadata, json_file=json_file, image_root=image_root, box_margin=0.0
    )
    register_frames(name)


def load_video_keypoints(json_file: str, image_root: str, names: list[str]) -> list[Record]:
    """Track dicts of a JSON file, sorted by video and track.

    Raises:
        FileNotFoundError: the JSON file or the image root is missing.
        ValueError: the content breaks a rule of the module's description, or no frame is labelled.
    """
    content = _read_json(json_file)
    require_path(image_root, TREE)
    videos = _group_images(content["images"], json_file)
    owners = {image["id"]: key for key, images in videos.items() for image in images}
    people: dict[str, dict[str, dict[int, Record]]] = {key: {} for key in videos}
    for annotation in content.get("annotations", []):
        if annotation.get("iscrowd") or not annotation.get("keypoints"):
            continue
        key = owners.get(annotation["image_id"])
        if key is None:
            raise ValueError(
                f"{json_file}: annotation {annotation.get('id')} is of image "
                f"{annotation['image_id']}, which images[] does not have."
            )
        _add_annotation(people[key], annotation, _is_still(videos[key]), key, json_file)
    tracks = []
    for key, images in videos.items():
        source, size = _frame_source(images, image_root, json_file)
        for track_id, frames in sorted((people[key] or {"0": {}}).items()):
            span = _track_span(images, frames, people[key])
            tracks.append(
                _make(
                    key, track_id, images[span], _cut(source, span), size, frames, names, json_file
                )
            )
    return require_labelled(tracks, json_file)


def _read_json(json_file: str) -> Record:
    with open(require_path(json_file, TREE), encoding="utf-8") as file:
        try:
            content = json.load(file)
        except json.JSONDecodeError as error:
            raise ValueError(f"{json_file} is no JSON: {error}") from error
    lacking = [key for key in ("images", "categories") if key not in content]
    if lacking:
        raise ValueError(f"{json_file}: expected the lists {lacking}, got {sorted(content)}.")
    ids = [image["id"] for image in content["images"]]
    if not all(isinstance(i, int) for i in ids) or len(set(ids)) != len(ids):
        raise ValueError(f"{json_file}: every image needs its own whole-number id, got {ids[:10]}.")
    return content


def _group_images(images: list[Record], json_file: str) -> dict[str, list[Record]]:
    """Images of each video in frame order; stills by ``still_<id>``."""
    videos: dict[str, list[Record]] = {}
    for image in images:
        video = image.get("video_id", image.get("vid_id"))
        videos.setdefault(f"still_{image['id']}" if video is None else str(video), []).append(image)
    for key, members in videos.items():
        if _is_still(members):
            continue
        numbers: list[Any] = [image.get("frame_index", image.get("frame_id")) for image in members]
        if None in numbers or len(set(numbers)) != len(numbers):
            raise ValueError(
                f"{json_file}: every image of video {key!r} needs its own frame_id or frame_index, "
                f"got {numbers[:10]}{'...' if len(numbers) > 10 else ''}."
            )
        videos[key] = [m for _, m in sorted(zip(numbers, members, strict=True), key=lambda p: p[0])]
    return dict(sorted(videos.items()))


def _is_still(images: list[Record]) -> bool:
    return images[0].get("video_id", images[0].get("vid_id")) is None


def _add_annotation(
    people: dict[str, dict[int, Record]], annotation: Record, still: bool, key: str, json_file: str
) -> None:
    """File an annotation under its track and image."""
    image_id = annotation["image_id"]
    track_id = str(len(people)) if still else str(annotation.get("track_id", "0"))
    frames = people.setdefault(track_id, {})
    if image_id in frames:
        hint = "" if "track_id" in annotation else " Give each person of a video a track_id."
        raise ValueError(
            f"{json_file}: image {image_id} of video {key!r} has two annotations of track "
            f"{track_id!r} ({frames[image_id].get('id')} and {annotation.get('id')}).{hint}"
        )
    frames[image_id] = annotation


def _track_span(
    images: list[Record], frames: dict[int, Record], people: dict[str, dict[int, Record]]
) -> slice:
    """The frames that a track covers, by the first rule of the module's description."""
    own = [i for i, image in enumerate(images) if image["id"] in frames]
    if not own:
        return slice(0, len(images))
    others = {image_id for track in people.values() for image_id in track}
    first, last = own[0], own[-1]
    while first > 0 and images[first - 1]["id"] not in others:
        first -= 1
    while last + 1 < len(images) and images[last + 1]["id"] not in others:
        last += 1
    return slice(first, last + 1)


def _frame_source(
    images: list[Record], image_root: str, json_file: str
) -> tuple[Record, tuple[int, int]]:
    """What `make_track` calls a source, and (height, width)."""
    first = images[0]
    size: tuple[Any, Any] = (first.get("height"), first.get("width"))
    if "video_file" in first:
        if None in size or any("frame_index" not in image for image in images):
            raise ValueError(
                f"{json_file}: images of {first['video_file']!r} need frame_index, height and "
                "width."
            )
        numbers = np.array([image["frame_index"] for image in images], dtype=np.int64)
        path = os.path.join(image_root, first["video_file"])
        return {"video_file": path, "frame_numbers": numbers}, size
    lacking = next((image["id"] for image in images if "file_name" not in image), None)
    if lacking is not None:
        raise ValueError(f"{json_file}: image {lacking} has no file_name (nor video_file).")
    files = [os.path.join(image_root, image["file_name"]) for image in images]
    return {"file_names": files}, image_size(files[0]) if None in size else size


def _cut(source: Record, span: slice) -> Record:
    return {k: v if isinstance(v, str) else v[span] for k, v in source.items()}


def _make(
    key: str,
    track_id: str,
    images: list[Record],
    source: Record,
    size: tuple[int, int],
    frames: dict[int, Record],
    names: list[str],
    json_file: str,
) -> Record:
    keypoints = np.zeros((len(images), len(names), 3))
    for row, image in enumerate(images):
        if image["id"] in frames:
            keypoints[row] = _read_keypoints(frames[image["id"]], names, json_file)
    # COCO's joints are pixel indices d: continuous d + 0.5.
    keypoints = make_keypoints(keypoints[..., :2] + 0.5, keypoints[..., 2])
    boxes = joint_boxes(keypoints)
    for row, image in enumerate(images):
        box = frames.get(image["id"], {}).get("bbox")
        if box is not None:
            x, y, w, h = box
            boxes[row] = (x, y, x + w, y + h)
    return make_track(
        video_id=key,
        track_id=track_id,
        source=source,
        size=size,
        keypoints=keypoints,
        boxes=boxes,
        image_ids=np.array([image["id"] for image in images]),
    )


def _read_keypoints(annotation: Record, names: list[str], json_file: str) -> np.ndarray:
    values = np.asarray(annotation["keypoints"], dtype=np.float64)
    if values.shape != (3 * len(names),) or not np.isin(values[2::3], (0, 1, 2)).all():
        raise ValueError(
            f"{json_file}: annotation {annotation.get('id')}: expected keypoints of "
            f"{len(names)} x (x, y, v) with v 0, 1 or 2, got {annotation['keypoints']}."
        )
    return values.reshape(-1, 3)
