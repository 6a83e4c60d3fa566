"""What part of a frame a crop shows, as affine maps: pure geometry, without images.

All coordinates are continuous (a pixel's centre is its index + 0.5). Angles are in degrees and turn
the picture clockwise on the screen (y points down).

Shape letters: T frames of a clip, N frames of a track, H W size of the crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REGIONS = ("box", "frame")
REGION_PERS = ("frame", "clip")
SCALE_MODES = ("region", "absolute")
# LSTM Pose Machines leave this margin around a box that had to be shrunk (released code).
_TRAIN_MARGIN = 1.1
_TEST_MARGIN = 1.05


@dataclass(frozen=True)
class RegionRule:
    """How regions are chosen; the fields are the keys of ``cfg.INPUT`` of the same names.

    Raises:
        ValueError: an unknown name, or a combination in which one key would have no effect.
    """

    crop_size: tuple[int, int]  # (H, W)
    region: str = "box"
    padding: float = 1.25
    window: tuple[int, ...] = ()
    stretch: bool = False
    per: str = "frame"
    scale_mode: str = "region"

    def __post_init__(self) -> None:
        for key, value, choices in (
            ("INPUT.REGION", self.region, REGIONS),
            ("INPUT.REGION_PER", self.per, REGION_PERS),
            ("INPUT.SCALE_MODE", self.scale_mode, SCALE_MODES),
        ):
            if value not in choices:
                raise ValueError(f"{key} is {value!r}: expected one of {choices}")
        if len(self.crop_size) != 2 or min(self.crop_size) < 1:
            raise ValueError(f"INPUT.CROP_SIZE is {self.crop_size}: expected (height, width)")
        if self.padding <= 0:
            raise ValueError(f"INPUT.REGION_PADDING is {self.padding}: expected more than 0")
        if len(self.window) not in (0, 4):
            raise ValueError(f"INPUT.WINDOW is {self.window}: expected () or (x0, y0, x1, y1)")
        if self.region == "box" and (self.window or self.stretch):
            raise ValueError('INPUT.WINDOW and INPUT.STRETCH need INPUT.REGION "frame"')
        if self.stretch and self.scale_mode == "absolute":
            raise ValueError('INPUT.STRETCH needs INPUT.SCALE_MODE "region"')


def is_valid_box(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) XYXY -> bool (N,): finite, with a width and a height."""
    return (
        np.isfinite(boxes).all(axis=1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    )


def fill_boxes(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Replace each missing or zero-area box by the nearest valid one of its track.

    Of two equally near ones the earlier is taken. A track without any valid box gets the whole
    frame.

    Args:
        boxes: float (N, 4) XYXY.

    Returns:
        float64 (N, 4), a new array.
    """
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    valid = np.flatnonzero(is_valid_box(boxes))
    if len(valid) == 0:
        boxes[:] = (0, 0, width, height)
        return boxes
    after = np.searchsorted(valid, np.arange(len(boxes))).clip(0, len(valid) - 1)
    before = (after - 1).clip(0)
    frames = np.arange(len(boxes))
    nearer_before = np.abs(frames - valid[before]) <= np.abs(valid[after] - frames)
    return boxes[valid[np.where(nearer_before, before, after)]]


def union_box(boxes: np.ndarray) -> np.ndarray:
    """(N, 4), N >= 1 -> (4,): the smallest box around all."""
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def resolve_window(window: tuple[int, ...], height: int, width: int) -> np.ndarray:
    """Edges (x0, y0, x1, y1) of a window in an image, float64 (4,); () is the whole frame.

    x0, y0 < 0 and x1, y1 <= 0 count from the right and bottom edges.

    Raises:
        ValueError: the window is empty or leaves the frame.
    """
    if not window:
        return np.array([0, 0, width, height], dtype=np.float64)
    x0, y0, x1, y1 = window
    x0, y0 = x0 + width * (x0 < 0), y0 + height * (y0 < 0)
    x1, y1 = x1 + width * (x1 <= 0), y1 + height * (y1 <= 0)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(
            f"INPUT.WINDOW {tuple(window)} is ({x0}, {y0}, {x1}, {y1}) of a frame of "
            f"{width} x {height} (width x height): empty or outside"
        )
    return np.array([x0, y0, x1, y1], dtype=np.float64)


def clip_regions(
    rule: RegionRule, boxes: np.ndarray, union: np.ndarray, height: int, width: int
) -> np.ndarray:
    """The part of each frame that the crop is centred on and scaled by, without padding.

    Args:
        boxes: (T, 4) valid boxes of the frames (:func:`fill_boxes`).
        union: (4,) box that REGION_PER "clip" uses for all frames.

    Returns:
        float64 (T, 4) XYXY.
    """
    if rule.region == "frame":
        return np.tile(resolve_window(rule.window, height, width), (len(boxes), 1))
    if rule.per == "clip":
        return np.tile(np.asarray(union, dtype=np.float64), (len(boxes), 1))
    return np.asarray(boxes, dtype=np.float64)


def rotated_size(regions: np.ndarray, angle: float) -> np.ndarray:
    """(T, 4) -> (T, 2): width and height of the upright rectangle around the turned region."""
    size = regions[:, 2:] - regions[:, :2]
    cos, sin = abs(np.cos(np.deg2rad(angle))), abs(np.sin(np.deg2rad(angle)))
    return size @ np.array([[cos, sin], [sin, cos]])


def region_scales(
    rule: RegionRule, regions: np.ndarray, factor: float, angle: float = 0.0, train: bool = False
) -> np.ndarray:
    """Crop pixels per image pixel.

    SCALE_MODE "absolute" is the protocol of LSTM Pose Machines: where the longest side of a scaled
    region exceeds the crop, a training clip is rescaled by (crop / longest) / 1.1, with the longest
    *rotated* region of the clip; in testing each frame apart by (crop / longest) / 1.05.

    Args:
        factor: the drawn or the test scale.
        angle: the drawn rotation, for "absolute".
        train: one shrinking factor for the clip instead of one per frame.

    Returns:
        float64 (T, 2), in x and y; equal unless STRETCH.
    """
    crop_h, crop_w = rule.crop_size
    crop = np.array([crop_w, crop_h], dtype=np.float64)
    if rule.scale_mode == "absolute":
        longest = factor * rotated_size(regions, angle if train else 0.0).max(axis=1)
        if train:
            longest = np.full_like(longest, longest.max())
        margin = _TRAIN_MARGIN if train else _TEST_MARGIN
        side = crop.min()
        shrink = np.where(longest > side, side / longest / margin, 1.0)
        return np.repeat((factor * shrink)[:, None], 2, axis=1)
    size = regions[:, 2:] - regions[:, :2]
    if rule.region == "box":
        size = size * rule.padding
    scales = factor * crop / size
    if not rule.stretch:
        scales = np.repeat(scales.min(axis=1, keepdims=True), 2, axis=1)
    return scales


def image_to_crop(
    regions: np.ndarray,
    scales: np.ndarray,
    crop_size: tuple[int, int],
    angle: float = 0.0,
    flip: bool = False,
    shift: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Affine maps from image to crop: scale, then rotate, then mirror, then shift.

    The centre of each region lands at the centre of the crop plus ``shift``.

    Args:
        regions: (T, 4) XYXY, image px.
        scales: (T, 2), crop px per image px in x and y.
        shift: (x, y), crop px.

    Returns:
        float64 (T, 2, 3): crop = M[:, :2] @ image + M[:, 2].
    """
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    turn = np.array([[cos, -sin], [sin, cos]])
    if flip:
        turn = np.diag([-1.0, 1.0]) @ turn
    linear = turn * scales[:, None, :]
    centers = (regions[:, :2] + regions[:, 2:]) / 2
    target = np.array([crop_size[1], crop_size[0]]) / 2 + np.asarray(shift)
    offset = target - np.einsum("tij,tj->ti", linear, centers)
    return np.concatenate([linear, offset[:, :, None]], axis=2)


def invert_affine(matrices: np.ndarray) -> np.ndarray:
    """(..., 2, 3) -> (..., 2, 3), float64."""
    linear = np.linalg.inv(np.asarray(matrices, dtype=np.float64)[..., :2])
    return np.concatenate([linear, -linear @ matrices[..., 2:]], axis=-1)


def apply_affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(2, 3) and (..., 2) -> (..., 2)."""
    return points @ matrix[:, :2].T + matrix[:, 2]
