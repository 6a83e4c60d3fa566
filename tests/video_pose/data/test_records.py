"""What is said of a track and of a dataset: who is a person, which protocols and mirror pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from detectron2.data import MetadataCatalog

from video_pose.data.records import dataset_metadata, is_person, known_mirror_pairs
from video_pose.skeleton import JointSet

TORSO = ["left_shoulder", "right_shoulder", "left_hip", "right_hip"]


@pytest.mark.parametrize(
    ("labelled", "facts", "expected"),
    [
        ([True, False], {}, True),
        ([False, False], {}, True),  # nobody said that it has boxes alone
        ([False, False], {"boxed": [False, False]}, True),
        ([False, False], {"boxed": [False, True]}, False),
        ([False, True], {"boxed": [True, True]}, True),
        ([True, True], {"crowd": True}, False),
        ([True, True], {"crowd": False}, True),
    ],
)
def test_who_can_be_asked_for_joints(labelled: list[bool], facts: dict, expected: bool) -> None:
    facts = {key: np.array(v) if isinstance(v, list) else v for key, v in facts.items()}
    assert is_person({"labelled": np.array(labelled), **facts}) is expected


def test_the_facts_of_a_dataset() -> None:
    head = JointSet(["head", "left_hand", "right_hand"], sigmas=[0.1, 0.2, 0.3])
    facts = dataset_metadata("coco_video", head, "some/where")
    pairs = [("left_hand", "right_hand")]
    assert {key: facts[key] for key in ("keypoint_names", "keypoint_flip_map", "root_hint")} == {
        "keypoint_names": ["head", "left_hand", "right_hand"],
        "keypoint_flip_map": pairs,
        "root_hint": "some/where",
    }
    assert facts["thing_classes"] == ["person"] and facts["evaluator_type"] == "video_pose"
    assert facts["dataset_kind"] == "coco_video" and facts["mirror_known"] is True
    assert facts["keypoint_oks_sigmas"] == [0.1, 0.2, 0.3] and facts["pck_min_visibility"] == 1
    assert facts["pck_constant_pose"] is None and facts["head_segment"] is None


@pytest.mark.parametrize(
    ("names", "kind", "protocols"),
    [
        (TORSO, "coco_video", ["bbox", "torso", "torso_diagonal"]),
        ([*TORSO, "head"], "coco_video", ["bbox", "torso", "torso_diagonal"]),
        (TORSO[:3], "coco_video", ["bbox"]),
        (TORSO[1:], "coco_video", ["bbox"]),
        (["head", "neck"], "jhmdb", ["bbox", "head"]),
        (TORSO, "penn_action", ["bbox", "torso", "torso_diagonal"]),
    ],
)
def test_protocols_of_the_torso_need_its_four_joints(
    names: list[str], kind: str, protocols: list[str]
) -> None:
    joints = JointSet(names)
    assert dataset_metadata(kind, joints, "")["pck_protocols"] == protocols
    assert dataset_metadata(kind, JointSet(TORSO), "")["pck_protocols"][1] != "head", "a copy"


@pytest.fixture
def named() -> Iterator[Callable[..., str]]:
    """named(**facts) -> the name of metadata that are removed after the test."""
    names: list[str] = []

    def add(**facts: Any) -> str:
        names.append(f"test_records_{len(names)}")
        MetadataCatalog.get(names[-1]).set(**facts)
        return names[-1]

    yield add
    for name in names:
        MetadataCatalog.remove(name)


def test_mirror_pairs_of_several_datasets(named: Callable[..., str]) -> None:
    """Each pair once, in the order of the datasets; who says that there are no others is told from
    who has none."""
    silent = named()
    hands = named(keypoint_flip_map=[("lh", "rh")])
    both = named(keypoint_flip_map=[("lf", "rf"), ("lh", "rh")], mirror_known=True)
    unknown = named(keypoint_flip_map=[], mirror_known=False)
    none = named(keypoint_flip_map=[])
    pairs = [("lh", "rh"), ("lf", "rf")]
    assert known_mirror_pairs([silent, hands, both]) == (pairs, True)
    assert known_mirror_pairs([hands]) == (pairs[:1], True)
    assert known_mirror_pairs([none]) == ([], True)
    assert known_mirror_pairs([silent]) == ([], False)
    assert known_mirror_pairs([unknown]) == ([], False)
    assert known_mirror_pairs([unknown, none]) == ([], True)
    assert known_mirror_pairs([]) == ([], False)


def test_labels_that_count_by_dataset() -> None:
    """Penn Action labels hidden joints, at places that nobody saw; the others' labels all count."""
    joints = JointSet(TORSO)
    least = {
        kind: dataset_metadata(kind, joints, "")["pck_min_visibility"]
        for kind in ("bbc_pose", "jhmdb", "lspet", "lsp", "mpii", "coco", "coco_video")
    }
    assert set(least.values()) == {1}
    assert dataset_metadata("penn_action", joints, "")["pck_min_visibility"] == 2
