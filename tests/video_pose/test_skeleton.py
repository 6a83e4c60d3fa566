"""Joints by name: order, formulas, visibility, errors; sides are the person's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from video_pose.skeleton import (
    BBC_POSE,
    COCO_PERSON,
    JHMDB,
    JOINT_SETS,
    LSP,
    LSPET,
    MPII,
    OPENPOSE_18,
    OPENPOSE_25,
    PENN_ACTION,
    JointSet,
    canonical_names,
    derivable,
    find_mirror_pairs,
    flip_permutation,
    match_joints,
    mirror_pairs,
    require_mirror_pairs,
)

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


def test_joint_set_refuses_repeats_and_foreign_names() -> None:
    with pytest.raises(ValueError, match="repeat"):
        JointSet(names=["nose", "nose"])
    with pytest.raises(ValueError, match="at least one"):
        JointSet(names=[])
    with pytest.raises(ValueError, match=r"flip_map names \['paw'\]"):
        JointSet(names=["nose", "hand"], flip_map=[("hand", "paw")])
    with pytest.raises(ValueError, match="1 sigmas for 2 joints"):
        JointSet(names=["nose", "hand"], sigmas=[0.1])


def test_flip_order_swaps_pairs_by_name() -> None:
    names = ["head", "right_hip", "left_knee", "left_hip", "right_knee"]
    pairs = [("left_hip", "right_hip"), ("left_knee", "right_knee"), ("left_ear", "right_ear")]
    assert flip_permutation(names, pairs) == [0, 3, 4, 1, 2]
    assert flip_permutation(names, pairs * 2) == [0, 3, 4, 1, 2]  # two datasets say the same
    with pytest.raises(ValueError, match="right_hip"):
        flip_permutation(["head", "right_hip"], pairs)
    with pytest.raises(ValueError, match="'left_hip' changes places with 'right_hip' and with"):
        flip_permutation(names, [("left_hip", "right_hip"), ("left_hip", "right_knee")])


def test_present_joints_include_derived_ones() -> None:
    middle = {"neck": {axis: {"a": 0.5, "b": 0.5} for axis in "xy"}}
    joint_map = match_joints(["a", "b"], ["tail", "neck", "b"], middle, partial=True)
    out = joint_map.apply(np.array([[0.0, 2, 2], [4, 4, 1]]))
    assert out.tolist() == [[0, 0, 0], [2, 3, 1], [4, 4, 1]]
    assert not joint_map.is_identity
    assert match_joints(["a", "b"], ["a", "b"], partial=True).is_identity
    # Two names of three are no identity: their rows are others.
    assert not match_joints(["a", "b"], ["a", "b", "c"], partial=True).is_identity


def test_derived_joints_of_coco_and_posetrack() -> None:
    sides = [f"{s}_{j}" for j in ("shoulder", "hip") for s in ("left", "right")]
    coco = derivable(["nose", *sides])
    assert coco["head"]["x"] == {"nose": 1}
    assert coco["neck"]["y"] == {"left_shoulder": 0.5, "right_shoulder": 0.5}
    assert set(coco) == {"head", "neck", "belly", "pelvis", "mid_hip", "thorax"}
    assert derivable(["nose", "head_bottom"])["neck"]["x"] == {"head_bottom": 1}
    assert "head" not in derivable(["head"])
    assert np.isclose(sum(coco["belly"]["y"].values()), 1)


# ---- sides, however they are written


SIDES = [
    ["LShoulder", "RShoulder"],
    ["shoulder_left", "shoulder_right"],
    ["left shoulder", "right shoulder"],
    ["l_sho", "r_sho"],
    ["Left Shoulder", "Right Shoulder"],
    ["leftShoulder", "rightShoulder"],
    ["LEFT_SHOULDER", "RIGHT_SHOULDER"],
    ["Shoulder.L", "Shoulder.R"],
    ["leftshoulder", "rightshoulder"],
    ["shoulder-r", "shoulder-l"],
    ["lshoulder", "rshoulder"],
    ["Lshoulder", "Rshoulder"],
    ["shoulderL", "shoulderR"],
    ["LSho", "RSho"],
    ["left__shldr", "right__shldr"],
    ["(L) shoulder", "(R) shoulder"],
]


@pytest.mark.parametrize("pair", SIDES)
def test_mirror_pairs_are_found_however_sides_are_written(pair: list[str]) -> None:
    names = ["nose", *pair]
    ((a, b),) = find_mirror_pairs(names)
    assert {a, b} == set(pair)
    assert canonical_names([a, b]) == ["left_shoulder", "right_shoulder"]
    skeleton = JointSet(names)
    assert skeleton.groups == {"head": ["nose"], "shoulder": pair}
    assert skeleton.sigmas[1:] == [0.079, 0.079] and skeleton.mirror_known
    require_mirror_pairs(names, skeleton.flip_map)


def test_names_that_only_look_sided_are_no_pairs() -> None:
    # No partner, digits, or a word that merely ends in "right".
    for names in (["lip", "rim"], ["L1", "L5", "R2"], ["upright", "bright", "cleft"], ["left"]):
        assert find_mirror_pairs(names) == []
    assert find_mirror_pairs(["lip", "rip"]) == [("lip", "rip")]


def test_several_joints_of_one_part_pair_by_their_other_words() -> None:
    names = ["LBigToe", "RBigToe", "LHeel", "RHeel", "MidHip"]
    assert find_mirror_pairs(names) == [("LBigToe", "RBigToe"), ("LHeel", "RHeel")]
    assert canonical_names(names)[0::4] == ["left_big_toe", "mid_hip"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["nose", "left_paw"], "'left_paw' .no right_paw"),
        (["nose", "left_eye", "right_eye", "RHip"], "'RHip' .no left_hip"),
        (["nose", "left_eye", "right_eye", "hip1", "hip2"], "'hip1', 'hip2'"),
        (["nose", "left_eye", "right_eye", "hip_near", "hip_far"], "'hip_near', 'hip_far'"),
        (["nose", "a", "b"], "'a', 'b' of"),
    ],
)
def test_joints_whose_mirror_image_is_unknown_are_named(names: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=f"mirroring is on.*{words}"):
        require_mirror_pairs(names, find_mirror_pairs(names))


def test_what_may_be_mirrored_without_pairs() -> None:
    require_mirror_pairs(["nose"], [])
    require_mirror_pairs(["nose", "neck", "Head Top"], [])  # the middle of the body
    require_mirror_pairs(["a", "b"], [], declared=True)
    with pytest.raises(ValueError, match="'lw' .no rw"):
        require_mirror_pairs(["lw", "nose"], [], known=[("lw", "rw")], declared=True)
    with pytest.raises(ValueError, match="left_eye"):  # said of no joint that names contradict
        require_mirror_pairs(["left_eye", "nose"], [], declared=True)


def test_pairs_of_a_model_are_the_given_else_the_known_and_the_named() -> None:
    joints = ["head", "lw", "rw", "left_hip", "right_hip"]
    known = [("lw", "rw"), ("left_ear", "right_ear")]
    assert mirror_pairs(joints, known=known) == [("lw", "rw"), ("left_hip", "right_hip")]
    assert mirror_pairs(joints, [["lw", "rw"]], known) == [("lw", "rw")]
    with pytest.raises(ValueError, match=r"FLIP_MAP names \['lo', 'ro'\]"):
        mirror_pairs(joints, [["lo", "ro"]])


def test_what_is_declared_is_told_from_what_is_not_known() -> None:
    assert not JointSet(["a", "b"]).mirror_known
    assert JointSet(["a", "b"], flip_map=[]).mirror_known
    assert JointSet(["a", "b"], flip_map=[("a", "b")]).flip_map == [("a", "b")]


# ---- joints of other spellings and of other skeletons


def test_joints_of_other_spellings_are_carried_over() -> None:
    openpose = ["Nose", "LShoulder", "RShoulder", "LHip", "RHip", "LAnkle", "RAnkle"]
    points = np.array(
        [[4, 1, 2], [2, 5, 2], [6, 5, 2], [3, 9, 2], [5, 9, 2], [2, 20, 1], [6, 20, 0]]
    )
    joint_map = match_joints(openpose, ["right_ankle", "left_shoulder", "belly", "neck"])
    # Belly: y = .35 * 5 + .65 * 9 = 7.6; neck: the middle of the shoulders.
    np.testing.assert_allclose(
        joint_map.apply(points.astype(float)),
        [[6, 20, 0], [2, 5, 2], [4, 7.6, 2], [4, 5, 2]],
    )
    back = match_joints(["left_shoulder", "right_shoulder"], ["RShoulder", "LShoulder"])
    assert back.index == (1, 0)


def test_an_ambiguous_spelling_is_no_match() -> None:
    with pytest.raises(KeyError, match="left_hip"):
        match_joints(["LHip", "hip_left", "nose"], ["left_hip"])


def test_joints_of_jhmdb_from_coco_by_hand() -> None:
    points = np.zeros((17, 3))
    rows = COCO_PERSON.names.index
    for name, x, y in (
        ("nose", 50, 50), ("left_ear", 12, -2), ("right_ear", 10, 4), ("left_shoulder", 14, 10),
        ("right_shoulder", 6, 20), ("left_hip", 12, 40), ("right_hip", 8, 60),
    ):  # fmt: skip
        points[rows(name)] = x, y, 2
    derived = {**JHMDB.derived, **JHMDB.equivalents}
    got = match_joints(COCO_PERSON.names, ["neck", "head", "belly"], derived).apply(points)
    # Middles: ears (11, 1), shoulders (10, 15), hips (10, 50). Neck: .35 and .65 of the former two;
    # belly: .24 and .76 of the latter.
    np.testing.assert_allclose(got, [[10.35, 10.1, 2], [11, 1, 2], [10, 41.6, 2]])
    points[rows("left_ear"), 2] = 0  # seen from one side
    got = match_joints(COCO_PERSON.names, ["neck", "head", "belly"], derived).apply(points)
    assert got[:, 2].tolist() == [0, 0, 2] and got[2, 1] == pytest.approx(41.6)
    match_joints(COCO_PERSON.names, JHMDB.names, derived)  # all fifteen


def test_joints_of_jhmdb_without_ears_are_those_of_the_release() -> None:
    names = [name for name in JHMDB.names if name != "belly"]
    derived = {**JHMDB.derived, **JHMDB.equivalents}
    belly = match_joints(names, ["belly"], derived).derived[0]
    weights = {names[column]: weight for column, weight in belly.y}
    assert weights == {
        "left_shoulder": 0.175, "right_shoulder": 0.175, "left_hip": 0.325, "right_hip": 0.325,
    }  # fmt: skip


def test_skeletons_of_the_field() -> None:
    assert [len(s.names) for s in (COCO_PERSON, MPII, OPENPOSE_18, OPENPOSE_25)] == [17, 16, 18, 25]
    assert COCO_PERSON.names[5:7] == ["left_shoulder", "right_shoulder"]
    # Published with COCO's evaluation.
    assert COCO_PERSON.sigmas == [
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107,
        0.087, 0.087, 0.089, 0.089,
    ]  # fmt: skip
    assert MPII.names[6:10] == ["pelvis", "thorax", "upper_neck", "head_top"]
    assert OPENPOSE_25.names[8] == "mid_hip" and OPENPOSE_25.names[19] == "left_big_toe"
    # OpenPose's neck is the middle of the shoulders, LSP's stands for MPII's upper neck.
    neck = match_joints(COCO_PERSON.names, ["neck"], OPENPOSE_25.equivalents).derived[0]
    assert neck.y == ((5, 0.5), (6, 0.5)) or neck.y == ((6, 0.5), (5, 0.5))
    assert match_joints(MPII.names, LSP.names, MPII.derived).derived[0].x == ((8, 1.0),)
