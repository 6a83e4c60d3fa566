"""What a predictor is made of: who finds people, with how many threads, and what it depends on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from video_pose.engine.defaults import get_pose_cfg
from video_pose.inference import predictor
from video_pose.inference.detected_people import DetectedPeople
from video_pose.inference.people import FollowedPerson, GivenBoxes
from video_pose.inference.predictor import VideoPosePredictor
from video_pose.inference.settings import PredictorSettings
from video_pose.inference.streaming import CutDetector
from video_pose.inference.trackers import IoUTracker

BOX = (1.0, 2.0, 30.0, 40.0)


@pytest.fixture
def cfg() -> CfgNode:
    found = get_pose_cfg()
    found.MODEL.DEVICE = "cpu"
    found.MODEL.META_ARCHITECTURE = "UniPoseLSTM"
    found.MODEL.POSE.JOINTS = ["nose", "left_wrist"]
    return found


@pytest.fixture
def names() -> Iterator[list[str]]:
    """Two datasets, of which the second tells classes and lines."""
    made = ["predictor_test_plain", "predictor_test_told"]
    for name in made:
        DatasetCatalog.register(name, list)
    MetadataCatalog.get(made[1]).set(
        thing_classes=["cat", "dog"],
        keypoint_connection_rules=[("nose", "left_wrist", (1, 2, 3)), ("nose", "tail", (0, 0, 0))],
    )
    yield made
    for name in made:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.mark.parametrize(
    ("threads", "settings", "device", "shares"),
    [
        (5, {"detector": "d.yaml"}, "cpu", (2, 3)),
        (2, {"detector": "d.yaml"}, "cpu", (1, 1)),
        (1, {"detector": "d.yaml"}, "cpu", (0, 1)),
        (8, {"detector": "d.yaml", "detect_every": 2}, "cpu", (0, 8)),
        (8, {"detector": "d.yaml"}, "cuda", (0, 8)),
        (8, {"box": BOX}, "cpu", (0, 8)),
    ],
)
def test_a_detector_beside_the_pose_network_has_half_of_the_threads(
    cfg: CfgNode, monkeypatch, threads: int, settings: dict, device: str, shares: tuple[int, int]
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    cfg.MODEL.DEVICE = device
    assert predictor.share_cores(PredictorSettings(**settings), cfg) == shares


def test_classes_and_lines_are_those_of_the_first_dataset_that_tells(
    cfg: CfgNode, names: list[str]
) -> None:
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("a stranger's", names[0]), (names[1],)
    assert predictor._known_classes(cfg) == ["cat", "dog"]
    lines = predictor.find_connections(cfg, cfg.MODEL.POSE.JOINTS)
    assert [line[:2] for line in lines] == [(0, 1)]
    cfg.DATASETS.TEST = ()
    assert predictor._known_classes(cfg) == []
    assert predictor.find_connections(cfg, cfg.MODEL.POSE.JOINTS) == []


class Detector:
    """Who asked for it, and with what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, recurrent: bool = False) -> None:
        self.calls: list[tuple] = []
        self.threads: list[int] = []
        own = get_pose_cfg()
        own.MODEL.META_ARCHITECTURE = "UniPose" if recurrent else "GeneralizedRCNN"
        monkeypatch.setattr(predictor, "load_cfg", lambda *args: own)
        monkeypatch.setattr(predictor, "load_detector", self._load)
        monkeypatch.setattr(predictor, "thread_limit", self._limit)

    def _limit(self, threads: int) -> Any:
        import contextlib

        self.threads.append(threads)
        return contextlib.nullcontext()

    def _load(self, cfg: CfgNode, settings: PredictorSettings, threshold: float) -> Detector:
        self.calls.append((cfg.MODEL.META_ARCHITECTURE, threshold))
        return self

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((0, 4)), np.zeros(0)


def test_who_finds_people(cfg: CfgNode, monkeypatch) -> None:
    assert isinstance(predictor.people_maker(PredictorSettings(), cfg)(), GivenBoxes)
    assert isinstance(predictor.people_maker(PredictorSettings(box=BOX), cfg)(), GivenBoxes)
    pose = PredictorSettings(region="pose", box=BOX, min_pose_score=0.3)
    followed = predictor.people_maker(pose, cfg)()
    assert isinstance(followed, FollowedPerson) and followed._min_score == 0.3
    detector = Detector(monkeypatch)
    settings = PredictorSettings(
        detector="d.yaml", tracker="iou", detect_every=1, max_missed=0.7, min_pose_score=0.2,
        box_smoothing=0.4, max_people=5,
    )  # fmt: skip
    cfg.TEST.PERSON_THRESHOLD = 0.25
    people = predictor.people_maker(settings, cfg, 3)()
    assert isinstance(people, DetectedPeople) and detector.calls == [("GeneralizedRCNN", 0.25)]
    assert detector.threads == [3] and people._threads == 3
    assert (people._threshold, people._sure_score, people._max_missed) == (0.25, 0.4, 0.7)
    assert (people._min_score, people._smoothing, people._max_people) == (0.2, 0.4, 5)
    assert people._sigmas.tolist() == [0.026, 0.062] and people._every == 1
    assert isinstance(people._tracker, IoUTracker)
    assert (people._tracker.min_score, people._tracker.max_missed_seconds) == (0.4, 0.7)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    given = PredictorSettings(
        detector="d.yaml", tracker="iou", person_threshold=0.0, detect_every=4
    )
    again = predictor.people_maker(given, cfg)()
    assert detector.calls[1][1] == 0.0 and detector.threads[1] == 6
    assert (again._threshold, again._sure_score, again._every) == (0.0, 0.5, 4)
    Detector(monkeypatch, recurrent=True)
    with pytest.raises(ValueError, match="detector d.yaml: it detects nobody, it is a pose model"):
        predictor.people_maker(settings, cfg)


def test_cuts_are_looked_for_unless_they_are_switched_off() -> None:
    made = predictor._cut_maker(PredictorSettings(cut_threshold=0.3))
    assert made is not None
    found = made()
    assert isinstance(found, CutDetector) and found.threshold == 0.3 and made() is not found
    for off in (0.0, -1.0):
        assert predictor._cut_maker(PredictorSettings(cut_threshold=off)) is None


@pytest.mark.parametrize(
    "settings",
    [{"region": "box", "box": BOX}, {"region": "pose"}, {"detector": "d.yaml"}, {"backend": "."}],
)
def test_a_detector_of_poses_takes_no_regions(cfg: CfgNode, settings: dict, tmp_path) -> None:
    if settings.get("backend"):
        (tmp_path / "export.json").write_text("{}")
        settings = {"backend": str(tmp_path)}
    with pytest.raises(ValueError, match="^c.yaml finds people by itself: region, box, detector"):
        predictor._rcnn_stream(cfg, PredictorSettings(**settings), "c.yaml")


def test_what_a_checkpoint_depends_on(cfg: CfgNode, tmp_path: Path) -> None:
    """The weights, the options and the configuration; smoothing and batches change nothing."""
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"1")
    cfg.MODEL.WEIGHTS = str(weights)
    plain = predictor._describe(cfg, PredictorSettings())
    assert plain["version of PyTorch"] == torch.__version__
    for same in ({"smooth": True}, {"heatmaps": True}, {"batch_frames": 8}):
        assert predictor._describe(cfg, PredictorSettings(**same)) == plain
    for other in ({"min_pose_score": 0.2}, {"box": BOX}):
        found = predictor._describe(cfg, PredictorSettings(**other))
        assert found["choice of people"] != plain["choice of people"]
        assert found["model"] == plain["model"]
    cfg.TEST.PERSON_THRESHOLD = 0.9
    changed = predictor._describe(cfg, PredictorSettings())
    assert changed["model"] != plain["model"]
    weights.write_bytes(b"2!")
    assert predictor._describe(cfg, PredictorSettings())["model"] != changed["model"]
    detector = tmp_path / "d.pth"
    models = set()
    for content in (b"1", b"22"):
        detector.write_bytes(content)
        options = PredictorSettings(detector="d", detector_options=("MODEL.WEIGHTS", str(detector)))
        models.add(predictor._describe(cfg, options)["model"])
    assert len(models) == 2


def test_what_corrects_poses_over_time(cfg: CfgNode, monkeypatch) -> None:
    asked: list[tuple] = []
    monkeypatch.setattr(predictor, "load_refiner", lambda *args: asked.append(args))
    assert predictor._over_time(cfg, PredictorSettings()) is None
    cfg.MODEL.WEIGHTS = "w.pth"
    rule = predictor._over_time(cfg, PredictorSettings(lag=0, repair_sides=True))
    assert rule is not None and (rule.lag, rule.repair_sides) == (0, True)
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    whole = predictor._over_time(cfg, PredictorSettings(offline=True))
    assert whole is not None and whole.lag is None and not whole.repair_sides
    predictor._over_time(cfg, PredictorSettings(offline=True, refiner="mine"))
    assert asked == [("auto", "w.pth"), ("", "w.pth"), ("mine", "w.pth")]
    assert predictor.calibration_beside(cfg, PredictorSettings()) is None


def test_weights_that_are_not_there_are_named(cfg: CfgNode, caplog) -> None:
    cfg.MODEL.WEIGHTS = "/no/such.pth"
    with pytest.raises(FileNotFoundError, match="MODEL.WEIGHTS not found: /no/such.pth"):
        predictor.load_model(cfg)


def test_a_predictor_that_does_nothing_more_says_so(tmp_path: Path) -> None:
    plain = VideoPosePredictor(lambda frames, name: iter(frames), ["nose"])
    assert plain.mode == "causal, in one pass" and not plain.calibrated and plain.problems == []
    assert plain.joint_names == ("nose",) and plain.connections == [] and plain.least_score == 0.05
    (tmp_path / "v").write_bytes(b"1")
    kept = plain.checkpoint(tmp_path / "c", [tmp_path / "v"], "0-5", frames=3)
    assert set(kept._about) == {"input", "part of it"} and kept._about["part of it"] == "0-5"
    assert (kept._frames, kept._seconds, kept._pictures) == (3, 60.0, True)
