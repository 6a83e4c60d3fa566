"""What a predictor is made of: who finds people, with how many threads, and what it depends on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from video_pose.engine.defaults import get_pose_cfg
from video_pose.evaluation.calibration import Calibration
from video_pose.inference import predictor
from video_pose.inference.detected_people import DetectedPeople
from video_pose.inference.frames import Frame, PoseFrame
from video_pose.inference.people import FollowedPerson, GivenBoxes
from video_pose.inference.predictor import VideoPosePredictor
from video_pose.inference.settings import PredictorSettings
from video_pose.inference.smoothing import OneEuroSmoother
from video_pose.inference.sources import ArraySource
from video_pose.inference.streaming import CutDetector
from video_pose.inference.trackers import IoUTracker
from video_pose.modeling.sequences import OverTime

BOX = (1.0, 2.0, 30.0, 40.0)


def typed(word: str) -> str:
    """As from a command line or a file: equal to the program's word, and not the same object."""
    return "".join(list(word))


@pytest.fixture
def cfg() -> CfgNode:
    found = get_pose_cfg()
    found.MODEL.DEVICE = typed("cpu")
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
        (8, {"region": typed("detector")}, "cpu", (4, 4)),
    ],
)
def test_a_detector_beside_the_pose_network_has_half_of_the_threads(
    cfg: CfgNode, monkeypatch, threads: int, settings: dict, device: str, shares: tuple[int, int]
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    cfg.MODEL.DEVICE = typed(device)
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
    # By the joints' names then, where these tell.
    ((first, second, _),) = predictor.find_connections(cfg, ["nose", "left_ankle", "left_knee"])
    assert {first, second} == {1, 2}


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
    pose = PredictorSettings(region=typed("pose"), box=BOX, min_pose_score=0.3)
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
    with pytest.raises(ValueError) as error:
        predictor._rcnn_stream(cfg, PredictorSettings(**settings), "c.yaml")
    assert str(error.value) == (
        "c.yaml finds people by itself: region, box, detector and the folder of an export have no "
        "effect"
    )


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
    # Of poses that wait there is no smoothing and there are no heatmaps; a value is no file.
    later = PredictorSettings(offline=True, detector="d", detector_options=("TEST.KEY", 0.5))
    assert predictor._describe(cfg, later)["version of PyTorch"] == torch.__version__
    detector = tmp_path / "d.pth"
    models = set()
    for content in (b"1", b"22"):
        detector.write_bytes(content)
        options = PredictorSettings(detector="d", detector_options=("MODEL.WEIGHTS", str(detector)))
        models.add(predictor._describe(cfg, options)["model"])
    assert len(models) == 2
    # Of an exported folder the files count, whatever else lies there.
    export = PredictorSettings(backend=str(tmp_path / "export"))
    (tmp_path / "export" / "sub").mkdir(parents=True)
    for name, content in (("a", b"1"), ("b", b"1"), ("b", b"22"), ("sub/c", b"1")):
        (tmp_path / "export" / name).write_bytes(content)
        models.add(predictor._describe(cfg, export)["model"])
    assert len(models) == 5


def test_what_corrects_poses_over_time(cfg: CfgNode, monkeypatch) -> None:
    asked: list[tuple] = []
    monkeypatch.setattr(predictor, "load_refiner", lambda *args: asked.append(args))
    assert predictor._over_time(cfg, PredictorSettings()) is None
    cfg.MODEL.WEIGHTS = "w.pth"
    rule = predictor._over_time(cfg, PredictorSettings(lag=0, repair_sides=True))
    assert rule is not None and (rule.lag, rule.repair_sides) == (0, True)
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    whole = predictor._over_time(cfg, PredictorSettings(offline=True, refiner=typed("auto")))
    assert whole is not None and whole.lag is None and not whole.repair_sides
    predictor._over_time(cfg, PredictorSettings(offline=True, refiner="/mine"))
    assert asked == [("auto", "w.pth"), ("", "w.pth"), ("/mine", "w.pth")]
    assert predictor.calibration_beside(cfg, PredictorSettings()) is None


def test_weights_that_are_not_there_are_named(cfg: CfgNode, caplog) -> None:
    cfg.MODEL.WEIGHTS = "/no/such.pth"
    with pytest.raises(FileNotFoundError) as error:
        predictor.load_model(cfg)
    assert str(error.value) == "MODEL.WEIGHTS not found: /no/such.pth"


def test_a_predictor_that_does_nothing_more_says_so(tmp_path: Path) -> None:
    plain = VideoPosePredictor(lambda frames, name: iter(frames), ["nose"])
    assert plain.mode == "causal, in one pass" and not plain.calibrated and plain.problems == []
    assert plain.joint_names == ("nose",) and plain.connections == [] and plain.least_score == 0.05
    (tmp_path / "v").write_bytes(b"1")
    kept = plain.checkpoint(tmp_path / "c", [tmp_path / "v"], "0-5", frames=3)
    assert set(kept._about) == {"input", "part of it"} and kept._about["part of it"] == "0-5"
    assert (kept._frames, kept._seconds, kept._pictures) == (3, 60.0, True)


class Calls:
    """Takes the place of what a predictor is made of, and notes how it was called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: object) -> None:
        self.of: dict[str, list[tuple]] = {name: [] for name in answers}
        for name, answer in answers.items():
            monkeypatch.setattr(predictor, name, partial(self._note, name, answer))

    def _note(self, name: str, answer: object, *args: object, **named: object) -> object:
        self.of[name].append((*args, named) if named else args)
        return answer


@pytest.mark.parametrize("recurrent", [True, False])
def test_a_predictor_from_a_configuration(cfg: CfgNode, monkeypatch, recurrent: bool) -> None:
    """Weights that are named go before those of options; without a configuration it is the
    package's model, whose weights options may override."""
    cfg.MODEL.META_ARCHITECTURE = "UniPoseLSTM" if recurrent else "GeneralizedRCNN"
    made = (lambda frames, name: iter(frames)), ["nose", "left_wrist"]
    calls = Calls(
        monkeypatch, load_cfg=cfg, default_model=("own.yaml", "own.pth"), _recurrent_stream=made,
        _rcnn_stream=made, calibration_beside="curves", return_freed_memory=None,
        find_connections=[(0, 1)], _describe={"model": "told"},
    )  # fmt: skip
    settings = PredictorSettings(lag=2, refiner="")
    found = VideoPosePredictor.from_config("c.yaml", settings=settings)
    assert calls.of["load_cfg"] == [("c.yaml", ())] and calls.of["default_model"] == []
    ways = ("_recurrent_stream", "_rcnn_stream")[:: 1 if recurrent else -1]
    assert [calls.of[way] for way in ways] == [[(cfg, settings, "c.yaml")], []]
    assert found._stream is made[0] and found.joint_names == ("nose", "left_wrist")
    assert found.connections == [(0, 1)] and found.least_score == (0.2 if recurrent else 0.05)
    assert found._smoother is None and found.mode == "2 frames late: smoothed"
    assert found._calibration == "curves" and found._settings is settings
    assert found._about() == {"model": "told"}
    assert calls.of["_describe"] == [(cfg, settings)] and len(calls.of["return_freed_memory"]) == 1
    plain = VideoPosePredictor.from_config(weights="mine.pth", options=["TEST.KEY", 3])
    assert plain.mode == "causal, in one pass" and plain._settings == PredictorSettings()
    VideoPosePredictor.from_config("c.yaml", weights="mine.pth", options=["TEST.KEY", 3])
    asked = [(name, list(options)) for name, options in calls.of["load_cfg"]]
    own = ["MODEL.WEIGHTS", "own.pth"]
    given = ["TEST.KEY", 3, "MODEL.WEIGHTS", "mine.pth"]
    assert asked[1:] == [("own.yaml", own + given), ("c.yaml", given)]
    smooth = VideoPosePredictor.from_config("c.yaml", settings=PredictorSettings(smooth=True))
    assert isinstance(smooth._smoother, OneEuroSmoother)


def result(frame: Frame) -> PoseFrame:
    """One person whose first joint is at the frame's number."""
    keypoints = np.array([[[frame.index, 0, 0.5], [0, 50, 0.5]]], np.float32)
    return PoseFrame(
        frame.index, frame.time, frame.image, "arrays", ("nose", "left_wrist"), keypoints,
        np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int64),
        starts_shot=frame.index == 0,
    )  # fmt: skip


PICTURES = [np.full((4, 4, 3), n, np.uint8) for n in range(4)]


def test_what_results_go_through(monkeypatch) -> None:
    """The network, then corrections by later frames or by all, smoothing, and probabilities."""
    went: list[tuple] = []

    def through(kind: str, results, *args, **named):  # type: ignore[no-untyped-def]
        went.append((kind, args, named))
        return results

    monkeypatch.setattr(predictor, "late", partial(through, "late"))
    monkeypatch.setattr(predictor, "offline", partial(through, "offline"))

    def stream(frames, name, *more):  # type: ignore[no-untyped-def]
        went.append(("stream", name, more))
        return map(result, frames)

    for settings, expected in (
        ({}, []),
        ({"lag": 2}, ["late"]),
        ({"offline": True, "max_gap": 0.3, "join_gap": 0.7}, ["offline"]),
    ):
        went.clear()
        chosen = PredictorSettings(**settings)
        rule = OverTime(chosen.lag) if chosen.waits else None
        found = VideoPosePredictor(
            stream, ["nose", "left_wrist"], over_time=rule, settings=chosen,
            smoother=partial(through, "smooth"),  # type: ignore[arg-type]
            calibration=Calibration({"": ((0.0, 1.0), (0.25, 0.75))}, "made up"),
        )  # fmt: skip
        frames = list(found(PICTURES))
        assert [frame.keypoints[0, 0, 0] for frame in frames] == [0, 1, 2, 3]
        assert [frame.image[0, 0, 0] for frame in frames] == [0, 1, 2, 3]
        assert all(frame.probabilities.tolist() == [[0.5, 0.5]] for frame in frames)
        assert frames[0].probabilities.dtype == np.float32
        assert [one[0] for one in went] == ["stream", *expected, "smooth"]
        assert went[0][1:] == ("arrays", ())
        if expected == ["late"]:
            assert went[1][1:] == ((rule,), {})
        if expected == ["offline"]:
            (own, source), gaps = went[1][1:]
            assert own is rule and source.name == "arrays"
            assert gaps == {"max_gap": 0.3, "join_gap": 0.7}
    with pytest.raises(ValueError, match="arrays can be read once alone"):
        found(iter(PICTURES))


def test_a_run_goes_on_from_its_checkpoint_and_tells_what_was_wrong() -> None:
    class Kept:
        def frames(self, source):  # type: ignore[no-untyped-def]
            return [frame for frame in source if frame.index != 1]

    given: list[tuple] = []

    def stream(frames, name, *more):  # type: ignore[no-untyped-def]
        given.append((name, *more))
        return map(result, frames)

    source = ArraySource(PICTURES)
    source.name = "walk"
    source.problems = ["a frame was lost"]
    made = VideoPosePredictor(stream, ["nose", "left_wrist"])
    poses = made(source, checkpoint=(kept := Kept()))  # type: ignore[arg-type]
    assert next(poses).index == 0 and poses.problems == made.problems == []
    assert [frame.index for frame in poses] == [2, 3] and given == [("walk", kept)]
    assert poses.problems == made.problems == ["a frame was lost"]
    source.problems.append("later")
    assert poses.problems == ["a frame was lost"]
    table = made(source).to_dataframe()
    assert len(table) == 4 and len(made(source).to_dataframe("long")) == 8


@pytest.mark.parametrize(
    ("settings", "region", "classes", "expected"),
    [
        ({}, "box", (), "own"), ({}, "frame", (), ""), ({"region": "pose"}, "box", (), ""),
        ({"box": BOX}, "box", (), ""), ({"region": "detector"}, "frame", (), "own"),
        ({"detector": "mine.yaml"}, "box", (), "mine.yaml"), ({}, "box", ["cat", "person"], "own"),
        ({}, "box", ["cat", "dog"], "warning"), ({"region": "frame"}, "box", (), ""),
        ({"region": "detector"}, "box", ["cat", "dog"], "of cat, dog"),
    ],
)  # fmt: skip
def test_which_detector_finds_people(
    monkeypatch, caplog, settings: dict, region: str, classes: list[str], expected: str
) -> None:
    """The package's where one is wanted and none is named, with options that may override it."""
    packaged = SimpleNamespace(config="own.yaml", weights="own.pth")
    monkeypatch.setattr(predictor, "default_detector", lambda: packaged)
    region = typed(region)
    if "region" in settings:
        settings = settings | {"region": typed(settings["region"])}
    given = PredictorSettings(**settings, detector_options=("A", "b"))
    if expected.startswith("of"):
        with pytest.raises(ValueError) as error:
            predictor.choose_detector(given, region, classes)
        assert str(error.value) == (
            f"region 'detector' needs a detector {expected}: name its config, as none ships"
        )
        return
    chosen = predictor.choose_detector(given, region, classes)
    if expected == "own":
        assert chosen.detector == "own.yaml"
        assert chosen.detector_options == ("MODEL.WEIGHTS", "own.pth", "A", "b")
        assert replace(chosen, detector="", detector_options=("A", "b")) == given
    else:
        assert chosen is given
    assert caplog.messages == (
        [
            "the model was trained on people's boxes and gets none (no detector, no box): one "
            "person is looked for in the whole frame"
        ]
        if expected == "warning"
        else []
    )


def test_what_a_recurrent_stream_is_made_of(cfg: CfgNode, monkeypatch) -> None:
    mapper = SimpleNamespace(rule=SimpleNamespace(region="box"))
    backend = SimpleNamespace(joint_names=("a", "b"))
    settings = PredictorSettings(batch_frames=3, heatmaps=True, stills=True, cut_threshold=0)
    policy = replace(settings, region=typed("detector"), detector="d.yaml", detect_every=2)
    calls = Calls(
        monkeypatch, build_pose_mapper=mapper, choose_detector=policy, share_cores=(2, 5),
        people_maker="people", _load_backend=backend, _known_classes=["cat"],
        thread_limit=contextlib.nullcontext(), StreamingPosePredictor="stream",
    )  # fmt: skip
    assert predictor._recurrent_stream(cfg, settings, "c.yaml") == ("stream", ("a", "b"))
    assert calls.of["build_pose_mapper"] == [(cfg, False)]
    assert calls.of["choose_detector"] == [(settings, "box", ["cat"])]
    assert calls.of["people_maker"] == [(policy, cfg, 2)] and calls.of["thread_limit"] == [(5,)]
    assert calls.of["_load_backend"] == [(cfg, settings)]
    assert calls.of["StreamingPosePredictor"] == [({
        "backend": backend, "mapper": mapper, "people": "people", "cuts": None, "batch_frames": 3,
        "keep_heatmaps": True, "keep_peaks": False, "stills": True,
    },)]  # fmt: skip
    waits = PredictorSettings(lag=1)
    predictor._recurrent_stream(cfg, waits, "c.yaml")
    assert calls.of["StreamingPosePredictor"][1][0]["keep_peaks"] is True
    assert calls.of["StreamingPosePredictor"][1][0]["cuts"]().threshold == 0.2
    # Of a detector that is not there an option has no effect, and is refused.
    unused = PredictorSettings(detect_every=2)
    Calls(monkeypatch, choose_detector=unused)
    with pytest.raises(ValueError, match="--detect-every 2 .detect_every. has no effect"):
        predictor._recurrent_stream(cfg, unused, "c.yaml")


@pytest.mark.parametrize(("given", "threshold", "begins"), [(None, 0.0, 0.5), (0.3, 0.3, 0.4)])
def test_what_a_stream_of_a_detector_is_made_of(
    cfg: CfgNode, monkeypatch, given: float | None, threshold: float, begins: float
) -> None:
    """Without a threshold of poses every detection is shown that is sure by itself."""
    rcnn = SimpleNamespace(joint_names=("nose", "left_wrist"))
    calls = Calls(monkeypatch, load_detector=rcnn, StreamingRCNNPredictor="stream")
    settings = PredictorSettings(
        region=typed("frame"), person_threshold=given, tracker="iou", cut_threshold=0.3
    )
    assert predictor._rcnn_stream(cfg, settings, "c.yaml") == ("stream", rcnn.joint_names)
    assert calls.of["load_detector"] == [(cfg, settings, threshold)]
    ((own, people, named),) = calls.of["StreamingRCNNPredictor"]
    made = people()
    assert own is rcnn and named["cuts"]().threshold == 0.3
    assert made._detector is rcnn and made._threads == 0
    assert (made._threshold, made._sure_score) == (threshold, begins)
    assert made._tracker.min_score == begins
    assert made._sigmas.tolist() == [0.026, 0.062] and made is not people()
    assert (named["min_score"], named["max_people"]) == (0.0, 0)
    predictor._rcnn_stream(cfg, PredictorSettings(min_score=0.7, max_people=2), "c.yaml")
    assert calls.of["StreamingRCNNPredictor"][1][2]["min_score"] == 0.7
    assert calls.of["StreamingRCNNPredictor"][1][2]["max_people"] == 2


@pytest.mark.parametrize("architecture", ["GeneralizedRCNN", "RecurrentKeypointRCNN"])
def test_what_a_detector_of_poses_does_not_go_by_is_refused_before_it_is_loaded(
    cfg: CfgNode, monkeypatch, architecture: str
) -> None:
    cfg.MODEL.META_ARCHITECTURE = architecture
    calls = Calls(
        monkeypatch, load_detector=SimpleNamespace(joint_names=()), StreamingRCNNPredictor="stream"
    )
    with pytest.raises(ValueError, match=r"--detect-every 5 \(detect_every\) has no effect"):
        predictor._rcnn_stream(cfg, PredictorSettings(detect_every=5), "c.yaml")
    tracker = PredictorSettings(tracker="iou")
    if architecture == "RecurrentKeypointRCNN":
        with pytest.raises(ValueError, match=r"--tracker iou \(tracker\) has no effect"):
            predictor._rcnn_stream(cfg, tracker, "c.yaml")
        assert calls.of["load_detector"] == []
    else:
        predictor._rcnn_stream(cfg, tracker, "c.yaml")
        assert len(calls.of["load_detector"]) == 1


@pytest.mark.parametrize(("threshold", "shown"), [(None, True), (0.5, True), (0.51, False)])
def test_a_person_threshold_holds_for_any_region(threshold: float | None, shown: bool) -> None:
    """Also where no detector judges people: one person, whose joints score .5, in the frame."""
    plain = VideoPosePredictor(
        lambda frames, name: map(result, frames), ["nose", "left_wrist"],
        settings=PredictorSettings(person_threshold=threshold),
    )  # fmt: skip
    assert [len(frame) for frame in plain(PICTURES)] == [int(shown)] * 4


@pytest.mark.parametrize(
    ("settings", "stills", "weakest", "backend"),
    [
        ({}, True, 0.1, ""), ({"min_score": 0.05, "stills": True}, True, 0.05, ""),
        ({"stills": True, "backend": "openvino"}, False, 0.1, "openvino"),
        ({"stills": True, "backend": "an/export"}, None, 0.1, ""),
    ],
)  # fmt: skip
def test_a_detector_gives_weak_detections_as_well(
    cfg: CfgNode, monkeypatch, settings: dict, stills: bool | None, weakest: float, backend: str
) -> None:
    """An exported folder is of the pose network. What computes the backbone has a precision of
    its own; photos are looked at several times where the configuration says so."""
    augmented: list[CfgNode] = []
    made = SimpleNamespace(model="net", precision="bfloat16", augment=augmented.append)
    calls = Calls(monkeypatch, load_model="loaded", accelerate=["backbone", "head"])
    asked: list[tuple] = []
    monkeypatch.setattr(predictor.PersonRCNN, "from_cfg", lambda *args: asked.append(args) or made)
    cfg.TEST.AUG.pop("STILLS", None)
    if stills is not None:
        cfg.TEST.AUG.STILLS = stills
    chosen = PredictorSettings(**settings, class_name="cat")
    assert predictor.load_detector(cfg, chosen, 0.25) is made
    assert asked == [(cfg, "loaded", weakest, "cat")]
    assert calls.of["accelerate"] == [(cfg, "net", backend, {"keep_weights": False})]
    assert made.precision == "float32"
    assert augmented == ([cfg] if stills and chosen.stills else [])
    made.precision = "bfloat16"
    Calls(monkeypatch, accelerate=["head"])
    predictor.load_detector(cfg, chosen, 0.25)
    assert made.precision == "bfloat16"


def test_what_computes_the_pose_network(cfg: CfgNode, monkeypatch, tmp_path: Path) -> None:
    """The name that settings give, else the configuration's; or the folder of an export."""
    calls = Calls(monkeypatch, build_backend="built", load_model="model")
    cfg.TEST.BACKEND = "openvino"
    assert predictor._load_backend(cfg, PredictorSettings()) == "built"
    assert predictor._load_backend(cfg, PredictorSettings(backend="torch")) == "built"
    assert calls.of["build_backend"] == [(cfg, "model", "openvino"), (cfg, "model", "torch")]
    asked: list[tuple] = []
    monkeypatch.setattr(
        predictor.GraphBackend, "from_folder", lambda *args, **named: asked.append((*args, named))
    )
    for trusted in (False, True):
        settings = PredictorSettings(backend=str(tmp_path), trust_programs=trusted)
        predictor._load_backend(cfg, settings)
    expected = [(str(tmp_path), cfg, {"trust_programs": trusted}) for trusted in (False, True)]
    assert asked == expected and len(calls.of["load_model"]) == 2


@pytest.mark.parametrize(
    ("weights", "recurrent", "expected"),
    [
        ("", True, ""), ("own.pth", True, "load_weights"), ("own.pth", False, "load_weights"),
        ("w.pth", True, "load_for_evaluation"), ("w.pth", False, "load_for_evaluation"),
        ("https://h/w.pth", False, "load_for_evaluation"),
    ],
)  # fmt: skip
def test_how_weights_are_loaded(
    cfg: CfgNode, monkeypatch, caplog, tmp_path: Path, weights: str, recurrent: bool, expected: str
) -> None:
    """They must fit in every part."""
    if weights and "://" not in weights:
        (tmp_path / weights).write_bytes(b"x")
        weights = str(tmp_path / weights)
    cfg.MODEL.WEIGHTS = weights
    cfg.MODEL.META_ARCHITECTURE = "UniPoseLSTM" if recurrent else "GeneralizedRCNN"
    model = torch.nn.Linear(1, 1)
    calls = Calls(monkeypatch, build_model=model, load_weights=None, load_for_evaluation=None)
    monkeypatch.setattr(predictor, "is_pretrained", lambda name: name.endswith("own.pth"))
    assert predictor.load_model(cfg) is model and not model.training
    called = {name: args for name, args in calls.of.items() if args and name != "build_model"}
    assert (
        called
        == {
            "": {},
            "load_weights": {"load_weights": [(model, weights)]},
            "load_for_evaluation": {"load_for_evaluation": [(model, cfg, {"resume": False})]},
        }[expected]
    )
    text = "MODEL.WEIGHTS is empty: UniPoseLSTM is untrained"
    assert caplog.messages == ([] if expected else [text])


def test_the_configuration_of_a_training_names_what_it_began_with(tmp_path: Path, caplog) -> None:
    config, trained = tmp_path / "config.yaml", tmp_path / "model_final.pth"
    cfg = get_pose_cfg()
    cfg.MODEL.META_ARCHITECTURE = "UniPoseLSTM"
    cfg.MODEL.POSE.JOINTS = ["nose"]
    cfg.MODEL.WEIGHTS = "video-pose://unipose_lstm_R50_res4"
    config.write_text(cfg.dump())
    predictor.load_cfg(str(config))
    assert "is of a training" not in caplog.text
    trained.write_bytes(b"")
    predictor.load_cfg(str(config), ["MODEL.WEIGHTS", str(trained)])
    assert "is of a training" not in caplog.text
    predictor.load_cfg(str(config))
    assert (
        "is of a training, and MODEL.WEIGHTS 'video-pose://unipose_lstm_R50_res4' is" in caplog.text
    )
    assert f"what it made is MODEL.WEIGHTS {trained}" in caplog.text


def test_weights_of_the_zoo_are_its_trained_ones(monkeypatch, tmp_path: Path) -> None:
    """Of names in it alone: a file of the same name is the user's."""
    calls = Calls(monkeypatch)
    monkeypatch.setattr(predictor.defaults, "load_cfg", partial(calls._note, "load", "read"))
    calls.of["load"] = []
    name = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
    (address,) = predictor.zoo_weights(name)[1:]
    assert predictor.zoo_weights(name)[0] == "MODEL.WEIGHTS" and address.startswith("https://")
    assert predictor.load_cfg(name, ("A", 1)) == "read"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "COCO-Detection").mkdir()
    (tmp_path / name).write_text("")
    assert predictor.zoo_weights(name) == predictor.zoo_weights("") == []
    assert predictor.zoo_weights("COCO-Detection/none.yaml") == []
    predictor.load_cfg(name, ("A", 1))
    named = {"for_inference": True}
    assert calls.of["load"] == [
        (name, ["MODEL.WEIGHTS", address, "A", 1], named), (name, ["A", 1], named),
    ]  # fmt: skip
