"""Mask R-CNN's head for data in which some persons have no mask."""

from __future__ import annotations

import torch
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY, MaskRCNNConvUpsampleHead
from detectron2.structures import Instances
from torch import Tensor


@ROI_MASK_HEAD_REGISTRY.register()
class PartlyLabelledMaskHead(MaskRCNNConvUpsampleHead):
    """Detectron2's `MaskRCNNConvUpsampleHead`; persons without a mask carry no mask loss.

    Which they are, ``gt_has_mask`` bool tells; instances without the field all have one.
    """

    def forward(self, x: Tensor, instances: list[Instances]) -> dict[str, Tensor] | list[Instances]:
        """As the stock head's. ``x`` (R, C, h, w): the regions of all images, in order."""
        if not self.training:
            return super().forward(x, instances)
        masked = [
            item.gt_has_mask
            if item.has("gt_has_mask")
            else torch.ones(len(item), dtype=torch.bool, device=x.device)
            for item in instances
        ]
        kept = [item[has] for item, has in zip(instances, masked)]
        rows = torch.cat(masked)
        if not rows.any():
            # The layers take part in every step, as distributed training wants.
            return {"loss_mask": self.layers(x).sum() * 0}
        # An image without persons may lack fields that the others have; it has no region either.
        return super().forward(x[rows], [item for item in kept if len(item)])
