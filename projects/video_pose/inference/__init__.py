"""Videos in, poses out: sources, streaming predictors, trackers, outputs."""

from video_pose.inference.frames import Frame, PoseFrame
from video_pose.inference.predictor import VideoPosePredictor
from video_pose.inference.settings import PredictorSettings
from video_pose.inference.sources import open_source
from video_pose.inference.streaming import StreamingPosePredictor

__all__ = [
    "Frame",
    "PoseFrame",
    "PredictorSettings",
    "StreamingPosePredictor",
    "VideoPosePredictor",
    "open_source",
]
