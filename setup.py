"""Package metadata: three packages under projects/, their needs, where models register.

Three run-time needs are deliberately absent: naming them here would let pip replace what works.

* torch and torchvision: their compiled parts load only side by side as built, so both come from
  one index in one command, and a pair that imports is kept (see `make setup`). torch >= 2.6.
* opencv: `opencv-python` and `opencv-python-headless` are two distributions of one module, cv2,
  and either serves. A requirement can name only one, and each overwrites files of the other.
* detectron2: the package index has none under its own name; `video-pose doctor --install`
  keeps one that imports, or brings one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent

# What Detectron2 imports at run time. The bounds are those of its own metadata, so that an
# official build passes `pip check` beside this package.
DETECTRON2_NEEDS = [
    "Pillow>=7.1",
    "cloudpickle",
    "fvcore>=0.1.5,<0.1.6",
    "hydra-core>=1.1",
    "iopath>=0.1.7",
    "matplotlib",
    "omegaconf>=2.1,<2.4",
    "packaging",
    "pycocotools>=2.0.2",
    "setuptools<81",  # detectron2.model_zoo imports pkg_resources, which later ones no longer have
    "tabulate",
    "tensorboard",
    "termcolor>=1.1",
    "tqdm>4.29.0",
    "yacs>=0.1.8",
]

# The engine of inference on a CPU, where it has wheels; elsewhere PyTorch computes.
OPENVINO = (
    "openvino>=2025.0; python_version < '3.15' and platform_machine in 'x86_64 AMD64 aarch64 arm64'"
)
INT8 = ["nncf"]
EXPORT = ["onnx", "onnxscript", "onnxruntime"]
PARQUET = ["pyarrow", "pandas"]
# Formats of movement science: DeepLabCut, SLEAP, NWB, C3D.
INTERCHANGE = ["pandas", "tables", "sleap-io>=0.6", "pynwb", "ndx-pose", "ezc3d"]
RAY = ["ray[data,train]>=2.40"]
# ByteTrack. It asks for opencv-python by name: `make setup` lays the headless distribution over it
# where the system lacks the graphics libraries that opencv-python loads.
TRACK = ["trackers>=2.6"]


class BuildWithConfigs(build_py):
    """Puts ``configs/`` into the package, as video_pose/configs; an editable install reads the
    checkout's own."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "video_pose", "configs")
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(ROOT / "configs", target)


setup(
    name="video-pose-detectron2",
    version="0.2.0",
    description="Human pose on video with Detectron2: UniPose-LSTM, LSTM Pose Machines, R-CNNs",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    package_dir={"": "projects"},
    packages=find_packages("projects"),
    # Models (config, weights, card, exports), templates and the marker of types.
    package_data={
        "video_pose": [
            "py.typed",
            *(f"**/*.{end}" for end in ("json", "yaml", "safetensors", "md")),
            *(f"**/*.{end}" for end in ("xml", "bin", "onnx", "html", "css", "js")),
        ]
    },
    cmdclass={"build_py": BuildWithConfigs},
    install_requires=[
        *DETECTRON2_NEEDS,
        "av>=17",  # exact frame numbers in variable-frame-rate video, where OpenCV cannot seek
        OPENVINO,
        "h5py",  # MATLAB files of version 7.3
        "jinja2",  # pages of reports; torch needs it as well
        "numpy",
        "pi-heif",  # photos of phones
        "protobuf",  # Caffe's weight files
        "safetensors",
        "scipy>=1.12",  # MATLAB files up to version 7, isotonic regression
    ],
    extras_require={
        # What the tests need to run in full, and the one place where formatter, linter and type
        # checker are pinned. The newest Python has no onnxruntime for a while.
        "dev": [
            *TRACK,
            *PARQUET,
            *INTERCHANGE,
            *(f"{need}; python_version < '3.14'" for need in RAY),
            *INT8,
            *EXPORT[:-1],
            f"{EXPORT[-1]}; python_version < '3.15'",
            "pytest>=8",
            "pytest-xdist",
            "ruff==0.17.6",
            "mypy==2.4.1",
        ],
        "export": EXPORT,
        "interchange": INTERCHANGE,
        "int8": INT8,
        "parquet": PARQUET,
        "ray": RAY,
        "track": TRACK,
    },
    # Importing such a module registers its meta-architectures; its `add_config(cfg)` adds its keys.
    # video_pose loads them by this name and so knows no model.
    entry_points={
        "console_scripts": ["video-pose = video_pose.cli.main:main"],
        "video_pose.models": [
            "lstm_pose_machines = lstm_pose_machines",
            "unipose_lstm = unipose_lstm",
        ],
    },
)
