"""Draw poses on frames with the confidence of every joint, titles, and sheets of pictures.

K joints, N frames. Images are uint8 BGR (H, W, 3). Joints are in continuous pixels of the image:
the centre of pixel d is d + 0.5. Inputs are never drawn into.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from video_pose.video_io.writing import check_image, write_video

# Index of a joint, of another, and the colour (r, g, b) of the line between them.
Connection = tuple[int, int, tuple[int, int, int]]

# Below this confidence a joint is hollow and its lines are thin.
LOW_CONFIDENCE = 0.3

# Marks have their full size on a person of this share of the picture's longer side, and shrink with
# the person down to the second share.
_LARGE_PERSON, _SMALLEST_MARK = 0.25, 0.4

_SHIFT = 4  # OpenCV draws at 1/16 px

# The longer side, px, that lines and letters are meant for; larger pictures get larger ones.
MIN_DISPLAY_SIDE = 480

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TITLE_BACKGROUND = (32, 32, 32)


def connection_indices(
    joint_names: Sequence[str], rules: Iterable[tuple[str, str, tuple[int, int, int]]]
) -> list[Connection]:
    """A dataset's ``keypoint_connection_rules`` for joints in this order.

    Rules about joints that are not there are left out: a model may have fewer than the dataset.
    """
    index = {name: i for i, name in enumerate(joint_names)}
    return [(index[a], index[b], c) for a, b, c in rules if a in index and b in index]


def label_confidence(keypoints: np.ndarray) -> np.ndarray:
    """Ground truth (..., K, 3) with v of 0, 1, 2 as a confidence to draw: 0, .25 (hidden), 1."""
    drawn = np.array(keypoints, np.float32)
    drawn[..., 2] = np.select([drawn[..., 2] >= 2, drawn[..., 2] >= 1], [1.0, 0.25], 0.0)
    return drawn


def draw_pose(
    image_bgr: np.ndarray,
    keypoints: np.ndarray,
    connections: Sequence[Connection],
    box: Sequence[float] | None = None,
    title: str | None = None,
) -> np.ndarray:
    """A picture of one pose; small images are enlarged by a whole factor.

    A joint's dot goes from red (confidence 0) over yellow to green (1), and is hollow below
    ``LOW_CONFIDENCE``; lines have the colours of ``connections`` and are thin where either end is
    uncertain. Joints of confidence 0 or less, or without finite coordinates, are not drawn.

    Args:
        image_bgr: uint8 (H, W, 3).
        keypoints: (K, 3) x, y in image pixels, confidence in [0, 1] (larger counts as 1). For
            ground truth see `label_confidence`.
        connections: lines between joints, see `connection_indices`.
        box: x1, y1, x2, y2 in image pixels.
        title: a line of text, written in a strip above the picture.

    Returns:
        A new image: (H, W) times `display_factor`, plus the strip.

    Raises:
        ValueError: the image is not uint8 (H, W, 3), or ``keypoints`` not (K, 3).
    """
    check_image(image_bgr)
    keypoints = np.asarray(keypoints, np.float64)
    if keypoints.ndim != 2 or keypoints.shape[1] != 3:
        raise ValueError(f"keypoints must be (K, 3), got {keypoints.shape}")
    factor = display_factor(image_bgr.shape[:2])
    canvas = image_bgr.copy()
    if factor > 1:
        canvas = cv2.resize(canvas, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    if box is not None and np.isfinite(box).all():
        corners = _subpixel(np.asarray(box, np.float64).reshape(2, 2), factor)
        width = whole_px(max(canvas.shape[:2]) / MIN_DISPLAY_SIDE)
        cv2.rectangle(canvas, *corners, (255, 255, 255), width, cv2.LINE_AA, _SHIFT)
    drawn = np.isfinite(keypoints).all(axis=1) & (keypoints[:, 2] > 0)
    unit = _mark_unit(canvas.shape[:2], keypoints[drawn, :2] * factor)
    points = _subpixel(np.where(drawn[:, None], keypoints[:, :2], 0.0), factor)
    confidence = np.clip(np.where(drawn, keypoints[:, 2], 0.0), 0.0, 1.0)
    _draw_lines(canvas, points, confidence, connections, unit)
    _draw_dots(canvas, points, confidence, unit)
    return canvas if title is None else with_title(canvas, title)


def display_factor(size: tuple[int, int]) -> int:
    """Whole factor that brings the longer side of (height, width) to `MIN_DISPLAY_SIDE`, >= 1."""
    return max(1, math.ceil(MIN_DISPLAY_SIDE / max(size)))


def _mark_unit(size: tuple[int, ...], points: np.ndarray) -> float:
    """Length that marks are multiples of: it grows with the picture, and is shorter for people who
    are small in it, whose joints would run together."""
    unit = max(size) / MIN_DISPLAY_SIDE
    if len(points) < 2:
        return unit
    extent = float(np.ptp(points, axis=0).max()) / (_LARGE_PERSON * max(size))
    return unit * min(1.0, max(_SMALLEST_MARK, extent))


def _draw_lines(
    canvas: np.ndarray,
    points: list[tuple[int, int]],
    confidence: np.ndarray,
    connections: Sequence[Connection],
    unit: float,
) -> None:
    for a, b, (red, green, blue) in connections:
        weakest = min(confidence[a], confidence[b])
        if weakest <= 0:
            continue
        width = whole_px(4 * unit) if weakest >= LOW_CONFIDENCE else whole_px(1.6 * unit)
        # A dark rim keeps the line apart from any background.
        for extra, color in ((whole_px(unit) * 2, (0, 0, 0)), (0, (blue, green, red))):
            cv2.line(canvas, points[a], points[b], color, width + extra, cv2.LINE_AA, _SHIFT)


def _draw_dots(
    canvas: np.ndarray, points: list[tuple[int, int]], confidence: np.ndarray, unit: float
) -> None:
    radius = round(4.5 * unit * 2**_SHIFT)
    rim = round(unit * 2**_SHIFT)
    for point, value in zip(points, confidence):
        if value <= 0:
            continue
        color = _confidence_color(value)
        if value >= LOW_CONFIDENCE:
            cv2.circle(canvas, point, radius + rim, (0, 0, 0), -1, cv2.LINE_AA, _SHIFT)
            cv2.circle(canvas, point, radius, color, -1, cv2.LINE_AA, _SHIFT)
        else:
            cv2.circle(canvas, point, radius, (0, 0, 0), whole_px(3 * unit), cv2.LINE_AA, _SHIFT)
            cv2.circle(canvas, point, radius, color, whole_px(1.5 * unit), cv2.LINE_AA, _SHIFT)


def _confidence_color(confidence: float) -> tuple[int, int, int]:
    """Red at 0, yellow at .5, green at 1, as (b, g, r)."""
    return 0, round(255 * min(1.0, 2 * confidence)), round(255 * min(1.0, 2 - 2 * confidence))


def _subpixel(points: np.ndarray, factor: int) -> list[tuple[int, int]]:
    """Continuous image pixels (n, 2) as OpenCV's fixed-point ones of the enlarged image."""
    # Far-away coordinates would overflow OpenCV's fixed point.
    fixed = np.clip(np.rint((points * factor - 0.5) * 2**_SHIFT), -(2**24), 2**24)
    return [(int(x), int(y)) for x, y in fixed]


def side_by_side(
    image_bgr: np.ndarray,
    ground_truth: np.ndarray,
    prediction: np.ndarray,
    connections: Sequence[Connection],
    box: Sequence[float] | None = None,
    titles: tuple[str, str] = ("ground truth", "prediction"),
) -> np.ndarray:
    """One frame twice: with its labels (K, 3; v as stored) and with a prediction (K, 3; score)."""
    left = draw_pose(image_bgr, label_confidence(ground_truth), connections, box, titles[0])
    right = draw_pose(image_bgr, prediction, connections, box, titles[1])
    gap = np.full((left.shape[0], 4, 3), 255, np.uint8)
    return np.hstack([left, gap, right])


def write_overlay_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    ground_truth: np.ndarray,
    predictions: np.ndarray,
    connections: Sequence[Connection],
    fps: float,
    boxes: np.ndarray | None = None,
) -> str:
    """Write labels and predictions side by side, frame by frame; see `write_video`.

    Args:
        path: file to write.
        frames: N images.
        ground_truth: (N, K, 3), v as stored.
        predictions: (N, K, 3), score in [0, 1].
        connections: see `connection_indices`.
        fps: frames per second.
        boxes: (N, 4).
    """
    pictures = (
        side_by_side(
            frame,
            ground_truth[index],
            predictions[index],
            connections,
            None if boxes is None else boxes[index],
            (f"ground truth {index}", f"prediction {index}"),
        )
        for index, frame in enumerate(frames)
    )
    return write_video(path, pictures, fps)


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
