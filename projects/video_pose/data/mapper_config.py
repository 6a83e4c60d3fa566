"""How the keys of ``cfg.INPUT`` become a clip mapper's parts, with the defaults of empty keys."""

from __future__ import annotations

from dataclasses import dataclass

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from .joints import JointMap, match_joints
from .regions import RegionRule
from .transforms import ClipAugmentation, flip_permutation


@dataclass(frozen=True)
class MapperDefaults:
    """What the keys marked (*) in config.py mean when they are empty.

    ``scale_range`` and ``rotation`` (degrees) go by the scale mode.
    """

    scale_range: dict[str, tuple[float, float]]
    rotation: dict[str, float]
    region: str = "box"
    padding: float = 1.25
    per: str = "frame"
    scale_mode: str = "region"


def region_rule_from_config(cfg: CfgNode, defaults: MapperDefaults) -> RegionRule:
    """Raises ValueError for unknown names and keys that contradict each other."""
    inp = cfg.INPUT
    return RegionRule(
        crop_size=tuple(inp.CROP_SIZE),
        region=inp.REGION or defaults.region,
        padding=inp.REGION_PADDING or defaults.padding,
        window=tuple(inp.WINDOW),
        stretch=inp.STRETCH,
        per=inp.REGION_PER or defaults.per,
        scale_mode=inp.SCALE_MODE or defaults.scale_mode,
    )


def augmentation_from_config(cfg: CfgNode, defaults: MapperDefaults) -> ClipAugmentation:
    """Raises ValueError for values out of range."""
    aug = cfg.INPUT.AUG
    mode = cfg.INPUT.SCALE_MODE or defaults.scale_mode
    return ClipAugmentation(
        scale_range=tuple(aug.SCALE_RANGE) or defaults.scale_range[mode],
        rotation=aug.ROTATION if aug.ROTATION >= 0 else defaults.rotation[mode],
        flip_prob=aug.FLIP_PROB,
        translation=aug.TRANSLATION,
        color=aug.COLOR,
        occlusion_prob=aug.OCCLUSION_PROB,
        occlusion_size=tuple(aug.OCCLUSION_SIZE),
        occlusion_span=tuple(aug.OCCLUSION_SPAN),
    )


def joints_from_config(
    cfg: CfgNode, dataset_names: list[str]
) -> tuple[dict[str, JointMap], list[int]]:
    """The map from each dataset's joints to the model's, and the order of mirrored joints.

    Empty ``MODEL.POSE.JOINTS`` takes the joints of the first dataset, empty ``FLIP_MAP`` the pairs
    of all.

    Raises:
        ValueError: no dataset, a joint of the model cannot be had from one of them (both lists are
            named), or mirroring is on and no joints are known to change sides.
    """
    if not dataset_names:
        raise ValueError("DATASETS.TRAIN is empty: name at least one dataset")
    metadata = {name: MetadataCatalog.get(name) for name in dataset_names}
    joints = list(cfg.MODEL.POSE.JOINTS) or list(metadata[dataset_names[0]].keypoint_names)
    maps: dict[str, JointMap] = {}
    given = [(left, right) for left, right in cfg.MODEL.POSE.FLIP_MAP]
    pairs = list(given)
    for name, meta in metadata.items():
        try:
            maps[name] = match_joints(meta.keypoint_names, joints, meta.get("derived_joints"))
        except KeyError as error:
            raise ValueError(f"MODEL.POSE.JOINTS and dataset {name!r}: {error.args[0]}") from error
        if not given:
            pairs += [(left, right) for left, right in meta.keypoint_flip_map]
    if not pairs and len(joints) > 1 and (cfg.INPUT.AUG.FLIP_PROB > 0 or cfg.TEST.FLIP):
        raise ValueError(
            f"mirroring is on, but no joints of {joints} are known to change sides: name them "
            "left_<joint> and right_<joint>, set MODEL.POSE.FLIP_MAP to their pairs, or set "
            "INPUT.AUG.FLIP_PROB 0"
        )
    return maps, flip_permutation(joints, pairs)
