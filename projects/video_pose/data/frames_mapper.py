"""From a frame dict to what stock Detectron2 models take: Detectron2's mapper, and beyond it

* frames inside a video file are decoded, with exact frame numbers;
* keypoints are carried to the model's joints by name; joints that a dataset lacks are v = 0;
* mirror pairs are the model's, so that datasets of different skeletons share one;
* masks are read by reference. A person without a mask keeps box and keypoints, with
  ``gt_has_mask`` False and an all-zero mask (see ``INPUT.FRAMES.UNMASKED``);
* a person without keypoints has joints of v = 0, which carry no loss;
* regions that are neither people nor background reach the model with ``INPUT.FRAMES.CROWDS``
  "ignore", as instances of class `IGNORED`: crowds, people of whom less than `LEAST_VISIBLE` is in
  the picture and who cover less than `LARGE` of it, and the whole picture where the dataset's
  metadata say ``boxes_complete`` False.

Dicts of image datasets (COCO, `register_coco_instances`) go to Detectron2's mapper as they are, but
for their keypoints where the model has other joints, and where persons lack what others have.

"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper, MetadataCatalog
from detectron2.data import detection_utils as d2
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from pycocotools import mask as coco_mask

from video_pose.data.datasets.jhmdb import read_masks
from video_pose.data.frame_reader import FrameReader
from video_pose.data.records import (
    Annotation,
    FrameRecord,
    FrameSource,
    MappedFrame,
    MaskReference,
)
from video_pose.skeleton import JointMap, flip_permutation, match_joints
from video_pose.video_io.pictures import is_plain, read_picture

Rle = dict[str, Any]
UNMASKED = ("error", "keep")
CROWDS = ("drop", "ignore")
# The class of a region that is neither people nor background (modeling/rcnn_parts.py).
IGNORED = -1
# A person of whom a smaller share of the box remains in the picture is no label,
LEAST_VISIBLE = 0.25
# unless this share of the picture is theirs: a face close to the camera is little of a body.
LARGE = 0.15


class MaskReader:
    """COCO run-length masks by reference; the last clips' masks are kept (some 10 kB each).

    A frame beyond the end of its mask file, and one whose mask is empty, has no mask.

    Args:
        keep: number of clips to keep.
    """

    def __init__(self, keep: int = 2048) -> None:
        self._keep = keep
        self._clips: OrderedDict[tuple[str, str], list[Rle | None]] = OrderedDict()

    def read(self, reference: MaskReference) -> Rle | None:
        """The mask of one frame as compressed RLE (``counts`` bytes), a fresh dict.

        Args:
            reference: ``{"mat_file": path, "field": name, "index": frame}``.

        Raises:
            FileNotFoundError, ValueError: the file or its field is missing or of another shape.
        """
        key = reference["mat_file"], reference["field"]
        if key not in self._clips:
            self._clips[key] = [encode_mask(m) for m in read_masks(reference)]
            while len(self._clips) > self._keep:
                self._clips.popitem(last=False)
        self._clips.move_to_end(key)
        clip = self._clips[key]
        rle = clip[reference["index"]] if reference["index"] < len(clip) else None
        return None if rle is None else dict(rle)


def encode_mask(mask: np.ndarray) -> Rle | None:
    """RLE of a bool mask (h, w); None of an empty one."""
    if not mask.any():
        return None
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


class FrameMapper(DatasetMapper):
    """See the module. Dicts carry ``dataset_name``, the key of ``joint_maps``.

    Output as Detectron2's: ``image`` uint8 (C, H, W), in training ``instances``; ``image_id``,
    ``video_id`` and ``tracks`` go through.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        reader: FrameReader,
        joint_maps: Mapping[str, JointMap],
        unmasked: str = "error",
        crowds: str = "drop",
        **stock: Any,
    ) -> None:
        """
        Args:
            reader: of frames.
            joint_maps: by dataset, to the model's joints; a dataset without one keeps its own.
            unmasked: "error" or "keep", what becomes of a person without a mask.
            crowds: "drop" or "ignore", what becomes of regions that carry no loss.
            stock: arguments of Detectron2's mapper.
        """
        if unmasked not in UNMASKED:
            raise ValueError(f"INPUT.FRAMES.UNMASKED {unmasked!r}: choose from {UNMASKED}")
        if crowds not in CROWDS:
            raise ValueError(f"INPUT.FRAMES.CROWDS {crowds!r}: choose from {CROWDS}")
        super().__init__(is_train, **stock)
        self._reader = reader
        self._joint_maps = dict(joint_maps)
        self._unmasked = unmasked
        self._ignore = crowds == "ignore"
        self._masks = MaskReader()

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        # Detectron2's would want one skeleton for all datasets, to take the mirror pairs from.
        stock = cfg.clone()
        stock.defrost()
        stock.MODEL.KEYPOINT_ON = False
        kwargs = super().from_config(stock, is_train)
        kwargs["use_keypoint"] = cfg.MODEL.KEYPOINT_ON
        kwargs["reader"] = FrameReader(cfg.INPUT.FRAME_CACHE_BYTES, cfg.INPUT.FORMAT)
        kwargs["unmasked"] = cfg.INPUT.FRAMES.UNMASKED
        kwargs["crowds"] = cfg.INPUT.FRAMES.CROWDS
        if cfg.INPUT.AUG.COLOR < 0:
            raise ValueError(f"INPUT.AUG.COLOR is {cfg.INPUT.AUG.COLOR}: expected 0 or more")
        if is_train and cfg.INPUT.AUG.COLOR > 0:
            kwargs["augmentations"] += color_changes(cfg.INPUT.AUG.COLOR, cfg.INPUT.FORMAT)
        kwargs["joint_maps"] = {}
        if cfg.MODEL.KEYPOINT_ON:
            joints = list(cfg.MODEL.POSE.JOINTS)
            pairs = [tuple(pair) for pair in cfg.MODEL.POSE.FLIP_MAP]
            kwargs["keypoint_hflip_indices"] = np.array(flip_permutation(joints, pairs))
            if is_train:
                kwargs["joint_maps"] = joint_maps(list(cfg.DATASETS.TRAIN), joints)
        return kwargs

    def __call__(self, dataset_dict: FrameRecord) -> MappedFrame:
        """Map one frame.

        Raises:
            FileNotFoundError, ValueError: the frame or its mask cannot be read, or a person has no
                mask and ``unmasked`` is "error".
        """
        record = cast(MappedFrame, copy.copy(dataset_dict))
        complete = True
        if "annotations" in record:
            joint_map = self._joint_maps.get(record.get("dataset_name", ""))
            record["annotations"] = [
                self._to_model_joints(annotation, joint_map) for annotation in record["annotations"]
            ]
            complete = all("segmentation" in item for item in record["annotations"])
        plain = complete or not self.use_instance_mask
        stock = not self.is_train or (plain and not self._ignore)
        if "video_id" not in record and stock and is_plain(record["file_name"]):
            return super().__call__(record)
        aug_input = T.AugInput(self._read(record))
        transforms = self.augmentations(aug_input)
        image = aug_input.image
        record["image"] = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
        annotations = record.pop("annotations", None)
        if self.is_train and annotations is not None:
            record["instances"] = self._instances(record, annotations, transforms, image.shape[:2])
        return record

    def _read(self, record: FrameRecord) -> np.ndarray:
        if "video_id" not in record:
            told = (record["height"], record["width"]) if "height" in record else None
            image = read_picture(record["file_name"], self.image_format, told)
            d2.check_image_size(record, image)
            return image
        source: FrameSource = {
            "video_id": record["video_id"],
            "height": record["height"],
            "width": record["width"],
        }
        if "frame_number" in record:
            source["video_file"] = record.get("video_file", record["file_name"])
            source["frame_numbers"] = [record["frame_number"]]
        else:
            source["file_names"] = [record["file_name"]]
        return self._reader.read(source, [0])[0]

    def _instances(
        self,
        record: FrameRecord,
        annotations: list[Annotation],
        transforms: T.TransformList,
        image_shape: tuple[int, int],
    ) -> Any:
        """Annotations of one frame, transformed, as Detectron2's `Instances`."""
        mapped = []
        annotations = self._with_ignored(record, annotations, transforms, image_shape)
        for annotation in annotations:
            reference = annotation.pop("segmentation_ref", None)
            if not self.use_instance_mask:
                annotation.pop("segmentation", None)  # ignored regions have none
            elif reference is not None:
                mask = self._masks.read(reference)
                if mask is not None:
                    annotation["segmentation"] = mask
            if not self.use_keypoint:
                annotation.pop("keypoints", None)
            mapped.append(
                d2.transform_instance_annotations(
                    annotation,
                    transforms,
                    image_shape,
                    keypoint_hflip_indices=self.keypoint_hflip_indices,
                )
            )
        has_mask = torch.tensor(["segmentation" in item for item in mapped], dtype=torch.bool)
        if self.use_instance_mask:
            is_person = [item["category_id"] != IGNORED for item in mapped]
            self._check_masks(record, has_mask[torch.tensor(is_person, dtype=torch.bool)])
            for item in mapped:
                # A copy: what run lengths decode to is read-only, which torch warns of.
                mask = item.get("segmentation", np.zeros(image_shape, np.uint8))
                item["segmentation"] = mask if isinstance(mask, list) else np.array(mask)
        instances = d2.annotations_to_instances(
            mapped, image_shape, mask_format=self.instance_mask_format
        )
        if mapped and all("track_number" in item for item in mapped):
            instances.gt_tracks = torch.tensor([item["track_number"] for item in mapped])
        keep = instances.gt_boxes.nonempty(threshold=1e-5)
        if self.use_instance_mask and mapped:
            instances.gt_has_mask = has_mask
            if self.recompute_boxes and has_mask.any():
                boxes = instances.gt_masks.get_bounding_boxes().tensor
                instances.gt_boxes.tensor[has_mask] = boxes[has_mask]
            keep &= instances.gt_masks.nonempty() | ~has_mask
        return instances[keep]

    def _with_ignored(
        self,
        record: FrameRecord,
        annotations: list[Annotation],
        transforms: T.TransformList,
        image_shape: tuple[int, int],
    ) -> list[Annotation]:
        """Annotations without crowds, or with all ignored regions as such; see the module."""
        if not self._ignore:
            return [item for item in annotations if not item.get("iscrowd")]
        out = []
        for item in annotations:
            share, covered = visible_shares(item, transforms, image_shape)
            if item.get("iscrowd") or not is_label(share, covered):
                item = self._ignored_region(item["bbox"], item["bbox_mode"])
            if share > 0:
                out.append(item)
        metadata = MetadataCatalog.get(record.get("dataset_name", ""))
        if not metadata.get("boxes_complete", True):
            whole = [0.0, 0.0, float(record["width"]), float(record["height"])]
            out.append(self._ignored_region(whole, BoxMode.XYXY_ABS))
        return out

    def _ignored_region(self, box: Sequence[float], mode: BoxMode) -> Annotation:
        """An annotation of class `IGNORED`, without a mask, its joints unlabelled."""
        region: Annotation = {"bbox": list(box), "bbox_mode": mode, "category_id": IGNORED}
        if self.use_keypoint:
            region["keypoints"] = [0.0] * (3 * len(self.keypoint_hflip_indices))
        return region

    def _check_masks(self, record: FrameRecord, has_mask: torch.Tensor) -> None:
        if self.instance_mask_format != "bitmask":
            raise ValueError(
                f"INPUT.MASK_FORMAT is {self.instance_mask_format!r}: video frames have masks as "
                "run lengths, and persons without a mask have an empty one, which need 'bitmask'"
            )
        if self._unmasked == "error" and not has_mask.all():
            place = record.get("video_file", record["file_name"])
            if "video_id" in record:
                place = f"frame {record['frame_index']} of video {record['video_id']!r} ({place})"
            raise ValueError(
                f"{place} has a person without a mask: set INPUT.FRAMES.UNMASKED "
                "to 'keep' and MODEL.ROI_MASK_HEAD.NAME to 'PartlyLabelledMaskHead', whose loss "
                "leaves such persons out, or MODEL.MASK_ON to False"
            )

    def _to_model_joints(self, annotation: Annotation, joint_map: JointMap | None) -> Annotation:
        """A copy of an annotation, with its keypoints in the model's joints."""
        annotation = copy.copy(annotation)
        points = annotation.get("keypoints")
        if self.use_keypoint and (points is None or len(points) == 0):
            annotation["keypoints"] = [0.0] * (3 * len(self.keypoint_hflip_indices))
        elif joint_map is not None and not joint_map.is_identity and points is not None:
            keypoints = np.asarray(points, np.float64).reshape(-1, 3)
            annotation["keypoints"] = joint_map.apply(keypoints).reshape(-1).tolist()
        return annotation


def visible_shares(
    annotation: Annotation, transforms: T.TransformList, image_shape: tuple[int, int]
) -> tuple[float, float]:
    """Of an annotation's box inside the transformed image: its share of the box and of the image,
    0-1, by area."""
    box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
    (whole,) = transforms.apply_box(np.array([box], np.float64))
    height, width = image_shape
    inside = np.clip(whole, 0, [width, height, width, height])
    area = (whole[2] - whole[0]) * (whole[3] - whole[1])
    seen = (inside[2] - inside[0]) * (inside[3] - inside[1])
    return float(seen / max(area, 1e-6)), float(seen / (height * width))


def is_label(share: Any, covered: Any) -> Any:
    """Whether a person is a label of whose box ``share`` is in a picture, of which it covers
    ``covered``; of numbers or of tensors."""
    return (share >= LEAST_VISIBLE) | (covered >= LARGE)


class SaturationBGR(T.RandomSaturation):
    """Detectron2's random saturation, whose grey takes the channels as RGB, for BGR images."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        return super().get_transform(image[..., ::-1])


def color_changes(amount: float, image_format: str) -> list[T.Augmentation]:
    """Random brightness, contrast and saturation, each by a factor of 1 - amount to 1 + amount.

    Args:
        image_format: INPUT.FORMAT, "BGR" or "RGB".
    """
    saturation = SaturationBGR if image_format == "BGR" else T.RandomSaturation
    kinds = (T.RandomBrightness, T.RandomContrast, saturation)
    return [kind(max(1 - amount, 0), 1 + amount) for kind in kinds]


def joint_maps(dataset_names: list[str], joints: list[str]) -> dict[str, JointMap]:
    """The way from each dataset's joints to the model's; datasets without joint names have none.

    Raises:
        ValueError: a dataset has not one of the model's joints.
    """
    maps = {}
    for name in dataset_names:
        metadata = MetadataCatalog.get(name)
        names = metadata.get("keypoint_names")
        if not names:
            continue
        try:
            maps[name] = match_joints(names, joints, metadata.get("derived_joints"), partial=True)
        except ValueError as error:
            raise ValueError(f"MODEL.POSE.JOINTS and dataset {name!r}: {error}") from error
    return maps
