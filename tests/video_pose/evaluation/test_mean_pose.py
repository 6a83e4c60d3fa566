"""The mean-pose baseline: a median pose of the training split, placed in boxes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from video_pose.evaluation.mean_pose import (
    mean_pose_of,
    median_pose,
    place_pose,
    training_split,
)
from video_pose.evaluation.pck import PCKAccumulator

SHARED_DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def _track(shares: list[tuple[float, float, int]], box: tuple[float, ...]) -> dict:
    x1, y1, x2, y2 = box
    keypoints = [[[x1 + x * (x2 - x1), y1 + y * (y2 - y1), v]] for x, y, v in shares]
    count = len(shares)
    return {
        "keypoints": np.array(keypoints, np.float32),
        "boxes": np.array([box] * count, np.float32),
        "labelled": np.ones(count, bool),
    }


def test_median_is_relative_to_the_box() -> None:
    one = _track([(0.25, 0.5, 2), (0.5, 0.5, 2)], (10, 20, 30, 100))
    two = _track([(1.0, 0.75, 2)], (100, 0, 140, 40))
    assert median_pose([one, two], 1).tolist() == [[0.5, 0.5]]  # of .25 .5 1 and .5 .5 .75


def test_unlabelled_hidden_and_boxless_frames_take_no_part() -> None:
    track = _track([(0.5, 0.5, 2), (0.9, 0.9, 1), (0.9, 0.9, 0), (0.9, 0.9, 2)], (0, 0, 10, 10))
    track["labelled"][3] = False
    boxless = _track([(0.9, 0.9, 2)] * 5, (7, 7, 7, 7))
    assert median_pose([track, boxless], 2).tolist() == [[0.5, 0.5]]
    np.testing.assert_allclose(median_pose([track], 1), [[0.7, 0.7]])
    assert np.isnan(median_pose([boxless], 1)).all()


def test_each_joint_has_a_median_of_its_own() -> None:
    """A joint that nobody labelled is unknown; boxes of half a pixel are boxes, lines are not."""
    keypoints = np.zeros((4, 3, 3))
    keypoints[:, 0] = [[10.25, 20.5, 2], [11, 21, 2], [10, 20, 2], [3, 3, 2]]
    keypoints[:2, 1] = [[10.5, 20, 2], [10.5, 20, 1]]
    boxes = np.array([[10, 20, 10.5, 20.5], [10, 20, 12, 24], [10, 20, 11, 21], [3, 3, 9, 3]])
    track = {"keypoints": keypoints, "boxes": boxes, "labelled": np.ones(4, bool)}
    np.testing.assert_allclose(median_pose([track], 1), [[0.5, 0.25], [0.625, 0], [np.nan, np.nan]])
    np.testing.assert_allclose(median_pose([track], 2)[1], [1, 0])


def test_place_pose() -> None:
    placed = place_pose(np.array([[0.5, 0.25]]), np.array([[10, 20, 30, 100], [0, 0, 4, 4]]))
    assert placed.tolist() == [[[20, 40]], [[2, 1]]]


def test_training_split_is_named_or_guessed(register: Callable[..., str]) -> None:
    register("baseline_a_train", [])
    register("baseline_a_test", [])
    register("baseline_b_test", [], train_dataset="baseline_a_train")
    register("baseline_c_val", [])
    assert training_split("baseline_a_test") == "baseline_a_train"
    assert training_split("baseline_b_test") == "baseline_a_train"
    assert training_split("baseline_c_val") == "baseline_c_val"


def test_missing_training_split_is_said(
    register: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    def absent() -> list[dict]:
        raise FileNotFoundError("no such folder")

    tracks = [_track([(0.5, 0.5, 2)], (0, 0, 10, 10))]
    register("baseline_d_test", tracks, keypoint_names=["head"])
    DatasetCatalog.register("baseline_d_train", absent)
    try:
        with caplog.at_level(logging.WARNING):
            pose, source = mean_pose_of("baseline_d_test", 1)
    finally:
        DatasetCatalog.remove("baseline_d_train")
    assert source == "baseline_d_test" and pose.tolist() == [[0.5, 0.5]]
    message = (
        "mean pose: baseline_d_train cannot be used (no such folder); taking it from "
        "baseline_d_test itself"
    )
    assert caplog.messages == [message]


def test_a_split_of_other_joints_is_no_source(
    register: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    own, other = ([_track([(at, at, 2)], (0, 0, 10, 10))] for at in (0.5, 0.25))
    register("baseline_e_train", other, keypoint_names=["tail"])
    register("baseline_e_val", own, keypoint_names=["head"])
    pose, source = mean_pose_of("baseline_e_val", 1)
    assert source == "baseline_e_val" and pose.tolist() == [[0.5, 0.5]]
    assert (
        "baseline_e_train cannot be used (joints of 'baseline_e_train' are ['tail'])"
        in (caplog.messages[0])
    )
    MetadataCatalog.get("baseline_e_val").set(train_dataset="baseline_f_train")
    register("baseline_f_train", other, keypoint_names=["head"])
    pose, source = mean_pose_of("baseline_e_val", 1)
    assert source == "baseline_f_train" and pose.tolist() == [[0.25, 0.25]]


def test_a_dataset_that_cannot_be_read_is_no_mean_pose(register: Callable[..., str]) -> None:
    register("baseline_g_test", [])
    with pytest.raises(ValueError, match="^the mean pose needs at least one track, got none$"):
        mean_pose_of("baseline_g_test", 1)

    def absent() -> list[dict]:
        raise FileNotFoundError("no such folder")

    DatasetCatalog.register("baseline_h", absent)
    try:
        with pytest.raises(FileNotFoundError, match="no such folder"):
            mean_pose_of("baseline_h", 1)
    finally:
        DatasetCatalog.remove("baseline_h")


@pytest.mark.skipif(
    not (SHARED_DATA / "jhmdb").is_dir(), reason=f"needs the development clips in {SHARED_DATA}"
)
def test_baseline_on_real_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    # Measured apart from this code: docs/PROTOCOLS.md, "Mean-pose baseline".
    import video_pose  # noqa: F401, registers the datasets

    monkeypatch.setenv("DETECTRON2_DATASETS", os.fspath(SHARED_DATA))
    name = "sub_jhmdb_split1_test"
    metadata = MetadataCatalog.get(name)
    pose, source = mean_pose_of(name, metadata.pck_min_visibility)
    assert source == "sub_jhmdb_split1_train"
    expected = {"bbox": {"PCK@0.2": 76.2, "PCK@0.1": 39.7}, "torso": {"PCK@0.2": 21.9}}
    for protocol, figures in expected.items():
        accumulator = PCKAccumulator(protocol, metadata.keypoint_names, metadata.joint_groups)
        for track in DatasetCatalog.get(name):
            placed = place_pose(pose, track["boxes"])
            accumulator.add(track["video_id"], placed, track["keypoints"], track["boxes"])
        metrics = accumulator.metrics()
        assert {key: round(metrics[key], 1) for key in figures} == figures
