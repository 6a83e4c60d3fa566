"""The registered clip mappers: one class, with each dataset's defaults for keys left empty."""

from __future__ import annotations

from detectron2.config import CfgNode

from .clip_mapper import POSE_MAPPER_REGISTRY, PoseClipMapper
from .mapper_config import MapperDefaults

__all__ = [
    "POSE_MAPPER_REGISTRY",
    "BBCPoseClipMapper",
    "JHMDBClipMapper",
    "PennActionClipMapper",
    "PoseClipMapper",
    "build_pose_mapper",
]


@POSE_MAPPER_REGISTRY.register()
class PennActionClipMapper(PoseClipMapper):
    """:class:`PoseClipMapper` for Penn Action.

    Defaults: the box times 1.25, per frame; scale .75-1.25, rotation 30. With SCALE_MODE "absolute"
    the recipe of LSTM Pose Machines: scale .8-1.4 of the image, rotation 40.
    """

    defaults = MapperDefaults(
        scale_range={"region": (0.75, 1.25), "absolute": (0.8, 1.4)},
        rotation={"region": 30.0, "absolute": 40.0},
    )


@POSE_MAPPER_REGISTRY.register()
class BBCPoseClipMapper(PoseClipMapper):
    """:class:`PoseClipMapper` for BBC Pose.

    Defaults: one region per clip (a signer stays in place; the box follows the hands), which is the
    dataset's box as it is, since that is the joints' extent times 1.25 already; scale .8-1.2,
    rotation 20, in "absolute" mode as well. For the fixed window of the UniPose release set
    REGION "frame" and WINDOW (-368, -368, 0, 0).
    """

    defaults = MapperDefaults(
        scale_range={"region": (0.8, 1.2), "absolute": (0.8, 1.2)},
        rotation={"region": 20.0, "absolute": 20.0},
        padding=1.0,
        per="clip",
    )


@POSE_MAPPER_REGISTRY.register()
class JHMDBClipMapper(PoseClipMapper):
    """:class:`PoseClipMapper` for JHMDB and sub-JHMDB.

    Defaults: the box times 1.25, per frame; scale .75-1.25, rotation 30. With SCALE_MODE "absolute"
    the recipe of LSTM Pose Machines: scale 1.2-1.8 of the image, rotation 40.
    """

    defaults = MapperDefaults(
        scale_range={"region": (0.75, 1.25), "absolute": (1.2, 1.8)},
        rotation={"region": 30.0, "absolute": 40.0},
    )


def build_pose_mapper(
    cfg: CfgNode, is_train: bool, dataset_names: str | list[str] | tuple[str, ...] = ()
) -> PoseClipMapper:
    """The mapper named by ``cfg.INPUT.MAPPER``.

    Raises:
        KeyError: no such mapper.
        ValueError: keys contradict each other, or the model's joints cannot be had from a dataset.
    """
    name = cfg.INPUT.MAPPER
    if name not in POSE_MAPPER_REGISTRY:
        known = sorted(key for key, _ in POSE_MAPPER_REGISTRY)
        raise KeyError(f"INPUT.MAPPER is {name!r}: registered are {known}")
    return POSE_MAPPER_REGISTRY.get(name)(cfg, is_train, dataset_names)
