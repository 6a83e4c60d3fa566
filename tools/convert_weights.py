#!/usr/bin/env python3
"""Convert released weights into a .safetensors file for MODEL.WEIGHTS.

python tools/convert_weights.py --from lstm_pm_caffe release.caffemodel --output lstm_pm.safetensors

Prints every tensor (matched, left over, missing), what could not be carried over exactly, and the
configuration that the weights need. Writes nothing when a required tensor is missing. Files are
parsed as plain data; nothing in them is executed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from video_pose import load_models
from video_pose.weights.conversion import Importer


def find_importers() -> dict[str, Importer]:
    """The importers of all installed model packages, by name."""
    found: dict[str, Importer] = {}
    for package in load_models().values():
        found |= getattr(package, "IMPORTERS", {})
    return found


def parse_args(importers: Sequence[str], argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="layout", required=True, choices=sorted(importers))
    parser.add_argument("input", type=Path, help="the released file")
    parser.add_argument(
        "--output", required=True, type=Path, metavar="FILE", help="a new file, *.safetensors"
    )
    parser.add_argument(
        "--joints", metavar="A,B,...", help="names of the file's joints in its order"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 with a message on standard error, in which case nothing was written."""
    importers = find_importers()
    args = parse_args(list(importers), argv)
    joints = args.joints.split(",") if args.joints else None
    try:
        conversion = importers[args.layout](args.input, joints)
        print(conversion.report())
        conversion.write(args.output)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"wrote {args.output}; it needs this configuration:\n\n{conversion.config_yaml()}", end=""
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
