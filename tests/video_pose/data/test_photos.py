"""LSPET: stills as videos of one frame, boxes from joints."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from video_pose.data.datasets.photos import load_lspet


def _write(root: Path, joints: np.ndarray, sizes: list[tuple[int, int]]) -> None:
    (root / "images").mkdir(parents=True)
    savemat(root / "joints.mat", {"joints": joints})
    for n, (width, height) in enumerate(sizes, start=1):
        Image.new("RGB", (width, height)).save(root / "images" / f"im{n:05d}.jpg")


def _joints(count: int) -> np.ndarray:
    """All at 1-based (11, 21), visible, but joint 0 at (31, 61)."""
    joints = np.ones((14, 3, count))
    joints[:, 0], joints[:, 1] = 11, 21
    joints[0, 0], joints[0, 1] = 31, 61
    return joints


def test_values_by_hand(tmp_path: Path) -> None:
    joints = _joints(2)
    joints[1, :, 0] = (500, -40, 0)  # not annotated: must not widen the box
    joints[2, :, 1] = (-4, 21, 1)  # outside the image, annotated
    _write(tmp_path, joints, [(64, 48), (40, 90)])
    first, second = load_lspet(str(tmp_path))
    assert (first["video_id"], second["video_id"]) == ("im00001", "im00002")
    assert first["file_names"] == [str(tmp_path / "images" / "im00001.jpg")]
    assert (first["height"], first["width"]) == (48, 64)
    assert (second["height"], second["width"]) == (90, 40)
    assert first["keypoints"].shape == (1, 14, 3)
    assert first["keypoints"][0, :3].tolist() == [[30.5, 60.5, 2], [0, 0, 0], [10.5, 20.5, 2]]
    # Extent 10.5..30.5 x 20.5..60.5 about (20.5, 40.5), half sides 10 and 20 x 1.25.
    assert first["boxes"].tolist() == [[8, 15.5, 33, 65.5]]
    assert second["keypoints"][0, 2].tolist() == [-4.5, 20.5, 2]
    assert first["image_ids"].tolist() != second["image_ids"].tolist()


def test_a_still_without_joints_is_unlabelled(tmp_path: Path) -> None:
    joints = _joints(2)
    joints[:, 2, 1] = 0
    _write(tmp_path, joints, [(64, 48)] * 2)
    tracks = load_lspet(str(tmp_path))
    assert [t["labelled"].tolist() for t in tracks] == [[True], [False]]
    assert not tracks[1]["boxes"].any() and not tracks[1]["keypoints"].any()


def test_one_image_whose_last_axis_matlab_dropped(tmp_path: Path) -> None:
    _write(tmp_path, _joints(1)[..., 0], [(64, 48)])
    assert len(load_lspet(str(tmp_path))) == 1


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="DETECTRON2_DATASETS"):
        load_lspet(str(tmp_path / "lspet"))
    _write(tmp_path / "a", _joints(3), [(64, 48)] * 2)
    with pytest.raises(FileNotFoundError, match="im00003.jpg"):
        load_lspet(str(tmp_path / "a"))
    _write(tmp_path / "b", _joints(2).transpose(1, 0, 2), [(64, 48)] * 2)
    with pytest.raises(ValueError, match=r"joints.mat.*\(14, 3, any\).*\(3, 14, 2\)"):
        load_lspet(str(tmp_path / "b"))
    _write(tmp_path / "c", _joints(1) * [[1], [1], [0]], [(64, 48)])
    with pytest.raises(ValueError, match="no usable frame"):
        load_lspet(str(tmp_path / "c"))
    _write(tmp_path / "d", _joints(1), [(64, 48)])
    (tmp_path / "d" / "images" / "im00001.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="im00001.jpg"):
        load_lspet(str(tmp_path / "d"))


def test_the_real_images() -> None:
    root = os.environ.get("DETECTRON2_DATASETS")
    if not root or not os.path.isdir(os.path.join(root, "lspet")):
        pytest.skip("no lspet/ under DETECTRON2_DATASETS")
    tracks = load_lspet(os.path.join(root, "lspet"))
    assert all(t["labelled"].all() for t in tracks)
    heads = np.stack([t["keypoints"][0, 13] for t in tracks])
    ankles = np.stack([t["keypoints"][0, 0] for t in tracks])
    both = (heads[:, 2] > 0) & (ankles[:, 2] > 0)
    # Most people stand: the head is above the ankle.
    assert (heads[both, 1] < ankles[both, 1]).mean() > 0.6
