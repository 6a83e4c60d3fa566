"""The dicts that go from loaders to models, by type: what a key holds, and which may lack; and what
`MetadataCatalog` says of a dataset: the facts of its skeleton, and its protocols.

N frames of a track, K joints, T frames of a clip, S test rows, H, W crop px.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NotRequired, TypedDict

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.structures import Instances
from torch import Tensor

from video_pose.data.clips import Chunk
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


class FrameSource(TypedDict):
    """Where the frames of a video are: ``file_names``, or ``video_file`` with ``frame_numbers``."""

    video_id: str
    height: int
    width: int
    file_names: NotRequired[list[str]]
    video_file: NotRequired[str]
    frame_numbers: NotRequired[np.ndarray]  # int64 (N,), decoded frames counted from 0


class Track(FrameSource):
    """The catalog's dict of one person in one video."""

    track_id: str  # "0" where a video has one person
    keypoints: np.ndarray  # float32 (N, K, 3): x, y in continuous px, v 0, 1 or 2
    boxes: np.ndarray  # float32 (N, 4) XYXY, continuous px; zeros: none
    labelled: np.ndarray  # bool (N,): at least one joint has v > 0
    image_ids: np.ndarray  # int64 (N,), unique per video and frame of the dataset
    # bool (N,): the box is a label, with or without joints; absent: as labelled
    boxed: NotRequired[np.ndarray]
    # float32 (N,) px^2: the person's area as labelled; 0: not told
    areas: NotRequired[np.ndarray]
    # a region that holds people nobody told apart: neither person nor background
    crowd: NotRequired[bool]
    # a picture on which nobody is annotated, so that whoever is found there is false
    nobody: NotRequired[bool]
    # float32 (N,) px: the head's length by which PCKh is measured; 0: none
    head_sizes: NotRequired[np.ndarray]
    action: NotRequired[str]
    source_video: NotRequired[str]  # that the video is a shot of
    masks: NotRequired[MaskReference]
    dataset_name: NotRequired[str]


class ClipRequest(Track):
    """What the loaders hand to the clip mapper: a track, and which part of it."""

    clip_seed: NotRequired[int]  # training: of the clip's draw
    chunk: NotRequired[Chunk]  # testing; absent: the whole track


class MaskReference(TypedDict):
    """Masks of a track in a file of JHMDB's kind, see `frames_mapper.MaskReader`."""

    mat_file: str
    field: str
    index: NotRequired[int]  # of one frame


class Annotation(TypedDict):
    """A person of a frame, as Detectron2 has it."""

    bbox: list[float]
    bbox_mode: Any  # detectron2.structures.BoxMode
    category_id: int
    iscrowd: NotRequired[int]
    area: NotRequired[float]  # px^2, as labelled
    keypoints: NotRequired[list[float]]  # x, y, v of each joint, continuous px
    track_id: NotRequired[str]
    track_number: NotRequired[int]  # of the person, the same in all frames of a clip
    segmentation_ref: NotRequired[MaskReference]
    segmentation: NotRequired[Any]  # run lengths, polygons or an array


class FrameRecord(TypedDict):
    """One image as stock Detectron2 models take it; from ``video_id`` on, keys of video frames."""

    file_name: str
    image_id: int
    height: int
    width: int
    annotations: NotRequired[list[Annotation]]
    dataset_name: NotRequired[str]
    video_id: NotRequired[str]
    frame_index: NotRequired[int]  # position in the first of its tracks
    video_file: NotRequired[str]  # of a frame inside a video, with its number there, from 0
    frame_number: NotRequired[int]
    # (track_id, position in that track) of the persons labelled
    tracks: NotRequired[list[tuple[str, int]]]


class MappedFrame(FrameRecord):
    """What `FrameMapper` makes of one."""

    image: NotRequired[Tensor]  # uint8 (C, H, W)
    instances: NotRequired[Instances]  # in training


class MosaicFrame(TypedDict):
    """Four of these as one, see `mosaic.Mosaic`."""

    image: Tensor  # uint8 (C, H, W)
    instances: Instances
    height: int
    width: int
    mosaic_of: list[str]  # their ``file_name``


class FrameClip(TypedDict):
    """Frames of one video under one draw; their ``instances`` have ``gt_tracks``."""

    frames: list[MappedFrame]


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


class ClipPrediction(TypedDict):
    """What a clip model gives for a clip."""

    instances: list[Instances]  # one of each frame


class FramePrediction(TypedDict):
    """What a model of frames gives for a frame."""

    instances: Instances


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
