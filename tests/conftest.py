"""Fixtures for tests of several packages."""

from __future__ import annotations

import importlib.util
import logging
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

# The project is imported in the fixtures: tests that need none of it start at once.
if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from torch import Tensor

    from video_pose.modeling.video_pose_net import VideoPoseNet

ROOT = Path(__file__).parents[1]
Layers = Sequence[tuple[str, Sequence[np.ndarray]]]


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field of protobuf's wire format."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def blob_bytes(array: np.ndarray, old_shape: bool, packed: bool) -> bytes:
    values = array.astype("<f4")
    if packed:
        data = field(5, values.tobytes())
    else:
        data = b"".join(varint(5 << 3 | 5) + struct.pack("<f", v) for v in values.ravel())
    if old_shape:  # num, channels, height, width as varints of fields 1 to 4, right-aligned
        dims = (1,) * (4 - array.ndim) + array.shape
        return b"".join(varint(n << 3) + varint(d) for n, d in enumerate(dims, start=1)) + data
    return field(7, field(1, b"".join(varint(d) for d in array.shape))) + data


@pytest.fixture
def caffe_bytes() -> Callable[..., bytes]:
    """Writes a NetParameter byte by byte, with fields that a reader of weights must skip."""

    def write(
        layers: Layers, *, v1: bool = False, old_shape: bool = False, packed: bool = True
    ) -> bytes:
        out = field(1, b"a net") + field(3, b"data")
        for name, arrays in layers:
            blobs = [blob_bytes(np.asarray(a), old_shape, packed) for a in arrays]
            if v1:  # bottom 2, name 4, type 5 (an enum), blobs 6
                body = field(2, b"data") + field(4, name.encode()) + varint(5 << 3) + varint(4)
                out += field(2, body + b"".join(field(6, b) for b in blobs))
            else:  # name 1, type 2, bottom 3, blobs 7
                body = field(1, name.encode()) + field(2, b"Convolution") + field(3, b"data")
                out += field(100, body + b"".join(field(7, b) for b in blobs))
        return out

    return write


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Graphs of the tests' models go to a folder of their own, which subprocesses share."""
    patch = pytest.MonkeyPatch()
    patch.setenv("VIDEO_POSE_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def torch_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """TEST.BACKEND "auto" is PyTorch within the tests' process: graphs take seconds to make."""
    if "video_pose.backends.pose" in sys.modules:
        monkeypatch.setattr("video_pose.backends.pose.AUTO_ON_CPU", ())


@pytest.fixture(autouse=True)
def loggers_stay_as_they_are() -> Iterator[None]:
    """A run sets levels and propagation; what later tests read of the log does not depend on it."""
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore", "video_pose")]
    before = [(logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (level, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate = propagate


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """Imports a program by its path from the repository's root, anew at each call."""

    def load(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
        assert spec is not None and spec.loader is not None, path
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def dataset_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root as $DETECTRON2_DATASETS with tiny synthetic videos, 3 to train and 2 to test, in each
    real format, under the synthetic and the real datasets' folders, and three stills of LSPET."""
    import cv2
    from scipy.io import savemat

    from video_pose.data.synthetic.dataset import SyntheticOptions, make_dataset

    root = tmp_path_factory.mktemp("datasets")
    (root / "synthetic").mkdir()
    for kind, folder in (
        ("jhmdb", "jhmdb"),
        ("penn_action", "Penn_Action"),
        ("bbc_pose", "bbc_pose"),
    ):
        options = SyntheticOptions(
            format=kind, videos=3, test_videos=2, frames=(5, 7), size=(96, 72), seed=1
        )
        make_dataset(root / "synthetic" / folder, options, workers=1)
        (root / folder).symlink_to(root / "synthetic" / folder, target_is_directory=True)
    (root / "synthetic" / "occluded").symlink_to(root / "jhmdb", target_is_directory=True)
    (root / "lspet" / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    joints = random.uniform(10, 60, (14, 3, 3))
    joints[:, 2] = 1
    savemat(root / "lspet" / "joints.mat", {"joints": joints})
    for n in (1, 2, 3):
        picture = random.integers(0, 255, (72, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(root / "lspet" / "images" / f"im{n:05d}.jpg"), picture)
    return root


@pytest.fixture
def datasets(dataset_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes `dataset_root` the root of the registered datasets for one test."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(dataset_root))
    return dataset_root


@pytest.fixture(scope="session")
def rolled() -> Callable[..., list[Tensor]]:
    """rolled(model, images (10, 3, H, W), centers (10, 2)): heatmaps of one person over five
    frames, joined by a second person at the third."""
    import torch

    from video_pose.modeling.states import append_rows

    @torch.no_grad()
    def roll(model: VideoPoseNet, images: Tensor, centers: Tensor) -> list[Tensor]:
        normalized = model.normalize(images)
        features = model.encode(normalized)
        maps = model.center_map(centers, tuple(images.shape[-2:]), training=False)
        state = model.begin(normalized[:1], features[:1])
        found = []
        for t in range(5):
            rows = [t] if t < 2 else [t, t + 5]
            if t == 2:
                state = append_rows([state, model.begin(normalized[7:8], features[7:8])])
            heatmaps, state = model.advance(features[rows], maps[rows], state)
            found.append(heatmaps)
        return found

    return roll


TINY_UNIPOSE: list[Any] = [
    *("MODEL.DEVICE", "cpu", "SEED", 1, "DATALOADER.NUM_WORKERS", 0),
    *("DATALOADER.ASPECT_RATIO_GROUPING", False),
    *("MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.BACKBONE.FREEZE_AT", 0),
    *("MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.STEM_OUT_CHANNELS", 8),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", 16, "MODEL.RESNETS.WIDTH_PER_GROUP", 4),
    *("MODEL.RESNETS.NORM", "BN", "MODEL.RESNETS.OUT_FEATURES", ["res2", "res4"]),
    *("MODEL.RESNETS.STRIDE_IN_1X1", False, "MODEL.UNIPOSE.HIGH_FEATURE", "res4"),
    *("MODEL.PIXEL_MEAN", [128.0] * 3, "MODEL.PIXEL_STD", [64.0] * 3),
    *("MODEL.POSE.HEATMAP.BACKGROUND", "first"),
    *("MODEL.UNIPOSE.WASP.CHANNELS", 8, "MODEL.UNIPOSE.WASP.DILATIONS", [2, 1]),
    *("MODEL.UNIPOSE.WASP.DROPOUT", 0.0, "MODEL.UNIPOSE.DECODER.DROPOUT", [0.0, 0.0]),
    *("MODEL.UNIPOSE.DECODER.CHANNELS", 8, "MODEL.UNIPOSE.DECODER.LOW_CHANNELS", 8),
    *("MODEL.UNIPOSE.LSTM.HEAD.CHANNELS", 8, "MODEL.UNIPOSE.LSTM.HEAD.KERNEL", 3),
    *("INPUT.MAPPER", "JHMDBClipMapper", "INPUT.CROP_SIZE", (64, 64)),
    *("INPUT.CLIP.LENGTH", 3, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 4),
    *("SOLVER.OPTIMIZER", "ADAM", "SOLVER.BASE_LR", 0.001, "SOLVER.WARMUP_ITERS", 0),
    *("DATASETS.TRAIN", ("synthetic_jhmdb_train",)),
    *("DATASETS.TEST", ("synthetic_jhmdb_test",), "TEST.EVALUATORS", ("pck",)),
]


@pytest.fixture
def tiny_cfg(tmp_path: Path) -> Callable[..., CfgNode]:
    """tiny_cfg("UniPoseLSTM", KEY, value, ...): a narrow model on 64x64 crops, complete, thawed."""
    from video_pose.engine.defaults import complete_cfg, get_pose_cfg

    def make(architecture: str, *options: Any) -> CfgNode:
        cfg = get_pose_cfg()
        cfg.merge_from_list(
            ["MODEL.META_ARCHITECTURE", architecture, "OUTPUT_DIR", str(tmp_path / "output")]
        )
        cfg.merge_from_list([*TINY_UNIPOSE, *options])
        complete_cfg(cfg)
        return cfg

    return make


TINY_RCNN: list[Any] = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "DATALOADER.NUM_WORKERS", 0),
    *("MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", 0),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.FPN.OUT_CHANNELS", 16),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 16, "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", [16]),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", 10, "MODEL.RPN.POST_NMS_TOPK_TEST", 10),
    *("MODEL.RECURRENT_KEYPOINT.MIN_SCORE", 0.0, "TEST.DETECTIONS_PER_IMAGE", 3),
    *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "INPUT.CLIP.LENGTH", 3),
    *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 4, "SOLVER.WARMUP_ITERS", 0),
    *("DATASETS.TRAIN", ("synthetic_jhmdb_train_frames",)),
    *("DATASETS.TEST", ("synthetic_jhmdb_test_frames",), "TEST.EVALUATORS", ("pck",)),
]


@pytest.fixture
def tiny_rcnn_cfg(tmp_path: Path) -> Callable[..., CfgNode]:
    """tiny_rcnn_cfg(KEY, value, ...): a narrow Keypoint R-CNN with a memory, complete, thawed."""
    from video_pose.engine.defaults import complete_cfg, get_pose_cfg, merge_config_file

    def make(*options: Any) -> CfgNode:
        cfg = get_pose_cfg()
        merge_config_file(
            cfg,
            str(
                ROOT / "configs/Keypoint-RCNN/"
                "recurrent_keypoint_rcnn_R18_FPN_small_sub_jhmdb_split1.yaml"
            ),
        )
        cfg.merge_from_list([*TINY_RCNN, "OUTPUT_DIR", str(tmp_path / "output"), *options])
        complete_cfg(cfg)
        return cfg

    return make
