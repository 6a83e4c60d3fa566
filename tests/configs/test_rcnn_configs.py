"""Every R-CNN configuration, shrunk: it loads, builds, trains a step and is evaluated."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset
from detectron2.utils.events import EventStorage

from video_pose.data.synthetic.dataset import SyntheticOptions, make_dataset
from video_pose.engine.defaults import complete_cfg, get_pose_cfg
from video_pose.engine.evaluation import build_evaluators
from video_pose.engine.trainer import PoseTrainer
from video_pose.engine.views import view_of

CONFIGS = Path(__file__).parents[2] / "configs"
LEAVES = sorted(
    path
    for folder in ("Mask-RCNN", "Keypoint-RCNN")
    for path in (CONFIGS / folder).glob("*.yaml")
    if not path.name.startswith("Base")
)
COCO_JOINTS = ["nose", "left_eye", "right_eye"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video of each built-in format, and a COCO dataset of two images."""
    root = tmp_path_factory.mktemp("datasets")
    for kind, folder in (
        ("jhmdb", "jhmdb"),
        ("penn_action", "Penn_Action"),
        ("bbc_pose", "bbc_pose"),
    ):
        make_dataset(
            root / "synthetic" / folder,
            SyntheticOptions(
                format=kind, videos=1, test_videos=1, frames=(3, 4), size=(96, 72), seed=1,
                occluders="none", frames_as="png", people=1,
            ),
            workers=1,
        )  # fmt: skip
    write_coco(root / "coco")
    return root


def write_coco(root: Path) -> None:
    root.mkdir()
    images, annotations = [], []
    for i in range(2):
        cv2.imwrite(str(root / f"{i}.jpg"), np.full((72, 96, 3), 60 * i, np.uint8))
        images.append({"id": i, "file_name": f"{i}.jpg", "height": 72, "width": 96})
        annotations.append(
            {
                "id": i + 1, "image_id": i, "category_id": 1, "iscrowd": 0, "area": 1200,
                "bbox": [20, 10, 30, 40],
                "segmentation": [[20, 10, 50, 10, 50, 50, 20, 50]],
                "keypoints": [35, 15, 2, 38, 14, 2, 32, 14, 1], "num_keypoints": 3,
            }
        )  # fmt: skip
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": 1, "name": "person", "keypoints": COCO_JOINTS, "skeleton": []},
            {"id": 2, "name": "bicycle"},
        ],
    }
    (root / "coco.json").write_text(json.dumps(content))


@pytest.fixture
def stand_ins(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Names of the configurations' datasets -> small ones of the same kind."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(data))
    register_coco_instances(
        "tiny_coco",
        {"keypoint_names": COCO_JOINTS, "keypoint_flip_map": [("left_eye", "right_eye")]},
        str(data / "coco" / "coco.json"),
        str(data / "coco"),
    )
    names = {"lspet_train_frames": "synthetic_penn_action_train_frames"}
    for subset in ("train", "test"):
        for kind in ("jhmdb_split1", "sub_jhmdb_split1"):
            names[f"{kind}_{subset}_frames"] = f"synthetic_jhmdb_{subset}_frames"
        for kind in ("penn_action", "bbc_pose"):
            names[f"{kind}_{subset}_frames"] = f"synthetic_{kind}_{subset}_frames"
    # Photos that a user registers, whose only class is the person.
    names |= {
        "coco_people_train": "synthetic_penn_action_train_frames",
        "coco_people_val": "synthetic_penn_action_test_frames",
        "everyday_people_train": "synthetic_bbc_pose_train_frames",
        "gym_people_train": "synthetic_bbc_pose_test_frames",
    }
    for name in ("coco_2017_train", "coco_2017_val"):
        names[name] = names[f"keypoints_{name}"] = "tiny_coco"
    yield names
    DatasetCatalog.remove("tiny_coco")
    MetadataCatalog.remove("tiny_coco")


def shrunk(path: Path, names: dict[str, str], output_dir: Path):
    cfg = get_pose_cfg()
    cfg.merge_from_file(str(path))
    cfg.DATASETS.TRAIN = tuple(names[name] for name in cfg.DATASETS.TRAIN)
    cfg.DATASETS.TEST = tuple(names[name] for name in cfg.DATASETS.TEST[:1])
    factors = cfg.DATASETS.TRAIN_REPEAT_FACTOR
    cfg.DATASETS.TRAIN_REPEAT_FACTOR = [[names[name], factor] for name, factor in factors]
    net = cfg.MODEL
    net.WEIGHTS, net.DEVICE = "", "cpu"
    net.ROI_HEADS.NUM_CLASSES = min(net.ROI_HEADS.NUM_CLASSES, 2)
    net.RESNETS.STEM_OUT_CHANNELS = net.RESNETS.WIDTH_PER_GROUP = 8
    if net.RESNETS.DEPTH >= 50:  # Detectron2's R-18 has 64
        net.RESNETS.RES2_OUT_CHANNELS = 32
    # Frozen norms keep an untrained ResNet's values from being normalised at all.
    net.RESNETS.NORM, net.BACKBONE.FREEZE_AT = "BN", 0
    net.FPN.OUT_CHANNELS = 16
    net.ROI_BOX_HEAD.FC_DIM = net.ROI_MASK_HEAD.CONV_DIM = 16
    net.ROI_KEYPOINT_HEAD.CONV_DIMS = [16]
    net.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
    net.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    net.RPN.POST_NMS_TOPK_TRAIN = net.RPN.POST_NMS_TOPK_TEST = 10
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (64,), 64
    cfg.INPUT.FRAMES.MOSAIC_SIZE = (64, 96)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER = 2, 1
    cfg.TEST.DETECTIONS_PER_IMAGE = 3
    cfg.OUTPUT_DIR = str(output_dir)
    complete_cfg(cfg)
    cfg.freeze()
    return cfg


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_a_configuration_trains_and_is_evaluated(path, stand_ins, tmp_path) -> None:
    cfg = shrunk(path, stand_ins, tmp_path)
    trainer = PoseTrainer(cfg)
    if cfg.MODEL.MASK_ON:
        masks = 1 if "agnostic" in path.stem else cfg.MODEL.ROI_HEADS.NUM_CLASSES
        assert trainer.model.roi_heads.mask_head.predictor.out_channels == masks
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer._batches = iter(view_of(cfg).build_train_loader(cfg, 0))
    with EventStorage() as trainer.storage:
        trainer.iter = 0
        trainer.run_step()
        losses = {k: v[0] for k, v in trainer.storage.latest().items() if "loss" in k}
    wanted = {"loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc"}
    wanted |= {"loss_mask"} if cfg.MODEL.MASK_ON else set()
    wanted |= {"loss_keypoint"} if cfg.MODEL.KEYPOINT_ON else set()
    if "Cascade" in cfg.MODEL.ROI_HEADS.NAME:
        boxes = {"loss_cls", "loss_box_reg"}
        wanted = (wanted - boxes) | {f"{key}_stage{k}" for key in boxes for k in range(3)}
    if cfg.MODEL.RECURRENT_KEYPOINT.TRAIN != "all":
        wanted = {"total_loss"}  # its keypoint loss is the only one
    assert wanted <= set(losses) and all(np.isfinite(value) for value in losses.values())
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters()))

    name = cfg.DATASETS.TEST[0]
    view = view_of(cfg)
    loader = list(itertools.islice(view.build_test_loader(cfg, name), None))
    tested = view.tested(cfg, trainer.model)
    results = inference_on_dataset(tested, loader, DatasetEvaluators(build_evaluators(cfg, name)))
    tasks = {"bbox"} | ({"segm"} if cfg.MODEL.MASK_ON else set())
    if cfg.MODEL.MASK_ON and "penn" in name:
        tasks.remove("segm")
    if cfg.MODEL.KEYPOINT_ON:
        tasks.add("keypoints")
        protocol = {"tiny_coco": None, "synthetic_bbc_pose_test_frames": "pixels"}.get(name, "bbox")
        tasks |= {f"keypoints_pck_{protocol}"} if protocol else set()
    assert tasks <= set(results)


def differing_keys(left, right, prefix="") -> set[str]:
    return {
        key
        for name in left
        for key in (
            differing_keys(left[name], right[name], f"{prefix}{name}.")
            if isinstance(left[name], dict)
            else ({prefix + name} if left[name] != right[name] else set())
        )
    }


@pytest.mark.parametrize(
    ("left", "right", "key"),
    [
        (
            "Mask-RCNN/mask_rcnn_R50_C4_small_sub_jhmdb_split1",
            "Mask-RCNN/mask_rcnn_R50_C4_small_roipool_sub_jhmdb_split1",
            "MODEL.ROI_MASK_HEAD.POOLER_TYPE",
        ),
        (
            "Mask-RCNN/mask_rcnn_R50_C4_roialign_sub_jhmdb_split1",
            "Mask-RCNN/mask_rcnn_R50_C4_roipool_sub_jhmdb_split1",
            "MODEL.ROI_BOX_HEAD.POOLER_TYPE",
        ),
        (
            "Keypoint-RCNN/keypoint_rcnn_R50_FPN_small_sub_jhmdb_split1",
            "Keypoint-RCNN/keypoint_rcnn_R50_FPN_small_roipool_sub_jhmdb_split1",
            "MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE",
        ),
    ],
)
def test_the_poolings_compared_differ_in_one_key(left, right, key) -> None:
    configurations = []
    for name in (left, right):
        configurations.append(get_pose_cfg())
        configurations[-1].merge_from_file(str(CONFIGS / f"{name}.yaml"))
    assert differing_keys(*configurations) == {key}
