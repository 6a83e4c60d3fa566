"""Detectron2 evaluator for video pose: PCK by any of the protocols of pck.py.

Shape letters: T frames of a clip, P persons, K joints. Ground truth comes from the catalog, never
from the mapper's tensors, which may be augmented, cropped or zeroed.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils import comm

from video_pose.data.records import (
    ClipPrediction,
    ClipRecord,
    FramePrediction,
    MappedFrame,
    Track,
)
from video_pose.evaluation.mean_pose import mean_pose_of, place_pose
from video_pose.evaluation.motion import motion_metrics
from video_pose.evaluation.pck import PCKAccumulator, get_protocol
from video_pose.evaluation.predictions import (
    FILE,
    TrackKey,
    TrackPredictions,
    index_tracks,
    merge_predictions,
    prediction_arrays,
    write_predictions,
)
from video_pose.evaluation.report import ReportFacts, format_motion, format_report
from video_pose.skeleton import Formula, match_joints

TASK_PREFIX = "keypoints_pck_"
BASELINE_PREFIX = "baseline_"
MOTION_TASK = "keypoints_motion"


class PCKEvaluator(DatasetEvaluator):
    """Scores predicted tracks of one registered video dataset.

    ``evaluate`` returns one task per protocol, ``{"keypoints_pck_bbox": {"PCK@0.2": ...}}`` (see
    ``PCKAccumulator.metrics`` for the names; percent and pixels), the mean-pose baseline's
    figures as "baseline_PCK@0.2", and "keypoints_motion" (see `motion_metrics`), but
    of stills. It writes
    ``predictions.npz`` and ``pck.txt`` to ``output_dir``.
    Ranks other than 0 return {}.

    Args:
        dataset_name: a registered dataset with the video-pose metadata.
        joint_names: the model's joints, in the order of its ``pred_keypoints``. Joints of the
            dataset that they do not give are not scored; the report names them.
        protocols: names, the first is the main one; None takes the dataset's ``pck_protocols``.
        output_dir: where the files go; None writes none.
        distributed: gather from all ranks.
        save_predictions: write ``predictions.npz``.

    Raises:
        ValueError: unknown protocol, or one that needs a joint or sizes that the dataset lacks; the
            model gives no joint of the dataset.
    """

    def __init__(
        self,
        dataset_name: str,
        joint_names: Sequence[str],
        protocols: Sequence[str] | None = None,
        output_dir: str | None = None,
        distributed: bool = True,
        save_predictions: bool = True,
    ) -> None:
        self._dataset_name = dataset_name
        self._metadata = metadata = MetadataCatalog.get(dataset_name)
        self._joint_names = list(metadata.keypoint_names)
        self._protocols = list(protocols or metadata.pck_protocols)
        self._output_dir = Path(output_dir) if output_dir else None
        self._distributed = distributed
        self._save_predictions = save_predictions
        self._logger = logging.getLogger(__name__)
        self._pose = PredictedPose(joint_names, self._joint_names, metadata.derived_joints)
        if self._pose.scored != self._joint_names:
            self._logger.warning(
                "%s: scored on the joints %s; the model has no %s",
                dataset_name,
                self._pose.scored,
                [name for name in self._joint_names if name not in self._pose.scored],
            )
        self._new_accumulators()  # an impossible protocol fails here
        tracks = DatasetCatalog.get(dataset_name)
        require_head_sizes(dataset_name, self._protocols, tracks)
        self._truth = index_tracks(dataset_name, tracks)
        self._baseline_pose: tuple[np.ndarray, str] | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all predictions."""
        self._predictions: dict[TrackKey, TrackPredictions] = {}

    def process(self, inputs: list[ClipRecord], outputs: list[ClipPrediction]) -> None:
        """Take a batch of clips.

        Args:
            inputs: mapper dicts with ``video_id``, ``track_id``, ``frame_indices`` (T,) and
                ``is_padding`` (T,), False throughout where it is missing.
            outputs: one ``{"instances": [Instances] * T}`` per clip, ``pred_keypoints`` (P, K, 3)
                in original image pixels. Of several persons the one with the highest score counts.

        Raises:
            KeyError: the catalog has no such track.
            IndexError: the track has no such frame.
            ValueError: lengths or shapes disagree, or a labelled frame comes a second time.
        """
        if len(inputs) != len(outputs):
            raise ValueError(f"{len(inputs)} inputs but {len(outputs)} outputs")
        for clip, output in zip(inputs, outputs):
            self._process_clip(clip, output["instances"])

    def _process_clip(self, clip: ClipRecord, instances: Sequence[Instances]) -> None:
        key = str(clip["video_id"]), str(clip["track_id"])
        if key not in self._truth:
            raise KeyError(
                f"{self._dataset_name} has no track {key[1]!r} of video {key[0]!r}; "
                f"it has {len(self._truth)} tracks, such as {list(self._truth)[:3]}"
            )
        frames = np.asarray(clip["frame_indices"]).astype(np.int64).tolist()
        if len(instances) != len(frames):
            raise ValueError(f"{key}: {len(instances)} predictions for {len(frames)} frames")
        skipped = np.asarray(clip.get("is_padding", np.zeros(len(frames))), bool)
        track = self._predictions.setdefault(key, TrackPredictions())
        labelled = self._truth[key].labelled
        for frame, person, skip in zip(frames, instances, skipped):
            if skip:
                continue
            if not 0 <= frame < len(labelled):
                raise IndexError(f"{key}: frame {frame} of a track of {len(labelled)} frames")
            # Frames without a label may come several times, as the warm-up of several others.
            if not labelled[frame]:
                continue
            if frame in track.frames:
                raise ValueError(
                    f"{key}: frame {frame} was predicted twice; reset() the evaluator between "
                    "runs, and mark padding frames with is_padding"
                )
            track.frames[frame] = self._pose.best(person)

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Score all labelled frames of the dataset; frames never predicted count as misses.

        Raises:
            ValueError: nothing at all was predicted for a video that has labels (a loader's fault;
                the predictions file is written before), or two ranks predicted one frame.
        """
        own = self._score_predictions()
        shares = [(own, self._predictions)]
        if self._distributed:
            comm.synchronize()
            shares = comm.gather(shares[0], dst=0)
            if not comm.is_main_process():
                return OrderedDict()
        predictions = merge_predictions(share for _, share in shares)
        accumulators = self._new_accumulators()
        for share, _ in shares:
            for protocol, accumulator in share.items():
                accumulators[protocol].merge(accumulator)
        never = self._complete(predictions, accumulators)
        if self._output_dir and self._save_predictions:
            write_predictions(
                self._output_dir / FILE,
                self._dataset_name,
                self._joint_names,
                self._truth,
                predictions,
                {
                    "pck_protocols": self._metadata.get("pck_protocols") or self._protocols,
                    "pck_min_visibility": self._metadata.pck_min_visibility,
                    "head_segment": self._metadata.head_segment,
                },
                self._pose.scored,
            )
        self._require_videos(never)
        missing = sum(len(frames) for frames in never.values())
        return self._results(accumulators, missing, predictions)

    def _new_accumulators(self) -> dict[str, PCKAccumulator]:
        return {
            protocol: PCKAccumulator(
                protocol,
                self._joint_names,
                self._metadata.joint_groups,
                self._metadata.pck_min_visibility,
                self._metadata.head_segment,
                self._pose.scored,
            )
            for protocol in self._protocols
        }

    def _score_predictions(self) -> dict[str, PCKAccumulator]:
        """Counts of this rank's frames, per protocol."""
        accumulators = self._new_accumulators()
        for key, track in self._predictions.items():
            frames, rows = track.rows(len(self._joint_names))
            self._add(accumulators, key, frames, rows)
        return accumulators

    def _add(
        self,
        accumulators: dict[str, PCKAccumulator],
        key: TrackKey,
        frames: np.ndarray,
        rows: np.ndarray,
    ) -> None:
        truth = self._truth[key]
        for accumulator in accumulators.values():
            accumulator.add(
                key[0],
                rows,
                truth.keypoints[frames],
                truth.boxes[frames],
                truth.source_video,
                None if truth.head_sizes is None else truth.head_sizes[frames],
            )

    def _complete(
        self,
        predictions: dict[TrackKey, TrackPredictions],
        accumulators: dict[str, PCKAccumulator],
    ) -> dict[TrackKey, np.ndarray]:
        """Add the labelled frames that nobody predicted, as misses; returns them by track."""
        never = {}
        for key, truth in self._truth.items():
            seen = predictions.get(key, TrackPredictions()).frames.keys()
            frames = np.array(
                [f for f in np.flatnonzero(truth.labelled) if f not in seen], np.int64
            )
            if len(frames):
                never[key] = frames
                rows = np.full_like(truth.keypoints[frames], np.nan)
                self._add(accumulators, key, frames, rows)
        return never

    def _require_videos(self, never: dict[TrackKey, np.ndarray]) -> None:
        absent = [key for key, frames in never.items() if len(frames) == self._labelled(key)]
        if absent:
            raise ValueError(
                f"{self._dataset_name}: no frame was predicted of {len(absent)} of "
                f"{len(self._truth)} tracks (video, track): {absent[:10]}; the test loader must "
                "cover every track of the dataset"
            )

    def _labelled(self, key: TrackKey) -> int:
        return int(self._truth[key].labelled.sum())

    def _results(
        self,
        accumulators: dict[str, PCKAccumulator],
        never: int,
        predictions: Mapping[TrackKey, TrackPredictions],
    ) -> OrderedDict[str, dict[str, float]]:
        """Metrics with the mean pose's beside them; logs and writes the report."""
        baseline, source = self._baseline()
        results: OrderedDict[str, dict[str, float]] = OrderedDict()
        baselines: dict[str, dict[str, float]] = {}
        for protocol, accumulator in accumulators.items():
            metrics = accumulator.metrics()
            metrics["never_predicted_frames"] = float(never)
            baselines[protocol] = baseline[protocol].metrics()
            names = [accumulator.protocol.metric(t) for t in accumulator.protocol.thresholds]
            metrics.update({BASELINE_PREFIX + name: baselines[protocol][name] for name in names})
            results[TASK_PREFIX + protocol] = metrics
            if not metrics["joints"]:
                self._logger.warning(
                    "%s, protocol %s: no joint was counted (%d labelled frames, %d of them without "
                    "a reference length), so that its figures are nan",
                    self._dataset_name,
                    protocol,
                    metrics["frames"],
                    metrics["excluded_frames"],
                )
        facts = ReportFacts(self._dataset_name, source, self._metadata.pck_min_visibility)
        text = format_report(facts, accumulators, list(results.values()), list(baselines.values()))
        if any(truth.labelled.sum() > 1 for truth in self._truth.values()):
            results[MOTION_TASK] = self._motion(predictions)
            text += "\n\n" + format_motion(results[MOTION_TASK])
        self._logger.info("PCK on %s\n%s", self._dataset_name, text)
        if self._output_dir:
            self._output_dir.mkdir(parents=True, exist_ok=True)
            (self._output_dir / "pck.txt").write_text(text + "\n", encoding="utf-8")
        return results

    def _motion(self, predictions: Mapping[TrackKey, TrackPredictions]) -> dict[str, float]:
        """What happens over time, of all labelled frames."""
        arrays = prediction_arrays(
            self._dataset_name, self._joint_names, self._truth, predictions, self._pose.scored
        )
        pairs = self._metadata.get("keypoint_flip_map", [])
        return motion_metrics(arrays, pairs, self._metadata.pck_min_visibility)

    def _baseline(self) -> tuple[dict[str, PCKAccumulator], str]:
        """Counts of the mean pose in every labelled frame's box, and where it comes from."""
        if self._baseline_pose is None:
            self._baseline_pose = mean_pose_of(
                self._dataset_name, self._metadata.pck_min_visibility
            )
        pose, source = self._baseline_pose
        accumulators = self._new_accumulators()
        for key, truth in self._truth.items():
            frames = np.flatnonzero(truth.labelled)
            self._add(accumulators, key, frames, place_pose(pose, truth.boxes[frames]))
        return accumulators, source


def require_head_sizes(dataset: str, protocols: Sequence[str], tracks: Sequence[Track]) -> None:
    """Raises ValueError: a protocol needs the tracks' ``head_sizes``, and no track has any."""
    for protocol in protocols:
        if get_protocol(protocol).head_sizes and not any("head_sizes" in t for t in tracks):
            raise ValueError(
                f"protocol {protocol!r} needs the people's head_sizes, and {dataset!r} has none "
                "(MPII's are in its release's mpii_human_pose_v1_u12_1.mat); others by "
                "TEST.PCK.PROTOCOLS"
            )


class PredictedPose:
    """Reads ``pred_keypoints`` and carries them to a dataset's joints, by name.

    Args:
        model_joints: K names, the order of ``pred_keypoints``.
        dataset_joints: L names.
        derived: the dataset's formulas for joints that can be computed.

    Attributes:
        scored: the dataset's joints that the model gives, in order; the others stay NaN.

    Raises:
        ValueError: the model's joints give none of the dataset's; lists both.
    """

    def __init__(
        self,
        model_joints: Sequence[str],
        dataset_joints: Sequence[str],
        derived: Mapping[str, Formula],
    ) -> None:
        self._joints = list(model_joints)
        self._map = match_joints(self._joints, dataset_joints, derived, partial=True)
        self.scored = self._map.present_names

    def best(self, instances: Instances) -> np.ndarray | None:
        """The person with the highest score, float32 (L, 3) = (x, y, score); None without a person.

        A joint that the model does not give is NaN.

        Raises:
            KeyError: persons without ``pred_keypoints``.
            ValueError: ``pred_keypoints`` is not (P, K, 3).
        """
        if not instances.get_fields() or len(instances) == 0:
            return None
        if not instances.has("pred_keypoints"):
            raise KeyError(f"predictions have {sorted(instances.get_fields())}, no pred_keypoints")
        keypoints = np.array(_to_numpy(instances.pred_keypoints), np.float32)
        if keypoints.shape[1:] != (len(self._joints), 3):
            raise ValueError(
                f"pred_keypoints {keypoints.shape}, expected (P, {len(self._joints)}, 3) "
                f"for the joints {self._joints}"
            )
        best = 0
        if instances.has("scores"):
            best = int(np.argmax(_to_numpy(instances.scores)))
        return self._matched(keypoints[best])

    def _matched(self, keypoints: np.ndarray) -> np.ndarray:
        # A score may be zero or negative (linear heads), which the map would read as "no joint".
        scores = np.nan_to_num(keypoints[:, 2])
        shift = 1.0 - scores.min()
        positive = np.concatenate([keypoints[:, :2], (scores + shift)[:, None]], axis=1)
        matched = self._map.apply(positive)
        matched[:, 2] -= shift
        matched[list(self._map.absent)] = np.nan
        return matched.astype(np.float32)


def _to_numpy(values: torch.Tensor | np.ndarray) -> np.ndarray:
    return values.detach().cpu().float().numpy() if isinstance(values, torch.Tensor) else values


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

    def process(self, inputs: list[MappedFrame], outputs: list[FramePrediction]) -> None:
        """Take a batch of frames: dicts with ``video_id`` and ``tracks``, and their `Instances`."""
        for frame, output in zip(inputs, outputs):
            self._take(frame["video_id"], frame["tracks"], output["instances"])

    def _take(self, video: str, tracks: Sequence[tuple[str, int]], found: Instances) -> None:
        """What was found on one frame, for the people who are labelled there."""
        for (track, index), row in zip(tracks, self._rows(video, tracks, found)):
            clip: ClipRecord = {
                "video_id": video,
                "track_id": track,
                "frame_indices": torch.tensor([index]),
            }
            # An index tensor copies: nothing that is stored shares memory with the model's.
            rows = torch.tensor([] if row is None else [row], dtype=torch.int64)
            person = found[rows.to(found.pred_boxes.device)] if len(found) else found
            self._inner.process([clip], [{"instances": [person]}])

    def _rows(
        self, video: str, tracks: Sequence[tuple[str, int]], found: Instances
    ) -> Sequence[int | None]:
        if not (tracks and len(found)):  # a picture without people, or without detections
            return [None] * len(tracks)
        if self._person == "score":
            return [int(found.scores.argmax())] * len(tracks)
        boxes = [self._truth[video, track].boxes[index] for track, index in tracks]
        return assign_by_overlap(found.pred_boxes.tensor.detach().cpu(), np.stack(boxes))

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """As `PCKEvaluator.evaluate`."""
        return self._inner.evaluate()


class ImagePCKEvaluator(FramePCKEvaluator):
    """PCK on an image dataset: its persons are the tracks of ``tracks_dataset``.

    Images show several people: whose pose counts for whom is always told by overlap.

    Args:
        inner: as above.
        tracks_dataset: what `video_pose.data.frames.register_tracks` has registered.
    """

    def __init__(self, inner: PCKEvaluator, tracks_dataset: str) -> None:
        super().__init__(inner, tracks_dataset, "overlap")
        self._persons: dict[str, list[tuple[str, int]]] = {}
        for video, track in self._truth:
            self._persons.setdefault(video, []).append((track, 0))

    def process(self, inputs: list[MappedFrame], outputs: list[FramePrediction]) -> None:
        """Take a batch of images with ``image_id``, and their `Instances`."""
        for image, output in zip(inputs, outputs):
            video = str(image["image_id"])
            self._take(video, self._persons.get(video, []), output["instances"])


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
    while overlaps.max(initial=0) > 0:
        row, person = np.unravel_index(int(overlaps.argmax()), overlaps.shape)
        rows[person] = int(row)
        overlaps[row] = overlaps[:, person] = 0
    return rows
