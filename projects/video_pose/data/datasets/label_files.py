"""Annotation files by format: each reader gives a file's content in COCO's form."""

from __future__ import annotations

from video_pose.data.datasets.coco_json import open_coco
from video_pose.data.json_fields import Field


def open_labels(path: str, file_format: str | None = None) -> Field:
    return open_coco(path)
