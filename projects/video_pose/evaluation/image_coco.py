"""Detectron2's COCOEvaluator for image datasets (COCO, `register_coco_instances`, plain dicts)."""

from __future__ import annotations

import copy
import itertools
import tempfile
from collections import OrderedDict
from collections.abc import Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator

from video_pose.data.datasets.builtin_meta import BELLY_FORMULA
from video_pose.data.joints import JointMap, match_joints
from video_pose.evaluation.frames_adapter import copy_for_coco, merge_results
from video_pose.evaluation.partly_labelled import complete_truth

_numbers = itertools.count()
_TRUTH = {"segm": "segmentation", "keypoints": "keypoints"}


class ImageCOCOEvaluator(DatasetEvaluator):
    """AP of boxes, masks and keypoints; tasks that the dataset has no truth for are left out. Of
    persons who lack a mask or joints see `partly_labelled`.

    A dataset without ``json_file`` is converted anew for each evaluator, from copies of its dicts,
    and none of its metadata is changed.

    Args:
        dataset_name: a registered image dataset.
        joint_names: the model's joints; empty without keypoints.
        tasks: of "bbox", "segm", "keypoints".
        sigmas: widths of keypoint similarity in the dataset's order of joints; empty: COCO's 17.
        output_dir: where Detectron2's files go; None writes none.

    Raises:
        KeyError: a joint of the dataset that the model's joints do not give.
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
        present = {key for record in dicts for item in record["annotations"] for key in item}
        self._tasks = tuple(t for t in tasks if t not in _TRUTH or _TRUTH[t] in present)
        metadata = MetadataCatalog.get(dataset_name)
        self._map: JointMap | None = None
        names = metadata.get("keypoint_names")
        if "keypoints" in self._tasks and names:
            derived = {"belly": BELLY_FORMULA, **metadata.get("derived_joints", {})}
            self._map = match_joints(joint_names, names, derived)
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
                    allow_cached_coco=False,
                )
        finally:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        inner._output_dir = output_dir
        self._inner = complete_truth(inner, len(names or joint_names))

    def reset(self) -> None:
        """Forget all predictions."""
        for inner in self._inner:
            inner.reset()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Take a batch of images with ``image_id`` and their `Instances`; copies are handed on."""
        copies = [
            {"instances": copy_for_coco(output["instances"], self._tasks, self._map)}
            for output in outputs
        ]
        for inner in self._inner:
            inner.process(inputs, copies)

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Detectron2's results, {task: {"AP": ...}}, in percent; {} on ranks other than 0."""
        return merge_results(self._inner)
