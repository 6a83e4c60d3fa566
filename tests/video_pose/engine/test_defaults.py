"""Configurations: what is filled in, and what is refused before anything long begins."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog

from video_pose.engine.defaults import complete_cfg, get_pose_cfg, setup
from video_pose.skeleton import JHMDB, PENN_ACTION


def config(train=(), test=(), **pose):
    cfg = get_pose_cfg()
    cfg.MODEL.META_ARCHITECTURE = "UniPose"
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = tuple(train), tuple(test)
    for key, value in pose.items():
        cfg.MODEL.POSE[key] = value
    return cfg


def test_joints_and_mirror_pairs_come_from_the_first_training_dataset() -> None:
    cfg = config(["penn_action_train", "jhmdb_split1_train"], ["penn_action_test"])
    complete_cfg(cfg)
    assert cfg.MODEL.POSE.JOINTS == PENN_ACTION.names
    assert cfg.MODEL.POSE.FLIP_MAP == [list(pair) for pair in PENN_ACTION.flip_map]


def test_named_joints_stay() -> None:
    joints = ["neck", "right_wrist", "left_wrist"]
    cfg = config(["penn_action_train"], JOINTS=joints)  # Penn's neck is computed
    complete_cfg(cfg)
    assert cfg.MODEL.POSE.JOINTS == joints
    assert cfg.MODEL.POSE.FLIP_MAP == [["left_wrist", "right_wrist"]]


def test_both_lists_are_named_where_a_training_dataset_lacks_a_joint() -> None:
    cfg = config(["penn_action_train"], JOINTS=["head", "right_thumb"])
    with pytest.raises(ValueError) as error:
        complete_cfg(cfg)
    for part in ("penn_action_train", "['head', 'right_thumb']", str(PENN_ACTION.names)):
        assert part in str(error.value)


def test_both_lists_are_named_where_the_models_joints_cannot_be_scored() -> None:
    cfg = config(["penn_action_train"], ["jhmdb_split1_test"], JOINTS=["head", "neck"])
    with pytest.raises(ValueError) as error:
        complete_cfg(cfg)
    for part in ("jhmdb_split1_test", "['head', 'neck']", str(JHMDB.names)):
        assert part in str(error.value)


@pytest.mark.parametrize("where", ["train", "test"])
def test_an_unknown_dataset_is_named_with_those_that_exist(where: str) -> None:
    names = {"train": ["jhmdb_split1_train"], "test": []} | {where: ["jhmbd_split1_train"]}
    with pytest.raises(KeyError, match="'jhmbd_split1_train' is not.*bbc_pose_test.*penn_action"):
        complete_cfg(config(names["train"], names["test"], JOINTS=JHMDB.names))


def test_an_unknown_protocol_is_named_with_those_that_exist() -> None:
    cfg = config(["jhmdb_split1_train"], ["jhmdb_split1_test"])
    cfg.TEST.PCK.PROTOCOLS = ("bbox", "box")
    with pytest.raises(KeyError, match="protocol 'box'.*bbox.*head.*pixels.*torso"):
        complete_cfg(cfg)


def test_a_protocol_that_the_skeleton_does_not_allow_is_refused() -> None:
    cfg = config(["penn_action_train"], ["penn_action_test"])
    cfg.TEST.PCK.PROTOCOLS = ("head",)
    with pytest.raises(ValueError, match="'head' needs a head segment"):
        complete_cfg(cfg)


def test_no_joints_at_all() -> None:
    with pytest.raises(ValueError, match=r"MODEL\.POSE\.JOINTS is empty and no dataset"):
        complete_cfg(config())
    DatasetCatalog.register("without_joints", lambda: [])
    MetadataCatalog.get("without_joints").set(evaluator_type="coco")
    try:
        with pytest.raises(ValueError, match="without_joints.*keypoint_names"):
            complete_cfg(config(["without_joints"]))
    finally:
        DatasetCatalog.remove("without_joints")
        MetadataCatalog.remove("without_joints")


@pytest.mark.parametrize(
    ("options", "instead"),
    [
        (["SOLVER.CLIP_GRADIENTS.ENABLED", True], "CLIP_GLOBAL_NORM"),
        (["SOLVER.BIAS_LR_FACTOR", 2.0], "BIAS_LR_MULTIPLIER"),
        (["SOLVER.WEIGHT_DECAY_BIAS", 0.0], "BIAS_DECAY"),
    ],
)
def test_a_key_without_effect_is_refused_with_the_one_to_use(options, instead: str) -> None:
    cfg = config(["jhmdb_split1_train"])
    cfg.merge_from_list(options)
    with pytest.raises(ValueError, match=rf"{options[0]} has no effect.*SOLVER\.{instead}"):
        complete_cfg(cfg)


def test_without_a_gpu_the_device_is_the_cpu(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    cfg = config(["jhmdb_split1_train"])
    assert cfg.MODEL.DEVICE == "cuda"
    complete_cfg(cfg)
    assert cfg.MODEL.DEVICE == "cpu"


def test_set_up_merges_file_then_command_line_and_freezes(tmp_path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "MODEL:\n  META_ARCHITECTURE: UniPose\n  POSE:\n    HEATMAP:\n      SIGMA: 5.0\n"
        "DATASETS:\n  TRAIN: ('jhmdb_split1_train',)\n  TEST: ()\nSEED: 3\n"
    )
    args = Namespace(
        config_file=str(file),
        eval_only=False,
        opts=["SEED", "4", "OUTPUT_DIR", str(tmp_path / "out"), "MODEL.DEVICE", "cpu"],
    )
    cfg = setup(args)
    assert cfg.is_frozen() and cfg.SEED == 4 and cfg.MODEL.POSE.HEATMAP.SIGMA == 5.0
    assert (tmp_path / "out" / "config.yaml").is_file() and (tmp_path / "out" / "log.txt").is_file()
    args.opts = ["MODEL.POSE.HEATMAP.SIGM", "5"]
    with pytest.raises((KeyError, AssertionError), match="SIGM"):
        setup(args)


def test_a_config_runs_nothing(tmp_path: Path) -> None:
    """YAML tags can name any function; a config is data."""
    mark = tmp_path / "ran"
    config = tmp_path / "c.yaml"
    config.write_text(f"OUTPUT_DIR: !!python/object/apply:os.mkdir ['{mark}']\n")
    with pytest.raises(yaml.constructor.ConstructorError, match="os.mkdir"):
        setup(Namespace(config_file=str(config), opts=[]))
    assert not mark.exists()
