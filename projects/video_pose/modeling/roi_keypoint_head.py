"""Keypoint R-CNN's head with sub-cell decoding.

Detectron2 enlarges each person's maps to the box's size in whole pixels and takes the arg-max,
person by person. Here the maximum of the logits' quadratic about the best cell is taken (as
`HeatmapCodec`'s "dark"), for all persons at once and without enlarging.

Shape letters: R regions, K joints, S cells along a side of a map.
"""

from __future__ import annotations

import torch
from detectron2.modeling.roi_heads import (
    ROI_KEYPOINT_HEAD_REGISTRY,
    KRCNNConvDeconvUpsampleHead,
)
from detectron2.structures import Instances
from torch import Tensor

from video_pose.heatmap_codec import HeatmapCodec

# Cells of one unit whose centre i lies at i + 0.5, as `Keypoints.to_heatmap` draws its targets.
_CODEC = HeatmapCodec(stride=1, sigma=1.0, background="none", decode="dark", decode_offset=0.0)
_BELOW_EDGE = 1e-4


@ROI_KEYPOINT_HEAD_REGISTRY.register()
class SubpixelKeypointHead(KRCNNConvDeconvUpsampleHead):
    """Detectron2's `KRCNNConvDeconvUpsampleHead`, its weights and losses, with the decoding above.

    Only MODEL.ROI_KEYPOINT_HEAD.NAME chooses it, so that a model trained with either decodes with
    either.
    """

    def forward(self, x: Tensor, instances: list[Instances]) -> dict[str, Tensor] | list[Instances]:
        """Losses in training; else ``instances`` with ``pred_keypoints`` (P, K, 3) = (x, y, score)
        and ``pred_keypoint_heatmaps`` (P, K, S, S), the logits."""
        if self.training:
            return super().forward(x, instances)
        add_keypoints(self.layers(x).detach().float(), instances)
        return instances


def add_keypoints(logits: Tensor, instances: list[Instances]) -> None:
    """Decode ``logits`` (R, K, S, S) of all images' persons, in order, and set their fields."""
    counts = [len(item) for item in instances]
    boxes = torch.cat([item.pred_boxes.tensor for item in instances])
    keypoints = decode_logits(logits, boxes.detach())
    for item, points, maps in zip(instances, keypoints.split(counts), logits.split(counts)):
        item.pred_keypoints = points
        item.pred_keypoint_heatmaps = maps


def decode_logits(logits: Tensor, boxes: Tensor) -> Tensor:
    """Joints of maps over boxes.

    Args:
        logits: (R, K, S, S), rows from the top. boxes: (R, 4) XYXY.

    Returns:
        (R, K, 3) float32: x, y in the boxes' pixels, within the box; score, the softmax's value at
        the best cell.
    """
    logits = logits.float()
    rows, joints, side = logits.shape[:3]
    if rows == 0:
        return logits.new_zeros((0, joints, 3))
    flat = logits.flatten(2)
    score = flat.softmax(-1).amax(-1)
    # exp: the codec takes the logarithm again.
    peaks = _extended(logits - flat.amax(-1)[..., None, None]).exp()
    cells = (_CODEC.decode(peaks)[..., :2] - 1).clamp(0, side)
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)
    xy = boxes[:, None, :2] + cells * (size / side)[:, None]
    return torch.cat([xy, score[..., None]], dim=-1)


def _extended(maps: Tensor) -> Tensor:
    """One more cell on each side, so that peaks in border cells can be refined, too.

    The new cell continues the quadratic through the three before it, but stays below the border
    cell: the best cell remains one of the map's own. Joints often lie on the edge of their box.
    """
    for dim in (-1, -2):
        line = maps.movedim(dim, -1)
        ends = []
        for a, b, c in ((0, 1, 2), (-1, -2, -3)):
            beyond = 3 * line[..., a] - 3 * line[..., b] + line[..., c]
            ends.append(torch.minimum(beyond, line[..., a] - _BELOW_EDGE))
        line = torch.cat([ends[0][..., None], line, ends[1][..., None]], dim=-1)
        maps = line.movedim(-1, dim)
    return maps
