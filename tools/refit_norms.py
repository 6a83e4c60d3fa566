#!/usr/bin/env python3
"""Give frozen batch norms the statistics of the training data, and keep what the model computes.

python tools/refit_norms.py --config-file C.yaml --output refitted.pth MODEL.WEIGHTS model.pth

A backbone whose norms are frozen (FrozenBN) normalises by the statistics of what it was trained on
first; after long training the true ones may differ by a factor of ten. Here they are measured on
batches of the configuration's training data, and every norm's scale and shift are changed so that
its output stays the same. Then training can go on with MODEL.RESNETS.NORM BN from where it was: the
statistics of a batch are near the ones that the weights were refitted for.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import video_pose  # noqa: F401  (first: it silences a warning of Detectron2's import)

# isort: split
import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from video_pose.data.build import build_pose_train_loader
from video_pose.engine.checkpointer import PoseCheckpointer
from video_pose.engine.defaults import load_cfg
from video_pose.engine.views import is_recurrent
from video_pose.inference.predictor import load_model
from video_pose.modeling.video_pose_net import VideoPoseNet


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="of a pose model with FrozenBN")
    add("--output", required=True, type=Path, metavar="FILE", help="a new file, *.pth")
    add("--batches", type=int, default=40, help="of SOLVER.IMS_PER_BATCH clips (default 40)")
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="configuration keys and values")
    return parser.parse_args(argv)


class _Moments:
    """Mean and variance of the channels of all (N, C, H, W) that were added."""

    def __init__(self) -> None:
        self._count = 0
        self._sums: list[Tensor] = []

    def add(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0].double()
        sums = [x.sum((0, 2, 3)), (x * x).sum((0, 2, 3))]
        self._sums = [a + b for a, b in zip(self._sums, sums)] if self._sums else sums
        self._count += x.numel() // x.shape[1]

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        mean, square = (total / self._count for total in self._sums)
        return mean, (square - mean * mean).clamp(min=0)


@torch.no_grad()
def refit(model: VideoPoseNet, batches: Iterable[Sequence[dict[str, Any]]]) -> float:
    """Refit all frozen norms of the encoder, in place.

    Args:
        model: in evaluation mode.
        batches: of clips with ``image`` (T, 3, H, W), as the mapper makes them.

    Returns:
        The largest factor between the old and the new standard deviation of a norm, the median of
        its channels.

    Raises:
        ValueError: a norm of the backbone is not frozen.
    """
    norms = {n: m for n, m in model.named_modules() if isinstance(m, FrozenBatchNorm2d)}
    backbone = cast(Any, model).backbone.modules()
    if not norms or any(isinstance(m, nn.BatchNorm2d) for m in backbone):
        raise ValueError("not all norms of the backbone are frozen: MODEL.RESNETS.NORM FrozenBN")
    moments = {name: _Moments() for name in norms}
    hooks = [norms[n].register_forward_pre_hook(moments[n].add) for n in norms]
    try:
        for batch in batches:
            images = torch.cat([clip["image"] for clip in batch])
            with model.autocast():
                model.encode(model.normalize(images))
    finally:
        for hook in hooks:
            hook.remove()
    largest = 1.0
    for name, norm in norms.items():
        mean, variance = moments[name].mean_and_variance()
        old, new = (norm.running_var.double() + norm.eps).sqrt(), (variance + norm.eps).sqrt()
        weight, bias = norm.weight.double(), norm.bias.double()
        norm.bias.copy_(bias + weight * (mean - norm.running_mean) / old)
        norm.weight.copy_(weight * new / old)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        ratio = float((new / old).median())
        largest = max(largest, ratio, 1 / ratio)
    return largest


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 with a message on standard error."""
    args = parse_args(argv)
    try:
        cfg = load_cfg(args.config_file, args.opts)
        if not is_recurrent(cfg):
            raise ValueError(f"a {cfg.MODEL.META_ARCHITECTURE} is no pose model of this package")
        if args.output.suffix != ".pth" or args.output.exists() or args.batches < 1:
            raise ValueError("--output must be a new file *.pth, --batches 1 or more")
        model = cast(VideoPoseNet, load_model(cfg))
        loader = iter(build_pose_train_loader(cfg))
        largest = refit(model, (next(loader) for _ in range(args.batches)))
        args.output.parent.mkdir(parents=True, exist_ok=True)
        # In a folder of its own: a checkpoint comes with a note that it is its folder's last one.
        with tempfile.TemporaryDirectory(dir=args.output.parent) as folder:
            PoseCheckpointer(model, folder).save(args.output.stem)
            (Path(folder) / args.output.name).replace(args.output)
    except (ValueError, KeyError, OSError) as error:
        # str() of a KeyError has quotes around it.
        text = error.args[0] if isinstance(error, KeyError) else error
        print(f"error: {text}", file=sys.stderr)
        return 1
    print(f"wrote {args.output}; standard deviations differed by a factor of up to {largest:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
