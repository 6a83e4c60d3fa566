"""Leeds Sports Pose Extended (Johnson & Everingham, CVPR 2011): stills, each a video of one frame.

There are no boxes: a person's box is the extent of the labelled joints x 1.25. Joints may lie
outside the image; they are kept. N images.
"""

from __future__ import annotations

import os
from typing import Any
import numpy as np
from video_pose.video_io.pictures import picture_size
from video_pose.data.records import Track
from video_pose.skeleton import LSPET
from video_pose.data.datasets.tracks import missing, require_path
from video_pose.data.datasets.tracks import joint_boxes, make_image_ids, make_keypoints, make_track, require_labelled
from video_pose.data.mat_file import load_mat, require_array


TREE = """lspet/
  images/im00001.jpg ... im10000.jpg
  joints.mat                                 joints (14, 3, N): x, y (1-based), visibility"""


def load_lspet(root: str) -> list[Track]:
    """Track dicts of all images, in the order of ``joints.mat``; image n is ``im{n:05d}.jpg``.

    Raises:
        FileNotFoundError: the folder, ``joints.mat`` or an image is missing.
        ValueError: ``joints.mat`` is not as described, or no image has a labelled joint.
    """
    require_path(root, TREE)
    path = require_path(os.path.join(root, "joints.mat"), TREE)
    folder = require_path(os.path.join(root, "images"), TREE)
    joints = require_array(load_mat(path), "joints", (len(LSPET.names), 3, None), path)
    joints = joints.transpose(2, 0, 1)
    # 1-based MATLAB pixels -> continuous ones: m - 0.5. Stored visibility 1 -> 2, 0 -> 0.
    keypoints = make_keypoints(joints[..., :2] - 0.5, np.where(joints[..., 2] > 0, 2, 0))
    boxes = joint_boxes(keypoints)
    tracks = []
    for n in range(len(joints)):
        name = f"im{n + 1:05d}"
        file_name = os.path.join(folder, f"{name}.jpg")
        try:
            size = picture_size(file_name)
        except FileNotFoundError:
            raise missing(file_name, TREE) from None
        tracks.append(
            make_track(
                video_id=name,
                source={"file_names": [file_name]},
                size=size,
                keypoints=keypoints[n : n + 1],
                boxes=boxes[n : n + 1],
                image_ids=make_image_ids(n, 1),
            )
        )
    return require_labelled(tracks, path)
