"""Hand-worked answers of the PCK arithmetic."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from video_pose.evaluation import pck
from video_pose.plugins import PCK_PROTOCOLS

NAMES = ["head", "neck", "left_shoulder", "right_shoulder", "left_hip", "right_hip"]


def _body() -> np.ndarray:
    # Mid-shoulders (50, 20), mid-hips (50, 60): torso 40. Left shoulder (65, 20) to right hip
    # (35, 60): sqrt(30^2 + 40^2) = 50. Head (50, 0) to neck (50, 12): 12.
    points = [[50, 0], [50, 12], [65, 20], [35, 20], [65, 60], [35, 60]]
    return np.array([[[x, y, 2] for x, y in points]], np.float32)


@pytest.mark.parametrize(
    "name, expected",
    [("bbox", 80.0), ("torso", 40.0), ("torso_diagonal", 50.0), ("head", 12.0), ("pixels", 1.0)],
)
def test_reference_lengths(name: str, expected: float) -> None:
    boxes = np.array([[10, 0, 70, 80]], np.float32)  # 60 wide, 80 high, no + 1
    lengths = pck.reference_lengths(
        pck.get_protocol(name), _body(), boxes, NAMES, head_segment=("head", "neck")
    )
    assert lengths.tolist() == [expected]


def test_reference_joints_are_found_by_name() -> None:
    order = [5, 3, 0, 4, 1, 2]
    shuffled = _body()[:, order]
    names = [NAMES[i] for i in order]
    for name, expected in (("torso", 40.0), ("torso_diagonal", 50.0)):
        lengths = pck.reference_lengths(pck.get_protocol(name), shuffled, np.zeros((1, 4)), names)
        assert lengths.tolist() == [expected]


@pytest.mark.parametrize(
    "box", [(5, 5, 5, 5), (5, 5, 5, 90), (5, 5, 90, 5), (9, 9, 5, 5), (np.nan, 0, 9, 9)]
)
def test_a_box_without_area_is_excluded(box: tuple[float, ...]) -> None:
    boxes = np.array([box, (0, 0, 3, 4)])
    body = np.repeat(_body(), 2, axis=0)
    lengths = pck.reference_lengths(pck.get_protocol("bbox"), body, boxes, NAMES)
    assert np.isnan(lengths[0]) and lengths[1] == 4


def test_an_unannotated_or_zero_torso_is_excluded() -> None:
    body = np.repeat(_body(), 4, axis=0)
    body[0, NAMES.index("left_hip"), 2] = 0  # not annotated
    body[1, NAMES.index("left_hip"), 2] = 1  # hidden, but annotated: counts
    body[2, 4:, :2] = body[2, 2:4, :2]  # hips on the shoulders
    body[3, 0, 2] = 0  # the head has no part in it
    body[3, :, :2] /= 128  # nor has the scale: a third of a pixel is a length
    lengths = pck.reference_lengths(pck.get_protocol("torso"), body, np.zeros((4, 4)), NAMES)
    np.testing.assert_array_equal(lengths, [np.nan, 40, np.nan, 40 / 128])
    sizes = np.array([0.5, 0, -1, 30], np.float32)
    heads = pck.reference_lengths(
        pck.get_protocol("mpii_head"), body, np.zeros((4, 4)), NAMES, head_sizes=sizes
    )
    np.testing.assert_array_equal(heads, [0.5, np.nan, np.nan, 30])
    assert heads.dtype == np.float64


def test_errors_name_the_choice() -> None:
    with pytest.raises(ValueError, match="torso_diagonal"):
        pck.get_protocol("PCK")
    message = (
        "protocol 'torso' needs the joints ['left_shoulder', 'left_hip', 'right_hip'], the dataset "
        "has ['head', 'right_shoulder']; protocols without joints: ['bbox', 'pixels']"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        pck.reference_lengths(
            pck.get_protocol("torso"), np.zeros((1, 2, 3)), np.zeros((1, 4)),
            ["head", "right_shoulder"],
        )  # fmt: skip
    message = (
        "protocol 'head' needs a head segment, dataset has None; use ['bbox', 'torso', "
        "'torso_diagonal', 'mpii_head', 'pixels']"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        pck.reference_lengths(pck.get_protocol("head"), _body(), np.zeros((1, 4)), NAMES)


@pytest.mark.parametrize(
    ("thresholds", "given", "told"),
    [
        ((0.5,), {}, "joints (), measure None, head False, head_sizes False"),
        ((0.5,), {"joints": ("a", "b"), "head": True},
         "joints ('a', 'b'), measure None, head True, head_sizes False"),
        ((0.5,), {"joints": ("a", "b", "c")},
         "joints ('a', 'b', 'c'), measure None, head False, head_sizes False"),
        ((0.5,), {"head": True, "head_sizes": True},
         "joints (), measure None, head True, head_sizes True"),
        ((), {"head": True}, "joints (), measure None, head True, head_sizes False"),
    ],
)  # fmt: skip
def test_a_protocol_has_thresholds_and_one_length(thresholds, given, told) -> None:
    message = (
        "PCK protocol 'mine': give thresholds, and one of joints (an even number), measure, head "
        f"and head_sizes; got thresholds {thresholds}, {told}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        pck.Protocol("mine", thresholds, "", "words", **given)


def test_names_of_figures() -> None:
    """The literature's name at the front alone; a threshold of 0 is one."""
    mine = pck.Protocol("mine", (0.5, 0.25), " PCK", "words", head=True, label="PCKh")
    assert mine.metric() == "PCK@0.5 PCK" and mine.metric(0) == "PCK@0 PCK"
    assert mine.title() == "PCKh@0.5 PCK" and mine.title(0.25) == "PCKh@0.25 PCK"
    with pytest.raises(FrozenInstanceError):
        mine.thresholds = (1.0,)


@pytest.mark.parametrize("length", [5, 15, 30, 35, 45, 55, 85, 95, 115, 335])
@pytest.mark.parametrize("threshold", [0.2, 0.4, 0.6])
def test_a_distance_at_the_threshold_is_a_hit(length: int, threshold: float) -> None:
    # Whole pixels, so that distance / length is exactly 1/5, 2/5, 3/5.
    distance = round(length * threshold)
    distances = np.array([[float(distance), np.nextafter(distance, 1e9) + 1e-6]])
    normalised = pck.normalised_distances(distances, np.array([float(length)]))
    hits = pck.count_hits(normalised, np.ones((1, 2), bool), [threshold])
    assert hits.tolist() == [[1, 0]]


def test_hits_per_joint_and_threshold() -> None:
    truth = np.zeros((2, 3, 3))
    truth[..., 2] = [[2, 2, 1], [2, 0, 2]]
    predictions = np.zeros((2, 3, 3))
    predictions[0, :, :2] = [(3, 4), (6, 8), (0, 0)]  # distances 5, 10, 0
    predictions[1, :, :2] = [(20, 0), (0, 0), (0, 21)]  # distances 20, 0, 21
    lengths = np.array([50.0, 100.0])  # normalised: .1 .2 0 / .2 0 .21
    normalised = pck.normalised_distances(pck.pixel_distances(predictions, truth), lengths)
    visible = pck.counted_joints(truth, lengths, 2)
    assert visible.tolist() == [[True, True, False], [True, False, True]]
    assert pck.count_hits(normalised, visible, [0.2, 0.1]).tolist() == [[2, 1, 0], [1, 0, 0]]
    annotated = pck.counted_joints(truth, lengths, 1)
    assert pck.count_hits(normalised, annotated, [0.2, 0.1]).tolist() == [[2, 1, 1], [1, 0, 1]]


def test_missing_predictions_and_excluded_frames_never_hit() -> None:
    truth = np.full((3, 1, 3), 2.0)
    predictions = truth.copy()
    predictions[0] = np.nan
    predictions[1, 0, 0] = np.inf
    lengths = np.array([10.0, 10.0, np.nan])
    distances = pck.pixel_distances(predictions, truth)
    assert distances[:, 0].tolist() == [np.inf, np.inf, 0]
    counted = pck.counted_joints(truth, lengths, 1)
    assert counted[:, 0].tolist() == [True, True, False]
    normalised = pck.normalised_distances(distances, lengths)
    assert pck.count_hits(normalised, counted, [1e9]).tolist() == [[0]]


def test_integer_coordinates_do_not_wrap() -> None:
    truth = np.array([[[10, 10, 2]]], np.uint8)
    predictions = np.array([[[7, 6, 1]]], np.uint8)
    assert pck.pixel_distances(predictions, truth).tolist() == [[5.0]]


def test_auc() -> None:
    # Distances 0, .1 and .3 with an end of .2: areas 1, .5 and 0, of three joints: .5.
    normalised = np.array([[0.0, 0.1, 0.3]])
    histogram = pck.distance_histogram(normalised, np.ones((1, 3), bool), 0.2)
    assert histogram.sum() == 2
    assert pck.auc_from_histogram(histogram, 3) == pytest.approx(0.5, abs=1 / pck.AUC_BINS)
    assert np.isnan(pck.auc_from_histogram(histogram * 0, 0))
    # The middles of four cells; the end is in the last one, what lies beyond is in none, and what
    # does not count neither.
    distances = np.array([[0, 0.5, 1, 1.01, 0.1]])
    counted = np.array([[True] * 4 + [False]])
    cells = pck.distance_histogram(distances, counted, 1.0, bins=4)
    assert cells.tolist() == [1, 0, 1, 1]
    assert pck.auc_from_histogram(cells, 4) == pytest.approx((7 + 3 + 1) / 8 / 4)
    assert pck.auc_from_histogram(cells, 1) == pytest.approx(11 / 8)


def test_a_plugin_adds_a_protocol_of_joints_or_of_its_own_measure() -> None:
    shoulders = pck.Protocol(
        "shoulders", (0.5,), "", "left to right shoulder", ("left_shoulder", "right_shoulder")
    )
    height = pck.Protocol(
        "height",
        (0.1,),
        "",
        "height of the box",
        measure=lambda _, boxes: boxes[:, 3] - boxes[:, 1],
    )
    boxes = np.array([[10, 0, 70, 80]], np.float32)
    try:
        for protocol in (shoulders, height):
            PCK_PROTOCOLS.add(protocol.name)(protocol)
        for name, expected in (("shoulders", 30.0), ("height", 80.0)):
            lengths = pck.reference_lengths(pck.get_protocol(name), _body(), boxes, NAMES)
            assert lengths.tolist() == [expected]
        counts = pck.PCKAccumulator("height", NAMES, {})
        counts.add("v", _body() + [7.9, 0, 0], _body(), boxes)
        assert counts.metrics()["PCK@0.1"] == 100
    finally:
        for name in ("shoulders", "height"):
            if name in PCK_PROTOCOLS:
                PCK_PROTOCOLS.remove(name)
    with pytest.raises(ValueError, match="'odd': give thresholds, and one of joints"):
        pck.Protocol("odd", (0.5,), "", "of one joint", ("head",))


def test_mpiis_pckh_takes_the_head_rectangle_and_leaves_two_joints_out() -> None:
    names = ["pelvis", "thorax", "left_wrist"]
    truth = np.array([[[0, 0, 2], [0, 0, 2], [50, 50, 2]]] * 3, float)
    predicted = truth + [[[90, 0, 0], [90, 0, 0], [10, 0, 0]]]
    counts = pck.PCKAccumulator("mpii_head", names, {"wrist": ["left_wrist"], "pelvis": ["pelvis"]})
    boxes = np.zeros((3, 4))
    # 10 px are .5 of 20 px, more of 19.9; a head of no size excludes the frame.
    counts.add("v", predicted, truth, boxes, head_sizes=np.array([20.0, 19.9, 0.0]))
    metrics = counts.metrics()
    assert metrics["PCK@0.5"] == 50 and metrics["joints"] == 2 and metrics["excluded_frames"] == 1
    assert "PCK@0.5-pelvis" not in metrics and counts.protocol.title() == "PCKh@0.5"
    message = "protocol 'mpii_head' needs the tracks' head_sizes, and the dataset has none"
    with pytest.raises(ValueError, match=f"^{message}$"):
        counts.add("v", predicted, truth, boxes)
