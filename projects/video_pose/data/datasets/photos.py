"""Datasets of photos, each a video of one frame: LSP, LSPET and MPII.

There are no boxes: a person's box is the extent of the labelled joints x 1.25. Joints may lie
outside the image; they are kept. N images, M people.

Sources: Johnson & Everingham (LSP, BMVC 2010; LSPET, CVPR 2011), Andriluka et al. (MPII, CVPR
2014). The split of MPII's training people into train.json and valid.json, and their form, are those
of Tompson et al. (CVPR 2015) as HRNet's release has them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from video_pose.data.datasets.tracks import (
    joint_boxes,
    make_image_ids,
    make_keypoints,
    make_track,
    missing,
    note,
    noted,
    require_labelled,
    require_path,
)
from video_pose.data.json_fields import Field, load_json
from video_pose.data.mat_file import load_mat, require_array, require_field, require_structs
from video_pose.data.records import Track
from video_pose.skeleton import LSPET, MPII
from video_pose.video_io.pictures import picture_size

LSPET_TREE = """lspet/
  images/im00001.jpg ... im10000.jpg
  joints.mat                                 joints (14, 3, N): x, y (1-based), visibility"""
LSP_TREE = """lsp/
  images/im0001.jpg ... im2000.jpg
  joints.mat                                 joints (3, 14, N): x, y (1-based), 1 where hidden"""
MPII_TREE = """mpii/
  images/000001163.jpg ...
  annot/train.json, annot/valid.json         (HRNet's form)
  mpii_human_pose_v1_u12_1.mat               (the release; needed where the JSON files lack, and for
                                             the heads' sizes that PCKh is measured by)"""
# Head lengths of PCKh are this share of the head rectangle's diagonal (MPII's evaluation code).
HEAD_SHARE = 0.6
# The first thousand images of LSP train, the rest test.
_LSP_TRAIN = 1000


def load_lspet(root: str) -> list[Track]:
    """Track dicts of all images, in the order of ``joints.mat``; image n is ``im{n:05d}.jpg``.

    Raises:
        FileNotFoundError: the folder, ``joints.mat`` or an image is missing.
        ValueError: ``joints.mat`` is not as described, or no image has a labelled joint.
    """
    require_path(root, LSPET_TREE)
    path = require_path(os.path.join(root, "joints.mat"), LSPET_TREE)
    joints = require_array(load_mat(path), "joints", (len(LSPET.names), 3, None), path)
    joints = joints.transpose(2, 0, 1)
    files = [f"im{n + 1:05d}" for n in range(len(joints))]
    # Stored visibility 1 -> 2, 0 -> 0.
    visibility = np.where(joints[..., 2] > 0, 2, 0)
    with noted("LSPET"):
        note("joints of NaN visibility: not labelled", np.isnan(joints[..., 2]).sum())
        return _leeds(root, files, joints[..., :2], visibility, path, LSPET_TREE)


def load_lsp(root: str, subset: str) -> list[Track]:
    """Track dicts of the first 1,000 images ("train") or the rest ("test").

    Assumed, since LSP's README does not say it: the third row of ``joints`` is 1 where a joint is
    hidden, as all readers of it that were found take it; the hidden joint is placed all the same.

    Raises: as `load_lspet`.
    """
    require_path(root, LSP_TREE)
    path = require_path(os.path.join(root, "joints.mat"), LSP_TREE)
    joints = require_array(load_mat(path), "joints", (3, len(LSPET.names), None), path)
    joints = joints.transpose(2, 1, 0)
    chosen = np.arange(len(joints)) < _LSP_TRAIN
    numbers = np.flatnonzero(chosen if subset == "train" else ~chosen)
    files = [f"im{n + 1:04d}" for n in numbers]
    visibility = np.where(joints[numbers, :, 2] > 0, 1, 2)
    with noted(f"LSP ({subset})"):
        return _leeds(root, files, joints[numbers, :, :2], visibility, path, LSP_TREE)


def _leeds(
    root: str, names: list[str], points: np.ndarray, visibility: np.ndarray, source: str, tree: str
) -> list[Track]:
    folder = require_path(os.path.join(root, "images"), tree)
    # 1-based MATLAB pixels -> continuous ones: m - 0.5.
    keypoints = make_keypoints(points - 0.5, visibility)
    tracks = [
        _photo(os.path.join(folder, f"{name}.jpg"), name, "0", keypoints[n : n + 1], n, tree)
        for n, name in enumerate(names)
    ]
    return require_labelled(tracks, source)


def _photo(
    file_name: str,
    video_id: str,
    track_id: str,
    keypoints: np.ndarray,
    number: int,
    tree: str,
    **extra: Any,
) -> Track:
    try:
        size = picture_size(file_name)
    except FileNotFoundError:
        raise missing(file_name, tree) from None
    return make_track(
        video_id=video_id,
        track_id=track_id,
        source={"file_names": [file_name]},
        size=size,
        keypoints=keypoints,
        boxes=joint_boxes(keypoints),
        image_ids=make_image_ids(number, 1),
        **extra,
    )


# ---- MPII


def load_mpii(root: str, subset: str) -> list[Track]:
    """Track dicts of people: of ``annot/<subset>.json``, else of the release's training images.

    Args:
        root: the folder of `MPII_TREE`.
        subset: "train" or "valid", people of the release's training images in two parts; or
            "trainval": all people of those images, from the release's file.

    Returns:
        A track per person; ``head_sizes`` where the release's file is there.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not as described, or nobody is labelled.
    """
    require_path(root, MPII_TREE)
    release = os.path.join(root, "mpii_human_pose_v1_u12_1.mat")
    json_file = os.path.join(root, "annot", f"{subset}.json")
    with noted(f"MPII ({subset})"):
        if subset != "trainval" and os.path.isfile(json_file):
            heads = _heads_by_joints(release) if os.path.isfile(release) else {}
            tracks = _people_of_json(root, load_json(json_file), heads)
            return require_labelled(tracks, json_file)
        if subset != "trainval":
            raise missing(json_file, MPII_TREE)
        people = read_release(require_path(release, MPII_TREE))
        return require_labelled(_people_of_release(root, people), release)


def _people_of_json(root: str, content: Field, heads: dict[Any, float]) -> list[Track]:
    tracks: list[Track] = []
    counts: dict[str, int] = {}
    numbers: dict[str, int] = {}
    joints = len(MPII.names)
    for item in content.items():
        name = item.need("image").text()
        number = numbers.setdefault(name, len(numbers))
        points = np.stack([p.numbers(2, " (x, y)") for p in item.need("joints").items()] or [[]])
        visible = item.need("joints_vis").numbers(joints)
        if points.shape != (joints, 2):
            raise item.need("joints").error(f"{joints} points (x, y)")
        counts[name] = counts.get(name, -1) + 1
        # A joint that nobody placed is at (-1, -1).
        labelled = (visible > 0) & (points > 0).any(axis=1)
        keypoints = make_keypoints(points[None] - 0.5, np.where(labelled, 2, 0)[None])
        # Of a person whom the release's file does not know the length is not known.
        head = np.array([heads.get(_place(name, points[labelled]), np.nan)], np.float32)
        tracks.append(
            _photo(
                os.path.join(root, "images", name),
                os.path.splitext(name)[0],
                str(counts[name]),
                keypoints,
                number,
                MPII_TREE,
                head_sizes=head if heads else None,
            )
        )
    if heads:
        note(
            "people without a head's size: not in PCKh",
            sum(bool(np.isnan(t["head_sizes"]).any()) for t in tracks),
        )
    return tracks


def _place(name: str, points: np.ndarray) -> tuple[str, tuple[int, ...]]:
    """What tells a person of an image in both files: the joints' places in whole px, sorted."""
    return name, tuple(sorted(np.round(points).astype(int).ravel().tolist()))


def _heads_by_joints(release: str) -> dict[Any, float]:
    return {_place(name, points[v > 0]): head for name, points, v, head in read_release(release)}


def read_release(path: str) -> list[tuple[str, np.ndarray, np.ndarray, float]]:
    """(image, points (16, 2), v (16,), head's length) of everybody with joints in the training
    images of ``mpii_human_pose_v1_u12_1.mat``; points are as stored.

    Raises:
        ValueError: a field is missing or is no such thing.
    """
    release = require_structs(load_mat(path), "RELEASE", path)[0]
    images = require_structs(release, "annolist", f"{path}: RELEASE")
    training = require_field(release, "img_train", f"{path}: RELEASE")
    flags = np.ravel(training).astype(bool)
    if len(flags) != len(images):
        raise ValueError(
            f"{path}: RELEASE.img_train has {len(flags)} values for {len(images)} images"
        )
    people = []
    for number in np.flatnonzero(flags).tolist():
        where = f"{path}: annolist({number + 1})"
        image = require_structs(images[number], "image", where)[0]
        name = str(require_field(image, "name", where))
        for person in _structs(images[number].get("annorect")):
            if _structs(person.get("annopoints")):
                people.append((name, *_read_person(person, where)))
    return people


def _structs(value: Any) -> list[dict[str, Any]]:
    """A struct or struct array as a list; nothing (an empty array) as an empty one."""
    if isinstance(value, dict):
        return [value]
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _read_person(person: dict[str, Any], where: str) -> tuple[np.ndarray, np.ndarray, float]:
    points, visibility = np.zeros((len(MPII.names), 2)), np.zeros(len(MPII.names))
    for point in _structs(_structs(person["annopoints"])[0].get("point")):
        joint = int(_number(point, "id", where))
        if not 0 <= joint < len(MPII.names):
            raise ValueError(f"{where}: point id {joint}: expected 0 to {len(MPII.names) - 1}")
        points[joint] = _number(point, "x", where), _number(point, "y", where)
        # Nothing is stored where it was not judged, as for the torso's joints.
        seen = {str(value) for value in np.ravel(point.get("is_visible", 1))}
        visibility[joint] = 2 if seen <= {"1", "1.0", ""} else 1
    corners = [_number(person, key, where) for key in ("x1", "y1", "x2", "y2")]
    head = HEAD_SHARE * float(np.hypot(corners[2] - corners[0], corners[3] - corners[1]))
    return points, visibility, head


def _number(struct: dict[str, Any], key: str, where: str) -> float:
    value = np.ravel(require_field(struct, key, where))
    if value.size != 1 or value.dtype.kind not in "buif":
        raise ValueError(f"{where}: field {key!r}: expected one number, got {struct[key]!r}")
    return float(value[0])


def _people_of_release(
    root: str, people: Sequence[tuple[str, np.ndarray, np.ndarray, float]]
) -> list[Track]:
    numbers: dict[str, int] = {}
    counts: dict[str, int] = {}
    tracks = []
    for name, points, visibility, head in people:
        counts[name] = counts.get(name, -1) + 1
        tracks.append(
            _photo(
                os.path.join(root, "images", name),
                os.path.splitext(name)[0],
                str(counts[name]),
                make_keypoints(points[None] - 0.5, visibility[None]),
                numbers.setdefault(name, len(numbers)),
                MPII_TREE,
                head_sizes=np.array([head], np.float32),
            )
        )
    return tracks
