"""Score stored poses of videos against a file of annotations: COCO-style with tracks, or PoseTrack.

The annotation file is that of `register_video_keypoints`; no picture is read. Which of its frames a
predicted one is, `frame_numbers` tells. Frames that are marked ``is_labeled: false`` are not
scored; all others are, also where nobody is annotated. Crowds, persons without a labelled joint and
PoseTrack's ``ignore_regions`` hide what lies in them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Protocol

import numpy as np

from video_pose.data.datasets.coco_json import (
    choose_category,
    own_annotations,
    read_area,
    read_keypoints,
    read_track,
    require_pixels,
)
from video_pose.data.datasets.tracks import note, noted
from video_pose.data.json_fields import Field, load_json
from video_pose.evaluation.frame_numbers import VideoFrames, number_frames
from video_pose.evaluation.people import (
    JointFacts,
    LabelledPeople,
    PredictedPeople,
    format_people,
    score_people,
)
from video_pose.skeleton import JointMap, JointSet, canonical_names, match_joints

# As trackers and OpenPose number people whom they do not follow.
NO_TRACK = -1
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
    def track_ids(self) -> np.ndarray: ...  # (P,); NO_TRACK: none
    @property
    def untracked(self) -> Collection[int]: ...  # track_ids that do not say who is who


@dataclass(frozen=True)
class Annotations:
    """The content of a file.

    Attributes:
        facts: of its joints.
        frames: (video, frame) -> persons, of labelled frames; those of a video ascending.
        names: by what each video may be called: its id, its file or folder, with and without path
            and extension.
        numbers: of all frames of each video.
        untracked: how many persons have no track id.
    """

    facts: JointFacts
    frames: dict[tuple[str, int], LabelledPeople]
    names: dict[str, set[str]]
    numbers: dict[str, VideoFrames]
    untracked: int


def score_poses(poses: Iterable[Poses], json_file: str | Path) -> tuple[dict[str, float], str]:
    """Figures of stored predictions, and the figures in words.

    Joints that only one of the two has are not scored; an annotated frame without predictions is
    one in which nobody was found, a predicted one that is not annotated is left out. Figures of
    identity are left out where somebody, labelled or predicted, has no track id. The words say so.

    Args:
        poses: the frames of one or several videos.
        json_file: the annotations.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no annotation of videos, a video of the predictions is none of its
            videos or none of its frames is annotated, a frame comes twice or a track id twice in a
            frame, or no joint is in both.
    """
    annotations = read_annotations(json_file)
    given = list(poses)
    if not given:
        raise ValueError(f"no frame of predictions to score against {json_file}")
    require_distinct_tracks(given, "the predictions")
    # A file in which nobody is found names no joint.
    named = (list(frame.joint_names) for frame in given if len(frame.joint_names))
    names = next(named, list(annotations.facts.names))
    joints = match_joints(names, annotations.facts.names, partial=True).present_names
    to_shared = match_joints(names, joints)
    columns = [list(annotations.facts.names).index(name) for name in joints]
    facts = annotations.facts.restricted(joints)
    untracked = sum(map(_count_untracked, given))
    nobody = PredictedPeople.nobody(len(joints))
    if untracked:
        nobody = replace(nobody, ids=None)
    for frame in given:
        _require_joints(frame, names)
    matched, remarks = _match_frames(given, annotations, json_file)
    found: dict[tuple[str, int], PredictedPeople] = {}
    for key, frame in matched.items():
        known = len(frame.joint_names) > 0
        people = _predicted(frame, to_shared) if known else nobody
        found[key] = replace(people, ids=None) if untracked else people
    frames = {
        key: (truth.restricted(columns), found.get(key, nobody))
        for key, truth in annotations.frames.items()
    }
    results = score_people(frames, facts)
    missing = sum(key not in found for key in frames)
    lines = [
        format_people(str(json_file), results, facts),
        f"{len(frames)} frames, {missing} of them without predictions.",
    ]
    left_out = len(given) - len(found)
    if left_out:
        lines[-1] += f" Predicted frames that are not annotated: {left_out} of {len(given)}."
    lines += remarks
    for count, whose in ((annotations.untracked, "labelled"), (untracked, "predicted")):
        if count:
            lines.append(
                f"No IDF1, HOTA, MOTA and switches: {count} {whose} persons have no track id."
            )
    return results, "\n".join(lines)


def require_distinct_tracks(poses: Iterable[Poses], source: object) -> None:
    """Check that no track id is that of two people of a frame.

    Args:
        source: where the frames are from, for the message.

    Raises:
        ValueError: it is; names the source, the frame and the id.
    """
    for frame in poses:
        ids, counts = np.unique(_track_ids(frame), return_counts=True)
        twice = ids[(counts > 1) & (ids != NO_TRACK)]
        if len(twice):
            raise ValueError(
                f"{source}: frame {frame.index} of video {frame.video!r} has two people of track "
                f"{twice[0]}"
            )


def _track_ids(frame: Poses) -> np.ndarray:
    """(P,), `NO_TRACK` for who has none."""
    ids = np.asarray(frame.track_ids)
    return np.where(np.isin(ids, list(frame.untracked)), NO_TRACK, ids)


def _count_untracked(frame: Poses) -> int:
    return int((_track_ids(frame) == NO_TRACK).sum())


def _match_frames(
    given: Sequence[Poses], annotations: Annotations, json_file: str | Path
) -> tuple[dict[tuple[str, int], Poses], list[str]]:
    """The predictions of annotated frames, by the annotations' keys; and what is to be said."""
    videos = _find_videos(dict.fromkeys(frame.video for frame in given), annotations, json_file)
    by_number: dict[str, dict[int, Poses]] = {}
    for frame in given:
        numbers = by_number.setdefault(videos[frame.video], {})
        number = int(frame.index)
        if number in numbers:
            raise ValueError(
                f"the predictions have frame {number} of video {videos[frame.video]!r} twice"
            )
        numbers[number] = frame
    annotated: dict[str, list[int]] = {}
    for video, number in annotations.frames:
        annotated.setdefault(video, []).append(number)
    found: dict[tuple[str, int], Poses] = {}
    remarks: dict[str, list[str]] = {}
    for video, numbers in by_number.items():
        meant, remark = annotations.numbers[video].match(numbers)
        remarks.setdefault(remark, []).append(video)
        keys = {
            (video, meant[number]): frame for number, frame in numbers.items() if number in meant
        }
        keys = {key: frame for key, frame in keys.items() if key in annotations.frames}
        if not keys and video in annotated:
            raise ValueError(
                f"none of the predicted frames of video {video!r}, {min(numbers)} to "
                f"{max(numbers)}, is annotated in {json_file}, which has "
                f"{annotated[video][0]} to {annotated[video][-1]} of "
                f"{annotations.numbers[video]}"
            )
        found |= keys
    said = [
        f"Video {', '.join(map(repr, named[:3]))}{_and_more(len(named) - 3)}: {remark}."
        for remark, named in remarks.items()
        if remark
    ]
    return found, said


def _and_more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def _require_joints(frame: Poses, names: Sequence[str]) -> None:
    if len(frame.joint_names) and list(frame.joint_names) != list(names):
        raise ValueError(
            f"frame {frame.index} of {frame.video!r} has the joints {list(frame.joint_names)}, the "
            f"first one {list(names)}"
        )


def _predicted(frame: Poses, to_shared: JointMap) -> PredictedPeople:
    keypoints = np.asarray(frame.keypoints, np.float64).reshape(-1, len(frame.joint_names), 3)
    known = np.isfinite(keypoints).all(axis=-1)
    # The map takes a score of 0 for a joint that is not there: any that was given is.
    points = np.where(known[..., None], keypoints, 0)
    points[..., 2] = known
    shared = to_shared.apply(points)
    shared[shared[..., 2] == 0] = np.nan
    return PredictedPeople(shared, np.asarray(frame.scores, np.float64), _track_ids(frame))


def _find_videos(
    names: Collection[str], annotations: Annotations, json_file: str | Path
) -> dict[str, str]:
    """The annotated video that each name of the predictions means.

    One video of predictions and one of annotations belong together, whatever they are called.

    Raises:
        ValueError: a name means none, or several.
    """
    called: dict[str, list[str]] = {}
    for video, spellings in annotations.names.items():
        for spelling in spellings:
            called.setdefault(spelling, []).append(video)
    videos = {}
    for name in names:
        found = {video for spelling in _spellings(name) for video in called.get(spelling, ())}
        if not found and len(annotations.names) == 1 and len(names) == 1:
            found = set(annotations.names)
        if len(found) != 1:
            several = [video for video in annotations.names if video in found]
            raise ValueError(
                f"the predictions' video {name!r} is {several or 'none'} of {json_file}, "
                f"which has {list(annotations.names)[:5]}"
            )
        videos[name] = found.pop()
    return videos


def _spellings(name: str) -> set[str]:
    path = PurePath(str(name))
    return {str(name), path.name, path.stem}


def read_annotations(json_file: str | Path) -> Annotations:
    """Persons by video and frame.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no JSON, or has no images, no category with keypoints, an annotation of
            another number of joints, two images of one frame, or two persons of one track in a
            frame; a field is of another type than COCO's. Names file and place.
    """
    with noted(str(json_file)):
        return _annotations(load_json(str(json_file)))


def _annotations(content: Field) -> Annotations:
    images, categories = content.get("images"), content.get("categories")
    known = [] if categories is None else [c for c in categories.items() if c.get("keypoints")]
    if images is None or not images.members() or not known:
        raise ValueError(f"{content.file}: needs images and a category with keypoints")
    category = choose_category(content)
    try:
        facts = joint_facts(category.joints)
    except ValueError as error:
        raise ValueError(f"{content.file}: {error}") from error
    numbers, videos = number_frames(list(images.items()))
    content.need("annotations")
    people: dict[int, list[Field]] = {image: [] for image in numbers}
    for image_id, annotation in own_annotations(content, category, people):
        people[image_id].append(annotation)
    frames: dict[tuple[str, int], LabelledPeople] = {}
    untracked = 0
    names: dict[str, set[str]] = {}
    for image in images.items():
        key = image.need("id").number_id()
        video, number = numbers[key]
        names.setdefault(video, {video}).update(_image_names(image))
        labelled = image.get("is_labeled")
        if labelled is None or labelled.flag():
            where = f"frame {number} of video {video!r}"
            frames[video, number], count = _people(people[key], image, facts, where)
            untracked += count
    given = [pose - (0.5, 0.5, 0) for people in frames.values() for pose in people.keypoints]
    require_pixels(given, content.file)
    return Annotations(facts, dict(sorted(frames.items())), names, videos, untracked)


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


def _image_names(image: Field) -> set[str]:
    video_file, file_name = image.get("video_file"), image.get("file_name")
    if video_file is not None:
        return _spellings(video_file.text())
    folder = "." if file_name is None else str(PurePath(file_name.text()).parent)
    return set() if folder == "." else _spellings(folder)


def _people(
    annotations: Sequence[Field], image: Field, facts: JointFacts, where: str
) -> tuple[LabelledPeople, int]:
    """The people of an image, and how many of them have no track id; ``where`` is for messages."""
    joints = len(facts.names)
    rows, ignored = [], _ignore_regions(image)
    tracks: dict[str, Field] = {}
    for annotation in annotations:
        keypoints = _keypoints(annotation, joints)
        box = _box(annotation, keypoints)
        crowd = annotation.get("iscrowd")
        if (crowd is not None and crowd.flag()) or not (keypoints[:, 2] > 0).any():
            ignored.append(box)
            continue
        track = read_track(annotation)
        if track is not None and tracks.setdefault(track.identity(), track) is not track:
            raise track.error(f"an id that no other person of {where} has")
        area = read_area(annotation) or (box[2] - box[0]) * (box[3] - box[1])
        note(
            "people of no size (no area, no box, joints in one place): only exact joints match",
            area <= 0,
        )
        rows.append((keypoints, box, area))
    untracked = len(rows) - len(tracks)
    people = LabelledPeople(
        None if untracked else np.array(list(tracks), str),
        np.array([row[0] for row in rows]).reshape(len(rows), joints, 3),
        np.array([row[1] for row in rows]).reshape(len(rows), 4),
        np.array([row[2] for row in rows]),
        np.array(ignored).reshape(len(ignored), 4),
    )
    return people, untracked


def _keypoints(annotation: Field, joints: int) -> np.ndarray:
    """(K, 3), continuous pixels; zeros where there are none."""
    given = annotation.get("keypoints")
    if given is None or not given.members():
        return np.zeros((joints, 3))
    keypoints = read_keypoints(given, joints)
    keypoints[keypoints[:, 2] == 0] = 0
    if not np.isfinite(keypoints).all():
        raise given.error("finite numbers for labelled joints")
    # COCO's joints are pixel indices d: continuous d + 0.5.
    keypoints[:, :2] += 0.5
    return keypoints


def _box(annotation: Field, keypoints: np.ndarray) -> list[float]:
    """XYXY of the annotation, else, and where it has no area, the extent of its joints; nothing
    without either."""
    given = annotation.get("bbox")
    if given is not None and given.members():
        x, y, w, h = given.numbers(4, " (x, y, width, height)").tolist()
        if not np.isfinite([x, y, w, h]).all():
            raise given.error("finite numbers")
        if w > 0 and h > 0:
            return [x, y, x + w, y + h]
        note("boxes without area: the joints' extent is used")
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
