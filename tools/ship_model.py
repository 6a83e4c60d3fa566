#!/usr/bin/env python3
"""Put a trained model into the package, where the demo and the predictor find it.

python tools/ship_model.py --name NAME --as pose --config-file C.yaml MODEL.WEIGHTS model_final.pth
python tools/ship_model.py --name NAME --as detector --config-file D.yaml MODEL.WEIGHTS w.pth

Writes config.yaml (complete in itself) and model.safetensors (half precision) to
projects/video_pose/pretrained/NAME, reads them back, and makes NAME the default of its kind. The
model card beside them, MODEL_CARD.md, is written by hand: data, licence, training, measured
figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from torch import nn

import video_pose  # noqa: F401  (first: it silences a warning of Detectron2's import)
from video_pose import packaged
from video_pose.engine.checkpointer import PoseCheckpointer, misfits
from video_pose.inference.predictor import is_recurrent, load_cfg, load_model

KINDS = ("pose", "detector")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--name", required=True, help="of the model's folder")
    add("--config-file", required=True, metavar="FILE")
    add("--as", dest="kind", required=True, choices=KINDS)
    add("--max-megabytes", type=float, default=40.0, help="largest file of weights (default 40)")
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="configuration keys and values")
    return parser.parse_args(argv)


def packaged_config(cfg: CfgNode) -> str:
    """The configuration as YAML, complete in itself and without paths of this machine."""
    cfg = cfg.clone()
    cfg.MODEL.WEIGHTS = ""
    cfg.OUTPUT_DIR = "output"
    return cfg.dump()


def ship(args: argparse.Namespace) -> Path:
    """Write the model's folder; returns the file of weights.

    Raises:
        ValueError: no weights are named, the model is of the other kind, the file is too large, or
            what was written does not load. FileNotFoundError: config or weights are missing.
    """
    cfg = load_cfg(args.config_file, args.opts)
    if not cfg.MODEL.WEIGHTS:
        raise ValueError("name the trained weights: MODEL.WEIGHTS FILE")
    if is_recurrent(cfg) != (args.kind == "pose"):
        raise ValueError(f"a {cfg.MODEL.META_ARCHITECTURE} is no {args.kind} model")
    cfg.MODEL.DEVICE = "cpu"
    model = load_model(cfg)
    if args.kind == "detector":
        require_complete(model, cfg.MODEL.WEIGHTS)
    folder = packaged.ROOT / args.name
    folder.mkdir(parents=True, exist_ok=True)
    # A good model of that name stays until the new one has been read back.
    with tempfile.TemporaryDirectory(dir=packaged.ROOT) as temporary:
        config, path = Path(temporary) / packaged.CONFIG, Path(temporary) / packaged.WEIGHTS
        config.write_text(packaged_config(cfg), encoding="utf-8")
        packaged.save_weights(model, path)
        size = path.stat().st_size / 1e6
        if size > args.max_megabytes:
            raise ValueError(f"the weights take {size:.1f} MB, more than {args.max_megabytes:g}")
        load_model(load_cfg(str(config), ["MODEL.WEIGHTS", str(path)]))
        for file in (config, path):
            file.replace(folder / file.name)
    _make_default(args.kind, args.name)
    return folder / packaged.WEIGHTS


class _Recording(PoseCheckpointer):
    """Keeps what did not fit, in any of the formats that a model is loaded from."""

    misfit: tuple[str, ...] = ()

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        found = super()._load_model(checkpoint)
        self.misfit = tuple(misfits(found))
        return found


def require_complete(model: nn.Module, weights: str) -> None:
    """Refuse weights that leave a part of ``model`` untrained: Detectron2 would only warn.

    Raises:
        ValueError: a tensor is missing or of another shape.
    """
    checkpointer = _Recording(model)
    checkpointer.load(weights)
    if checkpointer.misfit:
        raise ValueError(
            f"{weights} lacks {len(checkpointer.misfit)} tensors of the model, or has others: "
            f"{list(checkpointer.misfit[:3])}"
        )


def _make_default(kind: str, name: str) -> None:
    table = packaged.ROOT / packaged.TABLE
    names = json.loads(table.read_text(encoding="utf-8")) if table.is_file() else {}
    names = {**dict.fromkeys(KINDS, ""), **names, kind: name}
    table.write_text(json.dumps(names) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 with a message on standard error."""
    args = parse_args(argv)
    try:
        path = ship(args)
    except (ValueError, KeyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
    if not (path.parent / packaged.CARD).is_file():
        print(f"write its {packaged.CARD}: without it the model is not found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
