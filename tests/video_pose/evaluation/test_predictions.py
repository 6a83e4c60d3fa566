"""A predictions file says by itself how its dataset is scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detectron2.data import MetadataCatalog

from video_pose.evaluation.predictions import (
    TrackPredictions,
    TrackTruth,
    index_tracks,
    prediction_arrays,
    read_predictions,
    scoring_facts,
    write_predictions,
)

JOINTS = ["neck", "head"]


def truth() -> dict[tuple[str, str], TrackTruth]:
    return {
        ("v", "0"): TrackTruth(
            keypoints=np.full((2, 2, 3), 2, np.float32),
            boxes=np.array([[0, 0, 9, 9]] * 2, np.float32),
            labelled=np.ones(2, bool),
            source_video="v",
            action="",
        )
    }


@pytest.mark.parametrize("segment", [None, ("head", "neck")])
def test_facts_of_a_dataset_that_is_registered_nowhere(
    tmp_path: Path, segment: tuple[str, str] | None
) -> None:
    facts = {"pck_protocols": ["bbox", "head"], "pck_min_visibility": 2, "head_segment": segment}
    path = tmp_path / "predictions.npz"
    found = {("v", "0"): TrackPredictions()}
    write_predictions(path, "someone's own", JOINTS, truth(), found, facts)
    assert scoring_facts(read_predictions(path)) == facts


def test_a_file_without_facts_takes_the_registered_ones() -> None:
    stored = prediction_arrays("sub_jhmdb_split1_test", JOINTS, truth(), {})
    metadata = MetadataCatalog.get("sub_jhmdb_split1_test")
    facts = scoring_facts(stored)
    assert facts["pck_protocols"] == metadata.pck_protocols
    assert facts["pck_min_visibility"] == 1 and facts["head_segment"] == ("head", "neck")
    stored["dataset_name"] = np.array("someone's own")
    with pytest.raises(KeyError, match="VIDEO_POSE_PLUGINS"):
        scoring_facts(stored)


@pytest.mark.parametrize("rows", [1, 3])
def test_columns_of_another_length_are_refused(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "predictions.npz"
    stored = prediction_arrays("someone's own", JOINTS, truth(), {("v", "0"): TrackPredictions()})
    count = len(stored["frame_indices"])
    stored["boxes"] = np.zeros((count + rows - 2, 4), np.float32)
    np.savez(path, **stored)
    with pytest.raises(ValueError, match=rf"boxes has the shape .*expected \({count}, 4\)"):
        read_predictions(path)


def test_a_track_that_stands_twice_is_named() -> None:
    track = {
        "video_id": "v", "track_id": "7", "keypoints": np.zeros((1, 2, 3)),
        "boxes": np.zeros((1, 4)), "labelled": np.ones(1),
    }  # fmt: skip
    found = index_tracks("data", [track, {**track, "video_id": "w"}])
    assert list(found) == [("v", "7"), ("w", "7")]
    assert found["w", "7"].source_video == "w" and found["w", "7"].action == ""
    with pytest.raises(ValueError, match="^data: track '7' of video 'v' appears twice$"):
        index_tracks("data", [track, track])
