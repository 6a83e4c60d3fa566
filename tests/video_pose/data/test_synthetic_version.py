"""What ``plan.VERSION`` promises: the same arguments mean the same people, pictures and labels.

A folder that an earlier version wrote counts as complete, and figures in the docs were measured on
such folders. Whoever changes one of these numbers raises VERSION, and measures anew.
"""

from __future__ import annotations

import numpy as np
import pytest

from video_pose.data.synthetic import background, scene
from video_pose.data.synthetic.background import (
    Background,
    Occluder,
    blocking_occluders,
    passing_occluders,
)
from video_pose.data.synthetic.body import FAMILIES, Body, pose_body, sign
from video_pose.data.synthetic.dataset import SyntheticOptions
from video_pose.data.synthetic.figure import (
    Appearance,
    Layer,
    _draw_head,
    _draw_torso,
    draw_appearance,
    draw_capsule,
)
from video_pose.data.synthetic.plan import VERSION, plan_videos
from video_pose.data.synthetic.scene import render_scene


def _number(*arrays: np.ndarray) -> float:
    """A mean in which every place has its own weight, 1 to 3: what moves changes it, too."""
    values = np.concatenate([np.ravel(array).astype(np.float64) for array in arrays])
    return float((values * (2 + np.sin(np.arange(values.size)))).mean())


def test_the_numbers_below_are_of_this_version() -> None:
    assert VERSION == 3


MOTIONS = {
    "sign": (0.078288, 0.145725, 0.099478, 0.082248),
    "walk": (0.026616, 0.03399, 0.124926, 0.151383),
    "cartwheel": (0.026546, 0.037989, -0.121783, -0.055524),
    "jump": (-0.072802, -0.079192, -0.056246, -0.05012),
    "dance": (-0.069637, -0.052808, -0.026715, 0.05701),
    "kick_ball": (0.024162, 0.021129, 0.064442, 0.111955),
    "lie": (-0.010974, 0.01335, -0.06526, 0.037545),
    "pick": (0.045841, -0.035537, 0.098611, -0.000382),
    "handstand": (0.059797, -0.006082, 0.059365, -0.014113),
    "wave": (0.060732, -0.030418, 0.083046, 0.000453),
    "situp": (0.019271, 0.063818, 0.035824, 0.018888),
    "throw": (-0.006034, -0.008577, 0.056831, 0.091761),
    "climb": (-0.04912, -0.106431, -0.045176, -0.004708),
    "jumping_jacks": (0.101697, 0.11155, 0.109949, 0.11873),
    "sit": (-0.018321, -0.038559, -0.008447, -0.01352),
    "run": (-0.014012, -0.01587, 0.056605, 0.100997),
}


@pytest.mark.parametrize("name", MOTIONS)
def test_motions(name: str) -> None:
    found = []
    for seed in range(4):
        angles = {**FAMILIES, "sign": sign}[name](np.random.default_rng(seed), np.linspace(0, 1, 5))
        posture = pose_body(Body.draw(np.random.default_rng(seed)), angles)
        points = [posture.points[key] for key in sorted(posture.points)]
        found.append(_number(*points, posture.torso, posture.head))
    assert found == pytest.approx(MOTIONS[name], abs=2e-6)


CLOTHES = (
    170.71138,
    199.07654,
    220.53356,
    269.08952,
    237.38121,
    208.56251,
    229.60661,
    202.23897,
    174.76929,
    202.29885,
    288.09056,
    211.41127,
)


def test_clothes() -> None:
    found = []
    for seed in range(12):
        look = draw_appearance(np.random.default_rng(seed))
        found.append(_number(*look.limbs.values(), look.torso, look.skin, look.hair))
    assert found == pytest.approx(CLOTHES, abs=1e-4)


def test_backgrounds() -> None:
    # OpenCV's builds round a few pixels differently.
    found = [
        _number(Background(np.random.default_rng(seed), 72, 96, 3).frame(1)) for seed in range(12)
    ]
    assert found == pytest.approx(
        [
            152.09,
            234.31,
            236.36,
            282.09,
            277.61,
            166.17,
            272.18,
            263.34,
            195.02,
            215.04,
            216.9,
            243.31,
        ],
        abs=0.1,
    )


# Arguments of a scene -> the numbers of its pictures, joints and boxes; how many joints are
# visible and covered; the silhouettes' pixels.
SCENES = [
    (0, {}, (155.44, 89.015, 87.98, 19, 10, 1167)),
    (1, {}, (251.39, 67.378, 71.29, 34, 0, 1697)),
    (2, {}, (225.9, 85.573, 88.85, 43, 0, 1392)),
    (3, {}, (272.74, 75.068, 75.54, 37, 0, 2100)),
    (4, {"occluders": "heavy", "frames": 9}, (245.13, 91.986, 92.5, 67, 68, 5662)),
    (5, {"occluders": "blocking", "frames": 12}, (208.94, 91.466, 93.75, 38, 142, 4681)),
    (6, {"occluders": "none", "framing": "cut"}, (261.35, 57.776, 64.44, 26, 0, 1215)),
    (7, {"framing": "cut"}, (246.24, 113.633, 109.56, 35, 0, 2653)),
    (8, {"framing": "bust", "occluders": "heavy"}, (173.26, 118.558, 110.1, 24, 8, 2971)),
    (9, {"framing": "bust"}, (178.28, 114.928, 105.07, 30, 0, 2711)),
    (10, {"people": 3}, (220.51, 91.011, 92.67, 79, 46, 2601)),
    (11, {"people": 2, "occluders": "light"}, (275.44, 81.97, 83.33, 61, 7, 1901)),
    (12, {"people": 2, "action": "run", "frames": 5}, (224.44, 89.507, 92.67, 119, 3, 2950)),
    (13, {"action": "handstand"}, (283.11, 105.082, 103.82, 37, 0, 815)),
    (14, {"action": "situp", "size": (160, 120)}, (188.79, 127.043, 135.09, 30, 0, 5470)),
]


@pytest.mark.parametrize("seed, arguments, expected", SCENES)
def test_scenes(seed: int, arguments: dict, expected: tuple) -> None:
    scene = render_scene(seed, **{"size": (96, 72), "frames": 3, **arguments})
    people = scene.people
    pictures, joints, boxes, visible, covered, pixels = expected
    assert _number(scene.frames) == pytest.approx(pictures, abs=0.1)
    assert _number(*(p.joints for p in people)) == pytest.approx(joints, abs=2e-3)
    assert _number(*(p.boxes for p in people)) == pytest.approx(boxes, abs=0.1)
    assert sum(int(p.visible.sum()) for p in people) == pytest.approx(visible, abs=1)
    assert sum(int(p.covered.sum()) for p in people) == pytest.approx(covered, abs=1)
    assert sum(int(p.masks.sum()) for p in people) == pytest.approx(pixels, rel=0.01)


def test_plans() -> None:
    plans = plan_videos(
        {"train": 3, "val": 1, "test": 2}, frames=(5, 9), size=(96, 72), seed=4, occluders="light"
    )
    assert [(p.index, p.part, p.action, p.frames, p.seed) for p in plans] == [
        (0, "train", "jump", 5, (4, 0)),
        (1, "train", "dance", 5, (4, 1)),
        (2, "train", "kick_ball", 6, (4, 2)),
        (3, "val", "jumping_jacks", 9, (4, 3)),
        (4, "test", "climb", 8, (4, 4)),
        (5, "test", "jumping_jacks", 6, (4, 5)),
    ]


def test_what_is_made_where_nothing_is_said() -> None:
    """Commands in the docs name a format and counts alone."""
    assert SyntheticOptions("jhmdb", 3, 1) == SyntheticOptions(
        "jhmdb", 3, 1, frames=(16, 32), size=(320, 240), seed=0, occluders="light",
        frames_as="png", people=1,
    )  # fmt: skip
    assert render_scene(0, frames=1).frames.shape == (1, 240, 320, 3)
    assert render_scene(0, size=(64, 64)).frames.shape == (24, 64, 64, 3)
    whole = render_scene(0, frames=2, size=(96, 72), people=1, occluders="light", framing="whole")
    np.testing.assert_array_equal(render_scene(0, frames=2, size=(96, 72)).frames, whole.frames)


# ---- the parts of a picture one by one: those that numpy makes are the same to the last digits


def _seeded(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


CANVASES = {
    "_gradient": (153.779, 194.916, 237.37, 312.852, 300.878, 157.211),
    "_noise": (198.147, 197.754, 197.271, 201.504, 200.036, 190.879),
    "_tiles": (210.891, 192.775, 193.465, 197.392, 190.627, 186.848),
    "_shapes": (227.792, 222.804, 218.164, 227.667, 265.398, 239.154),
    "_clutter": (245.367, 255.385, 242.824, 240.495, 232.774, 211.909),
}


@pytest.mark.parametrize("name", CANVASES)
def test_layers_of_a_background(name: str) -> None:
    assert _canvases(name) == pytest.approx(CANVASES[name], abs=0.02)


def _canvases(name: str) -> list[float]:
    grey = np.full((72, 96, 3), 100, np.float32)
    arguments = (72, 96) if name == "_gradient" else (grey,)
    return [_number(getattr(background, name)(_seeded(seed), *arguments)) for seed in range(6)]


PATHS = (52.6925, 52.6925, 46.8714, 55.03633, 53.72148, 39.78143, 45.98957, 43.09523)


def test_ways_of_the_camera() -> None:
    assert _paths() == pytest.approx(PATHS, abs=1e-4)


def _paths() -> list[float]:
    return [_number(Background(_seeded(seed), 8, 8, 5).path) for seed in range(8)]


# Kind -> centres, half axes, radii and textures of the occluders of four seeds.
HIDERS: dict[str, list[tuple[float, ...]]] = {
    "light": [
        (32.83508, 10.04009, 3.39667, 312.37998),
        (42.12591, -0.79645, 3.89197, 390.69766),
        (33.01387, 2.54262, 7.10828, 232.04235),
        (17.61951, 6.67861, 7.04612, 219.29217),
    ],
    "heavy": [
        (43.42366, -0.1902, 11.85742, 13.26888, 308.72146),
        (54.24474, 8.11559, 11.25674, 11.40961, 315.62114),
        (47.25801, 6.36108, 10.05574, 9.80349, 273.69905),
        (40.07035, 6.60856, 9.21112, 10.66575, 225.3113),
    ],
    "single": [
        (9.40522, -4.76501, 3.39667, 382.13712),
        (24.52371, 20.85234, 3.89197, 50.20289),
        (4.68511, 2.20134, 7.10828, 315.62925),
        (-5.26405, 21.57647, 7.04612, 83.4761),
    ],
    "short": [
        (18.3476, 5.51906, 11.85742, 10.92521, 173.27551),
        (18.21111, -3.79451, 11.25674, 10.44061, 166.73038),
        (14.62692, 4.8006, 10.05574, 9.08529, 191.47437),
        (15.81112, -2.611, 9.21112, 12.35804, 168.80628),
    ],
    "blocking": [
        (69.73005, 24.7208, 28.0026, 65.36683, 151.60929),
        (87.89247, 24.7208, 32.29624, 58.09519, 248.15524),
        (89.34702, 24.7208, 25.87071, 49.88953, 115.9994),
        (81.54739, 24.7208, 24.40301, 61.38394, 209.64734),
    ],
}


@pytest.mark.parametrize("kind", HIDERS)
def test_occluders(kind: str) -> None:
    for seed, expected in enumerate(HIDERS[kind]):
        assert _hiders(kind, seed) == pytest.approx(expected, abs=1e-4)


def _hiders(kind: str, seed: int) -> tuple[float, ...]:
    frames = {"short": 2, "single": 1}.get(kind, 12)
    way = np.stack([np.arange(frames) * 3.0 + 10, np.arange(frames) ** 1.5], axis=1)
    found: list[Occluder]
    if kind == "blocking":
        joints = way[:, None] + np.array([[0.0, 0], [20, 5], [7, 60]])
        found = blocking_occluders(_seeded(seed), joints, joints[:, 1:], 80.0)
    else:
        heavy = () if kind in ("light", "single") else (way, way[::-1] + 5)
        found = passing_occluders(_seeded(seed), frames, way, 80.0, heavy)
    assert all(0 <= one.texture.min() and one.texture.max() <= 255 for one in found)
    parts = [_number(*(getattr(one, key) for one in found)) for key in ("centre", "half_axis")]
    return *parts, *(float(one.radius) for one in found), _number(*(o.texture for o in found))


PLACES: dict[str, list[tuple[float, float]]] = {
    "whole": [
        (95.03662, 65.42084),
        (98.65458, 99.59506),
        (135.10022, 68.01742),
        (123.55579, 89.23037),
    ],
    "cut": [
        (95.03662, 79.24331),
        (98.65458, 81.74519),
        (135.10022, 78.37928),
        (123.55579, 53.5695),
    ],
    "bust": [
        (175.54871, 111.37107),
        (168.70161, 125.93409),
        (155.01127, 111.10275),
        (145.38336, 117.10085),
    ],
    "crossing": [
        (103.05907, 74.40228),
        (98.16829, 93.80122),
        (88.38947, 87.02896),
        (81.5124, 89.56256),
    ],
}


@pytest.mark.parametrize("kind", PLACES)
def test_where_people_stand(kind: str) -> None:
    for seed, expected in enumerate(PLACES[kind]):
        assert _places(kind, seed) == pytest.approx(expected, abs=1e-4)


def _places(kind: str, seed: int) -> tuple[float, float]:
    zoom, size = 1 + 0.1 * np.linspace(-1, 1, 9), (96, 72)
    if kind == "crossing":
        scale, origin = scene.place_crossing(_seeded(seed), seed, 3, zoom, size)
    elif kind == "bust":
        scale, origin = scene.place_bust(_seeded(seed), zoom, size)
    else:
        angles = FAMILIES["run"](_seeded(seed), np.linspace(0, 1, 9))
        posture = pose_body(Body(), angles)
        scale, origin = scene.place_whole(_seeded(seed), posture, zoom, size, kind)
    return _number(scale), _number(origin)


# A body's turn about y and z (and x) -> numbers of the drawn colours, coverage and parts.
HEADS: dict[tuple[float, float], tuple[float, float]] = {
    (0, 0): (55.2375, 0.8852),
    (180, 0): (34.6696, 0.8852),
    (50, 20): (51.614, 0.8818),
    (-100, -70): (42.3554, 0.8789),
    (20, 150): (54.377, 0.8847),
}


@pytest.mark.parametrize("turn", HEADS)
def test_heads(turn: tuple[float, float]) -> None:
    assert _head(turn) == pytest.approx(HEADS[turn], abs=2e-3)


def _look() -> Appearance:
    return draw_appearance(_seeded(3))


def _head(turn: tuple[float, float]) -> tuple[float, float]:
    posture = pose_body(Body(), {"yaw": np.array([turn[0]]), "roll": np.array([turn[1]]),
                                 "pitch": np.array([15.0])})  # fmt: skip
    layer = Layer.empty(60, 70)
    _draw_head(layer, np.array([33.0, 28.5]), posture.head[0], 24.0, _look())
    return _number(layer.colour), _number(layer.alpha, layer.part)


TORSOS: dict[tuple[float, ...], tuple[float, float]] = {
    (0, 0): (145.0837, 0.8763),
    (180, 0): (160.6518, 0.8763),
    (60, 30): (98.2613, 0.5766),
    (30, 0, 90): (51.5203, 0.2535),
    (-90, 100): (42.5592, 0.2505),
}


@pytest.mark.parametrize("turn", TORSOS)
def test_torsos(turn: tuple[float, ...]) -> None:
    # OpenCV's builds round the edge of a polygon differently.
    assert _torso(turn) == pytest.approx(TORSOS[turn], rel=2e-3)


def _torso(turn: tuple[float, ...]) -> tuple[float, float]:
    posture = pose_body(Body(), dict(zip(("yaw", "roll", "pitch"), np.array(turn)[:, None])))
    layer = Layer.empty(90, 80)
    flat = {name: p[0, :2] * 180.0 + (41.0, 68.0) for name, p in posture.points.items()}
    _draw_torso(layer, flat, posture.torso[0], 180.0, _look())
    return _number(layer.colour), _number(layer.alpha, layer.part)


CAPSULES = (
    67.0004,
    2.0863,
    43.7066,
    1.4469,
    54.125,
    1.8033,
    60.0322,
    1.7172,
    22.841,
    0.5577,
    27.7533,
    0.9972,
    23.315,
    0.7037,
)


def test_capsules() -> None:
    assert _capsules() == pytest.approx(CAPSULES, abs=1e-3)


def _capsules() -> list[float]:
    """Along, across, aslant, backwards, over an edge, and without length."""
    found = []
    for a, b in (((5, 9), (25, 9)), ((12, 3), (12, 15)), ((6, 4), (22, 14)), ((22, 14), (6, 4)),
                 ((-4, -2), (9, 8)), ((25, 12), (40, 30)), ((10, 10), (10, 10))):  # fmt: skip
        layer = Layer.empty(20, 30)
        texture = _seeded(0).uniform(0, 255, (6, 4, 3)).astype(np.float32)
        ends = np.array(a, float), np.array(b, float)
        draw_capsule(layer, *ends, (4.0, 2.0), texture, 9)
        draw_capsule(layer, ends[1], ends[0] + 3, (1.5, 3.5), texture, 4)
        found += [_number(layer.colour), _number(layer.alpha, layer.part)]
    return found
