"""Annotation files of labelling tools: each reader gives a file's content in COCO's form.

CVAT (video and image XML, COCO), Label Studio (keypoints), Roboflow (COCO), DeepLabCut
(``CollectedData`` as csv or h5), SLEAP (.slp). `FORMATS` is a registry: a plugin adds a reader, a
function (path) -> `Field` with the lists ``images``, ``annotations`` and ``categories``. A category
may have ``mirror_pairs``, pairs of names that the file says are each other's mirror image.

COCO's points are pixel indices, here as well; continuous ones become indices by - 0.5.
"""

from __future__ import annotations

import csv
import itertools
import math
import os
import re
import urllib.parse
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from video_pose.data.datasets.coco_json import open_coco
from video_pose.data.datasets.tracks import note
from video_pose.data.json_fields import Field, load_json
from video_pose.plugins import Registry

FORMATS: Registry[Callable[[str], Field]] = Registry("file_format")
_ENDINGS = {".xml": "cvat", ".csv": "deeplabcut", ".h5": "deeplabcut", ".slp": "sleap"}
_VIDEO_ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts")

Record = dict[str, Any]


def open_labels(path: str, file_format: str | None = None) -> Field:
    """The content of an annotation file.

    Args:
        file_format: of `FORMATS`; None goes by the ending; a JSON list is Label Studio's.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the format is unknown, or the file is not as its format has it.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"annotation file {path} does not exist")
    if file_format is None:
        file_format = _ENDINGS.get(os.path.splitext(path)[1].lower())
    if file_format is None:
        file_format = "label_studio" if isinstance(load_json(path).value, list) else "coco"
    return FORMATS.get(file_format)(path)


FORMATS.add("coco")(open_coco)


class Content:
    """Collects what a reader finds, in COCO's form.

    Args:
        file: for messages. joints: of the people. lines, mirror_pairs: pairs of joint names.
    """

    def __init__(
        self,
        file: str,
        joints: Sequence[str],
        lines: Sequence[Sequence[str]] = (),
        mirror_pairs: Sequence[Sequence[str]] = (),
    ) -> None:
        self._file = file
        self._joints = list(joints)
        self._category = {
            "id": 1, "name": "person", "keypoints": self._joints,
            "skeleton": [list(line) for line in lines],
            "mirror_pairs": [list(pair) for pair in mirror_pairs],
        }  # fmt: skip
        self._images: dict[Any, Record] = {}
        self._annotations: list[Record] = []

    def image(self, key: Any, **fields: Any) -> int:
        """The id of an image, which is made where ``key`` is new."""
        if key not in self._images:
            given = {name: value for name, value in fields.items() if value is not None}
            self._images[key] = {"id": len(self._images) + 1, **given}
        return int(self._images[key]["id"])

    def person(
        self,
        image: int,
        points: dict[str, tuple[float, float, int]],
        track: Any = None,
        box: Sequence[float] | None = None,
    ) -> None:
        """A person: joint -> (x, y, v), pixel indices; ``box`` (x, y, width, height)."""
        keypoints: list[float] = []
        for joint in self._joints:
            keypoints += points.get(joint, (0.0, 0.0, 0))
        annotation = {"id": len(self._annotations) + 1, "image_id": image, "category_id": 1}
        given = {"keypoints": keypoints if points else None, "track_id": track, "bbox": box}
        annotation |= {key: value for key, value in given.items() if value is not None}
        self._annotations.append(annotation)

    def field(self) -> Field:
        """All of it."""
        content = {
            "images": list(self._images.values()),
            "annotations": self._annotations,
            "categories": [self._category],
        }
        return Field(content, self._file)


# ---- CVAT


@FORMATS.add("cvat")
def open_cvat(path: str) -> Field:
    """CVAT's XML ("CVAT for video 1.1" and "for images"): skeletons, and boxes of the same label.

    CVAT's points are continuous. A joint that is ``outside`` is not labelled, an ``occluded`` one
    has v = 1. A shape's ``frame`` is the number in the video already, whatever ``start_frame`` and
    step its task has; where the source is no video file, frames are ``frame_<number>.PNG``, as CVAT
    exports them. A project's tasks have videos and pictures of their own: their numbers repeat from
    subset to subset, and no source is told.

    Raises:
        ValueError: it is no such XML, or has no skeleton.
    """
    root = _parse_xml(path)
    label, joints = _cvat_joints(root, path)
    content = Content(path, joints)
    source = root.findtext(".//meta//source") or ""
    is_video = source.lower().endswith(_VIDEO_ENDINGS)
    sizes = _cvat_sizes(root)
    for track in root.iter("track"):
        task, subset = track.get("task_id"), track.get("subset")
        width, height = sizes.get(task, (None, None))
        video = source or ("video" if task is None else f"task {task}")
        for shape in track:
            number = _whole(shape, "frame", path)
            name = "/".join([*([subset] if subset else []), f"frame_{number:06d}.PNG"])
            image = content.image(
                (video, number), video_id=video, frame_index=number, width=width, height=height,
                **{"video_file": source} if is_video else {"file_name": name},
            )  # fmt: skip
            _add_cvat_shape(content, shape, image, label, track.get("label"), track.get("id"), path)
    pictures = [*root.iter("image")]
    named = Counter(picture.get("name") for picture in pictures)
    for picture in pictures:
        subset, name = picture.get("subset"), picture.get("name")
        image = content.image(
            ("image", subset, picture.get("task_id"), picture.get("id"), name),
            file_name=f"{subset}/{name}" if subset and named[name] > 1 else name,
            width=_whole(picture, "width", path), height=_whole(picture, "height", path),
        )  # fmt: skip
        for shape in picture:
            track_id = next((a.text for a in shape.iter("attribute")
                             if a.get("name") == "track_id"), None)  # fmt: skip
            _add_cvat_shape(content, shape, image, label, shape.get("label"), track_id, path)
    return content.field()


def _parse_xml(path: str) -> Any:
    with open(path, "rb") as file:
        text = file.read()
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise ValueError(f"{path}: an XML file with a DOCTYPE or entities is not read")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path} is no XML: {error}") from error
    if root.tag != "annotations":
        raise ValueError(f"{path}: expected CVAT's <annotations>, got <{root.tag}>")
    return root


def _cvat_joints(root: Any, path: str) -> tuple[str, list[str]]:
    """The label of the people, and their joints: in the order of the label's parts, where told."""
    skeletons = [*root.iter("skeleton")]
    labels = {
        track.get("label") for track in root.iter("track") if track.find("skeleton") is not None
    } | {skeleton.get("label") for skeleton in skeletons}
    labels -= {None}
    if len(labels) > 1:
        chosen = {label for label in labels if label.lower() == "person"}
        if not chosen:
            raise ValueError(f"{path}: skeletons of several labels {sorted(labels)}, none 'person'")
        labels = chosen
    if not labels:
        raise ValueError(f"{path}: expected <skeleton> shapes, found none")
    label = labels.pop()
    told = [
        item.findtext("name") for item in root.iter("label") if item.findtext("parent") == label
    ]
    found = dict.fromkeys(
        point.get("label")
        for parent in root.iter()
        for skeleton in parent.findall("skeleton")
        if label in (parent.get("label"), skeleton.get("label"))
        for point in skeleton.iter("points")
    )
    names = list(dict.fromkeys([*told, *found]))
    return label, [name for name in names if name]


def _cvat_sizes(root: Any) -> dict[str | None, tuple[int | None, int | None]]:
    """Width and height of the videos of a project's tasks by id, of a task's or job's by None."""
    sizes = {}
    for owner in (*root.iterfind(".//meta/project/tasks/task"), *root.iterfind(".//meta")):
        sides = [owner.findtext(f".//original_size/{side}") for side in ("width", "height")]
        width, height = (int(side) if side and side.isdigit() else None for side in sides)
        sizes[owner.findtext("id")] = width, height
    return sizes


def _add_cvat_shape(
    content: Content, shape: Any, image: int, label: str, own: str | None, track: Any, path: str
) -> None:
    if shape.tag == "attribute":
        return
    if own != label or shape.tag not in ("skeleton", "box"):
        note(f"<{shape.tag}> of label {own!r}: left out")
        return
    if shape.get("outside") == "1":
        return
    if shape.tag == "box":
        x0, y0, x1, y1 = (_decimal(shape, key, path) for key in ("xtl", "ytl", "xbr", "ybr"))
        content.person(image, {}, track, [x0, y0, x1 - x0, y1 - y0])
        return
    points = {}
    for point in shape.iter("points"):
        if point.get("outside") != "1":
            x, y = _cvat_point(point, path)
            points[str(point.get("label"))] = x, y, 1 if point.get("occluded") == "1" else 2
    if points:
        content.person(image, points, track)


def _cvat_point(point: Any, path: str) -> tuple[float, float]:
    try:
        x, y = (float(value) for value in str(point.get("points")).split(","))
    except ValueError:
        raise ValueError(
            f'{path}: <points label={point.get("label")!r}>: expected points="x,y", got '
            f"{point.get('points')!r}"
        ) from None
    return x - 0.5, y - 0.5


def _whole(element: Any, key: str, path: str) -> int:
    value = str(element.get(key))
    if not value.isdigit():
        raise ValueError(f"{path}: <{element.tag}> {key}: expected a whole number, got {value!r}")
    return int(value)


def _decimal(element: Any, key: str, path: str) -> float:
    try:
        return float(element.get(key))
    except (TypeError, ValueError):
        raise ValueError(
            f"{path}: <{element.tag}> {key}: expected a number, got {element.get(key)!r}"
        ) from None


# ---- Label Studio


@FORMATS.add("label_studio")
def open_label_studio(path: str) -> Field:
    """Label Studio's JSON export: keypoints in percent of the picture, people by ``parentID`` (or a
    relation) of their rectangle; without one, a picture holds one person.

    Raises:
        ValueError: with file and place, what is not as described.
    """
    tasks = list(load_json(path).items())
    joints: dict[str, None] = {}
    results = [_regions(task) for task in tasks]
    for region in itertools.chain(*results):
        if region.need("type").text() == "keypointlabels":
            joints[_region_label(region)] = None
    if not joints:
        raise ValueError(f"{path}: expected results of type 'keypointlabels', found none")
    content = Content(path, list(joints))
    for number, (task, regions) in enumerate(zip(tasks, results, strict=True)):
        _add_task(content, task, regions, number)
    return content.field()


def _regions(task: Field) -> list[Field]:
    """The results of a task's first annotation that was not cancelled."""
    found = task.get("annotations") or task.get("completions")
    annotations = list(found.items()) if found is not None else []
    kept = [a for a in annotations if (flag := a.get("was_cancelled")) is None or not flag.flag()]
    note("annotations of a task beside its first: left out", max(len(kept) - 1, 0))
    return list(kept[0].need("result").items()) if kept else []


def _region_label(region: Field) -> str:
    names = region.need("value").need("keypointlabels").texts()
    if len(names) != 1:
        raise region.need("value").need("keypointlabels").error("one joint's name")
    return names[0]


def _add_task(content: Content, task: Field, regions: list[Field], number: int) -> None:
    points: dict[str, dict[str, tuple[float, float, int]]] = {}
    boxes: dict[str, list[float]] = {}
    parents: dict[str, str] = {}
    keypoints: list[tuple[Field, str, tuple[float, float, int]]] = []
    size: tuple[int, int] | None = None
    for region in regions:
        kind = region.need("type").text()
        if kind == "relation":
            parents[region.need("from_id").text()] = region.need("to_id").text()
            continue
        if kind not in ("keypointlabels", "rectanglelabels"):
            note(f"results of type {kind!r}: left out")
            continue
        value = region.need("value")
        width = region.need("original_width").integer(1)
        height = region.need("original_height").integer(1)
        size = width, height
        x = value.need("x").number() * width / 100
        y = value.need("y").number() * height / 100
        key = region.need("id").text()
        if kind == "keypointlabels":
            keypoints.append((region, key, (x - 0.5, y - 0.5, 2)))
        else:
            w, h = (value.need(side).number() for side in ("width", "height"))
            boxes[key] = [x, y, w * width / 100, h * height / 100]
    for region, key, point in keypoints:
        parent = region.get("parentID")
        owner = parents.get(key, "") if parent is None else parent.text()
        joint = _region_label(region)
        person = points.setdefault(owner if owner in boxes else "", {})
        if joint in person:
            raise region.error(
                f"one {joint!r} a person: give the keypoints of each person a rectangle as parent"
            )
        person[joint] = point
    name = _task_picture(task)
    image = content.image(number, file_name=name, width=size and size[0], height=size and size[1])
    for owner in {**points, **boxes}:
        content.person(image, points.get(owner, {}), box=boxes.get(owner))


def _task_picture(task: Field) -> str:
    data = task.need("data")
    keys = [key for key in ("image", "img", *data.content()) if data.get(key) is not None]
    if not keys:
        raise data.error("the picture's path")
    text = data.need(keys[0]).text()
    query = urllib.parse.parse_qs(urllib.parse.urlparse(text).query)
    if "d" in query:  # /data/local-files/?d=<path>
        return query["d"][0]
    folder, name = os.path.split(text)
    # Label Studio puts eight characters before the name of an uploaded file.
    return re.sub(r"^[0-9a-f]{8}-", "", name) if "/data/upload" in folder else text


# ---- DeepLabCut


@FORMATS.add("deeplabcut")
def open_deeplabcut(path: str) -> Field:
    """DeepLabCut's ``CollectedData_<scorer>`` as csv or h5: a video a folder, a track an
    individual. Taken for pixel indices, as the tool draws them.

    Raises:
        ValueError: with file and line, what is not as described; h5 without pandas.
    """
    rows = _deeplabcut_rows(path)
    head: dict[str, list[str]] = {}
    while rows and rows[0][0] in ("scorer", "individuals", "bodyparts", "coords"):
        row = rows.pop(0)
        head[row[0]] = row
    if not {"bodyparts", "coords"} <= set(head):
        raise ValueError(f"{path}: expected rows 'scorer', 'bodyparts' and 'coords' at the top")
    columns = [i for i, coord in enumerate(head["coords"]) if coord in ("x", "y")]
    if not columns or len({len(row) for row in head.values()}) != 1:
        raise ValueError(f"{path}: expected rows of one length at the top, 'coords' with x and y")
    people = head.get("individuals", ["0"] * len(head["coords"]))
    joints = list(dict.fromkeys(head["bodyparts"][i] for i in columns))
    content = Content(path, joints)
    for number, row in enumerate(rows, start=len(head) + 1):
        if len(row) != len(head["coords"]):
            raise ValueError(
                f"{path}, line {number}: expected {len(head['coords'])} columns, got {len(row)}"
            )
        name = "/".join(part for part in row[: columns[0]] if part).replace("\\", "/")
        video = os.path.dirname(name).rpartition("/")[2] or "video"
        digits = re.findall(r"\d+", os.path.basename(name))
        image = content.image(
            name, file_name=name, video_id=video, frame_index=int(digits[-1]) if digits else None
        )
        found: dict[str, dict[str, list[float]]] = {}
        for i in columns:
            value = _csv_number(row[i], path, number)
            joint = found.setdefault(people[i], {}).setdefault(head["bodyparts"][i], [])
            joint.append(value)
        for person, parts in found.items():
            points = {
                joint: (xy[0], xy[1], 2) for joint, xy in parts.items()
                if len(xy) == 2 and all(map(math.isfinite, xy))
            }  # fmt: skip
            if points:
                content.person(image, points, person)
    return content.field()


def _deeplabcut_rows(path: str) -> list[list[str]]:
    if not path.lower().endswith(".h5"):
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                return [row for row in csv.reader(file) if row]
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} is no csv in UTF-8: {error}") from error
    try:
        import pandas
    except ImportError as error:
        raise ValueError(
            f"{path}: DeepLabCut's h5 needs pandas with tables; the csv beside it needs nothing"
        ) from error
    try:
        table = pandas.read_hdf(path)
    # pandas and tables raise many unrelated types on damaged files.
    except Exception as error:
        raise ValueError(f"{path} is no table of DeepLabCut: {error}") from error
    index = [k if isinstance(k, tuple) else (k,) for k in table.index]
    width = max((len(key) for key in index), default=1)
    head = [
        [str(level), *[""] * (width - 1), *map(str, table.columns.get_level_values(level))]
        for level in table.columns.names
    ]
    body = [
        [*map(str, key), *("" if math.isnan(v) else repr(float(v)) for v in values)]
        for key, values in zip(index, table.to_numpy(), strict=True)
    ]
    return head + body


def _csv_number(text: str, path: str, line: int) -> float:
    try:
        return float(text) if text.strip() else math.nan
    except ValueError:
        raise ValueError(f"{path}, line {line}: expected a number, got {text!r}") from None


# ---- SLEAP


@FORMATS.add("sleap")
def open_sleap(path: str) -> Field:
    """SLEAP's .slp, by sleap-io: what a user labelled; predictions in it are left out. Taken for
    pixel indices; symmetries are mirror pairs, edges lines.

    Raises:
        ValueError: sleap-io is not installed, the file is none of SLEAP's, or its pictures lie
            inside it.
    """
    try:
        import sleap_io
    except ImportError as error:
        raise ValueError(f'{path}: .slp needs sleap-io: pip install -e ".[interchange]"') from error
    try:
        labels = sleap_io.load_slp(path, open_videos=False)
        skeleton = labels.skeletons[0]
    # sleap-io and h5py raise many unrelated types on damaged files.
    except Exception as error:
        raise ValueError(f"{path} cannot be read as SLEAP's labels: {error}") from error
    pairs = [sorted(node.name for node in symmetry.nodes) for symmetry in skeleton.symmetries]
    lines = [(edge.source.name, edge.destination.name) for edge in skeleton.edges]
    content = Content(path, list(skeleton.node_names), lines, pairs)
    for frame in labels.labeled_frames:
        source = frame.video.filename
        if not isinstance(source, (str, list)) or str(source).endswith(".slp"):
            raise ValueError(f"{path}: pictures inside the file are not read; export the videos")
        is_list = isinstance(source, list)
        shape = frame.video.shape
        video = os.path.dirname(source[0]) if is_list else source
        image = content.image(
            (str(video), frame.frame_idx), video_id=str(video), frame_index=int(frame.frame_idx),
            height=None if shape is None else int(shape[1]),
            width=None if shape is None else int(shape[2]),
            **{"file_name": source[frame.frame_idx]} if is_list else {"video_file": source},
        )  # fmt: skip
        for person in frame.instances:
            if isinstance(person, sleap_io.PredictedInstance):
                note("people that SLEAP predicted: left out")
                continue
            if person.skeleton.node_names != skeleton.node_names:
                note("people of another skeleton than the file's first: left out")
                continue
            points = {
                name: (float(x), float(y), 2)
                for name, (x, y) in zip(skeleton.node_names, person.numpy(), strict=True)
                if math.isfinite(x) and math.isfinite(y)
            }
            content.person(image, points, None if person.track is None else person.track.name)
    return content.field()
