"""docs/EXTENDING.md as printed there: its blocks are one plugin file, and each part works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY

from video_pose.engine.checkpointer import load_model
from video_pose.engine.defaults import load_cfg
from video_pose.engine.trainer import PoseTrainer
from video_pose.inference.frames import PoseFrame
from video_pose.inference.trackers import build_tracker
from video_pose.inference.writers import Recording, open_writers
from video_pose.plugins import (
    CONFIG_KEYS,
    EVALUATORS,
    PCK_PROTOCOLS,
    TRACKERS,
    VIEWS,
    WRITERS,
    run_plugins,
)

PAGE = Path(__file__).parents[1] / "docs" / "EXTENDING.md"
REGISTRIES = (CONFIG_KEYS, EVALUATORS, PCK_PROTOCOLS, TRACKERS, VIEWS, WRITERS)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The page's file, run as every program does; its folder holds the walk's pictures."""
    folder = tmp_path_factory.mktemp("plugin")
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    (folder / "my_plugin.py").write_text("\n".join(blocks), encoding="utf-8")
    (folder / "walk").mkdir()
    for n in range(5):
        picture = np.full((64, 64, 3), 40 * n, np.uint8)
        cv2.imwrite(str(folder / "walk" / f"{n}.jpg"), picture)
    before = [registry.names() for registry in REGISTRIES]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDEO_POSE_PLUGINS", str(folder / "my_plugin.py"))
        patch.chdir(folder)
        run_plugins()
        yield folder
    for registry, names in zip(REGISTRIES, before):
        for name in set(registry) - set(names):
            registry.remove(name)
    for name in ("walks", "walks_frames"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    del BACKBONE_REGISTRY._obj_map["build_two_stage_backbone"]
    del META_ARCH_REGISTRY._obj_map["LeakyPose"]


def train(folder: Path, *options: object) -> dict[str, dict[str, float]]:
    """Two steps on the walk, then the test of what was trained."""
    fixed = ["MODEL.DEVICE", "cpu", "SEED", 1, "DATALOADER.NUM_WORKERS", 0]
    fixed += ["OUTPUT_DIR", str(folder)]
    fixed += ["DATALOADER.ASPECT_RATIO_GROUPING", False, "INPUT.CROP_SIZE", (64, 64)]
    fixed += ["DATASETS.TRAIN", ("walks",), "DATASETS.TEST", ("walks",), "INPUT.CLIP.LENGTH", 2]
    fixed += ["SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 1, "SOLVER.WARMUP_ITERS", 0]
    fixed += ["MODEL.PIXEL_MEAN", [128.0] * 3, "MODEL.PIXEL_STD", [64.0] * 3]
    cfg = load_cfg("", [*fixed, *options])
    trainer = PoseTrainer(cfg)
    trainer.resume_or_load(False)
    results = trainer.train()
    cfg.MODEL.WEIGHTS = str(folder / "model_final.pth")
    assert load_model(cfg).joint_names == ["head", "left_hand", "right_hand"]
    return results


def test_dataset_model_view_and_metrics(plugin: Path, tmp_path: Path) -> None:
    """A model of one's own learns one's own data by a view, and is scored by own metrics."""
    results = train(
        tmp_path,
        *("MODEL.META_ARCHITECTURE", "LeakyPose", "INPUT.VIEW", "every_second"),
        *("TEST.PCK.PROTOCOLS", ("hands",), "TEST.EVALUATORS", ("pck", "jitter")),
        *("MODEL.LEAKY_POSE.CHANNELS", 8),
    )
    assert results["keypoints_pck_hands"]["frames"] == 5
    assert 0 <= results["keypoints_pck_hands"]["PCK@0.5"] <= 100
    assert np.isfinite(results["jitter"]["px"])


def test_a_backbone(plugin: Path, tmp_path: Path) -> None:
    results = train(
        tmp_path,
        *("MODEL.META_ARCHITECTURE", "UniPose", "TEST.PCK.PROTOCOLS", ("hands",)),
        *("MODEL.BACKBONE.NAME", "build_two_stage_backbone", "MODEL.RESNETS.RES2_OUT_CHANNELS", 8),
        *("MODEL.UNIPOSE.HIGH_FEATURE", "res4", "MODEL.UNIPOSE.WASP.CHANNELS", 8),
        *("MODEL.UNIPOSE.WASP.DILATIONS", [2, 1], "MODEL.UNIPOSE.DECODER.CHANNELS", 8),
        *("MODEL.UNIPOSE.DECODER.LOW_CHANNELS", 8, "TEST.EVALUATORS", ("pck",)),
    )
    assert results["keypoints_pck_hands"]["frames"] == 5


def test_a_recurrent_model_remembers(plugin: Path) -> None:
    options = ["MODEL.META_ARCHITECTURE", "LeakyPose", "MODEL.DEVICE", "cpu"]
    cfg = load_cfg("", [*options, "DATASETS.TRAIN", ("walks",), "DATASETS.TEST", ()])
    torch.manual_seed(0)
    model = load_model(cfg, untrained=True)
    images = torch.rand(4, 3, 64, 64)
    features, maps = model.encode(images), torch.zeros(4, 1, 8, 8)
    state = model.begin(images[:1], features[:1])
    kept = []
    for t in range(4):
        heatmaps, state = model.advance(features[t : t + 1], maps[t : t + 1], state)
        kept.append(heatmaps)
    fresh, _ = model.advance(features[3:], maps[3:], model.begin(images[3:], features[3:]))
    assert not torch.equal(kept[-1], fresh)


def test_a_tracker(plugin: Path) -> None:
    tracker = build_tracker("nearest", min_score=0.5, max_missed_seconds=1.0)
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], float)
    assert tracker.update(boxes, np.array([0.9, 0.9]), 0.0).tolist() == [0, 1]
    assert tracker.update(boxes[::-1] + 2, np.array([0.9, 0.9]), 0.1).tolist() == [1, 0]
    assert tracker.update(boxes[:1] + 90, np.array([0.3]), 0.2).tolist() == [-1]


def test_a_format(plugin: Path, tmp_path: Path) -> None:
    frame = PoseFrame(
        index=7, time=0.0, image=np.zeros((4, 4, 3), np.uint8), video="v", joint_names=("a",),
        keypoints=np.zeros((2, 1, 3), np.float32), boxes=np.zeros((2, 4), np.float32),
        scores=np.ones(2, np.float32), track_ids=np.arange(2),
    )  # fmt: skip
    (writer,) = open_writers(["counts"], tmp_path, Recording("v", ("a",)))
    writer.write(frame)
    writer.close()
    assert (tmp_path / "v.counts.txt").read_text() == "7 2\n"
