"""Configurations: what is filled in, what is refused before anything long begins, and files of
strangers: one line with the file's name, and nothing hangs.
"""

from __future__ import annotations

import ast
import errno
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

import video_pose
from video_pose.engine import defaults as module
from video_pose.engine.checkpointer import PoseCheckpointer
from video_pose.engine.defaults import (
    _drop_unknown_datasets,
    check_values,
    choose_device,
    complete_cfg,
    find_config,
    get_pose_cfg,
    load_cfg,
    merge_config_file,
    merge_options,
    require_device,
    require_registered,
    setup,
    warn_of_warmup,
)
from video_pose.engine.launch import unlock_output
from video_pose.skeleton import BBC_POSE, JHMDB, PENN_ACTION


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


def test_a_dataset_that_is_not_registered_is_named_with_those_that_are() -> None:
    for train, test in ((["jhmdb"], []), (["penn_action_train"], ["penn_action_test", "jhmdb"])):
        with pytest.raises(KeyError, match="dataset 'jhmdb' is not reg.*'penn_action_train'"):
            complete_cfg(config(train, test))


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
    knees = ["left_knee", "right_knee"]
    cfg = config(["penn_action_train"], ["bbc_pose_test"], JOINTS=knees)
    with pytest.raises(ValueError) as error:
        complete_cfg(cfg)
    for part in ("bbc_pose_test", str(knees), str(BBC_POSE.names)):
        assert part in str(error.value)


def test_a_model_is_tested_on_a_dataset_with_more_joints() -> None:
    complete_cfg(config(["penn_action_train"], ["jhmdb_split1_test"], JOINTS=["head", "neck"]))


@pytest.mark.parametrize("where", ["train", "test"])
def test_an_unknown_dataset_is_named_with_those_that_exist(where: str) -> None:
    names = {"train": ["jhmdb_split1_train"], "test": []} | {where: ["jhmbd_split1_train"]}
    with pytest.raises(KeyError, match="'jhmbd_split1_train' is not.*bbc_pose_test.*penn_action"):
        complete_cfg(config(names["train"], names["test"], JOINTS=JHMDB.names))


def test_an_unknown_protocol_is_named_with_those_that_exist() -> None:
    cfg = config(["jhmdb_split1_train"], ["jhmdb_split1_test"])
    cfg.TEST.PCK.PROTOCOLS = ("bbox", "box")
    with pytest.raises(ValueError, match="PROTOCOLS 'box'.*bbox.*torso.*head.*pixels"):
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
        (["SOLVER.REFERENCE_WORLD_SIZE", 8], "IMS_PER_BATCH, BASE_LR"),
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
    with pytest.raises(KeyError, match="options: .*SIGM; did you mean MODEL.POSE.HEATMAP.SIGMA"):
        setup(args)


CLIPS = ["MODEL.META_ARCHITECTURE", "UniPose", "DATASETS.TEST", ("jhmdb_split1_test",)]
CLIPS += ["DATASETS.TRAIN", ("jhmdb_split1_train",), "OUTPUT_DIR", "x"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["INPUT.MAPPER", "JHMDBClipMapper"], ("region", 1.25, "frame", (0.75, 1.25), 30.0)),
        (["INPUT.MAPPER", "BBCPoseClipMapper"], ("region", 1.0, "clip", (0.8, 1.2), 20.0)),
        (
            ["INPUT.MAPPER", "JHMDBClipMapper", "INPUT.SCALE_MODE", "absolute"],
            ("absolute", 1.25, "frame", (1.2, 1.8), 40.0),
        ),
        (["INPUT.REGION_PADDING", 1.5, "INPUT.AUG.ROTATION", 0.0], None),
    ],
)
def test_every_effective_value_is_written_out(options, expected) -> None:
    cfg = load_cfg("", [*CLIPS, *options])
    inp, heatmap = cfg.INPUT, cfg.MODEL.POSE.HEATMAP
    found = (inp.SCALE_MODE, inp.REGION_PADDING, inp.REGION_PER)
    found += (inp.AUG.SCALE_RANGE, inp.AUG.ROTATION)
    if expected is not None:
        assert found == expected
    else:  # what was given stays
        assert (inp.REGION_PADDING, inp.AUG.ROTATION) == (1.5, 0.0)
    assert inp.REGION == "box" and inp.VIEW == "clips"
    assert (heatmap.ENCODE_OFFSET, heatmap.DECODE_OFFSET) == (3.5, 3.5)  # of a stride of 8
    assert cfg.TEST.PCK.PROTOCOLS == tuple(MetadataCatalog.get("jhmdb_split1_test").pck_protocols)


def test_a_written_config_means_the_same_again(tmp_path: Path) -> None:
    """As a run writes it; and one with the values still empty, as earlier runs wrote it."""
    options = [*CLIPS, "INPUT.MAPPER", "BBCPoseClipMapper", "MODEL.DEVICE", "cpu"]
    raw, whole = load_cfg("", options, complete=False), load_cfg("", options)
    for name, cfg in (("raw", raw), ("whole", whole)):
        (tmp_path / f"{name}.yaml").write_text(cfg.dump())
        again = load_cfg(str(tmp_path / f"{name}.yaml"))
        assert yaml.safe_load(again.dump()) == yaml.safe_load(whole.dump())
    assert raw.INPUT.REGION_PADDING == 0 and whole.INPUT.REGION_PADDING == 1.0


@pytest.mark.parametrize("name", ["unipose_lstm_R50_res4", "person_detector_R18_FPN"])
def test_the_packages_models_load_with_their_values(name: str) -> None:
    """Their files were written while some values were empty."""
    path = Path(video_pose.__file__).parent / "pretrained" / name / "config.yaml"
    stored = yaml.safe_load(path.read_text())
    cfg = load_cfg(str(path), for_inference=True)
    if cfg.INPUT.VIEW == "clips":
        assert cfg.INPUT.REGION_PADDING == 1.25 and cfg.INPUT.REGION == "box"
        assert cfg.INPUT.AUG.SCALE_RANGE == (0.75, 1.25)
        assert cfg.MODEL.POSE.HEATMAP.ENCODE_OFFSET == (cfg.MODEL.POSE.HEATMAP.STRIDE - 1) / 2
    assert cfg.MODEL.POSE.JOINTS == stored["MODEL"]["POSE"]["JOINTS"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["SOLVER.OPTIMIZER", "LION"], "SOLVER.OPTIMIZER is 'LION': must be one of .*'ADAMW'"),
        (["SOLVER.LR_SCHEDULER_NAME", "Cosine"], "LR_SCHEDULER_NAME is 'Cosine'.*WarmupCosineLR"),
        (["SOLVER.AMP.PRECISION", "float32"], "SOLVER.AMP.PRECISION is 'float32'.*'bfloat16'"),
        (["SOLVER.BASE_LR", float("nan")], "SOLVER.BASE_LR is nan: must be a number, 0 or more"),
        (["SOLVER.WEIGHT_DECAY", -0.1], "SOLVER.WEIGHT_DECAY is -0.1"),
        (["SOLVER.CLIP_GLOBAL_NORM", -1.0], "SOLVER.CLIP_GLOBAL_NORM is -1.0: .*0: not clipped"),
        (["SOLVER.EMA_DECAY", -1.0], "SOLVER.EMA_DECAY is -1.0: must be below 1, or 0"),
        (["MODEL.POSE.HEATMAP.STRIDE", 0], "HEATMAP.STRIDE is 0: must be 1 px or more"),
        (["MODEL.POSE.HEATMAP.SIGMA", 0.0], "HEATMAP.SIGMA is 0.0: must be above 0 px"),
        (["TEST.CHUNK_LENGTH", 0], "TEST.CHUNK_LENGTH is 0: must be 1 frame or more"),
        (["TEST.RESET_EVERY", -1], "TEST.RESET_EVERY is -1: must be a number of frames, or 0"),
        (["TEST.COMPILE", "x"], "TEST.COMPILE is 'x': must be one of .*'graphs'"),
        (["TEST.BACKEND", "tensorrt"], "TEST.BACKEND is 'tensorrt': must be auto, openvino"),
        (["TEST.PRECISION", "float8"], "TEST.PRECISION is 'float8'"),
        (["TEST.OVER_TIME.MODE", "ofline"], "TEST.OVER_TIME.MODE is 'ofline': must be one of"),
        (["TEST.OVER_TIME.LAG", -3], "TEST.OVER_TIME.LAG is -3: must be a number of frames, 0 or"),
        (["TEST.SCALES", (1.0, 0.0)], r"TEST.SCALES is \(1.0, 0.0\): must be factors above 0"),
        (["TEST.PCK.PERSON", "best"], "TEST.PCK.PERSON is 'best'"),
        (["TEST.EVALUATORS", ("pck", "ap")], "TEST.EVALUATORS 'ap': choose from .*'pck'"),
        (["MODEL.PIXEL_STD", [1.0, 0.0, 1.0]], "MODEL.PIXEL_STD is .*: must be numbers other"),
        (["MODEL.PIXEL_MEAN", [1.0]], "MODEL.PIXEL_MEAN is .*: must be numbers, one for each"),
        (["INPUT.CROP_SIZE", (64,)], "INPUT.CROP_SIZE is .*must be .height, width"),
        (["INPUT.CROP_SIZE", (100000, 64)], "INPUT.CROP_SIZE is .*each of 1 to 4096 px"),
        (["MODEL.DEVICE", "tpu"], "MODEL.DEVICE is 'tpu', which PyTorch .* does not have here"),
        (["MODEL.DEVICE", "mps:7"], "MODEL.DEVICE is 'mps:7', which PyTorch"),
        (["TEST.PERSON_THRESHOLD", 2.0], "TEST.PERSON_THRESHOLD is 2.0: must be 0 to 1"),
        (["MODEL.POSE.FLIP_MAP", [["left_wrist", "rite"]]], "FLIP_MAP names .*'rite'"),
        (["INPUT.SCALE_MODE", "relative"], "INPUT.SCALE_MODE 'relative': choose from"),
        (["TEST.PRECISION"], "options .*TEST.PRECISION.*: expected KEY VALUE pairs"),
        (["SOLVER.MAX_ITER", "many"], "options: Type mismatch .*int.*str.*MAX_ITER"),
    ],
)
def test_values_that_cannot_work_are_named_at_set_up(options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_cfg("", [*CLIPS, *options])


def test_a_warm_up_longer_than_the_run_is_said_with_the_rates(caplog) -> None:
    options = ["SOLVER.MAX_ITER", 100, "SOLVER.WARMUP_ITERS", 1000, "SOLVER.BASE_LR", 0.5]
    load_cfg("", [*CLIPS, *options])
    # 0.001 at the start, a tenth of the way to 1 at the end
    assert "ends at 0.0505 and never reaches BASE_LR 0.5" in caplog.text
    caplog.clear()
    load_cfg("", [*CLIPS, *options, "SOLVER.WARMUP_ITERS", 0])
    assert "BASE_LR" not in caplog.text


def test_a_gpu_that_is_asked_for_must_be_there(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="MODEL.DEVICE 'cuda': this machine has 0 GPUs"):
        load_cfg("", [*CLIPS, "MODEL.DEVICE", "cuda"])
    assert load_cfg("", CLIPS).MODEL.DEVICE == "cpu"  # the default asks for nothing
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    require_device("cuda:0")
    with pytest.raises(ValueError, match="'cuda:1': this machine has 1 GPUs"):
        require_device("cuda:1")


def test_a_config_runs_nothing(tmp_path: Path) -> None:
    """YAML tags can name any function; a config is data."""
    mark = tmp_path / "ran"
    config = tmp_path / "c.yaml"
    config.write_text(f"OUTPUT_DIR: !!python/object/apply:os.mkdir ['{mark}']\n")
    with pytest.raises(ValueError, match=r"c\.yaml: no plain YAML: .*os\.mkdir"):
        setup(Namespace(config_file=str(config), opts=[]))
    assert not mark.exists()


def test_a_config_that_changes_after_it_was_looked_at_runs_nothing_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"
    path = write(tmp_path, f"OUTPUT_DIR: !!python/object/apply:os.mkdir ['{mark}']\n")
    monkeypatch.setattr(module, "_check", lambda path, seen: None)
    with pytest.raises(yaml.YAMLError, match=r"os\.mkdir"):
        merge_config_file(get_pose_cfg(), path)
    assert not mark.exists()


def test_retired_keys_are_read_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    """Packaged models and older runs hold them."""
    cfg = get_pose_cfg()
    with caplog.at_level("WARNING"):
        cfg.merge_from_list(["TEST.ENCODE_BATCH", 4, "TEST.LARGE_CONVOLUTIONS", "direct"])
    assert "ENCODE_BATCH" not in cfg.TEST and "LARGE_CONVOLUTIONS" not in cfg.TEST
    assert "Deprecated config key (ignoring): TEST.ENCODE_BATCH" in caplog.text


def write(folder: Path, content: str | bytes, name: str = "c.yaml") -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_bases_are_merged_before_the_file(tmp_path: Path) -> None:
    write(tmp_path, "SEED: 1\nOUTPUT_DIR: a\n", "base.yaml")
    path = write(tmp_path, "_BASE_: base.yaml\nSEED: 2\n")
    cfg = get_pose_cfg()
    merge_config_file(cfg, path)
    assert (cfg.SEED, cfg.OUTPUT_DIR) == (2, "a")


def alias_bomb() -> str:
    """700 bytes for 10 to the power of 9 values."""
    lines = ["MODEL:", "  POSE:", "    JOINTS:", "      - &a [a,a,a,a,a,a,a,a,a,a]"]
    for name, inner in zip("bcdefghij", "abcdefghi"):
        lines.append(f"      - &{name} [{','.join([f'*{inner}'] * 10)}]")
    return "\n".join(lines)


def flat_bomb(copies: int) -> str:
    """A list of 999 numbers, and aliases of it: 1 + 1000 (copies + 1) + 1 values."""
    return f"A: &a [{','.join('1' * 999)}]\nB: [{','.join(['*a'] * copies)}]\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"MODEL: \xe9\n", "byte 7 is no text in UTF-8"),
        ("_BASE_: c.yaml\n", "its _BASE_ leads back to itself"),
        ("_BASE_: 3\n", "_BASE_ must be a file's name, found 3"),
        ("_BASE_: https://x.org/a.yaml\n", "is on the network: download it first"),
        ("A: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("A: &a [*a]\n", "stand for more than"),
        (alias_bomb(), "aliases stand for more than 100000 values"),
        (flat_bomb(99), "aliases stand for more than 100000 values"),
        ("", "expected a YAML mapping of keys, found NoneType"),
        ("- 1\n", "expected a YAML mapping of keys, found list"),
        ("A: [\n", "no plain YAML"),
        ("SOLVER:\n  MAX_ITER: 1\nSEED: 1\nSOLVER: {}\n", "SOLVER stands on line 1 and on line 4"),
        ("A:\n- B: [{C: 1, C: 1}]\n", "the key C stands on line 2 and on line 2"),
        ("A: 2024-13-45\n", r"c\.yaml: month must be in"),
        ("SOLVER: 3\n", "c.yaml"),
        ("SOLVER:\n  MAX_ITER: many\n", "c.yaml: Type mismatch .*int.*str.*MAX_ITER"),
        ("OUTPUT_DIR: !!python/object/apply:os.mkdir [x]\n", "no plain YAML: .*os.mkdir"),
    ],
)
def test_a_damaged_file_is_one_line_with_its_name(tmp_path, content, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=message) as error:
        merge_config_file(get_pose_cfg(), path)
    assert path in str(error.value) and "\n" not in str(error.value)


def test_as_many_values_as_are_allowed_are_read(tmp_path) -> None:
    """1 + 1000 + 98,001 values, and a list of 997: 100,000, as the message has it."""
    content = flat_bomb(98) + "C: [" + ",".join("1" * 997)
    with pytest.raises(KeyError, match="Non-existent config key: A"):
        merge_config_file(get_pose_cfg(), write(tmp_path, f"{content}]\n"))
    with pytest.raises(ValueError, match="more than 100000 values: write them out$"):
        merge_config_file(get_pose_cfg(), write(tmp_path, f"{content},1]\n"))


def test_an_unknown_key_is_named_with_one_like_it(tmp_path: Path) -> None:
    path = write(tmp_path, "SOLVER:\n  MAX_ITERS: 3\n")
    with pytest.raises(KeyError, match=r"c\.yaml: .*MAX_ITERS; did you mean SOLVER.MAX_ITER"):
        merge_config_file(get_pose_cfg(), path)


def test_a_missing_file_is_named_with_who_names_it(tmp_path: Path) -> None:
    path = write(tmp_path, "_BASE_: gone.yaml\n")
    with pytest.raises(FileNotFoundError, match=r"gone\.yaml, named as _BASE_ in .*c\.yaml"):
        merge_config_file(get_pose_cfg(), path)
    with pytest.raises(FileNotFoundError, match="config not found: nowhere.yaml"):
        find_config("nowhere.yaml")


def test_a_name_of_detectron2s_zoo_is_found() -> None:
    path = find_config("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml")
    cfg = get_pose_cfg()
    merge_config_file(cfg, path)
    assert cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN"


@pytest.mark.parametrize("name", ["unipose_lstm_R50_res4", "unipose_lstm_R50_res4/config.yaml"])
def test_configs_of_packaged_models_go_by_name(name: str) -> None:
    found = Path(find_config(f"video-pose://{name}"))
    assert found.parts[-3:] == ("pretrained", "unipose_lstm_R50_res4", "config.yaml")
    with pytest.raises(FileNotFoundError, match="the package's models are .*unipose_lstm_R50_res4"):
        find_config("video-pose://unipose_lstm_R51")


BOUNDS = [
    ("SOLVER.OPTIMIZER", ("sgd", "AdamW"), ("",)),
    ("SOLVER.BASE_LR", (0.0, 5.0), (-0.001, float("inf"))),
    ("SOLVER.WEIGHT_DECAY", (0.0, 5.0), (-0.001, float("inf"), float("nan"))),
    ("SOLVER.CLIP_GLOBAL_NORM", (0.0, float("inf")), (-0.1, float("nan"))),
    ("SOLVER.EMA_DECAY", (0.0, 0.999), (-0.1, 1.0, 2.0)),
    ("MODEL.POSE.HEATMAP.STRIDE", (1, 16), (0, -1)),
    ("MODEL.POSE.HEATMAP.SIGMA", (0.1, 9.0), (0.0, -1.0, float("inf"))),
    ("MODEL.POSE.HEATMAP.OKS_SCALE", (0.1, 2.0), (0.0, -1.0, float("inf"))),
    ("TEST.CHUNK_LENGTH", (1, 99), (0,)),
    ("TEST.RESET_EVERY", (0, 5), (-1,)),
    ("TEST.BACKEND", ("auto", "torch", "/"), ("/no/such/folder", "")),
    ("TEST.OVER_TIME.LAG", (0, 9), (-1,)),
    ("TEST.SCALES", ((0.1,), (1.0, 2.0)), ((), (1.0, 0.0), (-1.0,))),
    ("TEST.SCALES_STILLS", ((), (0.1,), (1.0, 2.0)), ((1.0, 0.0), (-1.0,))),
    ("TEST.PERSON_THRESHOLD", (0.0, 1.0), (-0.1, 1.1)),
    ("MODEL.RECURRENT_KEYPOINT.HIDDEN_CHANNELS", (1, 64), (0, -1)),
    ("MODEL.RECURRENT_KEYPOINT.FEATURE_CHANNELS", (1, 64), (0, -1)),
    ("MODEL.RECURRENT_KEYPOINT.MIN_SCORE", (0.0, 1.0), (-0.1, 1.1)),
    ("MODEL.RECURRENT_KEYPOINT.MIN_IOU", (0.0, 1.0), (-0.1, 1.1)),
    ("MODEL.RECURRENT_KEYPOINT.OKS_WEIGHT", (0.0, 1.0), (-0.1, 1.1)),
    ("MODEL.RECURRENT_KEYPOINT.BOX_JITTER", (0.0, 2.0), (-0.1,)),
    ("MODEL.RECURRENT_KEYPOINT.MAX_MISSED", (0, 9), (-1,)),
    ("MODEL.PIXEL_MEAN", ([0.0, 0.0, 0.0],), ([], [1.0] * 4)),
    ("MODEL.PIXEL_STD", ([-1.0, 1.0, 255.0],), ([0.0, 1.0, 1.0], [1.0] * 2, [1.0] * 4)),
    ("INPUT.CROP_SIZE", ((1, 4096), (4096, 1)), ((0, 8), (8, 4097), (8, 8, 8), ())),
]


@pytest.mark.parametrize(("key", "good", "bad"), BOUNDS, ids=[key for key, *_ in BOUNDS])
def test_bounds_of_values_are_part_of_their_range(key: str, good: tuple, bad: tuple) -> None:
    cfg = get_pose_cfg()
    *path, last = key.split(".")
    node = cfg
    for part in path:
        node = node[part]
    for value in good:
        node[last] = value
        check_values(cfg)
    for value in bad:
        node[last] = value
        with pytest.raises(ValueError, match=f"{key} is .*: must be "):
            check_values(cfg)


@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("CLIP_GRADIENTS.ENABLED", True, "CLIP_GLOBAL_NORM"),
        ("BIAS_LR_FACTOR", 2.0, "BIAS_LR_MULTIPLIER"),
        ("BIAS_LR_FACTOR", 0.5, "BIAS_LR_MULTIPLIER"),
        ("WEIGHT_DECAY_BIAS", 0.0, "BIAS_DECAY"),
    ],
)
def test_keys_of_detectron2_without_effect_are_refused(key, value, instead: str) -> None:
    with pytest.raises(ValueError, match=f"SOLVER.{key} has no effect here: use SOLVER.{instead}"):
        load_cfg("", [*CLIPS, f"SOLVER.{key}", value])


def test_factors_of_datasets_need_their_sampler() -> None:
    with pytest.raises(ValueError, match="DATALOADER.REPEAT_THRESHOLD has no.*TRAIN_REPEAT_FACT"):
        load_cfg("", [*CLIPS, "DATALOADER.REPEAT_THRESHOLD", 0.1])
    options = [*CLIPS, "DATASETS.TRAIN_REPEAT_FACTOR", [["jhmdb_split1_train", 2.0]]]
    with pytest.raises(ValueError, match="TRAIN_REPEAT_FACTOR has no.*WeightedTrainingSampler"):
        load_cfg("", options)
    load_cfg("", [*options, "DATALOADER.SAMPLER_TRAIN", "WeightedTrainingSampler"])


@pytest.mark.parametrize(
    ("key", "value", "beside"),
    [
        ("TEST.EVAL_PERIOD", 5, ["DATASETS.TEST", ("jhmdb_split1_test",)]),
        ("SOLVER.AMP.PRECISION", "bfloat16", ["SOLVER.AMP.ENABLED", True]),
        ("SOLVER.ADAM_BETAS", (0.5, 0.9), ["SOLVER.OPTIMIZER", "adam"]),
    ],
)
def test_keys_that_go_with_another_one_are_said_to_be_ignored(key, value, beside, caplog) -> None:
    load_cfg("", [*CLIPS, "DATASETS.TEST", (), *beside, key, value])
    assert key not in caplog.text
    load_cfg("", [*CLIPS, "DATASETS.TEST", (), key, value])
    assert f"{key} is ignored: {beside[0]} is" in caplog.text


@pytest.mark.parametrize(("key", "value"), [("MOMENTUM", 0.5), ("NESTEROV", True)])
def test_keys_of_sgd_are_said_to_be_ignored_by_adam(key: str, value: object, caplog) -> None:
    for optimizer, said in (("SGD", False), ("adamw", True)):
        load_cfg("", [*CLIPS, "SOLVER.OPTIMIZER", optimizer, f"SOLVER.{key}", value])
        assert (f"SOLVER.{key} is ignored: SOLVER.OPTIMIZER is" in caplog.text) is said


def test_an_evaluation_of_nothing_is_refused(tmp_path: Path) -> None:
    options = [*CLIPS, "DATASETS.TEST", (), "OUTPUT_DIR", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="--eval-only: DATASETS.TEST is empty"):
        setup(Namespace(config_file="", opts=options, eval_only=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["TEST.PRECISE_BN.ENABLED", "TEST.AUG.ENABLED"])
def test_keys_of_detectron2_for_other_models_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match=key.removesuffix(".ENABLED")):
        load_cfg("", [*CLIPS, key, True])


def test_inference_passes_over_what_only_a_training_reads(caplog: pytest.LogCaptureFixture) -> None:
    lvis = "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
    with pytest.raises(ValueError, match="DATALOADER.REPEAT_THRESHOLD"):
        load_cfg(lvis)
    assert load_cfg(lvis, for_inference=True).MODEL.ROI_HEADS.NUM_CLASSES == 1203
    options = [*CLIPS, "MODEL.POSE.JOINTS", ["neck"], "DATASETS.TRAIN", ("not_here",)]
    options += ["DATASETS.TEST", ("nor_here",), "TEST.EVAL_PERIOD", 5, "INPUT.RANDOM_FLIP", "none"]
    options += ["INPUT.CROP.ENABLED", True, "SOLVER.CLIP_GRADIENTS.ENABLED", True]
    caplog.clear()
    load_cfg("", options, for_inference=True)
    assert not caplog.text
    with pytest.raises(ValueError, match="^TEST.AUG.ENABLED: UniPose "):
        load_cfg("", [*options, "TEST.AUG.ENABLED", True], for_inference=True)


@pytest.mark.parametrize(
    ("iterations", "warmup", "method", "rate"),
    [
        (10, 100, "linear", "1.09"),  # a tenth of the way from .01 to 1: .01 * .9 + .1
        (100, 100, "linear", None),
        (0, 100, "linear", None),
        (10, 100, "constant", None),
    ],
)
def test_how_far_a_long_warm_up_comes(iterations, warmup, method, rate, caplog) -> None:
    cfg = get_pose_cfg()
    solver = cfg.SOLVER
    solver.MAX_ITER, solver.WARMUP_ITERS, solver.WARMUP_METHOD = iterations, warmup, method
    solver.WARMUP_FACTOR, solver.BASE_LR = 0.01, 10.0
    warn_of_warmup(cfg)
    said = f"MAX_ITER {iterations} is below WARMUP_ITERS {warmup}: the learning rate ends at {rate}"
    assert (said in caplog.text) == (rate is not None)
    assert rate is not None or not caplog.text


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:1", "cuda:7"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_gpu_that_is_not_there(monkeypatch, device: str, count: int) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    number = int(device.rpartition(":")[2]) if ":" in device else 0
    if number < count:
        require_device(device)
    else:
        with pytest.raises(ValueError, match=f"{device}'.*this machine has {count} GPUs"):
            require_device(device)
    require_device("cpu")


def test_what_a_name_may_have_meant() -> None:
    for key, meant in (
        ("SOLVER.BASE_LRR", "SOLVER.BASE_LR"),
        ("FLIP_MAPP", "FLIP_MAP"),
    ):
        with pytest.raises(KeyError, match=f"did you mean .*{meant}") as error:
            load_cfg("", [key, 1])
        assert "options: " in str(error.value)
    with pytest.raises(KeyError) as error:
        load_cfg("", ["ZZZZ.QQQQ", 1])
    assert "did you mean" not in str(error.value)


def test_devices_without_a_gpu_fall_back_and_are_said(caplog) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    cfg = config(["penn_action_train"])
    cfg.MODEL.DEVICE = "cuda"
    with caplog.at_level("INFO", "video_pose.engine.defaults"):
        complete_cfg(cfg)
    assert cfg.MODEL.DEVICE == "cpu" and "No GPU: MODEL.DEVICE is cpu" in caplog.text


def test_datasets_of_somebody_else_do_not_stop_a_prediction() -> None:
    joints = ["MODEL.META_ARCHITECTURE", "UniPose", "MODEL.POSE.JOINTS", ["head"]]
    names = ["DATASETS.TRAIN", ("strangers", "penn_action_train"), "DATASETS.TEST", ("other",)]
    cfg = load_cfg("", [*joints, *names], for_inference=True)
    assert cfg.DATASETS.TRAIN == ("penn_action_train",) and cfg.DATASETS.TEST == ()
    with pytest.raises(KeyError, match="strangers"):
        load_cfg("", [*joints, *names])
    # A detector of another project needs its classes' names alone.
    stock = load_cfg("", ["DATASETS.TRAIN", ("strangers",)], for_inference=True)
    assert stock.DATASETS.TRAIN == ("strangers",) and stock.INPUT.VIEW == ""


def test_plugins_add_keys_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def add(cfg: CfgNode) -> None:
        cfg.MODEL.POSE.OWN = CfgNode({"WIDTH": 3})

    monkeypatch.setattr(module, "CONFIG_KEYS", type(module.CONFIG_KEYS)("CONFIG_KEYS"))
    module.CONFIG_KEYS.add("own")(add)
    assert load_cfg("", ["MODEL.POSE.OWN.WIDTH", 4], complete=False).MODEL.POSE.OWN.WIDTH == 4


def test_later_values_take_the_place_of_earlier_ones(tmp_path: Path) -> None:
    """The defaults, what a program sets first, the file, the command line."""
    path = write(tmp_path, "SEED: 2\nSOLVER:\n  MAX_ITER: 2\n  BASE_LR: 0.2\n")
    first = ["SEED", 1, "SOLVER.MAX_ITER", 1, "SOLVER.BASE_LR", 0.1, "OUTPUT_DIR", "first"]
    cfg = load_cfg(path, ["SOLVER.BASE_LR", 0.3], first=first, complete=False)
    assert (cfg.OUTPUT_DIR, cfg.SEED) == ("first", 2)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR) == (2, 0.3)
    assert cfg.INPUT.VIEW == "" and load_cfg("", CLIPS).INPUT.VIEW == "clips"
    assert not cfg.is_frozen()


def test_a_device_is_checked_where_it_is_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the command line, in any place; a folder may have any name."""
    asked: list[str] = []
    monkeypatch.setattr(module, "require_device", asked.append)
    load_cfg("", [*CLIPS, "SEED", 3, "MODEL.DEVICE", "cpu"])
    load_cfg("", ["MODEL.DEVICE", "cpu", *CLIPS])
    assert asked == ["cpu", "cpu"]
    load_cfg("", [*CLIPS, "OUTPUT_DIR", "MODEL.DEVICE"])
    load_cfg("", CLIPS, first=["MODEL.DEVICE", "cuda:9"])
    assert asked == ["cpu", "cpu"]


@pytest.mark.parametrize(
    ("architecture", "train", "test", "joints", "kept"),
    [
        ("UniPose", ("strangers", "penn_action_train"), ("others",), ["head"], True),
        ("UniPose", ("penn_action_train",), ("penn_action_test",), ["head"], True),
        ("UniPose", ("strangers",), ("others",), [], None),  # joints would come from them
        ("GeneralizedRCNN", ("strangers",), (), ["head"], False),
        ("GeneralizedRCNN", ("penn_action_train_frames",), ("others",), [], False),
        ("GeneralizedRCNN", ("penn_action_train_frames",), (), [], True),
    ],
)
def test_which_datasets_a_prediction_does_without(architecture, train, test, joints, kept) -> None:
    """A pose model's joints say all; a detector is taken as it is where one is not known."""
    cfg = config(train, test, JOINTS=joints)
    cfg.MODEL.META_ARCHITECTURE = architecture
    known = _drop_unknown_datasets(cfg)
    assert known is (kept is not False)
    if kept and architecture == "UniPose":
        train = tuple(name for name in train if name != "strangers")
        test = tuple(name for name in test if name != "others")
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (train, test)


def test_a_model_of_joints_that_an_unknown_dataset_had_predicts() -> None:
    options = [*CLIPS, "DATASETS.TRAIN", ("strangers", "penn_action_train"), "DATASETS.TEST", ()]
    options += ["MODEL.POSE.JOINTS", ["head", "nose"], "MODEL.POSE.PARTIAL_JOINTS", True]
    assert load_cfg("", options, for_inference=True).DATASETS.TRAIN == ()
    options += ["DATASETS.TRAIN", ("penn_action_train",)]
    with pytest.raises(ValueError, match=r"has \['nose'\], which none of the datasets"):
        load_cfg("", options, for_inference=True)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cpu", "meta"])
@pytest.mark.parametrize("there", [True, False])
def test_where_a_model_computes(monkeypatch, caplog, device: str, there: bool) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    cfg = config()
    cfg.MODEL.DEVICE = device
    with caplog.at_level("INFO", "video_pose.engine.defaults"):
        choose_device(cfg)
    falls_back = device.startswith("cuda") and not there
    assert cfg.MODEL.DEVICE == ("cpu" if falls_back else device)
    assert caplog.messages == ["No GPU: MODEL.DEVICE is cpu"] * falls_back


def test_joints_are_those_of_the_first_training_dataset_unless_they_are_given() -> None:
    cfg = config(["bbc_pose_train", "penn_action_train"], JOINTS=[])
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.KEYPOINT_ON = "GeneralizedRCNN", False
    cfg.DATASETS.TRAIN = ("bbc_pose_train_frames", "penn_action_train_frames")
    complete_cfg(cfg)
    assert cfg.MODEL.POSE.JOINTS == BBC_POSE.names and cfg.INPUT.VIEW == "frames"
    given = config(JOINTS=["head", "left_x", "right_x"], FLIP_MAP=[["right_x", "left_x"]])
    given.INPUT.VIEW = "clips"
    complete_cfg(given)
    assert given.MODEL.POSE.FLIP_MAP == [["right_x", "left_x"]] and given.INPUT.VIEW == "clips"
    empty = config()
    with pytest.raises(ValueError) as error:
        complete_cfg(empty)
    assert str(error.value) == (
        "MODEL.POSE.JOINTS is empty and no dataset of DATASETS.TRAIN ([]) has keypoint_names to "
        "take it from"
    )


@pytest.mark.parametrize("is_first", [True, False])
def test_what_a_run_sets_up_once(monkeypatch, tmp_path: Path, is_first: bool) -> None:
    """Memory, its folder (by the first process alone), a log and Detectron2's part."""
    told: list[object] = []
    monkeypatch.setattr(module, "keep_freed_memory", lambda: told.append("memory"))
    monkeypatch.setattr(module, "lock_output", lambda folder: told.append(("lock", folder)))
    monkeypatch.setattr(module, "default_setup", lambda cfg, args: told.append(args.config_file))
    monkeypatch.setattr(module, "setup_logger", lambda folder, **keys: told.append((folder, keys)))
    monkeypatch.setattr(module.comm, "is_main_process", lambda: is_first)
    monkeypatch.setattr(module.comm, "get_rank", lambda: 3)
    path = write(tmp_path, "SEED: 3\n")
    args = Namespace(config_file=path, opts=[*CLIPS, "OUTPUT_DIR", "out"])
    cfg = setup(args)
    assert cfg.SEED == 3 and cfg.is_frozen()
    log = ("out", {"distributed_rank": 3, "name": "video_pose"})
    assert told == ["memory", *[("lock", "out")] * is_first, log, path]
    args.config_file = ""
    assert setup(args).SEED == -1


def test_a_refiner_that_is_not_there_is_named_before_a_training(monkeypatch, tmp_path) -> None:
    """Unless nothing is tested, or poses are not corrected."""
    for name in ("default_setup", "setup_logger"):
        monkeypatch.setattr(module, name, lambda *args, **keys: None)
    options = [*CLIPS, "OUTPUT_DIR", str(tmp_path / "out"), "MODEL.DEVICE", "cpu"]
    options += ["TEST.OVER_TIME.REFINER", str(tmp_path / "none.safetensors")]
    offline = ["TEST.OVER_TIME.MODE", "offline"]
    with pytest.raises(FileNotFoundError, match="no such refiner: .*none.safetensors"):
        setup(Namespace(config_file="", opts=[*options, *offline]))
    assert not (tmp_path / "out").exists()
    for other in ([], [*offline, "DATASETS.TEST", ()]):
        setup(Namespace(config_file="", opts=[*options, *other]))


@pytest.fixture
def folder_of_a_run(tmp_path: Path) -> Iterator[Path]:
    """A folder with a training's configuration and checkpoint."""
    folder = tmp_path / "output"
    folder.mkdir()
    (folder / "config.yaml").write_text("SEED: 77\n")
    (folder / "model_final.pth").write_bytes(b"x")
    yield folder
    unlock_output(str(folder))


def set_up(folder: Path, **named: object) -> None:
    options = [*CLIPS, "OUTPUT_DIR", str(folder), "MODEL.DEVICE", "cpu", "SEED", "5"]
    setup(Namespace(config_file="", opts=options, **named))


def test_an_evaluation_leaves_the_configuration_of_a_training(folder_of_a_run: Path) -> None:
    folder = folder_of_a_run
    set_up(folder, eval_only=True)
    assert (folder / "config.yaml").read_text() == "SEED: 77\n"
    assert "config.yaml stays the training's" in (folder / "log.txt").read_text()
    assert sorted(path.name for path in folder.glob("*config*")) == ["config.yaml"]
    (folder / "model_final.pth").unlink()  # no training's folder: the evaluation's own
    set_up(folder, eval_only=True)
    assert "SEED: 5\n" in (folder / "config.yaml").read_text()


def test_a_run_that_begins_anew_keeps_the_earlier_configuration(folder_of_a_run: Path) -> None:
    """For the folder that the earlier checkpoints go to; also where a first attempt fails."""
    folder = folder_of_a_run
    for _ in range(2):
        set_up(folder, eval_only=False, resume=False)
        assert "SEED: 5\n" in (folder / "config.yaml").read_text()
        assert (folder / "config.earlier.yaml").read_text() == "SEED: 77\n"
    PoseCheckpointer(torch.nn.Linear(1, 1), str(folder)).set_aside()
    moved = folder / "earlier-1"
    assert sorted(path.name for path in moved.iterdir()) == ["config.yaml", "model_final.pth"]
    assert (moved / "config.yaml").read_text() == "SEED: 77\n"
    assert not (folder / "config.earlier.yaml").exists()


def test_a_run_that_goes_on_writes_its_configuration(folder_of_a_run: Path) -> None:
    """That of an attempt to begin anew, which failed before, is no longer an earlier one's."""
    set_up(folder_of_a_run, eval_only=False, resume=False)
    set_up(folder_of_a_run, eval_only=False, resume=True)
    found = {path.name: path.read_text() for path in folder_of_a_run.glob("*config*")}
    assert list(found) == ["config.yaml"] and "SEED: 5\n" in found["config.yaml"]


def test_a_disk_that_is_full_is_named_at_set_up(monkeypatch, tmp_path: Path) -> None:
    def full(cfg: object, args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "lock_output", lambda folder: None)
    monkeypatch.setattr(module, "default_setup", full)
    args = Namespace(config_file="", opts=[*CLIPS, "OUTPUT_DIR", str(tmp_path)])
    with pytest.raises(OSError, match=f"^cannot write {tmp_path}: No space left on device$"):
        setup(args)


def test_options_come_in_pairs() -> None:
    cfg = get_pose_cfg()
    merge_options(cfg, [])
    merge_options(cfg, ("SEED", 1, "OUTPUT_DIR", "x"))
    assert (cfg.SEED, cfg.OUTPUT_DIR) == (1, "x")
    for options in (["SEED"], ["SEED", 1, "OUTPUT_DIR"]):
        with pytest.raises(ValueError) as error:
            merge_options(cfg, options)
        listed = list(map(str, options))
        assert str(error.value) == f"options {listed}: expected KEY VALUE pairs"


def test_where_a_config_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the user's goes before the package's of that name, from whatever folder."""
    monkeypatch.chdir(tmp_path)
    name = "configs/Base-RCNN-FPN-small.yaml"
    own = Path(module.__file__).parents[3] / name
    assert find_config(name) == find_config("Base-RCNN-FPN-small.yaml") == str(own)
    (tmp_path / "configs").mkdir()
    (tmp_path / name).touch()
    assert find_config(name) == name
    assert find_config("video-pose://unipose_lstm_R50_res4/") == find_config(
        "video-pose://unipose_lstm_R50_res4"
    )
    # A wheel has them inside of the package.
    package = tmp_path / "wheel" / "video_pose"
    (package / "engine").mkdir(parents=True)
    (package / "configs").mkdir()
    (package / "configs" / "x.yaml").touch()
    monkeypatch.setattr(module, "__file__", str(package / "engine" / "defaults.py"))
    assert find_config("configs/x.yaml") == str(package / "configs" / "x.yaml")
    with pytest.raises(FileNotFoundError, match="^config not found: configs$"):
        find_config("configs")  # a folder


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (KeyError("Non-existent config key: A"), KeyError, "c: Non-existent config key: A"),
        (KeyError(), KeyError, "c: an unknown key"),
        (AssertionError("Non-existent key: B"), KeyError, "c: Non-existent key: B"),
        (AssertionError("Override list has odd length"), ValueError,
         "c: Override list has odd length"),
        (KeyError("Non-existent config key: SOLVER.MAX_ITERS"), KeyError,
         "c: Non-existent config key: SOLVER.MAX_ITERS; did you mean SOLVER.MAX_ITER?"),
        # Of a key in a wrong place the last part is looked for.
        (KeyError("no key DETECTOR.ROI.ENCODE_OFFSETS"), KeyError,
         "c: no key DETECTOR.ROI.ENCODE_OFFSETS; did you mean MODEL.POSE.HEATMAP.ENCODE_OFFSET?"),
        (AttributeError("no\n  attribute"), ValueError, "c: no attribute"),
        (TypeError("two\nlines"), ValueError, "c: two lines"),
        (ValueError("a"), ValueError, "c: a"),
        (SyntaxError("a"), ValueError, "c: a"),
        (MemoryError("a"), ValueError, "c: a"),
        (RecursionError("a"), ValueError, "c: a value is nested too deeply"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_value_is_one_line(error: Exception, kind: type, said: str) -> None:
    with pytest.raises(kind) as found, module._one_line("c", get_pose_cfg()):
        raise error
    assert type(found.value) is kind and found.value.args == (said,)
    if not isinstance(error, RecursionError):
        assert found.value.__cause__ is error


def test_the_keys_of_a_configuration_have_dots() -> None:
    node = CfgNode({"A": {"B": {"C": 1}, "D": 2}, "E": 3})
    assert list(module._keys(node)) == ["A.B.C", "A.D", "E"]


def test_bases_are_files_beside_the_one_that_names_them(tmp_path: Path, monkeypatch) -> None:
    """One, several (the later ones count), by a path, of the home folder; a chain of them."""
    (tmp_path / "home").mkdir()
    (tmp_path / "sub").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(tmp_path / "home", "SEED: 1\nOUTPUT_DIR: home\n", "base.yaml")
    write(tmp_path, "SEED: 5\n", "other.yaml")
    found = list(module._bases("a/c.yaml", ["~/base.yaml", "../other.yaml", "b.yaml"]))
    assert found == [str(tmp_path / "home/base.yaml"), "a/../other.yaml", "a/b.yaml"]
    assert list(module._bases("c.yaml", "b.yaml")) == ["b.yaml"]
    path = write(tmp_path / "sub", "_BASE_: ../other.yaml\nOUTPUT_DIR: own\n", "c.yaml")
    cfg = get_pose_cfg()
    merge_config_file(cfg, path)
    assert (cfg.SEED, cfg.OUTPUT_DIR) == (5, "own")
    for named, message in (
        ([["x"]], "_BASE_ must be a file's name, found ['x']"),
        ("http://x.org/a.yaml", "_BASE_ http://x.org/a.yaml is on the network: download it first"),
    ):
        with pytest.raises(ValueError) as error:
            list(module._bases("c.yaml", named))
        assert str(error.value) == f"c.yaml: {message}"


def test_bases_that_lead_back_are_named_in_their_order(tmp_path: Path) -> None:
    """Not two of them that have the same base."""
    first = write(tmp_path, "_BASE_: b.yaml\n", "a.yaml")
    second = write(tmp_path, "_BASE_: [c.yaml, a.yaml]\n", "b.yaml")
    write(tmp_path, "SEED: 1\n")
    with pytest.raises(ValueError) as error:
        merge_config_file(get_pose_cfg(), first)
    assert str(error.value) == (
        f"{first}: its _BASE_ leads back to itself: {first} -> {second} -> {first}"
    )
    fine = write(tmp_path, "_BASE_: [c.yaml, d.yaml]\n", "e.yaml")
    write(tmp_path, "_BASE_: c.yaml\n", "d.yaml")
    module._check(fine, ())
    write(tmp_path, "_BASE_: gone.yaml\n", "d.yaml")
    with pytest.raises(FileNotFoundError) as gone:
        module._check(fine, ())
    assert str(gone.value) == (
        f"config not found: {tmp_path}/gone.yaml, named as _BASE_ in {tmp_path}/d.yaml"
    )
    with pytest.raises(FileNotFoundError, match="^config not found: nowhere.yaml$"):
        module._check("nowhere.yaml", ())


def test_as_many_values_as_a_file_stands_for() -> None:
    """Itself and all inside, each as often as an alias names it."""
    part = [1, 2, {"a": 3}]
    assert module._count("text", {}) == module._count(None, {}) == 1
    assert module._count([], {}) == module._count({}, {}) == 1
    assert module._count(part, {}) == 5
    assert module._count({"x": part, "y": [part, part]}, {}) == 1 + 5 + 1 + 10
    circle: list = [1]
    circle.append(circle)
    assert module._count(circle, {}) > module._MOST_VALUES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("# nothing\n", None),
        ("A: 1\nB:\n- {C: 2}\n", {"A": 1, "B": [{"C": 2}]}),
        ("A: &a {C: 2}\nB: *a\n", {"A": {"C": 2}, "B": {"C": 2}}),  # named twice, there once
        ("A: {X: 1}\nB: {X: 2}\n", {"A": {"X": 1}, "B": {"X": 2}}),
        ("A: 1\nB: 2\nA: 3\n", "the key A stands on line 1 and on line 3"),
        ("A:\n  - B\n  - C: 1\n    D: 2\n    C: 3\n", "the key C stands on line 3 and on line 5"),
        ("? [A]\n: 1\n? {B: 1, B: 2}\n: 2\n", "while constructing a mapping"),  # no key of ours
    ],
)
def test_plain_yaml_has_each_key_once(text: str, expected: object) -> None:
    if isinstance(expected, str):
        with pytest.raises(yaml.YAMLError, match=f"^{expected}"):
            module._load_yaml(text)
    else:
        assert module._load_yaml(text) == expected


def test_datasets_that_are_not_there_are_named_with_videos_alone() -> None:
    with pytest.raises(KeyError) as error:
        require_registered(["jhmdb_split1_train", "jhmdb"])
    message = error.value.args[0]
    start = "dataset 'jhmdb' is not registered; video datasets: ['"
    assert message.startswith(start) and "'penn_action_test'" in message
    assert "_frames'" not in message and "coco_2017_val'" not in message
    listed = ast.literal_eval(message.partition("video datasets: ")[2])
    assert listed == sorted(listed)
    require_registered([])


def test_the_line_on_a_warm_up_that_is_too_long(caplog: pytest.LogCaptureFixture) -> None:
    cfg = get_pose_cfg()
    solver = cfg.SOLVER
    solver.MAX_ITER, solver.WARMUP_ITERS, solver.WARMUP_FACTOR, solver.BASE_LR = 25, 100, 0.2, 0.5
    warn_of_warmup(cfg)
    # A quarter of the way from 0.2 to 1: 0.4 of the rate.
    assert caplog.messages == [
        "SOLVER.MAX_ITER 25 is below WARMUP_ITERS 100: the learning rate ends at 0.2 and never "
        "reaches BASE_LR 0.5"
    ]
