"""The recurrent part on cached maps: the same losses as on images, and a whole small study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from video_pose.data.build import build_pose_train_loader

Config = Callable[..., CfgNode]


@pytest.fixture(scope="module")
def tool(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("tools/time_study.py")


@pytest.fixture
def encoder(tiny_cfg: Config, tmp_path: Path) -> str:
    torch.manual_seed(0)
    path = tmp_path / "encoder.pth"
    torch.save({"model": build_model(tiny_cfg("UniPose")).state_dict()}, path)
    return str(path)


def _cached(tool: ModuleType, cfg: CfgNode, folder: Path, views: int) -> tuple[list, dict]:
    cache = tool.MapCache(tool.encoder_config(cfg), folder)
    return [cache.train("synthetic_jhmdb_train", v) for v in range(views)], cache.test(
        "synthetic_jhmdb_test"
    )


def test_maps_give_the_losses_and_poses_of_images(
    tool: ModuleType, tiny_cfg: Config, encoder: str, datasets: Path, tmp_path: Path
) -> None:
    cfg = tiny_cfg("UniPoseLSTM", "MODEL.WEIGHTS", encoder, "MODEL.POSE.ENCODER", "freeze")
    cfg.INPUT.AUG.SCALE_RANGE, cfg.INPUT.AUG.ROTATION = (1.0, 1.0), 0.0
    cfg.INPUT.AUG.FLIP_PROB = 0.0
    cfg.MODEL.UNIPOSE.LSTM.RESIDUAL = True
    views, test = _cached(tool, cfg, tmp_path / "maps", 1)
    tool.study.register_view(views, test, cfg)
    whole = build_model(cfg)
    whole.load_state_dict(torch.load(encoder)["model"], strict=False)
    run = tool.study.Run("residual", cfg.INPUT.CLIP.LENGTH, cfg.SEED, (0,))
    on_maps_cfg = tool.study.run_config(cfg, run, tmp_path, 6)
    part = build_model(on_maps_cfg)
    part.load_state_dict(whole.state_dict(), strict=False)
    loader = tool.study.VIEWS.get("maps")().build_train_loader(on_maps_cfg, 0)
    maps, images = next(iter(loader)), next(iter(build_pose_train_loader(cfg)))
    assert [clip["video_id"] for clip in maps] == [clip["video_id"] for clip in images]
    # The same frames: one draws its view first, so that starts differ; take the images' frames.
    for one, other in zip(maps, images):
        stored = views[0][one["video_id"], one["track_id"]]
        frames = other["frame_indices"]
        one.update({key: stored[key][frames] for key in ("image", "keypoints", "center")})
        one["image"] = one["image"].float()
        one["is_padding"] = other["is_padding"]
        torch.testing.assert_close(one["keypoints"], other["keypoints"])
    loss, expected = (
        model.train()(batch)["loss_heatmap"] for model, batch in ((part, maps), (whole, images))
    )
    # Folded norms and maps in half precision.
    assert loss.item() == pytest.approx(expected.item(), rel=5e-3)
    loss.backward()
    assert all(p.grad is not None for p in part.parameters())
    assert not any(name.startswith(("backbone", "wasp", "decoder")) for name in part.state_dict())


def test_augmented_views_are_fixed_and_differ(
    tool: ModuleType, tiny_cfg: Config, encoder: str, datasets: Path, tmp_path: Path
) -> None:
    cfg = tiny_cfg("UniPoseLSTM", "MODEL.WEIGHTS", encoder)
    (plain, turned), test = _cached(tool, cfg, tmp_path / "maps", 2)
    key = next(iter(plain))
    count = len(plain[key]["keypoints"])
    assert plain[key]["image"].shape[::2] == (count, 8) and plain[key]["image"].dtype == torch.half
    assert not torch.allclose(plain[key]["keypoints"], turned[key]["keypoints"])
    assert "keypoints" not in next(iter(test.values()))
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "maps").iterdir()}
    (_, again), _ = _cached(tool, cfg, tmp_path / "maps", 2)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "maps").iterdir()} == files
    torch.testing.assert_close(again[key]["keypoints"], turned[key]["keypoints"])
    cfg.SEED = 2
    (_, other), _ = _cached(tool, cfg, tmp_path / "maps", 2)
    assert not torch.allclose(other[key]["keypoints"], turned[key]["keypoints"])


def test_a_whole_study(
    tool: ModuleType, tiny_cfg: Config, encoder: str, datasets: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    amp = ("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.PRECISION", "bfloat16")
    config.write_text(tiny_cfg("UniPoseLSTM", *amp).dump())
    command = ["--config-file", str(config), "--encoder", encoder]
    command += ["--output", str(tmp_path / "study"), "--views", "1", "--lengths", "1", "2"]
    command += ["--forms", "residual", "released", "--other-forms-at", "2", "--resets", "0", "2"]
    command += ["--steps", "2", "--frames-per-step", "4", "--protocols", "torso"]
    text = tool.main(command)
    lines = [line.split("|") for line in text.splitlines() if line.startswith("|")]
    got = [tuple(cell.strip() for cell in line[1:5]) for line in lines[2:]]
    expected = [("frame by frame", "1", "", "none")]
    for form, frames, resets in (("residual", 1, 3), ("residual", 2, 2), ("released", 2, 2)):
        states = ["carried", "reset every 2", "reset every 1"][:resets]
        expected += [(form, str(frames), "1", state) for state in states]
    assert got == expected
    assert (tmp_path / "study" / "time.png").stat().st_size > 1000
    predictions = sorted((tmp_path / "study").rglob("predictions.npz"))
    assert len(predictions) == len(expected)
    stamps = [path.stat().st_mtime_ns for path in predictions]
    assert tool.main(command) == text
    assert [path.stat().st_mtime_ns for path in predictions] == stamps
    with pytest.raises(ValueError, match="another --steps and another configuration: name"):
        tool.main([*command, "--steps", "3"])
    with pytest.raises(ValueError, match="another configuration"):
        tool.main([*command, "--opts", "SOLVER.BASE_LR", "0.1"])
    # Every training starts from the single frames' of its form.
    starts = sorted(
        path.parent.name for path in (tmp_path / "study").glob("*_start/model_final.pth")
    )
    assert starts == ["released_T1_seed1_start", "residual_T1_seed1_start"]
    # Dropping the state every second frame is another result than carrying it.
    carried, dropped = (
        np.load(tmp_path / "study" / "residual_T2_seed1" / f"reset{n}" / "inference"
                / "synthetic_jhmdb_test" / "predictions.npz")["predictions"][..., 2]
        for n in (0, 2)
    )  # fmt: skip
    assert not np.array_equal(carried, dropped)


def test_unknown_form(tool: ModuleType) -> None:
    with pytest.raises(ValueError, match="residual"):
        tool.study.plan_runs(["rnn"], [1], [0], 5, [1])


def test_a_training_starts_from_single_frames(
    tool: ModuleType, tiny_cfg: Config, encoder: str, datasets: Path, tmp_path: Path
) -> None:
    cfg = tiny_cfg("UniPoseLSTM", "MODEL.WEIGHTS", encoder, "SOLVER.MAX_ITER", 1)
    views, test = _cached(tool, cfg, tmp_path / "maps", 1)
    tool.study.register_view(views, test, cfg)
    cfg.SOLVER.BASE_LR = 0.0  # what is loaded stays
    study = tool.study
    list(study.train_and_test(cfg, study.Run("residual", 2, 1, ()), tmp_path, 4))
    list(study.train_and_test(cfg, study.Run("residual", 2, 2, ()), tmp_path, 4))

    def weight(name: str) -> torch.Tensor:
        return torch.load(tmp_path / name / "model_final.pth")["model"]["head.0.weight"]

    first, second = weight("residual_T2_seed1"), weight("residual_T2_seed2")
    assert not torch.equal(first, second)
    path = tmp_path / "residual_T1_seed1_start" / "model_final.pth"
    stored = torch.load(path)
    stored["model"]["head.0.weight"] += 1
    stored.get("average", {}).clear()
    torch.save(stored, path)
    list(study.train_and_test(cfg, study.Run("residual", 3, 1, ()), tmp_path, 4))
    assert torch.equal(weight("residual_T3_seed1"), first + 1)
    # Initial weights are the seed's, whatever was trained before.
    other = tmp_path / "other"
    list(study.train_and_test(cfg, study.Run("residual", 2, 2, ()), other, 4))
    assert torch.equal(weight("other/residual_T2_seed2"), second)


def test_trainings_of_unknown_settings_are_not_adopted(
    tool: ModuleType, tiny_cfg: Config, encoder: str, tmp_path: Path
) -> None:
    cfg = tiny_cfg("UniPoseLSTM", "MODEL.WEIGHTS", encoder)
    (tmp_path / "study" / "residual_T1_seed1").mkdir(parents=True)
    with pytest.raises(ValueError, match="without study.json, such as residual_T1_seed1"):
        tool.study.require_same_study(cfg, tmp_path / "study", {"--steps": 1})
