"""Detectron2's COCOEvaluator for every model, recurrent or R-CNN, on the frames of video datasets.

Clips are flattened to frames, joints are carried to the dataset's, and all that is handed on is a
copy: ``instances_to_coco_json`` subtracts 0.5 from keypoints in place, so that whoever scored the
same predictions next would find them shifted.

T frames of a clip, P persons, K joints.
"""

from __future__ import annotations

import itertools
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm

from video_pose.data.datasets.builtin_meta import BELLY_FORMULA
from video_pose.data.frames import tracks_to_frames
from video_pose.data.joints import JointMap, match_joints
from video_pose.evaluation.coco_json import write_coco_json
from video_pose.evaluation.partly_labelled import complete_truth

TASKS = ("bbox", "segm", "keypoints")
_FIELDS = {"segm": "pred_masks", "keypoints": "pred_keypoints"}
_numbers = itertools.count()


class FrameCOCOEvaluator(DatasetEvaluator):
    """AP of boxes, masks and keypoints on the labelled frames of a video dataset.

    ``evaluate`` returns Detectron2's results, one entry a task; ranks other than 0 return {}. The
    task of masks is left out where the dataset has none; of persons who lack one, see
    `partly_labelled`. The annotations are written anew for each
    evaluator: nothing is cached, and no metadata of the dataset is changed.

    Args:
        video_dataset: a registered video dataset (not its ``_frames``).
        joint_names: the model's joints, in the order of ``pred_keypoints``; may be empty without.
        tasks: of "bbox", "segm", "keypoints".
        output_dir: where Detectron2's files go; None writes none.
        distributed: gather from all ranks.

    Raises:
        ValueError: unknown task.
        KeyError: a joint of the dataset that the model's joints do not give.
    """

    def __init__(
        self,
        video_dataset: str,
        joint_names: Sequence[str],
        tasks: Sequence[str],
        output_dir: str | None = None,
        distributed: bool = True,
    ) -> None:
        unknown = sorted(set(tasks) - set(TASKS))
        if unknown:
            raise ValueError(f"evaluation tasks {unknown}: choose from {TASKS}")
        metadata = MetadataCatalog.get(video_dataset)
        tracks = DatasetCatalog.get(video_dataset)
        frames = tracks_to_frames(tracks, metadata.get("box_margin", 0.5))
        self._dataset = video_dataset
        self._image_of = {
            (frame["video_id"], track, index): frame["image_id"]
            for frame in frames
            for track, index in frame["tracks"]
        }
        self._images = set(self._image_of.values())
        has_masks = any(track.get("masks") is not None for track in tracks)
        self._tasks = tuple(t for t in tasks if t != "segm" or has_masks)
        self._map: JointMap | None = None
        if "keypoints" in self._tasks:
            derived = {"belly": BELLY_FORMULA, **metadata.get("derived_joints", {})}
            self._map = match_joints(joint_names, metadata.keypoint_names, derived)
        inner = self._build(frames, metadata, output_dir, distributed)
        self._inner = complete_truth(inner, len(metadata.keypoint_names))

    def _build(
        self, frames: list[dict], metadata: Metadata, output_dir: str | None, distributed: bool
    ) -> COCOEvaluator:
        """Detectron2's evaluator of a name of its own, since it pins what it reads to the name."""
        folder = tempfile.TemporaryDirectory(prefix="coco_truth_")
        name = f"{self._dataset} (truth {next(_numbers)} of process {comm.get_rank()})"
        path = Path(folder.name) / "truth.json"
        write_coco_json(path, frames, metadata.thing_classes, metadata.keypoint_names)
        MetadataCatalog.get(name).set(
            json_file=str(path),
            thing_classes=list(metadata.thing_classes),
            keypoint_names=list(metadata.keypoint_names),
        )
        try:
            return COCOEvaluator(
                name,
                tasks=self._tasks,
                distributed=distributed,
                output_dir=output_dir,
                kpt_oks_sigmas=list(metadata.keypoint_oks_sigmas),
            )
        finally:
            MetadataCatalog.remove(name)
            folder.cleanup()

    def reset(self) -> None:
        """Forget all predictions."""
        for inner in self._inner:
            inner.reset()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Take a batch of frames (``image_id``), or of clips (``video_id``, ``track_id``,
        ``frame_indices`` (T,) and ``is_padding`` (T,)) with a list of T `Instances` each.

        Padding and frames in which the track's person is not labelled are skipped.

        Raises:
            KeyError: a frame that the dataset does not have.
        """
        for given, output in zip(inputs, outputs):
            found = output["instances"]
            if isinstance(found, Instances):
                if given["image_id"] not in self._images:
                    raise KeyError(f"{self._dataset} has no labelled image {given['image_id']}")
                pairs = iter([(given["image_id"], found)])
            else:
                pairs = self._flatten(given, found)
            for image_id, instances in pairs:
                copied = copy_for_coco(instances, self._tasks, self._map)
                for inner in self._inner:
                    inner.process([{"image_id": image_id}], [{"instances": copied}])

    def _flatten(self, clip: dict, found: Sequence[Instances]) -> Iterator[tuple[int, Instances]]:
        indices = np.asarray(clip["frame_indices"]).tolist()
        padding = np.asarray(clip.get("is_padding", np.zeros(len(indices))), bool)
        for index, instances, skip in zip(indices, found, padding):
            key = str(clip["video_id"]), str(clip["track_id"]), index
            if not skip and key in self._image_of:
                yield self._image_of[key], instances

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Detectron2's results, {task: {"AP": ...}}, in percent."""
        return merge_results(self._inner)


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
        values = instances.get(field).detach().cpu()
        if task == "keypoints":
            values = values.float().clone()
            # COCO ignores the scores of keypoints; above 0 they count as found when joints derive.
            values[..., 2] = 1
            values = values if joint_map is None else joint_map.apply(values)
        out.set(field, values.clone())
    return out
