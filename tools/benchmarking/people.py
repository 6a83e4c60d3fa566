"""What further people cost a detector that remembers them, and whether its memory stays flat.

People are given: the detector does all of its work on a picture, and its findings are replaced by
boxes that tremble, so that any weights will do and every frame has the wanted number of people.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from benchmarking.measuring import Work
from video_pose.backends.detector import accelerate
from video_pose.backends.pose import build_backend
from video_pose.data.clip_mapper import build_pose_mapper
from video_pose.inference.frames import Frame
from video_pose.inference.people import KnownPeople, Person
from video_pose.inference.streaming import StreamingPosePredictor
from video_pose.modeling.recurrent_keypoint_rcnn import PeopleMemory, RecurrentKeypointRCNN

# Of a box's place, px of the network's input.
_TREMBLE = 2.0


def people_model(cfg: CfgNode, engine: str) -> RecurrentKeypointRCNN:
    """The model of ``cfg`` with random weights, its dense parts computed by ``engine``.

    Raises:
        ValueError: it has no memory of people, or the engine's packages are missing.
    """
    torch.manual_seed(0)
    model: Any = build_model(cfg).eval()
    if not isinstance(model, RecurrentKeypointRCNN):
        raise ValueError(f"{cfg.MODEL.META_ARCHITECTURE} remembers no people: give --people-config")
    accelerate(cfg, model, engine)
    return model


def picture_of(cfg: CfgNode) -> dict[str, Any]:
    """A random picture of the size that the network is tested on, 4 by 3."""
    short = cfg.INPUT.MIN_SIZE_TEST
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((3, short, short * 4 // 3), generator=generator) * 255
    return {"image": image, "height": image.shape[1], "width": image.shape[2]}


def grid_boxes(count: int, width: int, height: int) -> torch.Tensor:
    """``count`` boxes (P, 4) side by side in two rows."""
    columns = (count + 1) // 2
    i = torch.arange(count)
    x, y = (i % columns) * width / columns, (i // columns) * height / 2
    return torch.stack([x, y, x + width / columns, y + height / 2], 1).float()


def with_people(model: RecurrentKeypointRCNN, people: Callable[[], torch.Tensor]) -> None:
    """Let ``people()``, boxes (P, 4), take the place of what ``model`` detects, which it still
    has to look for."""
    detect = type(model.roi_heads).detect

    def replaced(features: Any, proposals: Any) -> list[Instances]:
        (own,) = detect(model.roi_heads, features, proposals)
        boxes = people()
        found = Instances(own.image_size, pred_boxes=Boxes(boxes), scores=torch.ones(len(boxes)))
        found.pred_classes = torch.zeros(len(boxes), dtype=torch.long)
        return [found]

    object.__setattr__(model.roi_heads, "detect", replaced)


def people_works(
    cfg: CfgNode, model: RecurrentKeypointRCNN, counts: Sequence[int], frames: int
) -> dict[str, Work]:
    """By name, ``frames`` frames of a stream with so many people."""
    picture = picture_of(cfg)
    size = picture["width"], picture["height"]

    def work(count: int) -> Work:
        boxes = grid_boxes(count, *size)

        def run() -> None:
            with_people(model, lambda: boxes + _TREMBLE * torch.randn(count, 1))
            memory = PeopleMemory()
            for _ in range(frames):
                model.step(picture, memory)
            assert memory.ids == list(range(count)), memory.ids

        return run

    names = {count: f"{count} people" if count > 1 else "1 person" for count in counts}
    return {name: work(count) for count, name in names.items()}


def megabytes_over(
    cfg: CfgNode, model: RecurrentKeypointRCNN, frames: int, people: int = 8
) -> list[tuple[int, float]]:
    """Memory of this process, (frame, MB), after a tenth of a stream and at its end.

    In every frame about a third of the people are missed; every 50 frames all leave, and others
    come, who stand elsewhere.
    """
    picture, memory = picture_of(cfg), PeopleMemory()
    everybody = grid_boxes(people, picture["width"], picture["height"])
    # Half a box to the right and down: nobody stands where one of the others was.
    aside = (everybody[0, 2:] - everybody[0, :2]).repeat(2) / 2
    generator = torch.Generator().manual_seed(0)
    frame = 0

    def present() -> torch.Tensor:
        here = torch.rand(people, generator=generator) > 0.3
        boxes = everybody[here] + aside * (frame // 50 % 2)
        return boxes + _TREMBLE / 4 * torch.randn((len(boxes), 1), generator=generator)

    with_people(model, present)
    found = []
    for frame in range(1, frames + 1):
        model.step(picture, memory)
        if frame in (max(1, frames // 10), frames):
            found.append((frame, resident_megabytes()))
    return found


class ComingAndGoing(KnownPeople):
    """One person or two in boxes that tremble; every 50 frames all leave, and others come."""

    independent = False

    def __init__(self, width: int, height: int) -> None:
        self._boxes = grid_boxes(2, width, height).double().numpy()
        self._generator = np.random.default_rng(0)
        self._tracked: set[int] = set()

    def propose(self, frame: Frame) -> list[Person]:
        shift = self._generator.normal(0, _TREMBLE, (2, 1))
        people = 2 if frame.index % 3 else 1
        first = frame.index // 50 * 2
        self._tracked = set(range(first, first + 2))
        boxes = self._boxes + shift
        return [Person(first + i, boxes[i], boxes[i]) for i in range(people)]

    def tracked(self) -> set[int] | None:
        return self._tracked


def pose_megabytes_over(cfg: CfgNode, frames: int) -> list[tuple[int, float]]:
    """As `megabytes_over`, of a recurrent pose model of ``cfg`` with random weights on crops."""
    torch.manual_seed(0)
    model: Any = build_model(cfg).eval()
    height, width = cfg.INPUT.CROP_SIZE
    image = np.random.default_rng(0).integers(0, 256, (height, width * 2, 3)).astype(np.uint8)
    predictor = StreamingPosePredictor(
        backend=build_backend(cfg, model),
        mapper=build_pose_mapper(cfg, False),
        people=lambda: ComingAndGoing(width * 2, height),
    )

    def pictures() -> Iterator[Frame]:
        for index in range(frames):
            yield Frame(index, index / 25, image)

    found = []
    for number, _ in enumerate(predictor(pictures()), 1):
        if number in (max(1, frames // 10), frames):
            found.append((number, resident_megabytes()))
    return found


def resident_megabytes() -> float:
    """Of this process, now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
