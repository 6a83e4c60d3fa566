"""The benchmark: its arithmetic by hand, its rows on a tiny model; no figure is asserted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from benchmarking import measuring, people
from benchmarking.networks import clip_flops

from video_pose.inference.frames import Frame
from video_pose.inference.predictor import load_cfg
from video_pose.modeling.recurrent_keypoint_rcnn import PeopleMemory

ROOT = Path(__file__).parents[2]
PEOPLE = str(
    ROOT / "configs/Keypoint-RCNN/recurrent_keypoint_rcnn_R18_FPN_small_sub_jhmdb_split1.yaml"
)
CONFIG = str(ROOT / "configs/LSTM-Pose-Machines/lstm_pm_small_synthetic_jhmdb.yaml")


@pytest.fixture(scope="module")
def tool(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("tools/benchmark.py")


def test_variants_take_turns_in_both_orders() -> None:
    calls: list[str] = []
    works = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    costs = measuring.alternate(works, 3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert set(costs) == {"a", "b"} and costs["a"].wall >= 0
    with pytest.raises(ValueError, match="--rounds 0: at least 1"):
        measuring.alternate(works, 0)


def test_shares_by_hand() -> None:
    """Two threads beside two busy processes on two cores get half; one thread two thirds."""
    assert measuring.fair_share(2, 2, 2) == 2.0
    assert measuring.fair_share(1, 2, 2) == 1.5
    assert measuring.fair_share(2, 2, 4) == 1.0
    assert measuring.Cost(100.0, 150.0).per(5) == (20.0, 30.0)
    assert clip_flops({"encode": 10, "begin": 3, "advance": 2}, 5) == 3 + 5 * 12


def test_busy_processes_end(tool: ModuleType) -> None:
    with measuring.busy_processes(1):
        pass
    assert measuring.convolution_peak(torch.float32, repetitions=1) > 0


def test_rows_of_a_network(tool: ModuleType, tmp_path: Path) -> None:
    arguments = ["--rows", "network", "training", "--config-file", CONFIG, "--backends", "torch"]
    arguments += ["--precisions", "float32", "--frames", "2", "--rounds", "1", "--threads", "1"]
    assert tool.main([*arguments, "--output", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    names = [row["row"].split(", ", 1)[1] for row in rows]
    assert names == ["plain float32", "torch float32", "float32"]
    assert rows[0]["times"] == 1.0 and rows[1]["ms"] > 0 and rows[1]["of peak"].endswith(" %")
    assert "| plain" not in tool.as_table([{"row": "x", "ms": 12.345}])
    assert "12.3" in tool.as_table([{"row": "x", "ms": 12.345}])


def test_rows_of_people_and_of_a_stream(tool: ModuleType, tmp_path: Path) -> None:
    arguments = ["--rows", "people", "stream", "--backends", "torch", "--frames", "2"]
    arguments += ["--precisions", "float32", "--rounds", "1", "--threads", "1"]
    arguments += ["--stream-frames", "60", "--output", str(tmp_path)]
    assert tool.main(arguments) == 0
    rows = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    assert [row["row"] for row in rows] == [
        "1 person, torch", "8 people, torch",
        "stream, detector that remembers, after 6 frames",
        "stream, detector that remembers, after 60 frames",
        "stream, UniPose-LSTM, after 6 frames", "stream, UniPose-LSTM, after 60 frames",
    ]  # fmt: skip
    assert rows[0]["of one"] == "1.00" and all(row["MB"] > 50 for row in rows[2:])


def test_people_come_go_and_are_forgotten() -> None:
    """The boxes of the stream: eight places in two rows; those who left are dropped in time."""
    boxes = people.grid_boxes(8, 320, 240)
    assert boxes[0].tolist() == [0, 0, 80, 120] and boxes[7].tolist() == [240, 120, 320, 240]
    cfg = load_cfg(PEOPLE, ["MODEL.WEIGHTS", "", "INPUT.MIN_SIZE_TEST", 64])
    cfg.MODEL.RECURRENT_KEYPOINT.MAX_MISSED = 12
    model = people.people_model(cfg, "torch")
    kept: list[tuple[int, int]] = []
    remember = type(model.roi_heads).remember

    def watched(features: Any, found: Any, memory: PeopleMemory) -> Any:
        found = remember(model.roi_heads, features, found, memory)
        kept.append((memory.next_id, len(memory.ids)))
        return found

    object.__setattr__(model.roi_heads, "remember", watched)
    people.megabytes_over(cfg, model, 80)
    assert kept[45][0] == 8, "the first eight alone"
    assert kept[-1] == (16, 8), "eight others, and nobody else any more"


def test_persons_of_a_pose_stream_come_and_go() -> None:
    """One person on every third frame, else two; after 50 frames others, who alone are tracked."""
    policy, image = people.ComingAndGoing(64, 32), np.zeros((32, 64, 3), np.uint8)
    seen = []
    for index in (0, 1, 49, 50):
        found = policy.propose(Frame(index, 0.0, image))
        seen.append(([person.track_id for person in found], policy.tracked()))
    assert seen == [([0], {0, 1}), ([0, 1], {0, 1}), ([0, 1], {0, 1}), ([2, 3], {2, 3})]


def test_a_model_without_memory_is_one_line(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rcnn.yaml"
    path.write_text("VERSION: 2\nMODEL:\n  META_ARCHITECTURE: GeneralizedRCNN\n")
    assert tool.main(["--rows", "network", "--configs", str(path)]) == 1
    assert "is no recurrent pose model" in capsys.readouterr().err
    assert tool.main(["--rows", "stream", "--people-config", str(path)]) == 1
    assert "GeneralizedRCNN remembers no people" in capsys.readouterr().err


def test_every_protocol_keeps_its_own_figure(tool: ModuleType) -> None:
    """Protocols have metrics of the same names."""
    results = {
        "keypoints_pck_bbox": {"PCK@0.2": 92.361, "PCK@0.2_low": 89.0, "PCK@0.1": 81.7},
        "keypoints_pck_head": {"PCK@0.5": 49.3, "PCK@0.1": 4.4},
        "keypoints_motion": {"jitter": 1.0},
    }
    assert tool.pck_figures(results) == "bbox 92.36 / head 49.30"
