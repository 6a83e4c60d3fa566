"""Read COCO-style JSON files of people in videos and photos, field by field.

Nothing is guessed where a file says something: a field is used, refused with its place, or counted
among those that are not read (`tracks.note`).
"""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from video_pose.data.datasets.tracks import note, require_path
from video_pose.data.json_fields import Field, load_json, require_unique
from video_pose.skeleton import JointSet, connect, find_mirror_pairs

TREE = """<json_file>     {"images": [...], "annotations": [...], "categories": [...]}
<image_root>/   the files that images[].file_name names"""
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
# Fields that say again what another field says, or nothing of the people.
_SAID_ELSEWHERE = {
    "num_keypoints", "license", "coco_url", "flickr_url", "date_captured", "nframes",
    "has_labeled_person", "supercategory", "color", "info", "licenses",
}  # fmt: skip


class Image(NamedTuple):
    """An image of the file. ``video`` None: a still. ``size`` (height, width), None: not told.
    ``is_labelled`` False: nobody looked who is there."""

    id: int
    video: str | None
    frame: int | None
    file_name: str | None
    video_file: str | None
    size: tuple[int, int] | None
    where: str
    is_labelled: bool = True


class Person(NamedTuple):
    """An annotation. ``keypoints`` (K, 3) as in the file, or None without joints; ``box`` XYWH;
    ``area`` px^2 of the person, or None where the file does not tell it."""

    image_id: int
    track: str | None
    keypoints: np.ndarray | None
    box: np.ndarray | None
    area: float | None
    crowd: bool
    where: str


class Category(NamedTuple):
    """The class of the people: its joints, the lines between them, and its ids in the file."""

    name: str
    joints: list[str]
    lines: list[tuple[str, str]]
    ids: list[int]
    mirror_pairs: list[tuple[str, str]]
    file: str


@dataclass
class Labels:
    """What the files say, their ids made unique over all of them."""

    images: list[Image] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    categories: list[Category] = field(default_factory=list)
    source: str = ""


def list_files(paths: Paths) -> list[str]:
    """The files of a path, a list of paths, a folder (its ``.json`` files) or a pattern; sorted.

    Raises:
        FileNotFoundError: there is none.
    """
    if isinstance(paths, (str, os.PathLike)):
        given = os.fspath(paths)
        if os.path.isdir(given):
            inside = sorted(os.listdir(given))
            deeper = glob.glob(os.path.join(glob.escape(given), "*/**/*.json"), recursive=True)
            note(
                f".json files in folders below {given}: not read (a pattern, {given}/**/*.json, "
                "takes them)", len(deeper),
            )  # fmt: skip
            found = [n for n in inside if n.lower().endswith(".json") and not n.startswith(".")]
            if not found:
                raise FileNotFoundError(f"the folder {given} has no .json file")
            return [os.path.join(given, name) for name in found]
        if not os.path.exists(given) and glob.has_magic(given):
            found = sorted(p for p in glob.glob(given, recursive=True) if os.path.isfile(p))
            if not found:
                raise FileNotFoundError(f"no file matches the pattern {given}")
            return found
        return [require_path(given, TREE)]
    files = [file for path in paths for file in list_files(path)]
    if not files:
        raise FileNotFoundError("the list of annotation files is empty")
    return files


def read_labels(
    contents: Sequence[Field], joints: Sequence[str] | None = None, category: str | None = None
) -> Labels:
    """Images and people of one or several files.

    Args:
        contents: of the files, see `open_coco`.
        joints: names of the people's joints; None takes those of the category.
        category: the people's, by name; None finds it, see `choose_category`.

    Raises:
        ValueError: with file, place and value, what is not as described.
    """
    labels = Labels(source=", ".join(content.file for content in contents[:3]))
    taken: set[int] = set()
    for number, content in enumerate(contents):
        chosen = choose_category(content, joints, category)
        if labels.categories and chosen.joints != labels.categories[0].joints:
            raise ValueError(
                f"{content.file}: expected the joints of {contents[0].file}, "
                f"{labels.categories[0].joints}, got {chosen.joints}"
            )
        labels.categories.append(chosen)
        images = _read_images(content)
        people = _read_people(content, chosen, {image.id for image in images})
        _note_unread("", Counter(content.unread()))
        if taken & {image.id for image in images}:
            # Exports of one tool count from 1 in every file.
            images, people = _set_apart(images, people, number)
            note("files whose image ids another file has too: their ids are set apart")
        taken |= {image.id for image in images}
        labels.images += images
        labels.people += people
    _set_videos_apart(labels, [content.file for content in contents])
    return labels


def open_coco(path: str) -> Field:
    """The content of a file, with the lists that it must have.

    Raises:
        FileNotFoundError, ValueError: as `load_json`, or a list lacks.
    """
    content = load_json(path)
    lacking = [key for key in ("images", "categories") if content.get(key) is None]
    if lacking:
        raise ValueError(f"{path}: expected the lists {lacking}, got {sorted(content.content())}.")
    return content


# ---- categories


def choose_category(
    content: Field, joints: Sequence[str] | None = None, category: str | None = None
) -> Category:
    """The category of the people: the named one, else the one with the given joints, else the only
    one with joints, else the one called "person". Categories of the same joints count as one.

    Raises:
        ValueError: none fits, or several do; all are listed.
    """
    items = list(content.need("categories").items())
    found = [_read_category(item) for item in items]
    listed = [(each.name, each.joints) for each in found]
    if category is not None:
        chosen = [each for each in found if each.name == category]
    else:
        chosen = [each for each in found if each.joints] or (found if joints else [])
        given = [each for each in chosen if joints and each.joints == list(joints)]
        chosen = given or chosen
        if len({tuple(each.joints) for each in chosen}) > 1:
            chosen = [each for each in chosen if each.name.lower() == "person"]
    names = list(joints) if joints else (chosen[0].joints if chosen else [])
    several = not joints and len({tuple(each.joints) for each in chosen}) > 1
    if not chosen or not names or several:
        raise ValueError(
            f"{content.file}: expected one list of joint names in categories[].keypoints, got "
            f"{listed}. Call the people's category 'person', or, in Python, pass "
            "joints=JointSet(names=[...]) to give the names, or category='<name>' to choose."
        )
    for item, each in zip(items, found, strict=True):
        _note_unread("categories", Counter(item.unread() if each in chosen else ()))
    first = chosen[0]
    return first._replace(joints=names, ids=[i for each in chosen for i in each.ids])


def _read_category(item: Field) -> Category:
    named, joints = item.get("name"), item.get("keypoints")
    names = joints.texts() if joints is not None and joints.value else []
    number = item.get("id")
    ids = [number.number_id()] if number is not None else []
    return Category(
        named.text() if named is not None and named.value else "",
        names,
        _read_lines(item, names),
        ids,
        _read_pairs(item),
        item.file,
    )


def _read_pairs(item: Field) -> list[tuple[str, str]]:
    """(left, right) names; which of the two is left is told by the names, else by the order."""
    pairs = []
    found = item.get("mirror_pairs")
    for pair in found.items() if found is not None else ():
        names = pair.texts()
        if len(names) != 2:
            raise pair.error("two names")
        pairs += find_mirror_pairs(names) or [(names[0], names[1])]
    return pairs


def _read_lines(item: Field, names: list[str]) -> list[tuple[str, str]]:
    """Lines of a drawing, counted from 1, from 0 or by names; what cannot be read is noted."""
    skeleton = item.get("skeleton")
    pairs = skeleton.value if skeleton is not None else []
    if not isinstance(pairs, list):
        note("categories whose skeleton is no list: lines by the joints' names")
        return []
    pairs = [pair for pair in pairs if isinstance(pair, (list, tuple)) and len(pair) == 2]
    numbers = [end for pair in pairs for end in pair if type(end) is int]
    first = 0 if 0 in numbers and max(numbers) < len(names) else 1
    ends = {name: name for name in names} | {i + first: name for i, name in enumerate(names)}
    lines = [
        (ends[a], ends[b])
        for a, b in pairs
        if type(a) in (int, str) and type(b) in (int, str) and a in ends and b in ends
    ]
    dropped = len(skeleton.value) - len(lines) if skeleton is not None else 0
    note("lines of the skeleton between joints that do not exist: not drawn", dropped)
    return lines


def joint_set(category: Category) -> JointSet:
    """The skeleton of a category; what it does not say follows from the names.

    Raises:
        ValueError: names repeat, or pairs and lines do not fit them; names the file.
    """
    segment = ("head_top", "head_bottom")
    known: dict[str, Any] = {"flip_map": category.mirror_pairs} if category.mirror_pairs else {}
    try:
        return JointSet(
            names=category.joints,
            **known,
            connections=connect(category.joints, category.lines) if category.lines else [],
            head_segment=segment if set(segment) <= set(category.joints) else None,
        )
    except ValueError as error:
        raise ValueError(f"{category.file}: {error}") from error


# ---- images


def _read_images(content: Field) -> list[Image]:
    images, ids = [], []
    unread: Counter[str] = Counter()
    for item in content.need("images").items():
        ids.append(item.need("id"))
        video = read_video(item)
        frame = item.get("frame_index") or item.get("frame_id")
        name, video_file = item.get("file_name"), item.get("video_file")
        height, width = item.get("height"), item.get("width")
        sizes = [side.integer(1) for side in (height, width) if side is not None]
        labelled = item.get("is_labeled")
        images.append(
            Image(
                ids[-1].number_id(),
                None if video is None else video.identity(),
                None if frame is None else frame.number_id(),
                None if name is None else name.text(),
                None if video_file is None else video_file.text(),
                (sizes[0], sizes[1]) if len(sizes) == 2 else None,
                f"{content.file}: {item.place} (id {ids[-1].value})",
                labelled is None or labelled.flag(),
            )
        )
        if name is None and video_file is None:
            raise ValueError(
                f"{content.file}: image {ids[-1].value} has no file_name (nor video_file)."
            )
        unread.update(item.unread())
        if video_file is not None and frame is not None and item.get("frame_index") is None:
            note(
                "frames of a video_file by frame_id, without frame_index: taken for a count from 0"
            )
    _require_one_kind(content)
    require_unique(ids, "its own whole-number id")
    _note_unread("images", unread)
    return images


def name_number(path: str) -> tuple[str, int | None]:
    """(what is before it, the last number) of a file's name: ``clip/a_0012.jpg`` -> clip/a_, 12.

    What Roboflow adds to a name (``a_0012_jpg.rf.<hash>.jpg``) is no part of it.
    """
    stem = re.sub(r"\.rf\.[0-9A-Za-z]+(?=\.|$)", "", path.replace("\\", "/"))
    stem = re.sub(r"(_(jpe?g|png))?\.[A-Za-z]+$", "", stem, flags=re.IGNORECASE)
    match = re.search(r"(\d+)\D*$", stem.rpartition("/")[2])
    if match is None:
        return stem, None
    before = stem[: len(stem) - len(match.group(0))]
    return before, int(match.group(1))


def read_video(image: Field) -> Field | None:
    """An image's ``video_id``, or ``vid_id``, as PoseTrack has it."""
    return image.get("video_id") or image.get("vid_id")


def _require_one_kind(content: Field) -> None:
    """Numbers in one image and text in another tell of two tools, whose counting may differ."""
    for key in ("frame_index", "frame_id"):
        kinds: dict[bool, Field] = {}
        for item in content.need("images").items():
            value = item.get(key)
            if value is not None:
                kinds.setdefault(isinstance(value.value, str), value)
        if len(kinds) == 2:
            raise kinds[True].error(f"a number, as {kinds[False].place} is {kinds[False].value}")


# ---- people


def own_annotations(
    content: Field, category: Category, images: Collection[int]
) -> list[tuple[int, Field]]:
    """The annotations of a category, each with its image's id; those of others are noted.

    Raises:
        ValueError: an annotation of an image that there is not, or, where there are several
            categories, of no category.
    """
    own, others = [], Counter[str]()
    found = content.get("annotations")
    several = len(content.need("categories").members()) > 1
    for item in found.items() if found is not None else ():
        image = item.need("image_id")
        if image.number_id() not in images:
            raise image.error("the id of one of images[]")
        number = item.need("category_id") if several else item.get("category_id")
        if number is not None and category.ids and number.number_id() not in category.ids:
            others[str(number.value)] += 1
        else:
            own.append((image.number_id(), item))
    for other, count in others.items():
        note(f"annotations of category {other}, which is not {category.name!r}: left out", count)
    return own


def _read_people(content: Field, category: Category, images: set[int]) -> list[Person]:
    people = []
    unread: Counter[str] = Counter()
    masks = 0
    for image, item in own_annotations(content, category, images):
        person = _read_person(item, image, category, content)
        unread.update(_unread_of_person(item))
        if _has_mask_alone(person, item):
            masks += 1
        else:
            people.append(person)
    note("annotations with a mask (segmentation) alone, without bbox and joints: left out", masks)
    _note_unread("annotations", unread)
    return people


def _read_person(item: Field, image_id: int, category: Category, content: Field) -> Person:
    where = f"{content.file}: annotation {_id(item)} ({item.place})"
    track, keypoints, box = read_track(item), item.get("keypoints"), item.get("bbox")
    crowd = item.get("iscrowd")
    points = None
    if keypoints is not None and keypoints.members():
        points = read_keypoints(keypoints, len(category.joints))
    return Person(
        image_id,
        None if track is None else track.identity(),
        points if points is not None and (points[:, 2] > 0).any() else None,
        None if box is None else box.numbers(4, " (x, y, width, height)"),
        read_area(item),
        crowd is not None and crowd.flag(),
        where,
    )


def read_track(item: Field) -> Field | None:
    """An annotation's ``track_id``, or that of its ``attributes``, where CVAT writes it; None
    without one, also where it is -1, as trackers number people whom they do not follow."""
    track, attributes = item.get("track_id"), item.get("attributes")
    if track is None and attributes is not None and isinstance(attributes.value, dict):
        track = attributes.get("track_id")
    return None if track is None or track.identity() == "-1" else track


def read_area(item: Field) -> float | None:
    """The area of an annotation's person, px^2; None where it is not told, or told as none."""
    area = item.get("area")
    # NaN is what tables that lack a value are written with.
    if area is None or area.value != area.value:
        return None
    value = area.number()
    if value <= 0:
        note("areas of 0 or below: taken as not told")
        return None
    return value


def _has_mask_alone(person: Person, item: Field) -> bool:
    """Whether the annotation says where the person is by a mask of any kind and nothing else."""
    told = (person.keypoints, person.box, person.track)
    return all(value is None for value in told) and bool(item.content().get("segmentation"))


def read_keypoints(keypoints: Field, joints: int) -> np.ndarray:
    """(K, 3), x and y as they stand there. Raises ValueError for another number of joints, or v."""
    points = keypoints.numbers(3 * joints, f" ({joints} x (x, y, v))").reshape(joints, 3)
    other = points[~np.isin(points[:, 2], (0, 1, 2)), 2]
    if len(other):
        raise keypoints.error(f"{joints} x (x, y, v) with v 0, 1 or 2, not {other[0]:g}")
    return points


def require_pixels(poses: Sequence[np.ndarray], source: str) -> None:
    """Raise ValueError where all joints of poses (K, 3) are shares of a picture, not px.

    Args:
        poses: of all people, as they stand in the files. source: the files.
    """
    points = np.concatenate([np.zeros((0, 2)), *(pose[pose[:, 2] > 0, :2] for pose in poses)])
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) > 1 and ((points >= 0) & (points <= 1)).all() and (points % 1 > 0).any():
        raise ValueError(
            f"{source}: annotations[].keypoints: expected px, got numbers from 0 to 1 alone, as "
            f"{points[0].round(6).tolist()}: multiply them by the pictures' sizes"
        )


def _unread_of_person(item: Field) -> list[str]:
    keys = item.unread()  # without "attributes": asked for by whoever reads the person
    attributes = item.get("attributes")
    if attributes is None:
        return keys
    if not isinstance(attributes.value, dict):
        return [*keys, "attributes"]
    return keys + [f"attributes.{key}" for key in attributes.value if key != "track_id"]


def _id(item: Field) -> Any:
    number = item.get("id")
    return item.place if number is None else number.value


def _note_unread(what: str, unread: Counter[str]) -> None:
    """``what``: the list whose members have the fields; "" for fields of the file."""
    place = f"{what}[]." if what else ""
    for key, count in unread.items():
        if key not in _SAID_ELSEWHERE:
            note(f"fields {place}{key}: not read", count)


# ---- several files


def _set_apart(
    images: list[Image], people: list[Person], number: int
) -> tuple[list[Image], list[Person]]:
    offset = (number + 1) * 10**12
    images = [image._replace(id=image.id + offset) for image in images]
    return images, [person._replace(image_id=person.image_id + offset) for person in people]


def _set_videos_apart(labels: Labels, paths: Sequence[str]) -> None:
    """A video has one file of labels: the same id in two files is two videos."""
    files: dict[str, set[str]] = {}
    for image in labels.images:
        if image.video is not None:
            files.setdefault(image.video, set()).add(_file_of(image))
    shared = {video for video, found in files.items() if len(found) > 1}
    if not shared:
        return
    names = _names_of_files(paths)
    note("video ids that two files have: taken as videos of their own", len(shared))
    for i, image in enumerate(labels.images):
        if image.video in shared:
            labels.images[i] = image._replace(video=f"{names[_file_of(image)]}/{image.video}")


def _names_of_files(paths: Sequence[str]) -> dict[str, str]:
    """By path: as much of its end, without the ending, as no other path ends in."""
    parts = {path: os.path.splitext(os.path.abspath(path))[0].split(os.sep) for path in paths}
    names = {}
    for path, own in parts.items():
        others = [other for each, other in parts.items() if each != path]
        ends = (own[-count:] for count in range(1, len(own) + 1))
        names[path] = "/".join(
            next((e for e in ends if all(o[-len(e) :] != e for o in others)), own)
        )
    return names


def _file_of(image: Image) -> str:
    return image.where.partition(": images[")[0]
