"""Checkpoint files: formats, refusals and writing in one step. Joints: tests/unipose_lstm."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import KRCNNConvDeconvUpsampleHead
from detectron2.utils.file_io import PathManager
from safetensors.torch import save_file
from torch import nn

from video_pose.engine import checkpointer as module
from video_pose.engine.checkpointer import (
    PoseCheckpointer,
    carry_over_joints,
    load_for_evaluation,
    load_model,
    local_file,
    misfits,
)
from video_pose.engine.hooks import ModelEMA
from video_pose.heatmap_codec import HeatmapCodec
from video_pose.modeling.recurrent_keypoint_rcnn import RecurrentKeypointHead


class Net(nn.Module):
    """Two joints' maps, the background first."""

    def __init__(self, joints: list[str], value: float = 0.0) -> None:
        super().__init__()
        self.joint_names = joints
        self.body = nn.Conv2d(2, 4, 1)
        self.predict = nn.Conv2d(4, len(joints) + 1, 1)
        for parameter in self.parameters():
            nn.init.constant_(parameter, value)
        with torch.no_grad():  # channel c of the output holds value + c
            self.predict.bias += torch.arange(len(joints) + 1)

    def channel_labels(self, joints: list[str]) -> dict:
        labels = ["background", *joints]
        return {"predict.weight": {0: labels}, "predict.bias": {0: labels}}


class Counter:
    def __init__(self, count: int) -> None:
        self.count = count

    def state_dict(self) -> dict:
        return {"count": self.count}

    def load_state_dict(self, state: dict) -> None:
        self.count = state["count"]


def test_round_trip_of_everything(tmp_path: Path) -> None:
    old = PoseCheckpointer(Net(["a", "b"], 3.0), str(tmp_path), counter=Counter(7))
    old.save("model_0000004", iteration=4)
    new = PoseCheckpointer(Net(["a", "b"]), str(tmp_path), counter=Counter(0))
    extra = new.resume_or_load("", resume=True)
    assert new.model.predict.bias.tolist() == [3, 4, 5]
    assert new.checkpointables["counter"].count == 7
    assert extra["iteration"] == 4 and extra["joints"] == ["a", "b"]
    # Without --resume a file gives its weights alone.
    other = PoseCheckpointer(Net(["a", "b"]), str(tmp_path / "x"), counter=Counter(0))
    other.resume_or_load(str(tmp_path / "model_0000004.pth"), resume=True)
    assert other.model.predict.bias.tolist() == [3, 4, 5]
    assert other.checkpointables["counter"].count == 0


def test_what_a_checkpoint_holds(tmp_path: Path, caplog) -> None:
    """The model's own weights, or those that are given; the background where the model has one."""
    net = Net(["a", "b"], 3.0)
    saver = PoseCheckpointer(net, str(tmp_path), counter=Counter(7))
    with caplog.at_level("INFO"):
        saver.save("plain", iteration=4)
    assert f"Saving checkpoint to {tmp_path / 'plain.pth'}" in caplog.text
    plain = torch.load(tmp_path / "plain.pth")
    assert list(plain) == ["model", "counter", "joints", "iteration"]
    assert plain["counter"] == {"count": 7} and plain["joints"] == ["a", "b"]
    assert plain["iteration"] == 4 and plain["model"].keys() == net.state_dict().keys()
    assert plain["model"]["body.bias"].tolist() == [3] * 4
    net.codec = HeatmapCodec(background="last")
    saver.save("given", model=Net(["a", "b"], 8.0).state_dict(), trained_model=net.state_dict())
    given = torch.load(tmp_path / "given.pth")
    assert list(given) == ["model", "counter", "joints", "background", "trained_model"]
    assert given["background"] == "last" and given["model"]["body.bias"].tolist() == [8] * 4
    assert given["trained_model"]["body.bias"].tolist() == [3] * 4
    bare = PoseCheckpointer(nn.Linear(1, 1), str(tmp_path))  # of no pose model
    bare.save("bare")
    assert list(torch.load(tmp_path / "bare.pth")) == ["model"]
    PoseCheckpointer(net, "").save("nowhere")
    assert sorted(os.listdir(tmp_path)) == ["bare.pth", "given.pth", "last_checkpoint", "plain.pth"]


def test_a_part_of_a_checkpoint_is_loaded(tmp_path: Path, caplog) -> None:
    PoseCheckpointer(Net(["a"], 1.0), str(tmp_path), one=Counter(1), two=Counter(2)).save("x")
    for wanted, counts in ((None, [1, 2]), ([], [0, 0]), (["two"], [0, 2]), (["three"], [0, 0])):
        reader = PoseCheckpointer(Net(["a"]), one=Counter(0), two=Counter(0))
        with caplog.at_level("INFO"):
            rest = reader.load(str(tmp_path / "x.pth"), wanted)
        assert [item.count for item in reader.checkpointables.values()] == counts
        left = {"one": 1, "two": 2}.items()
        assert {key: rest[key]["count"] for key in ("one", "two") if key in rest} == {
            key: count for key, count in left if count not in counts
        }
    assert f"Loading from {tmp_path / 'x.pth'}" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):
        assert PoseCheckpointer(Net(["a"])).load("") == {}
    assert "No checkpoint: the model starts from random weights" in caplog.text


def test_other_joints_take_their_channels_by_name(tmp_path: Path) -> None:
    PoseCheckpointer(Net(["a", "b", "c"], 10.0), str(tmp_path)).save("old")
    new = Net(["c", "new", "a"])
    PoseCheckpointer(new).load(str(tmp_path / "old.pth"))
    # background 10, c 13, "new" keeps its initial 2, a 11
    assert new.predict.bias.tolist() == [10, 13, 2, 11]
    assert new.body.bias.tolist() == [10] * 4


def test_joints_that_are_carried_over_are_said(tmp_path: Path, caplog) -> None:
    """By the model's spelling; nothing is said where the joints are the same."""
    PoseCheckpointer(Net(["r_hip", "l_hip"], 10.0), str(tmp_path)).save("old")
    for joints, said in (
        (["r_hip", "l_hip"], None),
        (["right_hip", "left_hip"], None),  # other names of the same
        (["left_hip", "nose"], "['left_hip'] of ['left_hip', 'nose']"),
    ):
        caplog.clear()
        with caplog.at_level("INFO"):
            PoseCheckpointer(Net(joints)).load(str(tmp_path / "old.pth"))
        found = [r.getMessage() for r in caplog.records if "carried over" in r.getMessage()]
        assert found == ([] if said is None else [f"Joints carried over by name: {said}"])


def test_rows_and_columns_of_joints_move_together() -> None:
    """A layer from maps to maps: old joints a, b; new ones b, c, a. Its (row, column) of old value
    10 row + column; what c has is the model's own, -1. A bias, and a tensor that the file lacks."""
    model = nn.Module()
    model.joint_names = ["b", "c", "a"]
    model.maps = nn.Conv2d(3, 3, 1)
    model.other = nn.Linear(1, 3)
    model.wide = nn.Conv2d(3, 3, 3)
    names = ("gone.weight", "other.weight", "wide.weight", "maps.bias")
    model.channel_labels = lambda joints: {
        **{name: {0: joints} for name in names}, "maps.weight": {0: joints, 1: joints},
    }  # fmt: skip
    for parameter in model.parameters():
        nn.init.constant_(parameter, -1.0)
    tensors = {
        "maps.weight": torch.tensor([[0.0, 1], [10, 11]], dtype=torch.float64)[..., None, None],
        "maps.bias": torch.tensor([5.0, 6]),
        "gone.weight": torch.ones(2),
        "wide.weight": torch.ones(2, 3, 5, 5),  # of another kernel
        "free": torch.ones(1),
    }
    found = carry_over_joints(model, tensors, ["a", "b"], model.joint_names)
    expected = [[11, -1, 10], [-1, -1, -1], [1, -1, 0]]
    assert found["maps.weight"][..., 0, 0].tolist() == expected
    assert found["maps.weight"].dtype == torch.float32, "as the model has it"
    assert found["maps.bias"].tolist() == [6, -1, 5]
    assert list(found) == list(tensors)
    assert all(found[name] is tensors[name] for name in ("free", "wide.weight", "gone.weight"))
    assert model.maps.weight.unique().tolist() == [-1], "the model is not touched"
    assert tensors["maps.bias"].tolist() == [5, 6]


def test_safetensors_with_and_without_joints(tmp_path: Path) -> None:
    tensors = {key: value.contiguous() for key, value in Net(["a", "b"], 10.0).state_dict().items()}
    save_file(tensors, tmp_path / "named.safetensors", metadata={"joints": "a,b"})
    save_file(tensors, tmp_path / "bare.safetensors")
    swapped, same = Net(["b", "a"]), Net(["b", "a"])
    PoseCheckpointer(swapped).load(str(tmp_path / "named.safetensors"))
    PoseCheckpointer(same).load(str(tmp_path / "bare.safetensors"))
    assert swapped.predict.bias.tolist() == [10, 12, 11]
    assert same.predict.bias.tolist() == [10, 11, 12]  # nothing says what its channels are


def test_arrays_and_wrapped_names(tmp_path: Path) -> None:
    state = {f"module.{k}": v.numpy() for k, v in Net(["a", "b"], 10.0).state_dict().items()}
    with open(tmp_path / "x.pkl", "wb") as file:  # as Detectron2's model zoo writes them
        pickle.dump({"model": state, "__author__": "someone"}, file)
    model = Net(["a", "b"])
    PoseCheckpointer(model).load(str(tmp_path / "x.pkl"))
    assert model.predict.bias.tolist() == [10, 11, 12]


@pytest.mark.parametrize(
    "tensors",
    [
        {"fc.weight": torch.zeros(3)},
        {"body.weight": torch.zeros(9, 9, 1, 1), "predict.bias": torch.zeros(17)},  # no shape fits
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, tensors: dict) -> None:
    torch.save(tensors, tmp_path / "foreign.pth")
    with pytest.raises(ValueError, match=r"no tensor.*fits.*it has \[.*wants \['body\.weight'"):
        PoseCheckpointer(Net(["a", "b"])).load(str(tmp_path / "foreign.pth"))


def test_a_file_of_other_code_points_to_the_converter(tmp_path: Path) -> None:
    content = {"epoch": 3, "state_dict": Net(["a", "b"]).state_dict()}
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"'epoch', 'state_dict'.*convert_weights"):
        PoseCheckpointer(Net(["a", "b"])).load(str(tmp_path / "other.pth"))


def test_a_file_that_fits_in_part_is_loaded_in_part(tmp_path: Path) -> None:
    tensors = {"body.bias": torch.ones(4), "body.weight": torch.ones(5, 2, 1, 1)}
    torch.save(tensors, tmp_path / "x.pth")
    model = Net(["a", "b"])
    PoseCheckpointer(model).load(str(tmp_path / "x.pth"))
    assert model.body.bias.tolist() == [1] * 4 and model.body.weight.abs().max() == 0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth.*MODEL\.WEIGHTS"):
        PoseCheckpointer(Net(["a"])).load(str(tmp_path / "nowhere.pth"))
    (tmp_path / "last_checkpoint").write_text("gone.pth")
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        PoseCheckpointer(Net(["a"]), str(tmp_path)).resume_or_load("", resume=True)


@pytest.mark.parametrize("when", ["save", "replace"])
def test_a_kill_while_writing_leaves_the_last_checkpoint(tmp_path, monkeypatch, when: str) -> None:
    saver = PoseCheckpointer(Net(["a", "b"], 1.0), str(tmp_path))
    saver.save("model_resume")
    torch.nn.init.constant_(saver.model.body.bias, 5.0)

    def die(*_args) -> None:
        raise KeyboardInterrupt

    module, name = (torch, "save") if when == "save" else (os, "replace")
    monkeypatch.setattr(module, name, die)
    with pytest.raises(KeyboardInterrupt):
        saver.save("model_resume")
    monkeypatch.undo()
    model = Net(["a", "b"])
    PoseCheckpointer(model, str(tmp_path)).resume_or_load("", resume=True)
    assert model.body.bias.tolist() == [1.0] * 4
    saver.save("model_resume")  # and the next one works again
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_resume.pth"]


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    PoseCheckpointer(Net(["a"]), str(tmp_path), save_to_disk=False).save("x")
    assert os.listdir(tmp_path) == []


def evaluation_cfg(weights: str, folder: Path) -> CfgNode:
    return CfgNode({"MODEL": {"WEIGHTS": weights}, "OUTPUT_DIR": str(folder)})


def test_evaluation_takes_the_average_of_a_checkpoint_within_a_run(tmp_path: Path) -> None:
    model = Net(["a", "b"], 3.0)
    average = ModelEMA(model, 0.9)
    for value in average.average.values():
        value.fill_(8.0)
    PoseCheckpointer(model, str(tmp_path), average=average).save("model_0000004")
    scored = Net(["a", "b"])
    load_for_evaluation(scored, evaluation_cfg("", tmp_path), resume=True)
    assert scored.predict.bias.tolist() == [8, 8, 8]


def test_evaluation_wants_complete_weights(tmp_path: Path) -> None:
    PoseCheckpointer(Net(["a", "b"]), str(tmp_path)).save("model_final")
    cfg = evaluation_cfg(str(tmp_path / "model_final.pth"), tmp_path)
    with pytest.raises(ValueError, match=r"lacks the model's \['c'\]"):
        load_for_evaluation(Net(["a", "c"]), cfg, resume=False)
    wider = Net(["a", "b"])
    wider.extra = nn.Conv2d(2, 2, 1)
    with pytest.raises(ValueError, match="does not fit .* 2 tensors, such as .*extra.weight"):
        load_for_evaluation(wider, cfg, resume=False)
    with pytest.raises(ValueError, match="--eval-only needs MODEL.WEIGHTS"):
        load_for_evaluation(Net(["a", "b"]), evaluation_cfg("", tmp_path / "none"), resume=True)


def test_three_tensors_stand_for_what_does_not_fit(tmp_path: Path) -> None:
    """And eighty letters for a name."""
    torch.save({"model": {f"w{i}": torch.ones(1) for i in range(4)}}, tmp_path / "other.pth")
    own = r"\['body.weight', 'body.bias', 'predict.weight'\]..."
    message = rf"it has \['w0', 'w1', 'w2'\]..., the model wants {own}"
    with pytest.raises(ValueError, match=message):
        PoseCheckpointer(Net(["a"])).load(str(tmp_path / "other.pth"))
    PoseCheckpointer(Net(["a", "b"]), str(tmp_path)).save("model_final")
    wider = Net(["a", "b"])
    wider.extra = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1))
    cfg = evaluation_cfg(str(tmp_path / "model_final.pth"), tmp_path)
    with pytest.raises(ValueError, match="in 4 tensors, such as (.*)$") as error:
        load_for_evaluation(wider, cfg, resume=False)
    assert str(error.value).count("extra.") == 3
    (tmp_path / "last_checkpoint").write_text("x" * 78 + "/yz")
    with pytest.raises(ValueError, match="found 'x{78}/y'$"):
        PoseCheckpointer(Net(["a"]), str(tmp_path)).get_checkpoint_file()


def test_another_background_channel_is_refused(tmp_path: Path) -> None:
    places = ("first", "last")
    for stored, wanted in itertools.product(places, places):
        old, new = Net(["a", "b"]), Net(["a", "b"])
        old.codec, new.codec = HeatmapCodec(background=stored), HeatmapCodec(background=wanted)
        PoseCheckpointer(old, str(tmp_path)).save("model_final")
        same = contextlib.nullcontext()
        message = f"background map is '{stored}'.*'{wanted}'"
        with same if stored == wanted else pytest.raises(ValueError, match=message):
            PoseCheckpointer(new).load(str(tmp_path / "model_final.pth"))


class Payload:
    """Unpickling it would leave a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("name", ["../w.pth", "", "/etc/passwd", ".", "..", "a\0b", "a/", " \n"])
def test_last_checkpoint_names_a_file_beside_it(tmp_path: Path, name: str) -> None:
    tag = tmp_path / "last_checkpoint"
    tag.write_text(name)
    with pytest.raises(ValueError) as error:
        PoseCheckpointer(Net(["a"]), str(tmp_path)).resume()
    message = f"{tag}: expected the name of a file beside it, found {name.strip()!r}"
    assert str(error.value) == message
    tag.write_text(" x.pth\n")  # as an editor leaves it
    found = PoseCheckpointer(Net(["a"]), str(tmp_path)).get_checkpoint_file()
    assert found == str(tmp_path / "x.pth")


def test_resume_executes_nothing_and_goes_back_to_a_good_checkpoint(tmp_path: Path, caplog) -> None:
    saver = PoseCheckpointer(Net(["a"], 3.0), str(tmp_path))
    saver.save("model_0000001")
    mark = tmp_path / "ran"
    for name in ("model_0000002.pth", "model_0000003.pkl"):
        (tmp_path / name).write_bytes(pickle.dumps({"model": {}, "__author__": Payload(mark)}))
        (tmp_path / "last_checkpoint").write_text(name)
        model = Net(["a"])
        PoseCheckpointer(model, str(tmp_path)).resume()
        assert model.body.bias.tolist() == [3] * 4
        assert f"Cannot resume from {tmp_path / name}" in caplog.text
    assert not mark.exists()


def test_weights_alone_are_no_run(tmp_path: Path) -> None:
    PoseCheckpointer(Net(["a"]), str(tmp_path)).save("model_0000001")
    runner = PoseCheckpointer(Net(["a"]), str(tmp_path), optimizer=Counter(0), trainer=Counter(0))
    with pytest.raises(ValueError, match=r"no run to go on with: it lacks \['optimizer'"):
        runner.resume()


def test_an_average_that_is_not_finite_is_not_scored(tmp_path: Path) -> None:
    model = Net(["a", "b"], 3.0)
    average = ModelEMA(model, 0.9)
    average.average["body.bias"][1] = float("inf")
    PoseCheckpointer(model, str(tmp_path), average=average).save("model_0000004")
    with pytest.raises(ValueError, match="model_0000004.pth: 1 of 4 numbers of body.bias"):
        load_for_evaluation(Net(["a", "b"]), evaluation_cfg("", tmp_path), resume=True)


def test_a_state_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    saver = PoseCheckpointer(Net(["a"], 1.0), str(tmp_path))
    saver.save("good")
    saver.model.body.bias.data[2] = float("nan")
    with pytest.raises(FloatingPointError, match="bad.pth is not written: 1 of 4 numbers of body"):
        saver.save("bad")
    assert sorted(os.listdir(tmp_path)) == ["good.pth", "last_checkpoint"]
    assert (tmp_path / "last_checkpoint").read_text() == "good.pth"


def test_weights_of_an_address_that_cannot_be_reached(tmp_path: Path, monkeypatch) -> None:
    def fail(address: str) -> str:
        raise OSError("Name or service not known")

    monkeypatch.setattr(PathManager, "get_local_path", fail)
    with pytest.raises(
        OSError, match=r"MODEL.WEIGHTS detectron2://x/R-50\.pkl: https://dl\..*R-50"
    ) as error:
        PoseCheckpointer(Net(["a"])).load("detectron2://x/R-50.pkl")
    assert "without a network, download it" in str(error.value)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("no group 'a'"), "no group 'a'"),
        (KeyError("first", "second"), "first"),
        (KeyError(), ""),
        (ValueError("two\n  lines"), "two lines"),
        (ValueError("one", 2), "('one', 2)"),
        (TypeError("no number"), "no number"),
        (RuntimeError("sizes differ"), "sizes differ"),
    ],
)
def test_what_a_state_does_not_fit_is_said_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(self: Counter, state: dict) -> None:
        raise error

    PoseCheckpointer(Net(["a"]), str(tmp_path), counter=Counter(1)).save("model_0000001")
    monkeypatch.setattr(Counter, "load_state_dict", fail)
    path = str(tmp_path / "model_0000001.pth")
    with pytest.raises(ValueError) as found:
        PoseCheckpointer(Net(["a"]), counter=Counter(0)).load(path)
    assert str(found.value) == f"{path}: {said}" and found.value.__cause__ is error


def test_an_integer_is_no_weight(tmp_path: Path) -> None:
    state = {key: value.long() for key, value in Net(["a", "b"]).state_dict().items()}
    torch.save({"model": state}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth: .* is of type torch.int64, the model's is"):
        PoseCheckpointer(Net(["a", "b"])).load(str(tmp_path / "x.pth"))


def test_addresses_with_a_question(tmp_path: Path) -> None:
    """Detectron2's own is known, no other; by it names are matched by their ends."""
    PoseCheckpointer(Net(["a", "b"], 3.0), str(tmp_path)).save("x")
    path = str(tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x.pth\?a=1: unknown query 'a=1'"):
        PoseCheckpointer(Net(["a", "b"])).load(f"{path}?a=1")
    outer = nn.Module()
    outer.inner = Net(["a", "b"])
    PoseCheckpointer(outer).load(f"{path}?matching_heuristics=True")
    assert outer.inner.body.bias.tolist() == [3] * 4
    with pytest.raises(ValueError, match="no tensor of the checkpoint fits"):
        PoseCheckpointer(outer).load(path)


def test_what_a_run_needs_of_its_checkpoint(tmp_path: Path) -> None:
    """All of optimizer, schedule and trainer that it has; an optimizer's numbers, however deep, and
    the average's are finite."""
    state = {"state": {0: {"step": 1, "mean": torch.tensor([1.0, float("inf")])}}}
    good = SimpleNamespace(state_dict=lambda: {"state": {0: {"mean": torch.ones(2)}}})
    bad = SimpleNamespace(state_dict=lambda: state)
    kinds = {"optimizer": Counter(1), "scheduler": Counter(2), "trainer": Counter(3)}
    path = tmp_path / "model_0000001.pth"
    for key in kinds:
        saved = {name: item for name, item in kinds.items() if name != key}
        PoseCheckpointer(Net(["a"]), str(tmp_path), **saved).save("model_0000001")
        with pytest.raises(ValueError) as error:
            PoseCheckpointer(Net(["a"]), str(tmp_path), **kinds).resume()
        lacks = f"{path} holds weights, but no run to go on with: it lacks ['{key}']"
        assert str(error.value) == lacks
    for key in ("optimizer", "average"):
        PoseCheckpointer(Net(["a"]), str(tmp_path), **{key: bad}).save("model_0000001")
        with pytest.raises(ValueError, match=f"{path}: 1 of 2 numbers of {key}.state.0.mean"):
            PoseCheckpointer(Net(["a"]), str(tmp_path), **{key: bad}).resume()
    PoseCheckpointer(Net(["a"], 4.0), str(tmp_path), other=good).save("model_0000001")
    model = Net(["a"])
    PoseCheckpointer(model, str(tmp_path), extra=Counter(0)).resume()
    assert model.body.bias.tolist() == [4] * 4


def test_what_is_no_number_of_a_schedule_may_be_anything(tmp_path: Path) -> None:
    """A list of rates, and a key that this version does not have; zero and 1.5 are numbers."""
    old = SimpleNamespace(state_dict=lambda: {"rates": [1, None], "new": "x", "count": 1.5})
    PoseCheckpointer(Net(["a"]), str(tmp_path), scheduler=old).save("model_0000001")
    taken: list[dict] = []
    own = SimpleNamespace(
        state_dict=lambda: {"rates": [0.1], "count": 0}, load_state_dict=taken.append
    )
    PoseCheckpointer(Net(["a"]), str(tmp_path), scheduler=own).resume()
    assert taken == [old.state_dict()]
    infinite = SimpleNamespace(state_dict=lambda: {"count": float("inf")})
    PoseCheckpointer(Net(["a"]), str(tmp_path), scheduler=infinite).save("model_0000001")
    with pytest.raises(ValueError, match="1.pth: the schedule's count is inf, no number$"):
        PoseCheckpointer(Net(["a"]), str(tmp_path), scheduler=own).resume()


@pytest.mark.parametrize("average", [3, {"updates": 1}, {"average": [1]}])
def test_an_average_that_is_damaged_is_not_scored(tmp_path: Path, average: object) -> None:
    PoseCheckpointer(Net(["a"]), str(tmp_path)).save("x", average=average)
    path = str(tmp_path / "x.pth")
    with pytest.raises(ValueError, match=f"^{path}: its average of weights is damaged$"):
        load_for_evaluation(Net(["a"]), evaluation_cfg(path, tmp_path), resume=False)
    # A training starts from the weights beside it.
    assert "average" in PoseCheckpointer(Net(["a"])).load(path)


def test_which_weights_are_scored(tmp_path: Path) -> None:
    """Those that are named; with --resume the run's last ones, or where there is no run the named
    ones."""
    (tmp_path / "run").mkdir()
    PoseCheckpointer(Net(["a"], 1.0), str(tmp_path / "run")).save("model_final")
    PoseCheckpointer(Net(["a"], 2.0), str(tmp_path)).save("named")
    named = str(tmp_path / "named.pth")
    for weights, folder, resume, expected in (
        (named, "run", False, 2.0),
        (named, "run", True, 1.0),
        ("", "run", True, 1.0),
        (named, "no run", True, 2.0),
        ("", "run", False, None),
        ("", "no run", True, None),
    ):
        model = Net(["a"])
        cfg = evaluation_cfg(weights, tmp_path / folder)
        if expected is None:
            with pytest.raises(ValueError, match="^--eval-only needs MODEL.WEIGHTS, or --resume"):
                load_for_evaluation(model, cfg, resume=resume)
        else:
            load_for_evaluation(model, cfg, resume=resume)
            assert model.body.bias.tolist() == [expected] * 4


@pytest.mark.parametrize("untrained", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_a_model_without_weights_is_tested_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog, untrained: bool, named: bool
) -> None:
    monkeypatch.setattr(module, "build_model", lambda cfg: Net(["a"]))
    PoseCheckpointer(Net(["a"], 2.0), str(tmp_path)).save("named")
    cfg = evaluation_cfg(str(tmp_path / "named.pth") if named else "", tmp_path / "none")
    cfg.MODEL.META_ARCHITECTURE = "Net"
    if not untrained and not named:
        with pytest.raises(ValueError, match="needs MODEL.WEIGHTS"):
            load_model(cfg)
        return
    model = load_model(cfg, untrained=untrained)
    assert not model.training and model.body.bias.tolist() == [2.0 * named] * 4
    assert ("MODEL.WEIGHTS is empty: Net is untrained" in caplog.text) is not named


def test_weights_that_fill_a_model_in_part_are_not_scored(tmp_path: Path) -> None:
    """What lacks joints, or a tensor, or has one of another shape; a detector's likewise, but for
    layers that change nothing before they are trained."""
    path = str(tmp_path / "x.pth")
    state = Net(["a", "b"]).state_dict()
    cfg = evaluation_cfg(path, tmp_path)
    del state["body.bias"]
    state["body.weight"] = torch.zeros(1, 2, 1, 1)
    torch.save({"model": state}, path)
    with pytest.raises(ValueError) as error:
        load_for_evaluation(Net(["a", "b"]), cfg, resume=False)
    assert str(error.value) == (
        f"{path}: the checkpoint does not fit the configured model in 2 tensors, such as "
        "['body.weight', 'body.bias']"
    )
    detector = Net(["a", "b"])
    del detector.joint_names
    with pytest.raises(ValueError, match="does not fit .* in 2 tensors"):
        load_for_evaluation(detector, cfg, resume=False)
    detector.neutral_untrained = ("body.",)
    load_for_evaluation(detector, cfg, resume=False)
    torch.save({"model": Net(["a", "b"]).state_dict(), "joints": ["a", "b"]}, path)
    with pytest.raises(ValueError) as error:
        load_for_evaluation(Net(["b", "c", "d"]), cfg, resume=False)
    assert str(error.value) == (
        f"{path}: the checkpoint has joints ['a', 'b']; it lacks the model's ['c', 'd']"
    )


@pytest.fixture(params=["stock", "with a memory"])
def head_of(request) -> Callable[[int], nn.Module]:
    """head_of(K): a keypoint head in a model that does not name its joints, random."""
    memory = request.param != "stock"
    kind = RecurrentKeypointHead if memory else KRCNNConvDeconvUpsampleHead

    def build(joints: int) -> nn.Module:
        net = nn.Module()
        net.head = kind(ShapeSpec(channels=4), num_keypoints=joints, conv_dims=[4])
        for parameter in net.parameters():
            nn.init.normal_(parameter)
        return net

    return build


def test_joints_of_an_rcnn_take_their_channels_by_name(head_of, tmp_path: Path, caplog) -> None:
    """The logits of a joint are those that the checkpoint's model gives it, wherever it stands."""
    old, new = head_of(3), head_of(4)
    PoseCheckpointer(old, str(tmp_path), joints=["r_hip", "knee", "ankle"]).save("old")
    own = ["ankle", "toe", "right_hip", "knee"]
    with caplog.at_level("INFO"):
        PoseCheckpointer(new, joints=own).load(str(tmp_path / "old.pth"))
    assert f"Joints carried over by name: ['ankle', 'right_hip', 'knee'] of {own}" in caplog.text
    x = torch.randn(2, 4, 6, 6)
    expected, found = old.head.score_lowres(x), new.head.score_lowres(x)
    assert torch.allclose(found[:, [2, 3, 0]], expected, atol=1e-6)
    if hasattr(old.head, "correct"):
        assert torch.allclose(
            new.head.correct.bias[[2, 3, 0]], old.head.correct.bias
        ) and torch.allclose(new.head.correct.weight[:, [2, 3, 0]], old.head.correct.weight)
        width = old.head.reduce.out_channels
        for gate, convolution in old.head.cell.x.items():
            other = new.head.cell.x[gate].weight
            order = [*range(width), width + 2, width + 3, width]
            assert torch.equal(other[:, order], convolution.weight)


def test_weights_that_do_not_say_their_joints_are_taken_as_they_are(
    head_of, tmp_path: Path, caplog
) -> None:
    torch.save({"model": head_of(2).state_dict()}, tmp_path / "x.pth")
    said = "The weights do not say their joints: taken for ['a', 'b'], in this order"
    with caplog.at_level("INFO"):
        PoseCheckpointer(head_of(2), joints=["a", "b"]).load(str(tmp_path / "x.pth"))
    assert said in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):  # no channel of a joint fits
        PoseCheckpointer(head_of(3), joints=["a", "b", "c"]).load(str(tmp_path / "x.pth"))
    assert "do not say their joints" not in caplog.text


def test_a_run_goes_on_with_its_joints_in_their_order(tmp_path: Path) -> None:
    """Optimizer and average go by channel."""
    PoseCheckpointer(Net(["r_hip", "b"], 3.0), str(tmp_path)).save("model_0000001")
    with pytest.raises(ValueError, match=r"run with the joints \['r_hip', 'b'\], and MODEL.POSE"):
        PoseCheckpointer(Net(["b", "r_hip"]), str(tmp_path)).resume()
    model = Net(["right_hip", "b"])  # another spelling
    PoseCheckpointer(model, str(tmp_path)).resume()
    assert model.predict.bias.tolist() == [3, 4, 5]


def test_each_misfit_is_counted_once() -> None:
    result = SimpleNamespace(
        missing_keys=["a", "b"], incorrect_shapes=[("b", (1,), (2,)), ("c", (1,), (2,))]
    )
    assert misfits(result) == ["a", "b", "c"]


def test_files_and_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pth").touch()
    assert local_file("x.pth") == "x.pth"
    for absent in ("y.pth", str(tmp_path)):  # a folder is none
        with pytest.raises(FileNotFoundError) as error:
            local_file(absent)
        assert str(error.value) == (
            f"checkpoint {absent!r} (MODEL.WEIGHTS, or last_checkpoint of OUTPUT_DIR with "
            f"--resume) does not exist; working directory: {tmp_path}"
        )
    monkeypatch.setattr(PathManager, "get_local_path", lambda address: Path("/cache") / address[4:])
    assert local_file("a://x.pth") == "/cache/x.pth"


@pytest.mark.parametrize("value", [float("nan"), "7", None, True, [1]])
def test_a_schedule_whose_numbers_are_none_is_passed_over(tmp_path: Path, value: object) -> None:
    saver = PoseCheckpointer(Net(["a"], 1.0), str(tmp_path), scheduler=Counter(4))
    saver.save("model_0000001")
    saver.checkpointables["scheduler"].count = value
    saver.save("model_0000002")
    again = PoseCheckpointer(Net(["a"]), str(tmp_path), scheduler=Counter(0))
    again.resume()
    assert again.checkpointables["scheduler"].count == 4


def test_an_earlier_run_is_set_aside_under_a_number_of_its_own(tmp_path: Path, caplog) -> None:
    for number in (1, 2):
        saver = PoseCheckpointer(Net(["a"], float(number)), str(tmp_path))
        saver.save("model_0000003")
        saver.save("other")
        saver.set_aside()
        place = tmp_path / f"earlier-{number}"
        assert sorted(os.listdir(place)) == ["last_checkpoint", "model_0000003.pth"]
        assert f"its checkpoints are in {place}" in caplog.text
    assert sorted(os.listdir(tmp_path)) == ["earlier-1", "earlier-2", "other.pth"]
    caplog.clear()
    PoseCheckpointer(Net(["a"]), str(tmp_path)).set_aside()
    PoseCheckpointer(Net(["a"]), "").set_aside()
    PoseCheckpointer(Net(["a"]), str(tmp_path / "earlier-1"), save_to_disk=False).set_aside()
    assert not caplog.text and len(os.listdir(tmp_path / "earlier-1")) == 2


def test_the_newest_good_one_is_gone_back_to(tmp_path: Path, caplog) -> None:
    saver = PoseCheckpointer(Net(["a"], 1.0), str(tmp_path))
    for number, age in ((1, 30), (2, 10), (3, 20)):
        torch.nn.init.constant_(saver.model.body.bias, float(number))
        saver.save(f"model_000000{number}")
        path = tmp_path / f"model_000000{number}.pth"
        os.utime(path, (1e9 - age, 1e9 - age))
    (tmp_path / "model_0000003.pth").write_bytes(b"cut")
    model = Net(["a"])
    PoseCheckpointer(model, str(tmp_path)).resume()
    assert model.body.bias.tolist() == [2] * 4
    assert f"Going back to {tmp_path / 'model_0000002.pth'}, the newest good" in caplog.text
    for number in (1, 2):
        (tmp_path / f"model_000000{number}.pth").write_bytes(b"cut")
    with pytest.raises(ValueError, match="model_0000003.pth"):
        PoseCheckpointer(model, str(tmp_path)).resume()


def test_kernels_of_another_size_are_left_as_they_are(tmp_path: Path) -> None:
    """The file's 3 x 3 maps of joints fit no 1 x 1; channels that are no joints' are named."""
    other = Net(["a", "b"], 5.0)
    other.predict = nn.Conv2d(4, 3, 3)
    PoseCheckpointer(other, str(tmp_path)).save("wide")
    model = Net(["b", "a"], 1.0)
    PoseCheckpointer(model).load(str(tmp_path / "wide.pth"))
    assert model.predict.weight.unique().tolist() == [1] and model.body.bias.tolist() == [5] * 4
    for count in (2, 5):  # of three
        other.predict = nn.Conv2d(4, count, 1)
        PoseCheckpointer(other, str(tmp_path)).save("few")
        words = rf"has {count} channels in dimension 0, but its joints \['a', 'b'\] make 3"
        with pytest.raises(ValueError, match=words):
            PoseCheckpointer(Net(["b", "a"])).load(str(tmp_path / "few.pth"))


@pytest.mark.parametrize("prefix", ["", "backbone.", "backbone.bottom_up."])
@pytest.mark.parametrize("own", ["", "backbone.", "backbone.bottom_up."])
def test_backbones_are_found_wherever_they_lie(tmp_path: Path, prefix: str, own: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            place = self
            for name in own.split(".")[:-1]:
                setattr(place, name, nn.Module())
                place = getattr(place, name)
            place.stem = nn.Linear(2, 2)
            self.head = nn.Linear(2, 3)

    torch.save({f"module.{prefix}stem.weight": torch.full((2, 2), 7.0)}, tmp_path / "x.pth")
    model = Model()
    PoseCheckpointer(model).load(str(tmp_path / "x.pth"))
    assert model.state_dict()[f"{own}stem.weight"].unique().tolist() == [7]
