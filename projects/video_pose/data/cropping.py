"""A person's crop: which part of a frame it shows, as an affine map, and the picture itself.

All coordinates are continuous (a pixel's centre is its index + 0.5). Angles are in degrees and turn
the picture clockwise on the screen (y points down).

Shape letters: T frames of a clip, N frames of a track, H W size of the crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from fvcore.transforms.transform import Transform
from torch import Tensor

from video_pose.data.datasets.tracks import joint_boxes

Boxes = TypeVar("Boxes", np.ndarray, Tensor)

REGIONS = ("box", "frame")
REGION_PERS = ("frame", "clip")
SCALE_MODES = ("region", "absolute")
# LSTM Pose Machines leave this margin around a box that had to be shrunk (released code).
_TRAIN_MARGIN = 1.1
_TEST_MARGIN = 1.05
# Below this scale plain bilinear sampling skips pixels: the image is averaged over areas first.
_AREA_SCALE = 0.5
# OpenCV warps four channels twice as fast as three, with equal results; the fourth one is worth
# adding while the input has no more than this many times the output's pixels.
_MAX_PADDED_INPUT = 8


@dataclass(frozen=True)
class RegionRule:
    """How regions are chosen; the fields are the keys of ``cfg.INPUT`` of the same names.

    Raises:
        ValueError: an unknown name, or a combination in which one key would have no effect.
    """

    crop_size: tuple[int, int]  # (H, W)
    region: str = "box"
    padding: float = 1.25
    margin: float = 0.0
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
        if self.margin < 0:
            raise ValueError(f"INPUT.REGION_MARGIN is {self.margin}: expected 0 or more")
        if len(self.window) not in (0, 4):
            raise ValueError(f"INPUT.WINDOW is {self.window}: expected () or (x0, y0, x1, y1)")
        if self.region == "box" and (self.window or self.stretch):
            raise ValueError('INPUT.WINDOW and INPUT.STRETCH need INPUT.REGION "frame"')
        if self.region == "frame" and self.margin:
            raise ValueError('INPUT.REGION_MARGIN needs INPUT.REGION "box"')
        if self.stretch and self.scale_mode == "absolute":
            raise ValueError('INPUT.STRETCH needs INPUT.SCALE_MODE "region"')


def is_valid_box(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) XYXY -> bool (N,): finite, with a width and a height."""
    return (
        np.isfinite(boxes).all(axis=1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    )


def fill_boxes(
    boxes: np.ndarray, height: int, width: int, keypoints: np.ndarray | None = None
) -> np.ndarray:
    """Replace each missing or zero-area box by the extent of the frame's joints, as the frames view
    does, else by the nearest valid one of its track.

    Of two equally near ones the earlier is taken. A track without any valid box gets the whole
    frame.

    Args:
        boxes: float (N, 4) XYXY.
        keypoints: (N, K, 3) of the frames, where they are known.

    Returns:
        float64 (N, 4), a new array.
    """
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    if keypoints is not None:
        boxes = np.where(is_valid_box(boxes)[:, None], boxes, joint_boxes(keypoints))
    valid = np.flatnonzero(is_valid_box(boxes))
    if len(valid) == 0:
        boxes[:] = (0, 0, width, height)
        return boxes
    after = np.searchsorted(valid, np.arange(len(boxes))).clip(0, len(valid) - 1)
    before = (after - 1).clip(0)
    frames = np.arange(len(boxes))
    nearer_before = np.abs(frames - valid[before]) <= np.abs(valid[after] - frames)
    return boxes[valid[np.where(nearer_before, before, after)]]


def half_body_boxes(
    boxes: np.ndarray, keypoints: np.ndarray, rows: list[int], factor: float = 1.3
) -> np.ndarray:
    """Boxes about a part of the joints; a frame with fewer than three of them keeps its box.

    Args:
        boxes: (T, 4). keypoints: (T, K, 3). rows: of the part. factor: on the joints' extent.

    Returns:
        float64 (T, 4), no side shorter than a quarter of the box's longer one, so that three
        joints in a row are no sliver.
    """
    boxes = np.array(boxes, dtype=np.float64)
    for box, joints in zip(boxes, keypoints[:, rows], strict=True):
        points = joints[joints[:, 2] > 0, :2]
        if len(points) < 3:
            continue
        low, high = points.min(axis=0), points.max(axis=0)
        least = 0.25 * max(box[2] - box[0], box[3] - box[1])
        half = np.maximum((high - low) * factor, least) / 2
        box[:] = np.concatenate([(low + high) / 2 - half, (low + high) / 2 + half])
    return boxes


def jitter_boxes(boxes: Boxes, jitter: Sequence[float] | Boxes) -> Boxes:
    """Boxes (T, 4), an array or a tensor, with edges moved by shares of their sides, (4,) or
    (T, 4), below a half."""
    return boxes + (boxes[:, [2, 3, 2, 3]] - boxes[:, [0, 1, 0, 1]]) * jitter


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
        union: box that REGION_PER "clip" uses, (4,) or (1, 4) for all frames, or (T, 4).

    Returns:
        float64 (T, 4) XYXY.
    """
    if rule.region == "frame":
        return np.tile(resolve_window(rule.window, height, width), (len(boxes), 1))
    if rule.per == "clip":
        return np.broadcast_to(np.asarray(union, dtype=np.float64), boxes.shape).copy()
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


def hide_surroundings(
    pictures: np.ndarray, regions: np.ndarray, maps: np.ndarray, margin: float, value: int
) -> None:
    """Fill crops, in place, where they show what is far from their region.

    A square crop about a narrow box holds the neighbours as well, and nothing tells a network of
    one person whose joints are asked for.

    Args:
        pictures: uint8 (T, 3, H, W).
        regions: (T, 4) XYXY, image px.
        maps: (T, 2, 3), image to crop.
        margin: share of a region's longer side that stays visible around it.
        value: of the rest, 0-255.
    """
    sides = margin * (regions[:, 2:] - regions[:, :2]).max(axis=1, keepdims=True)
    shown = np.concatenate([regions[:, :2] - sides, regions[:, 2:] + sides], axis=1)
    for picture, edges, matrix in zip(pictures, shown, maps, strict=True):
        corners = apply_affine(matrix, edges[[[0, 1], [2, 1], [2, 3], [0, 3]]]) - 0.5
        hidden = np.ones(picture.shape[1:], np.uint8)
        cv2.fillConvexPoly(hidden, np.round(corners).astype(np.int32), 0)
        picture[:, hidden > 0] = value


def invert_affine(matrices: np.ndarray) -> np.ndarray:
    """(..., 2, 3) -> (..., 2, 3), float64."""
    linear = np.linalg.inv(np.asarray(matrices, dtype=np.float64)[..., :2])
    return np.concatenate([linear, -linear @ matrices[..., 2:]], axis=-1)


def apply_affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(2, 3) and (..., 2) -> (..., 2)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


class AffineTransform(Transform):
    """An affine map of continuous coordinates to a picture of fixed size.

    Bilinear; an image that shrinks to less than half is averaged over areas first, so that fine
    texture does not alias.
    """

    def __init__(
        self, matrix: np.ndarray, output_size: tuple[int, int], pad_value: float = 128.0
    ) -> None:
        """
        Args:
            matrix: (2, 3), input to output, continuous coordinates.
            output_size: (H, W).
            pad_value: value of every channel outside the input image.
        """
        super().__init__()
        self.matrix = np.asarray(matrix, dtype=np.float64)
        self.output_size = (int(output_size[0]), int(output_size[1]))
        self.pad_value = float(pad_value)

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """uint8 or float32 (h, w, 3) or (h, w) -> (H, W, 3) or (H, W), a new array."""
        img, matrix = self._shrink(img)
        # cv2 works with pixel indices i = c - 0.5 on both sides.
        indexed = matrix.copy()
        indexed[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
        height, width = self.output_size
        is_small = img.shape[0] * img.shape[1] <= _MAX_PADDED_INPUT * height * width
        padded = is_small and img.dtype == np.uint8 and img.shape[2:] == (3,)
        out = cv2.warpAffine(
            cv2.cvtColor(img, cv2.COLOR_BGR2BGRA) if padded else img,
            indexed,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(self.pad_value,) * 4,
        )
        return cv2.cvtColor(out, cv2.COLOR_BGRA2BGR) if padded else out

    def _shrink(self, img: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scales = np.hypot(self.matrix[0, :2], self.matrix[1, :2])
        if scales.min() >= _AREA_SCALE:
            return img, self.matrix
        height, width = img.shape[:2]
        wanted = np.where(scales < _AREA_SCALE, scales, 1.0)
        new = np.maximum(1, np.round(wanted * (width, height))).astype(int)
        img = cv2.resize(img, (int(new[0]), int(new[1])), interpolation=cv2.INTER_AREA)
        matrix = self.matrix.copy()
        matrix[:, :2] *= np.array([width, height]) / new
        return img, matrix

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """(..., 2) -> (..., 2), continuous coordinates."""
        return apply_affine(self.matrix, np.asarray(coords, dtype=np.float64))

    def inverse(self) -> Transform:
        raise NotImplementedError("the input's size is not kept: invert the matrix instead")


class Placement(NamedTuple):
    """How a region lies in its crop: at a test scale, or as an augmentation drew it."""

    scale: float = 1.0
    angle: float = 0.0  # degrees, clockwise on the screen
    flip: bool = False
    shift: tuple[float, float] = (0.0, 0.0)  # (x, y), crop px


class Crops(NamedTuple):
    """S placements of T crops."""

    pictures: np.ndarray  # uint8 (S, T, 3, H, W)
    image_to_crop: np.ndarray  # float64 (S, T, 2, 3)
    centers: np.ndarray  # float64 (S, T, 2), the boxes' centres, crop px


class PersonCropper:
    """Crops of one person in T frames, or of T persons in one: the two are the same to it.

    Args:
        rule: which part of a frame a crop shows.
        pad_value: of pixels outside the image, 0-255.
    """

    def __init__(self, rule: RegionRule, pad_value: int = 128) -> None:
        if not 0 <= pad_value <= 255:
            raise ValueError(f"INPUT.PAD_VALUE is {pad_value}: expected 0 to 255")
        self.rule = rule
        self.pad_value = pad_value

    def __call__(
        self,
        images: Sequence[np.ndarray],
        boxes: np.ndarray,
        union: np.ndarray,
        placements: Sequence[Placement] = (Placement(),),
        train: bool = False,
    ) -> Crops:
        """
        Args:
            images: T frames, uint8 (h, w, 3), all of one size; the same one T times for T persons.
            boxes: (T, 4) valid boxes. union: (4,) or (T, 4), what REGION_PER "clip" shows.
            placements: the crops that are made of each box.
            train: SCALE_MODE "absolute" shrinks a whole clip alike in training.
        """
        height, width = images[0].shape[:2]
        boxes = np.asarray(boxes, dtype=np.float64)
        regions = clip_regions(self.rule, boxes, union, height, width)
        affine = np.stack([self._maps(regions, placement, train) for placement in placements])
        pictures = np.empty((*affine.shape[:2], 3, *self.rule.crop_size), dtype=np.uint8)
        for row, maps in zip(pictures, affine, strict=True):
            for planes, image, matrix in zip(row, images, maps, strict=True):
                warp = AffineTransform(matrix, self.rule.crop_size, self.pad_value)
                cv2.split(warp.apply_image(image), list(planes))
            if self.rule.margin:
                hide_surroundings(row, regions, maps, self.rule.margin, self.pad_value)
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        centers = np.einsum("stij,tj->sti", affine[..., :2], middles) + affine[..., 2]
        return Crops(pictures, affine, centers)

    def _maps(self, regions: np.ndarray, placement: Placement, train: bool) -> np.ndarray:
        scale, angle, flip, shift = placement
        scales = region_scales(self.rule, regions, scale, angle, train)
        return image_to_crop(regions, scales, self.rule.crop_size, angle, flip, shift)
