"""What configurations of stock models take from the datasets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from video_pose.data.frames import register_frames
from video_pose.engine.defaults import complete_cfg, get_pose_cfg
from video_pose.engine.evaluation import build_evaluators
from video_pose.engine.views import default_view, oks_sigmas, view_of


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
        ({"MODEL.RECURRENT_KEYPOINT.HIDDEN_CHANNELS": 0}, "HIDDEN_CHANNELS is 0: must be 1"),
        ({"MODEL.RECURRENT_KEYPOINT.OKS_WEIGHT": 2.0}, "OKS_WEIGHT is 2.0: must be 0 to 1"),
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
