"""What configurations of stock models take from the datasets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from video_pose.data.clip_mapper import POSE_MAPPER_REGISTRY
from video_pose.data.frames import register_frames
from video_pose.engine import views as module
from video_pose.engine.defaults import complete_cfg, get_pose_cfg
from video_pose.engine.evaluation import build_evaluators
from video_pose.engine.views import (
    FrameModel,
    View,
    check_scoring,
    default_view,
    is_recurrent,
    oks_sigmas,
    view_of,
    write_out_clip_values,
)


@pytest.fixture
def register(register: Callable[..., str]) -> Callable[..., str]:
    """register(name, joint names, **metadata): an empty dataset, removed after the test."""

    def add(name: str, joints: list[str], **metadata: object) -> str:
        return register(name, [], keypoint_names=joints, **metadata)

    return add


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


def test_another_number_of_joints_is_said_to_be_ignored(caplog) -> None:
    for number, said in ((17, False), (15, False), (5, True)):  # 17 is Detectron2's default
        caplog.clear()
        key = "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS"
        cfg = keypoint_cfg("jhmdb_split1_train_frames", **{key: number})
        complete_cfg(cfg)
        assert cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 15
        assert (f"{key} 5 is ignored: it is 15" in caplog.text) is said


def test_a_shared_joint_list_takes_each_width_from_whoever_has_it(register) -> None:
    register("fv_a", ["head", "left_eye"], keypoint_oks_sigmas=[0.5, 0.1])
    register("fv_b", ["tail", "head"], keypoint_oks_sigmas=[0.7, 0.9])
    assert oks_sigmas(["tail", "left_eye", "head"], ["fv_a", "fv_b"]) == [0.7, 0.1, 0.5]
    # COCO's own width of a wrist, from the name alone.
    assert oks_sigmas(["left_wrist"], []) == [0.062]


def test_mirror_pairs_come_from_metadata_and_names(register) -> None:
    register("fv_a", ["head", "lw", "rw"], keypoint_flip_map=[("lw", "rw")])
    joints = ["head", "lw", "rw", "left_hip", "right_hip"]
    cfg = keypoint_cfg("fv_a", **{"MODEL.POSE.JOINTS": joints})
    complete_cfg(cfg)
    assert cfg.MODEL.POSE.FLIP_MAP == [["lw", "rw"], ["left_hip", "right_hip"]]
    with pytest.raises(ValueError, match="left_hip"):
        complete_cfg(keypoint_cfg("fv_a", **{"MODEL.POSE.JOINTS": ["head", "right_hip"]}))


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


@pytest.mark.parametrize("key", ["TEST.FLIP", "TEST.FLIP_STILLS"])
def test_a_mirrored_look_without_sides_is_said(key: str, caplog) -> None:
    """Names without sides tell of none; a training set would have been asked."""
    for joints, said in ((["nose", "hand_1"], True), (["left_hand", "right_hand"], False)):
        caplog.clear()
        keys = {"MODEL.META_ARCHITECTURE": "UniPose", "MODEL.POSE.JOINTS": joints, key: True}
        complete_cfg(keypoint_cfg(**keys))
        text = f"MODEL.POSE.FLIP_MAP is empty: no joint of {joints} changes sides in the mirrored"
        assert (text in caplog.text) is said


def test_a_state_that_is_not_there_cannot_move() -> None:
    for name, message in (("UniPose", "UniPose has no state to move"), ("UniPoseLSTM", "")):
        keys = {"MODEL.META_ARCHITECTURE": name, "MODEL.POSE.ALIGN_STATE": True}
        cfg = keypoint_cfg("jhmdb_split1_train", **keys)
        if message:
            with pytest.raises(ValueError, match=message):
                complete_cfg(cfg)
        else:
            complete_cfg(cfg)


RECURRENT = {"MODEL.META_ARCHITECTURE": "RecurrentKeypointRCNN"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"INPUT.VIEW": "videos"}, "INPUT.VIEW 'videos'"),
        ({"TEST.EVALUATORS": ("pck", "ap")}, r"TEST.EVALUATORS 'ap': choose from"),
        ({"TEST.KEYPOINT_OKS_SIGMAS": [0.1, 0.1]}, "has 2 values for 15 joints"),
        ({"MODEL.POSE.ALIGN_STATE": True}, "GeneralizedRCNN has no states of crops"),
        ({"MODEL.POSE.ENCODER": "freeze"}, "MODEL.POSE.ENCODER: .*BACKBONE.FREEZE_AT freezes"),
        ({"TEST.FLIP": True}, "TEST.FLIP: GeneralizedRCNN takes no crops; .*has TEST.AUG.FLIP"),
        ({"TEST.SCALES": (0.8, 1.0)}, "TEST.SCALES: .*no crops; .* and TEST.AUG.MIN_SIZES"),
        (
            {**RECURRENT, "TEST.OVER_TIME.MODE": "offline"},
            "TEST.OVER_TIME.MODE: RecurrentKeypointRCNN is evaluated frame by frame; .*--offline",
        ),
        ({"INPUT.VIEW": "frame_clips"}, "GeneralizedRCNN remembers nobody"),
        (
            {"INPUT.VIEW": "frames", "MODEL.META_ARCHITECTURE": "RecurrentKeypointRCNN"},
            "INPUT.VIEW is 'frames': RecurrentKeypointRCNN takes \"frame_clips\"",
        ),
        (
            {**RECURRENT, "TEST.AUG.ENABLED": True},
            "TEST.AUG.ENABLED: test scales and flips would mix people's memories",
        ),
        (
            {**RECURRENT, "INPUT.FRAMES.MOSAIC_PROB": 0.1},
            "INPUT.FRAMES.MOSAIC_PROB: a clip's frames are not composed",
        ),
        (
            {**RECURRENT, "INPUT.FRAMES.CROWDS": "ignore"},
            "INPUT.FRAMES.CROWDS 'ignore': a region that is nobody has no memory; take 'drop'",
        ),
        ({"MODEL.POSE.ENCODER_LR_FACTOR": 0.1}, "ENCODER_LR_FACTOR: GeneralizedRCNN has no such"),
        ({"INPUT.AUG.FLIP_PROB": 0.0}, "INPUT.AUG.FLIP_PROB: .*INPUT.RANDOM_FLIP change whole"),
        ({"INPUT.CROP_SIZE": (64, 64)}, "INPUT.CROP_SIZE: .*INPUT.MIN_SIZE_TRAIN"),
        ({"INPUT.CLIP.LENGTH": 2}, "INPUT.CLIP.LENGTH: GeneralizedRCNN takes single frames"),
        (
            {"MODEL.RECURRENT_KEYPOINT.TRAIN": "head"},
            "RECURRENT_KEYPOINT.TRAIN: .*remembers nobody",
        ),
        ({"TEST.RESET_EVERY": 2}, "TEST.RESET_EVERY: GeneralizedRCNN remembers nobody"),
        ({"TEST.FLIP_STILLS": True}, "TEST.FLIP_STILLS: .*TEST.AUG.FLIP"),
        ({**RECURRENT, "INPUT.AUG.ROTATION": 0.0}, "INPUT.AUG.ROTATION: Recurrent.*no crops"),
        ({"MODEL.RECURRENT_KEYPOINT.HIDDEN_CHANNELS": 0}, "HIDDEN_CHANNELS is 0: must be 1"),
        ({"MODEL.RECURRENT_KEYPOINT.OKS_WEIGHT": 2.0}, "OKS_WEIGHT is 2.0: must be 0 to 1"),
    ],
)
def test_impossible_keys_are_refused(keys, message) -> None:
    with pytest.raises(ValueError, match=message):
        complete_cfg(keypoint_cfg("jhmdb_split1_train_frames", **keys))


@pytest.mark.parametrize(
    "keys",
    [
        {"VIS_PERIOD": 20, "INPUT.CROP.ENABLED": True, "INPUT.RANDOM_FLIP": "none"},
        {**RECURRENT, "MODEL.POSE.ENCODER_LR_FACTOR": 0.1, "INPUT.CLIP.LENGTH": 2},
        {**RECURRENT, "MODEL.RECURRENT_KEYPOINT.TRAIN": "head", "TEST.RESET_EVERY": 2},
    ],
)
def test_keys_that_have_an_effect_are_not_refused(keys) -> None:
    complete_cfg(keypoint_cfg("jhmdb_split1_train_frames", **keys))


@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("INPUT.RANDOM_FLIP", "none", "INPUT.AUG.FLIP_PROB mirrors them"),
        ("INPUT.FRAMES.STRIDE", 4, "INPUT.CLIP and INPUT.AUG are theirs"),
        ("TEST.AUG.ENABLED", True, "TEST.FLIP and TEST.SCALES"),
        ("MODEL.RECURRENT_KEYPOINT.TRAIN", "head", "these are RecurrentKeypointRCNN's"),
    ],
)
def test_keys_of_frames_are_refused_for_clips(key: str, value: object, instead: str) -> None:
    keys = {"MODEL.META_ARCHITECTURE": "UniPoseLSTM"}
    complete_cfg(keypoint_cfg("jhmdb_split1_train", **keys))
    with pytest.raises(ValueError, match=rf"^{key}: UniPoseLSTM .*{instead}"):
        complete_cfg(keypoint_cfg("jhmdb_split1_train", **keys, **{key: value}))


@pytest.mark.parametrize(
    ("model", "dataset", "key", "value", "instead"),
    [
        ("UniPoseLSTM", "jhmdb_split1_train", "VIS_PERIOD", 20, "tools/visualize.py"),
        ("UniPoseLSTM", "jhmdb_split1_train", "INPUT.CROP.ENABLED", True, "INPUT.AUG.SCALE_RANGE"),
        ("UniPoseLSTM", "jhmdb_split1_train", "INPUT.MIN_SIZE_TRAIN", (320,), "INPUT.CROP_SIZE is"),
        ("UniPoseLSTM", "jhmdb_split1_train", "INPUT.MIN_SIZE_TEST", 320, "INPUT.CROP_SIZE is"),
        ("RecurrentKeypointRCNN", "jhmdb_split1_train_frames", "VIS_PERIOD", 1, "visualize.py"),
    ],
)
def test_keys_that_base_files_of_detectron2_set_are_said_to_be_ignored(
    model: str, dataset: str, key: str, value: object, instead: str, caplog
) -> None:
    keys = {**RECURRENT, "MODEL.META_ARCHITECTURE": model}
    complete_cfg(keypoint_cfg(dataset, **keys))
    assert not caplog.text
    complete_cfg(keypoint_cfg(dataset, **keys, **{key: value}))
    assert f"{key} is ignored: {model} " in caplog.text and instead in caplog.text


def test_widths_of_clips_are_as_many_as_joints() -> None:
    keys = {"MODEL.META_ARCHITECTURE": "UniPose", "TEST.KEYPOINT_OKS_SIGMAS": [0.1] * 15}
    complete_cfg(keypoint_cfg("jhmdb_split1_train", **keys))
    keys["TEST.KEYPOINT_OKS_SIGMAS"] = [0.1]
    with pytest.raises(ValueError, match="TEST.KEYPOINT_OKS_SIGMAS has 1 values for 15 joints"):
        complete_cfg(keypoint_cfg("jhmdb_split1_train", **keys))


def test_without_joints_there_is_a_detector_but_no_keypoints(register) -> None:
    register("fv_plain", [])
    with pytest.raises(ValueError, match="MODEL.POSE.JOINTS is empty"):
        complete_cfg(keypoint_cfg("fv_plain"))
    complete_cfg(keypoint_cfg("fv_plain", **{"MODEL.KEYPOINT_ON": False}))


def test_evaluators_that_are_not_named_are_not_built(tmp_path) -> None:
    cfg = keypoint_cfg("jhmdb_split1_train_frames")
    complete_cfg(cfg)
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.TEST.EVALUATORS = ()
    assert build_evaluators(cfg, "jhmdb_split1_train_frames") == []


def test_a_frames_view_of_a_users_videos(register) -> None:
    register("fv_video", ["nose"], keypoint_flip_map=[], keypoint_oks_sigmas=[0.026])
    name = register_frames("fv_video")
    cfg = keypoint_cfg(name)
    complete_cfg(cfg)
    assert cfg.TEST.KEYPOINT_OKS_SIGMAS == [0.026]
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_each_view_names_its_side_of_a_dataset(register) -> None:
    cfg = keypoint_cfg("jhmdb_split1_train_frames")
    assert view_of(cfg).dataset_name("jhmdb_split1_test") == "jhmdb_split1_test_frames"
    register("fv_alone", ["nose"])
    assert view_of(cfg).dataset_name("fv_alone") == "fv_alone"
    clips = keypoint_cfg("jhmdb_split1_train", **{"MODEL.META_ARCHITECTURE": "UniPose"})
    assert view_of(clips).dataset_name("jhmdb_split1_test") == "jhmdb_split1_test"
    assert view_of(clips).needs_joints(clips)


def test_a_clip_model_has_its_values_written_out() -> None:
    keys = {"MODEL.META_ARCHITECTURE": "UniPoseLSTM", "INPUT.MAPPER": "BBCPoseClipMapper"}
    cfg = keypoint_cfg("bbc_pose_train", **keys)
    cfg.DATASETS.TEST = ("bbc_pose_test",)
    complete_cfg(cfg)
    assert (cfg.INPUT.REGION, cfg.INPUT.REGION_PER, cfg.INPUT.SCALE_MODE) == (
        "box", "clip", "region",
    )  # fmt: skip
    assert cfg.INPUT.REGION_PADDING == 1.0 and cfg.INPUT.AUG.ROTATION == 20.0
    assert tuple(cfg.INPUT.AUG.SCALE_RANGE) == (0.8, 1.2)
    stride = cfg.MODEL.POSE.HEATMAP.STRIDE
    assert cfg.MODEL.POSE.HEATMAP.ENCODE_OFFSET == (stride - 1) / 2
    assert cfg.MODEL.POSE.HEATMAP.DECODE_OFFSET == (stride - 1) / 2
    assert tuple(cfg.TEST.PCK.PROTOCOLS) == ("pixels",)
    given = keypoint_cfg(
        "bbc_pose_train", **keys, **{"INPUT.AUG.ROTATION": 0.0, "INPUT.REGION_PADDING": 2.0},
        **{"MODEL.POSE.HEATMAP.ENCODE_OFFSET": 0.0, "INPUT.AUG.SCALE_RANGE": (1.0, 1.1)},
    )  # fmt: skip
    given.DATASETS.TEST = ("bbc_pose_test", "jhmdb_split1_test")
    given.MODEL.POSE.JOINTS = ["head", "right_wrist", "left_wrist"]
    complete_cfg(given)
    assert given.INPUT.AUG.ROTATION == 0 and given.MODEL.POSE.HEATMAP.ENCODE_OFFSET == 0
    assert tuple(given.INPUT.AUG.SCALE_RANGE) == (1.0, 1.1) and given.INPUT.REGION_PADDING == 2
    assert not given.TEST.PCK.PROTOCOLS  # two datasets with protocols of their own


def test_joints_and_protocols_that_a_test_set_cannot_score(register) -> None:
    keys = {"MODEL.META_ARCHITECTURE": "UniPose", "TEST.PCK.PROTOCOLS": ("head",)}
    cfg = keypoint_cfg("penn_action_train", **keys)
    cfg.DATASETS.TEST = ("penn_action_test",)
    with pytest.raises(ValueError, match="protocol 'head' needs a head segment"):
        complete_cfg(cfg)
    other = keypoint_cfg("penn_action_train", **{"MODEL.META_ARCHITECTURE": "UniPose"})
    other.MODEL.POSE.JOINTS = ["right_knee", "left_knee"]
    other.DATASETS.TEST = ("bbc_pose_test",)
    with pytest.raises(ValueError, match="MODEL.POSE.JOINTS and dataset 'bbc_pose_test'"):
        complete_cfg(other)


@pytest.mark.parametrize(
    ("train", "enabled", "flip", "mirrors"),
    [
        ("horizontal", False, False, True),
        ("none", False, True, False),
        ("none", True, False, False),
        ("none", True, True, True),
        ("vertical", False, False, False),
    ],
)
def test_mirror_pairs_are_wanted_where_anything_is_mirrored(
    register, train: str, enabled: bool, flip: bool, mirrors: bool
) -> None:
    register("fv_a", ["lw", "rw"])
    keys = {"INPUT.RANDOM_FLIP": train, "TEST.AUG.ENABLED": enabled, "TEST.AUG.FLIP": flip}
    cfg = keypoint_cfg("fv_a", **keys)
    if mirrors:
        with pytest.raises(ValueError, match="MODEL.POSE.FLIP_MAP"):
            complete_cfg(cfg)
    else:
        complete_cfg(cfg)


def test_widths_that_are_given_stay_if_there_is_one_for_each_joint(register) -> None:
    register("fv_a", ["nose", "tail"], keypoint_flip_map=[], keypoint_oks_sigmas=[0.1, 0.2])
    cfg = keypoint_cfg("fv_a", **{"TEST.KEYPOINT_OKS_SIGMAS": [0.3, 0.4]})
    complete_cfg(cfg)
    assert cfg.TEST.KEYPOINT_OKS_SIGMAS == [0.3, 0.4]
    assert cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 2
    cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.3] * 3
    with pytest.raises(ValueError) as error:
        complete_cfg(cfg)
    assert str(error.value) == (
        "TEST.KEYPOINT_OKS_SIGMAS has 3 values for 2 joints ['nose', 'tail']; leave it empty to "
        "take them from the datasets"
    )


def test_views_follow_from_the_kind_of_model() -> None:
    """A detector may be made by a function, as somebody else's."""

    @META_ARCH_REGISTRY.register()
    def made_by_a_function(cfg: object) -> nn.Module:
        return nn.Identity()

    try:
        for name, view in (
            ("made_by_a_function", "frames"),
            ("GeneralizedRCNN", "frames"),
            ("RecurrentKeypointRCNN", "frame_clips"),
            ("UniPose", "clips"),
        ):
            cfg = keypoint_cfg(**{"MODEL.META_ARCHITECTURE": name})
            assert default_view(cfg) == view and is_recurrent(cfg) is (view == "clips")
    finally:
        del META_ARCH_REGISTRY._obj_map["made_by_a_function"]
    cfg = keypoint_cfg(**{"MODEL.META_ARCHITECTURE": "UniPoze"})
    for ask in (default_view, is_recurrent, view_of):
        with pytest.raises(KeyError) as error:
            ask(cfg)
        message = error.value.args[0]
        assert message.startswith("MODEL.META_ARCHITECTURE is 'UniPoze': registered are [")
        assert "'GeneralizedRCNN', " in message and "'UniPose', 'UniPoseLSTM'" in message


def test_what_each_kind_of_model_needs() -> None:
    for keypoints in (True, False):
        cfg = keypoint_cfg(**{"MODEL.KEYPOINT_ON": keypoints})
        assert view_of(cfg).needs_joints(cfg) is keypoints
        cfg.MODEL.META_ARCHITECTURE = "UniPose"
        assert view_of(cfg).needs_joints(cfg)
    cfg.INPUT.VIEW = "frames"  # what is given counts
    assert view_of(cfg).dataset_name("jhmdb_split1_test") == "jhmdb_split1_test_frames"
    view = View()
    assert view.needs_joints(cfg) and view.dataset_name("x") == "x"
    model = nn.Linear(1, 1)
    assert view.tested(cfg, model) is model
    assert view.complete(cfg) is view.prepare(model) is None
    for build in (lambda: view.build_train_loader(cfg, 0), lambda: view.build_test_loader(cfg, "")):
        with pytest.raises(NotImplementedError):
            build()


@pytest.mark.parametrize("mapper", ["JHMDBClipMapper", "PennActionClipMapper"])
@pytest.mark.parametrize("given", [True, False])
def test_every_value_of_clips_is_the_given_one_or_the_mappers(mapper: str, given: bool) -> None:
    defaults = POSE_MAPPER_REGISTRY.get(mapper).defaults
    cfg = keypoint_cfg(**{"INPUT.MAPPER": mapper, "MODEL.POSE.HEATMAP.STRIDE": 4})
    inp, heatmap = cfg.INPUT, cfg.MODEL.POSE.HEATMAP
    if given:
        inp.REGION, inp.REGION_PADDING, inp.REGION_PER = "frame", 1.5, "frame"
        inp.SCALE_MODE, inp.AUG.SCALE_RANGE, inp.AUG.ROTATION = "absolute", (0.9, 1.1), 0.0
        heatmap.ENCODE_OFFSET, heatmap.DECODE_OFFSET = 0.0, 0.5
        cfg.TEST.PCK.PROTOCOLS = ("pixels",)
    write_out_clip_values(cfg)
    mode = defaults.scale_mode
    assert (inp.REGION, inp.REGION_PADDING, inp.REGION_PER, inp.SCALE_MODE) == (
        ("frame", 1.5, "frame", "absolute") if given
        else (defaults.region, defaults.padding, defaults.per, mode)
    )  # fmt: skip
    assert tuple(inp.AUG.SCALE_RANGE) == ((0.9, 1.1) if given else defaults.scale_range[mode])
    assert inp.AUG.ROTATION == (0.0 if given else defaults.rotation[mode])
    offsets = (heatmap.ENCODE_OFFSET, heatmap.DECODE_OFFSET)
    assert offsets == ((0.0, 0.5) if given else (1.5, 1.5))
    assert tuple(cfg.TEST.PCK.PROTOCOLS) == (("pixels",) if given else ())
    cfg.INPUT.SCALE_MODE = "relative"
    with pytest.raises(ValueError) as scale:
        write_out_clip_values(cfg)
    modes = sorted(defaults.rotation)
    assert str(scale.value) == f"INPUT.SCALE_MODE 'relative': choose from {modes}"
    cfg.INPUT.MAPPER = "JHMDB"
    with pytest.raises(KeyError, match=r"INPUT.MAPPER is 'JHMDB': registered are .*'JHMDBClipM"):
        write_out_clip_values(cfg)


@pytest.mark.parametrize(
    ("tests", "written"),
    [
        (["penn_action_test"], True),
        (["jhmdb_split1_test", "jhmdb_split2_test"], True),  # the same ones
        (["penn_action_test", "bbc_pose_test"], False),
        (["penn_action_test", "fv_pictures"], True),  # pictures have none of their own
        ([], False),
    ],
)
def test_protocols_are_written_out_where_all_tests_have_the_same(
    register, tests: list[str], written: bool
) -> None:
    register("fv_pictures", ["nose"])
    cfg = keypoint_cfg()
    cfg.DATASETS.TEST = tuple(tests)
    write_out_clip_values(cfg)
    own = tuple(MetadataCatalog.get(tests[0]).pck_protocols) if written else ()
    assert tuple(cfg.TEST.PCK.PROTOCOLS) == own


def test_protocols_and_joints_are_held_against_each_test_set(register, monkeypatch) -> None:
    told: list[tuple] = []
    monkeypatch.setattr(module, "PCKAccumulator", lambda *args: told.append(args))
    facts = {"joint_groups": {"a": ["nose"]}, "derived_joints": {}, "pck_min_visibility": 2,
             "head_segment": ("nose", "neck"), "pck_protocols": ("bbox", "torso")}  # fmt: skip
    register("fv_a", ["nose", "neck"], **facts)
    cfg = keypoint_cfg(**{"MODEL.POSE.JOINTS": ["neck", "nose"]})
    check_scoring(cfg, "fv_a")
    common = (["nose", "neck"], {"a": ["nose"]}, 2, ("nose", "neck"))
    assert told == [("bbox", *common), ("torso", *common)]
    told.clear()
    cfg.TEST.PCK.PROTOCOLS = ("pixels",)
    check_scoring(cfg, "fv_a")
    assert told == [("pixels", *common)]


def test_sizes_that_a_protocol_needs_are_missed_before_training(register, monkeypatch) -> None:
    facts = {"joint_groups": {}, "derived_joints": {}, "pck_min_visibility": 1,
             "head_segment": None, "pck_protocols": ("bbox", "mpii_head")}  # fmt: skip
    register("fv_heads", ["nose"], **facts)
    cfg = keypoint_cfg(**{"MODEL.POSE.JOINTS": ["nose"]})
    monkeypatch.setitem(DatasetCatalog.data, "fv_heads", lambda: [{}])
    with pytest.raises(ValueError, match="'mpii_head' needs the people's head_sizes"):
        check_scoring(cfg, "fv_heads")
    monkeypatch.setitem(DatasetCatalog.data, "fv_heads", lambda: [{}, {"head_sizes": [9.0]}])
    check_scoring(cfg, "fv_heads")


@pytest.mark.parametrize("enabled", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_stock_model_as_it_is_tested(monkeypatch, enabled: bool, training: bool) -> None:
    """In the precision that is asked for, with augmentation or without, and in the model's mode."""
    seen: list[tuple] = []

    class Model(nn.Module):
        def forward(self, batch: list) -> str:
            seen.append((self.training, torch.is_autocast_enabled("cpu")))
            return "found"

    class Augmented(Model):
        def __init__(self, cfg: object, model: nn.Module) -> None:
            super().__init__()
            self.inner = model

    monkeypatch.setattr(module, "KeypointRCNNWithTTA", Augmented)
    for precision in ("float32", "bfloat16"):
        cfg = keypoint_cfg(**{"TEST.AUG.ENABLED": enabled, "TEST.PRECISION": precision})
        model = Model().train(training)
        tested = FrameModel(cfg, model)
        assert tested.training is training and tested([]) == "found"
        assert (tested.model is model) is not enabled
        assert seen.pop() == (training, precision == "bfloat16")


def test_a_detector_is_made_fast_where_its_weights_stay(monkeypatch) -> None:
    told: list[nn.Module] = []
    monkeypatch.setattr(module, "accelerate", lambda cfg, model: told.append(model))
    cfg, model = keypoint_cfg(), nn.Linear(1, 1)
    for options, fast in (({}, True), ({"changes": True}, False), ({"changes": False}, True)):
        told.clear()
        assert isinstance(view_of(cfg).tested(cfg, model, **options), FrameModel)
        assert told == [model] * fast
    prepared: list[nn.Module] = []
    monkeypatch.setattr(module, "prepare_regions", prepared.append)
    view_of(cfg).prepare(model)
    assert prepared == [model]


@pytest.mark.parametrize(
    ("view", "kind"), [("clips", "pose"), ("frames", "frames"), ("frame_clips", "frame_clips")]
)
def test_each_view_has_loaders_of_its_own(monkeypatch, view: str, kind: str) -> None:
    for part in ("train", "test"):
        monkeypatch.setattr(
            module, f"build_{kind}_{part}_loader", lambda cfg, what, part=part: (part, what)
        )
    cfg = keypoint_cfg(**{"INPUT.VIEW": view})
    assert view_of(cfg).build_train_loader(cfg, 7) == ("train", 7)
    assert view_of(cfg).build_test_loader(cfg, "x") == ("test", "x")


def test_messages_of_views_name_the_key_and_what_to_do() -> None:
    clips = {"MODEL.META_ARCHITECTURE": "UniPose", "INPUT.VIEW": "clips"}
    recurrent = {"MODEL.META_ARCHITECTURE": "RecurrentKeypointRCNN"}
    for dataset, keys, message in (
        (
            "jhmdb_split1_train_frames", clips,
            "UniPose takes clips: name 'jhmdb_split1_train' instead of "
            "'jhmdb_split1_train_frames'",
        ),
        (
            "jhmdb_split1_train", {},
            "GeneralizedRCNN takes whole frames: name 'jhmdb_split1_train_frames' instead of "
            "'jhmdb_split1_train'",
        ),
        (
            "jhmdb_split1_train_frames", {"MODEL.POSE.ALIGN_STATE": True},
            "MODEL.POSE.ALIGN_STATE: GeneralizedRCNN has no states of crops; "
            "MODEL.RECURRENT_KEYPOINT.ALIGN is that of RecurrentKeypointRCNN",
        ),
        (
            "jhmdb_split1_train_frames", {"INPUT.VIEW": "frame_clips"},
            'INPUT.VIEW is "frame_clips": GeneralizedRCNN remembers nobody; leave the key empty, '
            'or name MODEL.META_ARCHITECTURE "RecurrentKeypointRCNN"',
        ),
        (
            "jhmdb_split1_train_frames", {**recurrent, "INPUT.VIEW": "frames"},
            "INPUT.VIEW is 'frames': RecurrentKeypointRCNN takes \"frame_clips\", which it has "
            "where the key is empty",
        ),
    ):  # fmt: skip
        for place in ("TRAIN", "TEST"):
            cfg = keypoint_cfg("jhmdb_split1_train" if keys == clips else dataset, **keys)
            if place == "TRAIN":
                cfg.DATASETS.TRAIN = (dataset,)
            elif "instead of" in message:
                own = "jhmdb_split1_train" if keys == clips else "jhmdb_split1_train_frames"
                cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (own,), (own, dataset)
            with pytest.raises(ValueError) as error:
                complete_cfg(cfg)
            assert str(error.value) == message
    fine = keypoint_cfg(
        "jhmdb_split1_train_frames", **recurrent, **{"INPUT.FRAMES.MOSAIC_PROB": 0.0}
    )
    complete_cfg(fine)
    assert fine.INPUT.VIEW == "frame_clips"
