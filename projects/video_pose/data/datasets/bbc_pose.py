"""BBC Pose (Charles et al., IJCV 2013): upper bodies of signers in broadcasts of an hour or more.

The track of a video holds every image of its folder, sorted by frame number (gaps are normal), of
which the annotated ones are labelled: ``train_frames`` (semi-automatic labels) in a training video,
``test_frames`` (manual) in a validation or test video. A manual frame without an image is an error;
a training frame without one is left out and counted in a warning. There are no boxes: a labelled
frame has its joints' extent x 1.25, any other a box of zeros. M labelled frames, N frames.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Any

import numpy as np

from video_pose.data.datasets.tracks import (
    joint_boxes,
    make_image_ids,
    make_keypoints,
    make_track,
    missing,
    require_labelled,
    require_path,
)
from video_pose.data.mat_file import load_mat, require_array, require_structs, require_text
from video_pose.data.records import Track
from video_pose.skeleton import BBC_POSE
from video_pose.video_io.pictures import picture_size

TREE = """bbc_pose/
  bbcpose.mat
  1/1.jpg ...                                folders 1 to 20, files <frame number>.jpg
  20/..."""


def load_bbc_pose(root: str, subset: str, videos: int | None = 20) -> list[Track]:
    """Track dicts of the videos of one ``type``.

    Args:
        root: the folder of `TREE`.
        subset: "train", "val" or "test".
        videos: how many entries of the struct array count: the first 20 are BBC Pose, the rest
            belongs to Extended BBC Pose. None takes all.

    Raises:
        FileNotFoundError: a folder or a manually labelled frame is missing.
        ValueError: ``bbcpose.mat`` is not as described, or no frame is usable.
    """
    require_path(root, TREE)
    path = require_path(os.path.join(root, "bbcpose.mat"), TREE)
    entries = require_structs(load_mat(path), "bbcpose", path)
    tracks = []
    for video, entry in enumerate(entries[:videos]):
        where = f"{path}: entry {video + 1}"
        if require_text(entry, "type", where) != subset:
            continue
        prefix = "train" if subset == "train" else "test"
        tracks.append(_load_video(root, video, entry, prefix, where))
    return require_labelled(tracks, f"{path} ({subset})")


def _load_video(root: str, video: int, entry: dict[str, Any], prefix: str, where: str) -> Track:
    numbers, joints = _read_labels(entry, prefix, where)
    folder = require_path(os.path.join(root, str(video + 1)), TREE)
    names = [name for name in os.listdir(folder) if re.fullmatch(r"\d+\.jpg", name)]
    by_number = {int(name[:-4]): name for name in names}
    order = np.array(sorted(by_number), dtype=np.int64)

    present = np.isin(numbers, order)
    if not present.all() or not len(order):
        first = os.path.join(folder, f"{numbers[~present][0] if len(numbers) else 1}.jpg")
        if prefix == "test" or not present.any():
            raise missing(first, TREE)
        logging.getLogger(__name__).warning(
            "%d of %d labelled training frames of %s have no image (the first is %s).",
            (~present).sum(), len(numbers), folder, first,
        )  # fmt: skip
    keypoints = np.zeros((len(order), len(BBC_POSE.names), 3), dtype=np.float32)
    keypoints[np.searchsorted(order, numbers[present])] = joints[present]
    files = [os.path.join(folder, by_number[number]) for number in order.tolist()]
    return make_track(
        video_id=str(video + 1),
        source={"file_names": files},
        size=picture_size(files[0]),
        keypoints=keypoints,
        boxes=joint_boxes(keypoints),
        image_ids=make_image_ids(video, len(files)),
    )


def _read_labels(entry: dict[str, Any], prefix: str, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Frame numbers (M,) and joints (M, 7, 3) of ``{prefix}_frames`` and ``{prefix}_joints``.

    Joints that are not finite, or whose x and y are both at or below 0 (1-based: no pixel), are
    unlabelled; all others have v = 2.
    """
    numbers = require_array(entry, f"{prefix}_frames", (None, None), where).ravel()
    shape = (2, len(BBC_POSE.names), len(numbers))
    points = require_array(entry, f"{prefix}_joints", shape, where).transpose(2, 1, 0)
    if not np.array_equal(numbers, np.round(numbers)):
        raise ValueError(f"{where}: field '{prefix}_frames': expected whole numbers.")
    labelled = (points > 0).any(axis=-1)
    # 1-based MATLAB pixels -> continuous ones: m - 0.5.
    return numbers.astype(np.int64), make_keypoints(points - 0.5, np.where(labelled, 2, 0))
