"""Runs of a study of time: one training of the recurrent part each, tested in one or more ways."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

from video_pose.data.build import build_pose_test_loader, build_pose_train_loader
from video_pose.engine.evaluation import evaluate
from video_pose.engine.trainer import PoseTrainer
from video_pose.engine.views import ClipsView
from video_pose.plugins import VIEWS

from . import models  # noqa: F401  (registers the models)
from .cache import Clips, hash_of_weights
from .mapper import MapMapper

VIEW = "maps"
PREDICTIONS = "predictions.npz"
START = "_start"
# Name of a form: MODEL.UNIPOSE.LSTM.FORM, RESIDUAL.
FORMS = {
    "residual": ("paper", True),
    "paper": ("paper", False),
    "released": ("released", False),
}


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        form: of `FORMS`. frames: of a clip. resets: of its tests.
        kind: "" or `START`, what is appended to the folder's name.
    """

    form: str
    frames: int
    seed: int
    resets: tuple[int, ...]
    kind: str = ""

    @property
    def name(self) -> str:
        return f"{self.form}_T{self.frames}_seed{self.seed}{self.kind}"


def plan_runs(
    forms: Sequence[str],
    lengths: Sequence[int],
    resets: Sequence[int],
    other_forms_at: int,
    seeds: Sequence[int],
) -> list[Run]:
    """The first form at every length, the others at one of them.

    A model trained on single frames has never seen a memory that is not empty: it is tested with a
    reset at every frame as well, as the model of the same size that has none.

    Raises:
        ValueError: an unknown form.
    """
    unknown = sorted(set(forms) - set(FORMS))
    if unknown:
        raise ValueError(f"forms {unknown}: choose from {sorted(FORMS)}")
    runs = []
    for seed in seeds:
        pairs = [(forms[0], length) for length in lengths]
        pairs += [(form, other_forms_at) for form in forms[1:]]
        for form, length in pairs:
            extra = (1,) if length == 1 and 1 not in resets else ()
            runs.append(Run(form, length, seed, (*resets, *extra)))
    return runs


def single_frame_run(run: Run) -> Run:
    """The training on single frames that ``run`` starts from; not tested itself."""
    return Run(run.form, 1, run.seed, (), START)


def register_view(train: list[Clips], test: Clips, cfg: CfgNode) -> None:
    """Let INPUT.VIEW "maps" take clips of the cached maps."""

    class MapsView(ClipsView):
        def build_train_loader(self, c: CfgNode, start: int) -> Any:
            mapper = MapMapper(train, True, c.INPUT.CLIP.LENGTH, cfg.INPUT.CLIP.STRIDE)
            return build_pose_train_loader(c, start, mapper)

        def build_test_loader(self, c: CfgNode, name: str) -> Any:
            return build_pose_test_loader(c, name, MapMapper([test], False))

        def tested(self, c: CfgNode, model: torch.nn.Module) -> torch.nn.Module:
            return model

    VIEWS.add(VIEW, replace=True)(MapsView)


def run_config(
    cfg: CfgNode, run: Run, output: Path, frames_per_step: int, weights: str = ""
) -> CfgNode:
    """The configuration of a training on cached maps, from ``weights`` ("": random ones).

    Every length sees as many frames in a step (rounded to whole clips), in as many steps.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.WEIGHTS = "UniPoseLSTMOnMaps", weights
    lstm = cfg.MODEL.UNIPOSE.LSTM
    lstm.FORM, lstm.RESIDUAL = FORMS[run.form]
    # The decoder's maps are given: a loss on them would teach nothing.
    lstm.DECODER_LOSS_WEIGHT = 0.0
    cfg.SEED, cfg.INPUT.VIEW, cfg.INPUT.CLIP.LENGTH = run.seed, VIEW, run.frames
    cfg.SOLVER.IMS_PER_BATCH = max(1, round(frames_per_step / run.frames))
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.OUTPUT_DIR = str(output / run.name)
    cfg.freeze()
    return cfg


def train_and_test(
    cfg: CfgNode, run: Run, output: Path, frames_per_step: int
) -> Iterator[tuple[int, Path]]:
    """Train, or continue or keep what is there, and test: (reset, folder of the predictions).

    A training starts from one of the same form, as long, on single frames: what the layers can do
    without time is learned before what clips add.
    """
    start = run_config(cfg, single_frame_run(run), output, frames_per_step)
    final = Path(start.OUTPUT_DIR) / "model_final.pth"
    if not final.is_file():
        _train(start)
    cfg = run_config(cfg, run, output, frames_per_step, str(final))
    trainer = _train(cfg)
    for reset in run.resets:
        folder = Path(cfg.OUTPUT_DIR) / f"reset{reset}"
        found = folder / "inference" / cfg.DATASETS.TEST[0]
        if not (found / PREDICTIONS).is_file():
            trainer.cfg = _with_output(cfg, folder)
            trainer.model.reset_every = reset
            trainer.test()
            trainer.model.train()
        yield reset, found


def _train(cfg: CfgNode) -> PoseTrainer:
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    torch.manual_seed(cfg.SEED)  # initial weights follow from the seed, not from trainings before
    trainer = PoseTrainer(_without_test(cfg))
    trainer.resume_or_load(resume=True)
    trainer.train()
    return trainer


def test_encoder(cfg: CfgNode, output: Path) -> Path:
    """The frame-by-frame row: the encoder's own maps; the folder of the predictions."""
    cfg = _with_output(cfg, output / "frame_by_frame")
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.WEIGHTS = "UniPoseOnMaps", ""
    cfg.INPUT.VIEW, cfg.DATALOADER.NUM_WORKERS = VIEW, 0
    cfg.freeze()
    found = Path(cfg.OUTPUT_DIR) / "inference" / cfg.DATASETS.TEST[0]
    if not (found / PREDICTIONS).is_file():
        evaluate(cfg, build_model(cfg).eval())
    return found


def require_same_study(cfg: CfgNode, output: Path, settings: dict[str, int]) -> None:
    """Hold a folder to one study: runs that are there already are read, not repeated.

    Args:
        cfg: of the recurrent model, the encoder's file in MODEL.WEIGHTS.
        settings: numbers that all runs share, by name.

    Raises:
        ValueError: the folder's runs were made with another encoder, configuration, data folder or
            setting; says which.
    """
    shared = cfg.clone()
    shared.defrost()
    shared.MODEL.WEIGHTS = shared.OUTPUT_DIR = ""
    facts: dict[str, Any] = {
        **settings,
        "encoder": hash_of_weights(cfg),
        "data folder": os.environ.get("DETECTRON2_DATASETS", ""),
        "configuration": shared.dump(),
    }
    path = output / "study.json"
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name in facts if found.get(name) != facts[name]]
        if changed:
            raise ValueError(
                f"{output} holds a study with another {' and another '.join(changed)}: name a new "
                "folder as --output"
            )
    elif unmarked := [training.name for training in output.glob("*_seed*")]:
        raise ValueError(
            f"{output} holds trainings without study.json, such as {unmarked[0]}: name a new "
            "folder as --output"
        )
    output.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts, indent=1), encoding="utf-8")


def require_datasets(cfg: CfgNode) -> tuple[str, str]:
    """The one dataset to train on and the one to test on.

    Raises:
        ValueError: there are more or fewer.
        KeyError: one is not registered.
    """
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    if len(cfg.DATASETS.TRAIN) != 1 or len(cfg.DATASETS.TEST) != 1:
        raise ValueError(f"DATASETS.TRAIN and .TEST must name one dataset each, got {names}")
    for name in names:
        if name not in DatasetCatalog.list():
            raise KeyError(f"dataset {name!r} is not registered")
    return names[0], names[1]


def _with_output(cfg: CfgNode, folder: Path) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = str(folder)
    cfg.freeze()
    return cfg


def _without_test(cfg: CfgNode) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TEST = ()
    cfg.freeze()
    return cfg
