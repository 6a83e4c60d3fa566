"""From image to video model, from skeleton to skeleton, from a bare backbone: exact values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from video_pose.engine.checkpointer import PoseCheckpointer

# Same names in another order, one dropped, one new.
OLD = ["head", "neck", "right_hip", "left_hip"]
NEW = ["left_hip", "pelvis", "right_hip", "head"]
BACKGROUND, JOINTS = "MODEL.POSE.HEATMAP.BACKGROUND", "MODEL.POSE.JOINTS"
# Channel of the new model -> channel of the old one, without background.
MOVES = {0: 3, 2: 2, 3: 0}


def model_of(tiny_cfg, architecture: str, joints: list[str], *options: Any, seed: int) -> nn.Module:
    """A model with random values throughout; datasets are left out, since none has such joints."""
    cfg = tiny_cfg(
        architecture, JOINTS, joints, "DATASETS.TRAIN", (), "DATASETS.TEST", (), *options
    )
    model = build_model(cfg)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator))
    return model


def hand_over(old: nn.Module, new: nn.Module, folder) -> tuple[dict, dict, dict]:
    """State dicts of the old model, and of the new one before and after loading."""
    PoseCheckpointer(old, str(folder), save_to_disk=True).save("old")
    before = {key: value.clone() for key, value in new.state_dict().items()}
    PoseCheckpointer(new).load(str(folder / "old.pth"))
    return old.state_dict(), before, new.state_dict()


@pytest.mark.parametrize("form", ["paper", "released"])
def test_an_image_model_starts_a_video_model(tiny_cfg, tmp_path, form: str) -> None:
    old = model_of(tiny_cfg, "UniPose", OLD, seed=1)
    new = model_of(tiny_cfg, "UniPoseLSTM", OLD, "MODEL.UNIPOSE.LSTM.FORM", form, seed=2)
    source, before, after = hand_over(old, new, tmp_path)
    for name, value in after.items():
        expected = source[name] if name in source else before[name]
        assert torch.equal(value, expected), name
    assert any(name.startswith("cell.") for name in set(after) - set(source))


@pytest.mark.parametrize("background", ["first", "last", "none"])
def test_an_image_models_channels_follow_their_joints(tiny_cfg, tmp_path, background: str) -> None:
    old = model_of(tiny_cfg, "UniPose", OLD, BACKGROUND, background, seed=1)
    new = model_of(tiny_cfg, "UniPoseLSTM", NEW, BACKGROUND, background, seed=2)
    source, before, after = hand_over(old, new, tmp_path)
    first = int(background == "first")
    moves = {new_c + first: old_c + first for new_c, old_c in MOVES.items()}
    if background != "none":
        moves[0 if first else 4] = 0 if first else 4
    for name in ("decoder.predict.weight", "decoder.predict.bias"):
        for channel in range(len(after[name])):
            if channel in moves:
                assert torch.equal(after[name][channel], source[name][moves[channel]])
            else:  # the pelvis keeps its initial values
                assert torch.equal(after[name][channel], before[name][channel])
    assert torch.equal(after["backbone.stem.conv1.weight"], source["backbone.stem.conv1.weight"])


@pytest.mark.parametrize("form", ["paper", "released"])
def test_a_video_models_channels_follow_their_joints(tiny_cfg, tmp_path, form: str) -> None:
    key = "MODEL.UNIPOSE.LSTM.FORM"
    old = model_of(tiny_cfg, "UniPoseLSTM", OLD, key, form, seed=1)
    new = model_of(tiny_cfg, "UniPoseLSTM", NEW, key, form, seed=2)
    source, before, after = hand_over(old, new, tmp_path)
    # Background first: maps are [background, joints]; a block of 5 for the decoder's maps, in the
    # paper's form one for the previous maps, then the centre map.
    maps = {0: 0} | {n + 1: o + 1 for n, o in MOVES.items()}
    blocks = (0, 5) if form == "paper" else (0,)
    inner = {n + block: o + block for block in blocks for n, o in maps.items()}
    inner[5 * len(blocks)] = 5 * len(blocks)
    cells = ["cell.x", "cell.h"] if form == "paper" else ["cell.x", "cell.h", "first_cell.x"]
    gates = [name for name in after if name.startswith(tuple(cells)) and name.endswith("weight")]
    assert len(gates) == (8 if form == "paper" else 11)
    for name in gates:
        for row in range(len(after[name])):
            for column in range(after[name].shape[1]):
                known = row in inner and column in inner
                expected = (
                    source[name][inner[row], inner[column]] if known else before[name][row, column]
                )
                assert torch.equal(after[name][row, column], expected), (name, row, column)
        bias = name.replace("weight", "bias")
        for row in range(len(after[bias])):
            expected = source[bias][inner[row]] if row in inner else before[bias][row]
            assert after[bias][row] == expected
    first, *_, last = (f"head.{i}.weight" for i in range(0, 9, 2))
    for column in range(after[first].shape[1]):
        expected = source[first][:, inner[column]] if column in inner else before[first][:, column]
        assert torch.equal(after[first][:, column], expected)
    for row in range(len(after[last])):
        expected = source[last][maps[row]] if row in maps else before[last][row]
        assert torch.equal(after[last][row], expected)


def test_other_gates_or_no_shared_joint_leave_the_initial_values(tiny_cfg, tmp_path) -> None:
    old = model_of(tiny_cfg, "UniPoseLSTM", ["a", "b"], "MODEL.UNIPOSE.LSTM.KERNEL", 5, seed=1)
    new = model_of(tiny_cfg, "UniPoseLSTM", ["c", "d"], seed=2)
    source, before, after = hand_over(old, new, tmp_path)
    assert torch.equal(after["cell.x.g.weight"], before["cell.x.g.weight"])
    assert torch.equal(after["decoder.predict.bias"][1:], before["decoder.predict.bias"][1:])
    assert after["decoder.predict.bias"][0] == source["decoder.predict.bias"][0]  # background


def test_a_checkpoint_that_contradicts_its_joints_is_refused(tiny_cfg, tmp_path) -> None:
    old = model_of(tiny_cfg, "UniPose", OLD, seed=1)
    old.joint_names = OLD[:3]
    with pytest.raises(ValueError, match=r"decoder\.predict\.weight has 5 channels.*make 4"):
        hand_over(old, model_of(tiny_cfg, "UniPose", NEW, seed=2), tmp_path)


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.backbone.", "backbone.bottom_up."])
def test_a_bare_backbone_loads_under_any_usual_prefix(tiny_cfg, tmp_path, prefix: str) -> None:
    old = model_of(tiny_cfg, "UniPose", OLD, seed=1).backbone
    new = model_of(tiny_cfg, "UniPose", OLD, seed=2)
    path = tmp_path / "backbone.pth"
    torch.save({prefix + key: value for key, value in old.state_dict().items()}, path)
    before = {key: value.clone() for key, value in new.state_dict().items()}
    PoseCheckpointer(new).load(str(path))
    for name, value in new.state_dict().items():
        source = old.state_dict().get(name.removeprefix("backbone."), before[name])
        assert torch.equal(value, before[name] if not name.startswith("backbone.") else source)
