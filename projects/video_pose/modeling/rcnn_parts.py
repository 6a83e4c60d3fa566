"""Parts of R-CNNs that Detectron2 lacks: autocast, partial labels, regions to ignore, sub-cell
joints, test-time flips, a pyramid without res5.

* `prepare_regions`: what the stock heads need to train under autocast and in channels-last layout.
* `head_labels`: which channels of the stock heads belong to which joint, for checkpoints.
* `PartlyLabelledMaskHead`: Mask R-CNN's head for data in which some persons have no mask.
* `SubpixelKeypointHead`: Detectron2 enlarges each person's maps to the box's size in whole pixels
  and takes the arg-max, person by person. Here the maximum of the logits' quadratic about the best
  cell is taken (as `HeatmapCodec`'s "dark"), for all persons at once and without enlarging.
* `KeypointRCNNWithTTA`: test-time augmentation by scales and mirror images. Detectron2's refuses
  models with a keypoint head. Its box and mask steps are used as they are; a person's keypoint maps
  are averaged over the augmented images, mirrored ones turned back with left and right joints
  swapped, and decoded by the model's own head.
* `IgnoringRPN`, `IgnoringROIHeads`, `IgnoringCascadeROIHeads`: pictures with regions that are
  neither people nor background: a crowd that nobody drew boxes in, a person cut down to a sliver,
  or the whole picture where not everybody has a box. Detectron2 leaves crowds out of training, so
  that it takes the people in them for background. Here the mapper hands such a region on as an
  instance of class `IGNORED`, and an anchor or proposal that would be background is neither right
  nor wrong if at least `COVERED` of it lies in such regions (as COCO's evaluation treats
  detections), and not `OWNED` of it lies in one labelled person: a head or a torso alone remains a
  wrong box.
* `build_short_resnet_fpn_backbone`: a feature pyramid on a ResNet that ends before res5.

Shape letters: R regions, P persons, K joints, S cells along a side of a map, A anchors or
proposals, G labelled people.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    DatasetMapperTTA,
    GeneralizedRCNN,
    GeneralizedRCNNWithTTA,
)
from detectron2.modeling.backbone import FPN, build_resnet_backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY, RPN
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    ROI_KEYPOINT_HEAD_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    BaseKeypointRCNNHead,
    CascadeROIHeads,
    KRCNNConvDeconvUpsampleHead,
    MaskRCNNConvUpsampleHead,
    StandardROIHeads,
)
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.modeling.roi_heads.keypoint_head import keypoint_rcnn_inference
from detectron2.structures import Boxes, Instances, pairwise_ioa, pairwise_iou
from fvcore.transforms import HFlipTransform
from torch import Tensor, nn

from video_pose.data.records import MappedFrame
from video_pose.heatmap_codec import HeatmapCodec
from video_pose.skeleton import flip_permutation

IGNORED = -1
GIVEN_UP = 0.02
COVERED = 0.5
OWNED = 0.7
# IoU of two images' boxes of one object; see `vote`.
AGREES = 0.7


@contextlib.contextmanager
def naming_divergence() -> Iterator[None]:
    """Within the block, Detectron2's assertions about boxes say what a user can do about them.

    Raises:
        ValueError: boxes or scores of the model are not finite.
    """
    try:
        yield
    except (AssertionError, FloatingPointError) as error:
        if not re.search("infinite|NaN", str(error)):
            raise
        raise ValueError(
            f"the model's boxes are not finite ({error}): its training has diverged; use an "
            "earlier checkpoint, or train with a lower SOLVER.BASE_LR"
        ) from error


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


def head_labels(model: nn.Module, joints: list[str]) -> dict[str, dict[int, list[str]]]:
    """Which channels of the keypoint heads in ``model`` belong to which joint.

    Args:
        joints: K names, in the order of the heads' maps.

    Returns:
        {tensor of the model: {dimension: a label for each channel}}; empty without such a head.
    """
    labels: dict[str, dict[int, list[str]]] = {}
    for name, module in model.named_modules():
        if isinstance(module, KRCNNConvDeconvUpsampleHead):
            own = {"score_lowres.weight": {1: joints}, "score_lowres.bias": {0: joints}}
            own |= module.memory_labels(joints) if hasattr(module, "memory_labels") else {}
            labels |= {f"{name}.{key}": dims for key, dims in own.items()}
    return labels


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
    their own way: boxes by suppression of the union (and by `vote` with ``TEST.AUG.VOTE``), masks
    and keypoint maps by their mean.

    Args:
        cfg: MODEL.POSE.JOINTS and FLIP_MAP say which joints a mirror image swaps.
        model: the trained model.
        batch_size: augmented images in one call of the model. None: those of one size, so that no
            image is filled up to another's size.

    Raises:
        ValueError: ``model`` is no `GeneralizedRCNN`, or a setting of ``TEST.AUG`` cannot be.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module, batch_size: int | None = None) -> None:
        # Not the parent's: it refuses keypoints.
        nn.Module.__init__(self)
        # Subclasses with an ``inference`` of their own, as PanopticFPN, take other arguments.
        if getattr(type(model), "inference", None) is not GeneralizedRCNN.inference:
            raise ValueError(
                f"TEST.AUG works for GeneralizedRCNN only, not for {type(model).__name__}"
            )
        self.cfg = cfg.clone()
        self.model = model
        self.tta_mapper = DatasetMapperTTA(cfg)
        self.batch_size = batch_size or (2 if cfg.TEST.AUG.FLIP else 1)
        pairs = [tuple(pair) for pair in cfg.MODEL.POSE.FLIP_MAP]
        self._swap = flip_permutation(list(cfg.MODEL.POSE.JOINTS), pairs)
        aug = cfg.TEST.AUG
        if not (0 <= aug.NMS_THRESH <= 1 and aug.PROPOSALS >= 0):
            raise ValueError(
                "TEST.AUG: NMS_THRESH is 0 to 1 and PROPOSALS 0 or more, got "
                f"{aug.NMS_THRESH} and {aug.PROPOSALS}"
            )
        if aug.PROPOSALS and not isinstance(model.proposal_generator, RPN):
            raise ValueError("TEST.AUG.PROPOSALS: the model has no RPN that makes proposals")
        if aug.NMS_THRESH:
            self.cfg.defrost()
            self.cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = aug.NMS_THRESH

    def _inference_one_image(self, input: MappedFrame) -> dict[str, Instances]:
        size = input["height"], input["width"]
        # The mapper copies its input once an image: only what it needs.
        images, transforms = self._get_augmented_inputs(
            {key: input[key] for key in ("image", "height", "width")}
        )
        with self._turn_off_roi_heads(["mask_on", "keypoint_on"]), self._test_settings():
            looks = self._batch_inference(images)
        for look, transform in zip(looks, transforms, strict=True):
            back = transform.inverse().apply_box(look.pred_boxes.tensor.cpu().numpy())
            look.pred_boxes = Boxes(torch.from_numpy(back).to(look.scores.device))
            look.scores = look.scores.float()  # means of half precision would tie
        boxes = torch.cat([look.pred_boxes.tensor for look in looks])
        scores, classes = (
            torch.cat([look.get(field) for look in looks]) for field in ("scores", "pred_classes")
        )
        merged = self._merge_detections(boxes, scores, classes, size)
        if self.cfg.TEST.AUG.VOTE:
            merged = vote(merged, looks)
        config = self.cfg.MODEL
        if len(merged) and (config.MASK_ON or config.KEYPOINT_ON):
            given = self._rescale_detected_boxes(images, merged, transforms)
            outputs = self._batch_inference(images, given)
            if config.KEYPOINT_ON:
                self._set_keypoints(merged, outputs, transforms)
            if config.MASK_ON:
                merged.pred_masks = self._reduce_pred_masks(outputs, transforms)
        return {"instances": detector_postprocess(merged, *size)}

    @contextlib.contextmanager
    def _test_settings(self) -> Iterator[None]:
        """The model with NMS_THRESH and PROPOSALS of ``TEST.AUG``."""
        heads, rpn = self.model.roi_heads.box_predictor, self.model.proposal_generator
        # A cascade has a list of them.
        heads = list(heads) if isinstance(heads, nn.ModuleList) else [heads]
        before = [head.test_nms_thresh for head in heads]
        proposals = self.cfg.TEST.AUG.PROPOSALS and dict(rpn.post_nms_topk)
        try:
            for head in heads:
                head.test_nms_thresh = self.cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST
            if proposals:
                rpn.post_nms_topk = {**proposals, False: self.cfg.TEST.AUG.PROPOSALS}
            yield
        finally:
            for head, threshold in zip(heads, before, strict=True):
                head.test_nms_thresh = threshold
            if proposals:
                rpn.post_nms_topk = proposals

    def _set_keypoints(
        self, merged: Instances, outputs: list[Instances], transforms: list[Any]
    ) -> None:
        maps = []
        for output, transform in zip(outputs, transforms):
            flips = sum(isinstance(t, HFlipTransform) for t in transform.transforms)
            logits = output.pred_keypoint_heatmaps
            maps.append(mirror_maps(logits, self._swap) if flips % 2 else logits)
        decode(self.model, torch.stack(maps).mean(dim=0), merged)


def vote(merged: Instances, looks: list[Instances]) -> Instances:
    """Boxes and scores on which several images of one picture agree, the surest first.

    Boxes of a class that overlap by an IoU of `AGREES` are of one object. Its box is their mean,
    weighted by score; its score the mean of its own and of the images' highest ones (0 in an image
    that shows it nowhere).

    Args:
        merged: what is left of the images' detections; R in ``pred_boxes``, ``scores``,
            ``pred_classes``.
        looks: the detections of each image, with boxes in pixels of the picture.
    """
    own = merged.pred_boxes
    best = []
    moments, total = torch.zeros_like(own.tensor), own.tensor.new_zeros(len(own), 1)
    for look in looks:
        agrees = pairwise_iou(own, look.pred_boxes) >= AGREES
        agrees &= merged.pred_classes[:, None] == look.pred_classes
        weights = agrees * look.scores
        total += weights.sum(dim=1, keepdim=True)
        # No product of matrices, which autocast would round to half precision.
        moments += (weights[..., None] * look.pred_boxes.tensor).sum(dim=1)
        best.append(weights.amax(dim=1) if len(look) else torch.zeros_like(merged.scores))
    # An empty box overlaps nothing, not even itself.
    mean = torch.where(total > 0, moments / total, own.tensor)
    scores = (merged.scores + torch.stack(best).mean(dim=0)) / 2
    order = scores.argsort(descending=True)
    voted = merged[order]
    voted.pred_boxes, voted.scores = Boxes(mean[order]), scores[order]
    return voted


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


def split_ignored(targets: list[Instances]) -> tuple[list[Instances], list[Boxes]]:
    """Labelled people and ignored regions of each image, by ``gt_classes``."""
    people = [item[item.gt_classes != IGNORED] for item in targets]
    regions = [item.gt_boxes[item.gt_classes == IGNORED] for item in targets]
    return people, regions


def undecided(boxes: Boxes, people: Boxes, regions: Boxes) -> Tensor:
    """Which of A boxes are neither people nor background, if no person claims them: bool (A,)."""
    if len(regions) == 0:
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    covered = pairwise_ioa(regions, boxes).amax(dim=0) >= COVERED
    if len(people):
        covered &= pairwise_ioa(people, boxes).amax(dim=0) < OWNED
    return covered


@PROPOSAL_GENERATOR_REGISTRY.register()
class IgnoringRPN(RPN):
    """Detectron2's RPN; anchors in ignored regions carry no loss."""

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As the stock method: labels in {-1, 0, 1} (A,) and matched boxes (A, 4), each image."""
        every = Boxes.cat(anchors)
        people, regions = split_ignored(gt_instances)
        labels, matched = [], []
        for persons, ignored in zip(people, regions):
            boxes = persons.gt_boxes
            indices, label = self.anchor_matcher(pairwise_iou(boxes, every))
            label[(label == 0) & undecided(every, boxes, ignored)] = -1
            if self.anchor_boundary_thresh >= 0:
                label[~every.inside_box(persons.image_size, self.anchor_boundary_thresh)] = -1
            labels.append(self._subsample_labels(label))
            matched.append(boxes[indices].tensor if len(boxes) else torch.zeros_like(every.tensor))
        return labels, matched


def drop_undecided(
    proposals: list[Instances], targets: list[Instances], matcher: Matcher
) -> tuple[list[Instances], list[Instances]]:
    """Proposals that a person matches or that are background for sure, and the labelled people."""
    people, regions = split_ignored(targets)
    kept = []
    for item, persons, ignored in zip(proposals, people, regions):
        boxes = item.proposal_boxes
        _, label = matcher(pairwise_iou(persons.gt_boxes, boxes))
        kept.append(item[(label == 1) | ~undecided(boxes, persons.gt_boxes, ignored)])
    return kept, people


@ROI_HEADS_REGISTRY.register()
class IgnoringROIHeads(StandardROIHeads):
    """Detectron2's ``StandardROIHeads``; proposals in ignored regions carry no loss."""

    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """As the stock method; what would be background in an ignored region is not drawn from."""
        kept, people = drop_undecided(proposals, targets, self.proposal_matcher)
        return super().label_and_sample_proposals(kept, people)


@ROI_HEADS_REGISTRY.register()
class IgnoringCascadeROIHeads(CascadeROIHeads):
    """Detectron2's ``CascadeROIHeads``; proposals in ignored regions carry no loss, in no stage.

    In inference a region whose mean score in the stages so far is below `GIVEN_UP` is left out of
    the later ones. Of a picture's regions most show nobody, and pooling them is a fifth of what a
    small detector takes.
    """

    def _forward_box(
        self,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> dict[str, Tensor] | list[Instances]:
        """As the stock method."""
        if self.training:
            return super()._forward_box(features, proposals, targets)
        maps = [features[name] for name in self.box_in_features]
        sizes = [item.image_size for item in proposals]
        totals: list[Any] = [0.0] * len(proposals)
        for stage, predictor in enumerate(self.box_predictor, start=1):
            predictions = self._run_stage(maps, proposals, stage - 1)
            boxes = predictor.predict_boxes(predictions, proposals)
            scores = predictor.predict_probs(predictions, proposals)
            totals = [total + score for total, score in zip(totals, scores)]
            if stage < self.num_cascade_stages:
                # The last score is the background's.
                kept = [total[:, :-1].amax(dim=1) >= stage * GIVEN_UP for total in totals]
                totals = [total[rows] for total, rows in zip(totals, kept)]
                boxes = [box[rows] for box, rows in zip(boxes, kept)]
                proposals = self._create_proposals_from_boxes(boxes, sizes)
        found, _ = fast_rcnn_inference(
            boxes,
            [total / self.num_cascade_stages for total in totals],
            sizes,
            predictor.test_score_thresh,
            predictor.test_nms_thresh,
            predictor.test_topk_per_image,
        )
        return found

    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """As `IgnoringROIHeads` has it."""
        kept, people = drop_undecided(proposals, targets, self.proposal_matcher)
        return super().label_and_sample_proposals(kept, people)

    @torch.no_grad()
    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> list[Instances]:
        kept, people = drop_undecided(proposals, targets, self.proposal_matchers[stage])
        return super()._match_and_label_boxes(kept, stage, people)


@BACKBONE_REGISTRY.register()
def build_short_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """As Detectron2's ``build_resnet_fpn_backbone``, for any last stage of MODEL.FPN.IN_FEATURES.

    With res2, res3, res4 it gives p2 to p4, and p5, which is p4 thinned by two. Detectron2's thins
    the level p5, that is, wants res5.
    """
    bottom_up = build_resnet_backbone(cfg, input_shape)
    in_features = cfg.MODEL.FPN.IN_FEATURES
    top = LastLevelMaxPool()
    top.in_feature = in_features[-1].replace("res", "p")
    return FPN(
        bottom_up=bottom_up,
        in_features=in_features,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
