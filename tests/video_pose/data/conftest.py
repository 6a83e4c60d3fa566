"""A small dataset of one skeleton, written to a temporary folder."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from detectron2.config import CfgNode, get_cfg

from video_pose.config import add_video_pose_config

JOINTS = ["head", "right_hand", "left_hand"]


@pytest.fixture
def make_track(tmp_path) -> Callable[..., dict[str, Any]]:
    """make(video_id, frames, height, width): PNG frames, black but for a white dot at each joint.

    Frame i of a track has the dots at head (40, 20), right hand (30, 30), left hand (60, 30), all
    moved to the right by i; boxes from (20.5, 10.5) to (70.5, 50.5), moved as well.
    """

    def make(
        video_id: str = "v", frames: int = 6, height: int = 80, width: int = 100
    ) -> dict[str, Any]:
        points = np.array([[40.5, 20.5], [30.5, 30.5], [60.5, 30.5]])
        keypoints = np.full((frames, 3, 3), 2, dtype=np.float32)
        boxes = np.zeros((frames, 4), dtype=np.float32)
        names = []
        for i in range(frames):
            keypoints[i, :, :2] = points + [i, 0]
            boxes[i] = (20.5 + i, 10.5, 70.5 + i, 50.5)
            image = np.zeros((height, width, 3), np.uint8)
            for x, y in keypoints[i, :, :2].astype(int):
                image[y - 1 : y + 2, x - 1 : x + 2] = 255
            names.append(str(tmp_path / f"{video_id}_{i}.png"))
            cv2.imwrite(names[-1], image)
        return {
            "video_id": video_id,
            "track_id": "0",
            "file_names": names,
            "height": height,
            "width": width,
            "keypoints": keypoints,
            "boxes": boxes,
            "labelled": np.ones(frames, dtype=bool),
            "image_ids": np.arange(frames) + 1000,
        }

    return make


@pytest.fixture
def register(register: Callable[..., str]) -> Callable[..., str]:
    """register(tracks, joints=JOINTS) -> the name of a new dataset, removed after the test."""

    def add(tracks: list[dict[str, Any]], joints: list[str] = JOINTS) -> str:
        return register(
            f"fake_{uuid.uuid4().hex}",
            tracks,
            keypoint_names=joints,
            keypoint_flip_map=[("left_hand", "right_hand")],
            derived_joints={},
        )

    return add


@pytest.fixture
def cfg() -> CfgNode:
    """A configuration without random changes: 64 x 64 crops, clips of 4 frames."""
    cfg = get_cfg()
    add_video_pose_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.SEED = 5
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.INPUT.CROP_SIZE = (64, 64)
    cfg.INPUT.CLIP.LENGTH = 4
    cfg.INPUT.AUG.SCALE_RANGE = (1.0, 1.0)
    cfg.INPUT.AUG.ROTATION = 0.0
    cfg.INPUT.AUG.FLIP_PROB = 0.0
    return cfg
