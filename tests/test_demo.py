"""The demo and the Python API, from the command line to the files, with random weights."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import av
import cv2
import numpy as np
import pytest
import torch
import yaml
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from torch import nn

from video_pose.data.synthetic.scene import Scene, render_scene
from video_pose.inference import PredictorSettings, VideoPosePredictor
from video_pose.inference.video_source import VideoSource
from video_pose.video_io.writing import VideoWriter

ROOT = Path(__file__).parents[1]
CONFIG = str(ROOT / "configs/quickstart/unipose_lstm_R18_synthetic_jhmdb.yaml")
WHOLE_FRAME = ["--config-file", CONFIG, "--region", "frame"]
FRAMES = 24


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "demo"))
    import demo

    return demo


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Three people who cross."""
    return render_scene(11, people=3, frames=FRAMES, size=(160, 120), occluders="none")


@pytest.fixture(scope="module")
def video(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("demo") / "crossing.mp4"
    with VideoWriter(path, 25) as writer:
        for i, image in enumerate(scene.frames):
            writer.write(image, i / 25)
    return str(path)


class SceneDetector(nn.Module):
    """Stands in for a trained detector: the scene's own boxes, but for those that another one hides
    (overlap above .6), as non-maximum suppression would leave them."""

    boxes: list[np.ndarray] = []
    calls = 0

    def __init__(self, cfg: object) -> None:
        super().__init__()
        SceneDetector.calls = 0

    def forward(self, batch: list[dict]) -> list[dict]:
        boxes = torch.from_numpy(self.boxes[SceneDetector.calls]).float()
        SceneDetector.calls += 1
        found = Instances((batch[0]["height"], batch[0]["width"]))
        found.pred_boxes = Boxes(boxes)
        found.pred_classes = torch.zeros(len(boxes), dtype=torch.long)
        found.scores = torch.full((len(boxes),), 0.9)
        return [{"instances": found}]


def visible_boxes(scene: Scene, n: int) -> np.ndarray:
    from video_pose.inference.trackers import pairwise_iou

    kept: list[np.ndarray] = []
    for person in scene.people[::-1]:
        box = person.boxes[n]
        if box[2] > box[0] and all(pairwise_iou(box[None], k[None])[0, 0] < 0.6 for k in kept):
            kept.append(box)
    return np.array(kept).reshape(-1, 4)


@pytest.fixture
def detector(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A config of the detector above."""
    if "SceneDetector" not in META_ARCH_REGISTRY:
        META_ARCH_REGISTRY.register(SceneDetector)
        MetadataCatalog.get("demo_test_people").set(thing_classes=["person"])
    monkeypatch.setattr(SceneDetector, "boxes", [visible_boxes(scene, n) for n in range(FRAMES)])
    path = tmp_path / "detector.yaml"
    content = {
        "MODEL": {"META_ARCHITECTURE": "SceneDetector", "WEIGHTS": "", "DEVICE": "cpu"},
        "DATASETS": {"TRAIN": ["demo_test_people"]},
        "INPUT": {"MIN_SIZE_TEST": 0},
        "VERSION": 2,
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_person_to_every_file(demo: ModuleType, video: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    formats = ["jsonl", "csv", "coco", "posetrack"]
    status = demo.main(
        ["--config-file", CONFIG, "--input", video, "--output", str(out), "--format", *formats,
         "--box", "20", "10", "90", "110", "--smooth", "--heatmaps",
         "--opts", "MODEL.DEVICE", "cpu"]
    )  # fmt: skip
    assert status == 0
    names = {"crossing.mp4", "crossing.jsonl", "crossing.csv", "crossing.coco.json"}
    assert {path.name for path in out.glob("[!.]*")} == names | {"crossing.posetrack.json"}
    rows = rows_of(out / "crossing.jsonl")
    assert len(rows) == FRAMES * 15
    assert [row["time"] for row in rows[::15]] == pytest.approx([i / 25 for i in range(FRAMES)])
    with open(out / "crossing.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == FRAMES * 15
    drawn = list(VideoSource(str(out / "crossing.mp4")))
    # 160 x 120 is enlarged threefold, to a longer side of 480 px.
    assert len(drawn) == FRAMES and drawn[0].image.shape == (360, 480, 3)
    assert [frame.time for frame in drawn] == pytest.approx(
        [i / 25 for i in range(FRAMES)], abs=1e-3
    )


@pytest.mark.parametrize("tracker", ["iou", "bytetrack"])
def test_three_people_with_numbers(
    demo: ModuleType, video: str, detector: str, tmp_path: Path, tracker: str
) -> None:
    """A detector every second frame; every frame has rows, three numbers in all."""
    if tracker == "bytetrack":
        pytest.importorskip("trackers")
    status = demo.main(
        ["--config-file", CONFIG, "--video-input", video, "--output", str(tmp_path),
         "--detector", detector, "--tracker", tracker, "--detect-every", "2", "--max-missed", "2",
         "--opts", "TEST.PERSON_THRESHOLD", "0.0"]
    )  # fmt: skip
    assert status == 0
    rows = rows_of(tmp_path / "crossing.jsonl")
    assert sorted({row["frame"] for row in rows}) == list(range(FRAMES))
    assert len({row["track"] for row in rows} - {-1}) == 3
    assert len(list(VideoSource(str(tmp_path / "crossing.mp4")))) == FRAMES


def test_frames_without_people_have_an_empty_row(
    demo: ModuleType, video: str, detector: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SceneDetector, "boxes", [np.zeros((0, 4))] * FRAMES)
    arguments = ["--detector", detector, "--tracker", "iou", "--no-video"]
    assert (
        demo.main(
            ["--config-file", CONFIG, "--input", video, "--output", str(tmp_path), *arguments]
        )
        == 0
    )
    rows = rows_of(tmp_path / "crossing.jsonl")
    assert [(row["frame"], row["track"], row["x"]) for row in rows] == [
        (i, -1, None) for i in range(FRAMES)
    ]
    assert not (tmp_path / "crossing.mp4").exists()


def test_without_output_rows_are_printed(
    demo: ModuleType, video: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert demo.main([*WHOLE_FRAME, "--input", video]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == FRAMES * 15 and json.loads(lines[-1])["frame"] == FRAMES - 1


def test_the_readmes_three_lines(video: str) -> None:
    predictor = VideoPosePredictor.from_config(CONFIG, settings=PredictorSettings(region="frame"))
    shapes = {frame.keypoints.shape for frame in predictor(video)}
    assert shapes == {(1, 15, 3)} and predictor.problems == []
    assert len(predictor.connections) > 10


def test_the_api_takes_folders_globs_arrays_and_cameras(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same pictures by four ways, the same poses."""
    for i, image in enumerate(scene.frames[:3]):
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)

    class Camera:
        """In place of cv2.VideoCapture: camera 3 shows the pictures and ends."""

        def __init__(self, number: int) -> None:
            assert number == 3
            self.left = list(scene.frames[:3])

        def isOpened(self) -> bool:
            return True

        def get(self, key: int) -> float:
            return 30.0

        def read(self) -> tuple[bool, object]:
            return bool(self.left), self.left.pop(0) if self.left else None

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    predictor = VideoPosePredictor.from_config(CONFIG, settings=PredictorSettings(region="frame"))
    arrays = list(scene.frames[:3])
    poses = [
        np.stack([frame.keypoints for frame in predictor(source)])
        for source in (arrays, tmp_path, str(tmp_path / "*.png"), 3)
    ]
    assert poses[0].shape == (3, 1, 15, 3)
    for other in poses[1:]:
        np.testing.assert_array_equal(other, poses[0])


def test_a_detector_model_runs_by_itself(detector: str, video: str) -> None:
    """The same call for an R-CNN: no joints here, boxes and numbers."""
    predictor = VideoPosePredictor.from_config(
        detector, settings=PredictorSettings(tracker="iou", max_missed=2.0)
    )
    frames = list(predictor(video))
    assert len(frames) == FRAMES and frames[0].keypoints.shape[1:] == (0, 3)
    assert len({number for frame in frames for number in frame.track_ids.tolist()}) == 3


def test_a_detector_without_people(
    demo: ModuleType, detector: str, video: str, capfd: pytest.CaptureFixture[str]
) -> None:
    MetadataCatalog.get("demo_test_dogs").set(thing_classes=["dog", "cat"])
    options = ["--detector-opts", "DATASETS.TRAIN", "('demo_test_dogs',)"]
    options += ["MODEL.ROI_HEADS.NUM_CLASSES", "2"]
    arguments = ["--detector", detector, "--tracker", "iou", *options]
    assert demo.main(["--config-file", CONFIG, "--input", video, *arguments]) == 1
    error = capfd.readouterr().err
    assert "no class 'person'" in error and "its classes are: dog, cat" in error


def test_a_bad_input_among_good_ones(
    demo: ModuleType, video: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The others are done, the status tells; two of one name do not overwrite each other."""
    arguments = ["--input", video, "nothing.mp4", video, "--output", str(tmp_path), "--no-video"]
    assert demo.main([*WHOLE_FRAME, *arguments]) == 1
    assert {path.name for path in tmp_path.glob("[!.]*")} == {"crossing.jsonl", "crossing_2.jsonl"}
    assert capfd.readouterr().err.count("error: ") == 1


def test_a_truncated_video_keeps_what_was_read(
    demo: ModuleType, scene: Scene, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    short = tmp_path / "short.mp4"
    with av.open(str(short), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width = scene.frames.shape[1:3]
        for image in scene.frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    data = short.read_bytes()
    short.write_bytes(data[: len(data) * 2 // 3])
    out = tmp_path / "out"
    assert demo.main([*WHOLE_FRAME, "--input", str(short), "--output", str(out)]) == 1
    frames = {row["frame"] for row in rows_of(out / "short.jsonl")}
    assert 0 < len(frames) < FRAMES
    assert f"short.mp4: damaged or truncated, {len(frames)} of 24" in capfd.readouterr().err


def test_the_input_is_never_overwritten(
    demo: ModuleType, video: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = Path(video).read_bytes()
    folder = str(Path(video).parent)
    assert demo.main([*WHOLE_FRAME, "--input", video, "--output", folder]) == 1
    assert "would overwrite the input" in capfd.readouterr().err
    assert Path(video).read_bytes() == before
    assert [path.name for path in Path(video).parent.iterdir()] == ["crossing.mp4"]


def test_frames_of_another_size_are_drawn_into_the_first(demo: ModuleType, tmp_path: Path) -> None:
    for i, size in enumerate([(60, 80), (60, 80), (90, 80)]):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((*size, 3), 200, np.uint8))
    out = tmp_path / "out"
    assert demo.main([*WHOLE_FRAME, "--input", str(tmp_path), "--output", str(out)]) == 0
    name = tmp_path.name
    assert {row["frame"] for row in rows_of(out / f"{name}.jsonl")} == {0, 1, 2}
    assert len(list(VideoSource(str(out / f"{name}.mp4")))) == 3
