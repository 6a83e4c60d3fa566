"""Synthetic videos of several people who cross, with COCO-style keypoints and track ids.

``videos/NNNN.mp4`` and ``annotations/{train,test}.json``, which ``register_video_keypoints`` reads
with the dataset's root as image root. An annotation exists for every frame on which some of the
person is inside.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_tools

from . import files
from .plan import VideoPlan
from .scene import PersonTrack, render_scene
from .skeleton import JOINTS

_LINKS = (
    ("head", "neck"), ("neck", "right_shoulder"), ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"), ("neck", "left_shoulder"), ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_wrist"), ("neck", "belly"), ("belly", "right_hip"), ("right_hip",
    "right_knee"), ("right_knee", "right_ankle"), ("belly", "left_hip"), ("left_hip", "left_knee"),
    ("left_knee", "left_ankle"),
)  # fmt: skip


@dataclass(frozen=True)
class CocoVideo:
    """The part of the JSON that one video fills; ids are unique within the dataset."""

    part: str
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]


def write_video(root: Path, plan: VideoPlan, people: int = 3) -> CocoVideo:
    """Render a video of several people, write it, return its records."""
    arguments = {**plan.scene_arguments(), "action": None}
    scene = render_scene(plan.seed, people=people, **arguments)
    name = f"videos/{plan.index + 1:04d}.mp4"
    files.write_video(root / name, scene.frames)
    width, height = plan.size
    images, annotations = [], []
    for n in range(plan.frames):
        image_id = (plan.index + 1) * 100_000 + n
        images.append(
            {
                "id": image_id, "video_file": name, "video_id": plan.index + 1, "frame_id": n,
                "frame_index": n, "height": height, "width": width,
            }
        )  # fmt: skip
        for track, person in enumerate(scene.people):
            if person.masks[n].any():
                annotation = {"id": image_id * 100 + track, "image_id": image_id, "track_id": track}
                annotations.append({**annotation, **_describe(person, n)})
    return CocoVideo(plan.part, images, annotations)


def _describe(person: PersonTrack, n: int) -> dict[str, Any]:
    """Keypoints, box, mask and area of a person at frame n, as COCO counts them."""
    # 2 visible, 1 hidden, 0 outside the frame; COCO's points are pixel indices.
    flags = np.where(person.visible[n], 2, 1) * person.inside[n]
    points = np.column_stack([person.joints[n] - 0.5, flags]) * (flags > 0)[:, None]
    rle = mask_tools.encode(np.asfortranarray(person.masks[n].astype(np.uint8)))
    # Our box goes through the centres of the extreme pixels, COCO's along their outer edges.
    x1, y1, x2, y2 = (float(v) for v in person.boxes[n])
    return {
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": [round(float(v), 3) for v in points.ravel()],
        "num_keypoints": int((flags > 0).sum()),
        "bbox": [x1 - 0.5, y1 - 0.5, x2 - x1 + 1, y2 - y1 + 1],
        "area": int(person.masks[n].sum()),
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
    }


def finish(root: Path, videos: list[CocoVideo]) -> None:
    """Write one JSON per part."""
    parts = defaultdict(list)
    for video in videos:
        parts[video.part].append(video)
    links = [[JOINTS.index(a) + 1, JOINTS.index(b) + 1] for a, b in _LINKS]
    person = {"id": 1, "name": "person", "keypoints": list(JOINTS), "skeleton": links}
    for part, members in parts.items():
        content = {
            "images": [image for video in members for image in video.images],
            "annotations": [a for video in members for a in video.annotations],
            "categories": [person],
        }
        path = root / "annotations" / f"{part}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, sort_keys=True))
