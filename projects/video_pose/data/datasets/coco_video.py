"""A user's own people in videos and photos, from COCO-style JSON (PoseTrack18's and 21's included)
and from what labelling tools write (`label_files`).

``images``: ``id``, ``file_name`` (relative to the image root), ``video_id`` (or ``vid_id``) and
``frame_id`` or ``frame_index``; or, in place of ``file_name``, ``video_file`` (relative to the
image root), whose ``frame_index`` counts decoded frames from 0. ``height``/``width`` are read from
the first image where they lack. An image without a video id is a still: a video of one frame,
unless ``videos="names"`` groups images by their names.
``annotations``: ``image_id``, ``keypoints`` (K x (x, y, v), pixel indices), ``track_id`` (or
``attributes.track_id``; may lack where every frame has one person, who is then track "0"; persons
of a still are counted), ``bbox`` (may lack: the joints' extent x 1.25), ``area`` (of the person, by
which AP measures similarity and size; may lack: the box's), ``iscrowd``.
``categories``: the one with ``keypoints`` names the joints.

Rules:

* A track covers its first to its last annotated frame, and the frames next to it on which nobody is
  annotated (PoseTrack's ``is_labeled: false``). So one person's track is the whole video, while a
  person who leaves a scene of several is not looked for after leaving. Frames without an annotation
  of the person have ``labelled`` False.
* A video without any annotation is one track "0" with no labelled frame. A still without any is one
  on which nobody is (``nobody``), for detectors, as in COCO's files; ``is_labeled`` false says that
  it is not known.
* A person without joints is kept with the box: ``boxed`` True, ``labelled`` False. Those without a
  ``track_id`` are tracks "box_<n>" of one frame, crowd regions (``iscrowd``) tracks "crowd_<n>".
* A box without area, or ten times as far out as the image is large, counts as none: the joints'
  extent x 1.25. So does a joint that far out: it is not labelled.
* The mirror pairs, and the limbs of a category without ``skeleton``, follow from the joints' names.
* Points become continuous pixels, d + 0.5, as Detectron2 does; a box is (x, y, x + w, y + h).
* A path of another system, or of the annotator's machine, is found by the rest of it that lies
  under the image root.

N frames of a track, K joints.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from detectron2.data import MetadataCatalog

from video_pose.data.datasets.coco_json import (
    TREE,
    Image,
    Labels,
    Paths,
    Person,
    choose_category,
    joint_set,
    list_files,
    name_number,
    read_labels,
    require_pixels,
)
from video_pose.data.datasets.label_files import open_labels
from video_pose.data.datasets.tracks import (
    FAR,
    ImageFolder,
    drop_far_joints,
    is_far,
    joint_boxes,
    make_keypoints,
    make_track,
    note,
    noted,
    require_labelled,
    require_path,
)
from video_pose.data.records import Track
from video_pose.data.register import register_video_tracks, require_free
from video_pose.skeleton import JointSet
from video_pose.video_io.pictures import picture_size
from video_pose.video_io.reading import probe_video

VIDEOS = ("video_id", "names")

# People of a video: track -> image id -> person.
People = dict[str, dict[int, Person]]


def register_video_keypoints(
    name: str,
    json_file: Paths,
    image_root: str,
    joints: JointSet | None = None,
    *,
    category: str | None = None,
    videos: str = "video_id",
    file_format: str | None = None,
) -> None:
    """Register people of annotation files as a dataset, see `register_video_tracks`.

    Args:
        name: a new dataset name.
        json_file: annotations, see the module's description: a file, a list of files, a folder of
            JSON files, or a pattern (``train/*.json``).
        image_root: the folder that file names are relative to.
        joints: the skeleton. None infers it from the file's category, for which the first file is
            read now; given, no file is read before the dataset is loaded.
        category: the people's, by name, where a file has several with joints.
        videos: "video_id" takes the file's, "names" groups images into videos by folder and name
            without its last number, by which they are ordered.
        file_format: a name of `label_files.FORMATS`; None goes by the ending and the content.

    Raises:
        FileNotFoundError: ``joints`` is None and there is no such file.
        ValueError: the name is taken, an option is unknown, or no skeleton can be inferred.
    """
    if videos not in VIDEOS:
        raise ValueError(f"videos={videos!r}: choose from {VIDEOS}")
    require_free(name)
    skeleton = joints
    if skeleton is None:
        with noted(f"dataset {name!r}"):
            content = open_labels(list_files(json_file)[0], file_format)
            skeleton = joint_set(choose_category(content, None, category))
    names = list(skeleton.names)

    def load() -> list[Track]:
        contents = [open_labels(path, file_format) for path in list_files(json_file)]
        labels = read_labels(contents, names, category)
        ids = labels.categories[0].ids
        if ids:  # what results are written with, so that they go with the user's own file
            MetadataCatalog.get(name).set(thing_dataset_id_to_contiguous_id={ids[0]: 0})
        return label_tracks(labels, image_root, names, videos)

    single = (
        {"json_file": os.fspath(json_file)} if isinstance(json_file, (str, os.PathLike)) else {}
    )
    register_video_tracks(name, load, skeleton, image_root=image_root, **single)


def load_video_keypoints(
    json_file: Paths, image_root: str, names: list[str], **options: Any
) -> list[Track]:
    """Track dicts of annotation files, sorted by video and track.

    Args:
        options: ``category``, ``videos`` and ``file_format`` of `register_video_keypoints`.

    Raises:
        FileNotFoundError: a file or the image root is missing.
        ValueError: the content breaks a rule of the module's description, or no frame is labelled.
    """
    file_format, videos = options.get("file_format"), options.get("videos", "video_id")
    with noted(str(json_file)):
        contents = [open_labels(path, file_format) for path in list_files(json_file)]
        labels = read_labels(contents, names, options.get("category"))
        return label_tracks(labels, image_root, names, videos)


def label_tracks(labels: Labels, image_root: str, names: list[str], videos: str) -> list[Track]:
    """Track dicts of labels, sorted by video and track. Raises as `load_video_keypoints`."""
    require_path(image_root, TREE)
    poses = [person.keypoints for person in labels.people if person.keypoints is not None]
    require_pixels(poses, labels.source)
    if videos == "names":
        labels.images = [_named_video(image) for image in labels.images]
    by_video = group_images(labels.images, labels)
    owners = {image.id: key for key, images in by_video.items() for image in images}
    people: dict[str, list[Person]] = {key: [] for key in by_video}
    for person in labels.people:
        people[owners[person.image_id]].append(person)
    folder = ImageFolder(image_root)
    tracks: list[Track] = []
    for key, images in by_video.items():
        tracks += _video_tracks(key, images, people[key], _frame_source(images, folder), names)
    folder.note_missing()
    return require_labelled(tracks, labels.source)


# ---- videos


def group_images(images: Sequence[Image], labels: Labels) -> dict[str, list[Image]]:
    """Images of each video in frame order; stills by ``still_<id>``.

    Raises:
        ValueError: an image of a video has no frame number, or one that another has.
    """
    videos: dict[str, list[Image]] = {}
    for image in images:
        key = f"still_{image.id}" if image.video is None else image.video
        videos.setdefault(key, []).append(image)
    for key, members in videos.items():
        if members[0].video is not None:
            videos[key] = _in_order(key, members)
    _warn_of_stills(images, labels.people)
    return dict(sorted(videos.items()))


def _in_order(video: str, images: list[Image]) -> list[Image]:
    if all(image.frame is None for image in images):
        numbers = [name_number(image.file_name or "")[1] for image in images]
        if None in numbers:
            raise ValueError(
                f"{images[numbers.index(None)].where}: every image of video {video!r} needs its "
                "own frame_id or frame_index, or a number in its file name"
            )
        note("images without frame_id: ordered by the number in their name", len(images))
        images = [i._replace(frame=n) for i, n in zip(images, numbers, strict=True)]
    seen: dict[int, Image] = {}
    for image in images:
        other = None if image.frame is None else seen.setdefault(image.frame, image)
        if other is not image:
            state = "none" if other is None else f"{image.frame}, as {other.where}"
            raise ValueError(
                f"{image.where}: every image of video {video!r} needs its own frame_id or "
                f"frame_index, got {state}"
            )
    return [seen[number] for number in sorted(seen)]


def _named_video(image: Image) -> Image:
    before, number = name_number(image.file_name or "")
    if number is None:
        raise ValueError(
            f"{image.where}: videos='names' needs a number in every name, got {image.file_name!r}"
        )
    return image._replace(video=before.rstrip("_-. /") or "video", frame=number)


def _warn_of_stills(images: Sequence[Image], people: Sequence[Person]) -> None:
    """Say where images are taken one by one although they look like the frames of videos."""
    stills = [image for image in images if image.video is None and image.file_name]
    numbers: dict[str, set[int]] = {}
    for image in stills:
        before, number = name_number(image.file_name or "")
        if number is not None:
            numbers.setdefault(before, set()).add(number)
    in_rows = sum(n + 1 in found or n - 1 in found for found in numbers.values() for n in found)
    ids = {image.id for image in stills}
    tracked = sum(person.track is not None and person.image_id in ids for person in people)
    if tracked:
        note("people with a track_id on images without video_id, each of which is a video of one "
             "frame here (videos='names' groups images by their names)", tracked)  # fmt: skip
    elif len(stills) > 3 and 2 * in_rows > len(stills):
        note("images without video_id are named like frames in a row, but each is a video of one "
             "frame here: recurrent models learn nothing of time from them (videos='names' groups "
             "images by their names)", len(stills))  # fmt: skip


# ---- files


class Source(NamedTuple):
    """Where a video's frames are: what `make_track` takes, and (height, width)."""

    frames: dict[str, Any]
    size: tuple[int, int]


def _frame_source(images: list[Image], folder: ImageFolder) -> Source:
    sizes = {image.size: image for image in images if image.size is not None}
    if len(sizes) > 1:
        (given, one), (other_size, other) = list(sizes.items())[:2]
        raise ValueError(
            f"{other.where}: height and width {other_size}, but {one.where} of the same video has "
            f"{given}"
        )
    size = next(iter(sizes), None)
    video_file = images[0].video_file
    if video_file is not None:
        lacking = next((i for i in images if i.video_file != video_file or i.frame is None), None)
        if lacking is not None:
            raise ValueError(
                f"{lacking.where}: every image of {video_file!r} needs this video_file and a "
                "frame_index"
            )
        path = folder.find(video_file)
        numbers = np.array([image.frame for image in images], dtype=np.int64)
        with _naming(images[0]):
            return Source(
                {"video_file": path, "frame_numbers": numbers}, size or probe_video(path)[1]
            )
    lacking = next((image for image in images if image.file_name is None), None)
    if lacking is not None:
        raise ValueError(f"{lacking.where}: an image has no file_name (nor video_file).")
    files = [folder.find(image.file_name or "") for image in images]
    with _naming(images[0]):
        return Source({"file_names": files}, size or picture_size(files[0]))


@contextlib.contextmanager
def _naming(image: Image) -> Iterator[None]:
    """Say where in the labels a file is named that cannot be read."""
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"{image.where}: its size is not given, and {error}") from error


# ---- tracks


def _video_tracks(
    key: str, images: list[Image], people: list[Person], source: Source, names: list[str]
) -> list[Track]:
    tracks, boxed, crowds = _by_track(images, people, key)
    annotated = {image_id for track in tracks.values() for image_id in track}
    made = [
        _make(key, track_id, images, _track_span(images, frames, annotated), frames, source, names)
        for track_id, frames in sorted((tracks or ({} if boxed or crowds else {"0": {}})).items())
    ]
    for kind, persons in (("box", boxed), ("crowd", crowds)):
        for number, person in enumerate(persons):
            frames = {person.image_id: person}
            span = _track_span(images, frames, {image.id for image in images})
            made.append(_make(key, f"{kind}_{number}", images, span, frames, source, names))
    if not people and images[0].video is None and images[0].is_labelled:
        note("pictures without annotations: nobody is there, for detectors and their evaluation")
        made[0]["nobody"] = True
    return made


def _by_track(
    images: list[Image], people: list[Person], video: str
) -> tuple[People, list[Person], list[Person]]:
    """People by track and image; people with a box alone and without a track; crowds."""
    still = images[0].video is None
    tracks: People = {}
    boxed: list[Person] = []
    for person in people:
        if person.crowd:
            continue
        track_id = str(len(tracks)) if still else (person.track or "0")
        alone = person.keypoints is None and (still or person.track is None)
        other = None if alone else tracks.setdefault(track_id, {}).get(person.image_id)
        if alone or (other is not None and person.keypoints is None):
            boxed.append(person)
        elif other is not None and other.keypoints is not None:
            hint = "" if person.track is not None else " Give each person of a video a track_id."
            raise ValueError(
                f"{person.where}: image {person.image_id} of video {video!r} has two annotations "
                f"of track {track_id!r}, the other is {other.where}.{hint}"
            )
        else:
            if other is not None:
                boxed.append(other)
            tracks[track_id][person.image_id] = person
    note("people with a box and no joints: kept as boxes",
         sum(p.keypoints is None and not p.crowd for p in people))  # fmt: skip
    crowds = [person for person in people if person.crowd]
    note("crowd regions: no people (background to detectors, unless INPUT.FRAMES.CROWDS is ignore)",
         len(crowds))  # fmt: skip
    return tracks, boxed, crowds


def _track_span(images: list[Image], frames: dict[int, Person], annotated: set[int]) -> slice:
    """The frames that a track covers, by the first rule of the module's description."""
    own = [i for i, image in enumerate(images) if image.id in frames]
    if not own:
        return slice(0, len(images))
    first, last = own[0], own[-1]
    while first > 0 and images[first - 1].id not in annotated:
        first -= 1
    while last + 1 < len(images) and images[last + 1].id not in annotated:
        last += 1
    return slice(first, last + 1)


def _make(
    key: str,
    track_id: str,
    images: list[Image],
    span: slice,
    frames: dict[int, Person],
    source: Source,
    names: list[str],
) -> Track:
    images = images[span]
    found = [frames.get(image.id) for image in images]
    keypoints = np.zeros((len(images), len(names), 3))
    for row, person in enumerate(found):
        if person is not None and person.keypoints is not None and not person.crowd:
            keypoints[row] = person.keypoints
    keypoints = drop_far_joints(keypoints, source.size)
    # COCO's joints are pixel indices d: continuous d + 0.5.
    keypoints = make_keypoints(keypoints[..., :2] + 0.5, keypoints[..., 2])
    boxes = joint_boxes(keypoints)
    given = np.zeros(len(images), dtype=bool)
    areas = [(person.area if person else None) or 0.0 for person in found]
    for row, person in enumerate(found):
        if person is not None and person.box is not None:
            given[row] = _set_box(boxes, row, person.box, source.size)
    return make_track(
        video_id=key,
        track_id=track_id,
        source={k: v if isinstance(v, str) else v[span] for k, v in source.frames.items()},
        size=source.size,
        keypoints=keypoints,
        boxes=boxes,
        image_ids=np.array([image.id for image in images]),
        areas=np.array(areas, np.float32) if any(areas) else None,
        boxed=given | (keypoints[..., 2] > 0).any(axis=1),
        crowd=True if any(person is not None and person.crowd for person in found) else None,
    )


def _set_box(boxes: np.ndarray, row: int, box: np.ndarray, size: tuple[int, int]) -> bool:
    """Write a file's box (x, y, w, h) unless it is none; whether it was written."""
    x, y, w, h = box
    if not np.isfinite(box).all() or w <= 0 or h <= 0:
        note("boxes without area: the joints' extent is used")
        return False
    if is_far(np.array([[x, y], [x + w, y + h]]), size).any():
        note(f"boxes more than {FAR} times as far out as the image is large: the joints' extent is "
             "used")  # fmt: skip
        return False
    boxes[row] = (x, y, x + w, y + h)
    return True
