"""Four training frames as one: each fills a quarter, cut at a random point (YOLOv4's mosaic).

Data whose people all fill their image, such as crops of persons, teach a detector neither small
people nor background; here they come smaller, off the centre, cut by borders, and beside others.

H W canvas, h w a mapped frame, P persons, K joints.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from torch import Tensor

from .frames_mapper import IGNORED, is_label
from .records import MappedFrame, MosaicFrame

# Where the four meet, as a share of the canvas.
CENTRE = (0.3, 0.7)
# A frame is enlarged to cover its quarter, and by a random factor up to this.
ZOOM = 1.3


class Mosaic:
    """Composes mapped frames. Draws from NumPy's global generator, as Detectron2's augmentations.

    Args:
        probability: of a mosaic, 0-1.
        size: (H, W) of it, px.
        weights: of the frames that join a frame, one per frame; None: all alike.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self, probability: float, size: Sequence[int], weights: Sequence[float] | None = None
    ) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"INPUT.FRAMES.MOSAIC_PROB is {probability}: must lie in 0-1")
        if len(size) != 2 or min(size) < 16:
            raise ValueError(f"INPUT.FRAMES.MOSAIC_SIZE is {size}: give (height, width) >= 16 px")
        self._probability = probability
        self._size = int(size[0]), int(size[1])
        self._sums = None if weights is None else np.cumsum(weights) / np.sum(weights)

    def draw(self, count: int) -> list[int] | None:
        """Numbers of the three frames, of ``count``, that join a frame; None: it stays alone."""
        if np.random.rand() >= self._probability:
            return None
        if self._sums is None:
            return np.random.randint(count, size=3).tolist()
        return np.searchsorted(self._sums, np.random.rand(3), side="right").tolist()

    def __call__(self, frames: Sequence[MappedFrame]) -> MosaicFrame:
        """One frame of four mapped ones, top left, top right, bottom left, bottom right.

        Returns:
            ``image`` uint8 (C, H, W), ``instances``, ``height``, ``width``, and ``mosaic_of``, the
            four ``file_name``.

        Raises:
            ValueError: a frame without instances, or with masks that are no bit masks.
        """
        height, width = self._size
        y = int(height * np.random.uniform(*CENTRE))
        x = int(width * np.random.uniform(*CENTRE))
        corners = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
        channels = frames[0]["image"].shape[0]
        canvas = torch.zeros((channels, height, width), dtype=torch.uint8)
        persons = []
        for frame, corner in zip(frames, corners):
            persons.append(_place(frame, corner, canvas))
        # An image without persons may lack fields that the others have.
        persons = [item for item in persons if len(item)] or persons[:1]
        return {
            "image": canvas,
            "instances": Instances.cat(persons),
            "height": height,
            "width": width,
            "mosaic_of": [frame["file_name"] for frame in frames],
        }


def _place(frame: MappedFrame, corner: tuple[int, int, int, int], canvas: Tensor) -> Instances:
    """Draw a frame into its quarter (x0, y0, x1, y1) of ``canvas``; its persons on the canvas."""
    if "instances" not in frame:
        raise ValueError(f"{frame['file_name']}: a mosaic needs frames with annotations")
    x0, y0, x1, y1 = corner
    image = frame["image"]
    h, w = image.shape[1:]
    factor = max((y1 - y0) / h, (x1 - x0) / w) * np.random.uniform(1, ZOOM)
    size = round(h * factor), round(w * factor)  # no less than the quarter
    top = np.random.randint(size[0] - (y1 - y0) + 1)
    left = np.random.randint(size[1] - (x1 - x0) + 1)
    rows, columns = slice(top, top + y1 - y0), slice(left, left + x1 - x0)
    canvas[:, y0:y1, x0:x1] = _resize(image, size, "bilinear")[:, rows, columns]
    scale = torch.tensor([size[1] / w, size[0] / h], dtype=torch.float32)
    shift = torch.tensor([x0 - left, y0 - top], dtype=torch.float32)
    return _move(frame["instances"], scale, shift, corner, canvas.shape[1:], size)


def _move(
    persons: Instances,
    scale: Tensor,
    shift: Tensor,
    corner: tuple[int, int, int, int],
    canvas: Sequence[int],
    size: tuple[int, int],
) -> Instances:
    """Persons at ``xy * scale + shift`` on the canvas, cut at their quarter.

    Args:
        scale, shift: (2,), of x and y. size: (h, w) of the enlarged frame.
    """
    x0, y0, x1, y1 = corner
    low, high = torch.tensor([x0, y0] * 2), torch.tensor([x1, y1] * 2)
    out = Instances(tuple(canvas), **persons.get_fields())
    whole = persons.gt_boxes.tensor * scale.repeat(2) + shift.repeat(2)
    out.gt_boxes = Boxes(torch.minimum(torch.maximum(whole, low), high).to(whole.dtype))
    if persons.has("gt_masks"):
        if not isinstance(persons.gt_masks, BitMasks):
            raise ValueError("a mosaic moves bit masks: set INPUT.MASK_FORMAT to 'bitmask'")
        masks = torch.zeros((len(persons), *canvas), dtype=torch.bool)
        top, left = int(y0 - shift[1]), int(x0 - shift[0])
        enlarged = _resize(persons.gt_masks.tensor.to(torch.uint8), size, "nearest")
        masks[:, y0:y1, x0:x1] = enlarged[:, top : top + y1 - y0, left : left + x1 - x0].bool()
        out.gt_masks = BitMasks(masks)
        if not persons.has("gt_has_mask"):  # images that have all masks do not say so
            out.gt_has_mask = torch.ones(len(persons), dtype=torch.bool)
    if persons.has("gt_keypoints"):
        points = persons.gt_keypoints.tensor.clone()
        points[..., :2] = points[..., :2] * scale + shift
        seen = ((points[..., :2] >= low[:2]) & (points[..., :2] <= high[:2])).all(-1)
        out.gt_keypoints = Keypoints(points * (seen & (points[..., 2] > 0))[..., None])
    share = out.gt_boxes.area() / Boxes(whole).area().clamp(min=1e-6)
    if persons.has("gt_classes"):
        share[(out.gt_classes == IGNORED) & (share > 0)] = 1
    return out[is_label(share, out.gt_boxes.area() / ((x1 - x0) * (y1 - y0)))]


def _resize(images: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """uint8 (N, h, w) -> uint8 (N, *size)."""
    if images.shape[0] == 0:
        return images.new_zeros((0, *size))
    smooth = {"antialias": True, "align_corners": False} if mode == "bilinear" else {}
    out = F.interpolate(images[None].float(), size=size, mode=mode, **smooth)[0]
    return out.round().to(torch.uint8)
