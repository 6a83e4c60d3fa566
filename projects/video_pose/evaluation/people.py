"""Many people in video: AP by keypoint similarity, PCK of those who were found, and identity.

Everything rests on object keypoint similarity (OKS), so that no box is needed. Shape letters: G
labelled persons and P predicted ones of a frame, K joints. Coordinates are continuous pixels of the
original image. Definitions: docs/PROTOCOLS.md, section "Many people".
"""

from __future__ import annotations

import contextlib
import io
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.optimize import linear_sum_assignment

from video_pose.data.frames import box_margin_of, tracks_to_frames
from video_pose.data.records import FramePrediction, MappedFrame, Track
from video_pose.evaluation.pck import (
    PCKAccumulator,
    get_protocol,
    required_joints,
    scored_columns,
)
from video_pose.evaluation.pck_evaluator import PredictedPose
from video_pose.evaluation.predictions import index_tracks
from video_pose.skeleton import with_widths

# A person is found where the similarity is at least this.
MATCHED = 0.5
# A prediction of which at least this share lies in an ignored region is neither right nor wrong.
IGNORED_SHARE = 0.5
TASK = "people"


@dataclass(frozen=True)
class LabelledPeople:
    """The truth of one frame.

    Attributes:
        ids: (G,), text or numbers: the person's track; None where it is not told who is who.
        keypoints: (G, K, 3) = x, y, v; v = 0 where a joint is not labelled.
        boxes: (G, 4) XYXY.
        areas: (G,) px^2, the reference of similarity.
        ignored: (R, 4) XYXY of regions where nothing is scored: crowds, persons without joints.
    """

    ids: np.ndarray | None
    keypoints: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    ignored: np.ndarray

    def __len__(self) -> int:
        """G."""
        return len(self.keypoints)

    def restricted(self, columns: Sequence[int]) -> LabelledPeople:
        """The frame with some of the joints, by their places. Who had labelled joints and has none
        among these becomes an ignored region: nothing tells a right prediction of that person."""
        chosen = self.keypoints[:, list(columns)]
        had, has = ((points[..., 2] > 0).any(axis=1) for points in (self.keypoints, chosen))
        kept = has | ~had
        return LabelledPeople(
            None if self.ids is None else self.ids[kept],
            chosen[kept],
            self.boxes[kept],
            self.areas[kept],
            np.concatenate([self.ignored, self.boxes[~kept]]),
        )


@dataclass(frozen=True)
class PredictedPeople:
    """What was predicted in one frame.

    Attributes:
        keypoints: (P, K, 3) = x, y, score; NaN where a joint was not found.
        scores: (P,) of the persons.
        ids: (P,), None of a model that follows nobody.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    ids: np.ndarray | None = None

    @classmethod
    def nobody(cls, joints: int) -> PredictedPeople:
        """A frame in which no one was found."""
        return cls(np.zeros((0, joints, 3)), np.zeros(0), np.zeros(0, np.int64))


@dataclass(frozen=True)
class JointFacts:
    """What the joints of a dataset mean for scoring.

    Attributes:
        names: K names. sigmas: (K,) widths of OKS.
        groups: group -> joints, as in PCK.
        protocol: of PCK; "head" where the dataset has a head segment.
        head_segment: (top, bottom), or None.
        min_visibility: smallest v that counts in PCK; similarity counts every labelled joint.
    """

    names: Sequence[str]
    sigmas: np.ndarray
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    protocol: str = "bbox"
    head_segment: tuple[str, str] | None = None
    min_visibility: int = 1

    def restricted(self, names: Sequence[str]) -> JointFacts:
        """The facts of some of the joints; PCK is by box where the head segment is not among them.

        Raises:
            KeyError: a name that is none of the joints.
        """
        chosen = scored_columns(self.names, names)
        groups = {g: [n for n in members if n in names] for g, members in self.groups.items()}
        kept = self.head_segment is not None and set(self.head_segment) <= set(names)
        needed = required_joints(get_protocol(self.protocol), self.head_segment)
        return replace(
            self,
            names=[name for name in self.names if name in names],
            sigmas=self.sigmas[chosen],
            groups={group: members for group, members in groups.items() if members},
            protocol=self.protocol if set(needed) <= set(names) else "bbox",
            head_segment=self.head_segment if kept else None,
        )


# (video, frame): videos in any order, the frames of each ascending.
Frames = Mapping[tuple[str, int], tuple[LabelledPeople, PredictedPeople]]


def oks_matrix(
    truth: np.ndarray, areas: np.ndarray, predicted: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    """Similarity (G, P) of every labelled person to every predicted one.

    The mean over the person's labelled joints of exp(-d^2 / (8 area sigma^2)): COCO's, with
    k = 2 sigma and s^2 the area. A joint that was not predicted adds 0; a person without a
    labelled joint is similar to nobody.

    Args:
        truth: (G, K, 3). areas: (G,) px^2. predicted: (P, K, >= 2). sigmas: (K,).
    """
    labelled = truth[..., 2] > 0
    gap = truth[:, None, :, :2].astype(np.float64) - predicted[None, :, :, :2]
    scale = 8 * np.asarray(areas, np.float64)[:, None] * np.asarray(sigmas) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.exp(-(gap**2).sum(axis=-1) / scale[:, None])
    values = np.where(np.isfinite(values), values, 0) * labelled[:, None]
    return values.sum(axis=-1) / np.maximum(labelled.sum(axis=1), 1)[:, None]


def assign(similarity: np.ndarray, least: float = 0.0) -> list[tuple[int, int]]:
    """Pairs (person, prediction) of the largest total similarity, each above ``least``.

    Args:
        similarity: (G, P).
    """
    # A pair that may not be matched must not change how the others are.
    rows, columns = linear_sum_assignment(-np.where(similarity > least, similarity, 0))
    return [(int(g), int(p)) for g, p in zip(rows, columns) if similarity[g, p] > least]


def drop_ignored(
    truth: LabelledPeople, predicted: PredictedPeople, sigmas: np.ndarray
) -> PredictedPeople:
    """The predictions without those that match nobody and lie in an ignored region."""
    if not len(truth.ignored):
        return predicted
    similarity = oks_matrix(truth.keypoints, truth.areas, predicted.keypoints, sigmas)
    matched = {p for _, p in assign(similarity, np.nextafter(MATCHED, 0))}
    inside, areas = _shared_areas(predicted, truth.ignored)
    hidden = (inside / areas[:, None] >= IGNORED_SHARE).any(axis=1)
    keep = np.array([p in matched or not hidden[p] for p in range(len(hidden))], bool)
    ids = None if predicted.ids is None else predicted.ids[keep]
    return PredictedPeople(predicted.keypoints[keep], predicted.scores[keep], ids)


def _shared_areas(predicted: PredictedPeople, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What of each prediction's extent lies in each of ``boxes`` (G, 4), (P, G), and the extents'
    areas (P,), px^2. A joint covers a pixel: joints in a row have an area, too."""
    found = extents(predicted.keypoints) + (-0.5, -0.5, 0.5, 0.5)
    sides = np.minimum(found[:, None, 2:], boxes[None, :, 2:]) - np.maximum(
        found[:, None, :2], boxes[None, :, :2]
    )
    return np.clip(sides, 0, None).prod(axis=-1), (found[:, 2:] - found[:, :2]).prod(axis=-1)


def extents(keypoints: np.ndarray) -> np.ndarray:
    """Boxes (P, 4) XYXY about the joints that were found; zeros where none was."""
    known = np.isfinite(keypoints[..., :2]).all(axis=-1, keepdims=True)
    low = np.where(known, keypoints[..., :2], np.inf).min(axis=1)
    high = np.where(known, keypoints[..., :2], -np.inf).max(axis=1)
    boxes = np.concatenate([low, high], axis=1)
    return np.where(np.isfinite(boxes).all(axis=1, keepdims=True), boxes, 0)


def score_people(frames: Frames, facts: JointFacts) -> dict[str, float]:
    """All figures of a set of videos, in percent and counts.

    "AP", "AP50", "AP75", "AR": COCO's keypoint AP on frames. "persons", "matched" (similarity of
    at least `MATCHED`), "false", "doubled" (frames with somebody of two skeletons). PCK of all
    labelled persons, each by the prediction that the assignment of largest similarity gives
    (nobody: all joints missed), at the protocol's thresholds. Where predictions and labels carry
    ids: "IDF1", "HOTA", "DetA", "AssA", "MOTA", "switches".

    Raises:
        ValueError: the predictions of only some frames have ids.
    """
    clean = {
        key: (truth, drop_ignored(truth, predicted, facts.sigmas))
        for key, (truth, predicted) in frames.items()
    }
    results = keypoint_ap(clean, facts)
    results.update(_counts(clean, facts), **_pck(clean, facts))
    followed = [predicted.ids is not None for _, predicted in clean.values()]
    if any(followed):
        if not all(followed):
            raise ValueError(f"{followed.count(False)} of {len(followed)} frames have no track ids")
        if all(truth.ids is not None for truth, _ in clean.values()):
            results.update(identity(clean, facts))
    return results


def keypoint_ap(frames: Frames, facts: JointFacts) -> dict[str, float]:
    """COCO's keypoint AP (by pycocotools), each frame an image; NaN without a labelled person."""
    names = ("AP", "AP50", "AP75", "AR")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, (truth, predicted) in enumerate(frames.values(), start=1):
        images.append({"id": number})
        for row in range(len(truth)):
            annotations.append(_coco_truth(truth, row, number, len(annotations) + 1))
        for keypoints, score in zip(predicted.keypoints, predicted.scores):
            # A joint that was not found is far from any truth.
            known = np.isfinite(keypoints[:, :2]).all(axis=1, keepdims=True)
            points = np.where(known, keypoints[:, :2], -1e6)
            flat = np.concatenate([points, np.ones((len(points), 1))], axis=1).ravel()
            person = {"image_id": number, "category_id": 1, "score": float(score)}
            found.append({**person, "keypoints": flat.tolist()})
    if not any(annotation["num_keypoints"] for annotation in annotations):
        return dict.fromkeys(names, float("nan"))
    if not found:
        return dict.fromkeys(names, 0.0)
    gold = COCO()
    gold.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1}]}
    with contextlib.redirect_stdout(io.StringIO()):
        gold.createIndex()
        results = gold.loadRes(found)
        # COCO leaves out unmatched detections by their size, which it takes from all joints: that
        # of a person with a joint far away would be beyond all of its ranges.
        boxes = [extents(predicted.keypoints) for _, predicted in frames.values()]
        for person, box in zip(results.dataset["annotations"], np.concatenate(boxes), strict=True):
            person["area"] = float((box[2:] - box[:2]).prod())
        scorer = COCOeval(gold, results, "keypoints")
        scorer.params.kpt_oks_sigmas = np.asarray(facts.sigmas, np.float64)
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return {name: 100.0 * float(scorer.stats[i]) for name, i in zip(names, (0, 1, 2, 5))}


def _coco_truth(truth: LabelledPeople, row: int, image: int, number: int) -> dict[str, Any]:
    x1, y1, x2, y2 = truth.boxes[row].tolist()
    keypoints = truth.keypoints[row].astype(np.float64)
    return {
        "id": number, "image_id": image, "category_id": 1, "iscrowd": 0,
        "bbox": [x1, y1, x2 - x1, y2 - y1], "area": float(truth.areas[row]),
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
    }  # fmt: skip


def _counts(frames: Frames, facts: JointFacts) -> dict[str, float]:
    """Persons, those matched at `MATCHED`, predictions that match nobody, and frames with somebody
    `doubled`."""
    persons = matched = false = twice = 0
    for truth, predicted in frames.values():
        known = (truth.keypoints[..., 2] > 0).any(axis=1)
        similarity = oks_matrix(truth.keypoints, truth.areas, predicted.keypoints, facts.sigmas)
        pairs = assign(similarity, np.nextafter(MATCHED, 0))
        persons += int(known.sum())
        matched += len(pairs)
        false += len(predicted.scores) - len(pairs)
        twice += bool(doubled(truth, predicted, pairs))
    counts = {"persons": persons, "matched": matched, "false": false, "doubled": twice}
    return {name: float(count) for name, count in counts.items()}


def doubled(
    truth: LabelledPeople, predicted: PredictedPeople, pairs: Sequence[tuple[int, int]]
) -> set[int]:
    """The labelled persons with two skeletons or more.

    A skeleton that matches nobody is on the person whose box its extent overlaps most (IoU), of
    those in whose box it lies by half.

    Args:
        pairs: (person, prediction) that match.
    """
    if not len(truth):
        return set()
    shared, own = _shared_areas(predicted, truth.boxes)
    theirs = (truth.boxes[:, 2:] - truth.boxes[:, :2]).prod(axis=-1)
    overlap = shared / (own[:, None] + theirs[None] - shared)
    overlap = np.where(shared >= 0.5 * own[:, None], overlap, 0)
    on = [person for person, _ in pairs]
    for number in set(range(len(own))) - {number for _, number in pairs}:
        if overlap[number].max() > 0:
            on.append(int(overlap[number].argmax()))
    return {person for person in on if on.count(person) > 1}


def _pck(frames: Frames, facts: JointFacts) -> dict[str, float]:
    counts = PCKAccumulator(
        facts.protocol, facts.names, facts.groups, facts.min_visibility, facts.head_segment
    )
    for (video, _), (truth, predicted) in frames.items():
        similarity = oks_matrix(truth.keypoints, truth.areas, predicted.keypoints, facts.sigmas)
        rows = np.full(truth.keypoints.shape, np.nan)
        for person, number in assign(similarity):
            rows[person] = predicted.keypoints[number]
        counts.add(video, rows, truth.keypoints, truth.boxes)
    values = counts.metrics()
    main = [counts.protocol.metric(t) for t in counts.protocol.thresholds]
    prefix = "PCKh" if facts.protocol == "head" else "PCK"
    return {prefix + name.removeprefix("PCK"): values[name] for name in main}


def identity(frames: Frames, facts: JointFacts) -> dict[str, float]:
    """IDF1, HOTA (with DetA and AssA), MOTA in percent, and switches, by OKS.

    The package ``trackers`` computes them from similarity matrices, video by video, and adds the
    videos' counts. Where nobody is labelled all but ``switches`` are NaN.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    try:
        from trackers import eval as mot
    except ImportError as error:
        raise ModuleNotFoundError(
            "identity is scored by the package 'trackers': pip install 'video-pose-detectron2"
            "[track]', or evaluate predictions without track ids"
        ) from error
    videos: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for (video, _), (truth, predicted) in frames.items():
        similarity = oks_matrix(truth.keypoints, truth.areas, predicted.keypoints, facts.sigmas)
        known = (truth.keypoints[..., 2] > 0).any(axis=1)
        assert truth.ids is not None and predicted.ids is not None, video
        row = (truth.ids[known], predicted.ids, similarity[known])
        videos.setdefault(video, []).append(row)
    parts: list[tuple[Any, Any, Any]] = []
    for rows in videos.values():
        truth_ids, found_ids = _numbered([r[0] for r in rows]), _numbered([r[1] for r in rows])
        similarities = [r[2] for r in rows]
        parts.append(
            (
                mot.compute_hota_metrics(truth_ids, found_ids, similarities),
                mot.compute_identity_metrics(truth_ids, found_ids, similarities, MATCHED),
                mot.compute_clear_metrics(truth_ids, found_ids, similarities, MATCHED),
            )
        )
    hota = mot.aggregate_hota_metrics([part[0] for part in parts])
    ids = mot.aggregate_identity_metrics([part[1] for part in parts])
    clear = mot.aggregate_clear_metrics([part[2] for part in parts])
    # The package divides by 1 where nobody is labelled.
    whole = 100.0 if any(len(ids) for rows in videos.values() for ids, *_ in rows) else math.nan
    return {
        "IDF1": whole * float(ids["IDF1"]),
        **{name: whole * float(hota[name]) for name in ("HOTA", "DetA", "AssA")},
        "MOTA": whole * float(clear["MOTA"]),
        "switches": float(clear["IDSW"]),
    }


def _numbered(ids: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The ids of a video's frames as numbers from 0."""
    names = sorted({str(name) for frame in ids for name in frame.tolist()})
    numbers = {name: i for i, name in enumerate(names)}
    return [np.array([numbers[str(n)] for n in frame.tolist()], np.int64) for frame in ids]


def format_people(title: str, results: Mapping[str, float], facts: JointFacts) -> str:
    """The figures in words."""
    lines = [
        f"[{TASK}] {title}: {results['persons']:.0f} labelled persons, {results['matched']:.0f} "
        f"matched (OKS of at least {MATCHED}), {results['false']:.0f} false; frames with two "
        f"skeletons on one person: {results['doubled']:.0f}; joints: {', '.join(facts.names)}."
    ]
    shown = [n for n in results if n not in ("persons", "matched", "false", "doubled")]
    lines.append(
        ", ".join(
            f"{name} {results[name]:.0f}" if name == "switches" else f"{name} {results[name]:.1f}"
            for name in shown
        )
    )
    return "\n".join(lines)


class PeopleEvaluator(DatasetEvaluator):
    """`score_people` on the labelled frames of a registered video dataset.

    Takes frames, dicts with ``image_id``, and their `Instances`: ``pred_keypoints``, ``scores``
    and, of a model that follows people, ``pred_track_ids`` (-1 for no track). A frame that never
    comes counts as one in which nobody was found. ``evaluate`` returns {"people": figures}; ranks
    other than 0 return {}.

    Args:
        video_dataset: a registered video dataset (not its ``_frames``).
        joint_names: the model's joints, in the order of ``pred_keypoints``.
        output_dir: ``people.txt`` goes there; None writes nothing.
        distributed: gather from all ranks.
        widths: of similarity, by joint, in the place of the dataset's.

    Raises:
        ValueError: the model's joints give none of the dataset's. Joints that they do not give are
            not scored.
    """

    def __init__(
        self,
        video_dataset: str,
        joint_names: Sequence[str],
        output_dir: str | None = None,
        distributed: bool = True,
        widths: Mapping[str, float] | None = None,
    ) -> None:
        metadata = MetadataCatalog.get(video_dataset)
        self._dataset = video_dataset
        self._output_dir = Path(output_dir) if output_dir else None
        self._distributed = distributed
        self._pose = PredictedPose(
            joint_names, metadata.keypoint_names, metadata.get("derived_joints", {})
        )
        facts = joint_facts(metadata)
        sigmas = np.array(with_widths(facts.names, facts.sigmas.tolist(), widths or {}))
        self._facts = replace(facts, sigmas=sigmas).restricted(self._pose.scored)
        self._columns = [list(metadata.keypoint_names).index(name) for name in self._pose.scored]
        tracks = DatasetCatalog.get(video_dataset)
        margin = box_margin_of(video_dataset)
        self._truth = {
            image: (key, truth.restricted(self._columns))
            for image, (key, truth) in catalog_truth(video_dataset, tracks, margin).items()
        }
        self.reset()

    def reset(self) -> None:
        """Forget all predictions."""
        self._found: dict[int, PredictedPeople] = {}

    def process(self, inputs: list[MappedFrame], outputs: list[FramePrediction]) -> None:
        """Take a batch. Raises KeyError for an image that the dataset does not have."""
        for frame, output in zip(inputs, outputs):
            image = int(frame["image_id"])
            if image not in self._truth:
                raise KeyError(f"{self._dataset} has no labelled image {image}")
            self._found[image] = self._predicted(output["instances"].to("cpu"), image)

    def _predicted(self, found: Instances, image: int) -> PredictedPeople:
        if not len(found):
            return PredictedPeople.nobody(len(self._facts.names))
        poses = [self._pose.best(found[[row]]) for row in range(len(found))]
        ids = None
        if found.has("pred_track_ids"):
            # A detection that belongs to no track is a person of this frame alone.
            given = enumerate(np.asarray(found.pred_track_ids).tolist())
            ids = np.array([str(i) if i >= 0 else f"{image} {row}" for row, i in given])
        keypoints = np.stack([pose for pose in poses if pose is not None])[:, self._columns]
        return PredictedPeople(keypoints, found.scores.numpy(), ids)

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """The figures; writes and logs them."""
        found = dict(self._found)
        if self._distributed:
            comm.synchronize()
            shares = comm.gather(found, dst=0)
            if not comm.is_main_process():
                return OrderedDict()
            for share in shares:
                found.update(share)
        nobody = PredictedPeople.nobody(len(self._facts.names))
        frames = {
            key: (truth, found.get(image, nobody)) for image, (key, truth) in self._truth.items()
        }
        results = score_people(_without_part_ids(frames), self._facts)
        if self._output_dir:
            self._output_dir.mkdir(parents=True, exist_ok=True)
            text = format_people(self._dataset, results, self._facts)
            (self._output_dir / "people.txt").write_text(text + "\n", encoding="utf-8")
        return OrderedDict({TASK: results})


def _without_part_ids(frames: Frames) -> Frames:
    """Of a model that follows nobody, empty frames have no ids, either."""
    if all(p.ids is not None for _, p in frames.values() if len(p.scores)):
        return frames
    return {k: (t, PredictedPeople(p.keypoints, p.scores)) for k, (t, p) in frames.items()}


def joint_facts(metadata: Any) -> JointFacts:
    """Of a dataset's metadata: PCKh where it has a head segment, else its first protocol."""
    segment = metadata.get("head_segment")
    return JointFacts(
        list(metadata.keypoint_names),
        np.array(metadata.keypoint_oks_sigmas, np.float64),
        metadata.get("joint_groups", {}),
        "head" if segment else metadata.pck_protocols[0],
        segment,
        metadata.get("pck_min_visibility", 1),
    )


def catalog_truth(
    dataset: str, tracks: Sequence[Track], box_margin: float
) -> dict[int, tuple[tuple[str, int], LabelledPeople]]:
    """The labelled frames by image id, each with its key (video, image id).

    The area of a person is the labels', else that of the box that bounds the pixels
    (``box_margin`` more on each side). Crowds and people with a box alone are ignored regions.
    Image ids rise with a video's frames.
    """
    by_track = index_tracks(dataset, tracks)
    joints = tracks[0]["keypoints"].shape[1] if tracks else 0
    truth = {}
    for frame in sorted(tracks_to_frames(tracks, box_margin), key=lambda f: f["image_id"]):
        rows = [(by_track[frame["video_id"], t], i) for t, i in frame["tracks"]]
        boxes = np.array([labels.boxes[i] for labels, i in rows], np.float32).reshape(-1, 4)
        areas = (boxes[:, 2:] - boxes[:, :2] + 2 * box_margin).prod(axis=1).astype(np.float64)
        for row, (labels, i) in enumerate(rows):
            if labels.areas is not None and labels.areas[i] > 0:
                areas[row] = labels.areas[i]
        people = {t for t, _ in frame["tracks"]}
        others = [x["bbox"] for x in frame["annotations"] if str(x["track_id"]) not in people]
        truth[int(frame["image_id"])] = (
            (frame["video_id"], int(frame["image_id"])),
            LabelledPeople(
                np.array([t for t, _ in frame["tracks"]], str),
                np.array([labels.keypoints[i] for labels, i in rows]).reshape(-1, joints, 3),
                boxes,
                areas,
                np.array(others, np.float64).reshape(-1, 4),
            ),
        )
    return truth
