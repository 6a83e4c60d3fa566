"""The two views of people: frames of videos as images, and people of images as tracks; and the
loaders of frames, for stock Detectron2 models.

**Every video dataset ``X`` is also ``X_frames``, stock Detectron2 dicts.** One dict per frame that
has labels, the tracks of a frame merged:

    file_name      str: an image file; for a frame inside a video, what says so and names the
                   mapper, so that Detectron2's own, which opens ``file_name``, fails with it
    video_file     str, and frame_number int, counted from 0: of a frame inside a video
    image_id       int, the catalog's; height, width
    video_id       str; frame_index int: position in the first of its tracks
    tracks         [(track_id, position in that track)] of the persons labelled here
    annotations    per person bbox (XYXY_ABS), category_id 0, keypoints [x, y, v, ...] in continuous
                   pixels, track_id, ``area`` (px^2) where the labels tell it, and
                   ``segmentation_ref`` where the dataset has masks: what
                   `frames_mapper.MaskReader` reads; the mapper turns it into ``segmentation``

Rules:

* A catalog box runs through the centres of the extreme pixels; here it bounds their areas, as
  Detectron2's masks and boxes do: half a pixel more on each side (metadata ``box_margin``).
* Boxes are clipped to the image. A box without area takes the extent of the frame's joints x 1.25;
  a person for whom that is empty, too, has no annotation. The frame stays, as it is tested on.
* A joint outside the image is v = 0 (the catalog may say 1): no detector can point there.
* People with a box and no joints are annotations whose joints are all v = 0; crowd regions have
  ``iscrowd`` 1. Neither is among ``tracks``.
* A frame of a video without a labelled person, box or crowd is not in the view: who is there is
  not known. A still on which nobody is annotated (``nobody``) is, as in COCO's files.

**Every image dataset ``X`` (COCO, `register_coco_instances`) is also ``X_tracks``**, so that what
is scored by track, such as PCK, takes images, too: the catalog's dicts, tracks of one frame, one
per annotation with a labelled joint that is no crowd region; ``video_id`` is the image's id,
``track_id`` counts the annotations of the image.

N frames of a track, K joints.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetCatalog,
    DatasetFromList,
    MetadataCatalog,
    build_batch_data_loader,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.common import ToIterableDataset
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN, RetinaNet
from detectron2.structures import BoxMode
from torch.utils.data import DataLoader, Dataset

from video_pose.data.build import repeat_factors, share_of_batch, training_sampler
from video_pose.data.datasets.tracks import joint_boxes, make_keypoints, make_track
from video_pose.data.frames_mapper import FrameMapper
from video_pose.data.mosaic import Mosaic
from video_pose.data.records import (
    Annotation,
    FrameRecord,
    MappedFrame,
    MosaicFrame,
    Track,
    dataset_metadata,
)
from video_pose.skeleton import JointSet

FRAMES_SUFFIX = "_frames"
TRACKS_SUFFIX = "_tracks"
# Facts of the video dataset that do not hold for its frames.
_NOT_INHERITED = ("name", "json_file", "image_root", "evaluator_type")

BOX_MARGIN = 0.5  # px, from the pixel indices that a box bounds to the pixels' edges
# Ends ``file_name`` of a frame that is no file.
INSIDE_VIDEO = " (a frame inside a video: map it with video_pose.data.frames_mapper.FrameMapper)"

# Keys of Detectron2's dicts that a test needs, and a training does without.
TESTED_KEYS = ("file_name", "image_id", "height", "width")

logger = logging.getLogger(__name__)


def register_frames(name: str) -> str:
    """Register the frames of the registered video dataset ``name``; nothing is read.

    Returns:
        The new name, ``<name>_frames``. Its metadata are those of ``name`` and ``video_dataset``.

    Raises:
        ValueError: the new name is taken by another dataset.
    """
    frames_name = name + FRAMES_SUFFIX
    free_view_name(frames_name, "video_dataset", name)
    facts = {
        k: v for k, v in MetadataCatalog.get(name).as_dict().items() if k not in _NOT_INHERITED
    }
    DatasetCatalog.register(frames_name, lambda: load_frames(name))
    MetadataCatalog.get(frames_name).set(
        **facts, video_dataset=name, evaluator_type="video_pose_frames"
    )
    return frames_name


def free_view_name(view_name: str, key: str, name: str) -> None:
    """Forget an earlier view of ``name`` that is registered as ``view_name``.

    It may be one of a dataset of this name that was removed since.

    Args:
        key: of the view's metadata, under which it names its dataset.

    Raises:
        ValueError: ``view_name`` is taken by another dataset.
    """
    if view_name in DatasetCatalog.list():
        if MetadataCatalog.get(view_name).get(key) != name:
            raise ValueError(f"dataset {view_name!r} is already registered")
        DatasetCatalog.remove(view_name)
        MetadataCatalog.remove(view_name)


def load_frames(video_dataset: str) -> list[FrameRecord]:
    """Frame dicts of a registered video dataset, in the order of its tracks."""
    return tracks_to_frames(DatasetCatalog.get(video_dataset), box_margin_of(video_dataset))


def box_margin_of(video_dataset: str) -> float:
    """What a box of the frames has more on each side than the catalog's, px."""
    return MetadataCatalog.get(video_dataset).get("box_margin", BOX_MARGIN)


def tracks_to_frames(tracks: Iterable[Track], box_margin: float = BOX_MARGIN) -> list[FrameRecord]:
    """Frame dicts of catalog tracks; frames of equal ``image_id`` are one.

    Args:
        tracks: catalog dicts. box_margin: px added to each side of a box.

    Raises:
        ValueError: two tracks of one frame disagree on its video.
    """
    frames: dict[int, FrameRecord] = {}
    for track in tracks:
        keypoints = keypoints_in_image(track["keypoints"], track["height"], track["width"])
        boxes = frame_boxes(track, keypoints, box_margin)
        shown = track["labelled"] | track.get("boxed", track["labelled"])
        shown = shown | track.get("nobody", False)
        for i in np.flatnonzero(shown).tolist():
            image_id = int(track["image_ids"][i])
            frame = frames.setdefault(image_id, _frame(track, i, image_id))
            if frame["video_id"] != str(track["video_id"]):
                raise ValueError(
                    f"image_id {image_id} belongs to the videos {frame['video_id']!r} and "
                    f"{track['video_id']!r}: ids must be unique in a dataset"
                )
            if track["labelled"][i]:
                frame["tracks"].append((str(track["track_id"]), i))
            if np.isfinite(boxes[i]).all():
                frame["annotations"].append(_annotation(track, i, boxes[i], keypoints[i]))
    return list(frames.values())


def thin_frames(frames: Iterable[FrameRecord], stride: int) -> list[FrameRecord]:
    """Every ``stride``-th frame of each video, its first one included; stills all stay.

    Raises:
        ValueError: ``stride`` is below 1.
    """
    if stride < 1:
        raise ValueError(f"INPUT.FRAMES.STRIDE is {stride}: must be at least 1")
    seen: dict[str, int] = {}
    kept = []
    for frame in frames:
        video = frame.get("video_id")
        if video is not None:
            seen[video] = seen.get(video, -1) + 1
        if video is None or seen[video] % stride == 0:
            kept.append(frame)
    return kept


def keypoints_in_image(keypoints: np.ndarray, height: int, width: int) -> np.ndarray:
    """A copy of (N, K, 3) with the joints outside the image set to (0, 0, 0)."""
    x, y = keypoints[..., 0], keypoints[..., 1]
    inside = (x >= 0) & (x <= width) & (y >= 0) & (y <= height) & (keypoints[..., 2] > 0)
    return np.where(inside[..., None], keypoints, 0).astype(np.float32)


def frame_boxes(track: Track, keypoints: np.ndarray, margin: float) -> np.ndarray:
    """Boxes (N, 4) within the image by the module's rules; NaN where a person has none.

    Args:
        track: catalog dict. keypoints: (N, K, 3) within the image. margin: px on each side.
    """
    size = np.array([track["width"], track["height"]] * 2, np.float32)

    def clip(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        boxes = np.clip(boxes, 0, size)
        return boxes, (boxes[:, 2:] > boxes[:, :2]).all(axis=1)

    stored = np.asarray(track["boxes"], np.float32)
    real = (stored[:, 2:] > stored[:, :2]).all(axis=1)
    boxes, usable = clip(stored + np.array([-margin, -margin, margin, margin], np.float32))
    extents, extent_usable = clip(joint_boxes(keypoints).astype(np.float32))
    usable &= real
    boxes = np.where(usable[:, None], boxes, extents)
    return np.where((usable | extent_usable)[:, None], boxes, np.nan)


def _frame(track: Track, index: int, image_id: int) -> FrameRecord:
    names = track.get("file_names")
    frame: FrameRecord = {
        "file_name": "" if names is None else str(names[index]),
        "image_id": image_id,
        "height": int(track["height"]),
        "width": int(track["width"]),
        "video_id": str(track["video_id"]),
        "frame_index": index,
        "tracks": [],
        "annotations": [],
    }
    if names is None:
        number = int(track["frame_numbers"][index])
        frame["video_file"], frame["frame_number"] = str(track["video_file"]), number
        frame["file_name"] = f"{track['video_file']}#{number}{INSIDE_VIDEO}"
    return frame


def _annotation(track: Track, index: int, box: np.ndarray, keypoints: np.ndarray) -> Annotation:
    annotation: Annotation = {
        "bbox": box.tolist(),
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": 0,
        "iscrowd": int(track.get("crowd", False)),
        "keypoints": keypoints.reshape(-1).tolist(),
        "track_id": str(track["track_id"]),
    }
    areas = track.get("areas")
    if areas is not None and areas[index] > 0:
        annotation["area"] = float(areas[index])
    if track.get("masks") is not None:
        annotation["segmentation_ref"] = {**track["masks"], "index": index}
    return annotation


def register_tracks(name: str, joints: Sequence[str]) -> str:
    """Register the persons of the image dataset ``name``, or do so anew; nothing is read.

    Args:
        joints: names of its joints, in the order of the annotations.

    Returns:
        The new name, ``<name>_tracks``. Mirror pairs and widths are those of ``name``'s metadata,
        other facts follow from the joints' names.

    Raises:
        ValueError: the new name is taken by another dataset.
    """
    tracks_name = name + TRACKS_SUFFIX
    free_view_name(tracks_name, "image_dataset", name)
    given = MetadataCatalog.get(name)
    known: dict[str, Any] = {"sigmas": list(given.get("keypoint_oks_sigmas", []))}
    if "keypoint_flip_map" in given.as_dict():
        known["flip_map"] = [(left, right) for left, right in given.keypoint_flip_map]
    skeleton = JointSet(list(joints), **known)
    facts = dataset_metadata("coco_video", skeleton, str(given.get("image_root", "")))
    DatasetCatalog.register(
        tracks_name, lambda: images_to_tracks(DatasetCatalog.get(name), len(joints), name)
    )
    MetadataCatalog.get(tracks_name).set(**facts, image_dataset=name, box_margin=0.0)
    return tracks_name


def images_to_tracks(images: Iterable[FrameRecord], joints: int, name: str) -> list[Track]:
    """Tracks of Detectron2's image dicts.

    Args:
        images: dicts, whose keypoints are continuous pixels. joints: K. name: for messages.

    Returns:
        Tracks of one frame. Where an ``image_id`` is text, which Detectron2 allows, their
        ``image_ids`` are the images' places.

    Raises:
        ValueError: an annotation has another number of joints, or a dict lacks a key.
    """
    tracks = []
    images = list(images)
    require_keys(name, images, TESTED_KEYS)
    by_place = any(isinstance(image["image_id"], str) for image in images)
    for place, image in enumerate(images):
        image_id = place if by_place else int(image["image_id"])
        for number, annotation in enumerate(image.get("annotations", [])):
            points = np.asarray(annotation.get("keypoints", []), np.float64)
            if annotation.get("iscrowd") or not points.any():
                continue
            if points.size != 3 * joints:
                raise ValueError(
                    f"{name}: a person in {image['file_name']} has {points.size} numbers as "
                    f"keypoints: expected {joints} x (x, y, v)"
                )
            points = points.reshape(joints, 3)
            tracks.append(_track(image, image_id, number, annotation, points))
    return [track for track in tracks if track["labelled"].any()]


def _track(
    image: FrameRecord, image_id: int, number: int, annotation: Annotation, points: np.ndarray
) -> Track:
    box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
    return make_track(
        video_id=str(image["image_id"]),
        track_id=str(number),
        source={"file_names": [image["file_name"]]},
        size=(image["height"], image["width"]),
        keypoints=make_keypoints(points[None, :, :2], points[None, :, 2]),
        boxes=np.array([box]),
        image_ids=np.array([image_id]),
    )


class FrameDataset(Dataset):
    """Items (frame, position in the training stream) -> a mapped frame.

    Detectron2's augmentations draw from NumPy's global generator: it is seeded by run and position
    for each frame, so that a resumed run, and any number of workers, see the same images.
    """

    def __init__(
        self,
        frames: list[FrameRecord],
        mapper: FrameMapper,
        seed: int,
        mosaic: Mosaic | None = None,
    ) -> None:
        self._frames = DatasetFromList(frames)
        self._mapper = mapper
        self._seed = seed
        self._mosaic = mosaic

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, item: tuple[int, int]) -> MappedFrame | MosaicFrame:
        index, position = item
        sequence = np.random.SeedSequence([self._seed, position])
        with numpy_seed(sequence.generate_state(1).item()):
            others = None if self._mosaic is None else self._mosaic.draw(len(self))
            if self._mosaic is None or others is None:
                return self._mapper(self._frames[index])
            return self._mosaic([self._mapper(self._frames[i]) for i in (index, *others)])


@contextmanager
def numpy_seed(seed: int) -> Iterator[None]:
    """Start NumPy's global generator at ``seed``, and put it back afterwards."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def build_frames_train_loader(
    cfg: CfgNode, start_iter: int = 0, mapper: FrameMapper | None = None
) -> DataLoader:
    """An infinite loader of lists of mapped frames, ``SOLVER.IMS_PER_BATCH`` over all ranks.

    Args:
        start_iter: iterations done already; a resumed run goes on with the frames that would have
            come next (given ``SEED`` >= 0, the same batch size, and no aspect ratio grouping,
            which holds frames back).
        mapper: default: `FrameMapper`.

    Raises:
        ValueError: no dataset is named, the batch does not divide among the processes, or a key has
            no meaning here.
    """
    per_rank = share_of_batch(cfg, "frames")
    frames = get_training_frames(cfg)
    repeats = repeat_factors(cfg, frames)
    sampler = training_sampler(cfg, len(frames), start_iter, repeats)
    options = cfg.INPUT.FRAMES
    mosaic = None
    if options.MOSAIC_PROB:
        mosaic = Mosaic(options.MOSAIC_PROB, options.MOSAIC_SIZE, repeats)
    dataset = FrameDataset(frames, mapper or FrameMapper(cfg, is_train=True), sampler.seed, mosaic)
    grouping = cfg.DATALOADER.ASPECT_RATIO_GROUPING
    if grouping:
        logger.warning(
            "DATALOADER.ASPECT_RATIO_GROUPING True: frames that wait for a partner are lost when a "
            "run is interrupted, so that a resumed run ends with other weights than a whole one; "
            "False resumes exactly"
        )
    chunk = 1 if grouping else per_rank
    return build_batch_data_loader(
        ToIterableDataset(dataset, sampler, shard_chunk_size=chunk),
        None,
        cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=grouping,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


def build_frames_test_loader(
    cfg: CfgNode, dataset_name: str, mapper: FrameMapper | None = None
) -> DataLoader:
    """All frames of a dataset in order, one a batch, each on one rank."""
    frames = named_frames(dataset_name, filter_empty=False, min_keypoints=0)
    return build_detection_test_loader(
        dataset=frames,
        mapper=mapper or FrameMapper(cfg, is_train=False),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


def get_training_frames(cfg: CfgNode) -> list[FrameRecord]:
    """The frames of ``DATASETS.TRAIN``, thinned by ``INPUT.FRAMES.STRIDE``, with ``dataset_name``.

    Frames without a usable annotation are left out as Detectron2 does
    (``DATALOADER.FILTER_EMPTY_ANNOTATIONS``, ``ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE``).

    Raises:
        ValueError: no dataset is named, one has no usable frame, the datasets have different
            classes, or one that the model does not have, or pre-computed proposals are asked for.
    """
    names = list(cfg.DATASETS.TRAIN)
    if not names:
        raise ValueError("DATASETS.TRAIN is empty: name at least one dataset")
    if cfg.MODEL.LOAD_PROPOSALS:
        raise ValueError("MODEL.LOAD_PROPOSALS: pre-computed proposals are not supported here")
    keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0
    frames: list[FrameRecord] = []
    for name in names:
        found = named_frames(name, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS, keypoints)
        require_classes(cfg, name, found)
        kept = thin_frames(found, cfg.INPUT.FRAMES.STRIDE)
        logger.info("%s: %d of %d frames", name, len(kept), len(found))
        frames += kept
    require_same_classes(names)
    return frames


def require_same_classes(names: Sequence[str]) -> None:
    """Raise ValueError unless all datasets ``names`` name their classes, and the same ones."""
    classes = {name: MetadataCatalog.get(name).get("thing_classes") for name in names}
    for name, found in classes.items():
        if not found:
            raise ValueError(
                f"dataset {name!r} has no names of classes: "
                f'MetadataCatalog.get({name!r}).set(thing_classes=["person"]), for instance'
            )
        if list(found) != list(classes[names[0]]):
            raise ValueError(
                f"DATASETS.TRAIN: the thing_classes of {names[0]!r} are {classes[names[0]]}, those "
                f"of {name!r} are {found}: a model knows one list of classes"
            )


def require_classes(cfg: CfgNode, name: str, frames: Sequence[FrameRecord]) -> None:
    """Hold the classes of ``name``'s annotations against the number that the model tells apart.

    Detectron2 takes the class of just that number for background, and ends within a step at higher
    ones.

    Raises:
        ValueError: an annotation is of a class beyond them.
    """
    kind = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    if not isinstance(kind, type) or not issubclass(kind, GeneralizedRCNN | RetinaNet):
        return
    key = "RETINANET" if issubclass(kind, RetinaNet) else "ROI_HEADS"
    count = cfg.MODEL[key].NUM_CLASSES
    classes = MetadataCatalog.get(name).get("thing_classes", [])
    for frame in frames:
        for annotation in frame.get("annotations", ()):
            number = annotation.get("category_id", 0)
            if number >= count:
                label = repr(classes[number]) if number < len(classes) else "unnamed"
                raise ValueError(
                    f"dataset {name!r}: {frame['file_name']} has an annotation of class {number} "
                    f"({label}), counted from 0, and MODEL.{key}.NUM_CLASSES is {count}: set it to "
                    f"{max(len(classes), number + 1)}, or register the dataset without that class"
                )


def named_frames(name: str, filter_empty: bool, min_keypoints: int) -> list[FrameRecord]:
    """Detectron2's dicts of a dataset, each with ``dataset_name``.

    Raises:
        ValueError: the dataset is empty, nothing of it passes the filters, or a dict lacks a key.
    """
    try:
        frames: list[FrameRecord] = get_detection_dataset_dicts(
            name, filter_empty=filter_empty, min_keypoints=min_keypoints, check_consistency=False
        )
    except AssertionError as error:
        raise ValueError(
            f"dataset {name!r} has no frame to use, with DATALOADER.FILTER_EMPTY_ANNOTATIONS "
            f"{filter_empty} and MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE {min_keypoints}: "
            f"{error}"
        ) from error
    require_keys(name, frames, ("file_name",))
    return [{**frame, "dataset_name": name} for frame in frames]


# Of an annotation, as Detectron2 documents its dicts.
_ANNOTATION = ("bbox", "bbox_mode", "category_id")


def require_keys(name: str, frames: Sequence[Any], needed: Sequence[str]) -> None:
    """Raise ValueError where a dict of dataset ``name`` lacks one of the keys ``needed``, or one of
    its annotations lacks what every annotation has."""
    for place, frame in enumerate(frames):
        where = f"dataset {name!r}, dict {place} ({frame.get('file_name', 'no file_name')})"
        lacking = [key for key in needed if key not in frame]
        if lacking:
            raise ValueError(f"{where} lacks {lacking}; it has {sorted(frame)}")
        for number, annotation in enumerate(frame.get("annotations", ())):
            lacking = [key for key in _ANNOTATION if key not in annotation]
            if lacking:
                raise ValueError(
                    f"{where}: annotation {number} lacks {lacking}; it has {sorted(annotation)}"
                )


__all__ = ["build_frames_test_loader", "build_frames_train_loader", "get_training_frames"]
