"""Joints that the crop or the image does not show."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def move_outside_away(
    keypoints: Tensor, batch: list[dict[str, Any]], crop_size: tuple[int, int]
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
