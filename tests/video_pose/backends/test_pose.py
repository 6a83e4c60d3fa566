"""The choice of a backend, its cache, and that evaluation and streaming share it."""

from __future__ import annotations

import copy
import errno
import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from video_pose.backends import cache, pose
from video_pose.backends.graphs import export_model
from video_pose.backends.pose import GraphBackend, build_backend, build_tested
from video_pose.backends.quantize import quantize_encoder
from video_pose.data.clip_mapper import build_pose_mapper
from video_pose.data.synthetic.scene import render_scene
from video_pose.engine.defaults import complete_cfg, get_pose_cfg
from video_pose.evaluation.pck import count_hits, normalised_distances, pixel_distances
from video_pose.inference import PredictorSettings, VideoPosePredictor
from video_pose.inference.frames import Frame
from video_pose.inference.people import KnownPeople, Person
from video_pose.inference.streaming import StreamingPosePredictor
from video_pose.modeling.backend import (
    ClipInference,
    PoseBackend,
    TorchBackend,
    image_peaks,
    run_chunk,
)
from video_pose.modeling.sequences import OverTime, SequenceRefiner
from video_pose.modeling.states import TrackStates, append_rows
from video_pose.modeling.video_pose_net import VideoPoseNet

ROOT = Path(__file__).parents[3]
CONFIG = "configs/quickstart/unipose_lstm_R18_synthetic_jhmdb.yaml"
CROP = (64, 64)
OPTIONS = ("INPUT.CROP_SIZE", CROP)
ENGINES = ["torch", "openvino", "onnx"]
MakeCfg = Callable[..., CfgNode]
MakeBackend = Callable[[CfgNode], TorchBackend]


@pytest.fixture(scope="module")
def cfg() -> CfgNode:
    cfg = get_pose_cfg()
    cfg.merge_from_file(str(ROOT / CONFIG))
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "INPUT.CROP_SIZE", CROP])
    complete_cfg(cfg)
    return cfg


@pytest.fixture(scope="module")
def model(cfg: CfgNode) -> VideoPoseNet:
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    for name, parameter in model.named_parameters():
        if name.startswith(("head", "decoder.predict")):
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture(scope="module", params=ENGINES)
def backend(request: pytest.FixtureRequest, cfg: CfgNode, model: VideoPoseNet) -> PoseBackend:
    """The same small network by every engine."""
    if request.param != "torch":
        pytest.importorskip({"onnx": "onnxruntime"}.get(request.param, request.param))
    return build_backend(cfg, model, request.param)


def frames(count: int) -> torch.Tensor:
    """Noise with a dark square that moves."""
    images = np.random.default_rng(0).integers(60, 255, (count, 3, *CROP), dtype=np.uint8)
    for t in range(count):
        images[t, :, 20:40, t : t + 20] = 0
    return torch.from_numpy(images)


def chunk_maps(backend: PoseBackend, cuts: list[int], count: int) -> torch.Tensor:
    """Heatmaps of a track that arrives in chunks."""
    images, states, found = frames(count), TrackStates(), []
    centers = torch.full((1, count, 2), 32.0)
    for start, end in zip(cuts, cuts[1:]):
        clip = {
            "video_id": "v", "track_id": "0", "is_first": start == 0, "is_last": end == count,
            "frame_indices": torch.arange(start, end),
        }  # fmt: skip
        part = images[None, start:end], centers[:, start:end]
        found.append(run_chunk(backend, states, clip, *part)[0])
    return torch.cat(found)


@torch.no_grad()
def test_chunks_change_nothing_within_a_backend(backend: PoseBackend, model: VideoPoseNet) -> None:
    whole = chunk_maps(backend, [0, 11], 11)
    assert torch.equal(chunk_maps(backend, [*range(12)], 11), whole)
    assert torch.equal(chunk_maps(backend, [0, 3, 10, 11], 11), whole)
    plain = chunk_maps(TorchBackend(model), [0, 11], 11)
    assert whole.std() > 0.01, "the maps are flat: nothing was compared"
    torch.testing.assert_close(whole, plain, atol=1e-3, rtol=0)


@torch.no_grad()
def test_people_who_share_a_batch(backend: PoseBackend) -> None:
    """A second row of another age changes a row by rounding alone."""
    images = frames(3)
    centers = backend.center_map(torch.full((3, 2), 32.0), CROP, training=False)
    prepared, features = backend.encode(images)
    _, alone = backend.advance(features[:1], centers[:1], backend.begin(prepared[:1], features[:1]))
    fresh = backend.begin(prepared[2:], features[2:])
    both, _ = backend.advance(features[1:], centers[1:], append_rows([alone, fresh]))
    first, _ = backend.advance(features[1:2], centers[1:2], alone)
    second, _ = backend.advance(features[2:], centers[2:], fresh)
    torch.testing.assert_close(both, torch.cat([first, second]), atol=1e-5, rtol=1e-4)


class ComingAndGoing(KnownPeople):
    """One person on all frames, another on 2 to 4: fresh and old rows share a batch."""

    independent = False

    def propose(self, frame: Frame) -> list[Person]:
        box = np.array([10.0, 10, 90, 110])
        people = [Person(0, box, box), Person(1, box + 40, box + 40)]
        return people if 2 <= frame.index <= 4 else people[:1]


def test_streaming_by_every_backend(
    backend: PoseBackend, model: VideoPoseNet, cfg: CfgNode
) -> None:
    scene = render_scene(3, frames=6, size=(160, 120))
    pictures = [Frame(i, i / 25, image) for i, image in enumerate(scene.frames)]
    results = [
        list(
            StreamingPosePredictor(
                backend=one, mapper=build_pose_mapper(cfg, False), people=ComingAndGoing
            )(pictures)
        )
        for one in (TorchBackend(model), backend)
    ]
    assert [len(frame) for frame in results[1]] == [1, 1, 2, 2, 2, 1]
    for plain, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours.keypoints[..., 2], plain.keypoints[..., 2], atol=1e-3)


def test_bfloat16_stays_near(cfg: CfgNode, model: VideoPoseNet) -> None:
    pytest.importorskip("openvino")
    half = cfg.clone()
    half.defrost()
    half.TEST.PRECISION = "bfloat16"
    maps = chunk_maps(build_backend(half, model, "openvino"), [0, 5], 5)
    plain = chunk_maps(TorchBackend(model), [0, 5], 5)
    assert float((maps - plain).abs().max()) < 0.05 * float(plain.abs().max())


LEARNED_FRAMES = 6


def as_chunk(backend: PoseBackend) -> torch.Tensor:
    """Heatmaps (T, C, h, w) of the frames that `learned` has learned."""
    return chunk_maps(backend, [0, LEARNED_FRAMES], LEARNED_FRAMES)


@pytest.fixture(scope="module")
def learned(cfg: CfgNode, model: VideoPoseNet) -> VideoPoseNet:
    """The small network once it knows where joints lie about the dark square of `frames`: its maps
    have peaks, as those of a trained model, and no near ties, as those of random weights."""
    learned, steps = copy.deepcopy(model).requires_grad_(True), 60
    generator = torch.Generator().manual_seed(0)
    joints = torch.rand((len(learned.joint_names), 3), generator=generator) * 40 + 8
    joints = joints.repeat(LEARNED_FRAMES, 1, 1)
    joints[..., 0] += torch.arange(LEARNED_FRAMES)[:, None]  # as far as the square moves
    joints[..., 2] = 2
    images = learned.normalize(frames(LEARNED_FRAMES))
    centers = learned.center_map(torch.full((LEARNED_FRAMES, 2), 32.0), CROP, training=False)
    targets, _ = learned.codec.encode(joints, (CROP[0] // 8, CROP[1] // 8))
    optimizer = torch.optim.Adam(learned.parameters(), 2e-3)
    for _ in range(steps):
        features = learned.encode(images)
        state, loss = learned.begin(images[:1], features[:1]), torch.zeros(())
        for t in range(LEARNED_FRAMES):
            maps, state = learned.advance(features[t : t + 1], centers[t : t + 1], state)
            loss = loss + ((maps - targets[t]) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    learned.requires_grad_(False)
    found = learned.codec.decode(as_chunk(TorchBackend(learned)))[..., :2]
    far = (found - joints[..., :2]).norm(dim=-1) > 8
    assert far.float().mean() < 0.1, "the maps have no peaks yet: nothing would be compared"
    return learned


@pytest.fixture(scope="module")
def int8_folder(
    learned: VideoPoseNet, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Path]:
    """Makes an export of ``learned`` with its encoder in int8, once."""
    folder = tmp_path_factory.mktemp("int8")

    @functools.cache
    def make() -> Path:
        export_model(learned, folder, crop_size=CROP, file_format="openvino")
        quantize_encoder(folder, (image[None].float() for image in frames(LEARNED_FRAMES)))
        return folder

    return make


@pytest.mark.parametrize(
    ("engine", "precision"),
    [
        ("torch", "float32"),
        ("torch", "bfloat16"),
        ("onnx", "float32"),
        ("openvino", "float32"),
        ("openvino", "bfloat16"),
        ("int8", "float32"),
        ("int8", "bfloat16"),
    ],
)
def test_pck_by_engine_and_precision(
    cfg: CfgNode,
    learned: VideoPoseNet,
    int8_folder: Callable[[], Path],
    engine: str,
    precision: str,
) -> None:
    """The same PCK within .1 points as the modules in float32, and in float32 the same maps.

    Ground truth lies up to twice the threshold from where the modules find a joint, but not within
    2 px, a quarter of a cell, of the threshold: one joint of the 90 that a precision moves across
    it is 1.1 points.
    """
    for package in {"torch": (), "int8": ("openvino", "nncf")}.get(engine, (engine,)):
        pytest.importorskip({"onnx": "onnxruntime"}.get(package, package))
    changed = cfg.clone()
    changed.defrost()
    changed.TEST.PRECISION = precision
    if engine == "int8":
        backend: PoseBackend = GraphBackend.from_folder(int8_folder(), changed)
    else:
        backend = build_backend(changed, learned, engine)
    plain, maps = as_chunk(TorchBackend(learned)), as_chunk(backend)
    if engine != "int8" and precision == "float32":
        torch.testing.assert_close(maps, plain, atol=1e-3, rtol=0)

    expected = learned.codec.decode(plain)[..., :2].numpy()
    random, threshold = np.random.default_rng(0), 0.2 * 64
    away = random.uniform(0, threshold - 2, expected.shape[:2])
    away += random.choice([0, threshold + 2], expected.shape[:2])
    angle = random.uniform(0, 2 * np.pi, expected.shape[:2])
    truth = expected + away[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)

    def pck(found: np.ndarray) -> float:
        lengths, counted = np.full(len(found), 64.0), np.full(found.shape[:2], True)
        normalised = normalised_distances(pixel_distances(found, truth), lengths)
        return 100 * count_hits(normalised, counted, [0.2]).sum() / counted.sum()

    assert 30 < pck(expected) < 70
    assert pck(learned.codec.decode(maps)[..., :2].numpy()) == pytest.approx(pck(expected), abs=0.1)


def test_evaluation_runs_what_streaming_runs(
    cfg: CfgNode, model: VideoPoseNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pose, "AUTO_ON_CPU", ("openvino", "onnx"))
    monkeypatch.setattr(pose, "is_installed", lambda engine: engine == "onnx")
    pytest.importorskip("onnxruntime")
    tested = build_tested(cfg, model)
    assert isinstance(tested, ClipInference) and isinstance(tested.backend, GraphBackend)
    assert "ONNX Runtime" in tested.backend.describe()
    # Within a training, a graph of weights that change is not worth its making.
    changing = build_tested(cfg, model, changes=True)
    assert isinstance(changing, ClipInference) and isinstance(changing.backend, TorchBackend)
    other = torch.nn.Conv2d(1, 1, 1)
    assert build_tested(cfg, other) is other
    plain = cfg.clone()
    plain.defrost()
    plain.TEST.FAST = False
    assert build_tested(plain, model) is model


@pytest.mark.parametrize(
    ("installed", "device", "expected"),
    [
        ({"openvino", "onnx"}, "cpu", "openvino"),
        ({"onnx"}, "cpu", "onnx"),
        (set(), "cpu", "torch"),
        ({"openvino"}, "cuda", "torch"),
    ],
)
def test_auto(
    cfg: CfgNode, monkeypatch: pytest.MonkeyPatch, installed: set[str], device: str, expected: str
) -> None:
    monkeypatch.setattr(pose, "AUTO_ON_CPU", ("openvino", "onnx"))
    monkeypatch.setattr(pose, "is_installed", installed.__contains__)
    assert pose.choose_backend(cfg, torch.device(device)) == expected


def test_auto_takes_pytorch_for_what_does_not_export(
    cfg: CfgNode, model: VideoPoseNet, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise ValueError("advance of UniPoseLSTM does not export: it branches")

    monkeypatch.setattr(pose, "AUTO_ON_CPU", ("openvino",))
    monkeypatch.setattr(pose, "is_installed", lambda engine: True)
    monkeypatch.setattr(pose, "_from_cache", fail)
    with caplog.at_level("WARNING"):
        assert isinstance(build_backend(cfg, model), TorchBackend)
    assert "PyTorch in the place of openvino: advance of UniPoseLSTM" in caplog.text
    with pytest.raises(ValueError, match="TEST.BACKEND openvino: advance of .* does not export"):
        build_backend(cfg, model, "openvino")


def test_bad_names(cfg: CfgNode, model: VideoPoseNet, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="TEST.BACKEND 'tensorrt': choose from .*'openvino'"):
        build_backend(cfg, model, "tensorrt")
    real = pose.require_packages.__globals__["importlib"].util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "onnxscript" else real(name)
    )
    with pytest.raises(ValueError, match="TEST.BACKEND onnx: onnx needs the package onnxscript"):
        build_backend(cfg, model, "onnx")


def test_the_python_interface_takes_a_backend_and_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    pictures = render_scene(3, frames=3, size=(160, 120)).frames
    heights = []
    for name in ("torch", "openvino"):
        torch.manual_seed(0)
        predictor = VideoPosePredictor.from_config(
            str(ROOT / CONFIG),
            options=[*OPTIONS, "MODEL.DEVICE", "cpu"],
            settings=PredictorSettings(region="frame", backend=name),
        )
        heights.append(np.stack([frame.keypoints[..., 2] for frame in predictor(pictures)]))
    # Heights of peaks; where they are is ill-conditioned in the flat maps of random weights.
    np.testing.assert_allclose(heights[1], heights[0], atol=1e-4)
    with pytest.raises(FileNotFoundError, match="model.json is missing"):
        VideoPosePredictor.from_config(
            str(ROOT / CONFIG), settings=PredictorSettings(region="frame", backend=str(tmp_path))
        )


# ---- the cache


def count_exports(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    made: list[Path] = []
    export = pose.export_model

    def counted(model: Any, folder: Path, **kwargs: Any) -> Any:
        made.append(folder)
        kwargs["file_format"] = "openvino"
        return export(model, folder, **kwargs)

    monkeypatch.setattr(pose, "export_model", counted)
    return made


def test_graphs_are_made_once_and_anew_when_damaged(
    pose_cfg: MakeCfg,
    build_backend: MakeBackend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: Any,
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("VIDEO_POSE_CACHE", str(tmp_path / "cache"))
    made = count_exports(monkeypatch)
    cfg = pose_cfg("lstm_pm", *OPTIONS)
    model = build_backend(cfg).model
    first = chunk_maps(pose.build_openvino(cfg, model), [0, 2], 2)
    assert torch.equal(chunk_maps(pose.build_openvino(cfg, model), [0, 2], 2), first)
    (folder,) = (tmp_path / "cache").iterdir()
    assert len(made) == 1 and (folder / "model.json").is_file()
    (folder / "encode.bin").write_bytes(b"half a file")
    with caplog.at_level("WARNING"):
        assert torch.equal(chunk_maps(pose.build_openvino(cfg, model), [0, 2], 2), first)
    assert len(made) == 2 and "damaged, and are made anew" in caplog.text
    (folder,) = (tmp_path / "cache").iterdir()  # nothing half-written is left


def test_the_name_follows_from_all_that_matters(
    pose_cfg: MakeCfg, build_backend: MakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = pose_cfg("lstm_pm", *OPTIONS)
    model = build_backend(cfg).model
    key = cache.graph_key(cfg, model, "openvino")
    elsewhere = pose_cfg("lstm_pm", *OPTIONS, "MODEL.WEIGHTS", "w.pth", "TEST.RESET_EVERY", 3)
    assert cache.graph_key(elsewhere, model, "openvino") == key
    larger = pose_cfg("lstm_pm", "INPUT.CROP_SIZE", (96, 96))
    keys = {key, cache.graph_key(cfg, model, "onnx"), cache.graph_key(larger, model, "openvino")}
    with torch.no_grad():
        model.head.convolutions()[0].weight[0, 0, 0, 0] += 1e-6
    keys.add(cache.graph_key(cfg, model, "openvino"))
    monkeypatch.setattr(cache, "_engine_version", lambda engine: "another")
    keys.add(cache.graph_key(cfg, model, "openvino"))
    assert len(keys) == 5


def test_a_cache_that_cannot_be_written_costs_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("VIDEO_POSE_CACHE", str(tmp_path / "file"))
    with caplog.at_level("WARNING"):
        with cache.cached("key", lambda folder: (folder / "graph").write_text("g")) as folder:
            assert (folder / "graph").read_text() == "g"
    assert not folder.exists()
    assert "graphs cannot be kept in" in caplog.text and "VIDEO_POSE_CACHE" in caplog.text
    assert (tmp_path / "file").read_text() == "no folder"


def test_no_room_anywhere_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_POSE_CACHE", str(tmp_path))

    def fill(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ValueError, match="No space left on device.: make room, or .*_CACHE"):
        with cache.cached("key", fill):
            raise AssertionError("there are no graphs")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDEO_POSE_CACHE", str(tmp_path))
    old, young, whole = tmp_path / ".a.killed", tmp_path / ".b.busy", tmp_path / "c"
    for folder in (old, young, whole):
        folder.mkdir()
        (folder / "encode.bin").write_bytes(b"part")
    long_ago = time.time() - 2 * cache.ABANDONED
    for path in (old / "encode.bin", old, young, whole / "encode.bin", whole):
        os.utime(path, (long_ago, long_ago))  # of ``young`` a file is new

    def make(folder: Path) -> None:
        (folder / "model.json").write_text("{}")

    with cache.cached("d", make) as made:
        assert made == tmp_path / "d"
    assert {path.name for path in tmp_path.iterdir()} == {".b.busy", "c", "d"}


def test_an_unknown_precision(cfg: CfgNode, model: VideoPoseNet) -> None:
    other = cfg.clone()
    other.defrost()
    other.TEST.PRECISION = "half"
    for engine in ENGINES:
        with pytest.raises(ValueError, match="precision 'half': choose from .*bfloat16"):
            build_backend(other, model, engine)


def test_a_missing_package_of_a_graph(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="encode.onnx needs the package onnxruntime"):
        pose.load_graph(tmp_path / "encode.onnx")


def test_poses_are_corrected_over_whole_tracks(cfg: CfgNode, model: VideoPoseNet) -> None:
    """Without a refiner they are the causal ones, smoothed; a part of a track is refused."""
    offline = cfg.clone()
    offline.merge_from_list(["TEST.OVER_TIME.MODE", "offline"])
    clip = {
        "video_id": "v", "track_id": "0", "is_first": True, "is_last": True, "height": 64,
        "width": 64, "image": frames(6), "frame_indices": torch.arange(6),
        "center": torch.full((6, 2), 32.0), "crop_to_image": torch.eye(2, 3).repeat(6, 1, 1),
    }  # fmt: skip
    causal = build_tested(cfg, model)([clip])[0]["instances"]
    found = build_tested(offline, model)([clip])[0]["instances"]
    poses = np.stack([frame.pred_keypoints[0].numpy() for frame in causal])
    expected = OverTime()(poses[:, :, None], cfg.MODEL.POSE.JOINTS)
    assert not np.allclose(expected, poses, atol=0.1)
    corrected = np.stack([frame.pred_keypoints[0].numpy() for frame in found])
    np.testing.assert_allclose(corrected, expected, atol=1e-3)
    with pytest.raises(ValueError, match="v, track 0: .* a part of one"):
        build_tested(offline, model)([{**clip, "is_last": False}])


def test_peaks_of_a_crop_and_its_mirror_image_are_the_mean_maps(
    cfg: CfgNode, model: VideoPoseNet
) -> None:
    """A peak in cell 1 of 8 in the crop lies in cell 6 of the mirrored one, as the other side's."""
    backend = TorchBackend(model)
    names = backend.joint_names
    left, right = names.index("left_knee"), names.index("right_knee")
    channels = backend.codec.num_channels(len(names))
    shift = channels - len(names) if backend.codec.background == "first" else 0
    maps = torch.zeros(2, 1, channels, 8, 8)
    maps[0, 0, left + shift, 3, 1], maps[1, 0, right + shift, 3, 6] = 0.8, 0.6
    matrices = torch.eye(2, 3).repeat(2, 1, 1, 1)
    poses = torch.zeros(1, len(names), 3)
    peaks = image_peaks(backend, maps, matrices, torch.tensor([False, True]), poses)
    # The centre of cell 1 is 8 + 3.5 + .5 px.
    assert peaks[0, left, 0].tolist() == pytest.approx([12.0, 28.0, 0.7])
    several = image_peaks(backend, maps, matrices, torch.tensor([False, False]), poses)
    assert several.shape == (1, len(names), 1, 3)


def test_what_corrects_poses_is_checked_first(cfg: CfgNode, tmp_path: Path) -> None:
    def node(*options: object) -> CfgNode:
        changed = cfg.clone()
        changed.merge_from_list(list(options))
        return changed

    assert pose.over_time_from_config(cfg) is None
    late = pose.over_time_from_config(node("TEST.OVER_TIME.MODE", "lag", "TEST.OVER_TIME.LAG", 2))
    assert late == OverTime(2)
    with pytest.raises(ValueError, match="'soon': choose from causal, lag, offline"):
        pose.over_time_from_config(node("TEST.OVER_TIME.MODE", "soon"))
    missing = str(tmp_path / "r.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no such refiner: .*r\.safetensors"):
        pose.over_time_from_config(
            node("TEST.OVER_TIME.MODE", "offline", "TEST.OVER_TIME.REFINER", missing)
        )


def test_a_refiner_lies_beside_the_weights(tmp_path: Path) -> None:
    weights = str(tmp_path / "model.safetensors")
    assert pose.load_refiner("auto", weights) is None
    SequenceRefiner(width=4).save(tmp_path / "refiner.safetensors", "")
    found = pose.load_refiner("auto", weights)
    assert found is not None and found.width == 4
    assert pose.load_refiner("", weights) is None
    assert pose.load_refiner("auto", "https://example.org/model.safetensors") is None
