"""What the formats of text write, to the letter: programs of others read these files.

``golden/`` holds the files. Where a change of one is wanted, VIDEO_POSE_GOLDEN=1 writes them anew;
the difference is to be read before it is committed.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from video_pose.inference.frames import PoseFrame
from video_pose.inference.writers import Recording, open_writers, result_paths
from video_pose.inference.writers.tables import stored_frame

GOLDEN = Path(__file__).parent / "golden"
JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
    "right_knee", "left_ankle", "right_ankle", "neck",
)  # fmt: skip
# A person of 100 px who stands and faces the camera, at (0, 0).
X = [20, 22, 18, 25, 15, 32, 8, 37, 3, 40, 0, 27, 13, 28, 12, 28, 12, 20]
Y = [10, 8, 8, 9, 9, 22, 22, 37, 37, 50, 52, 55, 55, 77, 76, 98, 99, 21]
LINES = ((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16), (17, 0))


def _pose(x: float, y: float, size: float) -> np.ndarray:
    """(K, 3): in a body of ``size`` hundreds of px; every joint with a score of its own."""
    scores = 0.95 - 0.03 * np.arange(len(JOINTS))
    return np.stack([x + size * np.array(X), y + size * np.array(Y), scores], axis=1)


def _frames() -> list[PoseFrame]:
    """Somebody alone, two people, nobody, and the second alone, without a wrist and a score."""
    second = _pose(150.25, 21.5, 0.9)
    broken = second + [1.5, 0.25, 0]
    broken[9] = np.nan
    broken[12, 2] = np.nan
    content = [{3: _pose(10, 20, 1)}, {3: _pose(11.125, 20, 1), 5: second}, {}, {5: broken}]
    frames = []
    for i, people in enumerate(content):
        poses = np.array(list(people.values())).reshape(-1, len(JOINTS), 3)
        frame = stored_frame(
            i, i * 0.04, "clip", JOINTS, poses, scores=np.linspace(0.9, 0.8, len(people)),
            track_ids=np.array(list(people), np.int64), size=(240, 320),
        )  # fmt: skip
        frames.append(replace(frame, probabilities=poses[..., 2] / 2))
    return frames


CASES = {
    "jsonl": {},
    "csv": {"probabilities": True},
    "csv wide": {"table": "wide", "angles": True},
    "coco": {},
    "coco_dataset": {},
    "posetrack": {},
    "openpose": {},
    "openpose18": {},
    "trc": {},
    "dlc": {},
}


@pytest.mark.parametrize("case", CASES)
def test_files(case: str, tmp_path: Path) -> None:
    kind = case.split()[0]
    if kind == "dlc":
        pytest.importorskip("pandas")
    recording = Recording("clip", JOINTS, 25.0, connections=LINES, **CASES[case])  # type: ignore[arg-type]
    (writer,) = open_writers([kind], tmp_path, recording)
    for frame in _frames():
        writer.write(frame)
    writer.close()
    path = result_paths([kind], tmp_path, "clip")[kind]
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    text = "".join(f"== {file.relative_to(tmp_path)}\n{file.read_text()}\n" for file in files)
    golden = GOLDEN / f"{case.replace(' ', '_')}.txt"
    if os.environ.get("VIDEO_POSE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()
