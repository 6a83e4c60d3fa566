"""OpenPose's JSON: a folder with one file a frame, joints in OpenPose's order.

BODY_25 or COCO (18 joints). Joints are matched by name; OpenPose's neck and mid-hip are the middles
of shoulders and hips, and are computed where the model has no such joint. What the model lacks is
0, 0, 0, as OpenPose writes what it did not find. Coordinates are pixel indices, ours minus .5.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np

from video_pose.data.datasets.tracks import note
from video_pose.data.json_fields import Field, load_json
from video_pose.inference.frames import PoseFrame
from video_pose.inference.writers.tables import NOBODY, Recording, number_untracked, stored_frame
from video_pose.skeleton import OPENPOSE_18, OPENPOSE_25, JointMap, match_joints

_VERSION = 1.3
_JOINTS = {25: OPENPOSE_25.names, 18: OPENPOSE_18.names}


class OpenPoseWriter:
    """``<path>/<video>_000000000000_keypoints.json`` and so on, one for every frame."""

    def __init__(self, path: str | Path, recording: Recording, joints: int = 25) -> None:
        """``joints``: 25 (BODY_25) or 18 (COCO)."""
        self._folder, self._recording = Path(path), recording
        self._map = _openpose_map(recording.joint_names, joints)
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.glob("*_keypoints.json"):
            old.unlink()

    def write(self, frame: PoseFrame) -> None:
        people = []
        for i, track in enumerate(frame.track_ids.tolist()):
            pose = np.asarray(frame.keypoints[i], np.float64)
            # A joint without coordinates has no score: then those derived from it have none.
            pose = np.where(np.isfinite(pose).all(axis=1, keepdims=True), pose, 0.0)
            pose = self._map.apply(pose)
            pose[pose[:, 2] > 0, :2] -= 0.5
            flat = [round(value, 4) for value in pose.ravel().tolist()]
            number = NOBODY if track in frame.untracked else track
            people.append({"person_id": [number], "pose_keypoints_2d": flat})
        name = f"{self._recording.name}_{frame.index:012d}_keypoints.json"
        content = {"version": _VERSION, "people": people}
        (self._folder / name).write_text(json.dumps(content, allow_nan=False), encoding="utf-8")

    def close(self) -> None:
        """Nothing is left to do."""


def _openpose_map(names: tuple[str, ...], joints: int) -> JointMap:
    return match_joints(names, _JOINTS[joints], _JOINT_FORMULAS, partial=True)


_JOINT_FORMULAS = OPENPOSE_25.equivalents


def read_openpose(path: str | Path, joints: int = 25) -> list[PoseFrame]:
    """The frames of a folder of OpenPose's files, by the number in each name; what stands before it
    is the video's name, of which a folder may have several.

    All frames have the joints of the first file with people, also those without anybody. Who is
    not tracked gets a number as `number_untracked` says. Hands, faces and 3D points are not read,
    which is noted.

    Args:
        joints: 25 or 18, where no file has people.

    Raises:
        ValueError: no such file, one that is none of OpenPose's, or one whose people have other
            joints than those of the files before; names it.
    """
    videos = {
        video: {index: (file, *_read_people(file)) for index, file in sorted(files.items())}
        for video, files in sorted(_files_of_videos(Path(path)).items())
    }
    every = (file for files in videos.values() for file in files.values())
    counts = [(file, len(poses[0])) for file, poses, _ in every if poses]
    names = tuple(_JOINTS[counts[0][1] if counts else joints])
    for file, count in counts:
        if count != len(names):
            raise ValueError(
                f"{file}: people with {count} joints: expected {len(names)}, as in the files before"
            )
    frames = []
    for video, files in videos.items():
        tracks = number_untracked([numbers for _, _, numbers in files.values()])
        frames += [
            _to_frame(index, video, names, poses, *numbers)
            for (index, (_, poses, _)), numbers in zip(files.items(), tracks, strict=True)
        ]
    return frames


def _files_of_videos(folder: Path) -> dict[str, dict[int, Path]]:
    """By video and frame's number; raises as `read_openpose`."""
    videos: dict[str, dict[int, Path]] = {}
    for file in sorted(folder.glob("*_keypoints.json")):
        number = re.fullmatch(r"(.*?)_?(\d+)_keypoints", file.stem)
        if number is None:
            note("files *_keypoints.json without a number: not read")
            continue
        other = videos.setdefault(number[1] or folder.name, {}).setdefault(int(number[2]), file)
        if other is not file:
            raise ValueError(f"{file}: the number of a frame that {other.name} is already")
    if not videos:
        raise ValueError(f"{folder}: no file *_keypoints.json of OpenPose")
    return videos


def _read_people(file: Path) -> tuple[list[np.ndarray], list[int | None]]:
    """Poses (K, 3), all of one K, as they stand in a file; and track numbers, None for none."""
    poses, tracks = [], []
    for person in load_json(str(file)).need("people").items():
        given = person.need("pose_keypoints_2d")
        values = given.numbers()
        if len(values) % 3:
            raise given.error("x, y and score of each joint")
        poses.append(values.reshape(-1, 3))
        tracks.append(_track_of(person))
        for key in person.unread():
            if person.value[key] != []:
                note(f"people's {key}: not read")
    counts = {len(pose) for pose in poses}
    if not counts <= set(_JOINTS) or len(counts) > 1:
        raise ValueError(f"{file}: people with {sorted(counts)} joints: expected 25 or 18")
    return poses, tracks


def _track_of(person: Field) -> int | None:
    given = person.get("person_id")
    if given is None:
        return None
    numbers = list(given.items()) if isinstance(given.value, list) else [given]
    if not numbers:
        raise given.error("a list of a number")
    track = numbers[0].integer()
    # OpenPose writes -1 for people whom it does not track.
    return track if track >= 0 else None


def _to_frame(
    index: int,
    video: str,
    names: tuple[str, ...],
    poses: list[np.ndarray],
    tracks: np.ndarray,
    untracked: frozenset[int],
) -> PoseFrame:
    for pose in poses:
        pose[:, :2] += 0.5
        pose[~(pose[:, 2] > 0) | ~np.isfinite(pose).all(axis=1)] = np.nan
    return stored_frame(
        index, math.nan, video, names, np.array(poses).reshape(-1, len(names), 3),
        track_ids=tracks, untracked=untracked,
    )  # fmt: skip
