"""Find cuts, at which every person's memory must be dropped."""

from __future__ import annotations

import cv2
import numpy as np

_THUMBNAIL = (64, 48)  # width, height
_BINS = 8


class CutDetector:
    """Compares the colours of neighbouring frames, quarter by quarter of the picture.

    A cut is where the colour histograms (8 bins a channel) of two frames have less than
    1 - ``threshold`` of their mass in common, or where the size changes. Motion moves colours about
    and changes them little: within 40 shots of JHMDB neighbouring frames differed by at most .12,
    the first frames of different shots by at least .25. A flash counts as a cut.
    """

    def __init__(self, threshold: float = 0.2) -> None:
        """Raises ValueError unless 0 < ``threshold`` <= 1; at 1 only a change of size is a cut."""
        if not 0 < threshold <= 1:
            raise ValueError(f"cut threshold is {threshold}: expected more than 0 and at most 1")
        self.threshold = threshold
        self.reset()

    def reset(self) -> None:
        """Begin a new video."""
        self._last: np.ndarray | None = None
        self._size: tuple[int, ...] = ()

    def __call__(self, image: np.ndarray) -> bool:
        """Whether uint8 (H, W, 3) ``image`` begins a new shot; False for a video's first frame."""
        histogram = _histograms(cv2.resize(image, _THUMBNAIL, interpolation=cv2.INTER_AREA))
        last, size = self._last, self._size
        self._last, self._size = histogram, image.shape[:2]
        if last is None:
            return False
        common = float(np.minimum(last, histogram).sum())
        return size != self._size or 1 - common > self.threshold


def _histograms(small: np.ndarray) -> np.ndarray:
    """Colours of the four quarters, (4, bins, bins, bins), of sum 1."""
    width, height = _THUMBNAIL[0] // 2, _THUMBNAIL[1] // 2
    quarters = [small[y : y + height, x : x + width] for y in (0, height) for x in (0, width)]
    counts = np.stack(
        [cv2.calcHist([q], [0, 1, 2], None, [_BINS] * 3, [0, 256] * 3) for q in quarters]
    )
    # Neighbouring bins share what lies between them, lest a change of brightness moves all.
    for axis in (1, 2, 3):
        counts = _blur(counts, axis)
    return counts / counts.sum()


def _blur(histogram: np.ndarray, axis: int) -> np.ndarray:
    """Weights 1/4, 1/2, 1/4 along one axis; what would leave the ends stays there."""
    padded = np.concatenate(
        [histogram.take([0], axis), histogram, histogram.take([-1], axis)], axis
    )
    count = histogram.shape[axis]
    before, after = padded.take(range(count), axis), padded.take(range(2, count + 2), axis)
    return before / 4 + histogram / 2 + after / 4
