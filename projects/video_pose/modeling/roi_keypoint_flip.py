"""Test-time augmentation of R-CNNs with keypoints, by scales and mirror images.

Detectron2's refuses models with a keypoint head. Its box and mask steps are used as they are; a
person's keypoint maps are averaged over the augmented images, mirrored ones turned back with left
and right joints swapped, and decoded by the model's own head.

Shape letters: P persons, K joints, S cells along a side of a map.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import DatasetMapperTTA, GeneralizedRCNN, GeneralizedRCNNWithTTA
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.roi_heads.keypoint_head import keypoint_rcnn_inference
from detectron2.structures import Instances
from fvcore.transforms import HFlipTransform
from torch import Tensor, nn

from video_pose.data.transforms import flip_permutation
from video_pose.modeling.roi_keypoint_head import SubpixelKeypointHead, add_keypoints


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
        swap: row i becomes row ``swap[i]``, see `video_pose.data.transforms.flip_permutation`.
    """
    return logits[:, swap].flip(dims=[3])


def decode(model: GeneralizedRCNN, logits: Tensor, instances: Instances) -> None:
    """Set the keypoints of ``instances`` from ``logits``, as the model's head decodes them."""
    if isinstance(model.roi_heads.keypoint_head, SubpixelKeypointHead):
        add_keypoints(logits, [instances])
    else:
        keypoint_rcnn_inference(logits, [instances])


__all__ = ["KeypointRCNNWithTTA", "decode", "mirror_maps"]
