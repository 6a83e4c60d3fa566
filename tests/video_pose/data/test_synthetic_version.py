"""What ``plan.VERSION`` promises: the same arguments mean the same people, pictures and labels.

A folder that an earlier version wrote counts as complete, and figures in the docs were measured on
such folders. Whoever changes one of these numbers raises VERSION, and measures anew.
"""

from __future__ import annotations

import numpy as np
import pytest

from video_pose.data.synthetic.background import Background
from video_pose.data.synthetic.body import FAMILIES, Body, pose_body
from video_pose.data.synthetic.dataset import SyntheticOptions
from video_pose.data.synthetic.figure import draw_appearance
from video_pose.data.synthetic.plan import VERSION, plan_videos
from video_pose.data.synthetic.scene import render_scene


def _number(*arrays: np.ndarray) -> float:
    """A mean in which every place has its own weight, 1 to 3: what moves changes it, too."""
    values = np.concatenate([np.ravel(array).astype(np.float64) for array in arrays])
    return float((values * (2 + np.sin(np.arange(values.size)))).mean())


def test_the_numbers_below_are_of_this_version() -> None:
    assert VERSION == 3


MOTIONS = {
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


@pytest.mark.parametrize("name", FAMILIES)
def test_motions(name: str) -> None:
    found = []
    for seed in range(4):
        angles = FAMILIES[name](np.random.default_rng(seed), np.linspace(0, 1, 5))
        posture = pose_body(Body.draw(np.random.default_rng(seed)), angles)
        points = [posture.points[key] for key in sorted(posture.points)]
        found.append(_number(*points, posture.torso, posture.head))
    assert found == pytest.approx(MOTIONS[name], abs=2e-6)


def test_clothes() -> None:
    found = []
    for seed in range(12):
        look = draw_appearance(np.random.default_rng(seed))
        found.append(_number(*look.limbs.values(), look.torso, look.skin, look.hair))
    assert found == pytest.approx(
        [
            170.711,
            199.077,
            220.534,
            269.09,
            237.381,
            208.563,
            229.607,
            202.239,
            174.769,
            202.299,
            288.091,
            211.411,
        ],
        abs=2e-3,
    )


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
