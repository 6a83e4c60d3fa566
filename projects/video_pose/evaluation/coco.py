"""Detectron2's COCOEvaluator for every model, recurrent or R-CNN, on the frames of video datasets.

Clips are flattened to frames, joints are carried to the dataset's, and all that is handed on is a
copy: ``instances_to_coco_json`` subtracts 0.5 from keypoints in place, so that whoever scored the
same predictions next would find them shifted.

T frames of a clip, P persons, K joints.
"""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import logging
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from video_pose.data.frames import TESTED_KEYS, box_margin_of, require_keys, tracks_to_frames
from video_pose.data.frames_mapper import MaskReader
from video_pose.data.records import (
    Annotation,
    ClipPrediction,
    ClipRecord,
    FramePrediction,
    FrameRecord,
    MappedFrame,
)
from video_pose.files import write_json
from video_pose.skeleton import Formula, JointMap, infer_sigmas, match_joints, with_widths

logger = logging.getLogger(__name__)

TASKS = ("bbox", "segm", "keypoints")
_FIELDS = {"segm": "pred_masks", "keypoints": "pred_keypoints"}
_numbers = itertools.count()
Record = dict[str, Any]


class FrameCOCOEvaluator(DatasetEvaluator):
    """AP of boxes, masks and keypoints on the labelled frames of a video dataset.

    ``evaluate`` returns Detectron2's results, one entry a task; ranks other than 0 return {}. The
    task of masks is left out where the dataset has none; of persons who lack one, see
    `complete_truth`. The annotations are written anew for each
    evaluator: nothing is cached, and no metadata of the dataset is changed.

    Args:
        video_dataset: a registered video dataset (not its ``_frames``).
        joint_names: the model's joints, in the order of ``pred_keypoints``; may be empty without.
        tasks: of "bbox", "segm", "keypoints".
        output_dir: where Detectron2's files go; None writes none.
        distributed: gather from all ranks.
        widths: of keypoint similarity, by joint, in the place of the dataset's.

    Raises:
        ValueError: unknown task; the model's joints give none of the dataset's. Joints that they do
            not give are not scored.
    """

    def __init__(
        self,
        video_dataset: str,
        joint_names: Sequence[str],
        tasks: Sequence[str],
        output_dir: str | None = None,
        distributed: bool = True,
        widths: Mapping[str, float] | None = None,
    ) -> None:
        unknown = sorted(set(tasks) - set(TASKS))
        if unknown:
            raise ValueError(f"evaluation tasks {unknown}: choose from {TASKS}")
        metadata = MetadataCatalog.get(video_dataset)
        tracks = DatasetCatalog.get(video_dataset)
        frames = tracks_to_frames(tracks, box_margin_of(video_dataset))
        self._dataset = video_dataset
        self._image_of = {
            (frame["video_id"], track, index): frame["image_id"]
            for frame in frames
            for track, index in frame["tracks"]
        }
        self._images = {frame["image_id"] for frame in frames}
        has_masks = any(track.get("masks") is not None for track in tracks)
        self._tasks = tuple(t for t in tasks if t != "segm" or has_masks)
        self._map: JointMap | None = None
        if "keypoints" in self._tasks:
            self._map = shared_joints(
                joint_names, metadata.keypoint_names, metadata.get("derived_joints")
            )
            _name_unscored(video_dataset, metadata.keypoint_names, self._map)
        self._classes = KnownClasses(video_dataset, metadata.thing_classes)
        self._widths = dict(widths or {})
        inner = self._build(frames, metadata, output_dir, distributed)
        self._inner = complete_truth(inner, metadata.keypoint_names, self._map)

    def _build(
        self,
        frames: list[FrameRecord],
        metadata: Metadata,
        output_dir: str | None,
        distributed: bool,
    ) -> COCOEvaluator:
        """Detectron2's evaluator of a name of its own, since it pins what it reads to the name."""
        folder = tempfile.TemporaryDirectory(prefix="coco_truth_")
        name = f"{self._dataset} (truth {next(_numbers)} of process {comm.get_rank()})"
        path = Path(folder.name) / "truth.json"
        sigmas = with_widths(metadata.keypoint_names, metadata.keypoint_oks_sigmas, self._widths)
        # Results name categories as the dataset's own file does, where it has one.
        classes = list(metadata.thing_classes)
        own_ids = metadata.get("thing_dataset_id_to_contiguous_id")
        ids = own_ids or {number: number for number in range(len(classes))}
        write_coco_json(path, frames, classes, metadata.keypoint_names, ids)
        MetadataCatalog.get(name).set(
            json_file=str(path),
            thing_classes=classes,
            keypoint_names=list(metadata.keypoint_names),
            thing_dataset_id_to_contiguous_id=dict(ids),
        )
        try:
            return COCOEvaluator(
                name,
                tasks=self._tasks,
                distributed=distributed,
                output_dir=output_dir,
                kpt_oks_sigmas=_sigmas_of(sigmas, metadata, self._map),
            )
        finally:
            MetadataCatalog.remove(name)
            folder.cleanup()

    def reset(self) -> None:
        """Forget all predictions."""
        for inner in self._inner:
            inner.reset()

    def process(
        self,
        inputs: list[MappedFrame] | list[ClipRecord],
        outputs: list[FramePrediction] | list[ClipPrediction],
    ) -> None:
        """Take a batch of frames (``image_id``), or of clips (``video_id``, ``track_id``,
        ``frame_indices`` (T,) and ``is_padding`` (T,)) with a list of T `Instances` each.

        Padding and frames in which the track's person is not labelled are skipped.

        Raises:
            KeyError: a frame that the dataset does not have.
        """
        for given, output in zip(inputs, outputs):
            found = output["instances"]
            if isinstance(found, Instances):
                image = cast(MappedFrame, given)["image_id"]
                if image not in self._images:
                    raise KeyError(f"{self._dataset} has no image {image} with labels")
                pairs = iter([(image, found)])
            else:
                pairs = self._flatten(cast(ClipRecord, given), found)
            for image_id, instances in pairs:
                copied = copy_for_coco(self._classes.of(instances), self._tasks, self._map)
                for inner in self._inner:
                    inner.process([{"image_id": image_id}], [{"instances": copied}])

    def _flatten(
        self, clip: ClipRecord, found: Sequence[Instances]
    ) -> Iterator[tuple[int, Instances]]:
        indices = np.asarray(clip["frame_indices"]).tolist()
        padding = np.asarray(clip.get("is_padding", np.zeros(len(indices))), bool)
        for index, instances, skip in zip(indices, found, padding):
            key = str(clip["video_id"]), str(clip["track_id"]), index
            if not skip and key in self._image_of:
                yield self._image_of[key], instances

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Detectron2's results, {task: {"AP": ...}}, in percent."""
        return merge_results(self._inner)


class KnownClasses:
    """Detections of the classes that a dataset has; Detectron2 ends an evaluation at others.

    Args:
        dataset_name: for the warning. classes: its names by number; empty: all are known.
    """

    def __init__(self, dataset_name: str, classes: Sequence[str]) -> None:
        self._dataset = dataset_name
        self._names = list(classes)
        self._said = False

    def of(self, instances: Instances) -> Instances:
        """Those of ``instances`` with a class of the dataset; the first of another one is said."""
        if not self._names or not instances.has("pred_classes"):
            return instances
        known = instances.pred_classes < len(self._names)
        if bool(known.all()):
            return instances
        if not self._said:
            self._said = True
            logger.warning(
                "%s has %d classes (%s), the model has more: AP is without detections of others, "
                "such as class %d",
                self._dataset, len(self._names), ", ".join(self._names[:8]),
                int(instances.pred_classes[~known][0]),
            )  # fmt: skip
        return instances[known]


def merge_results(evaluators: Sequence[COCOEvaluator]) -> OrderedDict[str, dict[str, float]]:
    """The results of evaluators of different tasks; {} on ranks other than 0."""
    results: OrderedDict[str, dict[str, float]] = OrderedDict()
    for evaluator in evaluators:
        results.update(evaluator.evaluate() or {})
    return results


def copy_for_coco(
    instances: Instances, tasks: Sequence[str], joint_map: JointMap | None
) -> Instances:
    """New `Instances` on the CPU with copies of the fields that ``tasks`` need.

    Args:
        instances: P persons; without any, fields may lack.
        tasks: of "bbox", "segm", "keypoints".
        joint_map: to the dataset's joints; None leaves them.
    """
    out = Instances(instances.image_size)
    if not instances.get_fields() or len(instances) == 0:
        out.pred_boxes, out.scores = Boxes(torch.zeros(0, 4)), torch.zeros(0)
        out.pred_classes = torch.zeros(0, dtype=torch.int64)
        return out
    out.pred_boxes = Boxes(instances.pred_boxes.tensor.detach().cpu().float().clone())
    out.scores = instances.scores.detach().cpu().float().clone()
    out.pred_classes = instances.pred_classes.detach().cpu().clone()
    for task in tasks:
        field = _FIELDS.get(task)
        if field is None or not instances.has(field):
            continue
        values = instances.get(field).detach().cpu().clone()
        if task == "keypoints":
            values = values.float()
            # COCO ignores the scores of keypoints; above 0 they count as found when joints derive.
            values[..., 2] = 1
            values = values if joint_map is None else joint_map.apply(values)
        out.set(field, values)
    return out


_TRUTH = {"segm": "segmentation", "keypoints": "keypoints"}


class ImageCOCOEvaluator(DatasetEvaluator):
    """AP of boxes, masks and keypoints; tasks that the dataset has no truth for are left out. Of
    persons who lack a mask or joints see `complete_truth`.

    A dataset without ``json_file`` is converted anew for each evaluator, from copies of its dicts,
    and none of its metadata is changed.

    Args:
        dataset_name: a registered image dataset.
        joint_names: the model's joints; empty without keypoints.
        tasks: of "bbox", "segm", "keypoints".
        sigmas: widths of keypoint similarity in the dataset's order of joints; empty: COCO's 17.
        output_dir: where Detectron2's files go; None writes none.

    Raises:
        ValueError: the model's joints give none of the dataset's (those that they do not give are
            not scored), or a dict lacks a key.
    """

    def __init__(
        self,
        dataset_name: str,
        joint_names: Sequence[str],
        tasks: Sequence[str],
        sigmas: Sequence[float] = (),
        output_dir: str | None = None,
    ) -> None:
        dicts = DatasetCatalog.get(dataset_name)
        require_keys(dataset_name, dicts, TESTED_KEYS)
        present = {
            key for record in dicts for item in record.get("annotations", []) for key in item
        }
        self._tasks = tuple(t for t in tasks if t not in _TRUTH or _TRUTH[t] in present)
        metadata = MetadataCatalog.get(dataset_name)
        self._classes = KnownClasses(dataset_name, metadata.get("thing_classes", []))
        self._map: JointMap | None = None
        names = metadata.get("keypoint_names")
        if "keypoints" in self._tasks and names:
            self._map = shared_joints(joint_names, names, metadata.get("derived_joints"))
            _name_unscored(dataset_name, names, self._map)
            sigmas = _sigmas_of(sigmas or infer_sigmas(names), metadata, self._map)
        # Detectron2 pins the file it converted to the dataset's metadata: here, to those of a name
        # that lives as long as the conversion.
        name = f"{dataset_name} (truth {next(_numbers)})"
        DatasetCatalog.register(name, lambda: copy.deepcopy(dicts))
        facts = {key: value for key, value in metadata.as_dict().items() if key != "name"}
        MetadataCatalog.get(name).set(**facts)
        try:
            with tempfile.TemporaryDirectory(prefix="coco_truth_") as folder:
                inner = COCOEvaluator(
                    name,
                    tasks=self._tasks,
                    output_dir=folder,
                    kpt_oks_sigmas=list(sigmas),
                )
        finally:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        inner._output_dir = output_dir
        self._inner = complete_truth(inner, names or joint_names, self._map)

    def reset(self) -> None:
        """Forget all predictions."""
        for inner in self._inner:
            inner.reset()

    def process(self, inputs: list[MappedFrame], outputs: list[FramePrediction]) -> None:
        """Take a batch of images with ``image_id`` and their `Instances`; copies are handed on."""
        copies = [
            {
                "instances": copy_for_coco(
                    self._classes.of(output["instances"]), self._tasks, self._map
                )
            }
            for output in outputs
        ]
        for inner in self._inner:
            inner.process(inputs, copies)

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Detectron2's results, {task: {"AP": ...}}, in percent; {} on ranks other than 0."""
        return merge_results(self._inner)


# COCO's evaluation of persons that lack a mask or joints, which it fails on with a KeyError.
#
# Rules:
#
# * a person without joints counts for none of them: COCO's own rule for ``num_keypoints`` 0, under
#   which detections of that person are no false ones;
# * a person without a mask is a crowd region, its box, in the evaluation of masks alone: a
#   detection there is neither right nor wrong. Boxes are scored as ever.


def shared_joints(
    model: Sequence[str], dataset: Sequence[str], derived: Mapping[str, Formula] | None
) -> JointMap:
    """From the model's joints to those of the dataset that they give.

    Raises:
        ValueError: they give none.
    """
    present = match_joints(model, dataset, derived, partial=True).present_names
    return match_joints(model, present, derived)


def _name_unscored(dataset: str, names: Sequence[str], joint_map: JointMap) -> None:
    unscored = [name for name in names if name not in joint_map.target_names]
    if unscored:
        logger.warning(
            "%s: AP of keypoints is that of the joints %s; the model has no %s",
            dataset, list(joint_map.target_names), unscored,
        )  # fmt: skip


def _sigmas_of(
    sigmas: Sequence[float], metadata: Metadata, joint_map: JointMap | None
) -> list[float]:
    """Those of the joints that are scored."""
    if joint_map is None:
        return list(sigmas)
    widths = dict(zip(metadata.keypoint_names, sigmas, strict=True))
    return [widths[name] for name in joint_map.target_names]


def complete_truth(
    evaluator: COCOEvaluator, joint_names: Sequence[str], joint_map: JointMap | None = None
) -> list[COCOEvaluator]:
    """The evaluators that together give the results of ``evaluator`` by the rules above.

    Args:
        evaluator: with its annotations loaded and ``tasks`` given; changed in place.
        joint_names: of a person in the annotations.
        joint_map: to those of them that are scored; None: all are.

    Returns:
        ``evaluator``, and where persons lack a mask, another one for the masks.
    """
    truth, tasks = evaluator._coco_api, tuple(evaluator._tasks)
    annotations = truth.dataset.get("annotations", [])
    if "keypoints" in tasks:
        for annotation in annotations:
            _complete_joints(annotation, joint_names, joint_map)
    if "segm" not in tasks or all(item.get("segmentation") for item in annotations):
        return [evaluator]
    masks = copy.copy(evaluator)
    masks._tasks, masks._predictions, masks._output_dir = ("segm",), [], None
    masks._coco_api = COCO()
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth.dataset["images"]}
    completed = [_with_mask(item, sizes[item["image_id"]]) for item in annotations]
    masks._coco_api.dataset = {**truth.dataset, "annotations": completed}
    with contextlib.redirect_stdout(io.StringIO()):
        masks._coco_api.createIndex()
    evaluator._tasks = tuple(task for task in tasks if task != "segm")
    return [evaluator, masks] if evaluator._tasks else [masks]


def _complete_joints(
    annotation: Record, joint_names: Sequence[str], joint_map: JointMap | None
) -> None:
    if not annotation.get("keypoints"):
        annotation["keypoints"] = [0] * (3 * len(joint_names))
    scored = joint_names if joint_map is None else joint_map.target_names
    if len(scored) < len(joint_names):
        rows = [list(joint_names).index(name) for name in scored]
        values = annotation["keypoints"]
        annotation["keypoints"] = [value for row in rows for value in values[3 * row : 3 * row + 3]]
        annotation.pop("num_keypoints", None)
    if "num_keypoints" not in annotation:
        annotation["num_keypoints"] = sum(v > 0 for v in annotation["keypoints"][2::3])


def complete_person(annotation: Record, joint_names: Sequence[str]) -> None:
    """Fill in, in place, what COCO's evaluator asks of a person and a file may leave out.

    ``keypoints`` (zeros, which count for no person), ``num_keypoints``, ``iscrowd`` (0), ``bbox``
    (the extent of the labelled joints), ``area`` (the box's, also where it is 0).

    Args:
        annotation: what is known of the person. joint_names: K names, of its joints.
    """
    _complete_joints(annotation, joint_names, None)
    annotation.setdefault("iscrowd", 0)
    if not annotation.get("bbox"):
        joints = np.array(annotation["keypoints"], np.float64).reshape(-1, 3)
        known = joints[joints[:, 2] > 0, :2] if joints[:, 2].any() else joints[:1, :2]
        low, high = known.min(axis=0).tolist(), known.max(axis=0).tolist()
        annotation["bbox"] = [*low, high[0] - low[0], high[1] - low[1]]
    if not annotation.get("area"):
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]


def _with_mask(annotation: Record, size: tuple[int, int]) -> Record:
    if annotation.get("segmentation"):
        return annotation
    x, y, w, h = annotation["bbox"]
    outline = [x, y, x + w, y, x + w, y + h, x, y + h]
    (region,) = coco_mask.frPyObjects([outline], *size)
    return {**annotation, "segmentation": region, "iscrowd": 1}


def write_coco_json(
    path: Path,
    frames: Iterable[FrameRecord],
    classes: Sequence[str],
    keypoint_names: Sequence[str],
    ids: Mapping[int, int] | None = None,
) -> None:
    """Write frames (see `video_pose.data.frames`) as COCO's object and keypoint annotations.

    Detectron2's own conversion changes the keypoints of the dicts in place, knows no mask
    references, and keeps a file that has become stale.

    Keypoints become pixel indices (continuous - 0.5), as COCO has them. ``area``, the reference of
    keypoint similarity and of sizes, is the mask's where there is one, else the labels', else the
    box's. An existing file is replaced at once or not at all.

    Args:
        classes: names by class index. ids: id in the file -> class index; None: the index itself.
    """
    numbers = {index: number for number, index in (ids or {}).items()}
    reader = MaskReader()
    images: list[Record] = []
    annotations: list[Record] = []
    for frame in frames:
        name = frame.get("video_file", frame["file_name"])
        name += f"#{frame['frame_number']}" if "frame_number" in frame else ""
        images.append(
            {
                "id": frame["image_id"],
                "file_name": name,
                "height": frame["height"],
                "width": frame["width"],
            }
        )
        for annotation in frame["annotations"]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": frame["image_id"],
                    **coco_annotation(annotation, reader),
                    "category_id": numbers.get(
                        annotation["category_id"], annotation["category_id"]
                    ),
                }
            )
    categories: list[Record] = [
        {"id": _numbered(i, numbers), "name": name} for i, name in enumerate(classes)
    ]
    for category in categories:
        category["keypoints"] = list(keypoint_names)
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)


def _numbered(index: int, numbers: Mapping[int, int]) -> int:
    """The file's id of a class."""
    return numbers.get(index, index)


def coco_annotation(annotation: Annotation, reader: MaskReader) -> Record:
    """COCO's fields of one person, but for the ids."""
    x1, y1, x2, y2 = annotation["bbox"]
    out: Record = {
        "category_id": annotation["category_id"],
        "iscrowd": annotation["iscrowd"],
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": annotation.get("area", (x2 - x1) * (y2 - y1)),
    }
    reference = annotation.get("segmentation_ref")
    mask = reader.read(reference) if reference is not None else None
    if mask is not None:
        out["area"] = float(coco_mask.area(mask))
        out["segmentation"] = {**mask, "counts": mask["counts"].decode("ascii")}
    keypoints = np.array(annotation["keypoints"], np.float64).reshape(-1, 3)
    keypoints[:, :2] -= 0.5
    keypoints[keypoints[:, 2] == 0] = 0
    out["keypoints"] = keypoints.ravel().tolist()
    out["num_keypoints"] = int((keypoints[:, 2] > 0).sum())
    return out
