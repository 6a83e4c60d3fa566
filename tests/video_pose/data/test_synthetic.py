"""The synthetic scene: kinematics, drawing, visibility, and labels that agree with the picture."""

from __future__ import annotations

import numpy as np
import pytest

from video_pose.data.synthetic.background import Occluder
from video_pose.data.synthetic.body import FAMILIES, JOINTS, Body, pose_body, rotation
from video_pose.data.synthetic.figure import (
    PARTS,
    Layer,
    draw_appearance,
    draw_capsule,
    draw_figure,
    visible_joints,
)
from video_pose.data.synthetic.scene import mask_box, render_scene

SMALL = {"size": (96, 72), "frames": 3}


def _point(name: str, **angles: float) -> np.ndarray:
    return pose_body(Body(), {k: np.array([v]) for k, v in angles.items()}).points[name][0]


def test_rotation_turns_x_to_y_about_z() -> None:
    turned = rotation("z", np.array([90.0])) @ np.array([1.0, 0.0, 0.0])
    np.testing.assert_allclose(turned, [[0, 1, 0]], atol=1e-12)


def test_a_person_who_faces_the_camera_has_the_left_side_on_the_right_of_the_image() -> None:
    body = Body()
    assert _point("left_shoulder", yaw=0)[0] == pytest.approx(body.shoulder)
    assert _point("left_shoulder", yaw=180)[0] == pytest.approx(-body.shoulder)
    # Facing the image's left (yaw 90), the left side is the near one.
    assert _point("left_shoulder", yaw=90)[2] == pytest.approx(-body.shoulder)


def test_limbs_bend_the_way_that_limbs_do() -> None:
    body = Body()
    shoulder, hip = _point("right_shoulder"), _point("right_hip")
    raised = _point("right_wrist", right_arm_out=90)
    # Straight out to the person's right: the image's left, at the shoulder's height.
    reach = body.upper_arm + body.forearm
    np.testing.assert_allclose(raised - shoulder, [-reach, 0, 0], atol=1e-9)
    bent = _point("right_wrist", right_elbow=90)
    np.testing.assert_allclose(bent - shoulder, [0, body.upper_arm, -body.forearm], atol=1e-9)
    kneeling = _point("right_ankle", right_knee=90)
    np.testing.assert_allclose(kneeling - hip, [0, body.thigh, body.shin], atol=1e-9)
    # Bent forward by 90 degrees the neck is before the hips, towards the camera.
    assert _point("neck", bend=90)[2] == pytest.approx(-(body.spine + 0.3 * body.neck))
    # A raised arm that goes out leaves the midline.
    assert _point("right_wrist", right_arm_flex=170, right_arm_out=20)[0] < shoulder[0]


def test_roll_turns_the_whole_body_clockwise() -> None:
    x, y, _ = _point("head", roll=90)
    assert x > 0.3 and abs(y) < 1e-9


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_family_is_smooth_in_time_and_depends_on_its_seed(name: str) -> None:
    times = np.arange(0, 1, 0.01)
    angles = FAMILIES[name](np.random.default_rng(0), times)
    again = FAMILIES[name](np.random.default_rng(1), times)
    for value in angles.values():
        # No joint turns faster than 20 degrees in 10 ms.
        assert np.abs(np.diff(np.broadcast_to(value, times.shape))).max() < 20
    assert any(not np.array_equal(angles[key], again[key]) for key in angles)


def _layer(width: int = 40, height: int = 30) -> Layer:
    return Layer.empty(height, width)


def test_capsule_has_the_area_and_extent_of_a_bar_with_round_ends() -> None:
    layer, texture = _layer(), np.full((4, 4, 3), 200, np.float32)
    draw_capsule(layer, np.array([10.0, 15.0]), np.array([30.0, 15.0]), (5.0, 5.0), texture, 7)
    # 20 x 10 and a disc of radius 5.
    assert layer.alpha.sum() == pytest.approx(200 + np.pi * 25, rel=0.01)
    # Continuous 5 to 35 and 10 to 20 are the pixels 5..34 and 10..19, whose centres are at + 0.5.
    np.testing.assert_array_equal(mask_box(layer.part == 7), [5.5, 10.5, 34.5, 19.5])
    assert layer.colour[15, 20, 0] == pytest.approx(200, rel=0.05)


def test_capsule_outside_the_picture_or_without_length_is_no_error() -> None:
    layer, texture = _layer(), np.full((4, 4, 3), 200, np.float32)
    draw_capsule(layer, np.array([-50.0, -50.0]), np.array([-40.0, -50.0]), (5, 5), texture, 1)
    assert not layer.alpha.any()
    draw_capsule(layer, np.array([20.0, 15.0]), np.array([20.0, 15.0]), (5.0, 5.0), texture, 1)
    assert layer.alpha.sum() == pytest.approx(np.pi * 25, rel=0.02)


def test_mask_box_of_an_empty_mask_is_zero() -> None:
    np.testing.assert_array_equal(mask_box(np.zeros((4, 4), bool)), np.zeros(4))


def _draw(**angles: float) -> tuple[dict[str, bool], Layer, np.ndarray]:
    body, look = Body(), draw_appearance(np.random.default_rng(0))
    posture = pose_body(body, {k: np.array([v]) for k, v in angles.items()})
    layer = _layer(200, 240)
    origin = np.array([100.0, 120.0])
    draw_figure(layer, posture, 0, body, look, 200.0, origin)
    flat = np.stack([posture.points[name][0, :2] for name in JOINTS]) * 200 + origin
    visible = visible_joints(layer, posture, 0, flat)
    return dict(zip(JOINTS, visible)), layer, flat


def test_every_joint_of_a_front_view_with_spread_limbs_is_visible() -> None:
    spread = {f"{s}_{limb}_out": 30.0 for s in ("left", "right") for limb in ("arm", "leg")}
    visible, layer, flat = _draw(yaw=0, **spread)
    assert all(visible.values()), visible
    assert layer.part[tuple(flat[JOINTS.index("head")].astype(int)[::-1])] == PARTS["head"]


def test_the_far_arm_is_hidden_in_a_side_view() -> None:
    # Yaw 90 shows the person's left side.
    visible, _, _ = _draw(yaw=90)
    assert visible["left_elbow"] and not visible["right_elbow"]
    visible, _, _ = _draw(yaw=-90)
    assert visible["right_elbow"] and not visible["left_elbow"]


def test_a_hand_before_the_chest_is_hidden_from_behind() -> None:
    arm = {"right_elbow": 100.0, "right_arm_twist": 70.0, "right_arm_flex": 25.0}
    assert _draw(yaw=0, **arm)[0]["right_wrist"]
    assert not _draw(yaw=180, **arm)[0]["right_wrist"]


def test_the_face_is_on_the_front_of_the_head_only() -> None:
    def dark_share(yaw: float) -> float:
        _, layer, _ = _draw(yaw=yaw)
        head = layer.part == PARTS["head"]
        return float(np.unique(layer.colour[head].round(), axis=0).shape[0])

    # Eyes, nose and mouth bring more colours than a shaded head of hair.
    assert dark_share(0) > dark_share(180)


def test_the_same_seed_gives_the_same_scene_and_another_one_does_not() -> None:
    first, second = (render_scene((3, 4), **SMALL) for _ in range(2))
    np.testing.assert_array_equal(first.frames, second.frames)
    np.testing.assert_array_equal(first.people[0].joints, second.people[0].joints)
    assert not np.array_equal(first.frames, render_scene((3, 5), **SMALL).frames)


def test_labels_agree_with_each_other() -> None:
    for seed in range(6):
        person = render_scene(seed, **SMALL).people[0]
        assert person.joints.shape == (3, 15, 2) and person.masks.shape == (3, 72, 96)
        assert person.inside.all() and not (person.visible & ~person.inside).any()
        for mask, box, joints in zip(person.masks, person.boxes, person.joints):
            np.testing.assert_array_equal(box, mask_box(mask))
            # Joints lie within the flesh: each within 2 px of the silhouette's box.
            assert (joints > box[:2] - 2).all() and (joints < box[2:] + 2).all()
        rows, columns = np.floor(person.joints[0]).astype(int)[:, ::-1].T
        assert person.masks[0][rows, columns][person.visible[0]].all()


def test_a_cut_figure_leaves_the_frame_in_part() -> None:
    people = [render_scene(seed, framing="cut", **SMALL).people[0] for seed in range(8)]
    outside = [float((~person.inside).mean()) for person in people]
    assert max(outside) > 0.05 and max(outside) < 1
    for person in people:
        assert not person.visible[~person.inside].any()


def test_a_persons_right_is_warm_and_left_is_cool() -> None:
    votes = []
    for seed in range(12):
        scene = render_scene(seed, action="jumping_jacks", occluders="none", frames=3)
        person = scene.people[0]
        for side, sign in (("right", 1), ("left", -1)):
            ends = [JOINTS.index(f"{side}_{joint}") for joint in ("shoulder", "elbow")]
            if person.visible[0, ends].all():
                x, y = person.joints[0, ends].mean(axis=0).astype(int)
                blue, _, red = scene.frames[0, y - 1 : y + 2, x - 1 : x + 2].mean(axis=(0, 1))
                votes.append(sign * (red - blue) > 0)
    assert len(votes) > 12 and np.mean(votes) > 0.95


def test_heavy_occluders_change_visibility_and_nothing_else() -> None:
    runs = []
    for seed in range(4):
        plain = render_scene(seed, occluders="none", size=(160, 120)).people[0]
        heavy = render_scene(seed, occluders="heavy", size=(160, 120)).people[0]
        np.testing.assert_array_equal(plain.joints, heavy.joints)
        np.testing.assert_array_equal(plain.masks, heavy.masks)
        assert not (heavy.visible & ~plain.visible).any()
        lost = plain.visible & ~heavy.visible
        runs += [_longest_run(lost[:, k]) for k in range(len(JOINTS))]
    # Several limbs are out of sight for longer than a five-frame clip could bridge at its ends.
    assert np.sum(np.array(runs) >= 4) >= 6


def test_blocking_occluders_hide_the_whole_person_between_frames_that_show_it() -> None:
    for seed in range(6):
        plain, blocked = (
            render_scene(seed, frames=20, occluders=kind, size=(160, 120)).people[0]
            for kind in ("none", "blocking")
        )
        np.testing.assert_array_equal(plain.joints, blocked.joints)
        np.testing.assert_array_equal(plain.masks, blocked.masks)
        assert not plain.covered.any() and not (blocked.covered & blocked.visible).any()
        assert 3 <= _longest_run(blocked.covered.all(axis=1)) <= 10
        assert (blocked.covered.mean(axis=1) < 0.4).sum() >= 4


def _longest_run(flags: np.ndarray) -> int:
    best = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        best = max(best, run)
    return best


def test_an_occluder_covers_what_it_says() -> None:
    layer = _layer()
    texture = np.full((2, 2, 3), 9, np.float32)
    Occluder(np.array([[20.0, 15.0]]), np.zeros(2), 4.0, texture).draw(layer, 0)
    assert layer.alpha[15, 20] == 1 and layer.alpha[15, 26] == 0


def test_people_who_cross_hide_each_other() -> None:
    scene = render_scene(1, people=3, frames=9, size=(160, 120), occluders="none")
    assert len(scene.people) == 3
    overlap = (np.sum([person.masks for person in scene.people], axis=0) > 1).any(axis=(1, 2))
    assert overlap.any()
    # At a pixel, at most one of them is in front.
    for n in np.flatnonzero(overlap):
        owners: dict[tuple[int, ...], int] = {}
        for i, person in enumerate(scene.people):
            for point in np.floor(person.joints[n][person.visible[n]]).astype(int):
                assert owners.setdefault(tuple(point), i) == i
    hidden = [int((~person.visible).sum()) for person in scene.people]
    assert max(hidden) > 0


def test_unknown_choices_name_the_choice_and_what_exists() -> None:
    with pytest.raises(ValueError, match="action='fly'.*walk"):
        render_scene(0, action="fly")
    with pytest.raises(ValueError, match="occluders='some'.*heavy"):
        render_scene(0, occluders="some")
    with pytest.raises(ValueError, match="framing='wide'.*bust"):
        render_scene(0, framing="wide")
    with pytest.raises(ValueError, match="people=0"):
        render_scene(0, people=0)


def test_a_constant_pose_in_the_box_is_a_poor_guess() -> None:
    """The median pose, relative to the box: below 60 PCK by box at .2, or the data are too easy."""
    names = sorted(FAMILIES)

    def relative(seed: int) -> tuple[np.ndarray, np.ndarray]:
        action = names[seed % len(names)]
        person = render_scene(seed, action=action, occluders="none", **SMALL).people[0]
        size = (person.boxes[:, 2:] - person.boxes[:, :2])[:, None]
        return (person.joints - person.boxes[:, None, :2]) / size, size

    median = np.median(np.concatenate([relative(s)[0] for s in range(60)]), axis=0)
    hits = []
    for seed in range(60, 120):
        points, size = relative(seed)
        error = np.linalg.norm((points - median) * size, axis=2)
        hits.append(error <= 0.2 * size.max(axis=2))
    assert 0.35 < np.mean(hits) < 0.6
