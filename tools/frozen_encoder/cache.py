"""The maps of an encoder for every frame of a dataset, computed once and kept in a file.

A cached track is a clip of all its frames as a mapper makes it, with the encoder's maps (N, C, h,
w) float16 in the place of the images. N frames of a track, C channels, h, w cells.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from tqdm import tqdm

from video_pose.data.build import get_training_tracks
from video_pose.data.dataset_mapper import build_pose_mapper
from video_pose.data.transforms import ClipAugmentation
from video_pose.engine.checkpointer import load_for_evaluation
from video_pose.files import replacing_file
from video_pose.modeling.fast_path import fast_path
from video_pose.modeling.video_pose_net import VideoPoseNet

Clips = dict[tuple[str, str], dict[str, Any]]  # by (video_id, track_id)


def hash_of_weights(cfg: CfgNode) -> str:
    """SHA-256 of the file MODEL.WEIGHTS, in hexadecimal digits."""
    return hashlib.sha256(Path(cfg.MODEL.WEIGHTS).read_bytes()).hexdigest()


class MapCache:
    """Files of one encoder in a folder; what is there already is read, the rest is computed.

    Args:
        cfg: of the image model (UniPose), its weights in MODEL.WEIGHTS.
        folder: of the files. Their names carry a hash of all that their content follows from.
    """

    def __init__(self, cfg: CfgNode, folder: Path) -> None:
        self._cfg = cfg
        self._folder = folder
        self._model: VideoPoseNet | None = None
        self._weights = hash_of_weights(cfg)

    def train(self, dataset: str, view: int) -> Clips:
        """Training tracks, under one augmentation each: the ``view``-th draw; view 0 has none."""
        mapper = build_pose_mapper(self._cfg, True, [dataset])
        tracks = get_training_tracks([dataset], mapper)
        if view == 0:
            mapper.augmentation = ClipAugmentation()
        mapper.clip_stride = 1

        def clip(number: int) -> dict[str, Any]:
            mapper.clip_length = len(tracks[number]["keypoints"])
            sequence = np.random.SeedSequence([self._cfg.SEED, view, number])
            seed = int(sequence.generate_state(1, np.uint64)[0])
            return mapper({**tracks[number], "clip_seed": seed})

        return self._load(f"{dataset}_view{view}", len(tracks), clip)

    def test(self, dataset: str) -> Clips:
        """Whole tracks as they are tested."""
        mapper = build_pose_mapper(self._cfg, False)
        tracks = DatasetCatalog.get(dataset)
        return self._load(dataset, len(tracks), lambda number: mapper(tracks[number]))

    def _load(self, name: str, count: int, clip: Any) -> Clips:
        path = self._folder / f"{name}_{self._key()}.pt"
        if not path.is_file():
            clips = [self._encoded(clip(i)) for i in tqdm(range(count), desc=name, unit="track")]
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing_file(path) as file:
                torch.save(clips, file)
        stored = torch.load(path, weights_only=True, mmap=True)
        return {(one["video_id"], one["track_id"]): one for one in stored}

    def _key(self) -> str:
        cfg = self._cfg
        facts = [self._weights, cfg.SEED, cfg.MODEL.dump(), cfg.INPUT.dump(), cfg.TEST.dump()]
        root = os.environ.get("DETECTRON2_DATASETS", "")
        return hashlib.sha256("\n".join(map(str, [root, *facts])).encode()).hexdigest()[:10]

    @torch.no_grad()
    def _encoded(self, clip: dict[str, Any]) -> dict[str, Any]:
        model = self._encoder()
        with model.autocast():
            maps = model.encode_all(model.normalize(clip["image"]))
        return {**clip, "image": maps.half().contiguous()}

    def _encoder(self) -> VideoPoseNet:
        if self._model is None:
            model = build_model(self._cfg).eval()
            load_for_evaluation(model, self._cfg, resume=False)
            size = tuple(self._cfg.INPUT.CROP_SIZE)
            self._model = fast_path(model, precision="auto", crop_size=size)
        return self._model
