"""Faster and Mask R-CNN on pictures with regions that are neither people nor background.

Such a region is a crowd that nobody drew boxes in, a person cut down to a sliver, or the whole
picture where not everybody has a box. Detectron2 leaves crowds out of training, so that it takes
the people in them for background. Here the mapper hands such a region on as an instance of class
`IGNORED`, and an anchor or proposal that would be background is neither right nor wrong if

* at least `COVERED` of it lies in such regions (as COCO's evaluation treats detections), and
* not `OWNED` of it lies in one labelled person: a head or a torso alone remains a wrong box.

A anchors or proposals, G labelled people, R regions.
"""

from __future__ import annotations

import torch
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY, RPN
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    CascadeROIHeads,
    StandardROIHeads,
)
from detectron2.structures import Boxes, Instances, pairwise_ioa, pairwise_iou
from torch import Tensor

IGNORED = -1
COVERED = 0.5
OWNED = 0.7


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
    """Detectron2's ``CascadeROIHeads``; proposals in ignored regions carry no loss, in no stage."""

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
