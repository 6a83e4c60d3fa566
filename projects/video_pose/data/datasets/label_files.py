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

from video_pose.data.datasets.coco_json import name_number, open_coco
from video_pose.data.datasets.tracks import distinct_names, note
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
    has v = 1. Of a turned box the extent counts. A shape's ``frame`` is the number in the video
    already, whatever ``start_frame`` and step its task has; where the source is no video file,
    frames are ``frame_<number>.PNG``, as CVAT exports them. A project's tasks have videos and
    pictures of their own: their numbers repeat from subset to subset, and no source is told.

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
    for attribute in shape.iter("attribute"):
        if attribute.get("name") != "track_id":
            note(f"attributes {attribute.get('name')!r}: not read")
    if _cvat_flag(shape, "outside", path):
        return
    if shape.tag == "box":
        x0, y0, x1, y1 = (_decimal(shape, key, path) for key in ("xtl", "ytl", "xbr", "ybr"))
        degrees = 0.0 if shape.get("rotation") is None else _decimal(shape, "rotation", path)
        middle = (x0 + x1) / 2, (y0 + y1) / 2
        content.person(image, {}, track, _turned([x0, y0, x1 - x0, y1 - y0], degrees, middle))
        return
    points: dict[str, tuple[float, float, int]] = {}
    seen: set[str] = set()
    for point in shape.iter("points"):
        name = str(point.get("label"))
        if name in seen:
            raise ValueError(f"{path}: <skeleton> of label {label!r} has two points {name!r}")
        seen.add(name)
        if not _cvat_flag(point, "outside", path):
            x, y = _cvat_point(point, path)
            points[name] = x, y, 1 if _cvat_flag(point, "occluded", path) else 2
    if points:
        content.person(image, points, track)


def _cvat_flag(element: Any, key: str, path: str) -> bool:
    value = element.get(key)
    if value not in (None, "0", "1"):
        raise ValueError(f"{path}: <{element.tag}> {key}: expected 0 or 1, got {value!r}")
    return value == "1"


def _turned(box: Sequence[float], degrees: float, pivot: tuple[float, float]) -> list[float]:
    """The extent (x, y, width, height) of a box that is turned clockwise about a point."""
    if not degrees % 360:
        return list(box)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y, width, height = box
    arms = [(a - pivot[0], b - pivot[1]) for a in (x, x + width) for b in (y, y + height)]
    xs = [pivot[0] + a * cos - b * sin for a, b in arms]
    ys = [pivot[1] + a * sin + b * cos for a, b in arms]
    note("turned boxes: their extent is taken")
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


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
    relation) of their rectangle; without one, a picture holds one person. Rectangles of other
    labels than those that have keypoints are left out. Of a turned rectangle the extent counts.

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
    labels = set().union(*map(_labels_of_people, results))
    for number, (task, regions) in enumerate(zip(tasks, results, strict=True)):
        _add_task(content, task, regions, number, labels)
    return content.field()


def _labels_of_people(regions: list[Field]) -> set[str]:
    """Labels of a task's rectangles that have keypoints."""
    parents = _parents(regions)
    owners = {parents.get(r.need("id").text()) for r in regions if _kind(r) == "keypointlabels"}
    return {
        name
        for region in regions
        if _kind(region) == "rectanglelabels" and region.need("id").text() in owners
        for name in _rectangle_labels(region)
    }


def _kind(region: Field) -> str:
    return region.need("type").text()


def _rectangle_labels(region: Field) -> list[str]:
    names = region.need("value").get("rectanglelabels")
    return [] if names is None else names.texts()


def _parents(regions: list[Field]) -> dict[str, str]:
    """Keypoint id -> id of what it belongs to: its ``parentID``, else that of a relation."""
    found = {
        region.need("from_id").text(): region.need("to_id").text()
        for region in regions
        if _kind(region) == "relation"
    }
    for region in regions:
        parent = region.get("parentID") if _kind(region) == "keypointlabels" else None
        if parent is not None:
            found[region.need("id").text()] = parent.text()
    return found


def _regions(task: Field) -> list[Field]:
    """The results of a task's first annotation that was not cancelled."""
    predictions = task.get("predictions")
    if predictions is not None and predictions.value:
        note("tasks with predictions, which are not read")
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


def _add_task(
    content: Content, task: Field, regions: list[Field], number: int, labels: set[str]
) -> None:
    """``labels``: of people's rectangles; none where no rectangle of the file has keypoints."""
    points: dict[str, dict[str, tuple[float, float, int]]] = {}
    boxes: dict[str, list[float]] = {}
    keypoints: list[tuple[Field, str, tuple[float, float, int]]] = []
    size: tuple[int, int] | None = None
    for region in regions:
        kind = _kind(region)
        if kind == "relation":
            continue
        if kind not in ("keypointlabels", "rectanglelabels"):
            note(f"results of type {kind!r}: left out")
            continue
        value = region.need("value")
        size = _require_size(region, size)
        width, height = size
        x = value.need("x").number() * width / 100
        y = value.need("y").number() * height / 100
        key = region.need("id").text()
        if kind == "keypointlabels":
            keypoints.append((region, key, (x - 0.5, y - 0.5, 2)))
        elif labels and not labels.intersection(_rectangle_labels(region)):
            note(f"rectangles of label {', '.join(_rectangle_labels(region))!r}: left out")
        else:
            w, h = (value.need(side).number() for side in ("width", "height"))
            degrees = value.get("rotation")
            angle = 0.0 if degrees is None else degrees.number()
            boxes[key] = _turned([x, y, w * width / 100, h * height / 100], angle, (x, y))
    parents = _parents(regions)
    for region, key, point in keypoints:
        owner, joint = parents.get(key, ""), _region_label(region)
        if owner and owner not in boxes:
            note("keypoints whose parent is no rectangle: of a person without one")
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


def _require_size(region: Field, other: tuple[int, int] | None) -> tuple[int, int]:
    """(width, height) of a result's picture, which is as of the results before, and not turned."""
    width, height = region.need("original_width"), region.need("original_height")
    size = width.integer(1), height.integer(1)
    if other not in (None, size):
        raise region.error(f"the original_width and original_height of the others, {other}")
    turned = region.get("image_rotation")
    if turned is not None and turned.number() % 360:
        raise turned.error("0: results on a turned picture are not read")
    return size


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
    columns = _deeplabcut_columns(head, path)
    if not columns or len({len(row) for row in head.values()}) != 1:
        raise ValueError(f"{path}: expected rows of one length at the top, 'coords' with x and y")
    first = min(i for pair in columns.values() for i in pair.values())
    content = Content(path, list(dict.fromkeys(joint for _, joint in columns)))
    columns = {key: pair for key, pair in columns.items() if len(pair) == 2}
    for number, row in enumerate(rows, start=len(head) + 1):
        if len(row) != len(head["coords"]):
            raise ValueError(
                f"{path}, line {number}: expected {len(head['coords'])} columns, got {len(row)}"
            )
    names = ["/".join(part for part in row[:first] if part).replace("\\", "/") for row in rows]
    videos = _deeplabcut_videos(names)
    for number, (name, row) in enumerate(zip(names, rows, strict=True), start=len(head) + 1):
        image = content.image(
            name, file_name=name, video_id=videos[os.path.dirname(name)],
            frame_index=name_number(name)[1],
        )  # fmt: skip
        found: dict[str, dict[str, tuple[float, float, int]]] = {}
        for (person, joint), pair in columns.items():
            x, y = (_csv_number(row[pair[coord]], path, number) for coord in "xy")
            if math.isfinite(x) and math.isfinite(y):
                found.setdefault(person, {})[joint] = x, y, 2
        for person, points in found.items():
            content.person(image, points, person)
    return content.field()


def _deeplabcut_columns(
    head: dict[str, list[str]], path: str
) -> dict[tuple[str, str], dict[str, int]]:
    """(individual, bodypart) -> the columns of "x" and "y", as far as there are."""
    people = head.get("individuals", ["0"] * len(head["coords"]))
    found: dict[tuple[str, str], dict[str, int]] = {}
    columns = list(zip(people, head["bodyparts"], head["coords"]))
    for i, (person, joint, coord) in enumerate(columns):
        if coord not in ("x", "y"):
            note(f"columns {coord!r}: not read", coord not in ("", "coords"))
            continue
        pair = found.setdefault((person, joint), {})
        if pair.setdefault(coord, i) != i:
            raise ValueError(
                f"{path}: bodypart {joint!r} has two columns {coord!r}: expected the labels of one "
                "scorer"
            )
    note("bodyparts with a column x or y alone: not labelled",
         sum(len(pair) < 2 for pair in found.values()))  # fmt: skip
    return found


def _deeplabcut_videos(names: Sequence[str]) -> dict[str, str]:
    """Folder -> video: the folder's own name, or its whole path where another is called so, too."""
    folders = dict.fromkeys(os.path.dirname(name) for name in names)
    called = Counter(folder.rpartition("/")[2] for folder in folders)
    return {
        folder: (short if called[short := folder.rpartition("/")[2]] == 1 else folder) or "video"
        for folder in folders
    }


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
    # Two tracks may have one name, and are two people.
    names = distinct_names(track.name for track in labels.tracks)
    tracks = {id(track): name for track, name in zip(labels.tracks, names, strict=True)}
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
            content.person(image, points, tracks.get(id(person.track)))
    return content.field()
