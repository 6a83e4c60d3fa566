"""Skeletons: joint names, sides, mirror pairs, similarity widths, lines, groups, derived joints.

Nothing here reads a file, and everything goes by name. A joint's side and part are read from its
name however it is written: ``left_shoulder``, ``shoulder_left``, ``LShoulder``, ``l_sho``,
``Left Shoulder``, ``leftshoulder``. Left and right are the person's own.

Shapes: Ks joints of a source skeleton, Kt joints of a target; leading axes are kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch

# {"x": {source joint: weight}, "y": {source joint: weight}}
Formula = Mapping[str, Mapping[str, float]]
Line = tuple[str, str, tuple[int, int, int]]
Pair = tuple[str, str]
Keypoints = TypeVar("Keypoints", np.ndarray, torch.Tensor)

RIGHT_COLOR = (230, 80, 60)
LEFT_COLOR = (60, 130, 230)
MIDDLE_COLOR = (70, 190, 110)

# ---- names

_SIDE_WORDS = {"left": "left", "lft": "left", "lt": "left", "l": "left"}
_SIDE_WORDS |= {"right": "right", "rgt": "right", "rght": "right", "rt": "right", "r": "right"}
_OTHER = {"left": "right", "right": "left"}
# Short forms of annotation tools and datasets.
_PARTS = {
    "sho": "shoulder", "shldr": "shoulder", "shoul": "shoulder", "elb": "elbow", "elbw": "elbow",
    "wri": "wrist", "wrst": "wrist", "kne": "knee", "ank": "ankle", "ankl": "ankle",
    "headtop": "head_top", "midhip": "mid_hip", "nck": "neck", "nse": "nose",
}  # fmt: skip
_WORD_BREAKS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+")
# Parts that a person has two of: several joints of one such part without a side tell nothing of
# what a mirror swaps.
_PAIRED_PARTS = frozenset(("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"))
# Parts of the middle of a body, which a mirror leaves as they are.
_MIDDLE_PARTS = frozenset(
    "head head_top head_bottom nose neck upper_neck belly thorax chest spine pelvis mid_hip root "
    "torso chin jaw mouth tail".split()
)


def _words(name: str) -> list[str]:
    """Lower-case words of a name: ``LBigToe`` -> l, big, toe."""
    return [word.lower() for word in _WORD_BREAKS.split(name) if word]


def _read_name(name: str) -> tuple[str, tuple[str, ...]]:
    """(side, words without it); side is "" where not exactly one word, or letter, says it."""
    words = _words(name)
    marks = [i for i, word in enumerate(words) if word in _SIDE_WORDS]
    spelled = [i for i in marks if len(words[i]) > 1]
    marks = spelled if len(spelled) == 1 else marks
    if len(marks) == 1 and len(words) > 1:
        return _SIDE_WORDS[words[marks[0]]], tuple(words[: marks[0]] + words[marks[0] + 1 :])
    for i, word in enumerate(words):  # leftshoulder, shoulderright
        for mark in ("left", "right"):
            rest = word.removeprefix(mark) if word.startswith(mark) else word.removesuffix(mark)
            if rest != word and len(rest) > 2:
                return mark, tuple([*words[:i], rest, *words[i + 1 :]])
    return "", tuple(words)


def _joined_letters(name: str) -> list[tuple[str, tuple[str, ...]]]:
    """Readings of ``lshoulder`` or ``shoulderR``: sides only where the other one exists, too."""
    words = _words(name)
    readings = []
    for i, word in enumerate(words):
        for letter, rest in ((word[0], word[1:]), (word[-1], word[:-1])):
            if letter in "lr" and len(rest) > 1:
                readings.append((_SIDE_WORDS[letter], tuple([*words[:i], rest, *words[i + 1 :]])))
    return readings


def _read_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """(side, part) of each joint of a skeleton."""
    found = [_read_name(name) for name in names]
    open_ = [i for i, (side, _) in enumerate(found) if not side]
    readings = {i: _joined_letters(names[i]) for i in open_}
    offered = Counter(reading for i in open_ for reading in readings[i])
    for i in open_:
        for side, rest in readings[i]:
            if offered[side, rest] == 1 and offered[_OTHER[side], rest] == 1:
                found[i] = side, rest
                break
    return [
        (side, _PARTS.get("_".join(rest), "_".join(_PARTS.get(word, word) for word in rest)))
        for side, rest in found
    ]


def canonical_names(names: Sequence[str]) -> list[str]:
    """The joints as this project writes them: ``left_<part>``, ``right_<part>`` or ``<part>``."""
    return [f"{side}_{part}" if side else part for side, part in _read_names(names)]


def spell_as(names: Sequence[str], like: Sequence[str]) -> list[str]:
    """``names`` with the spelling of ``like`` for the joints that both have, each once."""
    own = _own_names(like)
    spelled = [
        name if name in like else own.get(canonical, name)
        for name, canonical in zip(names, canonical_names(names), strict=True)
    ]
    return spelled if len(set(spelled)) == len(spelled) else list(names)


def find_mirror_pairs(names: Sequence[str]) -> list[Pair]:
    """(left, right) joints that are each other's mirror image by their names, in order."""
    places: dict[str, dict[str, list[str]]] = {}
    for name, (side, part) in zip(names, _read_names(names), strict=True):
        if side:
            places.setdefault(part, {"left": [], "right": []})[side].append(name)
    return [
        (sides["left"][0], sides["right"][0])
        for sides in places.values()
        if len(sides["left"]) == len(sides["right"]) == 1
    ]


def mirror_pairs(
    names: Sequence[str], given: Iterable[Sequence[str]] = (), known: Iterable[Sequence[str]] = ()
) -> list[Pair]:
    """The pairs of a model's joints.

    Args:
        names: the model's joints.
        given: MODEL.POSE.FLIP_MAP: where it has pairs, these are all.
        known: pairs of the datasets; those of other joints are left out, and what they do not cover
            is looked for in the names.

    Raises:
        ValueError: ``given`` has a name that is no joint, or a joint twice.
    """
    pairs = [(str(left), str(right)) for left, right in given]
    unknown = sorted({name for pair in pairs for name in pair} - set(names))
    if unknown:
        raise ValueError(
            f"MODEL.POSE.FLIP_MAP names {unknown}, which are not in MODEL.POSE.JOINTS: "
            f"{list(names)}"
        )
    if not pairs:
        pairs = [(a, b) for a, b in dict.fromkeys((str(a), str(b)) for a, b in known)]
        pairs = [(a, b) for a, b in pairs if a in names and b in names]
        paired = {name for pair in pairs for name in pair}
        pairs += find_mirror_pairs([name for name in names if name not in paired])
    _partners(pairs)
    return pairs


def require_mirror_pairs(
    names: Sequence[str],
    pairs: Sequence[Pair],
    known: Iterable[Sequence[str]] = (),
    declared: bool = False,
) -> None:
    """Refuse to mirror joints of which it is not known what a mirror swaps.

    Args:
        names: the model's joints. pairs: of them, see `mirror_pairs`.
        known: pairs of the datasets, of which one joint may not be the model's.
        declared: somebody said that no joint changes sides, where ``pairs`` is empty.

    Raises:
        ValueError: a joint has a side and no partner, several have one part and no side, or there
            is no pair at all; the joints are named.
    """
    paired = {name for pair in pairs for name in pair}
    read = {n: r for n, r in zip(names, _read_names(names), strict=True) if n not in paired}
    doubtful = [
        f"{name!r} (no {_OTHER[side]}_{part})" for name, (side, part) in read.items() if side
    ]
    partners = {a: b for left, right in known for a, b in ((left, right), (right, left))}
    doubtful += [
        f"{name!r} (no {partners[name]})"
        for name, (side, _) in read.items()
        if name in partners and not side
    ]
    parts: dict[str, list[str]] = {}
    for name, (side, part) in read.items():
        for word in {word.rstrip("0123456789") for word in part.split("_")} & _PAIRED_PARTS:
            if not side and part not in _MIDDLE_PARTS:
                parts.setdefault(word, []).append(name)
    doubtful += [repr(name) for alike in parts.values() if len(alike) > 1 for name in alike]
    if not (doubtful or pairs or declared) and len(names) > 1:
        doubtful = [repr(name) for name, (_, part) in read.items() if part not in _MIDDLE_PARTS]
    if doubtful:
        raise ValueError(
            f"mirroring is on, but no joints are known to change sides with {', '.join(doubtful)} "
            f"of {list(names)} (known pairs: {list(pairs)}): name joints left_<joint> and "
            "right_<joint>, set MODEL.POSE.FLIP_MAP, or keypoint_flip_map in the dataset's "
            "metadata, to the pairs, or mirror nothing: INPUT.AUG.FLIP_PROB 0, TEST.FLIP and "
            "TEST.FLIP_STILLS False (clips), INPUT.RANDOM_FLIP none and TEST.AUG.FLIP False "
            "(frames)"
        )


def flip_permutation(names: Sequence[str], pairs: Iterable[Sequence[str]]) -> list[int]:
    """Row i of mirrored joints is row ``result[i]`` of the unmirrored ones.

    Args:
        names: joints, or channels of a map, in order.
        pairs: (left, right) names; pairs with no joint in ``names`` are ignored, and joints without
            a pair (head, neck) stay.

    Raises:
        ValueError: only one joint of a pair is in ``names``, or a joint is in two pairs.
    """
    partner = _partners(pairs)
    lacking = [partner[name] for name in names if partner.get(name, name) not in names]
    if lacking:
        raise ValueError(
            f"MODEL.POSE.FLIP_MAP, or a dataset's pairs, {partner} names {lacking}: not among the "
            f"joints {list(names)}"
        )
    return [list(names).index(partner.get(name, name)) for name in names]


def _partners(pairs: Iterable[Sequence[str]]) -> dict[str, str]:
    partner: dict[str, str] = {}
    for left, right in pairs:
        for one, other in ((left, right), (right, left)):
            if partner.setdefault(one, other) != other:
                raise ValueError(
                    f"mirror pairs: joint {one!r} changes places with {partner[one]!r} and with "
                    f"{other!r}"
                )
    return partner


# ---- what follows from the names

# Keypoint similarity widths of COCO. COCO has no head, neck, belly or feet: they take the
# shoulders', the hips' and the ankles' value, so OKS figures for them are comparable inside this
# project only.
_SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062,
    "hip": 0.107, "knee": 0.087, "ankle": 0.089, "belly": 0.107, "pelvis": 0.107,
    "mid_hip": 0.107, "big_toe": 0.089, "small_toe": 0.089, "heel": 0.089,
}  # fmt: skip
_DEFAULT_SIGMA = 0.079
_FACE = ("head", "head_top", "head_bottom", "nose", "eye", "ear")

_SHOULDERS = ("right_shoulder", "left_shoulder")
_HIPS = ("right_hip", "left_hip")
_EARS = ("right_ear", "left_ear")
_LINKS = (
    ("head", "neck"), ("head_top", "upper_neck"), ("upper_neck", "thorax"), ("thorax", "pelvis"),
    ("neck", "belly"), ("nose", "neck"), ("nose", "right_eye"), ("nose", "left_eye"),
    ("right_eye", "right_ear"), ("left_eye", "left_ear"), ("neck", "mid_hip"),
    ("right_shoulder", "left_shoulder"),
    ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
    ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_hip"), ("left_shoulder", "left_hip"), ("right_hip", "left_hip"),
    ("right_hip", "right_knee"), ("right_knee", "right_ankle"),
    ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
    ("right_ankle", "right_heel"), ("right_ankle", "right_big_toe"),
    ("right_big_toe", "right_small_toe"), ("left_ankle", "left_heel"),
    ("left_ankle", "left_big_toe"), ("left_big_toe", "left_small_toe"),
)  # fmt: skip


def _mean(*joints: str) -> Formula:
    return _weights((joints, 1.0))


def _weights(*parts: tuple[tuple[str, ...], float]) -> Formula:
    """Weighted sum of the means of groups of joints."""
    weights = {joint: weight / len(joints) for joints, weight in parts for joint in joints}
    return {axis: dict(weights) for axis in "xy"}


# LSTM Pose Machines' synthetic neck (Penn) and interpolated belly (JHMDB).
NECK_FORMULA: Formula = {
    "x": {"head": 0.5, **dict.fromkeys(_SHOULDERS, 0.25)},
    "y": {"head": 0.2, **dict.fromkeys(_SHOULDERS, 0.4)},
}
BELLY_FORMULA: Formula = {
    "x": dict.fromkeys(_SHOULDERS + _HIPS, 0.25),
    "y": {**dict.fromkeys(_SHOULDERS, 0.175), **dict.fromkeys(_HIPS, 0.325)},
}
# Joints that a skeleton may lack, each by the first formula whose sources it has. PoseTrack's
# head_bottom is the upper neck.
FORMULAS: tuple[tuple[str, Formula], ...] = (
    ("head", _mean("nose")),
    ("head", _mean("head_top")),
    ("neck", _mean("head_bottom")),
    ("neck", _mean("upper_neck")),
    ("neck", NECK_FORMULA),
    ("neck", _mean(*_SHOULDERS)),
    ("belly", BELLY_FORMULA),
    ("pelvis", _mean("mid_hip")),
    ("pelvis", _mean(*_HIPS)),
    ("mid_hip", _mean("pelvis")),
    ("mid_hip", _mean(*_HIPS)),
    ("thorax", _mean(*_SHOULDERS)),
)


def derivable(
    names: Sequence[str], preferred: Mapping[str, Formula] | None = None
) -> dict[str, Formula]:
    """Formulas, in the joints' own names, of joints that ``names`` lack but allow to compute.

    Args:
        preferred: formulas that come before `FORMULAS`.
    """
    own = _own_names(names)
    formulas: dict[str, Formula] = {}
    for joint, formula in (*(preferred or {}).items(), *FORMULAS):
        if joint in own or not all(s in own for axis in formula.values() for s in axis):
            continue
        translated = {axis: {own[s]: w for s, w in formula[axis].items()} for axis in "xy"}
        formulas.setdefault(joint, translated)
    return formulas


def _own_names(names: Sequence[str]) -> dict[str, str]:
    """How a skeleton calls a joint: its own names, and canonical ones that only one joint has."""
    canonical = canonical_names(names)
    once = {c: n for c, n in zip(canonical, names, strict=True) if canonical.count(c) == 1}
    return once | {name: name for name in names}


def connect(names: Sequence[str], links: Iterable[Pair] = _LINKS) -> list[Line]:
    """Colour those links whose two joints exist: right limbs red, left limbs blue, others green."""
    own = _own_names(names)
    sides = {n: side for n, (side, _) in zip(names, _read_names(names), strict=True)}
    colors = {"right": RIGHT_COLOR, "left": LEFT_COLOR}
    pairs = dict.fromkeys((own[a], own[b]) for a, b in links if a in own and b in own)
    return [
        (a, b, colors.get(sides[a] if sides[a] == sides[b] else "", MIDDLE_COLOR)) for a, b in pairs
    ]


def infer_groups(names: Sequence[str]) -> dict[str, list[str]]:
    """Left and right joints share a group, parts of the face and head form "head"."""
    groups: dict[str, list[str]] = {}
    for name, (_, part) in zip(names, _read_names(names), strict=True):
        groups.setdefault("head" if part in _FACE else part, []).append(name)
    return groups


def infer_sigmas(names: Sequence[str]) -> list[float]:
    """COCO's OKS width of each joint's part; other joints take the shoulders'."""
    return [_SIGMAS.get(part, _DEFAULT_SIGMA) for _, part in _read_names(names)]


def with_widths(
    names: Sequence[str], sigmas: Sequence[float], given: Mapping[str, float]
) -> list[float]:
    """``sigmas`` of the joints ``names``, but those of ``given`` where it has a joint."""
    widths = dict(zip(spell_as(list(given), names), given.values(), strict=True))
    return [widths.get(name, sigma) for name, sigma in zip(names, sigmas, strict=True)]


# ---- skeletons


@dataclass(frozen=True)
class JointSet:
    """A skeleton. What is not given follows from the names.

    Attributes:
        names: joints, in the order of the arrays.
        flip_map: (left, right) pairs that a mirror image swaps; [] says that there are none.
        connections: (joint, joint, (r, g, b)) lines of a drawing.
        sigmas: OKS widths, in the order of ``names``.
        groups: group -> joints whose results are averaged.
        derived: joint -> {"x": {source: weight}, "y": ...}: joints that these allow to compute.
        equivalents: the same for joints of this skeleton, by those of others that lack them. A
            source of weight 0 is one that the other skeleton must have, labelled or not.
        head_segment: (top, bottom) of the head, for PCKh, or None.
        mirror_known: whether ``flip_map`` was given or has a pair: what is not known is refused
            where mirroring is on.

    Raises:
        ValueError: names repeat or are none, or a field names a joint that is not there.
    """

    names: list[str]
    flip_map: list[Pair] = None  # type: ignore[assignment]  # None: not given
    connections: list[Line] = field(default_factory=list)
    sigmas: list[float] = field(default_factory=list)
    groups: dict[str, list[str]] = field(default_factory=dict)
    derived: dict[str, Formula] = field(default_factory=dict)
    equivalents: dict[str, Formula] = field(default_factory=dict)
    head_segment: tuple[str, str] | None = None
    mirror_known: bool = field(init=False, default=True)

    def __post_init__(self) -> None:
        names = self.names
        if not names or not all(isinstance(name, str) and name for name in names):
            raise ValueError(f"Joint names must be texts, at least one: got {names!r}.")
        if len(set(names)) != len(names):
            raise ValueError(f"Joint names repeat: {names}.")
        given = self.flip_map is not None
        inferred: dict[str, Any] = {
            "flip_map": self.flip_map if given else find_mirror_pairs(names),
            "connections": self.connections or connect(names),
            "sigmas": self.sigmas or infer_sigmas(names),
            "groups": self.groups or infer_groups(names),
            "derived": self.derived or derivable(names),
        }
        for key, value in inferred.items():
            object.__setattr__(self, key, value)
        object.__setattr__(self, "mirror_known", given or bool(self.flip_map))
        self._check()

    def _check(self) -> None:
        used = {
            "flip_map": [name for pair in self.flip_map for name in pair],
            "connections": [name for a, b, _ in self.connections for name in (a, b)],
            "groups": [name for group in self.groups.values() for name in group],
            "head_segment": list(self.head_segment or ()),
        }
        for key, found in used.items():
            unknown = sorted(set(found) - set(self.names))
            if unknown:
                raise ValueError(f"JointSet: {key} names {unknown}: not among {self.names}.")
        if len(self.sigmas) != len(self.names):
            raise ValueError(
                f"JointSet: {len(self.sigmas)} sigmas for {len(self.names)} joints {self.names}."
            )


def _pairs(*bases: str, first: str = "right") -> list[str]:
    return [f"{side}_{base}" for base in bases for side in (first, _OTHER[first])]


# Penn's README calls index 1 of each pair "left"; the data say that it is the person's right.
PENN_ACTION = JointSet(
    names=["head", *_pairs("shoulder", "elbow", "wrist", "hip", "knee", "ankle")],
)
# The sides of BBC Pose may be the observer's; no source settles it.
BBC_POSE = JointSet(names=["head", *_pairs("wrist", "elbow", "shoulder")])
# JHMDB's "face" is called head: the head's middle, so this head segment is shorter than MPII's. It
# lies between the ears; the neck .35 of the way there from the shoulders' middle, the belly .76 of
# the way to the hips'. Fitted on training clips: by labels, and by the default model where a source
# has none. Skeletons without ears, such as that of the released LSTM Pose Machine, take `FORMULAS`.
JHMDB = JointSet(
    names=["neck", "belly", "head", *_pairs("shoulder", "hip", "elbow", "knee", "wrist", "ankle")],
    equivalents={
        "neck": _weights((_EARS, 0.35), (_SHOULDERS, 0.65)),
        "belly": _weights((_SHOULDERS, 0.24), (_HIPS, 0.76), (_EARS, 0.0)),
        "head": _mean(*_EARS),
    },
    head_segment=("head", "neck"),
)
# LSP and LSPET. Their head is the top of the head.
LSP = LSPET = JointSet(
    names=[
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
        "neck", "head",
    ],
    head_segment=("head", "neck"),
)  # fmt: skip
MPII = JointSet(
    names=[
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis",
        "thorax", "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder",
        "left_shoulder", "left_elbow", "left_wrist",
    ],
    head_segment=("head_top", "upper_neck"),
)  # fmt: skip
COCO_PERSON = JointSet(
    names=["nose", *_pairs("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle",
                           first="left")],
)  # fmt: skip
# OpenPose's neck is the middle of the shoulders.
OPENPOSE_18 = JointSet(
    names=[
        "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder",
        "left_elbow", "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip",
        "left_knee", "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear",
    ],
    equivalents={"neck": _mean(*_SHOULDERS)},
)  # fmt: skip
OPENPOSE_25 = JointSet(
    names=[
        *OPENPOSE_18.names[:8], "mid_hip", *OPENPOSE_18.names[8:],
        "left_big_toe", "left_small_toe", "left_heel",
        "right_big_toe", "right_small_toe", "right_heel",
    ],
    equivalents={"neck": _mean(*_SHOULDERS), "mid_hip": _mean(*_HIPS)},
)  # fmt: skip
JOINT_SETS = {
    "penn_action": PENN_ACTION, "bbc_pose": BBC_POSE, "jhmdb": JHMDB, "lspet": LSPET, "lsp": LSP,
    "mpii": MPII, "coco": COCO_PERSON, "openpose_18": OPENPOSE_18, "openpose_25": OPENPOSE_25,
}  # fmt: skip


# ---- from one skeleton to another


@dataclass(frozen=True)
class DerivedJoint:
    """One computed joint: its row in the target and the weights of source columns, per axis."""

    target: int
    x: tuple[tuple[int, float], ...]
    y: tuple[tuple[int, float], ...]

    @property
    def sources(self) -> list[int]:
        """Columns that must all be labelled for the joint to exist."""
        return sorted({index for index, _ in self.x + self.y})


@dataclass(frozen=True)
class JointMap:
    """How each target joint is had from the source joints; built by `match_joints`.

    Attributes:
        source_names, target_names: the two skeletons, in order.
        index: per target joint the source column to copy (for a derived joint: any of its sources;
            for an absent one 0).
        derived: the target joints that are computed.
        absent: rows of the target joints that cannot be had, which stay (0, 0, 0).
    """

    source_names: tuple[str, ...]
    target_names: tuple[str, ...]
    index: tuple[int, ...]
    derived: tuple[DerivedJoint, ...]
    absent: tuple[int, ...] = ()

    @property
    def is_identity(self) -> bool:
        return self.source_names == self.target_names

    @property
    def present_names(self) -> list[str]:
        """The target joints that can be had, in order."""
        return [n for row, n in enumerate(self.target_names) if row not in self.absent]

    def apply(self, keypoints: Keypoints) -> Keypoints:
        """Reorder and derive joints.

        Args:
            keypoints: (..., Ks, 3) array or tensor of (x, y, v), v a visibility or a score.

        Returns:
            A new (..., Kt, 3). A derived joint has the least v of its sources where all of them are
            above 0, and is (0, 0, 0) where one is not: then its formula means nothing.

        Raises:
            ValueError: the last two axes are not (Ks, 3).
        """
        expected = (len(self.source_names), 3)
        if tuple(keypoints.shape[-2:]) != expected:
            raise ValueError(
                f"Keypoints of shape {tuple(keypoints.shape)} do not end in {expected}, "
                f"the joints {list(self.source_names)}."
            )
        out = keypoints[..., list(self.index), :]
        if self.absent:
            out[..., list(self.absent), :] = 0
        for joint in self.derived:
            v = keypoints[..., joint.sources[0], 2]
            for source in joint.sources[1:]:
                other = keypoints[..., source, 2]
                v = v * (v <= other) + other * (other < v)
            v = v * (v > 0)
            out[..., joint.target, 0] = _weighted(keypoints[..., 0], joint.x) * (v > 0)
            out[..., joint.target, 1] = _weighted(keypoints[..., 1], joint.y) * (v > 0)
            out[..., joint.target, 2] = v
        return out


def match_joints(
    source_names: Sequence[str],
    target_names: Sequence[str],
    derived: Mapping[str, Formula] | None = None,
    partial: bool = False,
) -> JointMap:
    """Find every target joint among the source joints: by name, however spelled, else by a formula.

    Args:
        source_names: joints that exist, in the order of the arrays to convert.
        target_names: joints that are wanted, in order.
        derived: formulas by name of the derived joint (a dataset's ``derived_joints``), which come
            before `FORMULAS`.
        partial: target joints that cannot be had stay unlabelled, as long as one can.

    Raises:
        KeyError: a target joint is neither a source joint nor derivable; both lists are named.
        ValueError: ``partial``, and not one can be had; both lists are named.
    """
    own = _own_names(source_names)
    column = {name: i for i, name in enumerate(source_names)}
    canonical = dict(zip(target_names, canonical_names(target_names), strict=True))
    formulas = derivable(source_names, derived)
    index: list[int] = []
    computed: list[DerivedJoint] = []
    absent: list[int] = []
    for row, name in enumerate(target_names):
        found = own.get(name, own.get(canonical[name]))
        formula = formulas.get(name, formulas.get(canonical[name]))
        if found is not None:
            index.append(column[found])
        elif formula is not None:
            x, y = (tuple((column[s], w) for s, w in formula[axis].items() if w) for axis in "xy")
            computed.append(DerivedJoint(target=row, x=x, y=y))
            index.append(x[0][0])
        else:
            absent.append(row)
            index.append(0)
    _require_present(absent, source_names, target_names, formulas, partial)
    return JointMap(
        tuple(source_names), tuple(target_names), tuple(index), tuple(computed), tuple(absent)
    )


def _require_present(
    absent: list[int],
    source_names: Sequence[str],
    target_names: Sequence[str],
    formulas: Mapping[str, Formula],
    partial: bool,
) -> None:
    if partial and len(absent) == len(target_names):
        raise ValueError(
            f"none of the joints {list(target_names)} is among {list(source_names)}, or can be "
            f"derived from them (derivable: {sorted(formulas)})"
        )
    if absent and not partial:
        raise KeyError(
            f"Joints {[target_names[row] for row in absent]} cannot be had from the source "
            f"skeleton. Source joints: {list(source_names)}; derivable from them: "
            f"{sorted(formulas)}; target joints: {list(target_names)}."
        )


def _weighted(values: Keypoints, weights: tuple[tuple[int, float], ...]) -> Keypoints:
    total = values[..., weights[0][0]] * weights[0][1]
    for index, weight in weights[1:]:
        total = total + values[..., index] * weight
    return total
