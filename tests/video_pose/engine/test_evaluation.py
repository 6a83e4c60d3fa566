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

from video_pose.engine import evaluation as module
from video_pose.engine.defaults import get_pose_cfg
from video_pose.engine.evaluation import (
    build_coco,
    build_evaluators,
    build_pck,
    build_people,
    evaluate,
    write_results,
)
from video_pose.engine.views import oks_sigmas


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
    config = tmp_path / "inference" / "some_test" / "config.yaml"
    assert config.read_text() == cfg.dump()  # what they were made with


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluators are what they are called with."""
    kinds = ("FrameCOCOEvaluator", "ImageCOCOEvaluator", "FramePCKEvaluator", "ImagePCKEvaluator")
    for kind in (*kinds, "PCKEvaluator", "PeopleEvaluator"):
        monkeypatch.setattr(module, kind, lambda *args, kind=kind, **keys: (kind, *args, keys))


def frames_cfg(keypoints: bool = True, masks: bool = False, **pck: object) -> CfgNode:
    cfg = get_pose_cfg()
    cfg.OUTPUT_DIR = "out"
    cfg.MODEL.KEYPOINT_ON, cfg.MODEL.MASK_ON = keypoints, masks
    cfg.MODEL.POSE.JOINTS = ["nose", "tail"]
    cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.3, 0.4]
    for key, value in pck.items():
        cfg.TEST.PCK[key] = value
    return cfg


def clips_cfg() -> CfgNode:
    cfg = frames_cfg()
    cfg.MODEL.META_ARCHITECTURE = "UniPose"
    return cfg


BOTH = ["nose", "tail"]


def test_what_average_precision_is_computed_of(made, register, caplog) -> None:
    """Clips: joints alone. Frames of videos, and a user's pictures: what the model predicts.
    Widths that a user has set go by joint."""
    register("ev_tracks", [], evaluator_type="video_pose", keypoint_oks_sigmas=[0.1])
    register("ev_bare", [], evaluator_type="video_pose")
    register("ev_frames", [], video_dataset="ev_tracks")
    register("ev_user", [], keypoint_names=["tail", "nose", "left_wrist"])
    register("ev_same", [], keypoint_names=BOTH, keypoint_oks_sigmas=[9.0, 9.0])
    register("ev_boxes", [])

    def folder(name: str) -> str:
        return f"out/inference/{name}"

    clips, frames = clips_cfg(), frames_cfg(masks=True)
    expected: Any = ("FrameCOCOEvaluator", "ev_tracks", BOTH, ["keypoints"], folder("ev_tracks"))
    given = {"widths": {"nose": 0.3, "tail": 0.4}}
    assert build_coco(clips, "ev_tracks") == (*expected, given)
    with caplog.at_level("INFO"):
        assert build_coco(clips, "ev_bare") is None
    assert caplog.messages == ["ev_bare has no keypoint_oks_sigmas: no keypoint AP"]
    every = ["bbox", "segm", "keypoints"]
    expected = ("FrameCOCOEvaluator", "ev_tracks", BOTH, every, folder("ev_frames"))
    assert build_coco(frames, "ev_frames") == (*expected, given)
    widths = [0.4, 0.3, 0.062]
    for name, sigmas in (("ev_user", widths), ("ev_same", [0.3, 0.4]), ("ev_boxes", [0.3, 0.4])):
        expected = ("ImageCOCOEvaluator", name, BOTH, every, sigmas, folder(name))
        assert build_coco(frames, name) == (*expected, {})
    # Those that a configuration has of itself are the dataset's own for each dataset.
    own = oks_sigmas(BOTH, [])
    clips.TEST.KEYPOINT_OKS_SIGMAS = frames.TEST.KEYPOINT_OKS_SIGMAS = own
    expected = ("FrameCOCOEvaluator", "ev_tracks", BOTH, every, folder("ev_frames"))
    assert build_coco(frames, "ev_frames") == (*expected, {"widths": {}})
    for name, sigmas in (("ev_user", [*own[::-1], 0.062]), ("ev_same", own)):
        expected = ("ImageCOCOEvaluator", name, BOTH, every, sigmas, folder(name))
        assert build_coco(frames, name) == (*expected, {})
    boxes = frames_cfg(keypoints=False)
    boxes.TEST.KEYPOINT_OKS_SIGMAS = []
    expected = ("ImageCOCOEvaluator", "ev_user", [], ["bbox"], [], folder("ev_user"))
    assert build_coco(boxes, "ev_user") == (*expected, {})
    expected = ("FrameCOCOEvaluator", "ev_tracks", [], ["bbox"], folder("ev_frames"))
    assert build_coco(boxes, "ev_frames") == (*expected, {"widths": {}})


def test_what_pck_is_computed_of(made, register, monkeypatch, caplog) -> None:
    register("ev_tracks", [], evaluator_type="video_pose")
    register("ev_frames", [], video_dataset="ev_tracks")
    register("ev_user", [], keypoint_names=["tail"])
    register("ev_boxes", [])
    register("ev_labelled", [{"video_id": "a"}])
    register("ev_empty", [])
    asked: list[tuple] = []

    def tracks(name: str, joints: list[str]) -> str:
        asked.append((name, joints))
        return "ev_labelled" if name == "ev_user" else "ev_empty"

    monkeypatch.setattr(module, "register_tracks", tracks)
    cfg = frames_cfg(PROTOCOLS=("torso",), PERSON="best", SAVE_PREDICTIONS=False)

    def inner(truth: str, name: str, **changed: object) -> tuple:
        keys = {"joint_names": BOTH, "protocols": ["torso"], "save_predictions": False}
        return ("PCKEvaluator", truth, keys | {"output_dir": f"out/inference/{name}"} | changed)

    clips = clips_cfg()
    given = {"protocols": None, "save_predictions": True}
    assert build_pck(clips, "ev_tracks") == inner("ev_tracks", "ev_tracks", **given)
    assert build_pck(cfg, "ev_frames") == (
        "FramePCKEvaluator", inner("ev_tracks", "ev_frames"), "ev_tracks", "best", {},
    )  # fmt: skip
    assert build_pck(cfg, "ev_user") == (
        "ImagePCKEvaluator", inner("ev_labelled", "ev_user"), "ev_labelled", {},
    )  # fmt: skip
    with caplog.at_level("INFO"):
        assert build_pck(cfg, "ev_boxes") is None
    assert caplog.messages == ["ev_boxes has no labelled joint: no PCK"]
    assert asked == [("ev_user", ["tail"]), ("ev_boxes", BOTH)]
    for name in ("ev_user", "ev_frames"):
        assert build_pck(frames_cfg(keypoints=False), name) is None


def test_people_are_told_apart_where_several_are_shown_at_once(made, register) -> None:
    one, two = [{"video_id": "a"}, {"video_id": "b"}], [{"video_id": "a"}, {"video_id": "a"}]
    sigmas = {"keypoint_oks_sigmas": [0.1, 0.2]}
    register("ev_alone", one)
    register("ev_together", two)
    register("ev_frames", [], video_dataset="ev_together", **sigmas)
    register("ev_frames_alone", [], video_dataset="ev_alone", **sigmas)
    register("ev_bare", [], video_dataset="ev_together")
    register("ev_user", [], **sigmas)
    cfg = frames_cfg()
    given = {"widths": {"nose": 0.3, "tail": 0.4}}
    expected = ("PeopleEvaluator", "ev_together", BOTH, "out/inference/ev_frames", given)
    assert build_people(cfg, "ev_frames") == expected
    for name in ("ev_frames_alone", "ev_bare", "ev_user"):
        assert build_people(cfg, name) is None, name
    assert build_people(frames_cfg(keypoints=False), "ev_frames") is None


@pytest.mark.parametrize("is_main", [True, False])
@pytest.mark.parametrize("names", [("a",), ("a", "b"), ()])
def test_results_of_one_dataset_or_of_several(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog, names: tuple[str, ...], is_main: bool
) -> None:
    """Only the first process has any; it keeps them and says which is whose."""
    told: list[object] = []
    trained = torch.nn.Identity()

    class Told:
        def tested(self, cfg: CfgNode, model: torch.nn.Module, *, changes: bool) -> object:
            told.append((model.eval(), changes))
            return "tested"

        def build_test_loader(self, cfg: CfgNode, name: str) -> list[str]:
            return [name]

    def run(model: str, loader: Any, evaluators: Any) -> dict | None:
        (name,) = loader
        told.append((model, name, evaluators._evaluators))
        return {"pck": {"mean": float(ord(name))}} if is_main else None

    monkeypatch.setattr(module, "view_of", lambda cfg: Told())
    monkeypatch.setattr(module, "build_evaluators", lambda cfg, name: [f"of {name}"])
    monkeypatch.setattr(module, "inference_on_dataset", run)
    monkeypatch.setattr(module.comm, "is_main_process", lambda: is_main)
    monkeypatch.setattr(module, "print_csv_format", told.append)
    cfg = get_pose_cfg()
    cfg.OUTPUT_DIR, cfg.DATASETS.TEST = str(tmp_path), names
    with caplog.at_level("INFO", module.__name__):
        found = evaluate(cfg, trained, changes=True)
    assert trained.training
    figures = {name: {"pck": {"mean": float(ord(name))}} if is_main else {} for name in names}
    assert found == (figures["a"] if names == ("a",) else figures)
    expected: list[object] = [(trained, True)]
    for name in names:
        expected += [("tested", name, [f"of {name}"])] + [figures[name]] * is_main
    assert told == expected
    assert caplog.messages == [f"Results on {name}, for copying:" for name in names] * is_main
    assert sorted(path.parent.name for path in tmp_path.rglob("results.json")) == (
        list(names) if is_main else []
    )


def test_evaluators_come_in_one_order_and_none_is_left_out(monkeypatch) -> None:
    """That of their registration, whatever the configuration's; one that has nothing is dropped."""
    kinds = {"coco": lambda cfg, name: None, "pck": lambda cfg, name: f"pck {name}",
             "people": lambda cfg, name: f"people {name}"}  # fmt: skip
    monkeypatch.setattr(module.EVALUATORS, "get", kinds.get)
    cfg = get_pose_cfg()
    cfg.TEST.EVALUATORS = ("people", "coco", "pck")
    assert build_evaluators(cfg, "x") == ["pck x", "people x"]
    cfg.TEST.EVALUATORS = ("people",)
    assert build_evaluators(cfg, "x") == ["people x"]


def test_a_dataset_that_nothing_can_be_scored_on_is_not_run(
    tiny_cfg, datasets: Path, monkeypatch, caplog
) -> None:
    cfg = tiny_cfg("UniPoseLSTM", "TEST.EVALUATORS", ("people",))
    model = build_model(cfg)
    monkeypatch.setattr(module, "inference_on_dataset", None)
    assert evaluate(cfg, model) == {}
    assert "synthetic_jhmdb_test is not run: TEST.EVALUATORS ['people'] have" in caplog.text
