"""Every configuration of a recurrent model, shrunk: it builds, trains a step, is evaluated."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model

from video_pose.data.datasets.coco_video import register_video_keypoints
from video_pose.engine.checkpointer import PoseCheckpointer
from video_pose.engine.defaults import complete_cfg, get_pose_cfg
from video_pose.engine.trainer import PoseTrainer

CONFIGS = Path(__file__).parents[2] / "configs"
FOLDERS = ("UniPose-LSTM", "LSTM-Pose-Machines", "quickstart")
# R-CNN's are tested in test_rcnn_configs.py.
OTHERS = ("Mask-RCNN", "Keypoint-RCNN")
LEAVES = sorted(
    path
    for folder in FOLDERS
    for path in (CONFIGS / folder).glob("*.yaml")
    if not path.name.startswith("Base")
)
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "DATALOADER.NUM_WORKERS", 0),
    *("INPUT.CROP_SIZE", (64, 64), "SOLVER.MAX_ITER", 1, "TEST.CHUNK_LENGTH", 4),
    *("MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.STEM_OUT_CHANNELS", 8),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", 16, "MODEL.RESNETS.WIDTH_PER_GROUP", 4),
    *("MODEL.UNIPOSE.WASP.CHANNELS", 8, "MODEL.UNIPOSE.DECODER.CHANNELS", 8),
    *("MODEL.UNIPOSE.LSTM.HEAD.CHANNELS", 8, "MODEL.LSTM_PM.STEM.CHANNELS", [4, 4, 4]),
    *("MODEL.LSTM_PM.STEM.FEATURE_CHANNELS", 4, "MODEL.LSTM_PM.INITIAL.CHANNELS", 8),
    *("MODEL.LSTM_PM.LSTM.HIDDEN_CHANNELS", 8, "MODEL.LSTM_PM.HEAD.CHANNELS", 8),
]


def load(path: Path, *options) -> CfgNode:
    cfg = get_pose_cfg()
    cfg.merge_from_file(str(path))
    cfg.merge_from_list(list(options))
    return cfg


def test_every_configuration_is_tested() -> None:
    folders = {path.parent.name for path in CONFIGS.glob("*/*.yaml")}
    assert folders == {*FOLDERS, *OTHERS}
    assert all(path.name.startswith("Base") for path in CONFIGS.glob("*.yaml"))


COCO_JOINTS = ["nose", *(f"{s}_{part}" for part in (
    "eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle",
) for s in ("left", "right"))]  # fmt: skip
PHOTOS = ("coco_people_train", "coco_people_val", "everyday_people_train", "gym_people_train")


BUILT_IN = ("lsp_train", "lsp_test", "mpii_train", "mpii_valid", "mpii_trainval",
            "coco_people_2017_train", "coco_people_2017_val")  # fmt: skip


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three people in two photos, as the recipes for people of all kinds want them registered, and
    in place of the built-in datasets of photos."""
    rng = np.random.default_rng(0)
    images = [
        {"id": i, "file_name": f"{i}.png", "height": 48, "width": 64, "frame_id": 0}
        for i in range(2)
    ]
    annotations = []
    for number, image in enumerate((0, 1, 1)):
        joints = np.concatenate([rng.uniform(5, 43, (17, 2)), np.full((17, 1), 2)], 1)
        joints[number] = 0
        annotations.append(
            {
                "id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "area": 500,
                "bbox": [4, 4, 40, 40], "keypoints": joints.reshape(-1).tolist(),
                "num_keypoints": 16,
            }
        )  # fmt: skip
    folder = tmp_path / "photos"
    folder.mkdir()
    for image in images:
        picture = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / image["file_name"]), picture)
    categories = [{"id": 1, "name": "person", "keypoints": COCO_JOINTS, "skeleton": []}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "people.json").write_text(json.dumps(content))
    for name in PHOTOS:
        register_video_keypoints(name, str(folder / "people.json"), str(folder))
        MetadataCatalog.get(name).set(unlabelled_is_absent=name.startswith("coco"))
    for name in BUILT_IN:
        monkeypatch.setitem(DatasetCatalog.data, name, lambda name=name: _as_people_of(name))
    yield
    for name in PHOTOS:
        for known in (name, f"{name}_frames"):
            DatasetCatalog.remove(known)
            MetadataCatalog.remove(known)


def _as_people_of(name: str) -> list[dict]:
    """The photos' people with so many joints as those of a built-in dataset."""
    count = len(MetadataCatalog.get(name).keypoint_names)
    tracks = DatasetCatalog.get(PHOTOS[0])
    return [
        {**track, "keypoints": np.resize(track["keypoints"], (1, count, 3)), "head_sizes": [9.0]}
        for track in tracks
    ]


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_it_trains_a_step_and_is_evaluated(path: Path, datasets: Path, tmp_path: Path) -> None:
    cfg = load(path, *SMALL, "OUTPUT_DIR", str(tmp_path))
    cfg.SOLVER.IMS_PER_BATCH = min(cfg.SOLVER.IMS_PER_BATCH, 2)
    complete_cfg(cfg)
    cfg.freeze()
    trainer = PoseTrainer(cfg)
    trainer.resume_or_load(False)
    results = trainer.train()
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())
    assert (tmp_path / "model_final.pth").is_file()
    if not cfg.DATASETS.TEST:
        assert results == {}
        return
    protocols = MetadataCatalog.get(cfg.DATASETS.TEST[0]).pck_protocols
    assert {f"keypoints_pck_{name}" for name in protocols} <= set(results)
    main = results[f"keypoints_pck_{protocols[0]}"]
    assert main["frames"] > 0 and main["never_predicted_frames"] == 0
    assert math.isfinite(main["mean_error_px"])


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_it_starts_from_what_another_one_makes(path: Path) -> None:
    """Output folders are named after the file; weights on disk are some other's final ones."""
    cfg = load(path)
    assert cfg.OUTPUT_DIR == f"output/{path.stem}" or path.parent.name == "quickstart"
    weights = cfg.MODEL.WEIGHTS
    if not weights or "://" in weights:
        return
    _, source, name = weights.split("/")
    assert name == "model_final.pth"
    (maker,) = (p for p in LEAVES if p.stem == source)
    before = load(maker)
    for key in ("FORMAT", "CROP_SIZE"):
        assert before.INPUT[key] == cfg.INPUT[key]
    assert before.MODEL.PIXEL_MEAN == cfg.MODEL.PIXEL_MEAN


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_backgrounds_are_those_of_released_weights(path: Path) -> None:
    cfg = load(path)
    first = "LSTM-Pose-Machines" not in str(path)
    assert cfg.MODEL.POSE.HEATMAP.BACKGROUND == ("first" if first else "last")
    assert cfg.DATASETS.TRAIN and not cfg.DATALOADER.ASPECT_RATIO_GROUPING


@pytest.mark.parametrize(
    ("config", "file"),
    [
        ("UniPose-LSTM/unipose_R50_res4_sub_jhmdb_split1.yaml", "msra_r50_stem_res4.pth"),
        ("quickstart/unipose_lstm_R18_synthetic_jhmdb.yaml", "torchvision_r18_stem_res4.pth"),
    ],
)
def test_real_backbone_weights_fit_entirely(config: str, file: str) -> None:
    path = Path(os.environ.get("DETECTRON2_DATASETS", "datasets")) / "weights" / file
    if not path.is_file():
        pytest.skip(f"needs the ImageNet weights {path} ($DETECTRON2_DATASETS/weights)")
    cfg = load(CONFIGS / config, "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "")
    complete_cfg(cfg)
    model = build_model(cfg)
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.fill_(float("nan"))
    PoseCheckpointer(model).load(str(path))
    assert [n for n, p in model.backbone.named_parameters() if p.isnan().any()] == []
