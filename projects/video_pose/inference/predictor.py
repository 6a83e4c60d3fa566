"""From a config to the poses of a video in three lines."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from detectron2 import model_zoo
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from torch import nn

from video_pose.backends.detector import accelerate
from video_pose.backends.pose import (
    GraphBackend,
    build_backend,
    file_beside,
    is_folder,
    load_refiner,
)
from video_pose.backends.runtimes import thread_limit
from video_pose.data.clip_mapper import build_pose_mapper
from video_pose.engine import defaults
from video_pose.engine.checkpointer import load_for_evaluation
from video_pose.engine.launch import return_freed_memory
from video_pose.engine.views import default_view, is_recurrent
from video_pose.evaluation.calibration import FILE as CALIBRATION_FILE
from video_pose.evaluation.calibration import Calibration
from video_pose.inference.detected_people import DetectedPeople
from video_pose.inference.frames import PoseFrame
from video_pose.inference.over_time import late, offline, require_twice
from video_pose.inference.people import Detector, FollowedPerson, GivenBoxes, People
from video_pose.inference.rcnn import PERSON, PersonRCNN, StreamingRCNNPredictor
from video_pose.inference.resume import (
    DEFAULT_SECONDS,
    Checkpoint,
    describe_files,
    describe_text,
)
from video_pose.inference.selection import keep_wanted
from video_pose.inference.settings import WEAK_SCORE, PredictorSettings
from video_pose.inference.smoothing import OneEuroSmoother
from video_pose.inference.sources import FrameSource, SourceSpec, open_source
from video_pose.inference.streaming import CutDetector, StreamingPosePredictor
from video_pose.inference.trackers import Tracker, build_tracker
from video_pose.inference.writers.tables import to_dataframe
from video_pose.modeling.backend import PoseBackend
from video_pose.modeling.sequences import OverTime
from video_pose.modeling.video_pose_net import VideoPoseNet
from video_pose.packaged import default_detector, default_model, is_pretrained, load_weights
from video_pose.skeleton import connect, infer_sigmas
from video_pose.visualization import connection_indices
from video_pose.visualization.overlay import LEAST_PEAK, LEAST_SCORE
from video_pose.visualization.poses import Connection

logger = logging.getLogger(__name__)

# Of frames, the video's name and, where there is one, a checkpoint.
Stream = Callable[..., Iterator[PoseFrame]]


class Poses(Iterator[PoseFrame]):
    """The poses of one source, as they are found: an iterator, to be used once.

    Attributes:
        problems: what was wrong with the source, one line each, once all frames are used up.
    """

    def __init__(self, frames: Iterator[PoseFrame], source: FrameSource) -> None:
        self._frames, self._source = frames, source
        self.problems: list[str] = []

    def __next__(self) -> PoseFrame:
        try:
            return next(self._frames)
        except StopIteration:
            self.problems = list(self._source.problems)
            raise

    def to_dataframe(self, table: str = "wide", angles: bool = False) -> Any:
        """Find the rest and give it as a pandas DataFrame; see `writers.tables.to_dataframe`."""
        return to_dataframe(self, table, angles)


class VideoPosePredictor:
    """Poses of the people in videos, whichever of the models finds them.

    ::

        predictor = VideoPosePredictor.from_config("config.yaml", weights="model.pth")
        for frame in predictor("video.mp4"):
            print(frame.time, frame.track_ids, frame.keypoints)

    Attributes:
        joint_names: of the poses. connections: lines between joints, for drawing.
        least_score: of a joint that is drawn.
        problems: those of the source that ended last; several that are read side by side have
            each their own in `Poses.problems`.
    """

    def __init__(
        self,
        stream: Stream,
        joint_names: Sequence[str],
        connections: Sequence[Connection] = (),
        smoother: OneEuroSmoother | None = None,
        about: Callable[[], dict[str, str]] = dict,
        over_time: OverTime | None = None,
        settings: PredictorSettings | None = None,
        calibration: Calibration | None = None,
        least_score: float = LEAST_SCORE,
    ) -> None:
        """
        Args:
            about: what results depend on, by name, for `checkpoint`.
            over_time: corrects poses by later frames, as ``settings`` say.
            calibration: of the scores, for the results' ``probabilities``.
        """
        self._stream, self._about = stream, about
        self._smoother = smoother
        self._over_time = over_time
        self._settings = settings or PredictorSettings()
        self._calibration = calibration
        self.joint_names = tuple(joint_names)
        self.connections = list(connections)
        self.least_score = least_score
        self.problems: list[str] = []

    @classmethod
    def from_config(
        cls,
        config_file: str | None = None,
        *,
        weights: str | None = None,
        options: Sequence[object] = (),
        settings: PredictorSettings | None = None,
    ) -> VideoPosePredictor:
        """Build from a config of any of the models.

        Args:
            config_file: a file, or a name in Detectron2's model zoo; None is the model that ships
                with the package (`pretrained.default_model`).
            weights: instead of the config's MODEL.WEIGHTS.
            options: config keys and values in turn, as of ``--opts``.
            settings: person regions, tracker and so on.

        Raises:
            FileNotFoundError: config or weights are missing.
            ValueError, KeyError: they, or ``settings``, contradict each other.
        """
        settings = settings or PredictorSettings()
        if config_file is None:
            config_file, packaged_weights = default_model()
            options = ["MODEL.WEIGHTS", packaged_weights, *options]
        if weights is not None:
            options = [*options, "MODEL.WEIGHTS", weights]
        cfg = load_cfg(config_file, options)
        smoother = OneEuroSmoother() if settings.smooth else None
        make = _recurrent_stream if is_recurrent(cfg) else _rcnn_stream
        stream, names = make(cfg, settings, config_file)
        about = partial(_describe, cfg, settings)
        return_freed_memory()  # of weights that engines have in a form of their own now
        return cls(
            stream,
            names,
            find_connections(cfg, names),
            smoother,
            about,
            _over_time(cfg, settings),
            settings,
            calibration_beside(cfg, settings),
            LEAST_PEAK if is_recurrent(cfg) else LEAST_SCORE,
        )

    def __call__(
        self,
        source: SourceSpec | FrameSource,
        fps: float | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Poses:
        """A result for every frame of ``source``, in order, also where nobody is found.

        What a source is remembered by is its own: several may be read side by side, and each
        counts its people from 0.

        Args:
            source: what `open_source` takes (a video file or URL, a folder, a glob pattern, image
                files, arrays, a camera's number), or what it returns.
            fps: of images.
            checkpoint: of `checkpoint`. The frames that it holds come again, as they were; the
                others bring it forward.

        Raises:
            FileNotFoundError, ValueError: the source cannot be read; at once, before iteration.
        """
        opened = open_source(source, fps)
        if self._settings.offline:
            require_twice(opened)
        return Poses(self._run(opened, checkpoint), opened)

    def checkpoint(
        self,
        folder: str | Path,
        files: Sequence[str | Path],
        part: str = "",
        *,
        seconds: float = DEFAULT_SECONDS,
        frames: int = 0,
        pictures: bool = True,
    ) -> Checkpoint:
        """What a run over a source is gone on from, should it be cut off; see `resume.Checkpoint`.

        ::

            checkpoint = predictor.checkpoint("video.resume", ["video.mp4"])
            for frame in predictor("video.mp4", checkpoint=checkpoint):
                ...
            checkpoint.remove()

        Args:
            folder: begun where there is none. files: that the source reads.
            part: which part of them, in words of the caller's.
            seconds, frames, pictures: see `resume.Checkpoint`.

        Raises:
            ValueError: the folder is another model's, other files' or another part's.
        """
        about = {**self._about(), "input": describe_files(files), "part of it": part}
        return Checkpoint(folder, about, seconds=seconds, frames=frames, pictures=pictures)

    @property
    def calibrated(self) -> bool:
        """Whether results have ``probabilities``."""
        return self._calibration is not None

    def _judged(self, frame: PoseFrame) -> PoseFrame:
        assert self._calibration is not None
        shares = self._calibration.apply(frame.keypoints[..., 2], frame.joint_names)
        return replace(frame, probabilities=shares.astype(np.float32))

    @property
    def mode(self) -> str:
        """When results come, and what corrects them, in words."""
        return "causal, in one pass" if self._over_time is None else self._over_time.describe()

    def _run(self, source: FrameSource, checkpoint: Checkpoint | None) -> Iterator[PoseFrame]:
        self.problems = []
        if checkpoint is None:
            results = self._stream(source, source.name)
        else:
            results = self._stream(checkpoint.frames(source), source.name, checkpoint)
        if self._over_time is not None and self._settings.offline:
            gaps = {"max_gap": self._settings.max_gap, "join_gap": self._settings.join_gap}
            results = offline(results, self._over_time, source, **gaps)
        elif self._over_time is not None:
            results = late(results, self._over_time)
        if self._smoother is not None:
            results = self._smoother(results)
        if self._calibration is not None:
            results = map(self._judged, results)
        threshold = self._settings.person_threshold or 0.0
        for frame in results:
            yield keep_wanted(frame, threshold)
        self.problems = list(source.problems)


def _describe(cfg: CfgNode, settings: PredictorSettings) -> dict[str, str]:
    """What a stream's results depend on. Smoothing is done anew, and encoding together changes
    nothing."""
    named = [cfg.MODEL.WEIGHTS, *settings.detector_options]
    files = [name for name in named if isinstance(name, str) and os.path.isfile(name)]
    if is_folder(settings.backend):
        files += sorted(str(path) for path in Path(settings.backend).iterdir() if path.is_file())
    plain = replace(settings, smooth=False, heatmaps=False, batch_frames=1)
    return {
        "model": describe_text(cfg.dump(), describe_files(files)),
        "choice of people": describe_text(plain),
        "version of PyTorch": torch.__version__,
    }


def calibration_beside(cfg: CfgNode, settings: PredictorSettings) -> Calibration | None:
    """The calibration beside a recurrent model's weights, for the poses that ``settings`` give."""
    beside = file_beside(cfg.MODEL.WEIGHTS, CALIBRATION_FILE) if is_recurrent(cfg) else None
    if beside is None:
        return None
    calibration = Calibration.read(beside)
    return calibration.of_late_poses() if settings.waits else calibration


def _over_time(cfg: CfgNode, settings: PredictorSettings) -> OverTime | None:
    """What corrects the poses of ``settings``; None where nothing does. A refiner is of a recurrent
    model: scores of an R-CNN mean something else."""
    if not settings.waits:
        return None
    name = settings.refiner if is_recurrent(cfg) or settings.refiner != "auto" else ""
    refiner = load_refiner(name, cfg.MODEL.WEIGHTS)
    return OverTime(settings.lag, refiner, settings.repair_sides)


def _recurrent_stream(
    cfg: CfgNode, settings: PredictorSettings, config_file: str
) -> tuple[Stream, Sequence[str]]:
    mapper = build_pose_mapper(cfg, False)
    policy = choose_detector(settings, mapper.rule.region, _known_classes(cfg))
    if policy.where != "detector":
        policy.refuse_unused()
    shares = share_cores(policy, cfg)
    make_people = people_maker(policy, cfg, shares[0])
    with thread_limit(shares[1]):
        backend = _load_backend(cfg, settings)
    stream = StreamingPosePredictor(
        backend=backend,
        mapper=mapper,
        people=make_people,
        cuts=_cut_maker(settings),
        batch_frames=settings.batch_frames,
        keep_heatmaps=settings.heatmaps,
        keep_peaks=settings.waits,
        stills=settings.stills,
    )
    return stream, backend.joint_names


def _rcnn_stream(
    cfg: CfgNode, settings: PredictorSettings, config_file: str
) -> tuple[Stream, Sequence[str]]:
    if settings.where != "frame" or is_folder(settings.backend):
        raise ValueError(
            f"{config_file} finds people by itself: region, box, detector and the folder of an "
            "export have no effect"
        )
    settings.refuse_unused_by_rcnn(default_view(cfg) == "frame_clips")
    threshold = settings.person_threshold or 0.0
    # What may be missing is said before the model is loaded.
    make_tracker(settings, threshold)
    rcnn = load_detector(cfg, settings, threshold)
    people = partial(_detected_people, settings, rcnn, threshold, rcnn.joint_names)
    stream = StreamingRCNNPredictor(
        rcnn,
        people,
        cuts=_cut_maker(settings),
        min_score=settings.min_score or 0.0,
        max_people=settings.max_people,
    )
    return stream, rcnn.joint_names


def _cut_maker(settings: PredictorSettings) -> Callable[[], CutDetector] | None:
    if settings.cut_threshold <= 0:
        return None
    return partial(CutDetector, settings.cut_threshold)


def make_tracker(settings: PredictorSettings, threshold: float) -> Tracker:
    """The tracker of ``settings``; ``threshold``: below which poses are not shown."""
    return build_tracker(
        settings.tracker,
        min_score=settings.begins(threshold),
        max_missed_seconds=settings.max_missed,
    )


def load_detector(cfg: CfgNode, settings: PredictorSettings, threshold: float) -> PersonRCNN:
    """The people's detector of ``cfg``, with the weak detections that known people want as well.

    Raises:
        ValueError: which class is meant is unknown.
    """
    detector = PersonRCNN.from_cfg(
        cfg, load_model(cfg), min(WEAK_SCORE, settings.begins(threshold)), settings.class_name
    )
    # An exported folder is of the pose network: the detector goes by its own configuration.
    backend = "" if is_folder(settings.backend) else settings.backend
    if "backbone" in accelerate(cfg, detector.model, backend, keep_weights=False):
        detector.precision = "float32"  # of the little that is left to PyTorch
    if settings.stills and cfg.TEST.AUG.get("STILLS", False):
        detector.augment(cfg)
    return detector


def choose_detector(
    settings: PredictorSettings, region: str, classes: Sequence[str] = ()
) -> PredictorSettings:
    """``settings`` with the package's detector where one is wanted and none is named.

    It is wanted for region "detector", and by a model whose crops show people's boxes where
    ``settings`` say nothing about the region. Without it such a model looks for one person in the
    whole frame, and says so.

    Args:
        region: INPUT.REGION of the model, "box" or "frame".
        classes: whom the model was trained on, where that is known: the package's detector finds
            people alone.

    Raises:
        ValueError: region "detector", and none ships for these classes.
    """
    open_choice = not settings.region and settings.box is None and region == "box"
    if settings.detector or not (open_choice or settings.region == "detector"):
        return settings
    packaged = default_detector() if not classes or PERSON in classes else None
    if packaged is not None:
        options = ("MODEL.WEIGHTS", packaged.weights, *settings.detector_options)
        return replace(settings, detector=packaged.config, detector_options=options)
    if settings.region == "detector":
        wanted = f" of {', '.join(classes)}" if classes else ""
        raise ValueError(
            f"region 'detector' needs a detector{wanted}: name its config, as none ships"
        )
    logger.warning(
        "the model was trained on people's boxes and gets none (no detector, no box): one person "
        "is looked for in the whole frame"
    )
    return settings


def _known_classes(cfg: CfgNode) -> list[str]:
    """Classes of the first dataset of the configuration that names them."""
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        classes = MetadataCatalog.get(name).get("thing_classes") if name in DatasetCatalog else None
        if classes:
            return list(classes)
    return []


def share_cores(settings: PredictorSettings, cfg: CfgNode) -> tuple[int, int]:
    """Threads of the detector, and of the pose network ``cfg``.

    On a CPU a detector that runs on every frame works on the next one while poses are found: each
    has half of the threads then, which cost less than twice as many that wait for each other. Where
    they take turns, the detector's number is 0, and both have all.
    """
    threads = torch.get_num_threads()
    beside = settings.where == "detector" and settings.detect_every == 1
    if not beside or cfg.MODEL.DEVICE != "cpu" or threads < 2:
        return 0, threads
    return threads // 2, threads - threads // 2


def people_maker(
    settings: PredictorSettings, cfg: CfgNode, detector_threads: int = 0
) -> Callable[[], People]:
    """Makes the policy of person regions that ``settings`` describe, for each stream anew.

    Args:
        cfg: of the pose model. Its detector is loaded once.
        detector_threads: of `share_cores`.
    """
    if settings.where in ("frame", "box"):
        return partial(GivenBoxes, settings.box)
    if settings.where == "pose":
        return partial(FollowedPerson, settings.box, min_score=settings.min_pose_score)
    threshold = settings.person_threshold
    if threshold is None:
        threshold = cfg.TEST.PERSON_THRESHOLD
    # First what may be missing and costs nothing to find out.
    make_tracker(settings, threshold)
    detector_cfg = load_cfg(settings.detector, settings.detector_options)
    if is_recurrent(detector_cfg):
        raise ValueError(f"detector {settings.detector}: it detects nobody, it is a pose model")
    with thread_limit(detector_threads or torch.get_num_threads()):
        detector = load_detector(detector_cfg, settings, threshold)
    joints = cfg.MODEL.POSE.JOINTS
    return partial(_detected_people, settings, detector, threshold, joints, detector_threads)


def _detected_people(
    settings: PredictorSettings,
    detector: Detector,
    threshold: float,
    joints: Sequence[str],
    detector_threads: int = 0,
) -> DetectedPeople:
    return DetectedPeople(
        detector,
        make_tracker(settings, threshold),
        every=settings.detect_every,
        max_missed=settings.max_missed,
        min_score=settings.min_pose_score,
        person_threshold=threshold,
        box_smoothing=settings.box_smoothing,
        sure_score=settings.begins(threshold),
        sigmas=infer_sigmas(joints),
        max_people=settings.max_people,
        detector_threads=detector_threads,
    )


def _load_backend(cfg: CfgNode, settings: PredictorSettings) -> PoseBackend:
    name = settings.backend or cfg.TEST.BACKEND
    if is_folder(name):
        return GraphBackend.from_folder(name, cfg, trust_programs=settings.trust_programs)
    return build_backend(cfg, cast(VideoPoseNet, load_model(cfg)), name)


def find_connections(cfg: CfgNode, joint_names: Sequence[str]) -> list[Connection]:
    """Lines between joints, by the first of the config's datasets that has such rules;
    where none is known, by the joints' names."""
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        if name in MetadataCatalog.list():
            rules = MetadataCatalog.get(name).get("keypoint_connection_rules")
            if rules:
                return connection_indices(joint_names, rules)
    return connection_indices(joint_names, connect(joint_names))


def load_cfg(config_file: str, options: Sequence[object] = ()) -> CfgNode:
    """Read a config for inference on this machine; see `video_pose.engine.defaults.load_cfg`.

    A name in Detectron2's model zoo comes with the zoo's trained weights, where ``options`` name no
    others: the file itself names those that its training began with.
    """
    options = [*zoo_weights(config_file), *options]
    cfg = defaults.load_cfg(config_file, options, for_inference=True)
    folder = os.path.dirname(config_file)
    trained = os.path.join(folder, "model_final.pth")
    if os.path.isfile(config_file) and os.path.isfile(trained):
        weights = cfg.MODEL.WEIGHTS
        if os.path.abspath(os.path.dirname(weights)) != os.path.abspath(folder):
            logger.warning(
                "%s is of a training, and MODEL.WEIGHTS %r is what it began with; what it made is "
                "MODEL.WEIGHTS %s", config_file, weights, trained,
            )  # fmt: skip
    return cfg


def zoo_weights(config_file: str) -> list[str]:
    """MODEL.WEIGHTS and the address of the zoo's trained model; [] for any other config."""
    if not config_file or os.path.isfile(config_file):
        return []
    try:
        return ["MODEL.WEIGHTS", model_zoo.get_checkpoint_url(config_file)]
    except RuntimeError:  # not in the zoo, or nobody trained it
        return []


def load_model(cfg: CfgNode) -> nn.Module:
    """Build the config's model and load MODEL.WEIGHTS; without weights it says so and goes on.

    Raises:
        FileNotFoundError: there is no such file, or it cannot be fetched.
        ValueError: the weights do not fit the model in every part.
    """
    weights = cfg.MODEL.WEIGHTS
    if weights and "://" not in weights and not os.path.isfile(weights):
        raise FileNotFoundError(f"MODEL.WEIGHTS not found: {weights}")
    model = build_model(cfg)
    if is_pretrained(weights):
        load_weights(model, weights)
    elif weights:
        load_for_evaluation(model, cfg, resume=False)
    else:
        logger.warning("MODEL.WEIGHTS is empty: %s is untrained", cfg.MODEL.META_ARCHITECTURE)
    return model.eval()
