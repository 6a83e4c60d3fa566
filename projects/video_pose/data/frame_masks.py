"""Instance masks of the frames view: read when a frame is, kept as run lengths."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from .datasets.jhmdb import read_masks

Rle = dict[str, Any]


class MaskReader:
    """COCO run-length masks by reference; the last clips' masks are kept (some 10 kB each).

    A frame beyond the end of its mask file, and one whose mask is empty, has no mask.

    Args:
        keep: number of clips to keep.
    """

    def __init__(self, keep: int = 2048) -> None:
        self._keep = keep
        self._clips: OrderedDict[tuple[str, str], list[Rle | None]] = OrderedDict()

    def read(self, reference: dict[str, Any]) -> Rle | None:
        """The mask of one frame as compressed RLE (``counts`` bytes), a fresh dict.

        Args:
            reference: ``{"mat_file": path, "field": name, "index": frame}``.

        Raises:
            FileNotFoundError, ValueError: the file or its field is missing or of another shape.
        """
        key = reference["mat_file"], reference["field"]
        if key not in self._clips:
            self._clips[key] = [encode_mask(m) for m in read_masks(reference)]
            while len(self._clips) > self._keep:
                self._clips.popitem(last=False)
        self._clips.move_to_end(key)
        clip = self._clips[key]
        rle = clip[reference["index"]] if reference["index"] < len(clip) else None
        return None if rle is None else dict(rle)


def encode_mask(mask: np.ndarray) -> Rle | None:
    """RLE of a bool mask (h, w); None of an empty one."""
    if not mask.any():
        return None
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
