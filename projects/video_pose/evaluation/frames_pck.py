"""PCK of models that see single frames: their detections become poses of the labelled tracks.

P detections in a frame, R labelled persons (tracks).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Boxes, Instances, pairwise_iou

from video_pose.evaluation.ground_truth import index_tracks
from video_pose.evaluation.pck_evaluator import PCKEvaluator

PERSON_RULES = ("score", "overlap")


class FramePCKEvaluator(DatasetEvaluator):
    """A `PCKEvaluator` of a video dataset ``X``, fed with the frames of ``X_frames``.

    A frame without a detection (by "overlap": without one that overlaps the person) is a miss; the
    results count them as ``missed_frames``.

    Args:
        inner: the evaluator of the clips.
        video_dataset: its dataset.
        person: whose pose is a labelled person's: "score", the detection with the highest score
            (all persons of a frame get the same one), or "overlap" (`assign_by_overlap`).

    Raises:
        ValueError: unknown ``person``.
    """

    def __init__(self, inner: PCKEvaluator, video_dataset: str, person: str = "score") -> None:
        if person not in PERSON_RULES:
            raise ValueError(f"TEST.PCK.PERSON {person!r}: choose from {PERSON_RULES}")
        self._inner = inner
        self._person = person
        self._truth = index_tracks(video_dataset, DatasetCatalog.get(video_dataset))

    def reset(self) -> None:
        """Forget all predictions."""
        self._inner.reset()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Take a batch of frames: dicts with ``video_id`` and ``tracks``, and their `Instances`."""
        for frame, output in zip(inputs, outputs):
            found = output["instances"]
            for (track, index), row in zip(frame["tracks"], self._rows(frame, found)):
                clip = {
                    "video_id": frame["video_id"],
                    "track_id": track,
                    "frame_indices": np.array([index]),
                }
                # An index tensor copies: nothing that is stored shares memory with the model's.
                rows = torch.tensor([] if row is None else [row], dtype=torch.int64)
                person = found[rows.to(found.pred_boxes.device)] if len(found) else found
                self._inner.process([clip], [{"instances": [person]}])

    def _rows(self, frame: dict, found: Instances) -> Sequence[int | None]:
        persons = len(frame["tracks"])
        if len(found) == 0:
            return [None] * persons
        if self._person == "score":
            return [int(found.scores.argmax())] * persons
        boxes = [
            self._truth[frame["video_id"], track].boxes[index] for track, index in frame["tracks"]
        ]
        return assign_by_overlap(found.pred_boxes.tensor.detach().cpu(), np.stack(boxes))

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """As `PCKEvaluator.evaluate`."""
        return self._inner.evaluate()


class ImagePCKEvaluator(FramePCKEvaluator):
    """PCK on an image dataset: its persons are the tracks of ``tracks_dataset``.

    Images show several people: whose pose counts for whom is always told by overlap.

    Args:
        inner: as above.
        tracks_dataset: what `video_pose.data.image_tracks.register_tracks` has registered.
    """

    def __init__(self, inner: PCKEvaluator, tracks_dataset: str) -> None:
        super().__init__(inner, tracks_dataset, "overlap")
        self._persons: dict[str, list[tuple[str, int]]] = {}
        for video, track in self._truth:
            self._persons.setdefault(video, []).append((track, 0))

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Take a batch of images with ``image_id``, and their `Instances`."""
        videos = [str(image["image_id"]) for image in inputs]
        frames = [{"video_id": v, "tracks": self._persons.get(v, [])} for v in videos]
        super().process(frames, outputs)


def assign_by_overlap(predicted: torch.Tensor, truth: np.ndarray) -> list[int | None]:
    """One detection for each person, by overlap: the best pair first, each detection once.

    Args:
        predicted: (P, 4) XYXY.
        truth: (R, 4) XYXY.

    Returns:
        R rows of ``predicted``; None where no detection that is left overlaps the box at all.
    """
    overlaps = pairwise_iou(Boxes(predicted.float()), Boxes(torch.as_tensor(truth).float())).numpy()
    rows: list[int | None] = [None] * len(truth)
    for _ in range(min(overlaps.shape)):
        row, person = np.unravel_index(int(overlaps.argmax()), overlaps.shape)
        if overlaps[row, person] <= 0:
            break
        rows[person] = int(row)
        overlaps[row], overlaps[:, person] = -1, -1
    return rows
