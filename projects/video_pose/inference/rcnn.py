"""Detectron2's detectors on video: as a person detector, and as a pose model of their own.

Shape letters: P persons, K joints, H W image size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import detectron2.data.transforms as T
import numpy as np
import pycocotools.mask as coco_mask
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from video_pose.data.records import known_mirror_pairs
from video_pose.inference.detected_people import DetectedPeople
from video_pose.inference.frames import Frame, PoseFrame
from video_pose.inference.resume import Checkpoint, Past
from video_pose.inference.streaming import CutDetector
from video_pose.modeling.precision import check_precision, inference_autocast
from video_pose.modeling.rcnn_parts import (
    KeypointRCNNWithTTA,
    naming_divergence,
    prepare_regions,
)
from video_pose.modeling.recurrent_keypoint_rcnn import (
    KeypointMemory,
    PeopleMemory,
    RecurrentKeypointRCNN,
)
from video_pose.skeleton import require_mirror_pairs

PERSON = "person"


class PersonRCNN:
    """The people that a Detectron2 model finds in a picture."""

    def __init__(
        self,
        model: nn.Module,
        *,
        person_class: int,
        image_format: str = "BGR",
        min_size: int = 800,
        max_size: int = 1333,
        min_score: float = 0.5,
        joint_names: tuple[str, ...] = (),
        precision: str = "float32",
    ) -> None:
        """
        Args:
            model: a meta-architecture of detection, with weights.
            person_class: index of the class.
            min_size, max_size: of the shorter and the longer side that pictures are resized to;
                ``min_size`` 0 keeps the size.
            joint_names: of ``pred_keypoints``; empty where the model has none.
            precision: to compute in, as TEST.PRECISION, whatever the caller computes in.
        """
        self.model = model.eval()
        prepare_regions(self.model)
        self.precision = check_precision(precision)
        self.joint_names = joint_names
        self._person_class, self._min_score = person_class, min_score
        self._image_format = image_format
        self._resize = T.ResizeShortestEdge([min_size, min_size], max_size)
        self._dtype: type = np.float32

    @classmethod
    def from_cfg(
        cls, cfg: CfgNode, model: nn.Module, min_score: float = 0.5, class_name: str = ""
    ) -> PersonRCNN:
        """Take what surrounds ``model`` from its configuration.

        Args:
            class_name: of those to find, or its number; "": "person", or the only class.

        Raises:
            ValueError: the class is unknown, or which one is meant.
        """
        metadata = _metadata(cfg)
        return cls(
            model,
            person_class=_choose_class(cfg, metadata.get("thing_classes", []), class_name),
            image_format=cfg.INPUT.FORMAT,
            min_size=cfg.INPUT.MIN_SIZE_TEST,
            max_size=cfg.INPUT.MAX_SIZE_TEST,
            min_score=min_score,
            joint_names=tuple(_joint_names(cfg, metadata.get("keypoint_names", []))),
            # Configurations of other projects lack the key.
            precision=cfg.TEST.get("PRECISION", "float32"),
        )

    def augment(self, cfg: CfgNode) -> None:
        """Find people on all images of ``TEST.AUG`` from now on, as in photos; slower.

        Raises:
            ValueError: the model is no `GeneralizedRCNN`, it remembers people, or what a mirror
                image swaps of its joints is unknown.
        """
        if self.new_memory() is not None:
            raise ValueError("TEST.AUG.STILLS: test scales and flips would mix people's memories")
        if cfg.MODEL.KEYPOINT_ON and cfg.TEST.AUG.FLIP:
            if not cfg.MODEL.POSE.JOINTS:
                raise ValueError("TEST.AUG.STILLS with TEST.AUG.FLIP needs MODEL.POSE.JOINTS")
            pairs = [(left, right) for left, right in cfg.MODEL.POSE.FLIP_MAP]
            require_mirror_pairs(cfg.MODEL.POSE.JOINTS, pairs, *known_mirror_pairs([]))
        self.model = KeypointRCNNWithTTA(cfg, self.model).eval()
        # The smaller images are made of the largest one, which bounds the memory.
        largest = max(cfg.TEST.AUG.MIN_SIZES)
        self._resize = T.ResizeShortestEdge([largest, largest], cfg.TEST.AUG.MAX_SIZE)
        self._dtype = np.uint8  # what Detectron2 shrinks with all pixels taken into account

    def new_memory(self) -> PeopleMemory | None:
        """What a stream hands to `instances`; None where the model remembers nobody."""
        return PeopleMemory() if isinstance(self.model, RecurrentKeypointRCNN) else None

    @torch.no_grad()
    def instances(self, image: np.ndarray, memory: PeopleMemory | None = None) -> Instances:
        """The people in uint8 (H, W, 3) BGR ``image``, on the CPU, the surest first.

        Args:
            memory: of the stream, brought forward; its people have ``pred_track_ids``.

        Raises:
            ValueError: the model has diverged.
        """
        height, width = image.shape[:2]
        if self._image_format == "RGB":
            image = image[:, :, ::-1]
        resized = self._resize.get_transform(image).apply_image(image)
        tensor = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1), self._dtype))
        given = {"image": tensor, "height": height, "width": width}
        with naming_divergence(), inference_autocast(self.precision, _device_of(self.model)):
            if memory is None:
                (result,) = self.model([given])
            else:
                result = self.model.step(given, memory)
        found = _as_float32(result["instances"].to("cpu"))
        found = found[
            (found.pred_classes == self._person_class) & (found.scores >= self._min_score)
        ]
        return found[found.scores.argsort(descending=True)]

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (P, 4) XYXY and scores (P,)."""
        found = self.instances(image)
        return found.pred_boxes.tensor.numpy(), found.scores.numpy()


def _device_of(model: nn.Module) -> torch.device:
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _as_float32(found: Instances) -> Instances:
    """Half-precision fields as float32, which NumPy knows."""
    for name, value in found.get_fields().items():
        if isinstance(value, Boxes):
            value.tensor = value.tensor.float()
        elif isinstance(value, torch.Tensor) and value.is_floating_point():
            found.set(name, value.float())
    return found


class StreamingRCNNPredictor:
    """Keypoint or Mask R-CNN on streams of frames, with identities.

    Frames are independent but for the identities, which boxes and poses give as with the recurrent
    models, unless the model remembers people: then it says who is who, and a cut makes it forget.
    What a stream remembers is its own.
    """

    def __init__(
        self,
        rcnn: PersonRCNN,
        people: Callable[[], DetectedPeople],
        *,
        cuts: Callable[[], CutDetector] | None = None,
        min_score: float = 0.0,
        max_people: int = 0,
    ) -> None:
        """
        Args:
            people, cuts: make what one stream needs; the detector of ``people`` is idle.
            min_score: where the model says who is who, of a detection that makes somebody known;
                elsewhere the tracker of ``people`` has such a score.
            max_people: most people on a frame, those known for longest; 0 for all.
        """
        self._rcnn, self._people, self._cuts = rcnn, people, cuts
        self._min_score, self._max_people = min_score, max_people

    def __call__(
        self, frames: Iterable[Frame], video: str = "video", checkpoint: Checkpoint | None = None
    ) -> Iterator[PoseFrame]:
        """Yield a result for every frame, in order, also where nobody is found.

        Args:
            checkpoint: as of `StreamingPosePredictor`.
        """
        people = self._people()
        shown = _Shown(self._min_score, self._max_people)
        cuts = None if self._cuts is None else self._cuts()
        memory, starts_shot, frame = self._rcnn.new_memory(), True, None
        iterator = iter(frames)
        for past, frame in zip(() if checkpoint is None else checkpoint.past(), iterator):
            if past.cut:
                people.reset()
            found, begins = _unpacked(past), starts_shot or past.cut
            yield self._result(people, shown, frame, video, begins, found)
            starts_shot = False
        if frame is not None and cuts is not None:
            cuts(frame.image)
        if checkpoint is not None and memory is not None:
            _restore(memory, checkpoint, _device_of(self._rcnn.model))
        for frame in iterator:
            cut = cuts is not None and bool(cuts(frame.image))
            if cut:
                people.reset()
                if memory is not None:
                    memory.forget()
            found = self._find(frame.image, memory)
            if checkpoint is not None:
                height, width = frame.image.shape[:2]
                past = Past(frame.index, frame.time, (height, width), cut, _packed(found))
                checkpoint.add(past, frame.image)
            result = self._result(people, shown, frame, video, starts_shot or cut, found)
            if checkpoint is not None and checkpoint.is_due():
                checkpoint.save(*_stored(memory))
            yield result
            starts_shot = False

    def _find(self, image: np.ndarray, memory: PeopleMemory | None) -> _Found:
        found = self._rcnn.instances(image, memory)
        boxes, scores = found.pred_boxes.tensor.numpy(), found.scores.numpy()
        keypoints = np.zeros((len(found), len(self._rcnn.joint_names), 3), np.float32)
        if found.has("pred_keypoints"):
            keypoints = found.pred_keypoints.numpy().astype(np.float32)
            # Detectron2 divides by the sum over the small map: a peak between cells may exceed 1.
            keypoints[..., 2] = keypoints[..., 2].clip(0, 1)
        numbers = found.pred_track_ids.numpy() if found.has("pred_track_ids") else None
        masks = found.pred_masks.numpy() if found.has("pred_masks") else None
        return _Found(boxes, scores, keypoints, numbers, masks)

    def _result(
        self,
        people: DetectedPeople,
        shown: _Shown,
        frame: Frame,
        video: str,
        starts_shot: bool,
        found: _Found,
    ) -> PoseFrame:
        numbers = found.numbers
        if numbers is None:
            numbers = self._identify(people, found, frame.time)
        else:
            numbers = shown.known(numbers, found.scores)
        kept = shown.places(numbers)
        return PoseFrame(
            index=frame.index,
            time=frame.time,
            image=frame.image,
            video=video,
            joint_names=self._rcnn.joint_names,
            keypoints=found.keypoints[kept],
            boxes=found.boxes[kept].astype(np.float32),
            scores=found.scores[kept].astype(np.float32),
            track_ids=numbers[kept],
            masks=None if found.masks is None else found.masks[kept],
            starts_shot=starts_shot,
        )

    @staticmethod
    def _identify(people: DetectedPeople, found: _Found, time: float) -> np.ndarray:
        """Numbers (P,), -1 for those who are not shown."""
        keys = people.assign(found.boxes, found.scores, time)
        numbers = np.full(len(keys), -1, np.int64)
        kept = np.flatnonzero(keys >= 0)
        numbers[kept] = people.judge(keys[kept].tolist(), found.keypoints[kept]).numbers
        return numbers


class _Shown:
    """Whom a stream shows of the people who have numbers; those of earlier people are lower."""

    def __init__(self, min_score: float, max_people: int) -> None:
        """As of `StreamingRCNNPredictor`."""
        self._min_score, self._max_people = min_score, max_people
        self._known: set[int] = set()

    def known(self, numbers: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Numbers (P,) of a model that remembers people, -1 for who was never detected surely."""
        self._known |= set(numbers[scores >= self._min_score].tolist())
        return np.where([number in self._known for number in numbers.tolist()], numbers, -1)

    def places(self, numbers: np.ndarray) -> np.ndarray:
        """Places in ``numbers`` (P,), in order, of those who are shown."""
        numbered = np.flatnonzero(numbers >= 0)
        if not self._max_people:
            return numbered
        longest = numbers[numbered].argsort(kind="stable")[: self._max_people]
        return np.sort(numbered[longest])


class _Found(NamedTuple):
    """What the network said about P people."""

    boxes: np.ndarray  # (P, 4)
    scores: np.ndarray  # (P,)
    keypoints: np.ndarray  # float32 (P, K, 3)
    numbers: np.ndarray | None  # int64 (P,), of a model that remembers people
    masks: np.ndarray | None  # bool (P, H, W)


def _packed(found: _Found) -> dict[str, np.ndarray]:
    """Arrays for a checkpoint; masks are run lengths of COCO, one behind the other."""
    arrays = {"boxes": found.boxes, "scores": found.scores, "keypoints": found.keypoints}
    if found.numbers is not None:
        arrays["numbers"] = found.numbers
    if found.masks is not None:
        masks = [np.asfortranarray(mask, np.uint8) for mask in found.masks]
        runs = [coco_mask.encode(mask)["counts"] for mask in masks]
        arrays["mask_bytes"] = np.array([len(run) for run in runs], np.int64)
        arrays["masks"] = np.frombuffer(b"".join(runs), np.uint8)
    return arrays


def _unpacked(past: Past) -> _Found:
    given = past.arrays
    masks = None
    if "masks" in given:
        ends = np.cumsum(given["mask_bytes"])[:-1]
        runs = np.split(given["masks"], ends) if len(given["mask_bytes"]) else []
        size = list(past.size)
        decoded = [coco_mask.decode({"size": size, "counts": run.tobytes()}) for run in runs]
        masks = np.array(decoded, bool).reshape(-1, *size)
    return _Found(given["boxes"], given["scores"], given["keypoints"], given.get("numbers"), masks)


def _stored(memory: PeopleMemory | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A memory as tensors and JSON."""
    if memory is None:
        return {}, {}
    tensors = {} if memory.state is None else memory.state._asdict()
    for name in ("boxes", "poses"):
        if (tensor := getattr(memory, name)) is not None:
            tensors[name] = tensor
    names = ("ids", "ages", "missed", "next_id", "frame")
    return tensors, {name: getattr(memory, name) for name in names}


def _restore(memory: PeopleMemory, checkpoint: Checkpoint, device: torch.device) -> None:
    """Bring ``memory`` to what `_stored` wrote down, with tensors on the model's ``device``.

    Raises:
        ValueError: an earlier version wrote it, without people's ages and poses.
    """
    stored = checkpoint.state()
    if stored is None:
        return
    tensors, rest = stored
    tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
    for name, value in rest.items():
        setattr(memory, name, value)
    memory.boxes, memory.poses = tensors.pop("boxes", None), tensors.pop("poses", None)
    if len(memory.ages) != len(memory.ids) or (memory.boxes is None) != (memory.poses is None):
        raise ValueError(
            f"{checkpoint.folder} was begun by an earlier version, which left out people's ages "
            "and poses: remove it to begin the video anew"
        )
    memory.state = KeypointMemory(**tensors) if tensors else None


def _metadata(cfg: CfgNode) -> Metadata:
    """Of the first dataset of the configuration whose classes are known; empty if none is.

    `register_coco_instances` writes the classes down when the dataset is read.
    """
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    for name in names:
        metadata = MetadataCatalog.get(name) if name in MetadataCatalog.list() else Metadata()
        if not metadata.get("thing_classes") and name in DatasetCatalog.list():
            try:
                DatasetCatalog.get(name)
            except FileNotFoundError:
                continue  # not on this disk; the next dataset may know the classes
        if metadata.get("thing_classes"):
            return metadata
    return Metadata()


def _choose_class(cfg: CfgNode, classes: list[str], wanted: str) -> int:
    """The number of the class to find; see `PersonRCNN.from_cfg`."""
    retina = cfg.MODEL.META_ARCHITECTURE == "RetinaNet"
    count = len(classes) or (
        cfg.MODEL.RETINANET.NUM_CLASSES if retina else cfg.MODEL.ROI_HEADS.NUM_CLASSES
    )
    if wanted in classes:
        return classes.index(wanted)
    if wanted.isdigit() and int(wanted) < count:
        return int(wanted)
    if not wanted and PERSON in classes:
        return classes.index(PERSON)
    if not wanted and count == 1:
        return 0
    shown = ", ".join(classes[:8]) + (", ..." if len(classes) > 8 else "")
    shown = shown or f"unknown by name (no dataset of the config is registered), 0 to {count - 1}"
    raise ValueError(
        f"the detector has no class {wanted or PERSON!r}: name one (--class); its classes are: "
        f"{shown}"
    )


def _joint_names(cfg: CfgNode, names: list[str]) -> list[str]:
    """Joints of the keypoint head: MODEL.POSE.JOINTS, else the dataset's; none without a head."""
    if not cfg.MODEL.KEYPOINT_ON:
        return []
    if "POSE" in cfg.MODEL:
        names = list(cfg.MODEL.POSE.JOINTS) or names
    count = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    if len(names) != count:
        raise ValueError(
            f"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS is {count}, but there are names of "
            f"{len(names)} joints: {list(names)}"
        )
    return list(names)
