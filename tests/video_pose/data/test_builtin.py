"""Registration: every name, its metadata, no file read before use, no second registration."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

import video_pose
from video_pose.data.datasets import builtin
from video_pose.data.datasets.builtin import Split, builtin_splits, register_builtin
from video_pose.evaluation.mean_pose import training_split
from video_pose.skeleton import COCO_PERSON

NAMES = {
    "lspet_train",
    *(f"lsp_{s}" for s in ("train", "test")),
    *(f"mpii_{s}" for s in ("train", "valid", "trainval")),
    *(f"coco_people_2017_{s}" for s in ("train", "val")),
    *(f"penn_action_{s}" for s in ("train", "test")),
    *(f"bbc_pose_{s}" for s in ("train", "val", "test")),
    *(
        f"{p}jhmdb_split{n}_{s}"
        for p in ("", "sub_")
        for n in (1, 2, 3)
        for s in ("train", "test", "fit", "holdout")
    ),
    *(f"synthetic_{d}_{s}" for d in ("jhmdb", "occluded") for s in ("fit", "holdout")),
    *(
        f"synthetic_{d}_{s}"
        for d in ("penn_action", "bbc_pose", "jhmdb", "occluded")
        for s in ("train", "test")
    ),
}


def test_every_dataset_is_registered_by_the_import() -> None:
    assert set(builtin_splits()) == NAMES
    assert NAMES <= set(DatasetCatalog.list())


@pytest.mark.parametrize("name", sorted(NAMES))
def test_metadata(name: str) -> None:
    metadata = MetadataCatalog.get(name)
    assert metadata.evaluator_type == "video_pose" and metadata.thing_classes == ["person"]
    joints = {
        "penn_action": 13, "bbc_pose": 7, "jhmdb": 15, "lspet": 14, "lsp": 14, "mpii": 16,
        "coco": 17,
    }[metadata.dataset_kind]  # fmt: skip
    assert len(metadata.keypoint_names) == len(metadata.keypoint_oks_sigmas) == joints
    assert metadata.pck_constant_pose is None
    # Penn counts visible joints only, JHMDB all of them.
    assert metadata.pck_min_visibility == (2 if metadata.dataset_kind == "penn_action" else 1)
    firsts = {"bbc_pose": "pixels", "lspet": "torso", "lsp": "torso", "mpii": "head"}
    first = firsts.get(metadata.dataset_kind, "bbox")
    assert metadata.pck_protocols[0] == first


def test_a_holdout_is_measured_against_the_rest_of_its_training_clips() -> None:
    assert training_split("sub_jhmdb_split2_holdout") == "sub_jhmdb_split2_fit"
    assert training_split("synthetic_jhmdb_holdout") == "synthetic_jhmdb_fit"
    assert training_split("jhmdb_split1_test") == "jhmdb_split1_train"


def test_registering_again_changes_nothing() -> None:
    before = DatasetCatalog.list()
    register_builtin()
    importlib.reload(video_pose)
    importlib.reload(builtin)
    assert DatasetCatalog.list() == before


def test_the_root_is_looked_up_when_the_dataset_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("one", "two"):
        monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / folder))
        with pytest.raises(FileNotFoundError, match=folder) as error:
            DatasetCatalog.get("synthetic_jhmdb_train")
        assert str(tmp_path / folder / "synthetic" / "jhmdb") in str(error.value)
    monkeypatch.delenv("DETECTRON2_DATASETS")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="datasets.Penn_Action.*not set"):
        DatasetCatalog.get("penn_action_test")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_name_looks_under_its_own_root(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        DatasetCatalog.get(name)
    assert str(tmp_path / MetadataCatalog.get(name).root_hint) in str(error.value)


def test_unknown_name_lists_what_exists() -> None:
    with pytest.raises(KeyError, match="penn_action_train"):
        DatasetCatalog.get("penn_action_trian")


def test_import_reads_no_data_and_no_model() -> None:
    code = (
        "import sys\n"
        "import video_pose\n"
        "names = ('scipy.io', 'h5py', 'unipose_lstm', 'lstm_pose_machines')\n"
        "assert not [n for n in names if n in sys.modules], 'imported'\n"
    )
    root = str(Path(video_pose.__file__).parents[1])
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], check=True, env={"PYTHONPATH": root}
    )


def test_models_are_found_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = "toy"

        def load(self) -> str:
            return "module"

    asked = []

    def entry_points(group: str) -> list[Point]:
        asked.append(group)
        return [Point()]

    monkeypatch.setattr(video_pose, "entry_points", entry_points)
    assert video_pose.load_models() == {"toy": "module"}
    assert asked == ["video_pose.models"]


def test_where_each_dataset_lies_and_what_it_is_measured_against() -> None:
    found = {name: (s.kind, s.folder, s.train_dataset) for name, s in builtin_splits().items()}
    for name, expected in {
        "lspet_train": ("lspet", "lspet", None),
        "lsp_test": ("lsp", "lsp", None),
        "mpii_valid": ("mpii", "mpii", None),
        "coco_people_2017_val": ("coco", "coco", None),
        "bbc_pose_val": ("bbc_pose", "bbc_pose", None),
        "penn_action_test": ("penn_action", "Penn_Action", None),
        "synthetic_penn_action_train": ("penn_action", "synthetic/Penn_Action", None),
        "synthetic_bbc_pose_test": ("bbc_pose", "synthetic/bbc_pose", None),
        "jhmdb_split3_holdout": ("jhmdb", "jhmdb", "jhmdb_split3_fit"),
        "sub_jhmdb_split1_test": ("jhmdb", "jhmdb", None),
        "synthetic_occluded_holdout": ("jhmdb", "synthetic/occluded", "synthetic_occluded_fit"),
        "synthetic_jhmdb_fit": ("jhmdb", "synthetic/jhmdb", None),
    }.items():
        assert found[name] == expected
    coco = MetadataCatalog.get("coco_people_2017_val")
    assert coco.box_margin == 0.0 and coco.unlabelled_is_absent is True
    assert MetadataCatalog.get("penn_action_test").get("box_margin") is None


def test_the_loaders_have_their_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple] = []
    for name in ("load_penn_action", "load_bbc_pose", "load_jhmdb"):
        monkeypatch.setattr(builtin, name, lambda *args, name=name: calls.append((name, *args)))
    splits = builtin_splits()
    for name in (
        "penn_action_train", "synthetic_penn_action_test", "bbc_pose_val",
        "synthetic_bbc_pose_train",
        "jhmdb_split2_fit", "sub_jhmdb_split3_test", "synthetic_occluded_train",
    ):  # fmt: skip
        splits[name].load("root")
    assert calls == [
        ("load_penn_action", "root", "train"),
        ("load_penn_action", "root", "test"),
        ("load_bbc_pose", "root", "val", 20),
        ("load_bbc_pose", "root", "train", None),
        ("load_jhmdb", "root", 2, "fit", ("splits",)),
        ("load_jhmdb", "root", 3, "test", ("sub_splits",)),
        ("load_jhmdb", "root", 1, "train", ("splits", "sub_splits")),
    ]


def test_what_is_registered_for_a_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots: list[str] = []

    def load(root: str) -> list:
        roots.append(root)
        return []

    splits = {
        "own_fit": Split("coco", "a/b", load),
        "penn_action_test": Split("coco", "never", load),  # is there: left as it is
        "own_holdout": Split("jhmdb", "c", load, "own_fit"),
    }
    monkeypatch.setattr(builtin, "builtin_splits", lambda: splits)
    monkeypatch.setenv("DETECTRON2_DATASETS", "/data")
    names = ("own_fit", "own_holdout")
    try:
        register_builtin()
        for name in names:
            assert DatasetCatalog.get(name) == [] and f"{name}_frames" in DatasetCatalog.list()
        assert roots == ["/data/a/b", "/data/c"]
        first, second = (MetadataCatalog.get(name).as_dict() for name in names)
        assert first["box_margin"] == 0.0 and "train_dataset" not in first
        assert second["train_dataset"] == "own_fit" and "box_margin" not in second
        assert (first["root_hint"], second["root_hint"]) == ("a/b", "c")
        assert (first["dataset_kind"], second["dataset_kind"]) == ("coco", "jhmdb")
        assert MetadataCatalog.get("penn_action_test").dataset_kind == "penn_action"
    finally:
        for name in names:
            for view in (name, f"{name}_frames"):
                DatasetCatalog.remove(view)
                MetadataCatalog.remove(view)


def test_coco_reads_the_people_of_its_subset(tmp_path: Path) -> None:
    joints = COCO_PERSON.names
    person = {"id": 1, "image_id": 4, "category_id": 1, "keypoints": [3, 4, 2] * len(joints)}
    content = {
        "images": [{"id": 4, "file_name": "4.jpg", "height": 9, "width": 8}],
        "annotations": [person],
        "categories": [{"id": 1, "name": "person", "keypoints": joints}],
    }
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations" / "person_keypoints_val2017.json"
    path.write_text(json.dumps(content))
    (tmp_path / "val2017").mkdir()
    (track,) = builtin_splits()["coco_people_2017_val"].load(str(tmp_path))
    assert track["file_names"] == [str(tmp_path / "val2017" / "4.jpg")]
    assert track["keypoints"][0].tolist() == [[3.5, 4.5, 2]] * len(joints)
    with pytest.raises(FileNotFoundError) as error:
        builtin_splits()["coco_people_2017_train"].load(str(tmp_path))
    assert str(error.value).startswith(
        f"{tmp_path}/annotations/person_keypoints_train2017.json does not exist."
    )
    assert str(error.value).endswith("  train2017/*.jpg, val2017/*.jpg")


def test_photos_are_asked_for_their_subset(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple] = []
    for name in ("load_lsp", "load_lspet", "load_mpii"):
        monkeypatch.setattr(
            builtin, name, lambda root, subset=None, name=name: calls.append((name, root, subset))
        )
    splits = builtin_splits()
    for name in ("lspet_train", "lsp_train", "lsp_test", "mpii_train", "mpii_valid",
                 "mpii_trainval"):  # fmt: skip
        splits[name].load("root")
    assert calls == [
        ("load_lspet", "root", None), ("load_lsp", "root", "train"), ("load_lsp", "root", "test"),
        ("load_mpii", "root", "train"), ("load_mpii", "root", "valid"),
        ("load_mpii", "root", "trainval"),
    ]  # fmt: skip
