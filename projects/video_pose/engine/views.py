"""The ways in which a model sees the datasets: as clips of tracks, or as single frames.

A view is chosen by INPUT.VIEW, or follows from the meta-architecture. Another one is a subclass of
`View`, registered under its name.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from video_pose.backends.detector import accelerate
from video_pose.backends.pose import build_tested
from video_pose.data.build import NO_TRACKS, build_pose_test_loader, build_pose_train_loader
from video_pose.data.clip_mapper import POSE_MAPPER_REGISTRY, joints_from_config
from video_pose.data.frame_clips import (
    build_frame_clips_test_loader,
    build_frame_clips_train_loader,
)
from video_pose.data.frames import (
    FRAMES_SUFFIX,
    build_frames_test_loader,
    build_frames_train_loader,
)
from video_pose.data.records import (
    ClipRecord,
    FrameClip,
    FramePrediction,
    MappedFrame,
    known_mirror_pairs,
)
from video_pose.evaluation.pck import PCKAccumulator, get_protocol
from video_pose.evaluation.pck_evaluator import PredictedPose, require_head_sizes
from video_pose.modeling.precision import inference_autocast
from video_pose.modeling.rcnn_parts import (
    KeypointRCNNWithTTA,
    naming_divergence,
    prepare_regions,
)
from video_pose.modeling.recurrent_keypoint_rcnn import RecurrentKeypointRCNN
from video_pose.modeling.video_pose_net import VideoPoseNet
from video_pose.plugins import VIEWS
from video_pose.skeleton import infer_sigmas, require_mirror_pairs

logger = logging.getLogger(__name__)

Batches: TypeAlias = (
    Iterable[list[ClipRecord]] | Iterable[list[MappedFrame]] | Iterable[list[FrameClip]]
)


class View:
    """What differs between the views. A subclass gives the loaders, and what else is its own.

    Attributes:
        unread: keys that its models do not read, and what they have in their place; a node stands
            for all keys in it. Where one is set it is refused: who set it waits for its effect.
        ignored: likewise, of keys that base files of Detectron2 set for all models: they are said
            to be ignored.
    """

    unread: Mapping[str, str] = {}
    ignored: Mapping[str, str] = {}

    def needs_joints(self, cfg: CfgNode) -> bool:
        """Whether a model without MODEL.POSE.JOINTS makes no sense."""
        return True

    def dataset_name(self, dataset: str) -> str:
        """The name under which the view has ``dataset``."""
        return dataset

    def complete(self, cfg: CfgNode) -> None:
        """Set what follows from the datasets, in place. Raises ValueError for what cannot work."""

    def build_train_loader(self, cfg: CfgNode, start_iter: int) -> Batches:
        """Endless batches of DATASETS.TRAIN; a resumed run starts at ``start_iter``."""
        raise NotImplementedError

    def build_test_loader(self, cfg: CfgNode, dataset_name: str) -> Batches:
        """All batches of this process."""
        raise NotImplementedError

    def prepare(self, model: nn.Module) -> None:
        """Make ``model`` ready for training in any precision, in place."""

    def tested(self, cfg: CfgNode, model: nn.Module, *, changes: bool = False) -> nn.Module:
        """The model as it is tested; ``changes``: its weights will change, within a training."""
        return model


def default_view(cfg: CfgNode) -> str:
    """By the meta-architecture: "clips" for a `VideoPoseNet`, "frame_clips" for detectors with a
    memory, else "frames"."""
    if is_recurrent(cfg):
        return "clips"
    kind = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    has_memory = isinstance(kind, type) and issubclass(kind, RecurrentKeypointRCNN)
    return "frame_clips" if has_memory else "frames"


def is_recurrent(cfg: CfgNode) -> bool:
    """Whether the config's model is one of this project's, with `encode`, `begin` and `advance`.

    Raises:
        KeyError: an unknown meta-architecture.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    if name not in META_ARCH_REGISTRY:
        known = sorted(key for key, _ in META_ARCH_REGISTRY)
        raise KeyError(f"MODEL.META_ARCHITECTURE is {name!r}: registered are {known}")
    kind = META_ARCH_REGISTRY.get(name)
    return isinstance(kind, type) and issubclass(kind, VideoPoseNet)


def view_of(cfg: CfgNode) -> View:
    """The view of ``INPUT.VIEW``, by default that of the model.

    Raises:
        ValueError: unknown view.
    """
    return VIEWS.get(cfg.INPUT.VIEW or default_view(cfg))()


def is_video_pose(dataset_name: str) -> bool:
    """Whether it is a dataset of person tracks."""
    return MetadataCatalog.get(dataset_name).get("evaluator_type") == "video_pose"


# Of `View.unread` and `View.ignored`.
_CROPS = (
    "takes no crops; INPUT.MIN_SIZE_TRAIN, INPUT.CROP and INPUT.RANDOM_FLIP change whole frames"
)
_NO_LOOKS = "takes no crops; an R-CNN without memory has TEST.AUG.FLIP and TEST.AUG.MIN_SIZES"
_UNREAD_OF_FRAMES = {
    "MODEL.POSE.ALIGN_STATE": "has no states of crops; MODEL.RECURRENT_KEYPOINT.ALIGN is that of "
    "RecurrentKeypointRCNN",
    "MODEL.POSE.ENCODER": "has no such encoder; MODEL.BACKBONE.FREEZE_AT freezes stages of a "
    "backbone, and MODEL.RECURRENT_KEYPOINT.TRAIN says what RecurrentKeypointRCNN trains",
    "MODEL.POSE.ABSENT_WEIGHT": "draws no targets; joints without a label carry no loss",
    "TEST.FLIP": _NO_LOOKS,
    "TEST.FLIP_STILLS": _NO_LOOKS,
    "TEST.SCALES": _NO_LOOKS,
    "TEST.SCALES_STILLS": _NO_LOOKS,
    "TEST.BOX_JITTER": "finds its boxes itself",
    "TEST.WARMUP_FRAMES": "is evaluated on all frames with labels",
    "TEST.OVER_TIME.MODE": "is evaluated frame by frame; the command corrects its poses by --lag "
    "or --offline",
    "TEST.COMPILE": "is not compiled; TEST.BACKEND says what computes it",
    "INPUT.CROP_SIZE": _CROPS,
    "INPUT.REGION": _CROPS,
    "INPUT.REGION_MARGIN": _CROPS,
    **{
        f"INPUT.AUG.{key}": _CROPS
        for key in (
            *("SCALE_RANGE", "ROTATION", "FLIP_PROB", "TRANSLATION", "OCCLUSION_PROB"),
            *("BOX_JITTER", "BOX_JITTER_FRAME", "HALF_BODY_PROB", "BLUR_PROB", "LOW_RES_PROB"),
        )
    },
}
_UNREAD_WITHOUT_MEMORY = {
    "MODEL.POSE.ENCODER_LR_FACTOR": "has no such encoder; MODEL.BACKBONE.FREEZE_AT freezes stages "
    "of a backbone",
    "MODEL.RECURRENT_KEYPOINT": "remembers nobody; RecurrentKeypointRCNN does",
    "INPUT.CLIP": "takes single frames; INPUT.FRAMES.STRIDE thins them out",
    "TEST.RESET_EVERY": "remembers nobody; RecurrentKeypointRCNN does",
}
_NO_PICTURES = "draws nothing in a training; tools/visualize.py draws what its mapper gives"
_ONE_SIZE = "takes crops; INPUT.CROP_SIZE is their size"
_UNREAD_OF_CLIPS = {
    "INPUT.RANDOM_FLIP": "takes crops; INPUT.AUG.FLIP_PROB mirrors them",
    "INPUT.FRAMES": "takes clips; INPUT.CLIP and INPUT.AUG are theirs",
    "TEST.AUG.ENABLED": "takes crops; TEST.FLIP and TEST.SCALES have it look more than once",
    "MODEL.RECURRENT_KEYPOINT": "has keys of its own; these are RecurrentKeypointRCNN's",
}
_IGNORED_OF_CLIPS = {
    "VIS_PERIOD": _NO_PICTURES,
    "INPUT.CROP": "takes crops; INPUT.AUG.SCALE_RANGE and INPUT.AUG.TRANSLATION change them",
    "INPUT.MIN_SIZE_TRAIN": _ONE_SIZE,
    "INPUT.MAX_SIZE_TRAIN": _ONE_SIZE,
    "INPUT.MIN_SIZE_TEST": _ONE_SIZE,
    "INPUT.MAX_SIZE_TEST": _ONE_SIZE,
}


@VIEWS.add("clips")
class ClipsView(View):
    """Clips of person tracks, for recurrent models."""

    unread = _UNREAD_OF_CLIPS
    ignored = _IGNORED_OF_CLIPS

    def complete(self, cfg: CfgNode) -> None:
        """Hold joints and protocols against the datasets' metadata.

        Raises:
            ValueError: frames or images are named in place of a video dataset, or a dataset does
                not go with the model's joints or with a protocol. KeyError: an unknown protocol.
        """
        for name in [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]:
            metadata = MetadataCatalog.get(name)
            if metadata.get("evaluator_type") == "coco":
                raise ValueError(
                    f"{cfg.MODEL.META_ARCHITECTURE} takes clips, and {name!r} is Detectron2's view "
                    f"of images: {NO_TRACKS}"
                )
            video_dataset = metadata.get("video_dataset")
            if video_dataset is not None:
                raise ValueError(
                    f"{cfg.MODEL.META_ARCHITECTURE} takes clips: name {video_dataset!r} instead of "
                    f"{name!r}"
                )
        kind: Any = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
        if cfg.MODEL.POSE.ALIGN_STATE and not kind.has_memory:
            raise ValueError(
                f"MODEL.POSE.ALIGN_STATE: {cfg.MODEL.META_ARCHITECTURE} has no state to move"
            )
        require_widths(cfg)
        write_out_clip_values(cfg)
        train = [name for name in cfg.DATASETS.TRAIN if is_video_pose(name)]
        if train:
            joints_from_config(cfg, train)
        elif (cfg.TEST.FLIP or cfg.TEST.FLIP_STILLS) and not cfg.MODEL.POSE.FLIP_MAP:
            # Whether that is meant only a training set can tell.
            logger.warning(
                "MODEL.POSE.FLIP_MAP is empty: no joint of %s changes sides in the mirrored look "
                "of TEST.FLIP or TEST.FLIP_STILLS", list(cfg.MODEL.POSE.JOINTS),
            )  # fmt: skip
        for name in filter(is_video_pose, cfg.DATASETS.TEST):
            check_scoring(cfg, name)

    def build_train_loader(self, cfg: CfgNode, start_iter: int) -> Batches:
        return build_pose_train_loader(cfg, start_iter)

    def build_test_loader(self, cfg: CfgNode, dataset_name: str) -> Batches:
        return build_pose_test_loader(cfg, dataset_name)

    def tested(self, cfg: CfgNode, model: nn.Module, *, changes: bool = False) -> nn.Module:
        return build_tested(cfg, model, changes=changes)


def write_out_clip_values(cfg: CfgNode) -> None:
    """Give every key that is empty for "the default" the value that it stands for, in place.

    A run's config.yaml then holds the run, whatever later versions take for a default. Protocols
    are written out where all test datasets are scored by the same ones.

    Raises:
        KeyError: unknown INPUT.MAPPER. ValueError: unknown INPUT.SCALE_MODE.
    """
    inp, heatmap = cfg.INPUT, cfg.MODEL.POSE.HEATMAP
    if inp.MAPPER not in POSE_MAPPER_REGISTRY:
        known = sorted(key for key, _ in POSE_MAPPER_REGISTRY)
        raise KeyError(f"INPUT.MAPPER is {inp.MAPPER!r}: registered are {known}")
    defaults = POSE_MAPPER_REGISTRY.get(inp.MAPPER).defaults
    inp.REGION = inp.REGION or defaults.region
    inp.REGION_PADDING = inp.REGION_PADDING or defaults.padding
    inp.REGION_PER = inp.REGION_PER or defaults.per
    inp.SCALE_MODE = inp.SCALE_MODE or defaults.scale_mode
    if inp.SCALE_MODE not in defaults.rotation:
        raise ValueError(
            f"INPUT.SCALE_MODE {inp.SCALE_MODE!r}: choose from {sorted(defaults.rotation)}"
        )
    inp.AUG.SCALE_RANGE = tuple(inp.AUG.SCALE_RANGE) or defaults.scale_range[inp.SCALE_MODE]
    if inp.AUG.ROTATION < 0:
        inp.AUG.ROTATION = defaults.rotation[inp.SCALE_MODE]
    for key in ("ENCODE_OFFSET", "DECODE_OFFSET"):
        if heatmap[key] < 0:
            heatmap[key] = (heatmap.STRIDE - 1) / 2
    protocols = [
        tuple(MetadataCatalog.get(name).pck_protocols)
        for name in filter(is_video_pose, cfg.DATASETS.TEST)
    ]
    if not cfg.TEST.PCK.PROTOCOLS and len(set(protocols)) == 1:
        cfg.TEST.PCK.PROTOCOLS = protocols[0]


def check_scoring(cfg: CfgNode, dataset_name: str) -> None:
    """Hold the model's joints and the protocols against a test dataset, which is read where a
    protocol needs more than its skeleton. Raises as `ClipsView`, and as the loader of the dataset.
    """
    metadata = MetadataCatalog.get(dataset_name)
    names = list(metadata.keypoint_names)
    try:
        PredictedPose(cfg.MODEL.POSE.JOINTS, names, metadata.derived_joints)
    except ValueError as error:
        raise ValueError(f"MODEL.POSE.JOINTS and dataset {dataset_name!r}: {error}") from error
    for protocol in cfg.TEST.PCK.PROTOCOLS or metadata.pck_protocols:
        PCKAccumulator(
            protocol,
            names,
            metadata.joint_groups,
            metadata.pck_min_visibility,
            metadata.head_segment,
        )
        if get_protocol(protocol).head_sizes:
            require_head_sizes(dataset_name, [protocol], DatasetCatalog.get(dataset_name))


@VIEWS.add("frames")
class FramesView(View):
    """Single frames, for stock Detectron2 models."""

    unread = {**_UNREAD_OF_FRAMES, **_UNREAD_WITHOUT_MEMORY}

    def needs_joints(self, cfg: CfgNode) -> bool:
        return bool(cfg.MODEL.KEYPOINT_ON)

    def dataset_name(self, dataset: str) -> str:
        """The frames of a video dataset; an image dataset itself."""
        name = dataset + FRAMES_SUFFIX
        return name if name in DatasetCatalog.list() else dataset

    def complete(self, cfg: CfgNode) -> None:
        """Set what follows from the model's joints: their number, OKS widths, mirror pairs.

        Raises:
            ValueError: a video dataset is named in place of its frames, or mirror pairs or OKS
                widths cannot be had.
        """
        for name in filter(is_video_pose, [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]):
            raise ValueError(
                f"{cfg.MODEL.META_ARCHITECTURE} takes whole frames: name {name + FRAMES_SUFFIX!r} "
                f"instead of {name!r}"
            )
        self._check_memory(cfg)
        if cfg.MODEL.KEYPOINT_ON:
            complete_joints(cfg)

    def _check_memory(self, cfg: CfgNode) -> None:
        """Raise ValueError where the view gives what the model does not take."""
        if default_view(cfg) == "frame_clips":
            raise ValueError(
                f"INPUT.VIEW is {cfg.INPUT.VIEW!r}: {cfg.MODEL.META_ARCHITECTURE} takes "
                '"frame_clips", which it has where the key is empty'
            )

    def build_train_loader(self, cfg: CfgNode, start_iter: int) -> Batches:
        return build_frames_train_loader(cfg, start_iter)

    def build_test_loader(self, cfg: CfgNode, dataset_name: str) -> Batches:
        return build_frames_test_loader(cfg, dataset_name)

    def prepare(self, model: nn.Module) -> None:
        prepare_regions(model)

    def tested(self, cfg: CfgNode, model: nn.Module, *, changes: bool = False) -> nn.Module:
        tested = FrameModel(cfg, model)
        if not changes:
            accelerate(cfg, model)
        return tested


@VIEWS.add("frame_clips")
class FrameClipsView(FramesView):
    """Clips of whole frames in training, videos frame by frame in testing: for detectors that
    remember people."""

    unread = _UNREAD_OF_FRAMES
    ignored = {"VIS_PERIOD": _NO_PICTURES}

    def complete(self, cfg: CfgNode) -> None:
        """As `FramesView`'s. Raises ValueError also where keys have no meaning for clips."""
        if cfg.TEST.AUG.ENABLED:
            raise ValueError("TEST.AUG.ENABLED: test scales and flips would mix people's memories")
        if cfg.INPUT.FRAMES.MOSAIC_PROB > 0:
            raise ValueError("INPUT.FRAMES.MOSAIC_PROB: a clip's frames are not composed of others")
        if cfg.INPUT.FRAMES.CROWDS == "ignore":
            raise ValueError(
                "INPUT.FRAMES.CROWDS 'ignore': a region that is nobody has no memory; take 'drop'"
            )
        super().complete(cfg)

    def _check_memory(self, cfg: CfgNode) -> None:
        if default_view(cfg) != "frame_clips":
            raise ValueError(
                f'INPUT.VIEW is "frame_clips": {cfg.MODEL.META_ARCHITECTURE} remembers nobody; '
                'leave the key empty, or name MODEL.META_ARCHITECTURE "RecurrentKeypointRCNN"'
            )

    def build_train_loader(self, cfg: CfgNode, start_iter: int) -> Batches:
        return build_frame_clips_train_loader(cfg, start_iter)

    def build_test_loader(self, cfg: CfgNode, dataset_name: str) -> Batches:
        return build_frame_clips_test_loader(cfg, dataset_name)


def complete_joints(cfg: CfgNode) -> None:
    """`FramesView.complete` of a model with joints."""
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    joints = list(cfg.MODEL.POSE.JOINTS)
    head = cfg.MODEL.ROI_KEYPOINT_HEAD
    default = get_cfg().MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    if head.NUM_KEYPOINTS not in (default, len(joints)):
        logger.warning(
            "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS %d is ignored: it is %d, the number of "
            "MODEL.POSE.JOINTS", head.NUM_KEYPOINTS, len(joints),
        )  # fmt: skip
    head.NUM_KEYPOINTS = len(joints)
    if not cfg.TEST.KEYPOINT_OKS_SIGMAS:
        cfg.TEST.KEYPOINT_OKS_SIGMAS = oks_sigmas(joints, names)
    require_widths(cfg)
    if cfg.INPUT.RANDOM_FLIP == "horizontal" or (cfg.TEST.AUG.ENABLED and cfg.TEST.AUG.FLIP):
        pairs = [(left, right) for left, right in cfg.MODEL.POSE.FLIP_MAP]
        require_mirror_pairs(joints, pairs, *known_mirror_pairs(names))


def require_widths(cfg: CfgNode) -> None:
    """Raise ValueError unless TEST.KEYPOINT_OKS_SIGMAS is empty or has one for each joint."""
    sigmas, joints = list(cfg.TEST.KEYPOINT_OKS_SIGMAS), list(cfg.MODEL.POSE.JOINTS)
    if sigmas and len(sigmas) != len(joints):
        raise ValueError(
            f"TEST.KEYPOINT_OKS_SIGMAS has {len(sigmas)} values for {len(joints)} joints {joints}; "
            "leave it empty to take them from the datasets"
        )


def oks_sigmas(joints: Sequence[str], dataset_names: Sequence[str]) -> list[float]:
    """Width of each joint: of the first dataset that has one for it, else that of its name."""
    found: dict[str, float] = {}
    for name in dataset_names:
        metadata = MetadataCatalog.get(name)
        pairs = zip(metadata.get("keypoint_names", []), metadata.get("keypoint_oks_sigmas", []))
        for joint, sigma in pairs:
            found.setdefault(joint, float(sigma))
    defaults = dict(zip(joints, infer_sigmas(joints)))
    return [found.get(joint, defaults[joint]) for joint in joints]


class FrameModel(nn.Module):
    """A stock model as it is tested: in TEST.PRECISION, with TEST.AUG where that is enabled."""

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        super().__init__()
        self.model = KeypointRCNNWithTTA(cfg, model) if cfg.TEST.AUG.ENABLED else model
        self._precision = cfg.TEST.PRECISION
        self._device = torch.device(cfg.MODEL.DEVICE)
        prepare_regions(model)
        self.train(model.training)

    def forward(self, batch: list[MappedFrame]) -> list[FramePrediction]:
        """As the model's: one ``{"instances": Instances}`` an image."""
        with naming_divergence(), inference_autocast(self._precision, self._device):
            return self.model(batch)
