"""Exported graphs against the models that they were made from, and folders that are refused."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from unipose_lstm.unipose import NoMemory
from video_pose.backends import graphs, runtimes
from video_pose.backends.graphs import FORMATS, compare, export_model, read_description
from video_pose.backends.pose import GraphBackend
from video_pose.engine.defaults import complete_cfg, get_pose_cfg
from video_pose.modeling.backend import PoseBackend, TorchBackend

ROOT = Path(__file__).parents[3]
CONFIG = "configs/LSTM-Pose-Machines/lstm_pm_small_synthetic_jhmdb.yaml"
MakeCfg = Callable[..., CfgNode]
MakeBackend = Callable[[CfgNode], TorchBackend]
CROP = (64, 64)
OPTIONS = ("INPUT.CROP_SIZE", CROP)


def crops(frames: int) -> torch.Tensor:
    """A dark square that moves over noise."""
    random = np.random.default_rng(0)
    images = random.integers(60, 255, (frames, 3, *CROP), dtype=np.uint8)
    for t in range(frames):
        images[t, :, 20:40, t : t + 20] = 0
    return torch.from_numpy(images)


@pytest.mark.parametrize(
    ("model", "options", "file_format"),
    [
        ("unipose_lstm", (), "openvino"),
        ("unipose_lstm", ("MODEL.UNIPOSE.LSTM.FORM", "released"), "openvino"),
        ("unipose_lstm", ("MODEL.UNIPOSE.LSTM.FORM", "released"), "onnx"),
        ("unipose_lstm", ("MODEL.META_ARCHITECTURE", "UniPose"), "openvino"),
        ("lstm_pm", (), "openvino"),
        ("lstm_pm", (), "onnx"),
        ("lstm_pm", (), "pt2"),
        ("unipose_lstm", ("MODEL.POSE.ALIGN_STATE", True), "openvino"),
        ("unipose_lstm", ("MODEL.POSE.ALIGN_STATE", True), "onnx"),
        ("lstm_pm", ("MODEL.POSE.ALIGN_STATE", True), "openvino"),
        ("lstm_pm", ("MODEL.POSE.ALIGN_STATE", True), "onnx"),
        ("lstm_pm", ("MODEL.POSE.ALIGN_STATE", True), "pt2"),
    ],
)
def test_rolling_state_stays_equal(
    pose_cfg: MakeCfg,
    build_backend: MakeBackend,
    tmp_path: Path,
    model: str,
    options: tuple[object, ...],
    file_format: str,
) -> None:
    """Exported with two rows as example; run with one and with three."""
    for package in FORMATS[file_format][1]:
        pytest.importorskip(package)
    cfg = pose_cfg(model, *OPTIONS, *options)
    reference = build_backend(cfg)
    export_model(reference.model, tmp_path, crop_size=CROP, file_format=file_format)
    exported = GraphBackend.from_folder(tmp_path, cfg, trust_programs=True)
    for rows in (1, 3):
        report = compare(reference, exported, crops(12), rows=rows)
        assert report["heatmap_max_difference"] < 1e-3
        assert report["joint_max_difference_px"] < 0.1
    maps, _ = reference.advance(*first_step(reference))
    assert maps.std() > 0.01, "the maps are flat: nothing was compared"


@torch.no_grad()
def first_step(backend: PoseBackend) -> tuple:
    images, features = backend.encode(crops(1))
    center = backend.center_map(torch.tensor([[32.0, 32.0]]), CROP, training=False)
    return features, center, backend.begin(images, features)


def test_exports_that_do_not_fit(
    pose_cfg: MakeCfg, build_backend: MakeBackend, tmp_path: Path
) -> None:
    cfg = pose_cfg("lstm_pm", *OPTIONS)
    with pytest.raises(FileNotFoundError, match="model.json is missing"):
        GraphBackend.from_folder(tmp_path, cfg)
    with pytest.raises(ValueError, match="format 'caffe': choose from openvino, onnx, pt2"):
        export_model(build_backend(cfg).model, tmp_path, crop_size=CROP, file_format="caffe")


@pytest.mark.parametrize(
    ("free", "kind", "message"),
    [
        (0, OSError, r"cannot write .*encode\.pt2: No space left on device"),
        (1 << 30, ValueError, "encode of .* does not export: basic_ios::clear: iostream error"),
    ],
)
def test_a_full_disk_says_nothing_about_the_graph(
    pose_cfg: MakeCfg, build_backend: MakeBackend, tmp_path: Path, monkeypatch, free, kind, message
) -> None:
    """OpenVINO's own words are the latter in both cases."""

    def write(*_args: object) -> None:
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setitem(graphs._WRITERS, ".pt2", write)
    monkeypatch.setattr(graphs.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    model = build_backend(pose_cfg("lstm_pm", *OPTIONS)).model
    with pytest.raises(kind, match=message):
        export_model(model, tmp_path, crop_size=CROP, file_format="pt2")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of programs, which are the fastest to write."""
    cfg = get_pose_cfg()
    cfg.merge_from_file(str(ROOT / CONFIG))
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", *OPTIONS])
    complete_cfg(cfg)
    folder = tmp_path_factory.mktemp("exported")
    export_model(build_model(cfg), folder, crop_size=CROP, file_format="pt2")
    return folder


def test_the_folder_says_what_it_is(exported: Path) -> None:
    description = json.loads((exported / "model.json").read_text())
    assert (
        description["architecture"] == "LSTMPoseMachine" and description["precision"] == "float32"
    )
    assert (description["background"], description["stride"]) == ("last", 8)
    # Penn Action's 13 joints and the neck.
    assert len(description["joints"]) == 14 and description["crop_size"] == [64, 64]
    assert description["state"] == ["heatmaps", "hidden", "cell", "fresh"]
    assert description["returned"] == ["out_heatmaps", "new_hidden", "new_cell", "new_fresh"]
    assert set(description["sha256"]) == {"encode.pt2", "begin.pt2", "advance.pt2"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.POSE.HEATMAP.BACKGROUND", "first"),
        ("MODEL.POSE.HEATMAP.DECODE_OFFSET", 0.0),
        ("INPUT.CROP_SIZE", (72, 64)),
    ],
)
def test_a_folder_of_another_codec_is_refused(
    pose_cfg: MakeCfg, exported: Path, key: str, value: object
) -> None:
    """With the background in another place, every joint would take its neighbour's map."""
    cfg = pose_cfg("lstm_pm", *OPTIONS, key, value)
    field = key.split(".")[-1].lower()
    with pytest.raises(ValueError, match=f"model.json: {field} is .*, the config has"):
        GraphBackend.from_folder(exported, cfg, trust_programs=True)


def test_programs_are_not_loaded_unless_trusted(pose_cfg: MakeCfg, exported: Path) -> None:
    cfg = pose_cfg("lstm_pm", *OPTIONS)
    with pytest.raises(ValueError, match="encode.pt2: PyTorch runs code.*--trust-programs"):
        GraphBackend.from_folder(exported, cfg)
    assert GraphBackend.from_folder(exported, cfg, trust_programs=True).joint_names


def test_a_changed_file_is_refused(pose_cfg: MakeCfg, exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(exported, folder)
    content = bytearray((folder / "advance.pt2").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "advance.pt2").write_bytes(content)
    with pytest.raises(ValueError, match="model.json: advance.pt2 has changed"):
        GraphBackend.from_folder(folder, pose_cfg("lstm_pm", *OPTIONS), trust_programs=True)
    for text, reason in (
        ("{", "Expecting"),
        ('{"version": 1}', "version 1, expected 2"),
        ("[]", ""),
    ):
        (folder / "model.json").write_text(text)
        with pytest.raises(ValueError, match=f"model.json.*: .*{reason}.*export the model again"):
            read_description(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "sha256",
            {},
            r"sha256: expected also the files \['advance.pt2', 'begin.pt2', 'encode.pt2'",
        ),
        ("sha256", None, "sha256: expected a value, got null"),
        ("sha256", {"encode.pt2": 1}, "sha256: expected also the files"),
        ("format", "pt3", "format: expected one of openvino, onnx, pt2, got .*'pt3'"),
        ("state", "ab", r"state: expected a list"),
        ("state", ["a", "a"], "state: expected names, no two of which are the same"),
        ("returned", ["out_heatmaps"], "returned: expected an output for each of"),
        ("precision", None, "precision: expected a value, got null"),
        ("joints", ["shuffled"], "joints is .*, the config has"),
    ],
)
def test_a_description_is_read_field_by_field(
    pose_cfg: MakeCfg, exported: Path, tmp_path: Path, key: str, value: object, message: str
) -> None:
    shutil.copytree(exported, tmp_path / "changed")
    path = tmp_path / "changed" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=f"model.json.*{message}"):
        GraphBackend.from_folder(path.parent, pose_cfg("lstm_pm", *OPTIONS), trust_programs=True)


def test_a_file_that_the_description_names_must_be_there(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "cut")
    (tmp_path / "cut" / "begin.pt2").unlink()
    with pytest.raises(ValueError, match="model.json: the file begin.pt2 is missing"):
        read_description(tmp_path / "cut")


def _write_onnx(path: Path, *, endless: bool = False) -> None:
    """A graph that gives its input (N, 2) back, or one that adds 1 to it for ever."""
    onnx = pytest.importorskip("onnx")
    number, make = onnx.TensorProto.FLOAT, onnx.helper
    truth, whole = onnx.TensorProto.BOOL, onnx.TensorProto.INT64
    inside = make.make_graph(
        [make.make_node("Identity", ["go"], ["on"]), make.make_node("Add", ["x", "one"], ["y"])],
        "inside",
        [make.make_tensor_value_info("i", whole, []), make.make_tensor_value_info("go", truth, []),
         make.make_tensor_value_info("x", number, None)],
        [make.make_tensor_value_info("on", truth, []),
         make.make_tensor_value_info("y", number, None)],
        [make.make_tensor("one", number, [], [1.0])],
    )  # fmt: skip
    loop = make.make_node("Loop", ["", "true", "in0"], ["out"], body=inside)
    node = loop if endless else make.make_node("Identity", ["in0"], ["out"])
    graph = make.make_graph(
        [node],
        "graph",
        [make.make_tensor_value_info("in0", number, [None, 2])],
        [make.make_tensor_value_info("out", number, None)],
        [make.make_tensor("true", truth, [], [1])],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)


def test_a_graph_without_an_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    _write_onnx(tmp_path / "good.onnx")
    graph = runtimes.load_graph(tmp_path / "good.onnx")
    with monkeypatch.context() as patch:
        # Without a loop it ends by itself, and needs no thread that watches it.
        patch.setattr(threading, "Timer", None)
        assert graph({"in0": torch.ones(1, 2)})[0].tolist() == [[1, 1]]
    _write_onnx(tmp_path / "endless.onnx", endless=True)
    monkeypatch.setattr(runtimes, "RUN_SECONDS", 0.3)
    graph = runtimes.load_graph(tmp_path / "endless.onnx")
    with pytest.raises(ValueError, match="endless.onnx does not run: it was ended after 0.3 s"):
        graph({"in0": torch.ones(1, 2)})


def test_openvinos_graphs_with_loops_are_refused(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    _write_onnx(tmp_path / "endless.onnx", endless=True)
    openvino.save_model(openvino.convert_model(tmp_path / "endless.onnx"), tmp_path / "a.xml")
    with pytest.raises(ValueError, match="a.xml: it has a Loop"):
        runtimes.load_graph(tmp_path / "a.xml")


@pytest.mark.parametrize("file_format", ["onnx", "openvino"])
def test_a_graph_of_other_shapes_names_its_file(tmp_path: Path, file_format: str) -> None:
    """As one of another model's, put into a folder with its hash."""
    path = tmp_path / "graph.onnx"
    _write_onnx(path)
    if file_format == "openvino":
        openvino = pytest.importorskip("openvino")
        openvino.save_model(openvino.convert_model(path), path.with_suffix(".xml"))
        path = path.with_suffix(".xml")
    graph = runtimes.load_graph(path)
    with pytest.raises(ValueError, match=f"{path.name} does not run: "):
        graph({"in0": torch.ones(1, 3)})


@torch.no_grad()
def test_a_state_of_another_model_is_refused(pose_cfg: MakeCfg, exported: Path) -> None:
    backend = GraphBackend.from_folder(exported, pose_cfg("lstm_pm", *OPTIONS), trust_programs=True)
    features, center, _ = first_step(backend)
    with pytest.raises(ValueError, match=r"a state of \['fresh'\] is not this model's.*begin anew"):
        backend.advance(features, center, NoMemory(torch.ones(1, 1, 1, 1)))
