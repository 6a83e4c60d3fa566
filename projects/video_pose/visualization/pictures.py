"""Titles over pictures and sheets of pictures. Images are uint8 BGR (H, W, 3)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

# The longer side, px, that lines and letters are meant for; larger pictures get larger ones.
MIN_DISPLAY_SIDE = 480

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TITLE_BACKGROUND = (32, 32, 32)


def contact_sheet(
    images: Sequence[np.ndarray],
    columns: int,
    titles: Sequence[str] | None = None,
    max_side: int = 640,
) -> np.ndarray:
    """Pictures in rows, each fitted (aspect kept) and centred in a tile of one size.

    A tile is as high as the highest picture and as wide as the widest, within ``max_side``.

    Args:
        images: uint8 BGR, of any sizes.
        columns: tiles in a row, >= 1.
        titles: one per image.
        max_side: longest side of a tile, px.

    Raises:
        ValueError: no image, no column, or not as many titles as images.
    """
    if not images or columns < 1:
        raise ValueError(f"a contact sheet needs images and columns, got {len(images)}, {columns}")
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"{len(titles)} titles for {len(images)} images")
    for image in images:
        check_image(image)
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    shrink = min(1.0, max_side / max(height, width))
    size = whole_px(height * shrink), whole_px(width * shrink)
    tiles = []
    for index, image in enumerate(images):
        tile = _fit(image, size)
        tile = tile if titles is None else with_title(tile, titles[index])
        tiles.append(cv2.copyMakeBorder(tile, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=(255,) * 3))
    columns = min(columns, len(tiles))
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    return np.vstack(rows)


def with_title(image: np.ndarray, title: str) -> np.ndarray:
    """The image under a strip of text, made smaller where the text is wider than the image."""
    unit = max(1.0, max(image.shape[:2]) / MIN_DISPLAY_SIDE)
    thickness = whole_px(unit)
    (width, _), _ = cv2.getTextSize(title, _FONT, 0.5 * unit, thickness)
    scale = 0.5 * unit * min(1.0, (image.shape[1] - 8 * unit) / max(width, 1))
    # Of a height that the text does not change, so that pictures with titles fit side by side.
    strip = np.full((round(22 * unit), image.shape[1], 3), _TITLE_BACKGROUND, np.uint8)
    origin = (round(4 * unit), round(15 * unit))
    cv2.putText(strip, title, origin, _FONT, scale, (255, 255, 255), thickness, cv2.LINE_AA)
    return np.vstack([strip, image])


def whole_px(length: float) -> int:
    """A length to draw with: whole, at least 1."""
    return max(1, round(length))


def check_image(image: np.ndarray) -> None:
    """Raise ValueError unless the image is uint8 (H, W, 3)."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"images are uint8 (H, W, 3), got {image.dtype} {image.shape}")


def _fit(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image, scaled to fit (height, width), in the middle of a grey tile of that size."""
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (min(limit, whole_px(side * scale)) for limit, side in zip(size, image.shape))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    tile = np.full((*size, 3), 64, np.uint8)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    scaled = cv2.resize(image, (width, height), interpolation=method)
    tile[top : top + height, left : left + width] = scaled
    return tile
