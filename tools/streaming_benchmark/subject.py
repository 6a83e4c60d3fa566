"""The model to measure, and people to show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import CfgNode

from video_pose.data.clip_mapper import build_pose_mapper
from video_pose.data.synthetic.scene import render_scene
from video_pose.inference.building import is_recurrent, load_cfg, load_model
from video_pose.inference.frames import Frame
from video_pose.inference.people import KnownPeople, People, Person
from video_pose.inference.streaming import CutDetector, StreamingPosePredictor
from video_pose.modeling.backend import TorchBackend
from video_pose.modeling.fast_path import build_fast_path
from video_pose.modeling.video_pose_net import VideoPoseNet

FPS = 25.0


@dataclass
class Subject:
    """A config, its model as built, and the same as the predictor runs it."""

    cfg: CfgNode
    model: VideoPoseNet
    backend: TorchBackend

    def predictor(self, people: People, cuts: CutDetector | None = None) -> StreamingPosePredictor:
        """A streaming predictor of this model."""
        mapper = build_pose_mapper(self.cfg, False)
        return StreamingPosePredictor(
            backend=self.backend,
            mapper=mapper,
            people=lambda: people,
            cuts=None if cuts is None else lambda: cuts,
        )


def load_subject(config_file: str, weights: str, options: list[str]) -> Subject:
    """Build the config's model; without ``weights``, with random ones, which cost the same.

    Raises:
        ValueError: it is no recurrent pose model.
    """
    cfg = load_cfg(config_file, [*options, "MODEL.WEIGHTS", weights])
    if not is_recurrent(cfg):
        name = cfg.MODEL.META_ARCHITECTURE
        raise ValueError(f"{config_file}: {name} is no recurrent pose model")
    torch.manual_seed(0)
    model = load_model(cfg)
    assert isinstance(model, VideoPoseNet)
    if not weights:
        _enliven(model)
    fast = build_fast_path(cfg, model)
    assert isinstance(fast, VideoPoseNet)
    return Subject(cfg, model, TorchBackend(fast))


def _enliven(model: VideoPoseNet) -> None:
    """Initial heads put out maps that are all but flat, whose peaks are anywhere: spread them."""
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and (name.startswith("head") or ".predict" in name):
            torch.nn.init.normal_(parameter, std=0.1)


def moving_pictures(count: int, size: tuple[int, int] = (320, 240)) -> np.ndarray:
    """uint8 (N, H, W, 3), BGR: a synthetic scene forwards and backwards; ``size`` is (W, H)."""
    scene = render_scene(7, people=2, frames=(count + 1) // 2, size=size, occluders="none")
    return np.concatenate([scene.frames, scene.frames[::-1]])[:count]


def endless(pictures: np.ndarray, count: int) -> Iterator[Frame]:
    """``count`` frames: the pictures again and again."""
    for i in range(count):
        yield Frame(i, i / FPS, pictures[i % len(pictures)])


class Crowd(KnownPeople):
    """So many people side by side, always."""

    independent = False

    def __init__(self, people: int) -> None:
        self._people = people

    def propose(self, frame: Frame) -> list[Person]:
        height, width = frame.image.shape[:2]
        found = []
        for i in range(self._people):
            left = width * i / self._people * 0.6
            box = np.array([left, 0.1 * height, left + 0.4 * width, 0.9 * height])
            found.append(Person(i, box, box))
        return found
