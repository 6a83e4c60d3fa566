"""Evaluation through loader, model and evaluator: the same poses however tracks are cut."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model

from video_pose.engine.defaults import get_pose_cfg
from video_pose.engine.evaluation import evaluate, write_results


def predictions(cfg: CfgNode, folder: Path) -> dict[str, np.ndarray]:
    """Arrays of ``predictions.npz``, from a model whose weights depend on the seed alone."""
    cfg.OUTPUT_DIR = str(folder)
    torch.manual_seed(0)
    model = build_model(cfg)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("cell", "head", "decoder.predict")) and parameter.dim() > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    results = evaluate(cfg, model)
    assert results["keypoints_pck_bbox"]["never_predicted_frames"] == 0
    path = folder / "inference" / cfg.DATASETS.TEST[0] / "predictions.npz"
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    """Equal poses, but for one in a hundred peaks of random maps that rounding may move."""
    assert sorted(first) == sorted(second)
    for key, value in first.items():
        if key != "predictions":
            np.testing.assert_array_equal(second[key], value, err_msg=key)
    close = np.isclose(first["predictions"], second["predictions"], atol=2e-3).all(axis=-1)
    assert close.mean() > 0.99


@pytest.mark.parametrize(
    "rows",
    [[], ["TEST.SCALES", (0.8, 1.0), "TEST.FLIP", True]],
    ids=["one row", "scales and flips"],
)
@pytest.mark.parametrize("architecture", ["UniPose", "UniPoseLSTM"])
def test_chunks_change_nothing(
    tiny_cfg, datasets, tmp_path: Path, architecture: str, rows: list[Any]
) -> None:
    whole = predictions(tiny_cfg(architecture, *rows, "TEST.CHUNK_LENGTH", 99), tmp_path / "whole")
    for length in (1, 3, 4):
        options = [*rows, "TEST.CHUNK_LENGTH", length]
        assert_same(whole, predictions(tiny_cfg(architecture, *options), tmp_path / str(length)))


def test_a_worker_changes_nothing(tiny_cfg, datasets, tmp_path: Path) -> None:
    options = ["TEST.CHUNK_LENGTH", 2]
    alone = predictions(tiny_cfg("UniPoseLSTM", *options), tmp_path / "0")
    options += ["DATALOADER.NUM_WORKERS", 1]
    assert_same(alone, predictions(tiny_cfg("UniPoseLSTM", *options), tmp_path / "1"))


def test_mirrored_rows_and_scales_are_used(tiny_cfg, datasets, tmp_path: Path) -> None:
    cfg = tiny_cfg("UniPoseLSTM", "TEST.PCK.PROTOCOLS", ("torso", "bbox"))
    one = predictions(cfg, tmp_path / "one")
    for key, value in (("TEST.FLIP", True), ("TEST.SCALES", (1.0, 1.3))):
        other = predictions(tiny_cfg("UniPoseLSTM", key, value), tmp_path / key)
        assert not np.allclose(one["predictions"], other["predictions"])


def test_a_real_clip_in_chunks(tiny_cfg, tmp_path: Path) -> None:
    """The first test clip of sub-JHMDB, decoded from its AVI."""
    root = Path(os.environ.get("DETECTRON2_DATASETS", "datasets")) / "jhmdb" / "sub_splits"
    if not root.is_dir():
        pytest.skip(f"needs sub-JHMDB: there is no {root} ($DETECTRON2_DATASETS/jhmdb)")
    track = DatasetCatalog.get("sub_jhmdb_split1_test")[0]
    metadata = MetadataCatalog.get("sub_jhmdb_split1_test").as_dict()
    DatasetCatalog.register("one_real_clip", lambda: [track])
    MetadataCatalog.get("one_real_clip").set(**{k: v for k, v in metadata.items() if k != "name"})
    try:
        keys = ["DATASETS.TRAIN", (), "DATASETS.TEST", ("one_real_clip",)]
        keys += ["MODEL.POSE.JOINTS", list(metadata["keypoint_names"])]
        whole, cut = (
            predictions(tiny_cfg("UniPoseLSTM", *keys, "TEST.CHUNK_LENGTH", n), tmp_path / str(n))
            for n in (100, 7)
        )
    finally:
        DatasetCatalog.remove("one_real_clip")
        MetadataCatalog.remove("one_real_clip")
    assert_same(whole, cut)


def test_results_are_kept_for_reading(tmp_path: Path) -> None:
    """Figures that nothing was found for are null. A second test of a dataset takes the place."""
    cfg = get_pose_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    for figure in (1.0, 62.5):
        write_results(cfg, "some_test", {"pck": {"mean": figure, "neck": float("nan")}})
    text = (tmp_path / "inference" / "some_test" / "results.json").read_text()
    assert text == '{\n "pck": {\n  "mean": 62.5,\n  "neck": null\n }\n}'
