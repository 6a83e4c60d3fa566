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
    assert known["head_sizes"].tolist() == [30] and np.isnan(unknown["head_sizes"]).tolist() == [
        True
    ]
    file.write_text(json.dumps([{**person, "joints": [[1, "2"]] * 16}]))
    with pytest.raises(ValueError, match=r"valid.json: \[0\].joints\[0\].*numbers"):
        load_mpii(str(tmp_path), "valid")
    with pytest.raises(FileNotFoundError, match="train.json"):
        load_mpii(str(tmp_path), "train")
    (tmp_path / "mpii_human_pose_v1_u12_1.mat").unlink()
    file.write_text(json.dumps([person]))
    assert "head_sizes" not in load_mpii(str(tmp_path), "valid")[0]


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


# ---- whole results, whole messages


def _said(call: Any, *arguments: Any) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        call(*arguments)
    return str(error.value)


def _lsp(root: Path, count: int, images: dict[int, tuple[int, int]]) -> None:
    """Image n's joints are all at 1-based (n + 1, 21), of which joint 1 is hidden."""
    joints = np.zeros((3, 14, count))
    joints[0], joints[1], joints[2, 1] = np.arange(count) + 2.0, 21, 1
    (root / "images").mkdir(parents=True)
    savemat(root / "joints.mat", {"joints": joints})
    for number, size in images.items():
        Image.new("RGB", size).save(root / "images" / f"im{number:04d}.jpg")


def test_tracks_of_lsp_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("video_pose.data.datasets.photos._LSP_TRAIN", 2)
    _lsp(tmp_path, 3, {1: (64, 48), 2: (64, 48), 3: (40, 90)})
    track = load_lsp(str(tmp_path), "test")[0]
    assert [t["video_id"] for t in load_lsp(str(tmp_path), "train")] == ["im0001", "im0002"]
    arrays = {key: track.pop(key) for key in ("keypoints", "boxes", "labelled", "image_ids")}
    assert track == {
        "video_id": "im0003", "track_id": "0", "height": 90, "width": 40,
        "file_names": [str(tmp_path / "images" / "im0003.jpg")],
    }  # fmt: skip
    # Ids are those of the subset.
    assert arrays["image_ids"].tolist() == [0] and arrays["labelled"].tolist() == [True]
    assert arrays["keypoints"][0, :3].tolist() == [[3.5, 20.5, 2], [3.5, 20.5, 1], [3.5, 20.5, 2]]
    assert arrays["boxes"].tolist() == [[3.5, 20.5, 3.5, 20.5]]
    ids = [t["image_ids"].tolist() for t in load_lsp(str(tmp_path), "train")]
    assert ids == [[0], [1_000_000]]


def test_what_lsp_lacks_is_named(tmp_path: Path) -> None:
    root = tmp_path / "lsp"
    assert _said(load_lsp, str(root), "train").startswith(f"{root} does not exist.")
    root.mkdir()
    assert _said(load_lsp, str(root), "train").startswith(f"{root}/joints.mat does not exist.")
    _lsp(root, 1, {})
    assert _said(load_lsp, str(root), "train").startswith(f"{root}/images/im0001.jpg does not")
    assert "lsp/\n  images/im0001.jpg" in _said(load_lsp, str(root), "train")
    assert _said(load_lsp, str(root), "test").startswith(
        f"{root}/joints.mat has no usable frame: 0 tracks"
    )
    (root / "images").rmdir()
    assert _said(load_lsp, str(root), "train").startswith(f"{root}/images does not exist.")
    savemat(root / "joints.mat", {"joints": np.zeros((14, 3, 1))})
    assert "expected shape (3, 14, any)" in _said(load_lsp, str(root), "train")


@pytest.mark.parametrize(("stored", "v"), [(0, 0), (1, 2), (0.5, 2), (-1, 0)])
def test_stored_visibilities_of_lspet(tmp_path: Path, stored: float, v: int) -> None:
    joints = _joints(1)
    joints[3, 2] = stored
    _write(tmp_path, joints, [(64, 48)])
    (track,) = load_lspet(str(tmp_path))
    assert track["keypoints"][0, 3].tolist() == ([10.5, 20.5, 2] if v else [0, 0, 0])


def test_a_third_image_of_lspet_has_its_own_number(tmp_path: Path) -> None:
    _write(tmp_path, _joints(3), [(64, 48)] * 3)
    tracks = load_lspet(str(tmp_path))
    assert [t["video_id"] for t in tracks] == ["im00001", "im00002", "im00003"]
    assert [t["image_ids"].tolist() for t in tracks] == [[0], [1_000_000], [2_000_000]]


def test_people_of_the_release_one_by_one(tmp_path: Path) -> None:
    """Whoever has no points, and whoever is on a test image, is not there."""
    head = {"x1": 10.0, "y1": 20.0, "x2": 13.0, "y2": 24.0}
    points = [_point(0, 3, 4), _point(15, 5, 6, 0)]
    full = {**head, "annopoints": {"point": points}}
    none = {**head, "annopoints": np.zeros((0, 0))}
    other = {**head, "x2": 22.0, "y2": 25.0, "annopoints": {"point": [_point(1, 7, 8, "0")]}}
    images = [
        {"image": {"name": f"{name}.jpg"}, "annorect": _struct_array(people)}
        for name, people in (("t", [full]), ("a", [none, full]), ("b", [full]), ("a", [other]))
    ]
    release = {"annolist": _struct_array(images), "img_train": np.array([[0], [1], [1], [1]])}
    path = tmp_path / "mpii_human_pose_v1_u12_1.mat"
    savemat(path, {"RELEASE": release})
    found = read_release(str(path))
    assert [(name, head) for name, _, _, head in found] == [
        ("a.jpg", 3.0), ("b.jpg", 3.0), ("a.jpg", pytest.approx(7.8)),
    ]  # fmt: skip
    # .6 of the diagonals 5 (3 x 4) and 13 (12 x 5).
    assert found[0][1].tolist() == [[3, 4], *[[0, 0]] * 14, [5, 6]]
    assert found[0][2].tolist() == [2, *[0] * 14, 1] and found[2][2].tolist() == [0, 1, *[0] * 14]
    (tmp_path / "images").mkdir()
    for name in "ab":
        Image.new("RGB", (64, 48)).save(tmp_path / "images" / f"{name}.jpg")
    tracks = load_mpii(str(tmp_path), "trainval")
    assert [
        (t["video_id"], t["track_id"], t["image_ids"].tolist(), t["head_sizes"].tolist())
        for t in tracks
    ] == [
        ("a", "0", [0], [3]), ("b", "0", [1_000_000], [3]), ("a", "1", [0], [np.float32(7.8)]),
    ]  # fmt: skip
    assert tracks[2]["keypoints"][0, :3].tolist() == [[0, 0, 0], [6.5, 7.5, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("stored", "v"), [("", 2), ("1", 2), (1, 2), (1.0, 2), (0, 1), ("0", 1), (np.zeros((0, 0)), 2)]
)
def test_stored_visibilities_of_mpii(tmp_path: Path, stored: Any, v: int) -> None:
    _release(tmp_path, annopoints={"point": [_point(0, 11, 21, stored), _point(1, 1, 2)]})
    assert load_mpii(str(tmp_path), "trainval")[0]["keypoints"][0, 0, 2] == v


def test_a_release_whose_points_have_no_visibility(tmp_path: Path) -> None:
    point = {"id": 2.0, "x": 3.0, "y": 4.0}
    _release(tmp_path, annopoints={"point": [point, {**point, "id": 0.0}]})
    track = load_mpii(str(tmp_path), "trainval")[0]
    assert track["keypoints"][0, :3, 2].tolist() == [2, 0, 2]


def test_numbers_of_a_release_are_single(tmp_path: Path) -> None:
    place = f"{tmp_path}/mpii_human_pose_v1_u12_1.mat: annolist(1): field 'y2': expected one number"
    for value in (np.array([[1.0, 2.0]]), np.zeros((0, 0)), "x", np.array([[1 + 1j]])):
        _release(tmp_path, y2=value)
        assert _said(load_mpii, str(tmp_path), "trainval").startswith(place)
    for value in (np.uint8(50), np.array([[50.0]]), True):
        _release(tmp_path, y2=value)
        assert len(load_mpii(str(tmp_path), "trainval")) == 2


def test_files_of_mpii_that_lack_are_named(tmp_path: Path) -> None:
    root = tmp_path / "mpii"
    assert _said(load_mpii, str(root), "valid").startswith(f"{root} does not exist.")
    root.mkdir()
    assert _said(load_mpii, str(root), "valid").startswith(f"{root}/annot/valid.json does not")
    release = root / "mpii_human_pose_v1_u12_1.mat"
    assert _said(load_mpii, str(root), "trainval").startswith(f"{release} does not exist.")
    (root / "annot").mkdir()
    # "trainval" is never read from a JSON file.
    for name in ("valid", "trainval"):
        (root / "annot" / f"{name}.json").write_text("[]")
    assert _said(load_mpii, str(root), "trainval").startswith(f"{release} does not exist.")
    assert _said(load_mpii, str(root), "valid").startswith(
        f"{root}/annot/valid.json has no usable frame: 0 tracks"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"joints": [[1, 2]] * 15}, "[0].joints: expected 16 points (x, y), got a list"),
        ({"joints": []}, "[0].joints: expected 16 points (x, y), got a list"),
        ({"joints": [[1, 2, 3]] * 16}, "[0].joints[0]: expected 2 numbers (x, y), got a list"),
        ({"joints_vis": [1] * 15}, "[0].joints_vis: expected 16 numbers, got a list"),
        ({"image": 7}, "[0].image: expected text, got 7"),
    ],
)
def test_fields_of_hrnets_form_are_named(tmp_path: Path, change: dict, words: str) -> None:
    _release(tmp_path)
    (tmp_path / "annot").mkdir()
    person = {"image": "a.jpg", "joints": [[1, 2]] * 16, "joints_vis": [1] * 16, **change}
    file = tmp_path / "annot" / "valid.json"
    file.write_text(json.dumps([person]))
    assert _said(load_mpii, str(tmp_path), "valid").startswith(f"{file}: {words}")


def test_heads_are_found_by_the_joints_in_whole_px(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In any order; a joint more, or one a px away, is another person, who is counted."""
    points = [_point(0, 11.3, 21.4), _point(9, 5.2, 6.0)]
    _release(tmp_path, annopoints={"point": points})
    (tmp_path / "annot").mkdir()

    def person(*joints: tuple[int, float, float], image: str = "a.jpg") -> dict[str, Any]:
        at, visible = np.full((16, 2), -1.0), np.zeros(16)
        for joint, x, y in joints:
            at[joint], visible[joint] = (x, y), 1
        return {"image": image, "joints": at.tolist(), "joints_vis": visible.tolist()}

    people = [
        person((9, 4.8, 6.3), (0, 10.9, 20.9)), person((0, 12, 21), (9, 5, 6)),
        person((0, 11, 21), (9, 5, 6), (3, 1, 1)), person((0, 11, 21), (9, 5, 6), image="c.jpg"),
    ]  # fmt: skip
    (tmp_path / "annot" / "valid.json").write_text(json.dumps(people))
    tracks = load_mpii(str(tmp_path), "valid")
    assert [np.nan_to_num(t["head_sizes"]).tolist() for t in tracks] == [[30], [0], [0], [0]]
    assert [record.getMessage() for record in caplog.records] == [
        "MPII (valid): 3 people without a head's size: not in PCKh"
    ]
