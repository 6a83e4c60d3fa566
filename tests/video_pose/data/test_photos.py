"""LSPET, LSP and MPII: stills as videos of one frame, boxes from joints."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from video_pose.data.datasets.photos import load_lsp, load_lspet, load_mpii, read_release


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


def test_joints_of_nan_are_no_labels_and_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    joints = _joints(1)
    joints[0, 2], joints[1, 0] = np.nan, np.nan
    joints[2, 0] = 1e9
    _write(tmp_path, joints, [(64, 48)])
    (track,) = load_lspet(str(tmp_path))
    assert not track["keypoints"][0, :3].any() and track["keypoints"][0, 3, 2] == 2
    assert np.abs(track["boxes"]).max() < 640
    assert "1 joints of NaN visibility" in caplog.text and "1 joints more than 10" in caplog.text


# ---- LSP


def test_lsp_has_its_axes_and_its_third_row_the_other_way_round(tmp_path: Path) -> None:
    joints = np.zeros((3, 14, 1002))
    joints[0], joints[1] = 11, 21
    joints[2, 3] = 1  # hidden
    (tmp_path / "images").mkdir()
    savemat(tmp_path / "joints.mat", {"joints": joints})
    for n in (1001, 1002):
        Image.new("RGB", (64, 48)).save(tmp_path / "images" / f"im{n:04d}.jpg")
    tracks = load_lsp(str(tmp_path), "test")
    assert [track["video_id"] for track in tracks] == ["im1001", "im1002"]
    assert tracks[0]["keypoints"][0, 2:4].tolist() == [[10.5, 20.5, 2], [10.5, 20.5, 1]]
    with pytest.raises(FileNotFoundError, match="im0001.jpg"):
        load_lsp(str(tmp_path), "train")


# ---- MPII


def _point(joint: int, x: float, y: float, visible: Any = 1) -> dict[str, Any]:
    return {"id": float(joint), "x": float(x), "y": float(y), "is_visible": visible}


def _release(root: Path, **changes: Any) -> None:
    """Three images: two people; a test image; a training image without anybody."""
    person = {
        "x1": 10.0, "y1": 10.0, "x2": 40.0, "y2": 50.0, "scale": 2.0,
        "annopoints": {"point": [_point(0, 11, 21), _point(7, 31, 61, ""), _point(9, 5, 6, 0)]},
        **changes,
    }  # fmt: skip
    other = {**person, "annopoints": {"point": [_point(0, 12, 22), _point(9, 3, 4)]}}
    images = [
        {"image": {"name": "a.jpg"}, "annorect": _struct_array([person, other])},
        {"image": {"name": "b.jpg"}, "annorect": _struct_array([person])},
        {"image": {"name": "c.jpg"}, "annorect": np.zeros((0, 0))},
    ]
    release = {"annolist": _struct_array(images), "img_train": np.array([[1, 0, 1]])}
    savemat(root / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": release})
    (root / "images").mkdir(exist_ok=True)
    for name in ("a", "b", "c"):
        Image.new("RGB", (64, 48)).save(root / "images" / f"{name}.jpg")


def _struct_array(items: list[dict[str, Any]]) -> np.ndarray:
    array = np.empty((1, len(items)), dtype=[(key, "O") for key in items[0]])
    for i, item in enumerate(items):
        for key, value in item.items():
            is_structs = isinstance(value, list)
            array[key][0, i] = _struct_array(value) if is_structs else value
    return array


def test_mpii_from_the_release_by_hand(tmp_path: Path) -> None:
    _release(tmp_path)
    first, second = load_mpii(str(tmp_path), "trainval")
    assert (first["video_id"], first["track_id"], second["track_id"]) == ("a", "0", "1")
    assert first["image_ids"].tolist() == second["image_ids"].tolist()
    joints = first["keypoints"][0]
    # Visible; not judged; hidden; not placed.
    assert joints[[0, 7, 9, 1]].tolist() == [
        [10.5, 20.5, 2], [30.5, 60.5, 2], [4.5, 5.5, 1], [0, 0, 0],
    ]  # fmt: skip
    # .6 of the diagonal of 30 x 40.
    assert first["head_sizes"].tolist() == [30]


def test_mpii_of_hrnets_form_finds_the_heads_in_the_release(tmp_path: Path) -> None:
    _release(tmp_path)
    (tmp_path / "annot").mkdir()
    points = np.full((16, 2), -1.0)
    points[0], points[9] = (12, 22), (3, 4)
    visible = np.zeros(16)
    visible[[0, 9]] = 1
    person = {"image": "a.jpg", "joints": points.tolist(), "joints_vis": visible.tolist()}
    stranger = {**person, "joints": (points + 5).tolist()}
    file = tmp_path / "annot" / "valid.json"
    file.write_text(json.dumps([person, stranger]))
    known, unknown = load_mpii(str(tmp_path), "valid")
    assert known["keypoints"][0, 0].tolist() == [11.5, 21.5, 2]
    assert not known["keypoints"][0, 1].any()
    assert known["head_sizes"].tolist() == [30] and "head_sizes" not in unknown
    file.write_text(json.dumps([{**person, "joints": [[1, "2"]] * 16}]))
    with pytest.raises(ValueError, match=r"valid.json: \[0\].joints\[0\].*numbers"):
        load_mpii(str(tmp_path), "valid")
    with pytest.raises(FileNotFoundError, match="train.json"):
        load_mpii(str(tmp_path), "train")


def test_mpii_names_the_field_that_is_wrong(tmp_path: Path) -> None:
    _release(tmp_path, x1="left")
    with pytest.raises(ValueError, match=r"annolist\(1\): field 'x1'"):
        read_release(str(tmp_path / "mpii_human_pose_v1_u12_1.mat"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 16.0}, r"annolist\(1\): point id 16: expected 0 to 15"),
        ({"id": -1.0}, r"annolist\(1\): point id -1: expected 0 to 15"),
        ({"x": "left"}, "field 'x': expected one number"),
        ({"y": np.array([[1.0, 2.0]])}, "field 'y': expected one number"),
    ],
)
def test_points_of_mpii_are_held_to_their_range(tmp_path: Path, change: dict, message: str) -> None:
    point = {"id": 0.0, "x": 1.0, "y": 2.0, **change}
    head = dict.fromkeys(("x1", "y1", "x2", "y2"), 1.0)
    person = {**head, "annopoints": [{"point": [point]}]}
    image = {"image": [{"name": "a.jpg"}], "annorect": [person]}
    release = {"RELEASE": {"annolist": _struct_array([image]), "img_train": np.array([[1.0]])}}
    savemat(tmp_path / "m.mat", release)
    with pytest.raises(ValueError, match=message):
        read_release(str(tmp_path / "m.mat"))
    release["RELEASE"]["img_train"] = np.array([[1.0, 0.0]])
    savemat(tmp_path / "m.mat", release)
    with pytest.raises(ValueError, match="RELEASE.img_train has 2 values for 1 images"):
        read_release(str(tmp_path / "m.mat"))


@pytest.mark.parametrize("subset", ["train", "valid"])
def test_mpii_of_hrnets_form_alone(tmp_path: Path, subset: str) -> None:
    """Without the release nobody has a head's size, which is not said then; two on one picture."""
    _release(tmp_path)
    (tmp_path / "mpii_human_pose_v1_u12_1.mat").unlink()
    (tmp_path / "annot").mkdir()
    points = np.full((16, 2), 7.0)
    points[3] = 0, 9  # x may be 0: one of the two is enough
    points[4] = 0, 0
    person = {"image": "a.jpg", "joints": points.tolist(), "joints_vis": [1] * 15 + [0]}
    other = {**person, "image": "b.jpg"}
    file = tmp_path / "annot" / f"{subset}.json"
    file.write_text(json.dumps([person, other, person]))
    tracks = load_mpii(str(tmp_path), subset)
    assert [(t["video_id"], t["track_id"]) for t in tracks] == [("a", "0"), ("b", "0"), ("a", "1")]
    assert [t["image_ids"][0] for t in tracks] == [0, 1_000_000, 0]
    assert tracks[0]["keypoints"][0, [0, 3, 4, 15]].tolist() == [
        [6.5, 6.5, 2], [-0.5, 8.5, 2], [0, 0, 0], [0, 0, 0],
    ]  # fmt: skip
    file.write_text(json.dumps([{**person, "joints": [[1, 2]] * 15}]))
    with pytest.raises(ValueError, match=r"joints: expected 16 points \(x, y\)|joints"):
        load_mpii(str(tmp_path), subset)
    with pytest.raises(FileNotFoundError, match="mpii_human_pose"):
        load_mpii(str(tmp_path), "trainval")
