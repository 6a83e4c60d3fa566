"""List the datasets that are registered, or show what was understood of one: a dataset doctor."""

from __future__ import annotations

import argparse
import fnmatch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A pattern of names, or ``show`` and names; a file for the sheet."""
    parser.add_argument(
        "words", nargs="*", default=["*"], metavar="PATTERN | show NAME ...",
        help="names to list, as '*jhmdb*'; or the datasets to load and describe: videos, people, "
        "joints, mirror pairs, and what was mended, left out or not read",
    )  # fmt: skip
    parser.add_argument("--sheet", metavar="FILE", help="with show: a picture of frames and labels")
    parser.add_argument("--count", type=int, default=12, help="frames on the sheet (12)")


def run(args: argparse.Namespace) -> int:
    """Print a line a dataset, or the description of the named ones.

    Raises:
        KeyError: no dataset of that name. ValueError: ``show`` without a name, or it cannot be
            loaded.
    """
    words = args.words or ["*"]
    if words[0] == "show":
        if len(words) < 2 or (args.sheet and len(words) > 2):
            raise ValueError("datasets show: name a dataset (one, where there is a --sheet)")
        for name in words[1:]:
            _show(name, args.sheet, args.count)
        return 0
    if len(words) > 1:
        raise ValueError(f"datasets: expected one pattern, or 'show NAME', got {words}")
    _list(words[0])
    return 0


def _list(pattern: str) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    names = [name for name in DatasetCatalog.list() if fnmatch.fnmatch(name, pattern)]
    if not names:
        raise KeyError(f"no registered dataset matches {pattern!r}")
    width = max(map(len, names))
    for name in sorted(names):
        metadata = MetadataCatalog.get(name)
        joints = metadata.get("keypoint_names", None) or ()
        print(f"{name:{width}}  {len(joints):2} joints  {metadata.get('evaluator_type', '')}")


def _show(name: str, sheet: str | None, count: int) -> None:
    import cv2

    from video_pose.files import replacing_file
    from video_pose.report.dataset import dataset_sheet, describe_dataset

    description = describe_dataset(name)
    print("\n".join(description.lines()))
    if sheet is not None:
        is_written, data = cv2.imencode(".png", dataset_sheet(description, count))
        assert is_written
        with replacing_file(sheet) as file:
            file.write(data.tobytes())
        print(f"sheet: {sheet}")
