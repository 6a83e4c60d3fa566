"""COCO results, COCO datasets and PoseTrack18 files, complete JSON after every flush.

Coordinates are COCO's: pixel indices, ours minus .5. What has no number is 0 with visibility 0.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from video_pose.inference.frames import PoseFrame
from video_pose.inference.writers.tables import (
    NOBODY,
    Flusher,
    Recording,
    extent,
    number,
    number_untracked,
    stored_frame,
)

# PoseTrack18's joints, in its order. Its head_bottom is the neck; its head_top is the top of the
# head, for which a face's centre is no stand-in.
POSETRACK_JOINTS = (
    "nose", "head_bottom", "head_top", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
    "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
_POSETRACK_SOURCES = {"head_bottom": ("neck", "upper_neck"), "head_top": ()}
_POSETRACK_SKELETON = [
    [16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9],
    [8, 10], [9, 11], [2, 3], [1, 2], [1, 3],
]  # fmt: skip


class GrowingJson:
    """A JSON text that ends in a list which grows, and a tail.

    Entries wait in memory until a flush writes them and the tail at once, over the tail before:
    from the first flush on, the file is complete at any moment.
    """

    def __init__(self, path: str | Path, head: str) -> None:
        """``head``: everything up to and with the list's opening bracket."""
        self._file = open(path, "wb", buffering=0)
        self._place = 0
        self._waiting = [head]
        self._tail = b""
        self._is_empty = True
        self._failed = False

    def append(self, entry: dict[str, Any]) -> None:
        """Add one entry to the list."""
        self._waiting.append(
            ("\n" if self._is_empty else ",\n") + json.dumps(entry, allow_nan=False)
        )
        self._is_empty = False

    def flush(self, tail: str) -> None:
        """Write what waits, and ``tail``, which begins with the list's closing bracket."""
        if self._failed:
            return
        entries = "".join(self._waiting).encode("ascii")
        self._waiting.clear()
        self._file.seek(self._place)
        try:
            self._write(entries + tail.encode("ascii"))
        except OSError:
            self._failed = True
            self._restore()
            raise
        self._file.truncate()
        self._place, self._tail = self._place + len(entries), tail.encode("ascii")

    def _restore(self) -> None:
        """The file as of the last flush; its bytes have their place on the disk already."""
        self._file.seek(self._place)
        self._write(self._tail)
        self._file.truncate()

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def close(self, tail: str) -> None:
        """Complete and close the file."""
        self.flush(tail)
        self._file.close()


class CocoResultsWriter:
    """A COCO results file: a list with an entry per person.

    ``image_id`` is the frame's number, ``category_id`` 1, ``keypoints`` are x, y, score in the
    model's joint order. A model without joints gives masks (RLE) or boxes instead. Frames without
    people have no entry, as the format has no place for them. ``track_id`` is an addition of ours.
    """

    def __init__(self, path: str | Path, recording: Recording) -> None:
        self._json = GrowingJson(path, "[")
        self._flusher = Flusher()

    def write(self, frame: PoseFrame) -> None:
        for i in range(len(frame)):
            entry = {
                "image_id": frame.index,
                "category_id": 1,
                "score": _real(frame.scores[i], 5),
                "track_id": int(frame.track_ids[i]),
            }
            self._json.append({**entry, **_described(frame, i)})
        if self._flusher.is_due():
            self._json.flush("\n]\n")

    def close(self) -> None:
        self._json.close("\n]\n")


class _ImagesAndPeople:
    """A JSON object with ``annotations``, which grow, and ``images``, which follow them."""

    def __init__(self, path: str | Path, category: dict[str, Any], recording: Recording) -> None:
        self._recording = recording
        self._json = GrowingJson(
            path,
            f'{{"info": {json.dumps({"description": recording.name})},\n'
            f'"categories": {json.dumps([category])},\n"annotations": [',
        )
        # The second list follows the one that grows: about 100 bytes a frame are held.
        self._images = bytearray()
        self._count = 0
        self._flusher = Flusher()

    def write(self, frame: PoseFrame) -> None:
        height, width = frame.image.shape[:2]
        if not (height and width):
            raise ValueError(
                f"{self._recording.name}: the size of its pictures is not known, which this "
                "format needs: give --size W H"
            )
        image = {"id": frame.index, "width": width, "height": height, **self._image(frame)}
        self._images += (b",\n" if self._images else b"") + json.dumps(image).encode()
        for i in range(len(frame)):
            self._count += 1
            box = _coco_box(frame.boxes[i])
            entry = {
                "id": self._count,
                "image_id": frame.index,
                "category_id": 1,
                "track_id": int(frame.track_ids[i]),
                "bbox": box,
                "area": round(box[2] * box[3], 3),
                "iscrowd": 0,
                "score": _real(frame.scores[i], 5),
            }
            self._json.append({**entry, **self._person(frame, i)})
        if self._flusher.is_due():
            self._json.flush(self._tail())

    def _image(self, frame: PoseFrame) -> dict[str, Any]:
        raise NotImplementedError

    def _person(self, frame: PoseFrame, i: int) -> dict[str, Any]:
        raise NotImplementedError

    def _file_name(self, frame: PoseFrame) -> str:
        """Of the frame, extracted as NAME/000000.jpg and so on."""
        return f"{self._recording.name}/{frame.index:06d}.jpg"

    def _tail(self) -> str:
        return f'\n],\n"images": [\n{self._images.decode()}\n]}}\n'

    def close(self) -> None:
        self._json.close(self._tail())


class CocoDatasetWriter(_ImagesAndPeople):
    """A COCO dataset: ``images`` with every frame, ``annotations`` with every person,
    ``categories`` with the joints' names and lines.

    `register_video_keypoints` reads it: images have ``video_id`` and ``frame_id``, people a
    ``track_id``. Every joint that was found is 2 (visible); ``scores`` are an addition of ours.
    """

    def __init__(self, path: str | Path, recording: Recording) -> None:
        category = {
            "id": 1,
            "name": "person",
            "supercategory": "person",
            "keypoints": list(recording.joint_names),
            "skeleton": [[a + 1, b + 1] for a, b in recording.connections],
        }
        super().__init__(path, category, recording)

    def _image(self, frame: PoseFrame) -> dict[str, Any]:
        ids = {"video_id": self._recording.name, "frame_id": frame.index}
        return {"file_name": self._file_name(frame), **ids}

    def _person(self, frame: PoseFrame, i: int) -> dict[str, Any]:
        keypoints, scores = _coco_joints(frame.keypoints[i])
        described = {} if frame.masks is None else _mask(frame.masks[i])
        count = sum(v > 0 for v in keypoints[2::3])
        return {"keypoints": keypoints, "num_keypoints": count, "scores": scores, **described}


class PoseTrackWriter(_ImagesAndPeople):
    """A PoseTrack18 file: ``images`` with every frame, ``annotations`` with every person.

    Joints are matched by name (the neck is head_bottom); those that the model lacks are zeros with
    score 0. File names are those of frames extracted as 000000.jpg and so on.
    """

    def __init__(self, path: str | Path, recording: Recording) -> None:
        category = {
            "id": 1,
            "name": "person",
            "supercategory": "person",
            "keypoints": list(POSETRACK_JOINTS),
            "skeleton": _POSETRACK_SKELETON,
        }
        super().__init__(path, category, recording)

    def _image(self, frame: PoseFrame) -> dict[str, Any]:
        return {
            "frame_id": frame.index,
            "vid_id": self._recording.name,
            "file_name": self._file_name(frame),
            "is_labeled": True,
        }

    def _person(self, frame: PoseFrame, i: int) -> dict[str, Any]:
        pose = np.full((len(POSETRACK_JOINTS), 3), np.nan)
        for row, name in enumerate(POSETRACK_JOINTS):
            sources = (name, *_POSETRACK_SOURCES.get(name, ()))
            found = [frame.joint_names.index(n) for n in sources if n in frame.joint_names]
            if found:
                pose[row] = frame.keypoints[i, found[0]]
        keypoints, scores = _coco_joints(pose)
        keypoints[2::3] = [min(v, 1) for v in keypoints[2::3]]  # 1 is "there" in PoseTrack
        count = sum(keypoints[2::3])
        return {"keypoints": keypoints, "num_keypoints": count, "scores": scores}


def _coco_joints(pose: np.ndarray) -> tuple[list[float], list[float]]:
    """(K, 3) -> x, y, 2 of every joint that is there, else zeros; and the scores."""
    keypoints: list[float] = []
    scores: list[float] = []
    for x, y, score in np.asarray(pose, np.float64).tolist():
        is_there = np.isfinite([x, y, score]).all()
        keypoints += [round(x - 0.5, 3), round(y - 0.5, 3), 2] if is_there else [0.0, 0.0, 0]
        scores.append(round(score, 5) if is_there else 0.0)
    return keypoints, scores


def _described(frame: PoseFrame, i: int) -> dict[str, Any]:
    """What COCO's reader tells keypoint, mask and box results apart by: one of the three."""
    if frame.keypoints.shape[1]:
        pose = np.asarray(frame.keypoints[i], np.float64) - (0.5, 0.5, 0)
        pose[~np.isfinite(pose).all(axis=1)] = 0
        return {"keypoints": [round(v, 4) for v in pose.ravel().tolist()]}
    if frame.masks is not None:
        return _mask(frame.masks[i])
    return {"bbox": _coco_box(frame.boxes[i])}


def _mask(mask: np.ndarray) -> dict[str, Any]:
    from pycocotools import mask as mask_tools

    rle = mask_tools.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}}


def _real(value: float, digits: int) -> float:
    return number(value, digits) or 0.0


def _coco_box(box: np.ndarray) -> list[float]:
    """XYXY -> x, y, width, height; zeros where there is none."""
    x0, y0, x1, y1 = (_real(v, 3) for v in box)
    return [x0, y0, round(x1 - x0, 3), round(y1 - y0, 3)]


# ---- reading


def read_coco(path: str | Path) -> list[PoseFrame]:
    """The frames of a COCO dataset of one video, as written here or as PoseTrack18's files.

    ``images`` give the frames, by ``frame_index``, else ``frame_id`` (where all have it), else in
    the order of ``id``; joints with visibility 0 are empty; the score is the joint's in ``scores``,
    else 1; the box of who has none is the joints' extent. Who has no ``track_id`` (nor CVAT's
    ``attributes.track_id``, or -1) is not tracked, and gets a number as `number_untracked` says.

    Raises:
        ValueError: it is no such file; names the file and the field.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: no JSON: {error}") from error
    if isinstance(content, list):
        raise ValueError(
            f"{path} is a list of COCO results, which has neither joint names nor frames without "
            "people: convert the COCO dataset (format coco_dataset) or a table"
        )
    try:
        return _coco_frames(content)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(
            f"{path}: no COCO dataset of one video: {type(error).__name__} {error}"
        ) from error


def _coco_frames(content: dict[str, Any]) -> list[PoseFrame]:
    category = next(item for item in content["categories"] if item.get("keypoints"))
    names = tuple(category["keypoints"])
    videos = {str(item.get("video_id", item.get("vid_id", ""))) for item in content["images"]}
    if len(videos) > 1:
        raise ValueError(f"it holds {len(videos)} videos: {sorted(videos)[:3]}")
    people: dict[int, list[dict[str, Any]]] = {}
    for item in content["annotations"]:
        if item["category_id"] == category["id"]:
            people.setdefault(item["image_id"], []).append(item)
    images, frames = content["images"], []
    everybody = [people.get(image["id"], []) for image in images]
    tracks = number_untracked([[_track_of(item) for item in found] for found in everybody])
    for index, image, found, (numbers, untracked) in zip(
        _indices(images), images, everybody, tracks, strict=True
    ):
        keypoints = np.full((len(found), len(names), 3), np.nan)
        for i, item in enumerate(found):
            pose = np.array(item["keypoints"], float).reshape(-1, 3)
            there = pose[:, 2] > 0
            keypoints[i, there, :2] = pose[there, :2] + 0.5
            keypoints[i, there, 2] = np.array(item.get("scores", np.ones(len(names))))[there]
        boxes = [_box_of(item, pose) for item, pose in zip(found, keypoints, strict=True)]
        frames.append(
            stored_frame(
                index, float("nan"), next(iter(videos)), names, keypoints,
                np.array(boxes, np.float32).reshape(-1, 4),
                np.array([item.get("score", 1.0) for item in found], np.float32),
                numbers, (image.get("height", 0), image.get("width", 0)), untracked,
            )
        )  # fmt: skip
    return sorted(frames, key=lambda frame: frame.index)


def _indices(images: list[dict[str, Any]]) -> list[int]:
    """The frame's number of each image."""
    for key in ("frame_index", "frame_id"):
        if all(image.get(key) is not None for image in images):
            return [int(image[key]) for image in images]
    places = {number: place for place, number in enumerate(sorted(int(i["id"]) for i in images))}
    return [places[int(image["id"])] for image in images]


def _box_of(item: dict[str, Any], pose: np.ndarray) -> np.ndarray:
    """XYXY of a person; the extent of the joints, if the file tells no box."""
    if not item.get("bbox"):
        return extent(pose)
    x, y, width, height = item["bbox"]
    return np.array([x, y, x + width, y + height])


def _track_of(item: dict[str, Any]) -> int | None:
    track, attributes = item.get("track_id"), item.get("attributes")
    if track is None and isinstance(attributes, dict):
        track = attributes.get("track_id")
    return None if track is None or int(track) == NOBODY else int(track)
