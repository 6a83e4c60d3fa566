"""The centre map that tells a single-person network whom to look at."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor


class CenterMap:
    """A Gaussian at the person's centre, drawn at crop size and pooled to the heatmap's grid.

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
        if not centers.is_cuda:  # a GPU would be waited for; it draws all of them in no time
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
        pooled = F.avg_pool2d(
            maps[:, None], self.kernel, self.stride, self.padding, ceil_mode=self.ceil
        )
        return pooled if which is None else pooled[which]
