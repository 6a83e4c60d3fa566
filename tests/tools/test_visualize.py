"""Sheets of clips, of an R-CNN's frames (annotations in training, detections in testing), and of
predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances

from video_pose.evaluation.predictions import index_tracks, prediction_arrays

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "Mask-RCNN" / "person_detector_R18_FPN.yaml")


@pytest.fixture(scope="module")
def tool(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("tools/visualize.py")


def test_masks_boxes_and_poses_lie_where_the_fields_say(tool) -> None:
    """A picture of 480 px is drawn as large as it is."""
    mask = torch.zeros(1, 480, 480, dtype=torch.bool)
    mask[0, 200:220, 100:130] = True
    persons = Instances(
        (480, 480),
        pred_boxes=Boxes(torch.tensor([[50.0, 60, 300, 400]])),
        scores=torch.tensor([0.9]),
        pred_masks=mask,
        pred_keypoints=torch.tensor([[[400.0, 50.0, 0.3], [420.0, 450.0, -0.1]]]),
    )
    picture = tool.draw(np.zeros((480, 480, 3), np.uint8), persons, [])
    assert picture[60, 200].tolist() == list(tool.BOX_COLOR)
    assert picture[210, 115].tolist() == [value // 2 for value in tool.MASK_COLOR]
    assert picture[50, 400].any() and not picture[450, 420].any()
    assert not picture[300, 200].any()


def test_small_pictures_are_enlarged_with_all_that_is_on_them(tool) -> None:
    persons = Instances((120, 160), gt_boxes=Boxes(torch.tensor([[10.0, 20, 50, 60]])))
    picture = tool.draw(np.zeros((120, 160, 3), np.uint8), persons, [])
    assert picture.shape == (360, 480, 3) and picture[60, 90].tolist() == list(tool.BOX_COLOR)


@pytest.mark.parametrize("source", ["train", "test"])
def test_a_sheet_of_each_source(tool, datasets, tmp_path, capsys, source) -> None:
    options = [
        "DATASETS.TRAIN", "('synthetic_jhmdb_train_frames', 'lspet_train_frames')",
        "DATASETS.TEST", "('synthetic_jhmdb_test_frames',)", "MODEL.DEVICE", "cpu",
        "DATASETS.TRAIN_REPEAT_FACTOR", "[]", "MODEL.WEIGHTS", "",
    ]  # fmt: skip
    out = str(tmp_path / "sheet.png")
    command = ["frames", "--config-file", CONFIG, "--source", source, "--count", "3"]
    tool.main([*command, "--output", out, "--min-score", "0", *options])
    assert capsys.readouterr().out == f"3 frames: {out}\n"
    sheet = cv2.imread(out)
    assert sheet is not None and (sheet == tool.BOX_COLOR).all(-1).any()


@pytest.mark.parametrize("source", ["train", "test"])
def test_a_sheet_of_clips(tool, datasets, tmp_path, capsys, source) -> None:
    out = str(tmp_path / "clips.png")
    name = f"synthetic_jhmdb_{source}"
    command = ["clips", "--dataset", name, "--source", source, "--count", "2", "--output", out]
    tool.main([*command, "INPUT.CLIP.LENGTH", "3", "TEST.CHUNK_LENGTH", "4"])
    assert capsys.readouterr().out == f"2 clips of {name}: {out}\n"
    sheet = cv2.imread(out)
    # Titles apart, square tiles: two clips of three frames in a row of six, or two rows of four.
    rows, columns = (1, 6) if source == "train" else (2, 4)
    assert sheet is not None and sheet.shape[1] / columns == pytest.approx(262, abs=8)
    assert sheet.shape[0] / rows == pytest.approx(284, abs=12)


def _stored() -> dict[str, np.ndarray]:
    """All labelled frames of the synthetic test videos; the second video's poses are 30 px off."""
    truth = index_tracks("synthetic_jhmdb_test", DatasetCatalog.get("synthetic_jhmdb_test"))
    names = MetadataCatalog.get("synthetic_jhmdb_test").keypoint_names
    stored = prediction_arrays("synthetic_jhmdb_test", names, truth, {})
    stored["predictions"] = stored["ground_truth"].copy()
    late = stored["video_ids"] == np.unique(stored["video_ids"])[1]
    stored["predictions"][late, :, 0] += 30
    return stored


def test_predictions_beside_labels(tool, datasets, tmp_path, capsys) -> None:
    stored = _stored()
    np.savez(tmp_path / "predictions.npz", **stored)
    rows = tool.chosen_rows(stored, 5, "worst")
    assert len(rows) == 2  # one a source video
    assert str(stored["video_ids"][rows[0]]) == np.unique(stored["video_ids"])[1]
    tool.main(["predictions", str(tmp_path), "--order", "worst", "--videos", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"contact sheet: {tmp_path / 'contact_sheet_worst.png'}"
    assert (tmp_path / "overlay.mp4").stat().st_size > 1000
    with pytest.raises(SystemExit, match="visualize predictions: .*none"):
        tool.main(["predictions", str(tmp_path / "none")])
