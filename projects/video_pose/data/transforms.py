"""Augmentation of a clip: one draw, and Detectron2 Transform objects that change its pictures.

Shape letters: T frames of a clip, K joints, H W size of the crop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from fvcore.transforms.transform import Transform

from video_pose.data.cropping import Placement

# Luminance weights of ITU-R BT.601, in RGB.
_LUMINANCE_RGB = (0.299, 0.587, 0.114)


class ColorTransform(Transform):
    """Brightness, contrast about mid-grey and saturation, in this order; points stay."""

    def __init__(
        self, brightness: float, contrast: float, saturation: float, image_format: str
    ) -> None:
        """The three are factors; 1 changes nothing. ``image_format``: "BGR" or "RGB"."""
        super().__init__()
        weights = _LUMINANCE_RGB if image_format == "RGB" else _LUMINANCE_RGB[::-1]
        mix = saturation * np.eye(3) + (1 - saturation) * np.array(weights)
        # About a fixed grey, not the mean of the frame: the frames of a clip must not flicker. Rows
        # of the mix sum to 1, so that greys pass it as they are.
        grey = np.full((3, 1), 128 * (1 - contrast))
        self.matrix = np.hstack([brightness * contrast * mix, grey])

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) -> the same shape, a new array."""
        return cv2.transform(img, self.matrix)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords


class CoverTransform(Transform):
    """Cover a rectangle with one value; points stay."""

    def __init__(self, rectangle: tuple[int, int, int, int], value: int) -> None:
        """``rectangle``: (x0, y0, x1, y1), pixel indices, the last two exclusive."""
        super().__init__()
        self.rectangle = rectangle
        self.value = value

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        x0, y0, x1, y1 = self.rectangle
        img = img.copy()
        img[y0:y1, x0:x1] = self.value
        return img

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords


class FillTransform(Transform):
    """Cover a rectangle with a colour and noise, the same in all frames; points stay."""

    def __init__(
        self, rectangle: tuple[int, int, int, int], color: tuple[int, int, int], seed: int
    ) -> None:
        """``rectangle``: (x0, y0, x1, y1), pixel indices, the last two exclusive."""
        super().__init__()
        self.rectangle, self.color, self.seed = rectangle, color, seed

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        x0, y0, x1, y1 = self.rectangle
        coarse = np.random.default_rng(self.seed).normal(self.color, 30, (8, 8, 3))
        patch = cv2.resize(coarse, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
        img = img.copy()
        img[y0:y1, x0:x1] = patch.clip(0, 255).astype(np.uint8)
        return img

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords


class BlurTransform(Transform):
    """Gaussian blur, or the loss of detail of a smaller picture; points stay."""

    def __init__(self, sigma: float = 0.0, factor: float = 1.0) -> None:
        """``sigma``: px, 0 for none. ``factor``: of the resolution that is lost, 1 for none."""
        super().__init__()
        self.sigma, self.factor = sigma, factor

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        height, width = img.shape[:2]
        if self.factor > 1:
            size = (max(1, round(width / self.factor)), max(1, round(height / self.factor)))
            img = cv2.resize(img, size, interpolation=cv2.INTER_AREA)
            img = cv2.resize(img, (width, height), interpolation=cv2.INTER_LINEAR)
        return cv2.GaussianBlur(img, (0, 0), self.sigma) if self.sigma > 0 else img

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords


@dataclass(frozen=True)
class ClipDraw:
    """The random numbers of one clip.

    Attributes:
        scale: factor on the scale.
        angle: degrees, clockwise on the screen.
        flip: mirror horizontally.
        shift: (x, y), crop px.
        color: factors of brightness, contrast and saturation, None for no change.
        cover: rectangle (x0, y0, x1, y1) of the crop, None for none.
        cover_span: the part of the clip that it covers, (start, stop) as shares of its frames.
        cover_color: its colour, None for the pad value; cover_seed: of the colour's noise.
        half: "upper" or "lower" body whose box is shown, "" for the person's.
        jitter: shifts of the box's edges (x0, y0, x1, y1) as shares of its sides.
        frame_jitter: largest such shift that every frame has beside it, drawn from jitter_seed.
        blur: standard deviation, px; low_res: factor of lost resolution.
    """

    scale: float = 1.0
    angle: float = 0.0
    flip: bool = False
    shift: tuple[float, float] = (0.0, 0.0)
    color: tuple[float, float, float] | None = None
    cover: tuple[int, int, int, int] | None = None
    cover_span: tuple[float, float] = (0.0, 1.0)
    cover_color: tuple[int, int, int] | None = None
    cover_seed: int = 0
    half: str = ""
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    frame_jitter: float = 0.0
    jitter_seed: int = 0
    blur: float = 0.0
    low_res: float = 1.0

    @property
    def placement(self) -> Placement:
        """Where the region lies in the crop."""
        return Placement(self.scale, self.angle, self.flip, self.shift)

    def jitters(self, frames: int) -> np.ndarray:
        """Shifts of the box's edges in every frame, (T, 4), as shares of its sides."""
        rng = np.random.default_rng(self.jitter_seed)
        own = rng.uniform(-self.frame_jitter, self.frame_jitter, (frames, 4))
        return np.asarray(self.jitter) + own

    def covers(self, frame: int, frames: int) -> bool:
        """Whether the rectangle covers this frame (0-based) of a clip of so many."""
        start, stop = self.cover_span
        return self.cover is not None and start <= (frame + 0.5) / frames < stop


@dataclass(frozen=True)
class ClipAugmentation:
    """Ranges that a clip's draw is made from; the fields are the keys of ``cfg.INPUT.AUG``.

    Raises:
        ValueError: a range is out of order or a probability is outside 0-1.
    """

    scale_range: tuple[float, float] = (1.0, 1.0)
    rotation: float = 0.0
    flip_prob: float = 0.0
    translation: float = 0.0
    color: float = 0.0
    occlusion_prob: float = 0.0
    occlusion_size: tuple[float, float] = (0.1, 0.3)
    occlusion_span: tuple[float, float] = (1.0, 1.0)
    occlusion_fill: str = "pad"
    box_jitter: float = 0.0
    box_jitter_frame: float = 0.0
    half_body_prob: float = 0.0
    blur_prob: float = 0.0
    blur_sigma: tuple[float, float] = (0.5, 2.0)
    low_res_prob: float = 0.0
    low_res_range: tuple[float, float] = (1.5, 4.0)

    def __post_init__(self) -> None:
        pairs = (
            ("SCALE_RANGE", self.scale_range),
            ("OCCLUSION_SIZE", self.occlusion_size),
            ("OCCLUSION_SPAN", self.occlusion_span),
            ("BLUR_SIGMA", self.blur_sigma),
            ("LOW_RES_RANGE", self.low_res_range),
        )
        for key, pair in pairs:
            if len(pair) != 2 or not 0 < pair[0] <= pair[1]:
                raise ValueError(f"INPUT.AUG.{key} is {pair}: expected 0 < low <= high")
        if self.occlusion_fill not in ("pad", "color"):
            raise ValueError(
                f'INPUT.AUG.OCCLUSION_FILL is {self.occlusion_fill!r}: expected "pad" or "color"'
            )
        if self.low_res_range[0] < 1:
            raise ValueError(
                f"INPUT.AUG.LOW_RES_RANGE is {self.low_res_range}: expected factors from 1"
            )
        if not 0 <= self.box_jitter < 0.5:
            raise ValueError(f"INPUT.AUG.BOX_JITTER is {self.box_jitter}: expected 0 to below 0.5")
        if not 0 <= self.box_jitter_frame < 0.5 - self.box_jitter:
            raise ValueError(
                f"INPUT.AUG.BOX_JITTER_FRAME is {self.box_jitter_frame}: expected 0 or more, and "
                "with BOX_JITTER below 0.5, or a box would turn inside out"
            )
        for key, value in (
            ("FLIP_PROB", self.flip_prob),
            ("OCCLUSION_PROB", self.occlusion_prob),
            ("HALF_BODY_PROB", self.half_body_prob),
            ("BLUR_PROB", self.blur_prob),
            ("LOW_RES_PROB", self.low_res_prob),
        ):
            if not 0 <= value <= 1:
                raise ValueError(f"INPUT.AUG.{key} is {value}: expected 0 to 1")
        for key, (_, high) in pairs[1:3]:
            if high > 1:
                raise ValueError(f"INPUT.AUG.{key} goes up to {high}: at most 1")
        if not 0 <= self.color < 1 or self.translation < 0 or self.rotation < 0:
            raise ValueError(
                f"INPUT.AUG: COLOR {self.color} (0 to below 1), TRANSLATION {self.translation} "
                f"and ROTATION {self.rotation} (0 or more) are out of range"
            )

    def draw(self, rng: np.random.Generator, crop_size: tuple[int, int]) -> ClipDraw:
        """Draw once for a whole clip. ``crop_size``: (H, W)."""
        crop = np.array([crop_size[1], crop_size[0]])
        shift = rng.uniform(-self.translation, self.translation, 2) * crop
        low, high = 1 - self.color, 1 + self.color
        color = tuple(rng.uniform(low, high, 3).tolist()) if self.color else None
        cover, span = None, (0.0, 1.0)
        if rng.random() < self.occlusion_prob:
            size = np.maximum(1, rng.uniform(*self.occlusion_size, 2) * crop).astype(int)
            corner = rng.integers(0, crop - size + 1)
            cover = tuple(np.concatenate([corner, corner + size]).tolist())
            if self.occlusion_span[0] < 1:
                span = self._draw_span(rng)
        base = ClipDraw(
            scale=float(rng.uniform(*self.scale_range)),
            angle=float(rng.uniform(-self.rotation, self.rotation)),
            flip=bool(rng.random() < self.flip_prob),
            shift=(float(shift[0]), float(shift[1])),
            color=color,
            cover=cover,
            cover_span=span,
        )
        return replace(base, **self._draw_more(rng, cover is not None))

    def _draw_more(self, rng: np.random.Generator, covered: bool) -> dict[str, Any]:
        """Drawn after all else, so that a recipe without them keeps its numbers."""
        more: dict[str, Any] = {}
        if covered and self.occlusion_fill == "color":
            more["cover_color"] = tuple(rng.integers(0, 256, 3).tolist())
            more["cover_seed"] = int(rng.integers(2**31))
        if self.half_body_prob and rng.random() < self.half_body_prob:
            more["half"] = "upper" if rng.random() < 0.6 else "lower"
        if self.box_jitter:
            more["jitter"] = tuple(rng.uniform(-self.box_jitter, self.box_jitter, 4).tolist())
        if self.box_jitter_frame:
            more["frame_jitter"] = self.box_jitter_frame
            more["jitter_seed"] = int(rng.integers(2**31))
        if self.blur_prob and rng.random() < self.blur_prob:
            more["blur"] = float(rng.uniform(*self.blur_sigma))
        if self.low_res_prob and rng.random() < self.low_res_prob:
            more["low_res"] = float(rng.uniform(*self.low_res_range))
        return more

    def _draw_span(self, rng: np.random.Generator) -> tuple[float, float]:
        length = rng.uniform(*self.occlusion_span)
        start = rng.uniform(0, 1 - length)
        return float(start), float(start + length)


def picture_transforms(draw: ClipDraw, image_format: str) -> list[Transform]:
    """What a draw does to the crops of all frames of a clip alike: colours, then sharpness."""
    transforms: list[Transform] = []
    if draw.color is not None:
        transforms.append(ColorTransform(*draw.color, image_format=image_format))
    if draw.blur > 0 or draw.low_res > 1:
        transforms.append(BlurTransform(draw.blur, draw.low_res))
    return transforms


def cover_transform(draw: ClipDraw, pad_value: int) -> Transform:
    """What covers a part of the picture in a draw that has a ``cover``."""
    assert draw.cover is not None
    if draw.cover_color is None:
        return CoverTransform(draw.cover, pad_value)
    return FillTransform(draw.cover, draw.cover_color, draw.cover_seed)
