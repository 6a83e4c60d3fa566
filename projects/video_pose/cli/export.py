"""Export a recurrent pose model for inference without this project's Python code.

  export --config-file C.yaml --output exported/ MODEL.WEIGHTS w.pth
  predict --config-file C.yaml --backend exported/ --input video.mp4 --output out/

Writes encode, begin and advance for OpenVINO (or as ONNX, or as torch.export programs with --format
pt2), model.json, which describes and checks them, and parity.json: the largest differences from the
PyTorch model over 50 frames of rolling state, and the time per frame of both. With --int8 the
encoder is quantised, calibrated on crops of a training dataset, and report.json holds the accuracy
on DATASETS.TEST before and after.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from detectron2.config import CfgNode
    from torch import nn

# The largest differences that an export may have.
HEATMAP_LIMIT = 1e-3
JOINT_LIMIT_PX = 0.1
FRAMES = 50
CPU = ("MODEL.DEVICE", "cpu")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Config, folder, and keys of the config at the end."""
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE")
    add("--output", required=True, metavar="DIR")
    add("--format", default="openvino", metavar="NAME", help="openvino (default), onnx or pt2")
    add("--int8", action="store_true", help="quantise the encoder (format openvino, package nncf)")
    add("--calibrate", metavar="DATASET", help="of training, for --int8 (default: the first one)")
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="configuration keys and values")


def synthetic_crops(cfg: CfgNode, frames: int) -> torch.Tensor:
    """Crops of a moving synthetic person, uint8 (T, 3, H, W), made by the config's mapper."""
    import torch

    from video_pose.data.clip_mapper import build_pose_mapper
    from video_pose.data.synthetic.scene import render_scene
    from video_pose.inference.people import Person
    from video_pose.inference.streaming import FrameCropper

    scene = render_scene(0, frames=frames)
    cropper = FrameCropper(build_pose_mapper(cfg, False))
    boxes = scene.people[0].boxes
    crops = [
        cropper(image, [Person(0, box, boxes[0])]).images[0, 0]
        for image, box in zip(scene.frames, boxes)
    ]
    return torch.stack(crops)


def run(args: argparse.Namespace) -> int:
    """Returns 0.

    Raises:
        ValueError: bad arguments, or an export that differs from the model.
    """
    from video_pose.backends.graphs import compare, export_model
    from video_pose.backends.pose import GraphBackend
    from video_pose.engine.views import default_view
    from video_pose.files import write_json
    from video_pose.inference.predictor import is_recurrent, load_cfg, load_model
    from video_pose.modeling.backend import TorchBackend
    from video_pose.video_io.writing import check_writable

    cfg = load_cfg(args.config_file, [*args.opts, *CPU])
    if not is_recurrent(cfg):
        name = cfg.MODEL.META_ARCHITECTURE
        reason = "has no encode, begin and advance of crops; use Detectron2's own export"
        if default_view(cfg) == "frame_clips":
            reason = (
                "finds people by PyTorch; TEST.BACKEND openvino or onnx makes graphs of its dense "
                "parts, of the memory's step too, in its cache"
            )
        raise ValueError(f"{name} {reason}")
    check_writable(args.output)
    model = load_model(cfg)
    crop_size = (int(cfg.INPUT.CROP_SIZE[0]), int(cfg.INPUT.CROP_SIZE[1]))
    reference = TorchBackend(model)
    exact = load_cfg(args.config_file, [*args.opts, *CPU, "TEST.PRECISION", "float32"])
    with _replacing_export(Path(args.output)) as folder:
        paths = export_model(model, folder, crop_size=crop_size, file_format=args.format)
        exported = GraphBackend.from_folder(str(folder), exact, trust_programs=True)
        crops = synthetic_crops(cfg, FRAMES)
        reports = [compare(reference, exported, crops, rows=rows) for rows in (1, 3)]
        write_json(folder / "parity.json", reports, indent=2)
        heatmap = max(report["heatmap_max_difference"] for report in reports)
        joint = max(report["joint_max_difference_px"] for report in reports)
        print(f"largest difference: heatmaps {heatmap:.2e}, joints {joint:.2e} px")
        if not (heatmap <= HEATMAP_LIMIT and joint <= JOINT_LIMIT_PX):  # nan neither
            raise ValueError(
                f"the export differs from the model by more than {HEATMAP_LIMIT} in a heatmap or "
                f"{JOINT_LIMIT_PX} px in a joint: it is not written"
            )
    print(f"{', '.join(path.name for path in paths)} in {args.output}")
    for report in reports:
        print(
            f"{report['rows']} row(s): PyTorch {report['reference_ms_per_frame']:.1f} ms, "
            f"exported {report['exported_ms_per_frame']:.1f} ms a frame"
        )
    if args.int8:
        _quantize(args, cfg)
    return 0


@contextlib.contextmanager
def _replacing_export(folder: Path) -> Iterator[Path]:
    """A new folder for the block, in ``folder``; its files move to ``folder`` when the block has
    ended well. Until then an earlier export stays."""
    import tempfile

    from video_pose.backends.graphs import DESCRIPTION, read_description, write_description
    from video_pose.files import naming

    with naming(folder):
        place = tempfile.TemporaryDirectory(prefix=".partial-", dir=folder)
    with place as temporary:
        yield Path(temporary)
        description = read_description(temporary)
        Path(temporary, DESCRIPTION).unlink()
        with naming(folder):
            (folder / DESCRIPTION).unlink(missing_ok=True)  # it would not fit what is there
            for path in sorted(Path(temporary).iterdir()):
                path.replace(folder / path.name)
            write_description(folder, description)


def calibration_dataset(args: argparse.Namespace, cfg: CfgNode) -> str:
    """The dataset whose crops the encoder is calibrated with.

    Raises:
        ValueError: none is named, or it is one of those that the accuracy is measured on.
    """
    names = [args.calibrate] if args.calibrate else list(cfg.DATASETS.TRAIN[:1])
    if not names:
        raise ValueError("--int8 needs --calibrate DATASET: the config names no training dataset")
    if names[0] in cfg.DATASETS.TEST:
        raise ValueError(f"--calibrate {names[0]}: the accuracy is measured on it; name another")
    return names[0]


def _quantize(args: argparse.Namespace, cfg: CfgNode) -> None:
    """Quantise the encoder of an exported folder; the accuracy before and after in report.json."""
    from video_pose.backends.quantize import calibration_crops, quantize_encoder
    from video_pose.files import write_json
    from video_pose.inference.predictor import load_model

    dataset = calibration_dataset(args, cfg)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.BACKEND = args.output
    cfg.OUTPUT_DIR = str(Path(args.output, "evaluation"))
    model = load_model(cfg)
    report: dict[str, object] = {"calibrated_on": dataset, "test": list(cfg.DATASETS.TEST)}
    before = report["before"] = _measured(args.output, cfg, model)
    report["crops"] = quantize_encoder(args.output, calibration_crops(cfg, dataset))
    after = report["after"] = _measured(args.output, cfg, model)
    write_json(Path(args.output, "report.json"), report, indent=2)
    print(f"int8 encoder, calibrated on {report['crops']} crops of {dataset}: report.json")
    for text in (before, after):
        print(f"{text['computes']}, {text['bytes'] / 1e6:.1f} MB: {pck_figures(text['results'])}")


def _measured(folder: str, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
    """What an exported folder computes with, its size, and its figures on DATASETS.TEST."""
    from video_pose.backends.pose import GraphBackend
    from video_pose.backends.quantize import folder_size
    from video_pose.engine.evaluation import evaluate

    computes = GraphBackend.from_folder(folder, cfg).describe()
    results = evaluate(cfg, model) if cfg.DATASETS.TEST else {}
    return {"computes": computes, "bytes": folder_size(folder), "results": results}


def pck_figures(results: dict[str, Any]) -> str:
    """The overall PCK of every protocol and dataset, in a line."""
    found = [
        f"{name} {value:.2f}"
        for task in results.values()
        for name, value in _leaves(task)
        if name.startswith("PCK") and "-" not in name
    ]
    return ", ".join(found) or "no test dataset, no PCK"


def _leaves(figures: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Names and values; results of several datasets are one level deeper."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield name, value
