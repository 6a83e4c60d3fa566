"""Every configuration builds its model, and the paper's ones say what the protocol says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg

from lstm_pose_machines import LSTMPoseMachine, add_config
from lstm_pose_machines.import_weights import RELEASE_JOINTS
from video_pose import add_video_pose_config
from video_pose.engine.defaults import complete_cfg

FOLDER = Path(__file__).parents[2] / "configs" / "LSTM-Pose-Machines"
LEAVES = sorted(path.name for path in FOLDER.glob("lstm_pm_*.yaml"))
PAPER = [name for name in LEAVES if "_cpm_" in name]


def read(name):
    cfg = get_cfg()
    add_video_pose_config(cfg)
    add_config(cfg)
    cfg.merge_from_file(str(FOLDER / name))
    complete_cfg(cfg)
    return cfg


@pytest.mark.parametrize("name", LEAVES)
def test_a_model_of_each(name):
    cfg = read(name)
    with torch.device("meta"):
        model = LSTMPoseMachine(cfg)
    joints = 7 if "bbc_pose" in name else 14
    assert len(model.joint_names) == joints
    if name in PAPER:
        # Per joint: 1 channel of ConvNet1's 512 -> K + 1 and of ConvNet3's 128 -> K + 1 with their
        # biases, and 9 x 48 weights of each gate.
        each = 513 + 129 + 4 * 9 * 48
        assert sum(p.numel() for p in model.parameters()) == 12_067_870 - (14 - joints) * each
    else:
        assert sum(p.numel() for p in model.parameters()) < 1e6
    stages = 3 if "_medium_" in name else 5
    assert model.stages_per_frame == (stages if "_pre_" in name else 1)
    assert cfg.OUTPUT_DIR == f"output/{name.removesuffix('.yaml')}"


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_recipe(name):
    cfg = read(name)
    solver, pose = cfg.SOLVER, cfg.MODEL.POSE
    assert (solver.OPTIMIZER, solver.BASE_LR, solver.MOMENTUM) == ("SGD", 8e-5, 0.9)
    assert (solver.WEIGHT_DECAY, solver.BIAS_DECAY, solver.BIAS_LR_MULTIPLIER) == (5e-4, 0.0, 2.0)
    assert (solver.CLIP_GLOBAL_NORM, solver.GAMMA, solver.WARMUP_ITERS) == (100.0, 0.333, 0)
    assert (cfg.INPUT.FORMAT, cfg.INPUT.CROP_SIZE) == ("BGR", (368, 368))
    assert set(cfg.MODEL.PIXEL_MEAN) == {128.0} and set(cfg.MODEL.PIXEL_STD) == {256.0}
    assert (pose.HEATMAP.SIGMA, pose.CENTER_MAP.SIGMA, pose.LOSS.REDUCTION) == (7, 21, "half_sum")
    assert not pose.CENTER_MAP.THRESHOLD_IN_TEST
    assert pose.HEATMAP.DRAW_OUTSIDE == ("penn_action" not in name)
    period = 187_942 if "_pre_" in name else 40_000
    assert solver.STEPS == tuple(range(period, solver.MAX_ITER, period))
    if "_pre_" in name:
        assert (solver.IMS_PER_BATCH, cfg.INPUT.CLIP.LENGTH) == (16, 1)
        assert cfg.MODEL.LSTM_PM.CONVNET1_LR_FACTOR == 5.0
        return
    assert (solver.IMS_PER_BATCH, cfg.INPUT.CLIP.LENGTH) == (4, 5)
    if "bbc_pose" in name:
        return
    assert pose.JOINTS == list(RELEASE_JOINTS)
    low, iterations = (8, 300_000) if "penn_action" in name else (12, 100_000)
    assert solver.MAX_ITER == iterations
    assert cfg.TEST.SCALES == tuple(scale / 10 for scale in range(low, low + 7))
    assert cfg.INPUT.SCALE_MODE == "absolute"
