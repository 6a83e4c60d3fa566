#!/usr/bin/env python3
"""Make clips of several real people whose places are known, to score what is found in them.

python tools/make_people_clips.py --output clips --dataset sub_jhmdb_split1_test \\
    --json-file coco_people/person_keypoints_val.json --image-root coco_people/val

pan     a picture in COCO's format under a camera that pans, zooms and shakes: of two to five
        people, or (--kind) with somebody seated, or cut off by the picture's edge
mosaic  four clips of a dataset of tracks in a square
cross   people cut out of two clips by their masks walk through a third, in opposite directions

Writes OUTPUT/<name>.mp4 and OUTPUT/people.json, which `video-pose score --annotations` reads:
COCO's 17 joints, of the tracks those that they have. Who is not labelled is ignored in the pans,
and counts as false where he walks through the background of a clip.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import video_pose  # noqa: F401  (first: it silences a warning of Detectron2's import)

# isort: split
import cv2
import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from pycocotools import mask as coco_mask

from video_pose.data.frame_reader import FrameReader
from video_pose.data.frames_mapper import MaskReader
from video_pose.files import write_text
from video_pose.skeleton import COCO_PERSON, match_joints
from video_pose.video_io.writing import write_video

JOINTS = list(COCO_PERSON.names)
# Of a pan: frames and frames a second; people with so many joints and px^2 make a picture fit.
PAN_FRAMES, PAN_RATE, PAN_SIDE = 12, 8.0, 480
LEAST_JOINTS, LEAST_AREA = 6, 45**2
# Somebody seated or cut off fills so much of a picture of at most so many people.
LARGE_SHARE, MOST_PEOPLE = 0.03, 3
CLIP_FRAMES, CLIP_RATE = 30, 25.0
# A person of fewer labelled joints in the picture is a crowd: neither right nor wrong.
LEAST_LABELLED = 3
_SIDES = ("left", "right")


class Clip(NamedTuple):
    """N frames of one person: pictures, joints (N, 17, 3), boxes (N, 4), masks (N, h, w) bool."""

    frames: list[np.ndarray]
    keypoints: np.ndarray
    boxes: np.ndarray
    masks: list[np.ndarray]


class Truth:
    """The people of all frames, as COCO's JSON with videos and tracks."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def frame(self, video: str, number: int, size: tuple[int, int]) -> None:
        """Begin a frame of (height, width)."""
        self._size = size
        image = {"id": len(self.images) + 1, "video_id": video, "video_file": f"{video}.mp4"}
        place = {"frame_index": number, "height": size[0], "width": size[1]}
        self.images.append({**image, **place, "file_name": f"{video}/{number:05d}.jpg"})

    def person(
        self,
        track: str,
        keypoints: np.ndarray,
        box: np.ndarray,
        area: float,
        crowd: bool = False,
        part: Sequence[float] | None = None,
    ) -> None:
        """Somebody of the frame, cut off at its edges: joints (17, 3) in continuous px.

        Args:
            part: x0, y0, x1, y1 of the frame that shows the person; None: all of it.
        """
        low, high = np.reshape(part or (0, 0, self._size[1], self._size[0]), (2, 2))
        points = keypoints.astype(np.float64).copy()
        outside = ((points[:, :2] < low) | (points[:, :2] >= high)).any(axis=1)
        points[outside | (points[:, 2] <= 0)] = 0
        if (points[:, 2] > 0).sum() < LEAST_LABELLED:
            points[:] = 0
        points[:, :2] -= 0.5 * (points[:, 2:] > 0)
        x0, y0, x1, y1 = np.clip(box.reshape(2, 2), low, high).ravel().astype(float).tolist()
        share = (x1 - x0) * (y1 - y0) / max(float((box[2:] - box[:2]).prod()), 1.0)
        if x1 - x0 < 3 or y1 - y0 < 3:
            return
        self.annotations.append(
            {
                "id": len(self.annotations) + 1, "image_id": len(self.images), "category_id": 1,
                "track_id": track, "iscrowd": int(crowd), "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": area * share, "keypoints": points.round(2).ravel().tolist(),
                "num_keypoints": int((points[:, 2] > 0).sum()),
            }
        )  # fmt: skip

    def write(self, path: Path) -> None:
        """Write the file."""
        category = {"id": 1, "name": "person", "keypoints": JOINTS, "skeleton": []}
        content = {"images": self.images, "annotations": self.annotations, "categories": [category]}
        write_text(path, json.dumps(content))


def choose_pictures(
    content: dict[str, Any], count: int, rng: np.random.Generator, kind: str = "several"
) -> list[Any]:
    """(image, annotations) of ``count`` pictures of a kind of `KINDS`."""
    by_image: dict[int, list[Any]] = {}
    for annotation in content["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    found = [(image, by_image.get(image["id"], [])) for image in content["images"]]
    fit = [(image, people) for image, people in found if KINDS[kind](image, people)]
    return [fit[i] for i in rng.permutation(len(fit))[:count]]


def _several(image: dict[str, Any], people: Sequence[Any]) -> bool:
    """Two to five people who can be scored, and at most two others."""
    large = [
        p
        for p in people
        if p.get("num_keypoints", 0) >= LEAST_JOINTS
        and p["area"] > LEAST_AREA
        and not p.get("iscrowd")
    ]
    return 2 <= len(large) <= 5 and len(people) - len(large) <= 2


def _some_large(image: dict[str, Any], people: Sequence[Any]) -> list[tuple[Any, np.ndarray]]:
    """The large people of a picture of few, with their joints (17, 3)."""
    least = LARGE_SHARE * image["height"] * image["width"]
    large = [p for p in people if p.get("num_keypoints", 0) >= LEAST_JOINTS and p["area"] > least]
    if len(people) > MOST_PEOPLE or any(p.get("iscrowd") for p in people):
        return []
    return [(p, np.array(p["keypoints"], np.float64).reshape(17, 3)) for p in large]


def _seated(image: dict[str, Any], people: Sequence[Any]) -> bool:
    """Somebody whose thigh is, upright, less than .4 as long as the trunk, on a labelled side."""
    for _, points in _some_large(image, people):
        for side in _SIDES:
            rows = [JOINTS.index(f"{side}_{part}") for part in ("shoulder", "hip", "knee")]
            (_, shoulder, a), (_, hip, b), (_, knee, c) = points[rows]
            if a and b and c and abs(knee - hip) < 0.4 * abs(hip - shoulder):
                return True
    return False


def _cut_off(image: dict[str, Any], people: Sequence[Any]) -> bool:
    """Somebody who reaches the lower edge, and has no labelled knee or ankle."""
    legs = [JOINTS.index(f"{side}_{part}") for side in _SIDES for part in ("knee", "ankle")]
    return any(
        person["bbox"][1] + person["bbox"][3] > image["height"] - 3 and not points[legs, 2].any()
        for person, points in _some_large(image, people)
    )


# Kinds of pictures for pans: whether one with these annotations is of it.
KINDS = {"several": _several, "seated": _seated, "cut_off": _cut_off}


def make_pan(
    name: str, picture: np.ndarray, people: Sequence[Any], truth: Truth, rng: np.random.Generator
) -> list[np.ndarray]:
    """Frames of a camera that moves over ``picture``, whose ``people`` go into ``truth``."""
    height, width = picture.shape[:2]
    scale = PAN_SIDE / max(height, width)
    size = (round(height * scale / 2) * 2, round(width * scale / 2) * 2)
    zoom, centre = rng.uniform(0.7, 0.95, 2), rng.uniform(0.4, 0.6, (2, 2))
    shake = np.cumsum(rng.normal(0, 0.0015, (PAN_FRAMES, 2)), axis=0)
    frames = []
    for number in range(PAN_FRAMES):
        u = number / (PAN_FRAMES - 1)
        part = zoom[0] + (zoom[1] - zoom[0]) * u
        factor = size[1] / (part * width)
        middle = (centre[0] + (centre[1] - centre[0]) * u + shake[number]) * (width, height)
        middle = middle.clip(
            part * np.array([width, height]) / 2, (1 - part / 2) * np.array([width, height])
        )
        offset = np.array([size[1], size[0]]) / 2 - factor * middle
        # OpenCV's coordinates are of pixels' centres: continuous ones less a half.
        shift = offset + (factor - 1) / 2
        matrix = np.array([[factor, 0, shift[0]], [0, factor, shift[1]]])
        frames.append(cv2.warpAffine(picture, matrix, size[::-1], flags=cv2.INTER_CUBIC))
        truth.frame(name, number, size)
        for person in people:
            points = np.array(person.get("keypoints") or [0] * 51, np.float64).reshape(17, 3)
            points[:, :2] = (points[:, :2] + 0.5) * factor + offset
            x, y, w, h = person["bbox"]
            box = np.array([x, y, x + w, y + h]) * factor + np.tile(offset, 2)
            area = person["area"] * factor**2
            truth.person(str(person["id"]), points, box, area, bool(person.get("iscrowd")))
    return frames


def read_clips(dataset: str, rng: np.random.Generator) -> Any:
    """Endless: clips of the dataset's tracks that have masks and `CLIP_FRAMES` frames, shuffled.

    Raises:
        ValueError: none has.
    """
    tracks = DatasetCatalog.get(dataset)
    joints = match_joints(MetadataCatalog.get(dataset).keypoint_names, JOINTS, partial=True)
    usable = [t for t in tracks if t.get("masks") and len(t["labelled"]) >= CLIP_FRAMES]
    if not usable:
        raise ValueError(f"{dataset}: no track has masks and {CLIP_FRAMES} frames")
    reader, masks = FrameReader(0, "BGR"), MaskReader()
    while True:
        for i in rng.permutation(len(usable)):
            track = usable[i]
            found = [masks.read({**track["masks"], "index": n}) for n in range(CLIP_FRAMES)]
            if any(mask is None for mask in found):
                continue
            frames = reader.read(track, range(CLIP_FRAMES))
            yield Clip(
                frames,
                joints.apply(track["keypoints"][:CLIP_FRAMES]),
                np.asarray(track["boxes"][:CLIP_FRAMES], np.float64),
                [coco_mask.decode(mask).astype(bool) for mask in found],
            )


def make_mosaic(name: str, four: Sequence[Clip], truth: Truth) -> list[np.ndarray]:
    """Four clips in a square; each in a tile of the first one's size, which cuts larger ones."""
    height, width = four[0].frames[0].shape[:2]
    frames = []
    for number in range(CLIP_FRAMES):
        canvas = np.zeros((2 * height, 2 * width, 3), np.uint8)
        truth.frame(name, number, canvas.shape[:2])
        for place, clip in enumerate(four):
            corner = np.array([place % 2 * width, place // 2 * height])
            tile = clip.frames[number][:height, :width]
            canvas[corner[1] :, corner[0] :][: tile.shape[0], : tile.shape[1]] = tile
            _add(truth, str(place), clip, number, corner, tile.shape[:2])
        frames.append(canvas)
    return frames


def make_crossing(name: str, three: Sequence[Clip], truth: Truth) -> list[np.ndarray]:
    """The first clip, through which the people of the others walk."""
    height, width = three[0].frames[0].shape[:2]
    centres = [clip.boxes.reshape(-1, 2, 2).mean(axis=(0, 1)) for clip in three]
    ways = ((0.1, 0.9), (0.85, 0.2))
    frames = []
    for number in range(CLIP_FRAMES):
        canvas = three[0].frames[number].astype(np.float32)
        truth.frame(name, number, (height, width))
        _add(truth, "0", three[0], number, np.zeros(2))
        for place, (start, end) in enumerate(ways, start=1):
            clip, u = three[place], number / (CLIP_FRAMES - 1)
            target = np.array([(start + (end - start) * u) * width, 0.55 * height])
            offset = np.round(target - centres[place])
            matrix = np.array([[1, 0, offset[0]], [0, 1, offset[1]]])
            soft = cv2.dilate(clip.masks[number].astype(np.float32), np.ones((5, 5)))
            soft = cv2.warpAffine(cv2.GaussianBlur(soft, (5, 5), 1), matrix, (width, height))
            person = cv2.warpAffine(clip.frames[number], matrix, (width, height))
            canvas += (person - canvas) * soft[..., None]
            _add(truth, str(place), clip, number, offset)
        frames.append(canvas.round().astype(np.uint8))
    return frames


def _add(
    truth: Truth,
    track: str,
    clip: Clip,
    number: int,
    offset: np.ndarray,
    tile: tuple[int, int] | None = None,
) -> None:
    """A clip's person, moved by ``offset``; ``tile``: (height, width) from there on that show the
    clip, None where the frame's edges alone cut it."""
    points = clip.keypoints[number].copy()
    points[:, :2] += offset
    box = clip.boxes[number] + np.tile(offset, 2)
    part = None if tile is None else [*offset, offset[0] + tile[1], offset[1] + tile[0]]
    truth.person(track, points, box, float(clip.masks[number].sum()), part=part)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", required=True, type=Path, metavar="FOLDER")
    add("--json-file", type=Path, metavar="FILE", help="pictures with COCO's people, for pans")
    add("--image-root", type=Path, metavar="FOLDER", help="of its file names")
    add("--dataset", metavar="NAME", help="registered tracks with masks, for the other two")
    add("--pans", type=int, default=24)
    add("--kind", choices=sorted(KINDS), default="several", help="of the pans' pictures")
    add("--mosaics", type=int, default=4)
    add("--crossings", type=int, default=4)
    add("--seed", type=int, default=0)
    return parser.parse_args(argv)


def make_clips(args: argparse.Namespace) -> int:
    """Write all clips; returns how many."""
    rng, truth, made = np.random.default_rng(args.seed), Truth(), 0
    args.output.mkdir(parents=True, exist_ok=True)
    if args.json_file:
        content = json.loads(args.json_file.read_text(encoding="utf-8"))
        for image, people in choose_pictures(content, args.pans, rng, args.kind):
            path = args.image_root / image["file_name"]
            picture = cv2.imread(str(path))
            if picture is None:
                raise FileNotFoundError(f"{path}: no such picture, or none that can be read")
            name = f"pan_{image['id']}"
            frames = make_pan(name, picture, people, truth, rng)
            write_video(args.output / f"{name}.mp4", frames, PAN_RATE)
            made += 1
    if args.dataset:
        clips = read_clips(args.dataset, rng)
        for kind, count, needed, make in (
            ("mosaic", args.mosaics, 4, make_mosaic),
            ("cross", args.crossings, 3, make_crossing),
        ):
            for i in range(count):
                name = f"{kind}_{i}"
                frames = make(name, [next(clips) for _ in range(needed)], truth)
                write_video(args.output / f"{name}.mp4", frames, CLIP_RATE)
                made += 1
    truth.write(args.output / "people.json")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    args = parse_args(argv)
    try:
        if bool(args.json_file) != bool(args.image_root) or not (args.json_file or args.dataset):
            raise ValueError("name --json-file and --image-root, or --dataset, or all three")
        count = make_clips(args)
    except (FileNotFoundError, KeyError, ValueError) as error:
        print(error.args[0] if isinstance(error, KeyError) else error, file=sys.stderr)
        return 1
    print(f"{count} clips in {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
