"""A user's COCO data, registered with Detectron2's `register_coco_instances`, end to end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import DatasetEvaluators
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from video_pose.data.build import build_pose_test_loader
from video_pose.engine.checkpointer import load_model
from video_pose.engine.defaults import complete_cfg
from video_pose.engine.evaluation import build_evaluators, evaluate, require_test_data
from video_pose.engine.trainer import PoseTrainer
from video_pose.engine.views import view_of

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


@pytest.fixture
def user_cfg(user_coco: str, tmp_path: Path, narrow_rcnn_cfg: CfgNode) -> CfgNode:
    cfg = narrow_rcnn_cfg
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (user_coco,)
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 8
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 32
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE = 1
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (64,), 64
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER = 2, 2
    cfg.SOLVER.BASE_LR = 0.001
    cfg.TEST.DETECTIONS_PER_IMAGE = 3
    cfg.OUTPUT_DIR = str(tmp_path / "output")
    return cfg


EVALUATIONS = {"bbox", "keypoints", "keypoints_pck_bbox"}


@pytest.mark.parametrize("augmented", [False, True])
def test_a_users_coco_dataset_trains_and_is_evaluated(
    user_cfg: CfgNode, user_coco, augmented
) -> None:
    cfg = user_cfg
    if augmented:
        cfg.TEST.AUG.ENABLED, cfg.TEST.AUG.FLIP = True, True
        cfg.TEST.AUG.MIN_SIZES = (48, 64)
        cfg.TEST.PRECISION = "bfloat16"
        cfg.SOLVER.AMP.ENABLED = True
        cfg.MODEL.ROI_KEYPOINT_HEAD.NAME = "SubpixelKeypointHead"
        cfg.INPUT.FRAMES.MOSAIC_PROB, cfg.INPUT.FRAMES.MOSAIC_SIZE = 0.5, (64, 64)
        cfg.INPUT.AUG.COLOR = 0.2
    complete_cfg(cfg)
    Path(cfg.OUTPUT_DIR).mkdir()
    results = PoseTrainer(cfg).train()
    assert set(results) == EVALUATIONS
    stored = Path(cfg.OUTPUT_DIR) / "inference" / user_coco / "results.json"
    assert set(json.loads(stored.read_text())) == EVALUATIONS
    # Another order of the joints is put right.
    final = Path(cfg.OUTPUT_DIR) / "model_final.pth"
    assert torch.load(final)["joints"] == JOINTS
    cfg.MODEL.WEIGHTS, cfg.MODEL.POSE.JOINTS = str(final), JOINTS[::-1]
    turned = load_model(cfg).roi_heads.keypoint_head.score_lowres.bias
    trained = torch.load(final)["model"]["roi_heads.keypoint_head.score_lowres.bias"]
    assert torch.equal(turned, trained.flip(0)) and trained.unique().numel() == 3


def test_images_and_video_frames_train_together(user_cfg: CfgNode, user_coco, datasets) -> None:
    """Joints of both skeletons, masks of the videos alone; each is scored by its own truth."""
    cfg = user_cfg
    cfg.DATASETS.TRAIN = (user_coco, "synthetic_jhmdb_train_frames")
    # JHMDB's joints, so that both can be scored: the image dataset's eyes are added.
    video_joints = MetadataCatalog.get("synthetic_jhmdb_train").keypoint_names
    cfg.MODEL.POSE.JOINTS = [*JOINTS, *video_joints]
    cfg.DATASETS.TEST = (user_coco, "synthetic_jhmdb_test_frames")
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MASK_FORMAT, cfg.INPUT.FRAMES.UNMASKED = "bitmask", "keep"
    cfg.MODEL.ROI_MASK_HEAD.NAME = "PartlyLabelledMaskHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV, cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 1, 16
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER = 6, 2
    cfg.INPUT.FRAMES.MOSAIC_PROB, cfg.INPUT.FRAMES.MOSAIC_SIZE = 0.3, (64, 64)
    complete_cfg(cfg)
    assert len(cfg.TEST.KEYPOINT_OKS_SIGMAS) == 3 + 15
    Path(cfg.OUTPUT_DIR).mkdir()
    results = PoseTrainer(cfg).train()
    assert set(results[user_coco]) == EVALUATIONS
    videos = results["synthetic_jhmdb_test_frames"]
    assert {"bbox", "segm", "keypoints", "keypoints_pck_torso"} <= set(videos)


def test_a_test_without_any_annotation_is_said_to_have_no_figures(
    user_cfg: CfgNode, user_coco, caplog
) -> None:
    cfg = user_cfg
    # Nobody is found: maps of random weights may not be finite.
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 1.0
    complete_cfg(cfg)
    dicts = [{**record, "annotations": []} for record in DatasetCatalog.get(user_coco)]
    facts = MetadataCatalog.get(user_coco).as_dict()
    DatasetCatalog.remove(user_coco)
    MetadataCatalog.remove(user_coco)
    DatasetCatalog.register(user_coco, lambda: dicts)
    kept = ("thing_classes", "keypoint_names", "keypoint_flip_map")
    MetadataCatalog.get(user_coco).set(**{key: facts[key] for key in kept})
    assert evaluate(cfg, build_model(cfg)) == {}
    assert "fv_user has no annotations to score by: there are no figures" in caplog.text


def test_images_without_persons_are_background(user_cfg: CfgNode, user_coco) -> None:
    dicts = DatasetCatalog.get(user_coco)
    dicts[0]["annotations"] = dicts[1]["annotations"] = []
    DatasetCatalog.remove(user_coco)
    DatasetCatalog.register(user_coco, lambda: dicts)
    cfg = user_cfg
    cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE = 0
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER = 3, 1
    cfg.DATASETS.TEST = ()
    complete_cfg(cfg)
    Path(cfg.OUTPUT_DIR).mkdir()
    trainer = PoseTrainer(cfg)
    assert trainer.train() == {}
    latest = {key: value[0] for key, value in trainer.storage.latest().items()}
    assert np.isfinite(latest["total_loss"]) and "loss_keypoint" in latest


def test_a_class_that_the_other_dataset_lacks_is_refused(
    user_cfg: CfgNode, user_coco, datasets
) -> None:
    cfg = user_cfg
    cfg.DATASETS.TRAIN = (user_coco, "synthetic_jhmdb_train_frames")
    cfg.DATASETS.TEST = ()
    complete_cfg(cfg)
    MetadataCatalog.get("synthetic_jhmdb_train_frames").thing_classes[0] = "dancer"
    try:
        message = r"thing_classes of 'fv_user' are \['person'\], .*_train_frames' are \['dancer'\]"
        with pytest.raises(ValueError, match=message):
            view_of(cfg).build_train_loader(cfg, 0)
    finally:
        MetadataCatalog.get("synthetic_jhmdb_train_frames").thing_classes[0] = "person"


@pytest.mark.parametrize("key", ["file_name", "bbox_mode", "category_id"])
def test_a_dict_that_lacks_a_key_is_named(user_cfg: CfgNode, user_coco, key: str) -> None:
    complete_cfg(user_cfg)
    dicts = DatasetCatalog.get(user_coco)
    DatasetCatalog.remove(user_coco)
    DatasetCatalog.register(user_coco, lambda: dicts)
    del (dicts[1] if key == "file_name" else dicts[1]["annotations"][0])[key]
    message = rf"dataset 'fv_user', dict 1 \(.*\)(: annotation 0)? lacks \['{key}'\]; it has"
    with pytest.raises(ValueError, match=message):
        view_of(user_cfg).build_train_loader(user_cfg, 0)


@pytest.mark.parametrize("evaluator", ["coco", "pck"])
@pytest.mark.parametrize("key", ["image_id", "height", "width"])
def test_a_test_needs_ids_and_sizes(user_cfg: CfgNode, user_coco, key: str, evaluator: str) -> None:
    complete_cfg(user_cfg)
    dicts = DatasetCatalog.get(user_coco)
    DatasetCatalog.remove(user_coco)
    DatasetCatalog.register(user_coco, lambda: dicts)
    del dicts[2][key]
    user_cfg.TEST.EVALUATORS = (evaluator,)
    with pytest.raises(ValueError, match=rf"dict 2 \(.*2.png\) lacks \['{key}'\]; it has"):
        build_evaluators(user_cfg, user_coco)


def test_classes_need_names(user_cfg: CfgNode, user_coco) -> None:
    complete_cfg(user_cfg)
    dicts = DatasetCatalog.get(user_coco)
    DatasetCatalog.remove(user_coco)
    MetadataCatalog.remove(user_coco)
    DatasetCatalog.register(user_coco, lambda: dicts)
    with pytest.raises(ValueError, match="'fv_user' has no names of classes: .*thing_classes="):
        view_of(user_cfg).build_train_loader(user_cfg, 0)


@pytest.mark.parametrize("part", ["TRAIN", "TEST"])
def test_images_for_a_model_of_clips_are_refused_with_what_to_do(
    tiny_cfg, datasets, user_coco: str, part: str
) -> None:
    cfg = tiny_cfg("UniPoseLSTM")
    cfg.DATASETS[part] = (user_coco,)
    with pytest.raises(ValueError, match="UniPoseLSTM takes clips, and 'fv_user' .*register_video"):
        complete_cfg(cfg)
    with pytest.raises(ValueError, match="'fv_user' has no tracks of people, .*register_video_key"):
        build_pose_test_loader(cfg, user_coco)


@pytest.fixture
def two_classes(user_coco: str, tmp_path: Path) -> Iterator[Callable[[str, list[str]], str]]:
    """two_classes(name, [a, b]): the user's images with the categories a and b, ids 1 and 2; the
    last person is one of the second."""
    made: list[str] = []

    def register(name: str, classes: list[str]) -> str:
        content = json.loads((tmp_path / "user.json").read_text())
        content["categories"] = [{"id": i, "name": c} for i, c in enumerate(classes, start=1)]
        for place, annotation in enumerate(content["annotations"]):
            annotation["category_id"] = 1 + (place == 2)
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        facts = {"keypoint_names": JOINTS, "keypoint_flip_map": [("left_eye", "right_eye")]}
        register_coco_instances(name, facts, str(path), str(tmp_path))
        made.append(name)
        return name

    yield register
    for name in made:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.mark.parametrize(
    "architecture", ["GeneralizedRCNN", "RetinaNet", "RecurrentKeypointRCNN", "ProposalNetwork"]
)
def test_a_class_beyond_the_models_is_named(user_cfg: CfgNode, two_classes, architecture) -> None:
    """Class 1 of a model of one class is its background."""
    cfg = user_cfg
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (two_classes("fv_two", ["person", "dog"]),), ()
    complete_cfg(cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.RETINANET.NUM_CLASSES = architecture, 1
    cfg.INPUT.VIEW = "frame_clips" if "Recurrent" in architecture else "frames"
    key = "RETINANET" if architecture == "RetinaNet" else "ROI_HEADS"
    if architecture != "ProposalNetwork":  # which tells no classes apart
        message = rf"2.png .* class 1 \('dog'\), .* MODEL.{key}.NUM_CLASSES is 1: set it to 2"
        with pytest.raises(ValueError, match=message):
            view_of(cfg).build_train_loader(cfg, 0)
    cfg.MODEL[key].NUM_CLASSES = 2
    view_of(cfg).build_train_loader(cfg, 0)


def test_classes_have_the_same_numbers_in_training_and_test(user_cfg: CfgNode, two_classes) -> None:
    """Which is found out before the training; classes that one of them lacks may have any."""
    cfg = user_cfg
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    cfg.DATASETS.TRAIN = (two_classes("fv_trained", ["person", "dog"]),)
    cfg.DATASETS.TEST = (two_classes("fv_tested", ["dog", "person"]),)
    complete_cfg(cfg)
    Path(cfg.OUTPUT_DIR).mkdir()
    message = r"in DATASETS.TEST 'fv_tested' \(\['dog', 'person'\]\) than .* 'fv_trained'"
    with pytest.raises(ValueError, match=message):
        PoseTrainer(cfg).train()
    assert not (Path(cfg.OUTPUT_DIR) / "model_final.pth").exists()
    cfg.DATASETS.TEST = (two_classes("fv_others", ["person", "cat"]),)
    require_test_data(cfg)


def test_test_data_that_cannot_be_read_end_a_training_before_it_begins(user_cfg, user_coco) -> None:
    register_coco_instances("fv_lost", {}, "/no/such/file.json", "/no")
    try:
        user_cfg.DATASETS.TEST = (user_coco, "fv_lost")
        complete_cfg(user_cfg)
        Path(user_cfg.OUTPUT_DIR).mkdir()
        trainer = PoseTrainer(user_cfg)
        message = r"DATASETS.TEST 'fv_lost': .*/no/such/file.json.*; DATASETS.TEST \"\(\)\" trains"
        with pytest.raises(FileNotFoundError, match=message):
            trainer.train()
        assert trainer.iter == trainer.start_iter == 0
    finally:
        DatasetCatalog.remove("fv_lost")
        MetadataCatalog.remove("fv_lost")


def test_detections_of_classes_that_a_dataset_lacks_are_left_out(
    user_cfg: CfgNode, user_coco, caplog
) -> None:
    """As of a model of COCO's 80 classes on people; a detection of a person counts as ever."""
    complete_cfg(user_cfg)
    images, found = predictions(user_cfg, user_coco)
    for i, instances in enumerate(found):
        more = Instances.cat([instances, instances])
        more.pred_classes = torch.tensor([0, 5])
        more.scores = torch.tensor([0.5, 1.0])
        found[i] = more
    with caplog.at_level("WARNING"):
        results = score(user_cfg, user_coco, (images, found), ("coco",))
    assert results["bbox"]["AP"] == results["keypoints"]["AP"] == pytest.approx(100)
    said = [record.message for record in caplog.records if "without detections" in record.message]
    assert said == [
        "fv_user has 1 classes (person), the model has more: AP is without detections of others, "
        "such as class 5"
    ]


def predictions(cfg, name: str, shift: float = 0.0) -> tuple[list, list]:
    """The test images, and the true poses, moved to the right by ``shift`` px."""
    inputs = [batch[0] for batch in view_of(cfg).build_test_loader(cfg, name)]
    keypoints = torch.tensor([[[20.5, 15.5, 1], [24.5, 14.5, 1], [16.5, 14.5, 1]]])
    keypoints[..., 0] += shift
    outputs = [
        Instances(
            (64, 64),
            pred_boxes=Boxes(torch.tensor([[10.0, 10, 30, 50]])),
            scores=torch.ones(1),
            pred_classes=torch.zeros(1, dtype=torch.int64),
            pred_keypoints=keypoints.clone(),
        )
        for _ in inputs
    ]
    return inputs, outputs


def score(cfg, name: str, given: tuple[list, list], names=("coco", "pck")) -> dict:
    cfg.TEST.EVALUATORS = names
    evaluator = DatasetEvaluators(build_evaluators(cfg, name))
    if names == ("pck", "coco"):
        evaluator._evaluators.reverse()
    evaluator.reset()
    for image, found in zip(*given):
        evaluator.process([image], [{"instances": found}])
    return evaluator.evaluate()


def test_perfect_detections_of_a_users_images_score_100(user_cfg: CfgNode, user_coco) -> None:
    """Category ids, image ids and the joints' widths are the dataset's own."""
    cfg = user_cfg
    complete_cfg(cfg)
    given = predictions(cfg, user_coco)
    before = given[1][0].pred_keypoints.clone()
    results = score(cfg, user_coco, given)
    assert torch.equal(given[1][0].pred_keypoints, before)
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert results["keypoints"]["AP"] == pytest.approx(100)
    pck = results["keypoints_pck_bbox"]
    assert pck["PCK@0.2"] == 100 and (pck["frames"], pck["joints"]) == (3, 9)
    assert pck["mean_error_px"] == pytest.approx(0, abs=1e-4)


def test_the_order_of_the_evaluators_changes_no_figure_of_images(
    user_cfg: CfgNode, user_coco
) -> None:
    """Moved by 8.2 px, .2 of the box (40 px high) misses; by half a pixel less it would hit."""
    cfg = user_cfg
    complete_cfg(cfg)
    given = predictions(cfg, user_coco, shift=8.2)
    first = score(cfg, user_coco, given)
    second = score(cfg, user_coco, given, ("pck", "coco"))
    assert list(first) != list(second) and set(first) == set(second) == EVALUATIONS
    for task in first:
        np.testing.assert_equal(first[task], second[task])
    assert first["keypoints_pck_bbox"]["PCK@0.2"] == 0


def test_a_users_image_may_lack_its_annotations(user_cfg: CfgNode, user_coco) -> None:
    """Detectron2 allows it where dicts are registered: who is found there is false."""
    complete_cfg(user_cfg)
    given = predictions(user_cfg, user_coco)
    dicts, facts = DatasetCatalog.get(user_coco), MetadataCatalog.get(user_coco).as_dict()
    del dicts[0]["annotations"]
    DatasetCatalog.remove(user_coco)
    MetadataCatalog.remove(user_coco)
    DatasetCatalog.register(user_coco, lambda: dicts)
    kept = ("thing_classes", "keypoint_names", "keypoint_flip_map")
    MetadataCatalog.get(user_coco).set(**{key: facts[key] for key in kept})
    results = score(user_cfg, user_coco, given)
    assert 60 < results["bbox"]["AP"] < 70 and results["keypoints_pck_bbox"]["frames"] == 2


def test_a_dataset_without_joints_has_no_pck(user_cfg: CfgNode, user_coco) -> None:
    cfg = user_cfg
    complete_cfg(cfg)
    for record in (dicts := DatasetCatalog.get(user_coco)):
        for annotation in record["annotations"]:
            del annotation["keypoints"]
    DatasetCatalog.remove(user_coco)
    DatasetCatalog.register(user_coco, lambda: dicts)
    assert len(build_evaluators(cfg, user_coco)) == 1
