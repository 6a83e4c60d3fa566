"""Region heads of Detectron2: autocast, partial labels, sub-cell joints, test-time flips.

* `prepare_regions`: what the stock heads need to train under autocast and in channels-last layout.
* `PartlyLabelledMaskHead`: Mask R-CNN's head for data in which some persons have no mask.
* `SubpixelKeypointHead`: Detectron2 enlarges each person's maps to the box's size in whole pixels
  and takes the arg-max, person by person. Here the maximum of the logits' quadratic about the best
  cell is taken (as `HeatmapCodec`'s "dark"), for all persons at once and without enlarging.
* `KeypointRCNNWithTTA`: test-time augmentation by scales and mirror images. Detectron2's refuses
  models with a keypoint head. Its box and mask steps are used as they are; a person's keypoint maps
  are averaged over the augmented images, mirrored ones turned back with left and right joints
  swapped, and decoded by the model's own head.

Shape letters: R regions, P persons, K joints, S cells along a side of a map.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import DatasetMapperTTA, GeneralizedRCNN, GeneralizedRCNNWithTTA
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.roi_heads import (
    ROI_KEYPOINT_HEAD_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    BaseKeypointRCNNHead,
    KRCNNConvDeconvUpsampleHead,
    MaskRCNNConvUpsampleHead,
)
from detectron2.modeling.roi_heads.keypoint_head import keypoint_rcnn_inference
from detectron2.structures import Instances
from fvcore.transforms import HFlipTransform
from torch import Tensor, nn

from video_pose.heatmap_codec import HeatmapCodec
from video_pose.skeleton import flip_permutation


def prepare_regions(model: nn.Module) -> None:
    """Adapt the region poolers and keypoint heads of ``model``, in place.

    * A pooler reads its features in float32: ROIAlign casts the boxes to the features' format, and
      bfloat16 knows whole pixels only up to 256, so that boxes would be off by pixels.
    * A keypoint head keeps the plain layout, which the views of its loss and decoding ask for.

    A model without such parts is left as it is, and a second call changes nothing.
    """
    for module in model.modules():
        if isinstance(module, ROIPooler) and not hasattr(module, "pools_in_float32"):
            module.register_forward_pre_hook(_plain_features)
            module.pools_in_float32 = True
        if isinstance(module, BaseKeypointRCNNHead):
            module.to(memory_format=torch.contiguous_format)


def _plain_features(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    features, *rest = args
    return ([feature.float().contiguous() for feature in features], *rest)


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


class KeypointRCNNWithTTA(GeneralizedRCNNWithTTA):
    """Runs a `GeneralizedRCNN` on the images of ``TEST.AUG`` (sizes, flip) and merges.

    Called as the model itself; returns the same. Box, mask and keypoint heads are each merged in
    their own way: boxes by suppression of the union, masks and keypoint maps by their mean.

    Args:
        cfg: MODEL.POSE.JOINTS and FLIP_MAP say which joints a mirror image swaps.
        model: the trained model.
        batch_size: augmented images in one call of the model.

    Raises:
        ValueError: ``model`` is no `GeneralizedRCNN`.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module, batch_size: int = 3) -> None:
        # Not the parent's: it refuses keypoints.
        nn.Module.__init__(self)
        if not isinstance(model, GeneralizedRCNN):
            raise ValueError(
                f"TEST.AUG.ENABLED works for GeneralizedRCNN only, not for {type(model).__name__}"
            )
        self.cfg = cfg.clone()
        self.model = model
        self.tta_mapper = DatasetMapperTTA(cfg)
        self.batch_size = batch_size
        pairs = [tuple(pair) for pair in cfg.MODEL.POSE.FLIP_MAP]
        self._swap = flip_permutation(list(cfg.MODEL.POSE.JOINTS), pairs)

    def _inference_one_image(self, input: dict[str, Any]) -> dict[str, Instances]:
        size = input["height"], input["width"]
        # The mapper copies its input once an image: only what it needs.
        images, transforms = self._get_augmented_inputs(
            {key: input[key] for key in ("image", "height", "width")}
        )
        with self._turn_off_roi_heads(["mask_on", "keypoint_on"]):
            boxes, scores, classes = self._get_augmented_boxes(images, transforms)
        merged = self._merge_detections(boxes, scores, classes, size)
        config = self.cfg.MODEL
        if len(merged) and (config.MASK_ON or config.KEYPOINT_ON):
            given = self._rescale_detected_boxes(images, merged, transforms)
            outputs = self._batch_inference(images, given)
            if config.KEYPOINT_ON:
                self._set_keypoints(merged, outputs, transforms)
            if config.MASK_ON:
                merged.pred_masks = self._reduce_pred_masks(outputs, transforms)
        return {"instances": detector_postprocess(merged, *size)}

    def _set_keypoints(
        self, merged: Instances, outputs: list[Instances], transforms: list[Any]
    ) -> None:
        maps = []
        for output, transform in zip(outputs, transforms):
            flips = sum(isinstance(t, HFlipTransform) for t in transform.transforms)
            logits = output.pred_keypoint_heatmaps
            maps.append(mirror_maps(logits, self._swap) if flips % 2 else logits)
        decode(self.model, torch.stack(maps).mean(dim=0), merged)


def mirror_maps(logits: Tensor, swap: list[int]) -> Tensor:
    """(P, K, S, S) of a mirror image as of the image itself.

    Args:
        logits: maps over the mirrored boxes.
        swap: row i becomes row ``swap[i]``, see `video_pose.skeleton.flip_permutation`.
    """
    return logits[:, swap].flip(dims=[3])


def decode(model: GeneralizedRCNN, logits: Tensor, instances: Instances) -> None:
    """Set the keypoints of ``instances`` from ``logits``, as the model's head decodes them."""
    if isinstance(model.roi_heads.keypoint_head, SubpixelKeypointHead):
        add_keypoints(logits, [instances])
    else:
        keypoint_rcnn_inference(logits, [instances])
