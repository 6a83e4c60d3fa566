"""The sheet of an R-CNN's frames: annotations in training, detections in testing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "Mask-RCNN" / "person_detector_R18_FPN.yaml")


@pytest.fixture(scope="module")
def tool(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("tools/visualize_frames.py")


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
    command = ["--config-file", CONFIG, "--source", source, "--frames", "3", "--output", out]
    tool.main([*command, "--min-score", "0", *options])
    assert capsys.readouterr().out == f"3 frames: {out}\n"
    sheet = cv2.imread(out)
    assert sheet is not None and (sheet == tool.BOX_COLOR).all(-1).any()
