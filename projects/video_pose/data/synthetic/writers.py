"""The files of each dataset format, with the surprises of the real ones: JHMDB, Penn Action, BBC
Pose, and COCO-style videos of several people. Bytes depend on the content alone."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from pycocotools import mask as mask_tools
from scipy.io import savemat

from video_pose.data.synthetic.body import JOINTS
from video_pose.data.synthetic.plan import VideoPlan
from video_pose.data.synthetic.scene import PersonTrack, Scene, render_scene

# A v5 file starts with 116 bytes of text, in which scipy writes the date.
_MAT_HEADER = b"MATLAB 5.0 MAT-file, synthetic video pose".ljust(116)


def write_mat(path: Path, fields: Mapping[str, Any]) -> None:
    """Write a compressed v5 .mat file without a date."""
    buffer = io.BytesIO()
    savemat(buffer, dict(fields), do_compression=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_MAT_HEADER + buffer.getvalue()[len(_MAT_HEADER) :])


def write_image(path: Path, picture: np.ndarray) -> None:
    """Write a BGR uint8 (H, W, 3) picture as .png or .jpg.

    Raises:
        OSError: if the picture cannot be encoded or written.
    """
    options = {".png": [cv2.IMWRITE_PNG_COMPRESSION, 1], ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95]}
    done, data = cv2.imencode(path.suffix, picture, options[path.suffix])
    if not done:
        raise OSError(f"{path}: OpenCV could not encode a picture of shape {picture.shape}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())


def write_video(path: Path, frames: np.ndarray, fps: int = 25) -> None:
    """Write BGR uint8 (N, H, W, 3) frames as MPEG-4 in the container of the suffix (.avi, .mp4).

    A key frame every twelve frames, as in the real files, so that seeking has something to do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # One thread and no version strings: the same frames give the same bytes.
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        options = {"flags": "+bitexact", "qscale": "2", "threads": "1"}
        stream = container.add_stream("mpeg4", rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 12
        stream.codec_context.qmin, stream.codec_context.qmax = 2, 3
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())


# Synthetic clips in the files of JHMDB, with the surprises of the real ones.
#
# ``Rename_Images/<action>/<clip>/00001.png`` (or ``ReCompress_Videos/<action>/<clip>.avi``),
# ``joint_positions/.../joint_positions.mat``, ``puppet_mask/.../puppet_mask.mat``, ``splits/`` and
# ``sub_splits/`` with ``<action>_test_split{1,2,3}.txt``.


JHMDB_JOINTS = (
    "neck belly head right_shoulder left_shoulder right_hip left_hip right_elbow left_elbow "
    "right_knee left_knee right_wrist left_wrist right_ankle left_ankle"
).split()
# Stems of clip names with characters that shells and globs trip over, as real clips have them.
_STEMS = (
    "film_scene",
    "Who's_there!_scene",
    "Take_2_(cut)",
    "me@home",
    'The_"Best"_Of',
    "A&B_[HD]",
)
_SPLITS = (1, 2, 3)


@dataclass(frozen=True)
class JHMDBClip:
    """What the split files tell of a clip; ``whole``: every joint is inside the frame."""

    action: str
    name: str
    is_test: bool
    whole: bool


def jhmdb_clip_name(plan: VideoPlan) -> str:
    """A unique name in the style of the real ones; each clip has a source video of its own."""
    stem = _STEMS[plan.index % len(_STEMS)]
    return f"{stem}_{plan.index}_{plan.action}_f_cm_np1_fr_med_0"


def write_jhmdb_clip(root: Path, plan: VideoPlan, frames_as: str = "png") -> JHMDBClip:
    """Render a clip and write its frames, joints and masks. ``frames_as``: "png" or "avi"."""
    framing = "cut" if plan.index % 12 == 7 else "whole"
    scene = render_scene(plan.seed, framing=framing, **plan.scene_arguments())
    name = jhmdb_clip_name(plan)
    _write_jhmdb_frames(root, plan.action, name, scene.frames, frames_as)
    (person,) = scene.people
    # Some real clips lack the last mask or the last joints.
    order = [JOINTS.index(name) for name in JHMDB_JOINTS]
    masks, joints, hidden = person.masks, person.joints[:, order], person.covered[:, order]
    if plan.index % 15 == 8:
        masks = masks[:-1]
    if plan.index % 15 == 11:
        joints = joints[:-1]
    write_mat(
        root / "puppet_mask" / plan.action / name / "puppet_mask.mat",
        {"part_mask": np.ascontiguousarray(masks.transpose(1, 2, 0)).astype(np.uint8)},
    )
    write_mat(
        root / "joint_positions" / plan.action / name / "joint_positions.mat",
        {
            **_jhmdb_positions(joints, person.scale, scene, plan.action),
            # Not in the real files: which joints something covers.
            "hidden": hidden[: len(joints)].T.astype(np.uint8),
        },
    )
    return JHMDBClip(plan.action, name, plan.is_test, bool(person.inside.all()))


def _write_jhmdb_frames(
    root: Path, action: str, name: str, frames: np.ndarray, frames_as: str
) -> None:
    if frames_as == "avi":
        write_video(root / "ReCompress_Videos" / action / f"{name}.avi", frames)
        return
    for n, picture in enumerate(frames):
        write_image(root / "Rename_Images" / action / name / f"{n + 1:05d}.png", picture)


def _jhmdb_positions(joints: np.ndarray, scale: np.ndarray, scene: Scene, action: str) -> dict:
    """Fields of joint_positions.mat from continuous joints (N, K, 2); it counts pixels from 1."""
    height, width = scene.frames.shape[1:3]
    pixels = (joints + 0.5).transpose(2, 1, 0)
    # A puppet of scale 1 is taken to be 200 px high.
    scale = scale[: len(joints)] / 200
    centred = pixels / np.array([width, height])[:, None, None] - 0.5
    aspect = np.array([width / height, 1.0])[:, None, None]
    return {
        "pos_img": pixels,
        "pos_world": centred * aspect / scale,
        "scale": scale[None],
        "viewpoint": "S",
        "action": action,
    }


def write_jhmdb_splits(root: Path, clips: list[JHMDBClip]) -> None:
    """Split 1 is the one that was planned; 2 and 3 rotate each action's clips through the test
    part.

    ``sub_splits`` lists only clips whose joints are all inside the frame.
    """
    by_action = defaultdict(list)
    for clip in sorted(clips, key=lambda c: c.name):
        by_action[clip.action].append(clip)
    for action, members in sorted(by_action.items()):
        flags = [clip.is_test for clip in members]
        for split in _SPLITS:
            rotated = flags[split - 1 :] + flags[: split - 1]
            lines = [f"{c.name}.avi {2 if test else 1}\n" for c, test in zip(members, rotated)]
            whole = [line for line, clip in zip(lines, members) if clip.whole]
            for folder, content in (("splits", lines), ("sub_splits", whole)):
                path = root / folder / f"{action}_test_split{split}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(content))


# Synthetic videos in the files of Penn Action, with the surprises of the real ones.
#
# ``frames/NNNN/FFFFFF.jpg`` from 000001 and ``labels/NNNN.mat``. Index 1 of each pair of joints is
# the person's **right**, as the real data have it (and the official README does not).


PENN_JOINTS = (
    "head right_shoulder left_shoulder right_elbow left_elbow right_wrist left_wrist "
    "right_hip left_hip right_knee left_knee right_ankle left_ankle"
).split()


def write_penn_video(root: Path, plan: VideoPlan) -> None:
    """Render a video and write its frames and its label file."""
    framing = "cut" if plan.index % 9 == 4 else "whole"
    scene = render_scene(plan.seed, framing=framing, **plan.scene_arguments())
    name = f"{plan.index + 1:04d}"
    for n, picture in enumerate(scene.frames):
        write_image(root / "frames" / name / f"{n + 1:06d}.jpg", picture)
    write_mat(root / "labels" / f"{name}.mat", _penn_labels(plan, *scene.people))


def finish_penn(root: Path, results: list[None]) -> None:
    """Penn Action has no file about all videos: nothing is left to write."""


def _penn_labels(plan: VideoPlan, person: PersonTrack) -> dict:
    order = [JOINTS.index(name) for name in PENN_JOINTS]
    # 1-based pixels.
    x, y = np.moveaxis(person.joints[:, order] + 0.5, -1, 0)
    visible = person.visible[:, order].astype(np.uint8)
    boxes = person.boxes + 0.5
    if plan.index % 8 == 3:
        # Unannotated joints stand at (1, 1): here one that the frame cuts off or something hides.
        hidden = (visible == 0) & ~person.inside[:, order]
        x, y = np.where(hidden, 1.0, x), np.where(hidden, 1.0, y)
    if plan.index % 5 == 2:
        x, y = _as_integers(x), _as_integers(y)
    if plan.index % 10 == 9:
        # And some have a box without area.
        boxes[len(boxes) // 2, 2:] = boxes[len(boxes) // 2, :2]
    if plan.index % 10 == 6:
        # Some real files lack the last frame's box.
        boxes = boxes[:-1]
    width, height = plan.size
    count = len(person.joints)
    return {
        "action": plan.action,
        "pose": "other",
        "x": x,
        "y": y,
        "visibility": visible,
        "train": np.int32(-1 if plan.is_test else 1),
        "bbox": boxes,
        "dimensions": np.array([[height, width, count]], dtype=np.uint16),
        # As in the real files: a counter that overflows when one calculates with it.
        "nframes": np.uint8(count) if count < 256 else np.uint16(count),
    }


def _as_integers(values: np.ndarray) -> np.ndarray:
    """Rounded, in the smallest unsigned type that holds them, as some real files are stored."""
    rounded = np.maximum(np.round(values), 0)
    return rounded.astype(np.uint8 if rounded.max() < 256 else np.uint16)


# Synthetic signers in the files of BBC Pose, with the surprises of the real ones.
#
# ``bbcpose.mat`` (a struct array, one entry per video) and directories ``1``, ``2``, ... of
# ``N.jpg``, N the frame number, with gaps. The person is seen from the waist up.


BBC_JOINTS = (
    "head right_wrist left_wrist right_elbow left_elbow right_shoulder left_shoulder".split()
)
_BBC_FIELDS = (
    "videoName",
    "type",
    "source",
    "train_frames",
    "train_joints",
    "test_frames",
    "test_joints",
)


@dataclass(frozen=True)
class BBCEntry:
    """One entry of ``bbcpose.mat``: annotated frame numbers (M,) and 1-based joints (2, 7, M)."""

    name: str
    part: str
    frames: np.ndarray
    joints: np.ndarray


def write_bbc_video(root: Path, plan: VideoPlan) -> BBCEntry:
    """Render a video, write its frames, return its entry."""
    arguments = {**plan.scene_arguments(), "action": None}
    scene = render_scene(plan.seed, framing="bust", **arguments)
    rng = np.random.default_rng((*plan.seed, 1))
    # Frame numbers start anywhere and have gaps.
    numbers = rng.integers(1, 500) + np.cumsum(rng.choice([1, 1, 1, 1, 1, 1, 1, 3], plan.frames))
    name = str(plan.index + 1)
    for number, picture in zip(numbers, scene.frames):
        write_image(root / name / f"{number}.jpg", picture)
    annotated = np.ones(plan.frames, bool)
    if plan.part != "train":
        # The manual labels cover a part of a validation or test video only.
        annotated = np.arange(plan.frames) % 3 == 2
    elif plan.index % 4 == 1:
        annotated = rng.uniform(size=plan.frames) < 0.7
    annotated |= ~annotated.any()
    order = [JOINTS.index(joint) for joint in BBC_JOINTS]
    (person,) = scene.people
    joints = person.joints[annotated][:, order] + 0.5
    return BBCEntry(name, plan.part, numbers[annotated], joints.transpose(2, 1, 0))


def finish_bbc(root: Path, entries: list[BBCEntry]) -> None:
    """Write ``bbcpose.mat``."""
    table = np.empty((1, len(entries)), dtype=[(field, object) for field in _BBC_FIELDS])
    none = (np.zeros((1, 0)), np.zeros((2, len(BBC_JOINTS), 0)))
    for i, entry in enumerate(entries):
        labels = (entry.frames[None].astype(np.float64), entry.joints)
        train, test = (labels, none) if entry.part == "train" else (none, labels)
        table[0, i] = (entry.name, entry.part, "synthetic", *train, *test)
    write_mat(root / "bbcpose.mat", {"bbcpose": table})


# Synthetic videos of several people who cross, with COCO-style keypoints and track ids.
#
# ``videos/NNNN.mp4`` and ``annotations/{train,test}.json``, which ``register_video_keypoints``
# reads with the dataset's root as image root. An annotation exists for every frame on which some of
# the person is inside.


_LINKS = (
    ("head", "neck"), ("neck", "right_shoulder"), ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"), ("neck", "left_shoulder"), ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_wrist"), ("neck", "belly"), ("belly", "right_hip"), ("right_hip",
    "right_knee"), ("right_knee", "right_ankle"), ("belly", "left_hip"), ("left_hip", "left_knee"),
    ("left_knee", "left_ankle"),
)  # fmt: skip


@dataclass(frozen=True)
class CocoVideo:
    """The part of the JSON that one video fills; ids are unique within the dataset."""

    part: str
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]


def write_coco_video(root: Path, plan: VideoPlan, people: int = 3) -> CocoVideo:
    """Render a video of several people, write it, return its records."""
    arguments = {**plan.scene_arguments(), "action": None}
    scene = render_scene(plan.seed, people=people, **arguments)
    name = f"videos/{plan.index + 1:04d}.mp4"
    write_video(root / name, scene.frames)
    width, height = plan.size
    images, annotations = [], []
    for n in range(plan.frames):
        image_id = (plan.index + 1) * 100_000 + n
        images.append(
            {
                "id": image_id, "video_file": name, "video_id": plan.index + 1, "frame_id": n,
                "frame_index": n, "height": height, "width": width,
            }
        )  # fmt: skip
        for track, person in enumerate(scene.people):
            if person.masks[n].any():
                annotation = {"id": image_id * 100 + track, "image_id": image_id, "track_id": track}
                annotations.append({**annotation, **_coco_person(person, n)})
    return CocoVideo(plan.part, images, annotations)


def _coco_person(person: PersonTrack, n: int) -> dict[str, Any]:
    """Keypoints, box, mask and area of a person at frame n, as COCO counts them."""
    # 2 visible, 1 hidden, 0 outside the frame; COCO's points are pixel indices.
    flags = np.where(person.visible[n], 2, 1) * person.inside[n]
    points = np.column_stack([person.joints[n] - 0.5, flags]) * (flags > 0)[:, None]
    rle = mask_tools.encode(np.asfortranarray(person.masks[n].astype(np.uint8)))
    # Our box goes through the centres of the extreme pixels, COCO's along their outer edges.
    x1, y1, x2, y2 = (float(v) for v in person.boxes[n])
    return {
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": [round(float(v), 3) for v in points.ravel()],
        "num_keypoints": int((flags > 0).sum()),
        "bbox": [x1 - 0.5, y1 - 0.5, x2 - x1 + 1, y2 - y1 + 1],
        "area": int(person.masks[n].sum()),
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
    }


def finish_coco(root: Path, videos: list[CocoVideo]) -> None:
    """Write one JSON per part."""
    parts = defaultdict(list)
    for video in videos:
        parts[video.part].append(video)
    links = [[JOINTS.index(a) + 1, JOINTS.index(b) + 1] for a, b in _LINKS]
    person = {"id": 1, "name": "person", "keypoints": list(JOINTS), "skeleton": links}
    for part, members in parts.items():
        content = {
            "images": [image for video in members for image in video.images],
            "annotations": [a for video in members for a in video.annotations],
            "categories": [person],
        }
        path = root / "annotations" / f"{part}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, sort_keys=True))
