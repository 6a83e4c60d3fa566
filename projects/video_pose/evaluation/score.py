"""Score stored poses of videos against a file of annotations: COCO-style with tracks, or PoseTrack.

The annotation file is that of `register_video_keypoints`; no picture is read. Frames of a video are
told by ``frame_index``, else by their place among the video's images (in order of ``frame_id``).
Frames that are marked ``is_labeled: false`` are not scored; all others are, also where nobody is
annotated. Crowds, persons without a labelled joint and PoseTrack's ``ignore_regions`` hide what
lies in them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Protocol

import numpy as np

from video_pose.data.datasets.coco_json import (
    Category,
    choose_category,
    read_area,
)
from video_pose.data.json_fields import Field, load_json, require_unique
from video_pose.evaluation.people import (
    JointFacts,
    LabelledPeople,
    PredictedPeople,
    format_people,
    score_people,
)
from video_pose.skeleton import JointSet, canonical_names, match_joints

logger = logging.getLogger(__name__)

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
    return found.pop()


def _spellings(name: str) -> set[str]:
    path = PurePath(str(name))
    return {str(name), path.name, path.stem}


def read_annotations(json_file: str | Path) -> Annotations:
    """Persons by video and frame.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no JSON, or has no images, no category with keypoints, an annotation of
            another number of joints, or two images of one frame; a field is of another type than
            COCO's. Names file and place.
    """
    content = load_json(str(json_file))
    images, categories = content.get("images"), content.get("categories")
    known = [] if categories is None else [c for c in categories.items() if c.get("keypoints")]
    if images is None or not images.members() or not known:
        raise ValueError(f"{json_file}: needs images and a category with keypoints")
    category = choose_category(content)
    try:
        facts = joint_facts(category.joints)
    except ValueError as error:
        raise ValueError(f"{json_file}: {error}") from error
    numbers = _frame_numbers(list(images.items()))
    people = _people_of_images(content, category, set(numbers))
    frames: dict[tuple[str, int], LabelledPeople] = {}
    names: dict[str, set[str]] = {}
    for image in images.items():
        key = image.need("id").number_id()
        video, number = numbers[key]
        names.setdefault(video, {video}).update(_image_names(image))
        labelled = image.get("is_labeled")
        if labelled is None or labelled.flag():
            frames[video, number] = _people(people[key], image, facts)
    return Annotations(facts, frames, names)


def _people_of_images(
    content: Field, category: Category, images: set[int]
) -> dict[int, list[Field]]:
    """The people's annotations by image id; those of other categories are counted in the log."""
    people: dict[int, list[Field]] = {image: [] for image in images}
    others = 0
    found = content.get("annotations")
    for annotation in found.items() if found is not None else ():
        number, image = annotation.get("category_id"), annotation.need("image_id")
        if image.number_id() not in people:
            raise image.error("the id of one of images[]")
        if number is not None and category.ids and number.number_id() not in category.ids:
            others += 1
        else:
            people[image.number_id()].append(annotation)
    if others:
        logger.warning("%s: %d annotations of other categories: left out", content.file, others)
    return people


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


def _frame_numbers(images: Sequence[Field]) -> dict[int, tuple[str, int]]:
    """Video and frame of every image id."""
    ids = [image.need("id") for image in images]
    require_unique(ids, "its own whole-number id")
    videos: dict[str, list[Field]] = {}
    for image in images:
        video = image.get("video_id") or image.get("vid_id")
        if video is None:
            raise ValueError(
                f"{image.file}: image {image.need('id').value} has no video_id (nor vid_id)"
            )
        videos.setdefault(video.identity(), []).append(image)
    numbers = {}
    for video_id, members in videos.items():
        given = [image.get("frame_index") for image in members]
        if None in given:  # by place
            ordered = [image.get("frame_id") for image in members]
            if None in ordered:
                ordered = [image.get("id") for image in members]
            order = [item.number_id() for item in ordered if item is not None]
            places = {number: place for place, number in enumerate(sorted(order))}
            found = [places[number] for number in order]
        else:
            found = [item.number_id() for item in given if item is not None]
        if len(set(found)) != len(found):
            raise ValueError(
                f"{images[0].file}: two images of video {video_id!r} have one frame_index, or one "
                "frame_id"
            )
        for image, number in zip(members, found, strict=True):
            numbers[image.need("id").number_id()] = (video_id, number)
    return numbers


def _image_names(image: Field) -> set[str]:
    video_file, file_name = image.get("video_file"), image.get("file_name")
    if video_file is not None:
        return _spellings(video_file.text())
    folder = "." if file_name is None else str(PurePath(file_name.text()).parent)
    return set() if folder == "." else _spellings(folder)


def _people(annotations: Sequence[Field], image: Field, facts: JointFacts) -> LabelledPeople:
    joints = len(facts.names)
    rows, ignored = [], _ignore_regions(image)
    for annotation in annotations:
        keypoints = _keypoints(annotation, joints)
        box = _box(annotation, keypoints)
        crowd, track = annotation.get("iscrowd"), annotation.get("track_id")
        if (crowd is not None and crowd.flag()) or not (keypoints[:, 2] > 0).any():
            ignored.append(box)
            continue
        area = read_area(annotation) or (box[2] - box[0]) * (box[3] - box[1])
        rows.append(("0" if track is None else track.identity(), keypoints, box, area))
    return LabelledPeople(
        np.array([row[0] for row in rows], str),
        np.array([row[1] for row in rows]).reshape(len(rows), joints, 3),
        np.array([row[2] for row in rows]).reshape(len(rows), 4),
        np.array([row[3] for row in rows]),
        np.array(ignored).reshape(len(ignored), 4),
    )


def _keypoints(annotation: Field, joints: int) -> np.ndarray:
    """(K, 3), continuous pixels; zeros where there are none."""
    given = annotation.get("keypoints")
    if given is None or not given.members():
        return np.zeros((joints, 3))
    keypoints = given.numbers(3 * joints, f" ({joints} x (x, y, v))").reshape(joints, 3)
    if not np.isfinite(keypoints).all():
        raise given.error("finite numbers")
    # COCO's joints are pixel indices d: continuous d + 0.5.
    keypoints[:, :2] += 0.5
    return keypoints


def _box(annotation: Field, keypoints: np.ndarray) -> list[float]:
    """XYXY of the annotation, else the extent of its joints; nothing without either."""
    given = annotation.get("bbox")
    if given is not None and given.members():
        x, y, w, h = given.numbers(4, " (x, y, width, height)").tolist()
        if not np.isfinite([x, y, w, h]).all():
            raise given.error("finite numbers")
        return [x, y, x + w, y + h]
    known = keypoints[keypoints[:, 2] > 0, :2]
    return [0.0] * 4 if not len(known) else [*known.min(axis=0), *known.max(axis=0)]


def _ignore_regions(image: Field) -> list[list[float]]:
    """Boxes about PoseTrack's polygons."""
    xs, ys = image.get("ignore_regions_x"), image.get("ignore_regions_y")
    if xs is None or ys is None:
        return []
    if len(xs.members()) != len(ys.members()):
        raise ys.error(f"{len(xs.members())} polygons, as ignore_regions_x has")
    polygons = [(a.numbers(), b.numbers()) for a, b in zip(xs.items(), ys.items(), strict=True)]
    return [[min(a), min(b), max(a), max(b)] for a, b in polygons if len(a) and len(b)]
