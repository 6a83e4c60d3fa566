"""Joints by name: order, formulas, visibility, errors; sides are the person's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from video_pose.data.datasets.builtin_meta import (
    BBC_POSE,
    JHMDB,
    JOINT_SETS,
    LSPET,
    PENN_ACTION,
    JointSet,
)
from video_pose.data.joints import match_joints

TOY = ["head", "right_shoulder", "left_shoulder"]
NECK = {"neck": PENN_ACTION.derived["neck"]}


def _toy(v_head: float = 2, v_right: float = 1) -> np.ndarray:
    return np.array([[100, 10, v_head], [80, 40, v_right], [130, 50, 2]], dtype=np.float32)


def test_exact_names_are_reordered_not_copied_by_position() -> None:
    joint_map = match_joints(TOY, ["left_shoulder", "head"])
    assert joint_map.apply(_toy()).tolist() == [[130, 50, 2], [100, 10, 2]]
    assert not joint_map.is_identity
    assert match_joints(TOY, TOY).is_identity


def test_neck_of_penn_by_hand() -> None:
    # x = .5 * 100 + .25 * (80 + 130) = 102.5; y = .2 * 10 + .4 * (40 + 50) = 38; v = min(2, 1, 2).
    got = match_joints(TOY, ["neck", "head"], NECK).apply(_toy())
    np.testing.assert_allclose(got, [[102.5, 38, 1], [100, 10, 2]], rtol=1e-6)


def test_belly_by_hand() -> None:
    names = ["right_shoulder", "left_shoulder", "right_hip", "left_hip"]
    points = np.array([[0, 0, 2], [10, 20, 2], [4, 100, 2], [6, 120, 2]], dtype=np.float32)
    # x = mean (0, 10, 4, 6) = 5; y = .35 * 10 + .65 * 110 = 75.
    got = match_joints(names, ["belly"], LSPET.derived).apply(points)
    np.testing.assert_allclose(got, [[5, 75, 2]], rtol=1e-6)


@pytest.mark.parametrize("unlabelled", [{"v_head": 0}, {"v_right": 0}])
def test_derived_joint_needs_all_its_sources(unlabelled: dict[str, float]) -> None:
    got = match_joints(TOY, ["neck"], NECK).apply(_toy(**unlabelled))
    assert got.tolist() == [[0, 0, 0]]


def test_leading_axes_and_tensors_agree_and_input_stays() -> None:
    points = np.stack([_toy(), _toy(v_head=0)])[None]  # (1, 2, 3, 3)
    before = points.copy()
    joint_map = match_joints(TOY, ["neck", "left_shoulder"], NECK)
    got = joint_map.apply(points)
    assert got.shape == (1, 2, 2, 3)
    np.testing.assert_allclose(got[0, :, 0], [[102.5, 38, 1], [0, 0, 0]], rtol=1e-6)
    np.testing.assert_array_equal(points, before)
    tensor = torch.from_numpy(points)
    np.testing.assert_allclose(joint_map.apply(tensor).numpy(), got, rtol=1e-6)
    np.testing.assert_array_equal(tensor.numpy(), before)


def test_an_exact_name_wins_over_a_formula() -> None:
    names = [*TOY, "neck"]
    points = np.concatenate([_toy(), [[7, 8, 1]]]).astype(np.float32)
    assert match_joints(names, ["neck"], NECK).apply(points).tolist() == [[7, 8, 1]]


def test_missing_joint_names_both_sides() -> None:
    with pytest.raises(KeyError) as error:
        match_joints(TOY, ["head", "left_knee"], NECK)
    for part in ("left_knee", "right_shoulder", "neck", "target joints"):
        assert part in str(error.value)


def test_formula_with_an_absent_source_is_no_help() -> None:
    with pytest.raises(KeyError, match="belly"):
        match_joints(TOY, ["belly"], PENN_ACTION.derived)


def test_wrong_shape_names_it() -> None:
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(3, 3\)"):
        match_joints(TOY, TOY).apply(np.zeros((4, 3), np.float32))


def test_orders_of_the_files() -> None:
    assert PENN_ACTION.names[:3] == ["head", "right_shoulder", "left_shoulder"]
    assert PENN_ACTION.names[11:] == ["right_ankle", "left_ankle"]
    assert BBC_POSE.names == [
        "head", "right_wrist", "left_wrist", "right_elbow", "left_elbow",
        "right_shoulder", "left_shoulder",
    ]  # fmt: skip
    assert JHMDB.names == [
        "neck", "belly", "head", "right_shoulder", "left_shoulder", "right_hip", "left_hip",
        "right_elbow", "left_elbow", "right_knee", "left_knee", "right_wrist", "left_wrist",
        "right_ankle", "left_ankle",
    ]  # fmt: skip
    assert LSPET.names[0] == "right_ankle" and LSPET.names[-2:] == ["neck", "head"]
    assert [len(s.names) for s in (PENN_ACTION, BBC_POSE, JHMDB, LSPET)] == [13, 7, 15, 14]


@pytest.mark.parametrize("kind", JOINT_SETS)
def test_joint_sets_are_consistent(kind: str) -> None:
    joints = JOINT_SETS[kind]
    sided = [n for n in joints.names if n.startswith(("left_", "right_"))]
    assert sorted(n for pair in joints.flip_map for n in pair) == sorted(sided)
    assert all(a.startswith("left_") and b.startswith("right_") for a, b in joints.flip_map)
    assert len(joints.sigmas) == len(joints.names)
    assert joints.sigmas[joints.names.index("left_wrist")] == 0.062
    assert sorted(n for g in joints.groups.values() for n in g) == sorted(joints.names)
    assert {n for a, b, _ in joints.connections for n in (a, b)} <= set(joints.names)
    assert not set(joints.derived) & set(joints.names)
    for formula in joints.derived.values():
        for axis in ("x", "y"):
            assert set(formula[axis]) <= set(joints.names)
            assert sum(formula[axis].values()) == pytest.approx(1)


def test_all_datasets_reach_the_model_joints_of_penn() -> None:
    for source in (JHMDB, LSPET):
        match_joints(source.names, [*PENN_ACTION.names, "neck", "belly"], source.derived)


def test_joint_set_refuses_half_a_pair_and_repeats() -> None:
    with pytest.raises(ValueError, match="right_paw"):
        JointSet(names=["nose", "left_paw"])
    with pytest.raises(ValueError, match="repeat"):
        JointSet(names=["nose", "nose"])
