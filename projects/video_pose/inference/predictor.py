"""From a config to the poses of a video in three lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

from detectron2.config import CfgNode

from video_pose.data.clip_mapper import build_pose_mapper
from video_pose.inference.building import (
    choose_detector,
    find_connections,
    is_recurrent,
    load_cfg,
    load_detector,
    load_model,
    load_people,
    load_tracker,
)
from video_pose.inference.frames import Frame, PoseFrame
from video_pose.inference.pretrained import default_model
from video_pose.inference.rcnn import StreamingRCNNPredictor
from video_pose.inference.settings import PredictorSettings
from video_pose.inference.smoothing import OneEuroSmoother
from video_pose.inference.sources import FrameSource, SourceSpec, open_source
from video_pose.inference.streaming import CutDetector, StreamingPosePredictor
from video_pose.modeling.backend import PoseBackend, TorchBackend
from video_pose.modeling.fast_path import build_fast_path
from video_pose.modeling.video_pose_net import VideoPoseNet
from video_pose.visualization.poses import Connection

Stream = Callable[[Iterable[Frame], str], Iterator[PoseFrame]]


class VideoPosePredictor:
    """Poses of the people in videos, whichever of the models finds them.

    ::

        predictor = VideoPosePredictor.from_config("config.yaml", weights="model.pth")
        for frame in predictor("video.mp4"):
            print(frame.time, frame.track_ids, frame.keypoints)

    Attributes:
        joint_names: of the poses. connections: lines between joints, for drawing.
        problems: what was wrong with the last source, one line each, once its frames are used up.
    """

    def __init__(
        self,
        stream: Stream,
        joint_names: Sequence[str],
        connections: Sequence[Connection] = (),
        smoother: OneEuroSmoother | None = None,
    ) -> None:
        self._stream = stream
        self._smoother = smoother
        self.joint_names = tuple(joint_names)
        self.connections = list(connections)
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
        cuts = CutDetector(settings.cut_threshold) if settings.cut_threshold > 0 else None
        smoother = OneEuroSmoother() if settings.smooth else None
        if not is_recurrent(cfg):
            if settings.where != "frame" or settings.backend != "torch":
                raise ValueError(
                    f"{config_file} finds people by itself: region, box, detector and backend "
                    "have no effect"
                )
            tracker = load_tracker(settings)
            rcnn = load_detector(cfg, settings)
            stream: Stream = StreamingRCNNPredictor(rcnn, tracker, cuts=cuts)
            names: Sequence[str] = rcnn.joint_names
        else:
            mapper = build_pose_mapper(cfg, False)
            people = load_people(choose_detector(settings, mapper.rule.region))
            backend: PoseBackend = _load_backend(cfg, settings)
            names = backend.joint_names
            stream = StreamingPosePredictor(
                backend=backend,
                mapper=mapper,
                people=people,
                cuts=cuts,
                batch_frames=settings.batch_frames,
                keep_heatmaps=settings.heatmaps,
            )
        return cls(stream, names, find_connections(cfg, names), smoother)

    def __call__(
        self, source: SourceSpec | FrameSource, fps: float | None = None
    ) -> Iterator[PoseFrame]:
        """Yield a result for every frame of ``source``, in order, also where nobody is found.

        Args:
            source: what `open_source` takes (a video file or URL, a folder, a glob pattern, image
                files, arrays, a camera's number), or what it returns.
            fps: of images.

        Raises:
            FileNotFoundError, ValueError: the source cannot be read; at once, before iteration.
        """
        return self._run(open_source(source, fps))

    def _run(self, source: FrameSource) -> Iterator[PoseFrame]:
        self.problems = []
        results = self._stream(source, source.name)
        yield from results if self._smoother is None else self._smoother(results)
        self.problems = list(source.problems)


def _load_backend(cfg: CfgNode, settings: PredictorSettings) -> PoseBackend:
    if settings.backend == "torch":
        return TorchBackend(cast(VideoPoseNet, build_fast_path(cfg, load_model(cfg))))
    from video_pose.backends.exported import ExportedBackend

    if settings.backend == "onnx":
        return ExportedBackend.from_model(cast(VideoPoseNet, load_model(cfg)), cfg)
    return ExportedBackend.from_folder(settings.backend, cfg)
