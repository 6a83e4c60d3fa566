"""COCO results, COCO datasets and PoseTrack18 files, complete JSON after every flush.

Coordinates are COCO's: pixel indices, ours minus .5. What has no number is 0 with visibility 0.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from video_pose.data.datasets.coco_json import (
    choose_category,
    name_number,
    own_annotations,
    read_track,
    read_video,
)
from video_pose.data.datasets.tracks import note
from video_pose.data.json_fields import Field, load_json, require_unique
from video_pose.inference.frames import PoseFrame
from video_pose.inference.writers.tables import (
    Flusher,
    Recording,
    extent,
    number,
    number_names,
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

    ``images`` give the frames, by ``frame_index``, else ``frame_id`` (where all have it), else by
    the numbers in their names, else in the order of ``id``. Joints with visibility 0 or below are
    empty. A joint's score is that in ``scores``, else what stands in place of its visibility, where
    trackers write scores, else 1. The box of who has none is the joints' extent. Crowds are no
    people. Who has no ``track_id`` (nor CVAT's ``attributes.track_id``, or -1) is not tracked, and
    gets a number as `number_untracked` says; text is numbered by `number_names`.

    Raises:
        ValueError: it is no such file, or a field of it is not as described; names file and field.
    """
    content = load_json(str(path))
    if isinstance(content.value, list):
        raise ValueError(
            f"{path} is a list of COCO results, which has neither joint names nor frames without "
            "people: convert the COCO dataset (format coco_dataset) or a table"
        )
    category = choose_category(content)
    content.need("annotations")
    images = list(content.need("images").items())
    require_unique([image.need("id") for image in images], "its own whole-number id")
    video, indices = _only_video(images), _indices(images)
    people: dict[int, list[Field]] = {image.need("id").number_id(): [] for image in images}
    for image_id, item in own_annotations(content, category, people):
        if (crowd := item.get("iscrowd")) is not None and crowd.flag():
            note("crowd regions: no people")
        else:
            people[image_id].append(item)
    tracks = _tracks(list(people.values()))
    frames = [
        _frame(image, index, video, category.joints, people[image.need("id").number_id()], *track)
        for image, index, track in zip(images, indices, tracks, strict=True)
    ]
    return sorted(frames, key=lambda frame: frame.index)


class _Pose(NamedTuple):
    """A person: joints (K, 3) as x, y, score in our pixels, NaN where empty; box XYXY; score."""

    joints: np.ndarray
    box: np.ndarray
    score: float


def _frame(
    image: Field,
    index: int,
    video: str,
    names: Sequence[str],
    people: Sequence[Field],
    numbers: np.ndarray,
    untracked: frozenset[int],
) -> PoseFrame:
    poses = [_pose(item, len(names)) for item in people]
    labelled = image.get("is_labeled")
    if labelled is not None and not labelled.flag() and not people:
        note("images that are not labelled (is_labeled): taken for frames without people")
    sides = [image.get(side) for side in ("height", "width")]
    height, width = (0 if side is None else side.integer(0) for side in sides)
    return stored_frame(
        index, float("nan"), video, tuple(names),
        np.array([pose.joints for pose in poses]).reshape(-1, len(names), 3),
        np.array([pose.box for pose in poses], np.float32).reshape(-1, 4),
        np.array([pose.score for pose in poses], np.float32),
        numbers, (height, width), untracked,
    )  # fmt: skip


def _only_video(images: Sequence[Field]) -> str:
    """The name of the images' video, "" without one."""
    ids = [read_video(image) for image in images]
    videos = {"" if item is None else item.identity() for item in ids}
    if len(videos) > 1:
        raise ValueError(
            f"{images[0].file}: no dataset of one video: it holds {len(videos)} videos: "
            f"{sorted(videos)[:3]}"
        )
    return "".join(videos)


def _indices(images: Sequence[Field]) -> list[int]:
    """The frame's number of each image, which no other has."""
    for key in ("frame_index", "frame_id"):
        given = [image.get(key) for image in images]
        if None not in given:
            numbers = [item.number_id(0) for item in given if item is not None]
            require_unique([item for item in given if item is not None], "a frame's number")
            return numbers
        note(f"{key} of images, which others lack: not read", len(given) - given.count(None))
    return _indices_of_names(images) or _places(images)


def _indices_of_names(images: Sequence[Field]) -> list[int]:
    """The last numbers in the files' names, where all are of one folder and name; else nothing.

    Raises:
        ValueError: the images are in several folders, and no field says of which video they are.
    """
    given = [image.get("file_name") for image in images]
    names = [item.text() for item in given if item is not None]
    folders = sorted({name.replace("\\", "/").rpartition("/")[0] for name in names})
    if len(folders) > 1 and read_video(images[0]) is None:
        raise ValueError(
            f"{images[0].file}: images[] lie in {len(folders)} folders, {folders[:3]}: expected "
            "one video, or a video_id and frame_id of each"
        )
    parts = [name_number(name) for name in names]
    numbers = [number for _, number in parts if number is not None]
    if len({before for before, _ in parts}) != 1 or not (
        len(set(numbers)) == len(numbers) == len(images)
    ):
        return []
    note("images without frame_id: the number in their name is taken", len(images))
    return numbers


def _places(images: Sequence[Field]) -> list[int]:
    ids = [image.need("id").number_id() for image in images]
    places = {number: place for place, number in enumerate(sorted(ids))}
    note("images without frame_id: numbered in the order of their ids", len(ids))
    return [places[number] for number in ids]


def _pose(item: Field, joints: int) -> _Pose:
    points, scores = np.zeros((joints, 3)), np.zeros(joints)
    given = item.get("keypoints")
    if given is not None and given.members():
        points = given.numbers(3 * joints, f" ({joints} x (x, y, v))").reshape(-1, 3)
        scores = _third_numbers(given, points[:, 2])
    there, known = points[:, 2] > 0, np.isfinite(points).all(axis=1)
    note("joints whose coordinates are no numbers: left empty", int((there & ~known).sum()))
    there &= known
    told = item.get("scores")
    if told is not None and told.members():
        scores = told.numbers(joints, ", one a joint")
        if not np.isfinite(scores[there]).all():
            raise told.error(f"{joints} numbers, one a joint")
    pose = np.full((joints, 3), np.nan)
    pose[there] = np.column_stack([points[there, :2] + 0.5, scores[there]])
    return _Pose(pose, _box_of(item, pose), _score_of(item))


def _third_numbers(keypoints: Field, numbers: np.ndarray) -> np.ndarray:
    """The score of each joint (K,), from visibilities, or from scores that stand in their place."""
    positive = numbers[numbers > 0]
    if not np.isfinite(numbers).all() or ((positive > 2) & (positive % 1 == 0)).any():
        raise keypoints.error(f"{len(numbers)} x (x, y, v) with v 0, 1 or 2, or a score")
    if ((positive == 1) | (positive == 2)).all():
        return np.ones(len(numbers))
    note("people whose keypoints have scores in the place of visibilities: read as scores")
    return numbers


def _score_of(item: Field) -> float:
    score = item.get("score")
    # NaN is what tables that lack a value are written with.
    if score is not None and score.value != score.value:
        return float("nan")
    return 1.0 if score is None else score.number()


def _box_of(item: Field, pose: np.ndarray) -> np.ndarray:
    """XYXY of a person; the extent of the joints, if the file tells no box with an area."""
    given = item.get("bbox")
    if given is None or not given.members():
        return extent(pose)
    x, y, width, height = given.numbers(4, " (x, y, width, height)")
    if not np.isfinite([x, y]).all() or not (width > 0 and height > 0):
        note("boxes without area: the joints' extent is used")
        return extent(pose)
    return np.array([x, y, x + width, y + height])


def _tracks(people: Sequence[Sequence[Field]]) -> list[tuple[np.ndarray, frozenset[int]]]:
    told = [[read_track(item) for item in items] for items in people]
    names = [[None if track is None else track.identity() for track in each] for each in told]
    numbers = number_names(name for each in names for name in each if name is not None)
    return number_untracked(
        [[None if name is None else numbers[name] for name in each] for each in names]
    )
