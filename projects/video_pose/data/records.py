"""The dicts that go from loaders to models, by type: what a key holds, and which may lack; and what
`MetadataCatalog` says of a dataset: the facts of its skeleton, and its protocols.

N frames of a track, K joints, T frames of a clip, S test rows, H, W crop px.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

import numpy as np
from detectron2.data import MetadataCatalog
from torch import Tensor

from video_pose.skeleton import JointSet

_TORSO = {"right_shoulder", "left_shoulder", "right_hip", "left_hip"}
# Protocols of PCK (the first is the default) and the smallest visibility that counts.
_BOX_FIRST = ["bbox", "torso", "torso_diagonal"]
PCK_FACTS: dict[str, dict[str, Any]] = {
    "penn_action": {"pck_protocols": _BOX_FIRST, "pck_min_visibility": 2},
    "bbc_pose": {"pck_protocols": ["pixels"], "pck_min_visibility": 1},
    "jhmdb": {"pck_protocols": [*_BOX_FIRST, "head"], "pck_min_visibility": 1},
    "lspet": {"pck_protocols": ["torso", "torso_diagonal", "head"], "pck_min_visibility": 1},
    "lsp": {"pck_protocols": ["torso", "torso_diagonal", "head"], "pck_min_visibility": 1},
    "mpii": {"pck_protocols": ["head", "torso", "torso_diagonal"], "pck_min_visibility": 1},
    "coco": {"pck_protocols": _BOX_FIRST, "pck_min_visibility": 1},
    "coco_video": {"pck_protocols": _BOX_FIRST, "pck_min_visibility": 1},
}


class _Track(TypedDict):
    video_id: str
    track_id: str  # "0" where a video has one person
    height: int
    width: int
    keypoints: np.ndarray  # float32 (N, K, 3): x, y in continuous px, v 0, 1 or 2
    boxes: np.ndarray  # float32 (N, 4) XYXY, continuous px; zeros: none
    labelled: np.ndarray  # bool (N,): at least one joint has v > 0
    image_ids: np.ndarray  # int64 (N,), unique per video and frame of the dataset


class Track(_Track, total=False):
    """The catalog's dict of one person in one video. It has ``file_names``, or ``video_file`` with
    ``frame_numbers``."""

    file_names: list[str]
    video_file: str
    frame_numbers: np.ndarray  # int64 (N,), decoded frames counted from 0
    boxed: np.ndarray  # bool (N,): the box is a label, with or without joints; absent: as labelled
    crowd: bool  # a region that holds people nobody told apart: neither person nor background
    head_sizes: np.ndarray  # float32 (N,) px: the head's length by which PCKh is measured; 0: none
    action: str
    source_video: str  # that the video is a shot of
    masks: dict[str, Any]  # a reference, see `frames_mapper.MaskReader`
    dataset_name: str


class _FrameRecord(TypedDict):
    file_name: str
    image_id: int
    height: int
    width: int
    annotations: list[dict[str, Any]]


class FrameRecord(_FrameRecord, total=False):
    """One image as stock Detectron2 models take it; the optional keys are those of video frames."""

    video_id: str
    frame_index: int  # position in the first of its tracks
    video_file: str  # of a frame inside a video, with its number there, counted from 0
    frame_number: int
    tracks: list[tuple[str, int]]  # (track_id, position in that track) of the persons labelled
    dataset_name: str


class ClipRecord(TypedDict, total=False):
    """What the clip mapper gives: T frames of one track, or a chunk of it at S test rows."""

    image: Tensor  # uint8 (T, 3, H, W), in test (S, T, 3, H, W) where there are several rows
    keypoints: Tensor  # float32 (T, K, 3), crop px; training only
    crop_to_image: Tensor  # float32 (T, 2, 3) or (S, T, 2, 3)
    center: Tensor  # float32 (T, 2) or (S, T, 2), crop px
    flipped: Tensor  # bool (S,)
    is_padding: Tensor  # bool (T,)
    frame_indices: Tensor  # int64 (T,)
    image_ids: Tensor  # int64 (T,)
    video_id: str
    track_id: str
    height: int
    width: int
    dataset_name: str
    is_first: bool
    is_last: bool


def is_person(track: Track) -> bool:
    """Whether joints of a track can be asked for: it is no crowd, nor somebody with boxes alone."""
    if track.get("crowd"):
        return False
    boxed = track.get("boxed")
    return bool(track["labelled"].any()) or boxed is None or not boxed.any()


def dataset_metadata(kind: str, joints: JointSet, root_hint: str) -> dict[str, Any]:
    """The entries of a dataset's `MetadataCatalog`; ``kind`` is a key of `PCK_FACTS`."""
    facts = dict(PCK_FACTS[kind])
    if not _TORSO <= set(joints.names):
        facts["pck_protocols"] = [p for p in facts["pck_protocols"] if not p.startswith("torso")]
    return {
        "thing_classes": ["person"],
        "evaluator_type": "video_pose",
        "dataset_kind": kind,
        "root_hint": root_hint,
        "keypoint_names": list(joints.names),
        "keypoint_flip_map": list(joints.flip_map),
        "mirror_known": joints.mirror_known,
        "keypoint_connection_rules": list(joints.connections),
        "keypoint_oks_sigmas": list(joints.sigmas),
        "joint_groups": {group: list(names) for group, names in joints.groups.items()},
        "derived_joints": {**joints.derived, **joints.equivalents},
        "head_segment": joints.head_segment,
        "pck_constant_pose": None,
        **facts,
    }


def known_mirror_pairs(dataset_names: Iterable[str]) -> tuple[list[tuple[str, str]], bool]:
    """(left, right) pairs of the datasets' metadata, and whether one says that these are all."""
    facts = [MetadataCatalog.get(name).as_dict() for name in dataset_names]
    pairs = [(left, right) for each in facts for left, right in each.get("keypoint_flip_map", [])]
    declared = any("keypoint_flip_map" in each and each.get("mirror_known", True) for each in facts)
    return list(dict.fromkeys(pairs)), declared
