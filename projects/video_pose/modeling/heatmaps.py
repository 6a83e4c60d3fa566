"""Maps around the network: the centre map that goes in, the loss on heatmaps, joints from heatmaps.

Shapes: S test rows of one clip (scales, then the same scales mirrored), B clips, T frames, C
channels, K joints, h, w cells. A row's ``crop_to_image`` maps continuous crop px to continuous
image px, the mirroring of a mirrored row included.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from torch import Tensor

from video_pose.data.records import ClipRecord
from video_pose.heatmap_codec import HeatmapCodec, require_finite_peaks


class CenterMap:
    """Tells a single-person network whom to look at.

    A Gaussian at the person's centre, drawn at crop size and pooled to the heatmap's grid.

    Args:
        sigma: px of the crop. threshold: smaller values are set to 0 before pooling.
        threshold_in_test: whether that also holds at inference.
        kernel, stride, padding, ceil: of the pooling. The released networks pool differently: LSTM
            Pose Machines round up without padding, UniPose rounds down with a padding of 1.
    """

    def __init__(
        self,
        *,
        sigma: float,
        threshold: float = 0.01,
        threshold_in_test: bool = True,
        kernel: int = 9,
        stride: int = 8,
        padding: int = 0,
        ceil: bool = True,
    ) -> None:
        self.sigma = sigma
        self.threshold = threshold
        self.threshold_in_test = threshold_in_test
        self.kernel, self.stride, self.padding, self.ceil = kernel, stride, padding, ceil

    @classmethod
    def from_config(cls, cfg: CfgNode) -> CenterMap:
        """Build from ``cfg.MODEL.POSE.CENTER_MAP`` and the heatmap's stride."""
        node = cfg.MODEL.POSE.CENTER_MAP
        return cls(
            sigma=node.SIGMA,
            threshold=node.THRESHOLD,
            threshold_in_test=node.THRESHOLD_IN_TEST,
            kernel=node.POOL_KERNEL,
            stride=cfg.MODEL.POSE.HEATMAP.STRIDE,
            padding=node.POOL_PADDING,
            ceil=node.POOL_CEIL,
        )

    def check_cells(
        self, crop_size: tuple[int, int], cells: tuple[int, int], agreeing: str
    ) -> None:
        """Hold the map's size against that of a network's maps.

        Args:
            crop_size: (H, W) px. cells: (h, w) of the network's maps.
            agreeing: what agrees, for the error.

        Raises:
            ValueError: pooling makes other cells.
        """
        drawn = torch.zeros((1, 1, *crop_size), device="meta")  # its size alone is wanted
        made = tuple(self._pooled(drawn).shape[-2:])
        if made != tuple(cells):
            raise ValueError(
                f"MODEL.POSE.CENTER_MAP: pooling makes {made} cells of a crop of "
                f"{tuple(crop_size)} px, the network makes {tuple(cells)}; {agreeing} agree"
            )

    def _pooled(self, maps: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, 1, h, w)."""
        return F.avg_pool2d(maps, self.kernel, self.stride, self.padding, ceil_mode=self.ceil)

    def __call__(self, centers: Tensor, crop_size: tuple[int, int], *, training: bool) -> Tensor:
        """Draw and pool.

        Args:
            centers: (N, 2) continuous crop px (x, y). The peak sits on the discrete pixel
                floor(c - 0.5): 183 for the centre of a 368 px crop, as both releases draw it.
            crop_size: (H, W) px.

        Returns:
            (N, 1, h, w) float32.
        """
        distinct, which = torch.floor(centers.float() - 0.5), None
        if (
            not centers.is_cuda
        ):  # to compare centres would wait for a GPU, which draws all maps at once
            # Crops are centred on their person, so nearly all maps of a batch are the same one.
            distinct, which = torch.unique(distinct, dim=0, return_inverse=True)
        height, width = crop_size
        x = torch.arange(width, device=centers.device, dtype=torch.float32)
        y = torch.arange(height, device=centers.device, dtype=torch.float32)
        gx = torch.exp(-((x - distinct[:, :1]) ** 2) / (2 * self.sigma**2))
        gy = torch.exp(-((y - distinct[:, 1:]) ** 2) / (2 * self.sigma**2))
        maps = gy[:, :, None] * gx[:, None, :]
        if training or self.threshold_in_test:
            maps = torch.where(maps < self.threshold, torch.zeros_like(maps), maps)
        pooled = self._pooled(maps[:, None])
        return pooled if which is None else pooled[which]


REDUCTIONS = ("mean", "half_sum")


def heatmap_loss(predicted: Tensor, target: Tensor, weight: Tensor, reduction: str) -> Tensor:
    """Squared error of the maps of a batch of clips.

    Args:
        predicted, target: (B, T, C, h, w).
        weight: (B, T, C); 0 takes a channel out (joint not labelled, padding frame).
        reduction: "mean" divides a frame's error by B C h w and sums over T (UniPose, released
            recipe); "half_sum" is 1 / (2 B) of the sum (LSTM Pose Machines, Caffe's EuclideanLoss).

    Returns:
        A scalar; 0 with a gradient path where nothing is labelled.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"loss reduction {reduction!r}: choose from {REDUCTIONS}")
    assert predicted.shape == target.shape, (predicted.shape, target.shape)
    predicted = predicted.float()
    error = ((predicted - target) ** 2 * weight[..., None, None]).sum()
    clips, _, channels, height, width = predicted.shape
    if reduction == "mean":
        return error / (clips * channels * height * width)
    return error / (2 * clips)


# Coefficient of the cubic convolution kernel, as OpenCV and PyTorch have it.
_CUBIC = -0.75


def decode_rows(
    heatmaps: Tensor,
    crop_to_image: Tensor,
    *,
    codec: HeatmapCodec,
    swap: list[int],
    flipped: Tensor,
    image_size: tuple[int, int],
) -> Tensor:
    """Joints of one clip.

    Args:
        heatmaps: (S, T, C, h, w). crop_to_image: (S, T, 2, 3).
        swap: see `video_pose.skeleton.flip_permutation`.
        flipped: (S,) bool, rows that saw the mirrored clip.
        image_size: (height, width) of the original image, px.

    Returns:
        (T, K, 3): (x, y) continuous image px, score in [0, 1].

    Raises:
        ValueError: a map is not finite.
    """
    if flipped.any():
        mirrored = torch.where(
            flipped.view(-1, 1, 1, 1, 1).to(heatmaps.device), heatmaps[:, :, swap], heatmaps
        )
        heatmaps = mirrored
    rows, frames = heatmaps.shape[:2]
    if rows == 1:
        poses = codec.decode(heatmaps.squeeze(0))
        return _apply_affine(poses, crop_to_image.squeeze(0))
    joint_maps = codec.joint_maps(heatmaps)
    poses = [
        _merge_at_image_size(joint_maps[:, t], crop_to_image[:, t], codec, image_size)
        for t in range(frames)
    ]
    return torch.stack(poses)


def _apply_affine(poses: Tensor, matrices: Tensor) -> Tensor:
    """poses (T, K, 3) mapped by matrices (T, 2, 3); the scores stay."""
    matrices = matrices.to(poses)
    xy = poses[..., :2] @ matrices[:, :, :2].transpose(1, 2) + matrices[:, None, :, 2]
    return torch.cat([xy, poses[..., 2:]], dim=-1)


def _merge_at_image_size(
    maps: Tensor, matrices: Tensor, codec: HeatmapCodec, image_size: tuple[int, int]
) -> Tensor:
    """Mean of all rows' maps at the image's size, then its peak, by the codec's rule.

    maps (S, K, h, w), matrices (S, 2, 3) -> (K, 3). A row's map is 0 outside its crop, so that a
    pixel that few rows saw has little weight. Test crops are neither rotated nor sheared, hence the
    resampling is one matrix product along each axis.

    Only the window around all crops, as far as it lies in the image, is made, one joint after the
    other. The peak is always in the window, with score 0 where a joint's mean is nowhere above 0.
    Where no crop shows a column (or row) of the image, the window is the column (row) that is
    nearest to the middle of a crop, and scores are 0.

    Where a pixel of every crop measures n of the image or more, and the codec refines peaks, one of
    n columns and rows is made: all would tell no more, and of a large photo cost much.
    """
    height, width = image_size
    assert float(matrices[:, 0, 1].abs().max()) < 1e-6, "a test crop must not be rotated"
    maps, matrices = maps.float(), matrices.to(maps.device, torch.float32)
    joints, h, w = maps.shape[1:]
    offset = codec.decode_offset + 0.5
    finest = float(matrices[:, (0, 1), (0, 1)].abs().min())
    step = min(max(1, int(finest)), width, height) if codec.is_refined else 1
    x, y = (
        (torch.arange(n // step, device=maps.device, dtype=torch.float32) + 0.5) * step
        for n in (width, height)
    )
    columns, lines = (
        torch.stack([((points - m[i, 2]) / m[i, i] - offset) / codec.stride for m in matrices])
        for i, points in ((0, x), (1, y))
    )
    (left, right), (top, bottom) = _window(columns, w), _window(lines, h)
    across = torch.stack([_cubic_matrix(row, w) for row in columns[:, left:right]])
    down = torch.cat([_cubic_matrix(row, h) for row in lines[:, top:bottom]], dim=1)
    likely, reach = codec.similarity(maps), math.ceil(codec.stride * finest / step)

    def mean_of(joint_maps: Tensor, rows: slice, columns: slice) -> Tensor:
        """A part of the window, of (S, h, w): the sum over S is part of the product."""
        wide = joint_maps @ across[:, columns].transpose(1, 2)
        return down[rows] @ wide.flatten(0, 1) / len(joint_maps)

    found = []
    for joint in range(joints):
        mean = mean_of(likely[:, joint], slice(None), slice(None))[None, None]
        score, index = mean.flatten(-2).max(dim=-1)
        row, column = index // (right - left), index % (right - left)
        if likely is not maps:
            # The map's own height beside the blurred peak.
            near = [slice(max(0, i - reach), i + reach + 1) for i in (int(row), int(column))]
            score = mean_of(maps[:, joint], *near).max()[None, None]
        dx, dy = codec.refine(mean, row, column)
        place = x[left + column] + dx * step, y[top + row] + dy * step
        found.append(torch.stack([*place, score], dim=-1))
    poses = torch.cat(found, dim=1)[0]
    require_finite_peaks(poses[:, 2])
    poses[:, 2].clamp_(0, 1)
    return poses


def _window(positions: Tensor, cells: int) -> tuple[int, int]:
    """First pixel, and the one behind the last, of those that a map shows along one axis; see
    `_merge_at_image_size`. ``positions`` (S, n): of n pixels in the cells of S maps."""
    seen = _is_inside(positions, cells).any(dim=0).nonzero().flatten().tolist()
    if not seen:
        middle = (positions - (cells - 1) / 2).abs().amin(dim=0)
        seen = [int(middle.argmin())]
    return seen[0], seen[-1] + 1


def _is_inside(position: Tensor, cells: int) -> Tensor:
    return (position >= -0.5) & (position <= cells - 0.5)


def _cubic_matrix(position: Tensor, cells: int) -> Tensor:
    """Rows of cubic interpolation weights (n, cells) at ``position`` (n,); 0 outside the map."""
    base = torch.floor(position)
    matrix = position.new_zeros((len(position), cells))
    for tap in range(-1, 3):
        distance = (position - base - tap).abs()
        near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
        far = (((distance - 5) * distance + 8) * distance - 4) * _CUBIC
        weight = torch.where(distance <= 1, near, far)
        index = (base.long() + tap).clamp(0, cells - 1)
        matrix.scatter_add_(1, index[:, None], weight[:, None])
    return matrix * _is_inside(position, cells)[:, None]


def pose_scores(poses: Tensor) -> Tensor:
    """Mean score of the better half of the joints of each of (P, K, 3): (P,).

    Half a body, cut off by the picture's edge, counts as a whole one. 1 where there are no joints.
    """
    joints = poses.shape[1]
    if joints == 0:
        return poses.new_ones(len(poses))
    return poses[..., 2].sort(dim=1).values[:, joints // 2 :].mean(dim=1)


def to_instances(poses: Tensor, image_size: tuple[int, int]) -> list[Instances]:
    """poses (T, K, 3) -> T ``Instances`` of one person, its box the joints' extent, its score that
    of `pose_scores`."""
    poses = poses.cpu()
    low, high = poses[..., :2].amin(dim=1), poses[..., :2].amax(dim=1)
    boxes, scores = torch.cat([low, high], dim=1), pose_scores(poses)
    return [
        Instances(
            image_size,
            pred_keypoints=poses[t : t + 1],
            pred_boxes=Boxes(boxes[t : t + 1]),
            pred_classes=torch.zeros(1, dtype=torch.long),
            scores=scores[t : t + 1],
        )
        for t in range(len(poses))
    ]


def move_outside_away(
    keypoints: Tensor, batch: list[ClipRecord], crop_size: tuple[int, int]
) -> Tensor:
    """Joints outside crop or image put where their Gaussian leaves an empty map.

    Args:
        keypoints: (B, T, K, 3), crop px. batch: the B clips. crop_size: (H, W) px.

    Returns:
        (B, T, K, 3).
    """
    matrices = torch.stack([clip["crop_to_image"] for clip in batch]).to(keypoints)
    xy = keypoints[..., :2]
    in_image = xy @ matrices[..., :2].transpose(-1, -2) + matrices[..., None, :, 2]
    crop = xy.new_tensor([crop_size[1], crop_size[0]])
    image = xy.new_tensor([[clip["width"], clip["height"]] for clip in batch])[:, None, None]
    outside = (xy < 0) | (xy >= crop) | (in_image < 0) | (in_image >= image)
    gone = outside.any(dim=-1, keepdim=True)
    return torch.cat([torch.where(gone, xy.new_tensor(-1e6), xy), keypoints[..., 2:]], dim=-1)
