"""List the datasets that are registered: the built-in ones and those of VIDEO_POSE_PLUGINS."""

from __future__ import annotations

import argparse
import fnmatch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A pattern of names."""
    parser.add_argument("pattern", nargs="?", default="*", help="names to list, as '*jhmdb*'")


def run(args: argparse.Namespace) -> int:
    """Print a line a dataset: name, joints, evaluator."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    names = [name for name in DatasetCatalog.list() if fnmatch.fnmatch(name, args.pattern)]
    if not names:
        raise KeyError(f"no registered dataset matches {args.pattern!r}")
    width = max(map(len, names))
    for name in sorted(names):
        metadata = MetadataCatalog.get(name)
        joints = metadata.get("keypoint_names", None) or ()
        print(f"{name:{width}}  {len(joints):2} joints  {metadata.get('evaluator_type', '')}")
    return 0
