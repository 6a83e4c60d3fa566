"""tools/refit_norms.py: the same function, with the statistics of the data."""

from __future__ import annotations

from pathlib import Path

import pytest
import refit_norms as tool
import torch
from detectron2.layers import FrozenBatchNorm2d

from video_pose.inference.predictor import load_cfg, load_model

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs/UniPose-LSTM/unipose_R50_res4_sub_jhmdb_split1.yaml")
SMALL = [
    "MODEL.WEIGHTS", "", "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64,
    "INPUT.CROP_SIZE", "(64, 64)", "MODEL.POSE.JOINTS", "['left_wrist', 'right_wrist']",
]  # fmt: skip


def small_model(*options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return load_model(load_cfg(CONFIG, [*SMALL, *options]))


def batches() -> list[list[dict[str, torch.Tensor]]]:
    generator = torch.Generator().manual_seed(1)
    clips = torch.randint(0, 255, (2, 4, 1, 3, 64, 64), generator=generator, dtype=torch.uint8)
    return [[{"image": clip} for clip in batch] for batch in clips]


@torch.no_grad()
def test_statistics_change_and_what_is_computed_does_not() -> None:
    model = small_model()
    images = model.normalize(torch.cat([clip["image"] for batch in batches() for clip in batch]))
    before = model.encode(images)
    stem = model.backbone.stem.conv1
    largest = tool.refit(model, batches())
    assert largest > 2  # ImageNet's statistics are not in random weights
    torch.testing.assert_close(model.encode(images), before, rtol=1e-3, atol=1e-4)
    seen = torch.nn.functional.conv2d(images, stem.weight, stride=2, padding=3)
    torch.testing.assert_close(stem.norm.running_mean, seen.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        stem.norm.running_var, seen.var((0, 2, 3), correction=0), rtol=1e-3, atol=1e-4
    )

    # In the model whose norms take the batch's statistics, that batch comes out the same.
    trained = small_model("MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", 0)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in trained.backbone.modules())
    trained.load_state_dict(model.state_dict(), strict=False)
    trained.backbone.train()
    torch.testing.assert_close(trained.encode(images), before, rtol=1e-2, atol=1e-3)


def test_the_file_is_a_checkpoint_with_the_models_joints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tool, "build_pose_train_loader", lambda cfg: iter(batches()))
    path = tmp_path / "new" / "refitted.pth"
    options = [str(option) for option in SMALL]
    arguments = ["--config-file", CONFIG, "--output", str(path), "--batches", "2", *options]
    assert tool.main(arguments) == 0
    assert f"wrote {path}; standard deviations differed by a factor of up to" in (
        capsys.readouterr().out
    )
    assert [file.name for file in path.parent.iterdir()] == ["refitted.pth"]
    stored = torch.load(path, weights_only=True)
    assert stored["joints"] == ["left_wrist", "right_wrist"]
    model = small_model("MODEL.WEIGHTS", str(path))
    name = "backbone.stem.conv1.norm.running_mean"
    torch.testing.assert_close(model.state_dict()[name], stored["model"][name])
    # A model with batch norm takes the file whole, though Detectron2 froze its first norms.
    trained = small_model("MODEL.WEIGHTS", str(path), "MODEL.RESNETS.NORM", "BN")
    torch.testing.assert_close(trained.state_dict()[name], stored["model"][name])
    assert tool.main(arguments) == 1 and "must be a new file" in capsys.readouterr().err


@pytest.mark.usefixtures("datasets")
def test_statistics_are_of_all_training_data_that_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that is not registered is an error, as in training; without it clips are read."""
    path = tmp_path / "refitted.pth"
    options = [*map(str, SMALL), "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"]
    for train, status in (("'misspelt_train', ", 1), ("", 0)):
        named = f"('synthetic_jhmdb_train', {train})"
        arguments = ["--config-file", CONFIG, "--output", str(path), "--batches", "1", *options]
        assert tool.main([*arguments, "DATASETS.TRAIN", named, "DATASETS.TEST", "()"]) == status
        error = capsys.readouterr().err
        assert error.startswith("error: dataset 'misspelt_train' is not registered") is bool(train)
        assert path.exists() is not bool(train)


def test_a_model_without_frozen_norms_is_refused() -> None:
    model = small_model("MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", 0)
    assert not any(isinstance(m, FrozenBatchNorm2d) for m in model.modules())
    with pytest.raises(ValueError, match="not all norms of the backbone are frozen"):
        tool.refit(model, batches())
    # Detectron2 freezes the first ones of such a model.
    with pytest.raises(ValueError, match="not all norms of the backbone are frozen"):
        tool.refit(small_model("MODEL.RESNETS.NORM", "BN"), batches())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--config-file", CONFIG, "--output", "a.safetensors"], "must be a new file"),
        (["--config-file", CONFIG, "--output", "a.pth", "--batches", "0"], "--batches 1 or more"),
        (["--config-file", str(ROOT / "configs/Mask-RCNN/person_detector_R18_FPN.yaml"),
          "--output", "a.pth"], "is no pose model"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(arguments) == 1
    assert told in capsys.readouterr().err
