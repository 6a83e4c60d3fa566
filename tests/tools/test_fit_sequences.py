"""tools/fit_sequences.py: examples by hand, that training helps, and the whole command once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from video_pose import packaged
from video_pose.inference.predictor import load_cfg

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs/quickstart/unipose_lstm_R18_synthetic_jhmdb.yaml")
JOINTS = ["left_hip", "right_hip", "left_knee", "right_knee"]
POSE = np.array([[60.0, 0], [40, 0], [60, 100], [40, 100]])


@pytest.fixture
def tool(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("tools/fit_sequences.py")


def trace(tool: ModuleType, seed: int, frames: int = 36):
    """People who walk 2 px a frame; one joint in ten is 40 px off, with a lower score and the truth
    as its second peak."""
    rng = np.random.default_rng(seed)
    truth = np.full((frames, 4, 3), 2.0)
    truth[..., :2] = POSE + 2 * np.arange(frames)[:, None, None] * [1, 0]
    peaks = np.zeros((frames, 4, 3, 3))
    peaks[..., :2] = truth[:, :, None, :2] + rng.normal(0, 1, (frames, 4, 1, 2))
    peaks[:, :, 0, 2] = 0.9
    wrong = rng.random((frames, 4)) < 0.1
    peaks[wrong, 1] = peaks[wrong, 0] - [0, 0, 0.5]
    peaks[wrong, 0] += [0, 40, -0.3]
    boxes = np.concatenate([truth[:, :, :2].min(1) - 10, truth[:, :, :2].max(1) + 10], axis=1)
    return tool.Trace(
        peaks.astype(np.float32), truth.astype(np.float32), boxes.astype(np.float32),
        np.arange(frames), f"v{seed}", f"v{seed}",
    )  # fmt: skip


def test_a_trace_is_kept(tool: ModuleType, tmp_path: Path) -> None:
    one = trace(tool, 0)
    tool._write_trace(tmp_path / "0.npz", one)
    again = tool._read_trace(tmp_path / "0.npz")
    assert again.video == "v0" and np.array_equal(again.peaks, one.peaks)


def test_errors_move_to_another_movement_with_their_lengths(tool: ModuleType) -> None:
    """An error of (3, 4) is 5 long on the other clip, too; an unlabelled joint keeps its place in
    the body."""
    truth = np.zeros((2, 3, 3))
    truth[..., 2] = [2, 2, 0]
    truth[:, 1, 0] = 10
    peaks = np.repeat(truth[:, :, None], 3, axis=2)
    peaks[..., :2] += [3, 4]
    peaks[:, 2, :, :2] = [5, 7]  # 7 below the middle of the labelled
    other = truth + [100, 50, 0]
    moved, target = tool._moved(np.random.default_rng(0), peaks, truth, other)
    assert np.linalg.norm(moved[:, :2, 0, :2] - other[:, :2, :2], axis=-1) == pytest.approx(5)
    assert np.linalg.norm(moved[:, 2, 0, :2] - [105, 50], axis=-1) == pytest.approx(7)
    assert np.array_equal(target[:, :2], other[:, :2])


def test_movements_are_turned_and_mirrored_with_their_peaks(tool: ModuleType) -> None:
    one = trace(tool, 1)
    mirror = [1, 0, 3, 2]
    for seed in range(8):
        peaks, truth = tool._transformed(
            np.random.default_rng(seed), one.peaks.astype(float), one.truth.astype(float), mirror
        )
        before = np.linalg.norm(one.peaks[:, :, 0, :2] - one.truth[..., :2], axis=-1)
        after = np.linalg.norm(peaks[:, :, 0, :2] - truth[..., :2], axis=-1)
        scale = after.sum() / before.sum()
        assert 0.85 <= scale <= 1.18
        errors = np.sort((after / scale).ravel()), np.sort(before.ravel())
        assert errors[0] == pytest.approx(errors[1], abs=1e-3)


def test_the_loss_is_least_at_the_truth(tool: ModuleType) -> None:
    truth = torch.rand(2, 6, 4, 2)
    valid = torch.ones(2, 6, 4)
    exact = tool.loss_of(truth, truth, valid)
    assert exact < 1e-3 < tool.loss_of(truth + 0.01, truth, valid)
    # What is not labelled does not count.
    valid[0] = 0
    far = truth.clone()
    far[0] += 1
    assert tool.loss_of(far, truth, valid) == pytest.approx(float(exact), abs=1e-6)


def test_training_finds_the_truth_among_the_peaks(tool: ModuleType) -> None:
    train, test = [trace(tool, seed) for seed in range(8)], [trace(tool, 20)]
    refiner = tool.train(train, JOINTS, 80, test)
    box = 120.0

    def wrong(poses: np.ndarray) -> float:
        return float(
            (np.linalg.norm(poses[..., :2] - test[0].truth[..., :2], axis=-1) > 0.1 * box).mean()
        )

    assert wrong(test[0].peaks[:, :, 0]) > 0.06
    assert wrong(tool.OverTime(None, refiner)(test[0].peaks, JOINTS)) < 0.01
    assert wrong(tool.OverTime()(test[0].peaks, JOINTS)) > 0.02, "smoothing alone does not"


def test_the_command(
    tool: ModuleType, dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("DETECTRON2_DATASETS", str(dataset_root))
    model = tmp_path / "tiny"
    model.mkdir()
    cfg = load_cfg(CONFIG, ["INPUT.CROP_SIZE", "(64, 64)"])
    (model / packaged.CONFIG).write_text(cfg.dump())
    torch.manual_seed(0)
    packaged.save_weights(build_model(cfg), model / packaged.WEIGHTS)
    arguments = [
        "--model", model, "--cache", tmp_path / "traces", "--backend", "torch", "--steps", 3,
        "--train", "synthetic_jhmdb_train", "--choose", "synthetic_jhmdb_test", "--check",
        "synthetic_jhmdb_test",
    ]  # fmt: skip
    assert tool.main([str(argument) for argument in arguments]) == 0
    assert (model / "refiner.safetensors").is_file() and (model / "calibration.json").is_file()
    (folder,) = (tmp_path / "traces").glob("tiny-*")  # of these weights, read so
    kept = sorted(path.name for path in folder.iterdir())
    assert kept == [
        "synthetic_jhmdb_test-degraded-0", "synthetic_jhmdb_test-plain-0",
        "synthetic_jhmdb_train-degraded-1",
    ]  # fmt: skip
    assert tool.main(["--model", "nobody", "--cache", str(tmp_path)]) == 1
    assert "nobody" in capsys.readouterr().err


def test_a_dataset_may_lack_joints_of_the_model(tool: ModuleType, tmp_path: Path) -> None:
    """JHMDB has no eyes; the packaged model's own datasets have."""
    args = tool.parse_args(["--model", "unipose_lstm_R50_res4_people", "--cache", str(tmp_path)])
    cfg = tool.model_cfg(args, "sub_jhmdb_split1_fit", True)
    assert cfg.DATASETS.TRAIN[0] == "sub_jhmdb_split1_fit" and "left_eye" in tool.joints_of(args)
    assert cfg.INPUT.AUG.OCCLUSION_PROB == 0.8
