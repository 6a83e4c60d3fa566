"""What configurations of stock models take from the datasets, and a user's COCO data end to end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, Instances

from video_pose.data.frames import register_frames
from video_pose.engine.defaults import complete_cfg, get_pose_cfg
from video_pose.engine.evaluation import build_evaluator
from video_pose.engine.frames_view import mirror_pairs, oks_sigmas
from video_pose.engine.trainer import PoseTrainer
from video_pose.engine.views import default_view, view_of


@pytest.fixture
def register() -> Iterator:
    """register(name, joint names, **metadata): an empty dataset, removed after the test."""
    names: list[str] = []

    def add(name: str, joints: list[str], **metadata: object) -> str:
        DatasetCatalog.register(name, list)
        MetadataCatalog.get(name).set(keypoint_names=joints, **metadata)
        names.append(name)
        return name

    yield add
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def keypoint_cfg(*datasets: str, **keys: object):
    cfg = get_pose_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.KEYPOINT_ON = True
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = tuple(datasets), ()
    cfg.merge_from_list([item for pair in keys.items() for item in pair])
    return cfg


def test_joints_number_widths_and_mirror_pairs_follow_from_the_dataset() -> None:
    cfg = keypoint_cfg("jhmdb_split1_train_frames")
    complete_cfg(cfg)
    metadata = MetadataCatalog.get("jhmdb_split1_train")
    assert cfg.INPUT.VIEW == "frames"
    assert cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 15
    assert list(cfg.MODEL.POSE.JOINTS) == metadata.keypoint_names
    assert list(cfg.TEST.KEYPOINT_OKS_SIGMAS) == metadata.keypoint_oks_sigmas
    assert ["left_hip", "right_hip"] in cfg.MODEL.POSE.FLIP_MAP


def test_a_shared_joint_list_takes_each_width_from_whoever_has_it(register) -> None:
    register("fv_a", ["head", "left_eye"], keypoint_oks_sigmas=[0.5, 0.1])
    register("fv_b", ["tail", "head"], keypoint_oks_sigmas=[0.7, 0.9])
    assert oks_sigmas(["tail", "left_eye", "head"], ["fv_a", "fv_b"]) == [0.7, 0.1, 0.5]
    # COCO's own width of a wrist, from the name alone.
    assert oks_sigmas(["left_wrist"], []) == [0.062]


def test_mirror_pairs_come_from_metadata_and_names(register) -> None:
    register("fv_a", ["head", "lw", "rw"], keypoint_flip_map=[("lw", "rw")])
    joints = ["head", "lw", "rw", "left_hip", "right_hip"]
    assert mirror_pairs(joints, ["fv_a"]) == [("lw", "rw"), ("left_hip", "right_hip")]
    with pytest.raises(ValueError, match="left_hip"):
        mirror_pairs(["right_hip"], [])


def test_a_skeleton_without_mirror_pairs_is_refused_unless_nothing_is_mirrored(register) -> None:
    register("fv_a", ["lw", "rw"])
    with pytest.raises(ValueError, match="MODEL.POSE.FLIP_MAP, or keypoint_flip_map"):
        complete_cfg(keypoint_cfg("fv_a"))
    complete_cfg(keypoint_cfg("fv_a", **{"INPUT.RANDOM_FLIP": "none"}))
    cfg = keypoint_cfg("fv_a", **{"MODEL.POSE.FLIP_MAP": [["lw", "rw"]]})
    complete_cfg(cfg)
    assert cfg.MODEL.POSE.FLIP_MAP == [["lw", "rw"]]
    register("fv_b", ["nose"], keypoint_flip_map=[])  # it says that there are none
    complete_cfg(keypoint_cfg("fv_b"))


def test_views_want_their_own_datasets() -> None:
    with pytest.raises(ValueError, match="name 'jhmdb_split1_train_frames' instead of"):
        complete_cfg(keypoint_cfg("jhmdb_split1_train"))
    cfg = keypoint_cfg("jhmdb_split1_train_frames", **{"MODEL.META_ARCHITECTURE": "UniPose"})
    assert default_view(cfg) == "clips"
    with pytest.raises(ValueError, match="name 'jhmdb_split1_train' instead of"):
        complete_cfg(cfg)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"INPUT.VIEW": "videos"}, "INPUT.VIEW 'videos'"),
        ({"TEST.EVALUATORS": ("pck", "ap")}, r"TEST.EVALUATORS has \['ap'\]"),
        ({"TEST.KEYPOINT_OKS_SIGMAS": [0.1, 0.1]}, "has 2 values for 15 joints"),
    ],
)
def test_impossible_keys_are_refused(keys, message) -> None:
    with pytest.raises(ValueError, match=message):
        complete_cfg(keypoint_cfg("jhmdb_split1_train_frames", **keys))


def test_without_joints_there_is_a_detector_but_no_keypoints(register) -> None:
    register("fv_plain", [])
    with pytest.raises(ValueError, match="MODEL.POSE.JOINTS is empty"):
        complete_cfg(keypoint_cfg("fv_plain"))
    complete_cfg(keypoint_cfg("fv_plain", **{"MODEL.KEYPOINT_ON": False}))


JOINTS = ["nose", "left_eye", "right_eye"]


@pytest.fixture
def user_coco(tmp_path: Path) -> Iterator[str]:
    """Three images with one person each, as a user registers them; category ids start at 7."""
    images, annotations = [], []
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((64, 64, 3), 50 * i, np.uint8))
        images.append({"id": 5 + i, "file_name": f"{i}.png", "height": 64, "width": 64})
        annotations.append(
            {
                "id": i + 1, "image_id": 5 + i, "category_id": 7, "iscrowd": 0, "area": 800,
                "bbox": [10, 10, 20, 40], "keypoints": [20, 15, 2, 24, 14, 2, 16, 14, 2],
                "num_keypoints": 3,
            }
        )  # fmt: skip
    path = tmp_path / "user.json"
    categories = [{"id": 7, "name": "person", "keypoints": JOINTS, "skeleton": []}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    register_coco_instances("fv_user", {}, str(path), str(tmp_path))
    MetadataCatalog.get("fv_user").set(
        keypoint_names=JOINTS, keypoint_flip_map=[("left_eye", "right_eye")]
    )
    yield "fv_user"
    DatasetCatalog.remove("fv_user")
    MetadataCatalog.remove("fv_user")


def user_cfg(name: str, tmp_path: Path):
    cfg = keypoint_cfg(name)
    cfg.DATASETS.TEST = (name,)
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.BACKBONE.NAME = "build_short_resnet_fpn_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4"]
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 8
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 32
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [128]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 1, 16
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = [16]
    cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE = 1
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (64,), 64
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER = 2, 2
    cfg.SOLVER.BASE_LR = 0.001
    cfg.TEST.DETECTIONS_PER_IMAGE = 3
    cfg.OUTPUT_DIR = str(tmp_path / "output")
    return cfg


@pytest.mark.parametrize("augmented", [False, True])
def test_a_users_coco_dataset_trains_and_is_evaluated(user_coco, tmp_path, augmented) -> None:
    cfg = user_cfg(user_coco, tmp_path)
    if augmented:
        cfg.TEST.AUG.ENABLED, cfg.TEST.AUG.FLIP = True, True
        cfg.TEST.AUG.MIN_SIZES = (48, 64)
        cfg.TEST.PRECISION = "bfloat16"
        cfg.SOLVER.AMP.ENABLED = True
        cfg.MODEL.ROI_KEYPOINT_HEAD.NAME = "SubpixelKeypointHead"
    complete_cfg(cfg)
    Path(cfg.OUTPUT_DIR).mkdir()
    results = PoseTrainer(cfg).train()
    assert set(results) == {"bbox", "keypoints"}
    stored = Path(cfg.OUTPUT_DIR) / "inference" / user_coco / "results.json"
    assert set(json.loads(stored.read_text())) == {"bbox", "keypoints"}


def test_perfect_detections_of_a_users_images_score_100(user_coco, tmp_path) -> None:
    """Category ids, image ids and the joints' widths are the dataset's own."""
    cfg = user_cfg(user_coco, tmp_path)
    complete_cfg(cfg)
    inputs = [batch[0] for batch in view_of(cfg).build_test_loader(cfg, user_coco)]
    evaluator = build_evaluator(cfg, user_coco)
    evaluator.reset()
    keypoints = torch.tensor([[[20.5, 15.5, 1], [24.5, 14.5, 1], [16.5, 14.5, 1]]])
    for given in inputs:
        found = Instances(
            (64, 64),
            pred_boxes=Boxes(torch.tensor([[10.0, 10, 30, 50]])),
            scores=torch.ones(1),
            pred_classes=torch.zeros(1, dtype=torch.int64),
            pred_keypoints=keypoints.clone(),
        )
        evaluator.process([given], [{"instances": found}])
        assert torch.equal(found.pred_keypoints, keypoints)
    results = evaluator.evaluate()
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert results["keypoints"]["AP"] == pytest.approx(100)


def test_evaluators_that_are_not_named_are_not_built(tmp_path) -> None:
    cfg = keypoint_cfg("jhmdb_split1_train_frames")
    complete_cfg(cfg)
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.TEST.EVALUATORS = ()
    assert view_of(cfg).build_evaluators(cfg, "jhmdb_split1_train_frames") == []


def test_a_frames_view_of_a_users_videos(register) -> None:
    register("fv_video", ["nose"], keypoint_flip_map=[], keypoint_oks_sigmas=[0.026])
    name = register_frames("fv_video")
    cfg = keypoint_cfg(name)
    complete_cfg(cfg)
    assert cfg.TEST.KEYPOINT_OKS_SIGMAS == [0.026]
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
