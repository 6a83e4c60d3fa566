"""Heatmap targets and their inverse.

Shapes: N maps' owners (frames or rows), K joints, C = K + 1 channels with background or K without,
h, w cells of a map. Coordinates are continuous crop pixels: the centre of the discrete pixel d lies
at d + 0.5. Cell i of a map is centred on the discrete pixel ``stride * i + offset``, so that an
offset of (stride - 1) / 2 is the true centre of the stride x stride block that the cell covers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from detectron2.config import CfgNode
from torch import Tensor
from torch.nn import functional

from video_pose.skeleton import infer_sigmas

BACKGROUNDS = ("first", "last", "none")
DECODERS = ("argmax", "quarter", "dark", "oks")
# Logarithms of a map are taken of values no smaller than this: targets are cut at about 0.01, and a
# floor far below would let an empty neighbour throw the refined peak to the edge of its cell.
_LOG_FLOOR = 1e-3


class HeatmapCodec:
    """Encodes joints into Gaussian maps and decodes maps into joints.

    Args:
        stride: pixels per cell.
        sigma: standard deviation of a Gaussian, px.
        threshold: target values below it are set to 0.
        background: channel of 1 - max over the joints' maps: "first", "last" or "none".
        encode_offset, decode_offset: discrete pixel at the centre of cell 0; None: (stride - 1) /
        2.
        decode: "argmax", "quarter", "dark" (Zhang et al., CVPR 2020, section 3.2), or "oks": the
            place of the highest expected keypoint similarity, see `similarity`, then as "dark".
        oks_widths: K standard deviations, px, of the Gaussian of distance by which COCO measures
            similarity: 2 x the joint's sigma x the person's scale; for "oks" alone.
        absent_weight: of the empty target of a joint that is known to be absent (v below 0).
        partial: joints may be unlabelled though they are in the picture, so that the background
            of a frame with such a joint carries no loss.
    """

    def __init__(
        self,
        *,
        stride: int = 8,
        sigma: float = 8.0,
        threshold: float = 0.01,
        background: str = "last",
        encode_offset: float | None = None,
        decode_offset: float | None = None,
        decode: str = "dark",
        oks_widths: Sequence[float] = (),
        absent_weight: float = 0.0,
        partial: bool = False,
    ) -> None:
        if stride < 1 or sigma <= 0:
            raise ValueError(f"stride {stride} and sigma {sigma} must be positive")
        if background not in BACKGROUNDS:
            raise ValueError(f"heatmap background {background!r}: choose from {BACKGROUNDS}")
        if decode not in DECODERS:
            raise ValueError(f"heatmap decoding {decode!r}: choose from {DECODERS}")
        self.stride = stride
        self.sigma = sigma
        self.threshold = threshold
        self.background = background
        center = (stride - 1) / 2
        self.encode_offset = center if encode_offset is None else encode_offset
        self.decode_offset = center if decode_offset is None else decode_offset
        self.decode_mode = decode
        if (decode == "oks") != (len(oks_widths) > 0):
            raise ValueError(f"heatmap decoding {decode!r} with {len(oks_widths)} OKS widths")
        # A map of the network is its belief blurred by the target's Gaussian: what is left to blur.
        self._spread = torch.tensor(oks_widths).square().sub(sigma**2).clamp(min=0).sqrt() / stride
        self._blurs: dict[tuple[int, torch.device], Tensor] = {}
        if absent_weight < 0:
            raise ValueError(f"MODEL.POSE.ABSENT_WEIGHT is {absent_weight}: expected 0 or more")
        self.absent_weight = absent_weight
        self.partial = partial

    @classmethod
    def from_config(cls, cfg: CfgNode) -> HeatmapCodec:
        """Build from ``cfg.MODEL.POSE.HEATMAP``; an offset below 0 means the true cell centre."""
        node, widths = cfg.MODEL.POSE.HEATMAP, []
        if node.DECODE == "oks":
            if not cfg.MODEL.POSE.JOINTS:
                raise ValueError(
                    "MODEL.POSE.JOINTS is empty: HEATMAP.DECODE oks goes by the joints' names"
                )
            scale = 2 * node.OKS_SCALE * max(cfg.INPUT.CROP_SIZE)
            widths = [scale * sigma for sigma in infer_sigmas(cfg.MODEL.POSE.JOINTS)]
        return cls(
            stride=node.STRIDE,
            sigma=node.SIGMA,
            threshold=node.THRESHOLD,
            background=node.BACKGROUND,
            encode_offset=None if node.ENCODE_OFFSET < 0 else node.ENCODE_OFFSET,
            decode_offset=None if node.DECODE_OFFSET < 0 else node.DECODE_OFFSET,
            decode=node.DECODE,
            oks_widths=widths,
            absent_weight=cfg.MODEL.POSE.ABSENT_WEIGHT,
            partial=cfg.MODEL.POSE.PARTIAL_JOINTS,
        )

    @property
    def is_centered(self) -> bool:
        """Whether cells are read at their true centres: a mirrored map is then that of the mirrored
        crop, if the crop's width is a multiple of the stride."""
        return self.decode_offset == (self.stride - 1) / 2

    @property
    def is_refined(self) -> bool:
        """Whether peaks are placed anywhere within their cells."""
        return self.decode_mode in ("dark", "oks")

    def num_channels(self, num_joints: int) -> int:
        """Channels of a map stack for ``num_joints`` joints."""
        return num_joints + (self.background != "none")

    def channel_labels(self, joint_names: list[str]) -> list[str]:
        """Name of each channel, ``"background"`` included."""
        names = list(joint_names)
        if self.background == "first":
            return ["background", *names]
        return [*names, "background"] if self.background == "last" else names

    def joint_maps(self, maps: Tensor) -> Tensor:
        """The joints' channels of ``maps`` (..., C, h, w) as a view (..., K, h, w)."""
        if self.background == "first":
            return maps[..., 1:, :, :]
        return maps[..., :-1, :, :] if self.background == "last" else maps

    def empty_maps(self, num_channels: int) -> Tensor:
        """What each of the channels (C,) holds where there is no joint: 1 in the background's."""
        values = torch.zeros(num_channels)
        if self.background != "none":
            values[0 if self.background == "first" else -1] = 1
        return values

    def encode(self, keypoints: Tensor, map_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Draw targets.

        Args:
            keypoints: (N, K, 3) float, (x, y, v) in continuous crop px; v = 0 means not labelled,
                v below 0 that the joint is known to be absent.
            map_size: (h, w) cells.

        Returns:
            maps (N, C, h, w) in [0, 1], and weights (N, C): 1 for the channels that carry a loss,
            ``absent_weight`` for absent joints, 0 for joints that are not labelled and for the
            background of a frame without any joint (``partial``: with a joint not labelled).
        """
        height, width = map_size
        labelled = keypoints[..., 2] > 0
        gx = self._profile(keypoints[..., 0], width)
        gy = self._profile(keypoints[..., 1], height)
        maps = gy[..., :, None] * gx[..., None, :]
        maps = torch.where(maps < self.threshold, torch.zeros_like(maps), maps)
        maps = maps * labelled[..., None, None]
        absent = keypoints[..., 2] < 0
        weights = labelled.to(maps.dtype) + self.absent_weight * absent.to(maps.dtype)
        if self.background == "none":
            return maps, weights
        rest = 1 - maps.amax(dim=1, keepdim=True)
        known = labelled.any(dim=1, keepdim=True)
        if self.partial:
            known &= (labelled | absent).all(dim=1, keepdim=True)
        rest_weight = known.to(maps.dtype)
        if self.background == "first":
            return torch.cat([rest, maps], 1), torch.cat([rest_weight, weights], 1)
        return torch.cat([maps, rest], 1), torch.cat([weights, rest_weight], 1)

    def _profile(self, coordinate: Tensor, cells: int) -> Tensor:
        """One-dimensional Gaussians (..., cells) about continuous ``coordinate`` (...)."""
        centers = torch.arange(cells, device=coordinate.device, dtype=coordinate.dtype)
        centers = centers * self.stride + self.encode_offset + 0.5
        distance = coordinate[..., None] - centers
        return torch.exp(-(distance**2) / (2 * self.sigma**2))

    def similarity(self, maps: Tensor) -> Tensor:
        """What is highest where a joint is to be placed.

        Args:
            maps: (N, K, h, w), without background.

        Returns:
            The same shape. For "oks" each cell holds the sum of the map's positive values, each by
            its similarity to a joint placed there: up to a factor the expected similarity, so that
            of a map with a wide and a narrow hill the wide one may win. A map without a positive
            value stays as it is, and so do all otherwise.
        """
        if self.decode_mode != "oks":
            return maps
        with torch.autocast(maps.device.type, enabled=False):
            # One product a joint, whatever the number of maps: (K, N h, w), then (K, N w, h).
            by_joint = maps.float().clamp(min=0).transpose(0, 1)
            for _ in range(2):
                product = by_joint.flatten(1, 2) @ self._blur(by_joint.shape[-1], maps.device)
                by_joint = product.unflatten(1, (-1, by_joint.shape[2])).transpose(2, 3)
        blurred = by_joint.transpose(0, 1)
        return torch.where(blurred.amax((-2, -1), keepdim=True) == 0, maps, blurred)

    def _blur(self, cells: int, device: torch.device) -> Tensor:
        """(K, cells, cells), symmetric: weight of each cell for each, along one axis."""
        key = cells, device
        if key not in self._blurs:
            place = torch.arange(cells, dtype=torch.float32)
            spread = self._spread.clamp(min=1e-3)[:, None, None]
            weight = torch.exp(-((place[:, None] - place) ** 2) / (2 * spread**2))
            self._blurs[key] = weight.to(device)
        return self._blurs[key]

    def decode(self, maps: Tensor) -> Tensor:
        """Locate every joint.

        Args:
            maps: (N, C, h, w).

        Returns:
            (N, K, 3) float32: (x, y) in continuous crop px, and the map's height there clipped to
            [0, 1].

        Raises:
            ValueError: a peak is not finite.
        """
        return self.peaks(maps, 1)[:, :, 0]

    def peaks(self, maps: Tensor, count: int) -> Tensor:
        """Locate the highest local maxima of what `similarity` gives, the first as `decode` does.

        A local maximum is no lower than its eight neighbours; of a plateau every cell is one.

        Args:
            maps: (N, C, h, w). count: how many, at least 1.

        Returns:
            (N, K, count, 3) float32, the highest first, as of `decode` (by "oks" a later one may
            have a higher score). Where a map has fewer, the first stands again, with score 0.
        """
        heights = self.joint_maps(maps).float()
        require_finite_peaks(heights.flatten(-2).amax(-1))
        maps = self.similarity(heights)
        index = maps.flatten(-2).argmax(dim=-1)
        found = [self._locate(maps, heights, index)]
        if count == 1:
            return found[0][:, :, None]
        highest = maps == functional.max_pool2d(maps, 3, stride=1, padding=1)
        rest = torch.where(highest, maps, maps.new_full((), -1)).flatten(-2)
        for _ in range(count - 1):
            rest = rest.scatter(-1, index[..., None], -1.0)
            height, index = rest.max(dim=-1)
            peak = self._locate(maps, heights, index)
            nothing = torch.zeros_like(height)[..., None]
            missing = torch.cat([found[0][..., :2], nothing], dim=-1)
            found.append(torch.where((height > 0)[..., None], peak, missing))
        return torch.stack(found, dim=-2)

    def _locate(self, maps: Tensor, heights: Tensor, index: Tensor) -> Tensor:
        """(N, K, 3) of what is highest (N, K, h, w) and the heights of the same cells: the peaks at
        flat cells (N, K)."""
        width = maps.shape[-1]
        row, column = index // width, index % width
        dx, dy = self.refine(maps, row, column)
        x = (column + dx) * self.stride + self.decode_offset + 0.5
        y = (row + dy) * self.stride + self.decode_offset + 0.5
        if maps is heights:
            score = _value(heights, row, column)
        else:  # the blurred peak may lie beside the map's own
            score = torch.stack([_value(heights, row + r, column + c) for r, c in _AROUND]).amax(0)
        return torch.stack([x, y, score.clamp(0, 1)], dim=-1)

    def refine(self, maps: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets of the true peaks from those in whole cells, by the decoding's rule.

        Args:
            maps: (N, K, h, w), of `similarity`. row, column: (N, K) int64, the highest cells.

        Returns:
            Two of (N, K), cells: along x and y. 0 along an axis on which the peak is the first or
            the last cell, and everywhere for "argmax".
        """
        if self.decode_mode == "argmax":
            nothing = torch.zeros(row.shape, dtype=maps.dtype, device=maps.device)
            return nothing, nothing
        height, width = maps.shape[-2:]
        inside_x = (column > 0) & (column < width - 1)
        inside_y = (row > 0) & (row < height - 1)

        def at(dr: int, dc: int) -> Tensor:
            return _value(maps, row + dr, column + dc)

        if self.decode_mode == "quarter":
            dx = 0.25 * torch.sign(at(0, 1) - at(0, -1))
            dy = 0.25 * torch.sign(at(1, 0) - at(-1, 0))
        else:
            dx, dy = _taylor_offset(at, inside_x & inside_y)
        return dx * inside_x, dy * inside_y


_AROUND = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]


def _value(maps: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Values (N, K) of maps (N, K, h, w) at cells (N, K); the border's outside the map."""
    height, width = maps.shape[-2:]
    cell = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    return maps.flatten(-2).gather(-1, cell[..., None])[..., 0]


def require_finite_peaks(peaks: Tensor) -> None:
    """Raise ValueError where the highest value of a map is not finite: it has no peak, and the
    place of one would be invented."""
    if not bool(torch.isfinite(peaks).all()):
        wrong = int((~torch.isfinite(peaks)).sum())
        raise ValueError(
            f"{wrong} of {peaks.numel()} maps of the network are not finite: its training has "
            "diverged (MODEL.WEIGHTS), or they are too large for TEST.PRECISION"
        )


def _taylor_offset(at: Callable[[int, int], Tensor], inside: Tensor) -> tuple[Tensor, Tensor]:
    """Newton step on the logarithm of the map at its peak, at most half a cell along each axis.

    ``at(dr, dc)`` are values beside the peak; where not ``inside`` there are no diagonal ones, and
    the axes are refined apart.
    """

    def log(dr: int, dc: int) -> Tensor:
        return at(dr, dc).clamp(min=_LOG_FLOOR).log()

    center = log(0, 0)
    gx, gy = (log(0, 1) - log(0, -1)) / 2, (log(1, 0) - log(-1, 0)) / 2
    hxx = log(0, 1) - 2 * center + log(0, -1)
    hyy = log(1, 0) - 2 * center + log(-1, 0)
    hxy = (log(1, 1) - log(1, -1) - log(-1, 1) + log(-1, -1)) / 4 * inside
    determinant = hxx * hyy - hxy**2
    # A maximum has a negative definite Hessian; elsewhere (plateaus, saddles) the cell centre
    # stands.
    regular = (hxx < 0) & (determinant > 1e-8)
    safe = torch.where(regular, determinant, torch.ones_like(determinant))
    dx = torch.where(regular, -(hyy * gx - hxy * gy) / safe, torch.zeros_like(gx))
    dy = torch.where(regular, -(hxx * gy - hxy * gx) / safe, torch.zeros_like(gy))
    return dx.clamp(-0.5, 0.5), dy.clamp(-0.5, 0.5)
