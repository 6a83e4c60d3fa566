"""Facts about the datasets' joints and protocols, by name. Nothing here reads a file.

Left and right are the person's own. Orders are those of the files (docs/PROTOCOLS.md, section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

RIGHT_COLOR = (230, 80, 60)
LEFT_COLOR = (60, 130, 230)
MIDDLE_COLOR = (70, 190, 110)

# Keypoint similarity widths of COCO. COCO has no head, neck or belly: they take the shoulders' and
# the hips' value, so OKS figures for them are comparable inside this project only.
_SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062,
    "hip": 0.107, "knee": 0.087, "ankle": 0.089, "belly": 0.107,
}  # fmt: skip
_DEFAULT_SIGMA = 0.079
_FACE = ("head", "head_top", "head_bottom", "nose", "eye", "ear")

_LINKS = (
    ("head", "neck"), ("neck", "belly"), ("right_shoulder", "left_shoulder"),
    ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
    ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_hip"), ("left_shoulder", "left_hip"), ("right_hip", "left_hip"),
    ("right_hip", "right_knee"), ("right_knee", "right_ankle"),
    ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
)  # fmt: skip

_SHOULDERS = ("right_shoulder", "left_shoulder")
_HIPS = ("right_hip", "left_hip")
# LSTM Pose Machines' synthetic neck (Penn) and interpolated belly (JHMDB).
NECK_FORMULA = {
    "x": {"head": 0.5, **dict.fromkeys(_SHOULDERS, 0.25)},
    "y": {"head": 0.2, **dict.fromkeys(_SHOULDERS, 0.4)},
}
BELLY_FORMULA = {
    "x": dict.fromkeys(_SHOULDERS + _HIPS, 0.25),
    "y": {**dict.fromkeys(_SHOULDERS, 0.175), **dict.fromkeys(_HIPS, 0.325)},
}


def side(name: str) -> str:
    """``"left"``, ``"right"`` or ``""`` (neither), from the prefix of a joint's name."""
    return next((s for s in ("left", "right") if name.startswith(s + "_")), "")


def base_name(name: str) -> str:
    """A joint's name without its side: ``left_hip`` -> ``hip``."""
    return name[len(side(name)) + 1 :] if side(name) else name


@dataclass(frozen=True)
class JointSet:
    """A skeleton. What is not given follows from the names.

    Attributes:
        names: joints, in the order of the arrays.
        flip_map: (left, right) pairs that a mirror image swaps.
        connections: (joint, joint, (r, g, b)) lines of a drawing.
        sigmas: OKS widths, in the order of ``names``.
        groups: group -> joints whose results are averaged.
        derived: joint -> {"x": {source: weight}, "y": ...}, for joints that can be computed.
        head_segment: (top, bottom) of the head, for PCKh, or None.

    Raises:
        ValueError: names repeat, or a left joint lacks its right one (or the reverse).
    """

    names: list[str]
    flip_map: list[tuple[str, str]] = field(default_factory=list)
    connections: list[tuple[str, str, tuple[int, int, int]]] = field(default_factory=list)
    sigmas: list[float] = field(default_factory=list)
    groups: dict[str, list[str]] = field(default_factory=dict)
    derived: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    head_segment: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"Joint names repeat: {self.names}.")
        defaults: dict[str, Callable[[list[str]], Any]] = {
            "flip_map": infer_flip_map,
            "connections": connect,
            "sigmas": lambda names: [_SIGMAS.get(base_name(n), _DEFAULT_SIGMA) for n in names],
            "groups": infer_groups,
        }
        for key, infer in defaults.items():
            if not getattr(self, key):
                object.__setattr__(self, key, infer(self.names))


def infer_flip_map(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs (left_x, right_x), in order of first appearance; other names are their own mirror."""
    pairs = []
    for base in dict.fromkeys(base_name(name) for name in names if side(name)):
        pair = (f"left_{base}", f"right_{base}")
        lacking = [name for name in pair if name not in names]
        if lacking:
            raise ValueError(
                f"Joint {lacking[0]!r} is missing beside its mirror image, so that flips cannot be "
                f"inferred from the names {list(names)}: name pairs left_<joint> and right_<joint>."
            )
        pairs.append(pair)
    return pairs


def connect(
    names: Sequence[str], links: Sequence[tuple[str, str]] = _LINKS
) -> list[tuple[str, str, tuple[int, int, int]]]:
    """Colour those links whose two joints exist: right limbs red, left limbs blue, others green."""
    colors = {"right": RIGHT_COLOR, "left": LEFT_COLOR}
    return [
        (a, b, colors.get(side(a) if side(a) == side(b) else "", MIDDLE_COLOR))
        for a, b in links
        if a in names and b in names
    ]


def infer_groups(names: Sequence[str]) -> dict[str, list[str]]:
    """Left and right joints share a group, parts of the face and head form "head"."""
    groups: dict[str, list[str]] = {}
    for name in names:
        base = base_name(name)
        groups.setdefault("head" if base in _FACE else base, []).append(name)
    return groups


def _pairs(*bases: str, first: str = "right") -> list[str]:
    second = "left" if first == "right" else "right"
    return [f"{s}_{base}" for base in bases for s in (first, second)]


# Penn's README calls index 1 of each pair "left"; the data say that it is the person's right.
PENN_ACTION = JointSet(
    names=["head", *_pairs("shoulder", "elbow", "wrist", "hip", "knee", "ankle")],
    derived={"neck": NECK_FORMULA, "belly": BELLY_FORMULA},
)
# The sides of BBC Pose may be the observer's; no source settles it.
BBC_POSE = JointSet(
    names=["head", *_pairs("wrist", "elbow", "shoulder")],
    derived={"neck": NECK_FORMULA},
)
# JHMDB's "face" is called head: the face's centre, so this head segment is shorter than MPII's.
JHMDB = JointSet(
    names=["neck", "belly", "head", *_pairs("shoulder", "hip", "elbow", "knee", "wrist", "ankle")],
    head_segment=("head", "neck"),
)
# The head of LSPET is the top of the head.
LSPET = JointSet(
    names=[
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
        "neck", "head",
    ],
    derived={"belly": BELLY_FORMULA},
    head_segment=("head", "neck"),
)  # fmt: skip
JOINT_SETS = {"penn_action": PENN_ACTION, "bbc_pose": BBC_POSE, "jhmdb": JHMDB, "lspet": LSPET}

# Protocols of PCK (the first is the default) and the smallest visibility that counts.
_BOX_FIRST = ["bbox", "torso", "torso_diagonal"]
PCK_FACTS: dict[str, dict[str, Any]] = {
    "penn_action": {"pck_protocols": _BOX_FIRST, "pck_min_visibility": 2},
    "bbc_pose": {"pck_protocols": ["pixels"], "pck_min_visibility": 1},
    "jhmdb": {"pck_protocols": [*_BOX_FIRST, "head"], "pck_min_visibility": 1},
    "lspet": {"pck_protocols": ["torso", "torso_diagonal", "head"], "pck_min_visibility": 1},
    "coco_video": {"pck_protocols": _BOX_FIRST, "pck_min_visibility": 1},
}


def dataset_metadata(kind: str, joints: JointSet, root_hint: str) -> dict[str, Any]:
    """The entries of a dataset's `MetadataCatalog`; ``kind`` is a key of `PCK_FACTS`."""
    facts = dict(PCK_FACTS[kind])
    if not {*_SHOULDERS, *_HIPS} <= set(joints.names):
        facts["pck_protocols"] = [p for p in facts["pck_protocols"] if not p.startswith("torso")]
    return {
        "thing_classes": ["person"],
        "evaluator_type": "video_pose",
        "dataset_kind": kind,
        "root_hint": root_hint,
        "keypoint_names": list(joints.names),
        "keypoint_flip_map": list(joints.flip_map),
        "keypoint_connection_rules": list(joints.connections),
        "keypoint_oks_sigmas": list(joints.sigmas),
        "joint_groups": {group: list(names) for group, names in joints.groups.items()},
        "derived_joints": dict(joints.derived),
        "head_segment": joints.head_segment,
        "pck_constant_pose": None,
        **facts,
    }
