"""COCO results and PoseTrack18 files that are complete JSON after every flush."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from video_pose.inference.frames import PoseFrame
from video_pose.inference.writers.tables import Flusher

# PoseTrack18's joints, in its order, and what this project calls them where it differs.
POSETRACK_JOINTS = (
    "nose", "head_bottom", "head_top", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
    "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
_POSETRACK_SOURCES = {"head_bottom": "neck", "head_top": "head"}
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
        self._is_empty = True

    def append(self, entry: dict[str, Any]) -> None:
        """Add one entry to the list."""
        self._waiting.append(("\n" if self._is_empty else ",\n") + json.dumps(entry))
        self._is_empty = False

    def flush(self, tail: str) -> None:
        """Write what waits, and ``tail``, which begins with the list's closing bracket."""
        entries = "".join(self._waiting).encode("ascii")
        self._waiting.clear()
        self._file.seek(self._place)
        self._write(entries + tail.encode("ascii"))
        self._file.truncate()
        self._place += len(entries)

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
    model's joint order; coordinates are pixel indices as in COCO (ours minus .5). A model without
    joints gives masks (RLE) or boxes instead. Frames without people have no entry, as the format
    has no place for them. ``track_id`` is an addition of ours.
    """

    def __init__(self, path: str | Path) -> None:
        self._json = GrowingJson(path, "[")
        self._flusher = Flusher()

    def write(self, frame: PoseFrame) -> None:
        for i in range(len(frame)):
            entry = {
                "image_id": frame.index,
                "category_id": 1,
                "score": round(float(frame.scores[i]), 5),
                "track_id": int(frame.track_ids[i]),
            }
            self._json.append({**entry, **_described(frame, i)})
        if self._flusher.is_due():
            self._json.flush("\n]\n")

    def close(self) -> None:
        self._json.close("\n]\n")


class PoseTrackWriter:
    """A PoseTrack18 file: ``images`` with every frame, ``annotations`` with every person.

    Joints are matched by name (neck is head_bottom, head is head_top); those that the model lacks
    are zeros with score 0. File names are those of frames extracted as 000000.jpg and so on.
    """

    def __init__(self, path: str | Path, video: str) -> None:
        self._folder = video
        categories = [
            {
                "id": 1,
                "name": "person",
                "supercategory": "person",
                "keypoints": list(POSETRACK_JOINTS),
                "skeleton": _POSETRACK_SKELETON,
            }
        ]
        head = f'{{"categories": {json.dumps(categories)},\n"annotations": ['
        self._json = GrowingJson(path, head)
        # The second list follows the one that grows: about 60 bytes a frame are held.
        self._images = bytearray()
        self._count = 0
        self._flusher = Flusher()

    def write(self, frame: PoseFrame) -> None:
        image = {
            "id": frame.index,
            "frame_id": frame.index,
            "vid_id": self._folder,
            "file_name": f"{self._folder}/{frame.index:06d}.jpg",
            "is_labeled": True,
        }
        self._images += (b",\n" if self._images else b"") + json.dumps(image).encode()
        for i in range(len(frame)):
            self._json.append(self._annotation(frame, i))
            self._count += 1
        if self._flusher.is_due():
            self._json.flush(self._tail())

    def _annotation(self, frame: PoseFrame, i: int) -> dict[str, Any]:
        keypoints, scores = [], []
        for name in POSETRACK_JOINTS:
            source = name if name in frame.joint_names else _POSETRACK_SOURCES.get(name, name)
            if source in frame.joint_names:
                x, y, score = frame.keypoints[i, frame.joint_names.index(source)].tolist()
                keypoints += [round(x - 0.5, 3), round(y - 0.5, 3), 1]
                scores.append(round(score, 5))
            else:
                keypoints += [0.0, 0.0, 0]
                scores.append(0.0)
        return {
            "id": self._count,
            "image_id": frame.index,
            "track_id": int(frame.track_ids[i]),
            "category_id": 1,
            "bbox": _coco_box(frame.boxes[i]),
            "keypoints": keypoints,
            "scores": scores,
        }

    def _tail(self) -> str:
        return f'\n],\n"images": [\n{self._images.decode()}\n]}}\n'

    def close(self) -> None:
        self._json.close(self._tail())


def _described(frame: PoseFrame, i: int) -> dict[str, Any]:
    """What COCO's reader tells keypoint, mask and box results apart by: one of the three."""
    if frame.keypoints.shape[1]:
        flat = np.asarray(frame.keypoints[i], np.float64) - (0.5, 0.5, 0)
        return {"keypoints": [round(v, 4) for v in flat.ravel().tolist()]}
    if frame.masks is not None:
        from pycocotools import mask as mask_tools

        rle = mask_tools.encode(np.asfortranarray(frame.masks[i].astype(np.uint8)))
        return {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}}
    return {"bbox": _coco_box(frame.boxes[i])}


def _coco_box(box: np.ndarray) -> list[float]:
    """XYXY -> x, y, width, height."""
    x0, y0, x1, y1 = (round(float(v), 3) for v in box)
    return [x0, y0, round(x1 - x0, 3), round(y1 - y0, 3)]
