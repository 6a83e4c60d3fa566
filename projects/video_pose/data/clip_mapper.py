"""Track dict -> tensors of one clip: crops, joints in crop pixels and the way back to the image.

The mappers are registered by name (``INPUT.MAPPER``); each has defaults for keys of ``cfg.INPUT``
that are left empty.

Shape letters: T frames of a clip, K joints of the model, S rows (test scales, then mirrored ones),
N frames of the track, H W size of the crop.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from fvcore.common.registry import Registry

from video_pose.data.clips import Chunk, sample_clip
from video_pose.data.cropping import (
    PersonCropper,
    RegionRule,
    apply_affine,
    fill_boxes,
    half_body_boxes,
    invert_affine,
    is_valid_box,
    jitter_boxes,
    union_box,
)
from video_pose.data.frame_reader import FrameReader
from video_pose.data.records import ClipRecord, ClipRequest, Track, known_mirror_pairs
from video_pose.data.transforms import (
    ClipAugmentation,
    ClipDraw,
    cover_transform,
    picture_transforms,
)
from video_pose.skeleton import (
    JointMap,
    canonical_names,
    flip_permutation,
    match_joints,
    mirror_pairs,
    require_mirror_pairs,
)

_LOWER = ("hip", "knee", "ankle")


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
        margin=inp.REGION_MARGIN,
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
        occlusion_fill=aug.OCCLUSION_FILL,
        box_jitter=aug.BOX_JITTER,
        box_jitter_frame=aug.BOX_JITTER_FRAME,
        half_body_prob=aug.HALF_BODY_PROB,
        blur_prob=aug.BLUR_PROB,
        blur_sigma=tuple(aug.BLUR_SIGMA),
        low_res_prob=aug.LOW_RES_PROB,
        low_res_range=tuple(aug.LOW_RES_RANGE),
    )


def joints_from_config(
    cfg: CfgNode, dataset_names: list[str]
) -> tuple[dict[str, JointMap], list[int]]:
    """The map from each dataset's joints to the model's, and the order of mirrored joints.

    Empty ``MODEL.POSE.JOINTS`` takes the joints of the first dataset, empty ``FLIP_MAP`` the pairs
    of all and those that names tell. With ``MODEL.POSE.PARTIAL_JOINTS`` a dataset may lack joints,
    as long as another one has them.

    Raises:
        ValueError: no dataset; a joint of the model cannot be had from one of them (both lists are
            named) or, with PARTIAL_JOINTS, from none; FLIP_MAP has an unknown name; or mirroring is
            on and the mirror image of a joint is unknown.
    """
    if not dataset_names:
        raise ValueError("DATASETS.TRAIN is empty: name at least one dataset")
    metadata = {name: MetadataCatalog.get(name) for name in dataset_names}
    joints = list(cfg.MODEL.POSE.JOINTS) or list(metadata[dataset_names[0]].keypoint_names)
    partial = cfg.MODEL.POSE.PARTIAL_JOINTS
    maps: dict[str, JointMap] = {}
    for name, meta in metadata.items():
        try:
            maps[name] = match_joints(
                meta.keypoint_names, joints, meta.get("derived_joints"), partial=partial
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"MODEL.POSE.JOINTS and dataset {name!r}: {error.args[0]}") from error
    lacking = [row for row in range(len(joints)) if all(row in m.absent for m in maps.values())]
    if lacking:
        raise ValueError(
            f"MODEL.POSE.JOINTS has {[joints[row] for row in lacking]}, which none of the datasets "
            f"{dataset_names} has"
        )
    known, declared = known_mirror_pairs(dataset_names)
    pairs = mirror_pairs(joints, cfg.MODEL.POSE.FLIP_MAP, known)
    if cfg.INPUT.AUG.FLIP_PROB or cfg.TEST.FLIP or cfg.TEST.FLIP_STILLS:
        require_mirror_pairs(joints, pairs, known, declared)
    return maps, flip_permutation(joints, pairs)


def joint_table(maps: Mapping[str, JointMap]) -> str:
    """A table of the model's joints (rows) and the datasets that have them (columns)."""
    joints = next(iter(maps.values())).target_names
    width = max(len(joint) for joint in joints)
    lines = [" " * width + "  " + "  ".join(maps)]
    for row, joint in enumerate(joints):
        marks = [
            ("-" if row in joint_map.absent else "x").center(len(name))
            for name, joint_map in maps.items()
        ]
        lines.append("  ".join([joint.ljust(width), *marks]))
    return "\n".join(lines)


def absent_joints(maps: Mapping[str, JointMap]) -> dict[str, list[int]]:
    """Rows of the model's joints that a labelled person without them does not show, by dataset.

    Only datasets whose metadata have ``unlabelled_is_absent``: those labelled by hand and in full.
    """
    return {
        name: [row for row in range(len(m.target_names)) if row not in m.absent]
        for name, m in maps.items()
        if MetadataCatalog.get(name).get("unlabelled_is_absent")
    }


def body_halves(joints: Sequence[str]) -> dict[str, list[int]]:
    """Rows of the joints of the "upper" body (down to the wrists) and of the "lower" one."""
    lower = [row for row, joint in enumerate(canonical_names(joints)) if _part(joint) in _LOWER]
    return {"upper": [row for row in range(len(joints)) if row not in lower], "lower": lower}


def _part(joint: str) -> str:
    return joint.removeprefix("left_").removeprefix("right_")


POSE_MAPPER_REGISTRY = Registry("POSE_MAPPER")
POSE_MAPPER_REGISTRY.__doc__ = """
Clip mappers, chosen by ``cfg.INPUT.MAPPER``. Called as ``Mapper(cfg, is_train, dataset_names)``;
the object turns one track dict into one clip.
"""


def _test_draws(scales: tuple[float, ...], mirrored: bool) -> list[ClipDraw]:
    draws = [ClipDraw(scale=float(scale)) for scale in scales]
    return draws + [replace(draw, flip=True) for draw in draws] * mirrored


@POSE_MAPPER_REGISTRY.register()
class PoseClipMapper:
    """Map a track dict to a clip.

    Steps in training: draw a clip (at least one labelled frame in it) and one augmentation for all
    its frames; read the frames; missing boxes take the nearest valid one of the track; one affine
    map per frame moves picture and joints; mirroring swaps left and right by name; colours are the
    same in all frames, as is the covered rectangle, in the frames that it spans. In testing: the
    frames of the dict's ``chunk`` (the whole track where there is none), each at every test scale,
    and again mirrored with ``TEST.FLIP``; ``TEST.SCALES_STILLS`` and ``TEST.FLIP_STILLS`` for a
    track of one frame.

    Output keys:

    - ``image`` uint8 (T, 3, H, W), in ``INPUT.FORMAT``;
    - ``crop_to_image`` float32 (T, 2, 3), crop px to image px;
    - ``center`` float32 (T, 2), the centre of the frame's box in crop px;
    - ``is_padding`` bool (T,);
    - ``frame_indices`` (positions in the track) and ``image_ids``, int64 (T,);
    - ``video_id``, ``track_id``, ``height``, ``width``, and ``dataset_name`` if the input has it;
    - training: ``keypoints`` float32 (T, K, 3) in crop px, in the model's joint order. v as in the
      catalog; joints outside the crop keep their coordinates; unlabelled ones (v = 0) are zeros,
      as are absent ones (v = -1, see `absent_joints`);
    - testing: ``is_first`` and ``is_last`` bool, of the run that the state is carried over;
    - testing with several scales or mirroring: ``image``, ``crop_to_image`` and ``center`` get a
      leading axis S (all scales, then all scales mirrored), and ``flipped`` bool (S,) tells the
      mirrored rows. Their ``crop_to_image`` contains the mirroring; left and right joints are still
      to be swapped.

    The input is never changed. A missing or damaged frame raises with its path.

    Defaults: the box times 1.25 about each frame's own box; scale .75-1.25, rotation 30. With
    SCALE_MODE "absolute": scale .7-1.3, rotation 40 (the pre-model's of LSTM Pose Machines).
    """

    defaults: ClassVar[MapperDefaults] = MapperDefaults(
        scale_range={"region": (0.75, 1.25), "absolute": (0.7, 1.3)},
        rotation={"region": 30.0, "absolute": 40.0},
    )

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        rule: RegionRule,
        reader: FrameReader,
        image_format: str,
        pad_value: int = 128,
        augmentation: ClipAugmentation | None = None,
        clip_length: int = 1,
        clip_stride: int = 1,
        joint_maps: dict[str, JointMap] | None = None,
        absent: dict[str, list[int]] | None = None,
        halves: dict[str, list[int]] | None = None,
        flip_order: list[int] | None = None,
        test_scales: tuple[float, ...] = (1.0,),
        test_flip: bool = False,
        test_flip_stills: bool = False,
        test_scales_stills: tuple[float, ...] = (),
        test_jitter: float = 0.0,
    ) -> None:
        """
        Args:
            rule: which part of a frame a crop shows.
            augmentation: for training; None changes nothing.
            joint_maps: for training, from each dataset's joints to the model's, by dataset name.
            absent: for training, see `absent_joints`; such joints get v = -1.
            halves: for training, see `body_halves`.
            flip_order: for training, see :func:`video_pose.skeleton.flip_permutation`.
            test_jitter: for testing, see `frame_jitters`.
        """
        if is_train and not joint_maps:
            raise ValueError("a training mapper needs the joint maps of its datasets")
        scales_stills = tuple(test_scales_stills or test_scales)
        for key, scales in (("SCALES", test_scales), ("SCALES_STILLS", scales_stills)):
            if not scales or min(scales) <= 0:
                raise ValueError(f"TEST.{key} is {tuple(scales)}: expected factors above 0")
        if not 0 <= test_jitter < 0.5:
            raise ValueError(f"TEST.BOX_JITTER is {test_jitter}: expected 0 to below 0.5")
        if clip_length < 1 or clip_stride < 1:
            raise ValueError(
                f"INPUT.CLIP: LENGTH {clip_length} and STRIDE {clip_stride} must be 1 or more"
            )
        self.is_train = is_train
        self.rule = rule
        self.cropper = PersonCropper(rule, pad_value)
        self.reader = reader
        self.image_format = image_format
        self.pad_value = pad_value
        self.augmentation = augmentation or ClipAugmentation()
        self.clip_length = clip_length
        self.clip_stride = clip_stride
        self.joint_maps = joint_maps or {}
        self.absent = absent or {}
        self.halves = halves or {}
        self.flip_order = flip_order
        self.test_jitter = test_jitter
        self._test_draws = {
            "video": _test_draws(test_scales, test_flip),
            "still": _test_draws(scales_stills, test_flip or test_flip_stills),
        }

    @classmethod
    def from_config(
        cls, cfg: CfgNode, is_train: bool, dataset_names: str | list[str] | tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """``dataset_names``: the training datasets; empty takes ``cfg.DATASETS.TRAIN``."""
        inp = cfg.INPUT
        kwargs: dict[str, Any] = {
            "is_train": is_train,
            "rule": region_rule_from_config(cfg, cls.defaults),
            "reader": FrameReader(inp.FRAME_CACHE_BYTES, inp.FORMAT),
            "image_format": inp.FORMAT,
            "pad_value": inp.PAD_VALUE,
            "test_scales": tuple(cfg.TEST.SCALES),
            "test_flip": cfg.TEST.FLIP,
            "test_flip_stills": cfg.TEST.FLIP_STILLS,
            "test_scales_stills": tuple(cfg.TEST.SCALES_STILLS),
            "test_jitter": cfg.TEST.BOX_JITTER,
        }
        if is_train:
            names = [dataset_names] if isinstance(dataset_names, str) else list(dataset_names)
            maps, order = joints_from_config(cfg, names or list(cfg.DATASETS.TRAIN))
            kwargs["joint_maps"], kwargs["flip_order"] = maps, order
            kwargs["absent"] = absent_joints(maps)
            kwargs["halves"] = body_halves(next(iter(maps.values())).target_names)
            kwargs["augmentation"] = augmentation_from_config(cfg, cls.defaults)
            kwargs["clip_length"], kwargs["clip_stride"] = inp.CLIP.LENGTH, inp.CLIP.STRIDE
        return kwargs

    def __call__(self, dataset_dict: ClipRequest) -> ClipRecord:
        """
        Args:
            dataset_dict: a catalog dict; may hold ``dataset_name`` (needed where several datasets
                are mixed), ``clip_seed`` int (training; absent: numpy's global random state) and
                ``chunk``, a :class:`video_pose.data.clips.Chunk` (testing).
        """
        if len(dataset_dict["keypoints"]) == 0:
            raise ValueError(f"video {dataset_dict['video_id']!r} has no frames")
        return self._train_clip(dataset_dict) if self.is_train else self._test_chunk(dataset_dict)

    def test_draws(self, is_still: bool) -> list[ClipDraw]:
        """The test rows of a track; ``is_still``: of one frame, a photo's."""
        return self._test_draws["still" if is_still else "video"]

    def usable_frames(self, dataset_dict: Track) -> np.ndarray:
        """bool (N,): frames with at least one label of the model's joints."""
        keypoints = self._joint_map(dataset_dict).apply(dataset_dict["keypoints"])
        return np.asarray(dataset_dict["labelled"]) & (keypoints[..., 2] > 0).any(axis=1)

    def _train_clip(self, track: ClipRequest) -> ClipRecord:
        rng = _clip_rng(track)
        clip = sample_clip(
            len(track["keypoints"]),
            self.clip_length,
            self.clip_stride,
            rng,
            self.usable_frames(track),
        )
        draw = self.augmentation.draw(rng, self.rule.crop_size)
        kept = clip.frames[~clip.is_padding]
        keypoints = self._joint_map(track).apply(track["keypoints"][clip.frames])
        keypoints = np.array(keypoints, dtype=np.float64)
        crops, (maps,) = self._crops(track, clip.frames, kept, [draw], joints=keypoints)
        absent = self._absent(track, keypoints)
        for frame, matrix in zip(keypoints, maps, strict=True):
            frame[:, :2] = apply_affine(matrix, frame[:, :2])
        keypoints[keypoints[..., 2] <= 0] = 0
        keypoints[absent, 2] = -1
        if draw.flip and self.flip_order is not None:
            keypoints = keypoints[:, self.flip_order]
        out = _carried(track, clip.frames, clip.is_padding)
        out.update(_only_row(crops))
        out["keypoints"] = torch.from_numpy(keypoints.astype(np.float32))
        return out

    def _absent(self, track: Track, keypoints: np.ndarray) -> np.ndarray:
        """bool (T, K): joints of labelled people that are known not to be seen."""
        absent = np.zeros(keypoints.shape[:2], dtype=bool)
        rows = self.absent.get(track.get("dataset_name", ""), [])
        absent[:, rows] = keypoints[:, rows, 2] <= 0
        return absent & (keypoints[..., 2] > 0).any(axis=1, keepdims=True)

    def _test_chunk(self, track: ClipRequest) -> ClipRecord:
        total = len(track["keypoints"])
        chunk: Chunk = track.get("chunk") or Chunk(0, total, 0, total)
        frames = np.arange(chunk.start, chunk.stop)
        run = np.arange(chunk.run_start, chunk.run_stop)
        draws = self.test_draws(is_still=total == 1)
        crops, _ = self._crops(track, frames, run, draws)
        out = _carried(track, frames, np.zeros(len(frames), dtype=bool))
        if len(draws) == 1:
            crops = _only_row(crops)
        else:
            out["flipped"] = torch.tensor([draw.flip for draw in draws])
        return {**out, **crops, "is_first": chunk.is_first, "is_last": chunk.is_last}

    def _crops(
        self,
        track: ClipRequest,
        frames: np.ndarray,
        run: np.ndarray,
        draws: list[ClipDraw],
        joints: np.ndarray | None = None,
    ) -> tuple[ClipRecord, np.ndarray]:
        """Crop ``frames`` once per draw.

        Args:
            run: the frames whose boxes' union REGION_PER "clip" shows.
            joints: in training, those of the frames, (T, K, 3) in image px; there is one draw.

        Returns:
            ``image``, ``crop_to_image`` and ``center`` with the leading axes (draws, T), and the
            maps from image to crop, float64 (draws, T, 2, 3).
        """
        height, width = int(track["height"]), int(track["width"])
        filled = fill_boxes(track["boxes"], height, width, track["keypoints"])
        valid = run[is_valid_box(np.asarray(track["boxes"])[run])]
        union = union_box(filled[valid if len(valid) else run])
        boxes = filled[frames]
        if joints is not None:
            (draw,) = draws
            if draw.half:
                boxes = half_body_boxes(boxes, joints, self.halves[draw.half])
                union = union_box(boxes)
            boxes = jitter_boxes(boxes, draw.jitters(len(boxes)))
            union = jitter_boxes(union[None], draw.jitter)
        elif self.test_jitter:
            boxes = jitter_boxes(boxes, frame_jitters(track, frames, self.test_jitter))
        train = joints is not None
        images = self.reader.read(track, frames.tolist())
        crops = self.cropper(images, boxes, union, [draw.placement for draw in draws], train)
        for row, draw in zip(crops.pictures, draws, strict=True):
            self._paint(row, draw)
        to_image = invert_affine(crops.image_to_crop)
        out: ClipRecord = {
            "image": torch.from_numpy(crops.pictures),
            "crop_to_image": torch.from_numpy(to_image.astype(np.float32)),
            "center": torch.from_numpy(crops.centers.astype(np.float32)),
        }
        return out, crops.image_to_crop

    def _paint(self, crops: np.ndarray, draw: ClipDraw) -> None:
        """What a draw changes in the pictures of a clip, uint8 (T, 3, H, W), in place."""
        shared = picture_transforms(draw, self.image_format)
        for t, planes in enumerate(crops):
            transforms = list(shared)
            if draw.covers(t, len(crops)):
                transforms.append(cover_transform(draw, self.pad_value))
            if transforms:
                crop = cv2.merge(list(planes))
                for transform in transforms:
                    crop = transform.apply_image(crop)
                cv2.split(crop, list(planes))

    def _joint_map(self, track: Track) -> JointMap:
        name = track.get("dataset_name")
        if name is None and len(self.joint_maps) == 1:
            return next(iter(self.joint_maps.values()))
        if name not in self.joint_maps:
            raise KeyError(f"no joint map for dataset {name!r}: known {sorted(self.joint_maps)}")
        return self.joint_maps[name]


def frame_jitters(track: Track, frames: np.ndarray, amount: float) -> np.ndarray:
    """Shifts of the edges of given frames' boxes, (T, 4), shares of the sides, up to ``amount``.

    They follow from video, track and frame alone, whatever chunk a frame is in.
    """
    name = zlib.crc32(f"{track['video_id']}\n{track['track_id']}".encode())
    draws = [np.random.default_rng([name, int(t)]).uniform(-amount, amount, 4) for t in frames]
    return np.stack(draws)


def _clip_rng(track: ClipRequest) -> np.random.Generator:
    seed = track.get("clip_seed")
    return np.random.default_rng(np.random.randint(2**31, size=4) if seed is None else seed)


def _carried(track: Track, frames: np.ndarray, is_padding: np.ndarray) -> ClipRecord:
    out: ClipRecord = {
        "video_id": track["video_id"],
        "track_id": track["track_id"],
        "height": track["height"],
        "width": track["width"],
        "is_padding": torch.from_numpy(is_padding),
        "frame_indices": torch.from_numpy(frames.astype(np.int64)),
        "image_ids": torch.from_numpy(np.asarray(track["image_ids"])[frames].astype(np.int64)),
    }
    if "dataset_name" in track:
        out["dataset_name"] = track["dataset_name"]
    return out


def _only_row(crops: ClipRecord) -> ClipRecord:
    """Crops of one draw without the axis of draws."""
    return {
        "image": crops["image"].squeeze(0),
        "crop_to_image": crops["crop_to_image"].squeeze(0),
        "center": crops["center"].squeeze(0),
    }


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
