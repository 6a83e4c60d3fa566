"""What a stranger does first, from the wheel, in a fresh folder and home: `pytest -m slow`."""

from __future__ import annotations

import csv
import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow

# One GPU-less machine for all; two iterations of tiny batches.
SHORT = ["SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"]


class Stranger:
    """An environment with the wheel, a folder, a home.

    Attributes:
        folder: where commands run. python, command: of the environment.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / "work"
        self.folder.mkdir()
        (root / "home").mkdir()
        subprocess.run([sys.executable, "-m", "venv", str(root / "venv")], check=True)
        programs = root / "venv" / ("Scripts" if os.name == "nt" else "bin")
        self.python, self.command = programs / "python", programs / "video-pose"
        self._environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PYTHON", "VIDEO_POSE", "DETECTRON2", "VIRTUAL_ENV"))
        } | {"HOME": str(root / "home"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        # PyTorch and the rest are taken from here; this project is not: a .pth file in a folder
        # that a .pth file names is not read, hence an editable install stays unseen.
        purelib = self.run(
            self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"
        )
        folders = [sysconfig.get_path("purelib"), *site.getsitepackages()]
        Path(purelib.strip(), "rest.pth").write_text("\n".join(dict.fromkeys(folders)) + "\n")

    def run(self, *command: object, status: int = 0, **variables: str) -> str:
        """Both outputs of a command that must end with ``status``."""
        result = subprocess.run(
            [str(part) for part in command],
            cwd=self.folder,
            env=self._environment | variables,
            capture_output=True,
            text=True,
        )
        assert result.returncode == status, (command, result.stdout[-3000:], result.stderr[-5000:])
        return result.stdout + result.stderr


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    root = tmp_path_factory.mktemp("stranger")
    # A copy: setuptools writes into the folder that it builds.
    source = root / "source"
    shutil.copytree(ROOT, source, ignore=_not_sources)
    found = Stranger(root)
    pip = [found.python, "-m", "pip", "--disable-pip-version-check"]
    found.run(*pip, "wheel", source, "--no-deps", "--no-build-isolation", "--quiet",
              "--wheel-dir", root / "wheels")  # fmt: skip
    (wheel,) = (root / "wheels").glob("*.whl")
    found.run(*pip, "install", "--no-deps", "--no-index", "--quiet", wheel)
    where = found.run(found.python, "-c", "import video_pose; print(video_pose.__file__)")
    assert str(root / "venv") in where
    return found


def _not_sources(folder: str, names: list[str]) -> set[str]:
    skipped = {".git", ".venv", "build", "dist", "output", "outputs", "__pycache__", "datasets"}
    if Path(folder) != ROOT:  # a package may be called datasets
        skipped = {"__pycache__"}
    return {name for name in names if name in skipped or name.endswith(".egg-info")}


@pytest.fixture(scope="module")
def crossing(stranger: Stranger) -> Path:
    """Two short videos of several drawn people, with their COCO files, as users have them."""
    code = (
        "from pathlib import Path\n"
        "from video_pose.data.synthetic.dataset import SyntheticOptions, make_dataset\n"
        "options = SyntheticOptions(format='coco_video', videos=2, test_videos=1, frames=(6, 6),\n"
        "    size=(160, 120), seed=3, people=2)\n"
        "make_dataset(Path('mine'), options, workers=1)"
    )
    stranger.run(stranger.python, "-c", code)
    return stranger.folder / "mine"


def test_the_command_comes_with_the_wheel(stranger: Stranger) -> None:
    assert "usage: video-pose VERB" in stranger.run(stranger.command, "--help")
    report = stranger.run(stranger.command, "doctor")
    assert "unipose_lstm_R50_res4_people (pose)" in report and "MISSING" not in report
    assert len(report.splitlines()) == 10
    assert "no verb 'pose'" in stranger.run(stranger.command, "pose", status=2)


def test_a_photo_and_a_folder_of_videos(stranger: Stranger) -> None:
    """One of them is broken: the others are done, and it is named."""
    picture = cv2.imread(str(ROOT / "docs" / "images" / "gym.jpg"))
    folder = stranger.folder / "clips"
    folder.mkdir()
    cv2.imwrite(str(stranger.folder / "photo.jpg"), picture)
    height, width = (side // 2 * 2 for side in picture.shape[:2])
    for name in ("one", "two"):
        video = cv2.VideoWriter(
            str(folder / f"{name}.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (width, height)
        )
        for _ in range(3):
            video.write(picture[:height, :width])
        video.release()
    (folder / "broken.mp4").write_bytes(b"no video")
    text = stranger.run(stranger.command, "predict", "photo.jpg", "--output", "photo",
                        "--format", "csv", "--table", "wide")  # fmt: skip
    assert "Warning" not in text and "1 source, 1 frame, " in text.splitlines()[-1]
    assert ", 0 people" not in text.splitlines()[-1]
    with open(stranger.folder / "photo" / "photo.csv", newline="") as file:
        (frame, *_) = csv.DictReader(file)
    assert frame["frame"] == "0"
    arguments = ["predict", "clips", "--output", "out", "--format", "csv", "coco_dataset"]
    text = stranger.run(stranger.command, *arguments, status=1)
    assert "broken.mp4" in text and "Traceback" not in text
    assert text.splitlines()[-1].startswith("3 sources, 6 frames, ") or "3 sources, 6" in text
    names = {path.name for path in (stranger.folder / "out").iterdir()}
    assert {"one.mp4", "one.csv", "one.coco_dataset.json", "two.mp4", "two.csv"} <= names
    assert "exists: choose another --output, or --overwrite" in stranger.run(
        stranger.command, *arguments, status=1
    )


def test_the_table_in_pandas(stranger: Stranger) -> None:
    pytest.importorskip("pandas")
    code = (
        "import pandas\n"
        "from video_pose.inference import VideoPosePredictor\n"
        "table = pandas.read_csv('out/one.csv')\n"
        "assert str(table.track.dtype) == 'int64', table.dtypes\n"
        "predictor = VideoPosePredictor.from_config()\n"
        "frame = predictor('clips/one.avi').to_dataframe()\n"
        "assert set(frame.frame) == {0, 1, 2}\n"
        "print(sorted(table.frame.unique().tolist()))"
    )
    assert "[0, 1, 2]" in stranger.run(stranger.python, "-c", code)


def test_own_videos_from_the_packaged_model(stranger: Stranger, crossing: Path) -> None:
    """README's recipe: a registration in a file, a config that starts from the packaged model; then
    the trained model finds poses."""
    files = sorted(str(path.relative_to(stranger.folder)) for path in crossing.rglob("*.json"))
    train = next(name for name in files if "train" in name)
    test = next(name for name in files if "test" in name)
    (stranger.folder / "my_datasets.py").write_text(
        "from video_pose.data.datasets.coco_video import register_video_keypoints\n"
        f"register_video_keypoints('my_train', {train!r}, 'mine')\n"
        f"register_video_keypoints('my_test', {test!r}, 'mine')\n"
    )
    plugins = {"VIDEO_POSE_PLUGINS": "my_datasets.py"}
    config = "configs/UniPose-LSTM/unipose_lstm_R50_res4_finetune.yaml"
    names = ["DATASETS.TRAIN", "('my_train',)", "DATASETS.TEST", "('my_test',)"]
    text = stranger.run(
        stranger.command, "train", "--config-file", config, *names, *SHORT,
        "INPUT.CLIP.LENGTH", "2", "OUTPUT_DIR", "trained", **plugins,
    )  # fmt: skip
    assert "carried over by name" in text or "PCK on my_test" in text
    assert (stranger.folder / "trained" / "model_final.pth").is_file()
    (video, *_) = sorted((crossing / "videos").glob("*.mp4"))
    stranger.run(
        stranger.command, "predict", video, "--config-file", "trained/config.yaml", "--region",
        "frame", "--no-video", "--output", "used", "--end", "2f", "--opts", "MODEL.WEIGHTS",
        "trained/model_final.pth", **plugins,
    )  # fmt: skip
    rows = (stranger.folder / "used" / f"{video.stem}.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["frame"] == 1


def test_an_rcnn_of_detectron2s_own_data_is_trained_and_used(stranger: Stranger) -> None:
    """Any class, by its name in the metadata."""
    write_coco(stranger.folder / "coco")
    (stranger.folder / "coco_datasets.py").write_text(
        "from detectron2.data.datasets import register_coco_instances\n"
        "register_coco_instances('dancers', {'keypoint_names': ['nose', 'left_eye', 'right_eye'],\n"
        "    'keypoint_flip_map': [('left_eye', 'right_eye')]}, 'coco/coco.json', 'coco')\n"
    )
    plugins = {"VIDEO_POSE_PLUGINS": "coco_datasets.py"}
    config = "configs/Keypoint-RCNN/keypoint_rcnn_R50_FPN_coco.yaml"
    stranger.run(
        stranger.command, "train", "--config-file", config, "DATASETS.TRAIN", "('dancers',)",
        "DATASETS.TEST", "()", *SHORT, "MODEL.WEIGHTS", "", "MODEL.ROI_HEADS.NUM_CLASSES", "1",
        # Frozen norms would let an untrained backbone's values grow beyond all bounds.
        "MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", "0", "SOLVER.BASE_LR", "0.000001",
        "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", "3", "INPUT.MIN_SIZE_TRAIN", "(64,)",
        "OUTPUT_DIR", "rcnn", **plugins,
    )  # fmt: skip
    text = stranger.run(
        stranger.command, "predict", "coco/0.jpg", "--config-file", "rcnn/config.yaml", "--output",
        "dancers", "--no-video", "--opts", "MODEL.WEIGHTS", "rcnn/model_final.pth",
        "INPUT.MIN_SIZE_TEST", "64", **plugins,
    )  # fmt: skip
    assert "1 source, 1 frame" in text


def write_coco(root: Path) -> None:
    """Two pictures with one dancer each."""
    root.mkdir()
    images, annotations = [], []
    for i in range(2):
        cv2.imwrite(str(root / f"{i}.jpg"), np.full((72, 96, 3), 60 * i, np.uint8))
        images.append({"id": i, "file_name": f"{i}.jpg", "height": 72, "width": 96})
        annotations.append(
            {
                "id": i + 1, "image_id": i, "category_id": 7, "iscrowd": 0, "area": 1200,
                "bbox": [20, 10, 30, 40], "num_keypoints": 3,
                "keypoints": [35, 15, 2, 38, 14, 2, 32, 14, 1],
            }
        )  # fmt: skip
    category = {"id": 7, "name": "dancer", "keypoints": ["nose", "left_eye", "right_eye"],
                "skeleton": []}  # fmt: skip
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (root / "coco.json").write_text(json.dumps(content))


def test_a_plain_script_of_detectron2(stranger: Stranger) -> None:
    """`<name>_frames` in Detectron2's own mapper, visualizer and trainer, where frames are files;
    our models by `get_pose_cfg` and `build_model`."""
    code = (
        "from pathlib import Path\n"
        "from video_pose.data.synthetic.dataset import SyntheticOptions, make_dataset\n"
        "options = SyntheticOptions(format='jhmdb', videos=2, test_videos=1, frames=(5, 5),\n"
        "    size=(96, 72), seed=1)\n"
        "make_dataset(Path('data/synthetic/jhmdb'), options, workers=1)"
    )
    stranger.run(stranger.python, "-c", code)
    (stranger.folder / "plain.py").write_text(PLAIN)
    text = stranger.run(stranger.python, "plain.py", DETECTRON2_DATASETS="data")
    assert "plain script: done" in text


PLAIN = """
import video_pose  # registers the datasets; before Detectron2
from detectron2.config import get_cfg
from detectron2 import model_zoo
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data import build_detection_train_loader
from detectron2.engine import DefaultTrainer
from detectron2.modeling import build_model
from detectron2.utils.visualizer import Visualizer
from video_pose.engine.defaults import complete_cfg, find_config, get_pose_cfg, merge_config_file
import cv2, torch

NAME = "synthetic_jhmdb_train_frames"
records = DatasetCatalog.get(NAME)
cfg = get_cfg()
cfg.merge_from_file(model_zoo.get_config_file("COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml"))
joints = len(MetadataCatalog.get(NAME).keypoint_names)
cfg.merge_from_list([
    "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", joints,
    "DATASETS.TRAIN", (NAME,), "DATASETS.TEST", "()", "INPUT.MIN_SIZE_TRAIN", "(64,)",
    "SOLVER.IMS_PER_BATCH", 1, "SOLVER.MAX_ITER", 1, "DATALOADER.NUM_WORKERS", 0,
    "OUTPUT_DIR", "plain_output",
])
import os
os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
mapped = DatasetMapper(cfg, is_train=True)(records[0])
assert mapped["image"].dtype == torch.uint8 and len(mapped["instances"]) >= 1
image = cv2.imread(records[0]["file_name"])[:, :, ::-1]
picture = Visualizer(image, MetadataCatalog.get(NAME))
assert picture.draw_dataset_dict(records[0]).get_image().ndim == 3
trainer = DefaultTrainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()

own = get_pose_cfg()
merge_config_file(own, find_config("quickstart/unipose_lstm_R18_synthetic_jhmdb.yaml"))
own.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
complete_cfg(own)
model = build_model(own).eval()
assert model.joint_names == list(own.MODEL.POSE.JOINTS)
print("plain script: done")
"""
