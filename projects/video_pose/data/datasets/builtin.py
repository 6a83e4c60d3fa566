"""The table of built-in datasets, registered lazily: no file is read before a dataset is used."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from detectron2.data import DatasetCatalog, MetadataCatalog

from video_pose.data.datasets.bbc_pose import load_bbc_pose
from video_pose.data.datasets.coco_video import load_video_keypoints
from video_pose.data.datasets.jhmdb import load_jhmdb
from video_pose.data.datasets.penn_action import load_penn_action
from video_pose.data.datasets.photos import load_lsp, load_lspet, load_mpii
from video_pose.data.datasets.tracks import datasets_root, require_path
from video_pose.data.frames import register_frames
from video_pose.data.records import Track, dataset_metadata
from video_pose.skeleton import COCO_PERSON, JOINT_SETS

COCO_TREE = """coco/
  annotations/person_keypoints_train2017.json, person_keypoints_val2017.json
  train2017/*.jpg, val2017/*.jpg"""
Tracks = list[Track]


class Split(NamedTuple):
    """One registered name.

    Attributes:
        kind: key of `JOINT_SETS` and of the protocols.
        folder: the dataset's root, relative to $DETECTRON2_DATASETS.
        load: function (root) -> track dicts.
        train_dataset: registered name that belongs to it as training data, where that does not
            follow from its own name.
    """

    kind: str
    folder: str
    load: Callable[[str], Tracks]
    train_dataset: str | None = None


def _penn(subset: str) -> Callable[[str], Tracks]:
    return lambda root: load_penn_action(root, subset)


def _bbc(subset: str, videos: int | None = 20) -> Callable[[str], Tracks]:
    return lambda root: load_bbc_pose(root, subset, videos)


def _coco(root: str, subset: str) -> Tracks:
    """People of COCO 2017 (Lin et al., ECCV 2014), each a track of one frame."""
    json_file = os.path.join(root, "annotations", f"person_keypoints_{subset}2017.json")
    images = os.path.join(root, f"{subset}2017")
    return load_video_keypoints(require_path(json_file, COCO_TREE), images, COCO_PERSON.names)


def _jhmdb(split: int, subset: str, *split_dirs: str) -> Callable[[str], Tracks]:
    return lambda root: load_jhmdb(root, split, subset, split_dirs)


def builtin_splits() -> dict[str, Split]:
    """Every built-in dataset by its registered name."""
    table = {"lspet_train": Split("lspet", "lspet", load_lspet)}
    for subset in ("train", "test"):
        table[f"lsp_{subset}"] = Split("lsp", "lsp", partial(load_lsp, subset=subset))
    for subset in ("train", "valid", "trainval"):
        table[f"mpii_{subset}"] = Split("mpii", "mpii", partial(load_mpii, subset=subset))
    for subset in ("train", "val"):
        table[f"coco_people_2017_{subset}"] = Split("coco", "coco", partial(_coco, subset=subset))
    for subset in ("train", "val", "test"):
        table[f"bbc_pose_{subset}"] = Split("bbc_pose", "bbc_pose", _bbc(subset))
    for subset in ("train", "test"):
        table[f"penn_action_{subset}"] = Split("penn_action", "Penn_Action", _penn(subset))
        # The synthetic datasets are written in the real formats and read by the real loaders.
        table[f"synthetic_penn_action_{subset}"] = Split(
            "penn_action", "synthetic/Penn_Action", _penn(subset)
        )
        table[f"synthetic_bbc_pose_{subset}"] = Split(
            "bbc_pose", "synthetic/bbc_pose", _bbc(subset, None)
        )
    for split in (1, 2, 3):
        table.update(_jhmdb_subsets(f"jhmdb_split{split}", "jhmdb", split, "splits"))
        table.update(_jhmdb_subsets(f"sub_jhmdb_split{split}", "jhmdb", split, "sub_splits"))
    for folder in ("jhmdb", "occluded"):
        name, root = f"synthetic_{folder}", f"synthetic/{folder}"
        table.update(_jhmdb_subsets(name, root, 1, "splits", "sub_splits"))
    return table


def _jhmdb_subsets(prefix: str, folder: str, split: int, *split_dirs: str) -> dict[str, Split]:
    """Training and test clips; the training clips again as two parts that share no source video."""
    return {
        f"{prefix}_{subset}": Split(
            "jhmdb",
            folder,
            _jhmdb(split, subset, *split_dirs),
            f"{prefix}_fit" if subset == "holdout" else None,
        )
        for subset in ("train", "test", "fit", "holdout")
    }


def register_builtin() -> None:
    """Register the built-in datasets and their frames that are not yet; reloads change nothing."""
    for name, split in builtin_splits().items():
        if name in DatasetCatalog.list():
            continue
        DatasetCatalog.register(name, _loader(split))
        joints = JOINT_SETS[split.kind]
        MetadataCatalog.get(name).set(**dataset_metadata(split.kind, joints, split.folder))
        if split.kind == "coco":  # its boxes bound the pixels' areas already; labelled in full
            MetadataCatalog.get(name).set(box_margin=0.0, unlabelled_is_absent=True)
        if split.train_dataset:
            MetadataCatalog.get(name).set(train_dataset=split.train_dataset)
        register_frames(name)


def _loader(split: Split) -> Callable[[], Tracks]:
    # The root is looked up on each load, so that a variable set after the import counts.
    return lambda: split.load(os.path.join(datasets_root(), *split.folder.split("/")))
