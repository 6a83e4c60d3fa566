"""Score stored poses of videos against a file of annotations: COCO-style with tracks, or PoseTrack.

The annotation file is that of `register_video_keypoints`; no picture is read. Frames of a video are
told by ``frame_index``, else by their place among the video's images (in order of ``frame_id``).
Frames that are marked ``is_labeled: false`` are not scored; all others are, also where nobody is
annotated. Crowds, persons without a labelled joint and PoseTrack's ``ignore_regions`` hide what
lies in them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Protocol

import numpy as np

from video_pose.evaluation.people import (
    JointFacts,
    LabelledPeople,
    PredictedPeople,
    format_people,
    score_people,
)
from video_pose.skeleton import JointSet, canonical_names, match_joints

Record = dict[str, Any]
# Ends of the head, top then bottom, as datasets call them; the first pair that exists is PCKh's.
_HEADS = (("head_top", "upper_neck"), ("head_top", "head_bottom"), ("head_top", "neck"))


class Poses(Protocol):
    """One frame of predictions, as `video_pose.inference.frames.PoseFrame` is one."""

    @property
    def video(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def joint_names(self) -> Sequence[str]: ...
    @property
    def keypoints(self) -> np.ndarray: ...  # (P, K, 3) = x, y, score
    @property
    def scores(self) -> np.ndarray: ...  # (P,)
    @property
    def track_ids(self) -> np.ndarray: ...  # (P,)


@dataclass(frozen=True)
class Annotations:
    """The content of a file.

    Attributes:
        facts: of its joints.
        frames: (video, frame) -> persons.
        names: by what each video may be called: its id, its file or folder, with and without path
            and extension.
    """

    facts: JointFacts
    frames: dict[tuple[str, int], LabelledPeople]
    names: dict[str, set[str]]


def score_poses(poses: Iterable[Poses], json_file: str | Path) -> tuple[dict[str, float], str]:
    """Figures of stored predictions, and the figures in words.

    Joints that only one of the two has are not scored; a frame without predictions is one in which
    nobody was found.

    Args:
        poses: the frames of one or several videos.
        json_file: the annotations.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no annotation of videos, a video of the predictions is none of its
            videos, a frame comes twice, or no joint is in both.
    """
    annotations = read_annotations(json_file)
    given = list(poses)
    if not given:
        raise ValueError(f"no frame of predictions to score against {json_file}")
    # A file in which nobody is found names no joint.
    named = (list(frame.joint_names) for frame in given if len(frame.joint_names))
    names = next(named, list(annotations.facts.names))
    joints = match_joints(names, annotations.facts.names, partial=True).present_names
    to_shared = match_joints(names, joints)
    rows = [list(annotations.facts.names).index(name) for name in joints]
    facts = annotations.facts.restricted(joints)
    found: dict[tuple[str, int], PredictedPeople] = {}
    nobody = PredictedPeople.nobody(len(joints))
    for frame in given:
        key = video_of(frame.video, annotations, given, json_file), int(frame.index)
        if key in found:
            raise ValueError(f"the predictions have frame {key[1]} of video {key[0]!r} twice")
        known = len(frame.joint_names) > 0
        found[key] = _predicted(frame, names, to_shared) if known else nobody
    frames = {
        key: (_with_joints(truth, rows), found.get(key, nobody))
        for key, truth in annotations.frames.items()
    }
    results = score_people(frames, facts)
    missing = sum(key not in found for key in frames)
    text = format_people(str(json_file), results, facts)
    return results, f"{text}\n{len(frames)} frames, {missing} of them without predictions."


def _predicted(frame: Poses, names: Sequence[str], to_shared: Any) -> PredictedPeople:
    if list(frame.joint_names) != list(names):
        raise ValueError(
            f"frame {frame.index} of {frame.video!r} has the joints {list(frame.joint_names)}, the "
            f"first one {list(names)}"
        )
    keypoints = np.asarray(frame.keypoints, np.float64).reshape(-1, len(names), 3)
    known = np.isfinite(keypoints).all(axis=-1)
    # The map takes a score of 0 for a joint that is not there: any that was given is.
    points = np.where(known[..., None], keypoints, 0)
    points[..., 2] = known
    shared = to_shared.apply(points)
    shared[shared[..., 2] == 0] = np.nan
    ids = None if frame.track_ids is None else np.asarray(frame.track_ids)
    return PredictedPeople(shared, np.asarray(frame.scores, np.float64), ids)


def _with_joints(truth: LabelledPeople, rows: Sequence[int]) -> LabelledPeople:
    return LabelledPeople(
        truth.ids, truth.keypoints[:, rows], truth.boxes, truth.areas, truth.ignored
    )


def video_of(
    name: str, annotations: Annotations, poses: Sequence[Poses], json_file: str | Path
) -> str:
    """The annotated video that the predictions call ``name``.

    One video of predictions and one of annotations belong together, whatever they are called.

    Raises:
        ValueError: none, or several, are called that.
    """
    asked = _spellings(name)
    found = [video for video, names in annotations.names.items() if asked & names]
    if not found and len(annotations.names) == 1 and len({frame.video for frame in poses}) == 1:
        found = list(annotations.names)
    if len(found) != 1:
        raise ValueError(
            f"the predictions' video {name!r} is {'none' if not found else found} of {json_file}, "
            f"which has {list(annotations.names)[:5]}"
        )
    return found[0]


def _spellings(name: str) -> set[str]:
    path = PurePath(str(name))
    return {str(name), path.name, path.stem}


def read_annotations(json_file: str | Path) -> Annotations:
    """Persons by video and frame.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no JSON, or has no images, no category with keypoints, an annotation of
            another number of joints, or two images of one frame.
    """
    path = Path(json_file)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    categories = [c for c in content.get("categories", []) if c.get("keypoints")]
    if not content.get("images") or not categories:
        raise ValueError(f"{path}: needs images and a category with keypoints")
    facts = joint_facts(categories[0]["keypoints"])
    numbers = _frame_numbers(content["images"], path)
    people: dict[int, list[Record]] = {}
    for annotation in content.get("annotations", []):
        people.setdefault(annotation["image_id"], []).append(annotation)
    frames: dict[tuple[str, int], LabelledPeople] = {}
    names: dict[str, set[str]] = {}
    for image in content["images"]:
        video, number = numbers[image["id"]]
        names.setdefault(video, {video}).update(_image_names(image))
        if image.get("is_labeled", True):
            frames[video, number] = _people(people.get(image["id"], []), image, facts, path)
    return Annotations(facts, frames, names)


def joint_facts(names: Sequence[str]) -> JointFacts:
    """Facts that follow from joints' names; PCKh where the head has two ends, else PCK by box."""
    joints = JointSet(list(names))
    own = dict(zip(canonical_names(names), names))
    heads = [(own[a], own[b]) for a, b in _HEADS if a in own and b in own]
    return JointFacts(
        list(names),
        np.array(joints.sigmas),
        joints.groups,
        "head" if heads else "bbox",
        heads[0] if heads else None,
    )


def _frame_numbers(images: Sequence[Record], path: Path) -> dict[int, tuple[str, int]]:
    """Video and frame of every image id."""
    videos: dict[str, list[Record]] = {}
    for image in images:
        video = image.get("video_id", image.get("vid_id"))
        if video is None:
            raise ValueError(f"{path}: image {image.get('id')} has no video_id (nor vid_id)")
        videos.setdefault(str(video), []).append(image)
    numbers = {}
    for video, members in videos.items():
        by_place = any("frame_index" not in image for image in members)
        if by_place:
            members = sorted(members, key=lambda image: int(image.get("frame_id") or image["id"]))
        found = [i if by_place else int(image["frame_index"]) for i, image in enumerate(members)]
        if len(set(found)) != len(found):
            raise ValueError(f"{path}: two images of video {video!r} have one frame_index")
        numbers.update({image["id"]: (video, n) for image, n in zip(members, found)})
    return numbers


def _image_names(image: Mapping[str, Any]) -> set[str]:
    if "video_file" in image:
        return _spellings(image["video_file"])
    folder = str(PurePath(image.get("file_name", "")).parent)
    return set() if folder == "." else _spellings(folder)


def _people(
    annotations: Sequence[Record], image: Record, facts: JointFacts, path: Path
) -> LabelledPeople:
    joints = len(facts.names)
    rows, ignored = [], _ignore_regions(image)
    for annotation in annotations:
        values = np.asarray(annotation.get("keypoints") or [0] * 3 * joints, np.float64)
        if values.shape != (3 * joints,):
            raise ValueError(
                f"{path}: annotation {annotation.get('id')}: {values.size} numbers of keypoints "
                f"for {joints} joints"
            )
        keypoints = values.reshape(joints, 3)
        # COCO's joints are pixel indices d: continuous d + 0.5.
        keypoints[:, :2] += 0.5
        box = _box(annotation, keypoints)
        if annotation.get("iscrowd") or not (keypoints[:, 2] > 0).any():
            ignored.append(box)
            continue
        area = annotation.get("area") or (box[2] - box[0]) * (box[3] - box[1])
        rows.append((str(annotation.get("track_id", "0")), keypoints, box, float(area)))
    return LabelledPeople(
        np.array([row[0] for row in rows], str),
        np.array([row[1] for row in rows]).reshape(-1, joints, 3),
        np.array([row[2] for row in rows]).reshape(-1, 4),
        np.array([row[3] for row in rows]),
        np.array(ignored).reshape(-1, 4),
    )


def _box(annotation: Record, keypoints: np.ndarray) -> list[float]:
    """XYXY of the annotation, else the extent of its joints; nothing without either."""
    if annotation.get("bbox"):
        x, y, w, h = annotation["bbox"]
        return [x, y, x + w, y + h]
    known = keypoints[keypoints[:, 2] > 0, :2]
    return [0.0] * 4 if not len(known) else [*known.min(axis=0), *known.max(axis=0)]


def _ignore_regions(image: Record) -> list[list[float]]:
    """Boxes about PoseTrack's polygons."""
    polygons = zip(image.get("ignore_regions_x") or [], image.get("ignore_regions_y") or [])
    return [[min(xs), min(ys), max(xs), max(ys)] for xs, ys in polygons if len(xs) and len(ys)]
