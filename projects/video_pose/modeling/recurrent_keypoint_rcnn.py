"""Keypoint R-CNN with a memory per person, carried from region to region.

Stock Detectron2 finds the people: backbone, proposals and box head, one pass a frame for
everybody. The keypoint head takes the RoIAlign features of a person and the state of that person's
track, moved from the last region's grid into this one's (`states.py`). As the other recurrent
models it is

    encode(images (N, 3, H, W))                 -> features             a frame, for all people
    begin(regions (R, C, s, s))                 -> state                a fresh row
    advance(regions (R, C, s, s), state, moves) -> logits (R, K, m, m), state     light, per person

The memory adds to the stock head's logits and its last layer starts at 0: an untrained memory is
Keypoint R-CNN, to the last digit, and its checkpoints (Detectron2's zoo) load as they are.

Shape letters: N images, R rows (persons), K joints, D hidden channels, s cells along a side of
RoIAlign's grid (14), m = 4 s along a side of the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, interpolate
from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.roi_heads import (
    ROI_KEYPOINT_HEAD_REGISTRY,
    KRCNNConvDeconvUpsampleHead,
    StandardROIHeads,
)
from detectron2.modeling.roi_heads.keypoint_head import (
    keypoint_rcnn_inference,
    keypoint_rcnn_loss,
)
from detectron2.structures import Boxes, Instances, Keypoints, pairwise_iou
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from video_pose.data.cropping import jitter_boxes
from video_pose.data.records import FrameClip, FramePrediction, MappedFrame
from video_pose.modeling.layers import ConvLSTMCell
from video_pose.modeling.rcnn_parts import add_keypoints, decode_logits
from video_pose.modeling.states import (
    append_rows,
    box_moves,
    move_state,
    put_rows,
    select_rows,
    still_moves,
)

TRAINED = ("all", "head", "head_without_memory", "memory")
# Tracks of different clips of a batch get numbers that are this far apart.
TRACKS_PER_CLIP = 1 << 20
# OKS width of a joint that nothing is known of, about a shoulder's.
_SIGMA = 0.079


# The layers of the head that stock Keypoint R-CNN does not have.
MEMORY = ("reduce", "cell", "correct")


class KeypointMemory(NamedTuple):
    """One row per person, on the grid of the region that it was computed on."""

    maps: Tensor  # (R, K, s, s), the last logits as exp(logit - highest), 0 when fresh
    hidden: Tensor  # (R, D, s, s)
    cell: Tensor  # (R, D, s, s)
    fresh: Tensor  # (R, 1, 1, 1), 1 before a row's first step


@ROI_KEYPOINT_HEAD_REGISTRY.register()
class RecurrentKeypointHead(KRCNNConvDeconvUpsampleHead):
    """Detectron2's keypoint head, and a convolutional LSTM that corrects its low-resolution logits.

    Parameters of the stock head keep their names.

    Args:
        input_shape, num_keypoints, conv_dims: as the stock head's.
        feature_channels: that the last convolution's features are reduced to for the memory.
        hidden_channels: D.
        subpixel: decode between cells (`roi_heads.decode_logits`) instead of as Detectron2 does.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_keypoints: int,
        conv_dims: list[int],
        feature_channels: int = 32,
        hidden_channels: int = 32,
        subpixel: bool = False,
        **stock: Any,
    ) -> None:
        super().__init__(input_shape, num_keypoints=num_keypoints, conv_dims=conv_dims, **stock)
        self.subpixel = subpixel
        width = conv_dims[-1] if len(conv_dims) else input_shape.channels
        self.reduce = Conv2d(width, feature_channels, 1)
        nn.init.kaiming_normal_(self.reduce.weight, nonlinearity="relu")
        nn.init.zeros_(self.reduce.bias)
        self.cell = ConvLSTMCell(feature_channels + num_keypoints, hidden_channels, forget_bias=1.0)
        self.correct = nn.ConvTranspose2d(hidden_channels, num_keypoints, 4, stride=2, padding=1)
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """As the stock head's, and ``cfg.MODEL.RECURRENT_KEYPOINT``."""
        node = cfg.MODEL.RECURRENT_KEYPOINT
        return {
            **super().from_config(cfg, input_shape),
            "conv_dims": list(cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS),
            "feature_channels": node.FEATURE_CHANNELS,
            "hidden_channels": node.HIDDEN_CHANNELS,
            "subpixel": node.SUBPIXEL,
        }

    def memory_modules(self) -> list[nn.Module]:
        """The layers that stock Keypoint R-CNN does not have."""
        return [getattr(self, name) for name in MEMORY]

    def memory_labels(self, joints: list[str]) -> dict[str, dict[int, list[str]]]:
        """As `head_labels`, of these layers; the cell sees features, then the joints' maps."""
        width = self.reduce.out_channels
        seen = [*(f"feature {number}" for number in range(width)), *joints]
        labels = {f"cell.x.{gate}.weight": {1: seen} for gate in self.cell.x}
        return {**labels, "correct.weight": {1: joints}, "correct.bias": {0: joints}}

    def begin(self, regions: Tensor) -> KeypointMemory:
        """Fresh rows for ``regions`` (R, C, s, s)."""
        hidden, cell = self.cell.zero_state(regions)
        maps = regions.new_zeros((regions.shape[0], self.num_keypoints, *regions.shape[-2:]))
        return KeypointMemory(maps, hidden, cell, regions.new_ones((regions.shape[0], 1, 1, 1)))

    def convolve(self, regions: Tensor) -> Tensor:
        """The stock head's convolutions: regions (R, C, s, s) -> features (R, C', s, s).

        They know no time: those of all frames are computed at once in training.
        """
        for name, module in self.named_children():
            if name.startswith("conv_fcn"):
                regions = module(regions)
        return regions

    def advance(
        self, features: Tensor, state: KeypointMemory, moves: Tensor | None = None
    ) -> tuple[Tensor, KeypointMemory]:
        """One frame: `convolve`'s features (R, C', s, s) -> logits (R, K, m, m), state.

        Args:
            moves: (R, 2, 3), from the cells of these regions to those that the state lies in
                (`states.box_moves`); None: the state stays in its cells.
        """
        if moves is not None:
            state = move_state(state, moves)
        reduced = self.reduce(features).relu()
        x = torch.cat([reduced, state.maps.to(reduced.dtype)], 1)
        hidden, cell = self.cell(x, state.hidden, state.cell, state.fresh)
        coarse = self.score_lowres(features) + self.correct(hidden)
        logits = interpolate(
            coarse, scale_factor=self.up_scale, mode="bilinear", align_corners=False
        )
        maps = (coarse - coarse.amax(dim=(-2, -1), keepdim=True)).exp()
        maps = torch.nn.functional.max_pool2d(maps, 2)
        return logits, KeypointMemory(maps, hidden, cell, torch.zeros_like(state.fresh))

    def layers(self, x: Tensor) -> Tensor:
        """Logits (R, K, m, m) of regions without a past, as Detectron2 calls a keypoint head."""
        return self.advance(self.convolve(x), self.begin(x))[0]

    def decode(self, logits: Tensor, instances: list[Instances]) -> None:
        """Set ``pred_keypoints`` and ``pred_keypoint_heatmaps`` of all images' instances."""
        if self.subpixel:
            add_keypoints(logits.detach().float(), instances)
        else:
            keypoint_rcnn_inference(logits.float(), instances)

    def forward(self, x: Tensor, instances: list[Instances]) -> Any:
        """As the stock head's: regions without a past."""
        if self.training:
            return super().forward(x, instances)
        self.decode(self.layers(x), instances)
        return instances


def move_memory(state: KeypointMemory, old_boxes: Tensor, new_boxes: Tensor) -> KeypointMemory:
    """A state brought from the grids over ``old_boxes`` (R, 4) to those over ``new_boxes``."""
    moves = box_moves(old_boxes.float(), new_boxes.float(), state.maps.shape[-1])
    return move_state(state, moves)


@dataclass
class PeopleMemory:
    """Who was seen in a video so far: what a stream hands in and gets back.

    Attributes:
        ids: number of each row's track. boxes: (R, 4), its last box, px of the network's input.
        poses: (R, K, 3), its last joints there. ages: frames on which it was seen.
        missed: frames since then. state: the rows; None before anybody was seen.
        next_id: number of the next new track. frame: index of the last frame; -1 before the first.
    """

    ids: list[int] = field(default_factory=list)
    boxes: Tensor | None = None
    poses: Tensor | None = None
    ages: list[int] = field(default_factory=list)
    missed: list[int] = field(default_factory=list)
    state: KeypointMemory | None = None
    next_id: int = 0
    frame: int = -1

    def forget(self) -> None:
        """Drop everybody, as at a cut; numbers of tracks are not used again."""
        self.ids, self.ages, self.missed = [], [], []
        self.boxes = self.poses = self.state = None


@ROI_HEADS_REGISTRY.register()
class RecurrentROIHeads(StandardROIHeads):
    """Stock heads whose keypoint head remembers people.

    In training, images of a clip follow one another, ground truth has ``gt_tracks`` (numbers that
    no two clips share), and each person of a frame gives ``regions`` of them: the true box,
    jittered, or a proposal that was matched to it. At inference `remember` is called in place of
    the stock keypoint branch.

    Args:
        align: move states with their regions.
        regions: of each person in training; the n-th ones of all frames share a memory.
        box_jitter: standard deviation of a true box's change in training, as a share of its sides.
        min_score: detections below it neither read nor write memory.
        min_iou: of a detection with a track's last box, to be the same person.
        oks_weight: of the poses' similarity beside the boxes' overlap, where boxes of several
            people overlap.
        sigmas: OKS widths of the joints; () takes one for all.
        max_missed: frames for which an unseen person's memory is kept.
        reset_every: begin a person's memory anew every n frames; 0 never does.
        stock: see `StandardROIHeads`.
    """

    @configurable
    def __init__(
        self,
        *,
        align: bool = True,
        regions: int = 1,
        box_jitter: float = 0.05,
        min_score: float = 0.3,
        min_iou: float = 0.3,
        oks_weight: float = 0.5,
        sigmas: Sequence[float] = (),
        max_missed: int = 30,
        reset_every: int = 0,
        **stock: Any,
    ) -> None:
        super().__init__(**stock)
        if not self.keypoint_on or not isinstance(self.keypoint_head, RecurrentKeypointHead):
            raise ValueError(
                "RecurrentROIHeads needs MODEL.KEYPOINT_ON True and "
                "MODEL.ROI_KEYPOINT_HEAD.NAME RecurrentKeypointHead"
            )
        if regions < 1:
            raise ValueError(f"MODEL.RECURRENT_KEYPOINT.REGIONS is {regions}: expected 1 or more")
        self.align, self.regions = align, regions
        self.box_jitter = box_jitter
        if not 0 <= oks_weight <= 1:
            raise ValueError(
                f"MODEL.RECURRENT_KEYPOINT.OKS_WEIGHT is {oks_weight}: expected 0 to 1"
            )
        self.min_score, self.min_iou, self.max_missed = min_score, min_iou, max_missed
        self.oks_weight, self.reset_every = oks_weight, reset_every
        joints = self.keypoint_head.num_keypoints
        widths = torch.tensor(list(sigmas) or [_SIGMA] * joints)
        self.register_buffer("sigmas", widths, persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """As the stock heads', ``cfg.MODEL.RECURRENT_KEYPOINT`` and ``cfg.TEST.RESET_EVERY``."""
        node = cfg.MODEL.RECURRENT_KEYPOINT
        return {
            **super().from_config(cfg, input_shape),
            "align": node.ALIGN,
            "regions": node.REGIONS,
            "box_jitter": node.BOX_JITTER,
            "min_score": node.MIN_SCORE,
            "min_iou": node.MIN_IOU,
            "oks_weight": node.OKS_WEIGHT,
            "sigmas": list(cfg.TEST.KEYPOINT_OKS_SIGMAS),
            "max_missed": node.MAX_MISSED,
            "reset_every": cfg.TEST.RESET_EVERY,
        }

    # ---- training

    def _forward_keypoint(self, features: dict[str, Tensor], instances: list[Instances]) -> Any:
        """Detectron2's hook: losses of recurrent rows in training."""
        if not self.training:
            return super()._forward_keypoint(features, instances)
        return self.keypoint_losses(features, instances)

    def keypoint_losses(
        self, features: dict[str, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor]:
        """Scan every track of the batch over its regions.

        Args:
            features: of N images, the frames of a clip one after the other.
            proposals: N, labelled by `label_and_sample_proposals`.
        """
        regions = [self._training_regions(item) for item in proposals]
        pooled = self.keypoint_pooler(
            [features[name] for name in self.keypoint_in_features],
            [item.proposal_boxes for item in regions],
        )
        merged = Instances.cat([_frameless(item) for item in regions])
        head = self.keypoint_head
        convolved = head.convolve(pooled)
        if len(merged) == 0:
            # Every parameter takes part, as training by several processes needs.
            return {"loss_keypoint": head.advance(convolved, head.begin(convolved))[0].sum() * 0}
        logits = self._scan(convolved, merged.proposal_boxes.tensor, merged.gt_tracks)
        normalizer = None
        if head.loss_normalizer != "visible":
            # Detectron2 counts the regions that it samples of an image; here a person gives a few.
            normalizer = len(merged) * head.num_keypoints
        loss = keypoint_rcnn_loss(logits.float(), [merged], normalizer)
        return {"loss_keypoint": loss * head.loss_weight}

    def _scan(self, features: Tensor, boxes: Tensor, tracks: Tensor) -> Tensor:
        """Logits (R, K, m, m) of regions in the order of time, each row after its track's last.

        The n-th regions of all tracks are one step: rows do not depend on one another.
        """
        turns = _turns(tracks.tolist())
        found: list[Tensor] = []
        order: list[int] = []
        state: KeypointMemory | None = None
        previous: list[int] = []
        for turn in turns:
            # Rows of this turn are a part of those of the turn before.
            rows = torch.tensor(turn, device=features.device)
            if state is None:
                state = self.keypoint_head.begin(features[rows])
            else:
                places = {int(tracks[row]): place for place, row in enumerate(previous)}
                kept = [places[int(tracks[row])] for row in turn]
                state = select_rows(state, kept)
                if self.align:
                    old = boxes[[previous[place] for place in kept]]
                    state = move_memory(state, old, boxes[rows])
            logits, state = self.keypoint_head.advance(features[rows], state)
            found.append(logits)
            order += turn
            previous = turn
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(found)[back.to(features.device)]

    def _training_regions(self, proposals: Instances) -> Instances:
        """``regions`` of every track of an image, of the proposals that are matched to it.

        ``gt_tracks`` of the result number the rows of memory.
        """
        if not proposals.has("gt_tracks"):  # Detectron2 gives no fields where nobody is labelled
            return self._no_regions(proposals)
        foreground = proposals[
            (proposals.gt_classes >= 0) & (proposals.gt_classes < self.num_classes)
        ]
        chosen: list[int] = []
        for track in foreground.gt_tracks.unique().tolist():
            mine = (foreground.gt_tracks == track).nonzero().squeeze(1)
            chosen += mine[torch.randint(len(mine), (self.regions,))].tolist()
        regions = foreground[
            torch.tensor(chosen, dtype=torch.long, device=foreground.gt_tracks.device)
        ]
        turn = torch.arange(len(chosen)).to(regions.gt_tracks) % self.regions
        regions.gt_tracks = regions.gt_tracks * self.regions + turn
        use_truth = torch.rand(len(regions)) < 0.5
        boxes = regions.proposal_boxes.tensor.clone()
        truth = jittered(regions.gt_boxes.tensor, self.box_jitter)
        boxes[use_truth] = truth[use_truth]
        regions.proposal_boxes = Boxes(boxes)
        return regions

    def _no_regions(self, proposals: Instances) -> Instances:
        none = proposals.proposal_boxes.tensor[:0]
        return Instances(
            proposals.image_size,
            proposal_boxes=Boxes(none),
            gt_keypoints=Keypoints(none.new_zeros((0, self.keypoint_head.num_keypoints, 3))),
            gt_tracks=none.new_zeros(0, dtype=torch.long),
        )

    # ---- inference

    def detect(self, features: dict[str, Tensor], proposals: list[Instances]) -> list[Instances]:
        """Boxes and masks, without joints."""
        found = self._forward_box(features, proposals)
        return self._forward_mask(features, found)

    def remember(
        self, features: dict[str, Tensor], found: Instances, memory: PeopleMemory
    ) -> Instances:
        """Joints of one frame's people, with the memory of their tracks, which is brought forward.

        Args:
            features: of one image. found: its detections. memory: of its video, changed.

        Returns:
            ``found`` with ``pred_keypoints`` and ``pred_track_ids`` int64 (P,), -1 for detections
            below ``min_score``.
        """
        boxes = found.pred_boxes.tensor
        pooled = self.keypoint_pooler(
            [features[name] for name in self.keypoint_in_features], [found.pred_boxes]
        )
        head = self.keypoint_head
        convolved = head.convolve(pooled)
        state = head.begin(convolved)
        moves = self._still(convolved)
        rows = self._match(found, memory, convolved)
        carried = [i for i, row in enumerate(rows) if self._carries(memory, row)]
        if carried:
            assert memory.state is not None and memory.boxes is not None
            old_rows = [rows[i] for i in carried]
            state = put_rows(state, carried, select_rows(memory.state, old_rows))
            if moves:
                old = memory.boxes[old_rows].float()
                moves[0][carried] = box_moves(old, boxes[carried].float(), convolved.shape[-1])
        logits, state = head.advance(convolved, state, *moves)
        head.decode(logits, [found])
        found.pred_track_ids = self._store(memory, rows, found, state)
        return found

    def _still(self, features: Tensor) -> tuple[Tensor, ...]:
        """Moves of rows that stay where they are, if states move at all; an argument of every step,
        since a graph takes the same ones each time."""
        return (still_moves(len(features)).to(features.device),) if self.align else ()

    def _carries(self, memory: PeopleMemory, row: int | None) -> bool:
        """Whether a detection goes on with the state in this row of the memory."""
        if row is None or row < 0:
            return False
        return self.reset_every == 0 or memory.ages[row] % self.reset_every > 0

    def _match(self, found: Instances, memory: PeopleMemory, features: Tensor) -> list[int | None]:
        """Row of the memory for each detection: -1 for a new person, None for a doubtful one.

        Boxes say who is who. Where several overlap, so do poses: those that the frame alone shows,
        since no memory can be used before it is known whose.

        Args:
            features: of the detections, as `RecurrentKeypointHead.convolve` makes them.
        """
        sure = (found.scores >= self.min_score).tolist()
        rows: list[int | None] = [-1 if one else None for one in sure]
        candidates = [i for i, one in enumerate(sure) if one]
        if not candidates or not memory.ids:
            return rows
        assert memory.boxes is not None and memory.poses is not None
        overlap = pairwise_iou(found.pred_boxes[candidates], Boxes(memory.boxes))
        # Overlaps too small to be the same person must not push a good pair apart.
        possible = overlap >= self.min_iou
        several = possible.sum(0).max() > 1 or possible.sum(1).max() > 1
        if self.oks_weight > 0 and several:
            chosen, boxes = features[candidates], found.pred_boxes.tensor[candidates]
            fresh = self.keypoint_head.begin(chosen)
            logits, _ = self.keypoint_head.advance(chosen, fresh, *self._still(chosen))
            poses = decode_logits(logits, boxes)
            similar = pose_similarity(poses, boxes, memory.poses, memory.boxes, self.sigmas)
            overlap = overlap.lerp(similar, self.oks_weight)
        gain = torch.where(possible, overlap, 0).float().cpu().numpy()
        for i, row in zip(*linear_sum_assignment(gain, maximize=True)):
            if gain[i, row] > 0:
                rows[candidates[i]] = int(row)
        return rows

    def _store(
        self, memory: PeopleMemory, rows: list[int | None], found: Instances, state: KeypointMemory
    ) -> Tensor:
        """Write the rows of this frame into ``memory``; the tracks' numbers (P,)."""
        boxes, poses = found.pred_boxes.tensor, found.pred_keypoints
        ids, kept = [], [i for i, row in enumerate(rows) if row is not None]
        for row in rows:
            if row is None:
                ids.append(-1)
            elif row >= 0:
                ids.append(memory.ids[row])
            else:
                ids.append(memory.next_id)
                memory.next_id += 1
        resting = [
            row
            for row in range(len(memory.ids))
            if row not in rows and memory.missed[row] < self.max_missed
        ]
        parts = [select_rows(state, kept)]
        new_boxes, new_poses = [boxes[kept]], [poses[kept]]
        if resting:
            assert memory.boxes is not None and memory.poses is not None
            assert memory.state is not None
            parts.append(select_rows(memory.state, resting))
            new_boxes.append(memory.boxes[resting])
            new_poses.append(memory.poses[resting])
        seen = [row for row in rows if row is not None]
        ages = [memory.ages[row] + 1 if row >= 0 else 1 for row in seen]
        memory.ages = ages + [memory.ages[row] for row in resting]
        memory.ids = [ids[i] for i in kept] + [memory.ids[row] for row in resting]
        memory.missed = [0] * len(kept) + [memory.missed[row] + 1 for row in resting]
        memory.boxes, memory.poses = torch.cat(new_boxes), torch.cat(new_poses)
        memory.state = append_rows(parts)
        return torch.tensor(ids, dtype=torch.int64, device=boxes.device)


@META_ARCH_REGISTRY.register()
class RecurrentKeypointRCNN(GeneralizedRCNN):
    """Keypoint R-CNN on clips of whole frames in training, on videos frame by frame in testing.

    Args:
        trained: "all", or a part, everything else as it was loaded: "head" (the keypoint head),
            "head_without_memory" (its stock layers, which a memory needs finished), "memory" (the
            layers that the stock head does not have).
        stock: see `GeneralizedRCNN`; ``roi_heads`` must be `RecurrentROIHeads`.
    """

    # An untrained memory corrects nothing: a stock Keypoint R-CNN's weights are complete.
    neutral_untrained = tuple(f"roi_heads.keypoint_head.{part}." for part in MEMORY)

    @configurable
    def __init__(self, *, trained: str = "all", **stock: Any) -> None:
        super().__init__(**stock)
        if trained not in TRAINED:
            raise ValueError(
                f"MODEL.RECURRENT_KEYPOINT.TRAIN is {trained!r}: choose from {TRAINED}"
            )
        if not isinstance(self.roi_heads, RecurrentROIHeads):
            raise ValueError("RecurrentKeypointRCNN needs MODEL.ROI_HEADS.NAME RecurrentROIHeads")
        self.trained = trained
        self._memory: dict[str, PeopleMemory] = {}

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """As the stock architecture's, and ``cfg.MODEL.RECURRENT_KEYPOINT.TRAIN``."""
        return {**super().from_config(cfg), "trained": cfg.MODEL.RECURRENT_KEYPOINT.TRAIN}

    def train(self, mode: bool = True) -> RecurrentKeypointRCNN:
        """As ``nn.Module``; what is not trained stays in evaluation mode. Forgets all people."""
        super().train(mode)
        self._memory.clear()
        if self.trained != "all":
            for module in (self.backbone, self.proposal_generator, self.roi_heads):
                module.eval().requires_grad_(False)
            head = self.roi_heads.keypoint_head
            head.train(mode).requires_grad_(self.trained != "memory")
            for module in head.memory_modules():
                module.requires_grad_(self.trained != "head_without_memory")
        return self

    def forward(self, batch: list[FrameClip] | list[MappedFrame]) -> Any:
        """Losses by name of a batch of clips; at inference ``{"instances": Instances}`` a frame.

        Args:
            batch: training: ``frames``, a clip's frames as `FrameMapper` makes them, whose
                ``instances`` have ``gt_tracks``. Inference: frames as `FrameMapper` makes them, in
                the order of their videos; one without ``video_id`` is a video of its own.
        """
        if self.training:
            return self._losses(cast(list[FrameClip], batch))
        frames = cast(list[MappedFrame], batch)
        return [self.step(frame, self._memory_of(frame)) for frame in frames]

    def encoder_modules(self) -> list[nn.Module]:
        """What MODEL.POSE.ENCODER_LR_FACTOR slows down."""
        return [self.backbone]

    def _losses(self, clips: list[FrameClip]) -> dict[str, Tensor]:
        frames, targets = [], []
        for number, clip in enumerate(clips):
            for frame in clip["frames"]:
                instances = frame["instances"].to(self.device)
                if not instances.has("gt_tracks"):  # Detectron2 gives none where nobody is labelled
                    instances.gt_tracks = torch.zeros(0, dtype=torch.long, device=self.device)
                instances.gt_tracks = instances.gt_tracks + number * TRACKS_PER_CLIP
                frames.append(frame)
                targets.append(instances)
        images = self.preprocess_image(frames)
        with torch.set_grad_enabled(self.trained == "all"):
            features = self.backbone(images.tensor)
        if self.trained == "all":
            proposals, losses = self.proposal_generator(images, features, targets)
            _, more = self.roi_heads(images, features, proposals, targets)
            return {**losses, **more}
        with torch.no_grad():
            proposals, _ = self.proposal_generator(images, features, None)
            proposals = self.roi_heads.label_and_sample_proposals(proposals, targets)
        return self.roi_heads.keypoint_losses(features, proposals)

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images (N, 3, H, W) -> the backbone's features by name."""
        return self.backbone(images)

    @torch.no_grad()
    def step(self, frame: MappedFrame, memory: PeopleMemory) -> FramePrediction:
        """One frame of a stream, whose ``memory`` is brought forward: ``{"instances": Instances}``.

        Args:
            frame: ``image`` (3, H, W) of 0-255; ``height``, ``width`` of the result.
        """
        images = self.preprocess_image([frame])
        features = self.encode(images.tensor)
        proposals, _ = self.proposal_generator(images, features, None)
        (found,) = self.roi_heads.detect(features, proposals)
        found = self.roi_heads.remember(features, found, memory)
        return self._postprocess([found], [frame], images.image_sizes)[0]

    def _memory_of(self, frame: MappedFrame) -> PeopleMemory:
        """The memory of a frame's video.

        Raises:
            ValueError: the frame is not after the last one of its video.
        """
        video = frame.get("video_id")
        if video is None:
            return PeopleMemory()
        if video not in self._memory:
            # Videos come one after the other.
            self._memory = {video: PeopleMemory()}
        memory, index = self._memory[video], int(frame["frame_index"])
        if index <= memory.frame:
            raise ValueError(
                f"video {video!r}: frame {index} comes after frame {memory.frame}; the frames of a "
                "video must come in order"
            )
        memory.frame = index
        return memory


def jittered(boxes: Tensor, amount: float) -> Tensor:
    """Boxes (R, 4) XYXY whose centres and sides change at random, by normal shares of the sides."""
    noise = torch.randn((len(boxes), 4)).to(boxes) * amount
    shift, growth = noise[:, :2], noise[:, 2:].exp() - 1
    return jitter_boxes(boxes, torch.cat([shift - growth / 2, shift + growth / 2], dim=1))


def pose_similarity(
    poses: Tensor, boxes: Tensor, other_poses: Tensor, other_boxes: Tensor, sigmas: Tensor
) -> Tensor:
    """Object keypoint similarity (COCO) of P and Q people's joints: (P, Q), 0 to 1.

    A person's size is the geometric mean of both boxes' areas; a joint counts by the product of
    its scores, so that one that neither pose is sure of says little.

    Args:
        poses: (P, K, 3) = x, y, score. boxes: (P, 4). other_poses: (Q, K, 3). other_boxes: (Q, 4).
        sigmas: (K,).
    """
    areas = [(b[:, 2:] - b[:, :2]).clamp(min=1).prod(1) for b in (boxes, other_boxes)]
    size = (areas[0][:, None] * areas[1][None]).sqrt()[..., None]
    distance = (poses[:, None, :, :2] - other_poses[None, :, :, :2]).square().sum(-1)
    similar = (-distance / (2 * size * (2 * sigmas).square())).exp()
    weight = poses[:, None, :, 2] * other_poses[None, :, :, 2]
    return (similar * weight).sum(-1) / weight.sum(-1).clamp(min=1e-9)


def _turns(tracks: list[int]) -> list[list[int]]:
    """Positions of the first regions of all tracks, then of the second ones, and so on.

    [7, 9, 7, 7] -> [[0, 1], [2], [3]].
    """
    seen: dict[int, int] = {}
    turns: list[list[int]] = []
    for position, track in enumerate(tracks):
        turn = seen.get(track, 0)
        seen[track] = turn + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(position)
    return turns


def _frameless(regions: Instances) -> Instances:
    """The fields that the loss needs, without a size, which the images of a batch may differ in."""
    return Instances(
        (0, 0),
        proposal_boxes=regions.proposal_boxes,
        gt_keypoints=Keypoints(regions.gt_keypoints.tensor),
        gt_tracks=regions.gt_tracks,
    )
