"""Rows on networks: clips by every backend and precision, training steps, and their operations."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

from benchmarking.measuring import Work
from video_pose.backends.convolutions import large_convolutions
from video_pose.backends.graphs import export_model
from video_pose.backends.pose import GraphBackend, build_backend, is_folder
from video_pose.engine.trainer import PoseTrainer
from video_pose.modeling.backend import PoseBackend, TorchBackend, run_chunk
from video_pose.modeling.states import TrackStates
from video_pose.modeling.video_pose_net import VideoPoseNet

# The modules as they are trained, in float32: what all ratios are of.
PLAIN = "plain float32"


def with_options(cfg: CfgNode, *options: Any) -> CfgNode:
    """A copy with further keys and values."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.merge_from_list(list(options))
    return cfg


def random_clip(cfg: CfgNode, frames: int, seed: int = 0) -> dict[str, Any]:
    """A mapper's dict of T frames: noise, and joints drawn by seed; the crop is the whole image."""
    height, width = cfg.INPUT.CROP_SIZE
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([width, height], dtype=torch.float32)
    joints = (frames, len(cfg.MODEL.POSE.JOINTS), 2)
    xy = torch.rand(joints, generator=generator) * size
    return {
        "image": torch.randint(
            256, (frames, 3, height, width), generator=generator, dtype=torch.uint8
        ),
        "keypoints": torch.cat([xy, torch.full((*joints[:2], 1), 2.0)], dim=-1),
        "crop_to_image": torch.eye(3)[:2].repeat(frames, 1, 1),
        "center": (size / 2).repeat(frames, 1),
        "is_padding": torch.zeros(frames, dtype=torch.bool),
        "frame_indices": torch.arange(frames),
        "image_ids": torch.arange(frames),
        "video_id": f"random {seed}",
        "track_id": "0",
        "height": height,
        "width": width,
        "is_first": True,
        "is_last": True,
    }


def clip_works(
    cfg: CfgNode, model: VideoPoseNet, backends: list[str], precisions: list[str], frames: int
) -> dict[str, Work]:
    """Whole clips of ``frames``, from a fresh state, by the plain model and by every backend.

    ``backends``: names, and folders of exports. Where large convolutions may be computed in the
    frequency domain, OpenVINO runs without it as well.
    """
    clip = random_clip(cfg, frames)
    works = {PLAIN: clip_runner(TorchBackend(model), clip)}
    for name, precision in itertools.product(backends, precisions):
        changed = with_options(cfg, "TEST.PRECISION", precision)
        if is_folder(name):
            works[f"{name} {precision}"] = clip_runner(
                GraphBackend.from_folder(name, changed), clip
            )
        elif name != "onnx" or precision == "float32":  # ONNX Runtime has no other on a CPU
            backend = build_backend(changed, model, name)
            works[f"{name} {precision}"] = clip_runner(backend, clip)
        if name == "openvino" and large_convolutions(model):
            works[f"{name}, direct convolutions, {precision}"] = clip_runner(
                _direct(changed, model), clip
            )
    return works


def _direct(cfg: CfgNode, model: VideoPoseNet) -> PoseBackend:
    """OpenVINO without convolutions in the frequency domain."""
    size = (int(cfg.INPUT.CROP_SIZE[0]), int(cfg.INPUT.CROP_SIZE[1]))
    with tempfile.TemporaryDirectory() as folder:
        export_model(model, folder, crop_size=size, file_format="openvino")
        return GraphBackend.from_folder(folder, cfg)


def clip_runner(backend: PoseBackend, clip: dict[str, Any]) -> Work:
    """A pass over one clip."""
    images, centers, states = clip["image"][None], clip["center"][None], TrackStates()

    @torch.no_grad()
    def run() -> Tensor:
        return run_chunk(backend, states, clip, images, centers)

    return run


def training_step(cfg: CfgNode, precision: str, clips: int, frames: int) -> Work:
    """The trainer's own step on one batch of random clips."""
    amp = precision != "float32"
    cfg = with_options(
        cfg, "SOLVER.AMP.ENABLED", amp, "SOLVER.AMP.PRECISION", precision if amp else "auto",
        "SOLVER.IMS_PER_BATCH", clips, "INPUT.CLIP.LENGTH", frames, "SOLVER.BASE_LR", 1e-9,
        "MODEL.POSE.ENCODER", "train",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer = PoseTrainer(with_options(cfg, "OUTPUT_DIR", folder))
    batch = [random_clip(cfg, frames, seed) for seed in range(clips)]
    # What `train` would set up, with one batch in the loader's place.
    trainer._batches = itertools.repeat(batch)
    trainer.iter = 1

    def run() -> None:
        with EventStorage(1):
            trainer.run_step()

    return run


class _Part(nn.Module):
    """A function of a model as a module, which is what the counter takes."""

    def __init__(self, model: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self, *tensors: Tensor) -> Any:
        return self.function(*tensors)


@torch.no_grad()
def count_flops(model: VideoPoseNet, crop_size: tuple[int, int]) -> dict[str, int]:
    """Operations (two a multiply-add) of "encode" and "advance" a frame, of "begin" a row."""
    images = torch.zeros((1, 3, *crop_size), device=model.device)
    center = torch.tensor([[crop_size[1] / 2, crop_size[0] / 2]], device=model.device)
    center_map = model.center_map(center, crop_size, training=False)
    features = model.encode(images)
    state = model.begin(images, features)

    def advance(features: Tensor, center_map: Tensor, *tensors: Tensor) -> Any:
        return model.advance(features, center_map, type(state)(*tensors))

    return {
        "encode": _count(_Part(model, model.encode), (images,)),
        "begin": _count(_Part(model, model.begin), (images, features)),
        "advance": _count(_Part(model, advance), (features, center_map, *state)),
    }


def clip_flops(parts: dict[str, int], frames: int) -> int:
    """Operations of a clip of ``frames`` from a fresh state."""
    return parts["begin"] + frames * (parts["encode"] + parts["advance"])


def _count(part: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    counter = FlopCountAnalysis(part, inputs)
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return 2 * int(counter.total())
