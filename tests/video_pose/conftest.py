"""Small models with random weights, and datasets that are gone after a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model

from video_pose.engine.defaults import complete_cfg, get_pose_cfg
from video_pose.modeling.backend import TorchBackend

ROOT = Path(__file__).parents[2]
CONFIGS = {
    "unipose_lstm": "configs/quickstart/unipose_lstm_R18_synthetic_jhmdb.yaml",
    "lstm_pm": "configs/LSTM-Pose-Machines/lstm_pm_small_synthetic_jhmdb.yaml",
}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def register() -> Iterator[Callable[..., str]]:
    """register(name, records, **metadata): a dataset, removed after the test."""
    names: list[str] = []

    def add(name: str, records: list[dict[str, Any]], **metadata: object) -> str:
        DatasetCatalog.register(name, lambda: records)
        names.append(name)
        MetadataCatalog.get(name).set(**metadata)
        return name

    yield add
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def pose_cfg() -> Callable[..., CfgNode]:
    """A small model's configuration with further keys."""

    def make(name: str = "unipose_lstm", *options: object) -> CfgNode:
        cfg = get_pose_cfg()
        cfg.merge_from_file(str(ROOT / CONFIGS[name]))
        cfg.merge_from_list(["MODEL.DEVICE", "cpu", *options])
        complete_cfg(cfg)
        return cfg

    return make


@pytest.fixture
def build_backend() -> Callable[[CfgNode], TorchBackend]:
    """A model with seeded random weights and norm statistics."""

    def make(cfg: CfgNode) -> TorchBackend:
        torch.manual_seed(0)
        model = build_model(cfg)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        for name, parameter in model.named_parameters():
            # The last layer starts near 0 and would leave nothing to compare.
            if name.startswith(("head", "decoder.predict")):
                torch.nn.init.normal_(parameter, std=0.1)
        return TorchBackend(model)

    return make
