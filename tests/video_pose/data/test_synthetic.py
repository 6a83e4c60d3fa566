"""The synthetic scene: kinematics, drawing, visibility, and labels that agree with the picture."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from video_pose.data.synthetic import background, figure
from video_pose.data.synthetic.background import OCCLUDER, Background, Occluder
from video_pose.data.synthetic.body import FAMILIES, JOINTS, Body, Posture, pose_body, rotation
from video_pose.data.synthetic.figure import (
    PARTS,
    Layer,
    _cloth,
    _grid,
    _lookup,
    colour,
    draw_appearance,
    draw_capsule,
    draw_figure,
    visible_joints,
)
from video_pose.data.synthetic.scene import (
    _Actor,
    _compose,
    _draw_occluders,
    _draw_person,
    _track,
    mask_box,
    render_scene,
)

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


def test_a_body_beyond_the_picture_leaves_it_as_it_is() -> None:
    layer, look = _layer(), draw_appearance(np.random.default_rng(0))
    for origin in ((-300.0, 15.0), (300.0, 15.0), (20.0, -300.0), (20.0, 300.0)):
        draw_figure(layer, pose_body(Body(), {}), 0, Body(), look, 100.0, np.array(origin))
    assert not (layer.alpha.any() or layer.part.any() or layer.colour.any())


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


# ---- parts of a picture, by hand


def test_the_camera_looks_at_its_part_of_the_canvas() -> None:
    """The canvas is 24 px wider on each side; a way that stands still looks at its middle."""
    view = Background(np.random.default_rng(0), 8, 12, 3)
    assert view.canvas.shape == (8 + 48, 12 + 48, 3) and view.canvas.dtype == np.uint8
    np.testing.assert_array_equal(view.path, np.full((3, 2), 24))
    view.path = np.array([[24.0, 24.0], [3.0, 5.0], [48.0, 48.0]])
    for index, (x, y) in enumerate([(24, 24), (3, 5), (48, 48)]):
        found = view.frame(index)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, view.canvas[y : y + 8, x : x + 12])
    # It pans from one end to the other at an even pace.
    path = Background(np.random.default_rng(2), 8, 12, 3).path
    assert (path[0] != path[2]).all() and (path >= 0).all() and (path <= 48).all()
    np.testing.assert_allclose(path[1], (path[0] + path[2]) / 2)


def test_a_canvas_has_all_values_of_a_picture_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    painted = np.array([[[-5.0, 0.6, 254.9]], [[255.0, 255.4, 300.0]]])
    monkeypatch.setattr(background, "_paint", lambda *_: painted)
    canvas = Background(np.random.default_rng(0), 8, 12, 3).canvas
    assert canvas.tolist() == [[[0, 0, 254]], [[255, 255, 255]]]


@pytest.mark.parametrize(
    ("hue", "saturation", "value", "expected"),
    [
        (0, 1, 1, [0, 0, 255]), (1 / 3, 1, 1, [0, 255, 0]), (2 / 3, 1, 0.5, [127.5, 0, 0]),
        (1, 1, 1, [0, 0, 255]), (-0.1, 2, 3, [153, 0, 255]), (0.3, 0, 0.2, [51, 51, 51]),
    ],
)  # fmt: skip
def test_colours(hue: float, saturation: float, value: float, expected: list[float]) -> None:
    np.testing.assert_allclose(colour(hue, saturation, value), expected, atol=1e-4)


def test_cloth_is_no_brighter_than_white() -> None:
    rng = np.random.default_rng(0)
    bright, dark = (_cloth(rng, np.full(3, value), (24, 8)) for value in (250.0, 0.5))
    assert bright.max() == 255 and 0 < dark.min() < dark.max() < 1
    assert bright.shape == (24, 8, 3) and bright.dtype == np.float32


def test_the_pixels_of_a_rectangle() -> None:
    layer = _layer(6, 5)
    box, xs, ys = _grid(layer, np.array([1.5, 2.0]), np.array([3.5, 3.0]))
    assert box == (slice(2, 3), slice(1, 4))
    assert xs.tolist() == [[1.5, 2.5, 3.5]] and ys.tolist() == [[2.5]]
    box, xs, ys = _grid(layer, np.array([-3.0, -2.0]), np.array([9.0, 9.0]))
    assert box == (slice(0, 5), slice(0, 6)) and xs.size == 6 and ys.size == 5
    for low, high in (
        ((6, 0), (8, 2)), ((0, 5), (2, 7)), ((-4, 0), (0, 2)), ((0, -4), (2, 0)), ((2, 2), (2, 4)),
        ((2, 2), (4, 2)),
    ):  # fmt: skip
        assert _grid(layer, np.array(low, float), np.array(high, float)) is None
    assert _grid(layer, np.array([5.5, 4.5]), np.array([8, 7]))[0] == (slice(4, 5), slice(5, 6))


def test_texels_are_the_nearest_ones() -> None:
    texture = np.arange(4 * 2 * 3).reshape(4, 2, 3)
    u = np.array([0, 0.24, 0.25, 0.99, 1, -0.5, 2])
    v = np.array([0, 0.49, 0.5, 1, -1, 2, 0.2])
    rows, columns = [0, 0, 1, 3, 3, 0, 3], [0, 0, 1, 1, 0, 1, 0]
    np.testing.assert_array_equal(_lookup(texture, u, v), texture[rows, columns])


def test_what_is_put_in_front_covers_by_its_share() -> None:
    layer = _layer(3, 1)
    box = (slice(0, 1), slice(0, 3))
    full = np.ones((1, 3), np.float32)
    layer.blend(box, full, np.full((1, 3, 3), 100.0), 5)
    layer.blend(box, np.array([[0.25, 0.5, 0.75]]), np.full((1, 3, 3), 20.0), 6)
    assert layer.colour[0, :, 1].tolist() == [80, 60, 40] and layer.alpha.tolist() == [[1, 1, 1]]
    assert layer.part.tolist() == [[5, 5, 6]]  # of more than half
    layer = _layer(1, 1)
    for _ in range(2):
        layer.blend((slice(0, 1), slice(0, 1)), np.array([[0.5]]), np.full((1, 1, 3), 8.0), 1)
    assert layer.alpha.tolist() == [[0.75]] and layer.colour.tolist() == [[[6, 6, 6]]]


def _still(depth: float = 1.0, **behind: float) -> Posture:
    """All joints at depth 0 but those given; nothing turned."""
    points = {name: np.zeros((1, 3)) for name in pose_body(Body(), {}).points}
    for name, z in behind.items():
        points[name][0, 2] = z
    return Posture(points, np.eye(3)[None], np.eye(3)[None])


def _seen(part: str, posture: Posture, *at: tuple[float, float]) -> set[str]:
    """Joints that are visible in a picture of 4 x 3 px full of one part, at one place or more."""
    layer = _layer(4, 3)
    layer.part[:] = PARTS[part]
    seen: set[str] = set()
    for point in at or ((1.5, 1.5),):
        found = visible_joints(layer, posture, 0, np.tile(point, (len(JOINTS), 1)))
        seen |= {name for name, flag in zip(JOINTS, found) if flag}
    return seen


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("head", {"head", "neck"}), ("neck", {"neck"}),
        ("torso", {"neck", "belly", *(f"{s}_{j}" for s in ("left", "right") for j in
                                      ("shoulder", "hip"))}),
        ("left_upper_arm", {"left_shoulder", "left_elbow"}),
        ("left_forearm", {"left_elbow", "left_wrist"}), ("right_hand", {"right_wrist"}),
        ("right_thigh", {"right_hip", "right_knee"}), ("right_shin", {"right_knee", "right_ankle"}),
        ("left_foot", {"left_ankle"}),
    ],
)  # fmt: skip
def test_which_joints_a_part_shows(part: str, names: set[str]) -> None:
    assert _seen(part, _still()) == names


def test_a_shoulder_far_behind_the_trunk_does_not_show_through_it() -> None:
    # The trunk's middle is the mean of four corners: .0175 (.015) where one is .07 (.06) behind,
    # which is .0525 (.045) behind the middle.
    assert "left_shoulder" not in _seen("torso", _still(left_shoulder=0.07))
    assert "left_hip" not in _seen("torso", _still(left_hip=0.07))
    assert {"left_shoulder", "right_hip"} <= _seen("torso", _still(left_shoulder=0.06))


def test_joints_beyond_the_picture_are_not_seen() -> None:
    inside, outside = [(0, 0), (3.9, 2.9)], [(-0.1, 1), (1, -0.1), (4, 1), (1, 3)]
    assert _seen("neck", _still(), *inside) == {"neck"} and not _seen("neck", _still(), *outside)


def _actor(depth: float, scale: float = 1.0) -> _Actor:
    """All 15 joints at (2.5, 1.5) at each of nine times; depth tells who is in front."""
    points = {name: np.zeros((9, 3)) for name in pose_body(Body(), {}).points}
    posture = Posture(points, np.tile(np.eye(3), (9, 1, 1)), np.tile(np.eye(3), (9, 1, 1)))
    origin = np.tile([2.5, 1.5], (9, 1))
    look = draw_appearance(np.random.default_rng(0))
    return _Actor("walk", Body(), look, posture, np.full(9, scale), origin, depth)


def _full(part: str, alpha: float, colour: float) -> Layer:
    layer = _layer(4, 3)
    layer.part[1:] = PARTS[part]
    layer.alpha[1:] = alpha
    layer.colour[1:] = colour * alpha
    return layer


@pytest.mark.parametrize("first", [True, False])
def test_who_is_in_front_of_whom(first: bool) -> None:
    """The larger person is nearer and covers the other, whichever comes first in the list."""
    near, far = (_actor(2.0), _full("neck", 0.5, 80)), (_actor(1.0), _full("neck", 1.0, 40))
    people = [near, far] if first else [far, near]
    picture = np.full((3, 4, 3), 10, np.float32)
    actors, layers = zip(*people)
    found, labels = _compose(picture, list(actors), list(layers), [], 1, 3)
    # .5 x (the far one's 40) + .5 x 80.
    assert found[:, 0, 0].tolist() == [10, 60, 60]
    for is_near, (flat, visible, covered, mask) in zip((first, not first), labels):
        assert flat.tolist() == [[2.5, 1.5]] * 15
        assert visible.tolist() == [is_near and name == "neck" for name in JOINTS]
        assert covered.tolist() == [not is_near] * 15
        assert mask.tolist() == [[False] * 4, [True] * 4, [True] * 4]


def test_an_occluder_hides_every_joint_behind_it() -> None:
    texture = np.full((2, 2, 3), 200, np.float32)
    thing = Occluder(np.array([[90.0, 9], [2.5, 1.5]]), np.zeros(2), 1.5, texture)
    for n, hidden in ((0, False), (1, True)):
        picture = np.zeros((3, 4, 3), np.float32)
        actors, layers = [_actor(1.0)], [_full("neck", 1.0, 40)]
        found, ((_, visible, covered, mask),) = _compose(picture, actors, layers, [thing], n, 3)
        assert covered.tolist() == [hidden] * 15 and visible.any() != hidden
        assert mask.sum() == 8  # its own shape, whatever is in front of it
        assert (found[1, 2, 0] > 100) == hidden and OCCLUDER not in layers[0].part
    # Beyond the picture nothing is covered; at an empty pixel neither.
    empty = _layer(4, 3)
    _, ((_, visible, covered, mask),) = _compose(picture, [_actor(1.0)], [empty], [], 0, 3)
    assert not (visible.any() or covered.any() or mask.any())


def test_what_moves_by_more_than_a_pixel_is_blurred() -> None:
    """Three moments are averaged; the parts are those of the labelled one, the first."""
    for step, blurred in ((0.5, False), (0.51, True)):
        actor = _actor(1.0, 30.0)
        # The last two of a frame's moments are -step and +step away: 1 px apart is sharp.
        for moment, shift in ((3, 0.0), (4, -step), (5, step)):
            actor.origin[moment, 0] = 20 + shift
        layer = _draw_person(actor, 1, (40, 30))
        reference = _draw_person(_moved(actor, 3), 1, (40, 30))
        np.testing.assert_array_equal(layer.part, reference.part)
        assert np.array_equal(layer.alpha, reference.alpha) != blurred
        if blurred:
            parts = [_draw_person(_moved(actor, i), 1, (40, 30)) for i in (3, 4, 5)]
            for key in ("alpha", "colour"):
                mean = np.mean([getattr(part, key) for part in parts], axis=0)
                np.testing.assert_allclose(getattr(layer, key), mean, atol=1e-4)


def _moved(actor: _Actor, moment: int) -> _Actor:
    """The same person who stands where the other is at a moment."""
    found = _actor(actor.depth, float(actor.scale[0]))
    found.origin[:] = actor.origin[moment]
    return found


@pytest.mark.parametrize(("light", "value"), [(1000.0, 255), (-1000.0, 0)])
def test_pictures_keep_within_their_range(
    monkeypatch: pytest.MonkeyPatch, light: float, value: int
) -> None:
    """What is too bright is white, what is too dark is black, and neither turns into the other."""
    monkeypatch.setattr(Background, "frame", lambda *_: np.full((72, 96, 3), light, np.float32))
    frames = render_scene(0, occluders="none", **SMALL).frames
    assert (frames == value).mean() > 0.8 and (frames[:, 0, 0] == value).all()


def test_labels_of_a_person_over_time() -> None:
    joints = np.full((15, 2), 1.0)
    joints[:6] = (0, 0), (3.9, 2.9), (-0.1, 1), (1, -0.1), (4, 1), (1, 3)
    mask = np.zeros((3, 4), bool)
    mask[1:, 2:] = True
    visible, covered = np.arange(15) % 2 == 0, np.arange(15) % 2 == 1
    rows = [(joints, visible, covered, mask), (joints, covered, visible, ~mask)]
    track = _track(_actor(1.0), rows, (4, 3))
    inside = [True, True, False, False, False, False, *[True] * 9]
    assert track.inside.tolist() == [inside] * 2 and track.joints.tolist() == [joints.tolist()] * 2
    assert track.visible.tolist() == [visible.tolist(), covered.tolist()]
    assert track.covered.tolist() == [covered.tolist(), visible.tolist()]
    assert track.boxes.tolist() == [[2.5, 1.5, 3.5, 2.5], [0.5, 0.5, 3.5, 2.5]]
    assert track.masks.sum() == 12 and track.action == "walk"
    # Of three moments a frame the first is the labelled one.
    actor = dataclasses.replace(_actor(1.0), scale=np.arange(6.0))
    assert _track(actor, rows, (4, 3)).scale.tolist() == [0, 3]
    assert actor.flat(2).tolist() == [[2.5, 1.5]] * 15
    actor.posture.points["neck"][4, :2] = 2, 3
    assert actor.flat(4)[JOINTS.index("neck")].tolist() == [10.5, 13.5]


@pytest.mark.parametrize(
    ("kind", "counts"),
    [("none", {0}), ("light", {0, 1}), ("heavy", {2, 3, 4}), ("blocking", {2})],
)
def test_how_many_occluders_pass(kind: str, counts: set[int]) -> None:
    found = [
        len(_draw_occluders(np.random.default_rng(seed), _actor(1.0, 30.0), 3, kind))
        for seed in range(40)
    ]
    assert set(found) == counts
    if kind == "light":  # a quarter of the videos
        assert 4 <= sum(found) <= 16


def test_scenes_know_what_was_done() -> None:
    bust = render_scene(0, framing="bust", **SMALL).people[0]
    assert bust.action == "sign"
    people = render_scene(0, people=2, action="run", **SMALL).people
    assert [person.action for person in people] == ["run", "run"]
    assert render_scene(0, **SMALL).people[0].action in FAMILIES
    crowd = render_scene(0, people=6, frames=1, size=(96, 72)).people
    assert {person.action for person in crowd} <= {"walk", "run", "wave", "dance"}
    # The scale of a frame is that of its labelled moment; a person grows or shrinks evenly.
    assert people[0].scale.shape == (3,)
    steps = np.diff(people[0].scale)
    np.testing.assert_allclose(steps[0], steps[1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"people": 0}, "people=0 and frames=24 must both be at least 1"),
        ({"frames": 0}, "people=1 and frames=0 must both be at least 1"),
        ({"framing": "wide"}, "framing='wide' is not one of ['whole', 'cut', 'bust']"),
        ({"occluders": "x"}, "occluders='x' is not one of ['none', 'light', 'heavy', 'blocking']"),
        ({"action": "x"}, f"action='x' is not one of {list(FAMILIES)}"),
    ],
)
def test_messages_of_scenes(changes: dict, words: str) -> None:
    with pytest.raises(ValueError) as error:
        render_scene(0, **changes)
    assert str(error.value) == words


def test_a_body_without_angles_stands_upright() -> None:
    """In body heights; the root is between the hips, y points down, z to the back."""
    body = Body()
    points = pose_body(body, {}).points
    expected = {
        "belly": (0, -0.35 * 0.29, 0), "neck": (0, -0.299, 0),
        "head": (0, -0.299 - 0.021 - 0.084, 0),
        "right_shoulder": (-0.115, -0.97 * 0.29, 0), "left_hip": (0.062, 0, 0),
        "left_wrist": (0.115, -0.2813 + 0.32, 0), "left_hand": (0.115, -0.2813 + 0.355, 0),
        "right_ankle": (-0.062, 0.475, 0), "right_toe": (-0.062, 0.475 + 0.02625, -0.0705),
    }  # fmt: skip
    for name, point in expected.items():
        np.testing.assert_allclose(points[name], [point], atol=1e-9, err_msg=name)
    moved = pose_body(body, {"root_x": np.array([0.5, 1]), "root_y": 0.25}).points
    np.testing.assert_allclose(moved["left_hip"], [[0.562, 0.25, 0], [1.062, 0.25, 0]])


def test_a_drawn_body_is_near_the_mean() -> None:
    mean = vars(Body())
    for seed in range(20):
        for name, value in vars(Body.draw(np.random.default_rng(seed))).items():
            low, high = (0.85, 1.25) if name == "thickness" else (0.92, 1.08)
            assert low * mean[name] <= value <= high * mean[name]


def _drawn(
    monkeypatch: pytest.MonkeyPatch, posture: Posture, scale: float, thickness: float = 1.0
) -> dict[str, tuple]:
    """What `draw_figure` draws, the farthest first: part -> arguments beside layer and look."""
    drawn: dict[str, tuple] = {}
    names = {number: name for name, number in PARTS.items()}

    def capsule(layer: Layer, a: np.ndarray, b: np.ndarray, radii: tuple, texture: Any, part: int):
        drawn[names[part]] = (a.tolist(), b.tolist(), radii)
        assert texture is look.limbs[names[part]]

    monkeypatch.setattr(figure, "draw_capsule", capsule)
    monkeypatch.setattr(
        figure, "_draw_torso",
        lambda layer, flat, frame, thick, look: drawn.update(torso=(frame.tolist(), thick)),
    )  # fmt: skip
    monkeypatch.setattr(
        figure, "_draw_head",
        lambda layer, centre, frame, radius, look: drawn.update(head=(centre.tolist(), radius)),
    )  # fmt: skip
    look = draw_appearance(np.random.default_rng(0))
    body = Body(thickness=thickness)
    draw_figure(_layer(), posture, 0, body, look, scale, np.array([10.0, 20.0]))
    return drawn


def test_far_parts_are_drawn_first_and_hands_and_feet_before_their_limbs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limbs = ("upper_arm", "forearm", "thigh", "shin")
    alike = [f"{side}_{limb}" for side in ("right", "left") for limb in limbs]
    ends = ["right_hand", "right_foot", "left_hand", "left_foot"]
    order = [*alike, "torso", "neck", "head", *ends]
    assert list(_drawn(monkeypatch, _still(), 100.0)) == order
    # A hand .019 behind the head is drawn after it, one .021 behind it before it.
    for z, is_after in ((0.019, True), (0.021, False)):
        found = list(_drawn(monkeypatch, _still(left_wrist=z, left_hand=z), 100.0))
        assert (found.index("left_hand") > found.index("head")) == is_after
    # A limb is as far as the mean of its ends; the trunk as that of its four corners.
    found = list(_drawn(monkeypatch, _still(right_knee=0.3, left_hip=0.4, head=-0.3), 100.0))
    assert found[:4] == ["left_thigh", "right_thigh", "right_shin", "torso"]
    assert found[-1] == "head"
    found = list(_drawn(monkeypatch, _still(neck=0.1, right_shoulder=-0.8), 100.0))
    assert found[0] == "neck" and found[-2:] == ["torso", "right_upper_arm"]


def test_sizes_of_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """In body heights times the thickness; no limb is thinner than .8 px."""
    posture = _still()
    posture.points["left_knee"][0] = 0.5, 1.0, 0
    drawn = _drawn(monkeypatch, posture, 100.0, 2.0)
    assert drawn["left_thigh"] == ([10, 20], [60, 120], pytest.approx((10.0, 7.2)))
    assert drawn["left_shin"] == ([60, 120], [10, 20], pytest.approx((7.0, 4.6)))
    radii = {
        "upper_arm": (6.8, 5.4), "forearm": (5.4, 4.0), "hand": (4.4, 4.0), "thigh": (10.0, 7.2),
        "shin": (7.0, 4.6), "foot": (5.2, 4.0),
    }  # fmt: skip
    for limb, expected in radii.items():
        assert drawn[f"right_{limb}"] == ([10, 20], [10, 20], pytest.approx(expected))
    assert drawn["neck"] == ([10, 20], [10, 20], pytest.approx((6.0, 6.0)))
    assert drawn["torso"] == (np.eye(3).tolist(), 200.0)
    assert drawn["head"] == ([10, 20], pytest.approx(10.5))
    small = _drawn(monkeypatch, _still(), 20.0)
    assert small["right_thigh"][2] == pytest.approx((1.0, 0.8))
    assert small["right_shin"][2] == pytest.approx((0.8, 0.8))
