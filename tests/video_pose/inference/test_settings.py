"""The choices of a video predictor: defaults, bounds, and what contradicts what."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from video_pose.cli import predict
from video_pose.inference import VideoPosePredictor
from video_pose.inference.settings import WEAK_SCORE, PredictorSettings

BOX = (1.0, 2.0, 30.0, 40.0)
SMOOTHED = "offline and lag come with a smoothing of their own and no heatmaps"


def test_the_command_without_options_is_the_python_interface_without_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a video would have other people by the one than by the other."""
    monkeypatch.setattr(VideoPosePredictor, "from_config", lambda *_, settings, **__: settings)
    parser = argparse.ArgumentParser()
    predict.add_arguments(parser)
    assert predict.build_predictor(parser.parse_args([])) == PredictorSettings()
    assert predict.build_predictor(parser.parse_args(["--lag", "0"])) == PredictorSettings(lag=0)


def test_defaults_that_the_documents_tell() -> None:
    settings = PredictorSettings()
    assert (settings.where, settings.tracker, settings.refiner) == ("frame", "auto", "auto")
    assert (settings.detect_every, settings.max_people, settings.batch_frames) == (1, 0, 1)
    assert (settings.min_pose_score, settings.box_smoothing) == (0.1, 0.15)
    assert (settings.max_missed, settings.max_gap, settings.join_gap) == (1.0, 0.5, 2.0)
    assert settings.cut_threshold == 0.2 and not settings.waits
    for name in ("smooth", "offline", "repair_sides", "heatmaps", "stills", "trust_programs"):
        assert getattr(settings, name) is False, name


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("min_score", (0, 1, 0.5), (-0.1, 1.1)),
        ("person_threshold", (0, 1, 0.5), (-0.1, 1.1)),
        ("max_people", (0, 1), (-1,)),
        ("box_smoothing", (0, 0.5), (-0.1,)),
        ("lag", (0, 3), (-1,)),
        ("max_gap", (0, 0.1, float("inf")), (-0.1, float("nan"))),
        ("join_gap", (0, 0.1, float("inf")), (-0.1, float("nan"))),
    ],
)
def test_bounds_are_part_of_the_range(name: str, good: tuple, bad: tuple) -> None:
    others: dict[str, Any] = {"offline": True} if name.endswith("_gap") else {}
    for value in good:
        assert getattr(PredictorSettings(**{name: value}, **others), name) == value
    for value in bad:
        with pytest.raises(ValueError, match=f"{name.replace('_', '.')} {value}"):
            PredictorSettings(**{name: value}, **others)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"region": "room"}, "region 'room': choose from frame, box, pose, detector"),
        ({"region": "box"}, "region 'box' needs a box: x0 y0 x1 y1"),
        ({"region": "frame", "detector": "d.yaml"}, "a detector has no effect with region 'frame'"),
        (
            {"region": "box", "box": BOX, "detector": "d.yaml"},
            "a detector has no effect with region 'box'",
        ),
        ({"region": "frame", "box": BOX}, "a box has no effect with region 'frame'"),
        ({"detector": "d.yaml", "box": BOX}, "a box has no effect with region 'detector'"),
        ({"tracker": "aaa"}, r"tracker 'aaa': choose from .*iou.*"),
        ({"tracker": "zzz"}, r"tracker 'zzz': choose from .*iou.*"),
        ({"offline": True, "lag": 0}, "offline and lag: name one of them"),
        ({"offline": True, "smooth": True}, SMOOTHED),
        ({"offline": True, "heatmaps": True}, SMOOTHED),
        ({"lag": 0, "smooth": True}, SMOOTHED),
        ({"lag": 2, "heatmaps": True}, SMOOTHED),
        ({"repair_sides": True}, "repair_sides needs offline or lag"),
        ({"max_gap": 1.0}, "max_gap 1.0 and join_gap 2.0 have an effect offline alone"),
        ({"lag": 2, "join_gap": 0}, "max_gap 0.5 and join_gap 0 have an effect offline alone"),
    ],
)
def test_contradictions(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        PredictorSettings(**choices)


def test_what_goes_together() -> None:
    assert PredictorSettings(region="pose", box=BOX).where == "pose"
    assert PredictorSettings(box=BOX).where == "box"
    assert PredictorSettings(detector="d.yaml").where == "detector"
    assert PredictorSettings(smooth=True, heatmaps=True).heatmaps
    assert PredictorSettings(lag=0, repair_sides=True).waits
    assert PredictorSettings(offline=True, repair_sides=True).waits


@pytest.mark.parametrize(
    ("name", "value", "option"),
    [
        ("detector_options", ("A", 1), "--detector-opts"),
        ("class_name", "cat", "--class"),
        ("detect_every", 2, "--detect-every"),
        ("tracker", "iou", "--tracker"),
        ("min_score", 0.0, "--confidence-threshold"),
        ("max_missed", 0.0, "--max-missed"),
    ],
)
def test_without_a_detector_its_options_are_refused(name: str, value: Any, option: str) -> None:
    with pytest.raises(ValueError, match=rf"{option} .*\({name}\) has no effect.*'frame'"):
        PredictorSettings(**{name: value}).refuse_unused()
    PredictorSettings(smooth=True, max_people=3).refuse_unused()
    # A default that was typed is one: a command line makes numbers and words of its own.
    typed = PredictorSettings(max_missed=float("1.0"), tracker="".join("auto"))
    typed.refuse_unused()


@pytest.mark.parametrize(
    ("name", "value", "option", "memory_alone"),
    [
        ("detector_options", ("A", 1), "--detector-opts", False),
        ("detect_every", 5, "--detect-every", False),
        ("heatmaps", True, "--heatmaps", False),
        ("tracker", "iou", "--tracker", True),
        ("max_missed", 0.5, "--max-missed", True),
    ],
)
def test_what_an_rcnn_does_not_go_by_is_refused(
    name: str, value: Any, option: str, memory_alone: bool
) -> None:
    """A tracker is of those that remember nobody."""
    settings = PredictorSettings(**{name: value})
    message = rf"{option} .*\({name}\) has no effect with an R-CNN"
    with pytest.raises(ValueError, match=message):
        settings.refuse_unused_by_rcnn(True)
    if memory_alone:
        settings.refuse_unused_by_rcnn(False)
    else:
        with pytest.raises(ValueError, match=message):
            settings.refuse_unused_by_rcnn(False)
    used = PredictorSettings(max_people=1, min_score=0.9, class_name="cat", person_threshold=0.5)
    used.refuse_unused_by_rcnn(True)


@pytest.mark.parametrize(
    ("given", "threshold", "score"),
    [(None, 0.0, 0.5), (None, 0.01, 0.4), (None, 1.0, 0.4), (0.0, 0.3, 0.0), (0.7, 0.0, 0.7)],
)
def test_from_which_score_on_somebody_is_known(
    given: float | None, threshold: float, score: float
) -> None:
    """Where poses are judged as well, a weaker detection may begin; what is given goes first."""
    assert PredictorSettings(min_score=given).begins(threshold) == score
    assert WEAK_SCORE == 0.1  # who is known is followed by weaker ones yet, as ByteTrack does


def test_settings_are_values() -> None:
    """Several streams share them: nobody changes them, and equal ones are one key."""
    assert len({PredictorSettings(box=BOX), PredictorSettings(box=BOX), PredictorSettings()}) == 2
