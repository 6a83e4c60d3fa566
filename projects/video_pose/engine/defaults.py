"""From a command line and files to a whole, frozen configuration.

Configuration files are YAML in UTF-8, a mapping of keys that may name other files as ``_BASE_``.
They are read as data: nothing in them is executed, nothing makes a run hang, and whatever is wrong
with one is a line with its name.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger

from video_pose import add_video_pose_config, load_models
from video_pose.backends.pose import OVER_TIME_MODES, over_time_from_config
from video_pose.config import OPTIMIZERS
from video_pose.data.records import known_mirror_pairs
from video_pose.engine.checkpointer import CONFIG, EARLIER_CONFIG, run_files
from video_pose.engine.launch import keep_freed_memory, lock_output
from video_pose.engine.views import default_view, is_recurrent, is_video_pose, view_of
from video_pose.evaluation.pck_evaluator import PERSON_RULES
from video_pose.files import naming, read_text
from video_pose.modeling.fast_path import COMPILE
from video_pose.modeling.precision import PRECISIONS, TRAINING_PRECISIONS
from video_pose.packaged import PREFIX
from video_pose.plugins import BACKENDS, CONFIG_KEYS, EVALUATORS
from video_pose.skeleton import mirror_pairs

# Evaluators register when they are imported.
from video_pose.engine import evaluation  # noqa: F401  isort: skip

logger = logging.getLogger(__name__)

_BASE = "_BASE_"
# Aliases (&a, *a) let some lines of YAML stand for any number of values; Detectron2's widest
# configuration has some hundred.
_MOST_VALUES = 100_000


def get_pose_cfg() -> CfgNode:
    """Detectron2's configuration with the keys of this project, of models and of plugins."""
    cfg = get_cfg()
    add_video_pose_config(cfg)
    for package in load_models().values():
        package.add_config(cfg)
    for name in CONFIG_KEYS:
        CONFIG_KEYS.get(name)(cfg)
    return cfg


def load_cfg(
    config_file: str = "",
    options: Sequence[object] = (),
    *,
    first: Sequence[object] = (),
    for_inference: bool = False,
    complete: bool = True,
) -> CfgNode:
    """The configuration of a program: the defaults, then ``first``, the file and ``options``.

    Args:
        config_file: a file, or a name in Detectron2's model zoo; "": none.
        options: keys and values in turn, as a command line has them. first: likewise.
        for_inference: the model will run on other data. A user's datasets need not be registered
            where the model's joints are known, nor where a detector names its classes itself.
        complete: call `complete_cfg`.

    Raises:
        FileNotFoundError: there is no such file. KeyError: an unknown key, dataset or protocol.
        ValueError: a file or a value cannot be read, or the configuration contradicts itself.
    """
    cfg = get_pose_cfg()
    merge_options(cfg, first)
    if config_file:
        merge_config_file(cfg, find_config(config_file))
    merge_options(cfg, options)
    if "MODEL.DEVICE" in options[::2]:
        require_device(cfg.MODEL.DEVICE)
    if for_inference and not _drop_unknown_datasets(cfg):
        return cfg
    if complete:
        complete_cfg(cfg, for_inference)
    return cfg


def _drop_unknown_datasets(cfg: CfgNode) -> bool:
    """For inference: leave out datasets that are not registered. Returns whether to complete."""
    known = set(DatasetCatalog.list())
    if not is_recurrent(cfg):
        # Detectors of other projects need no more than their classes' names.
        choose_device(cfg)
        return {*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST} <= known
    if cfg.MODEL.POSE.JOINTS:
        train = tuple(name for name in cfg.DATASETS.TRAIN if name in known)
        if cfg.MODEL.POSE.PARTIAL_JOINTS and train != tuple(cfg.DATASETS.TRAIN):
            train = ()  # what is left may lack joints that one of the others has
        cfg.DATASETS.TRAIN = train
        cfg.DATASETS.TEST = tuple(name for name in cfg.DATASETS.TEST if name in known)
    return True


def require_device(device: str) -> None:
    """Raise ValueError for a GPU that is asked for by name and that this machine lacks."""
    if not device.startswith("cuda"):
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    number = int(device.rpartition(":")[2]) if ":" in device else 0
    if number >= count:
        raise ValueError(
            f"MODEL.DEVICE {device!r}: this machine has {count} GPUs that PyTorch can use; "
            "leave the key out, or set MODEL.DEVICE cpu"
        )


def choose_device(cfg: CfgNode) -> None:
    """The CPU where a configuration was made for a GPU and there is none; in place.

    Raises:
        ValueError: PyTorch has no such device.
    """
    try:
        device = torch.device(cfg.MODEL.DEVICE)
        if device.type != "cuda":
            torch.empty(0, device=device)
    except (RuntimeError, NotImplementedError) as error:
        raise ValueError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}, which PyTorch {torch.__version__} does "
            "not have here: expected cpu, cuda or cuda:N"
        ) from error
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.info("No GPU: MODEL.DEVICE is cpu")
        cfg.MODEL.DEVICE = "cpu"


def complete_cfg(cfg: CfgNode, for_inference: bool = False) -> None:
    """Fill in what follows from dataset and machine: joints, their mirror pairs, device; in place.

    Args:
        for_inference: neither a training nor an evaluation follows: keys that only these have are
            not looked at, as in configurations of models that others trained.

    Raises:
        KeyError: a dataset that is not registered, or an unknown protocol.
        ValueError: MODEL.POSE.JOINTS is empty and there is no training dataset to take it from, a
            dataset does not go with the model's joints or with a protocol, or a key is set that
            has no effect here.
    """
    choose_device(cfg)
    require_registered([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])
    cfg.INPUT.VIEW = cfg.INPUT.VIEW or default_view(cfg)
    pose = cfg.MODEL.POSE
    if not pose.JOINTS and cfg.DATASETS.TRAIN:
        metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
        pose.JOINTS = list(metadata.get("keypoint_names", []))
    if not pose.JOINTS and view_of(cfg).needs_joints(cfg):
        raise ValueError(
            "MODEL.POSE.JOINTS is empty and no dataset of DATASETS.TRAIN "
            f"({list(cfg.DATASETS.TRAIN)}) has keypoint_names to take it from"
        )
    if pose.JOINTS:
        known, _ = known_mirror_pairs([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])
        pairs = mirror_pairs(pose.JOINTS, pose.FLIP_MAP, known)
        pose.FLIP_MAP = [list(pair) for pair in pairs]
    check_values(cfg)
    if not for_inference:
        refuse_unused_keys(cfg)
        warn_of_warmup(cfg)
        _say_ignored(cfg)
    view_of(cfg).complete(cfg)
    check_unread(cfg, for_inference)


def refuse_unused_keys(cfg: CfgNode) -> None:
    """Raise ValueError for keys of Detectron2 that this project replaces by others."""
    solver = cfg.SOLVER
    for key, is_set, instead in (
        (
            "SOLVER.CLIP_GRADIENTS.ENABLED",
            solver.CLIP_GRADIENTS.ENABLED,
            "SOLVER.CLIP_GLOBAL_NORM",
        ),
        ("SOLVER.BIAS_LR_FACTOR", solver.BIAS_LR_FACTOR != 1.0, "SOLVER.BIAS_LR_MULTIPLIER"),
        ("SOLVER.WEIGHT_DECAY_BIAS", solver.WEIGHT_DECAY_BIAS is not None, "SOLVER.BIAS_DECAY"),
        ("TEST.PRECISE_BN", cfg.TEST.PRECISE_BN.ENABLED, "tools/refit_norms.py on the weights"),
        (
            "SOLVER.REFERENCE_WORLD_SIZE",
            solver.REFERENCE_WORLD_SIZE != 0,
            "SOLVER.IMS_PER_BATCH, BASE_LR, STEPS and MAX_ITER for your number of processes",
        ),
        (
            "DATASETS.TRAIN_REPEAT_FACTOR",
            cfg.DATASETS.TRAIN_REPEAT_FACTOR and cfg.DATALOADER.SAMPLER_TRAIN == "TrainingSampler",
            "DATALOADER.SAMPLER_TRAIN WeightedTrainingSampler with it",
        ),
        (
            "DATALOADER.REPEAT_THRESHOLD",
            cfg.DATALOADER.REPEAT_THRESHOLD > 0,
            "DATASETS.TRAIN_REPEAT_FACTOR with DATALOADER.SAMPLER_TRAIN WeightedTrainingSampler",
        ),
    ):
        if is_set:
            raise ValueError(f"{key} has no effect here: use {instead}")


# Detectron2's.
_SCHEDULES = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")

# Keys whose values nothing else looks at before the model is built, or training is over: what each
# must be.
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "SOLVER.OPTIMIZER": (lambda value: value.upper() in OPTIMIZERS, f"one of {OPTIMIZERS}"),
    "SOLVER.LR_SCHEDULER_NAME": (lambda value: value in _SCHEDULES, f"one of {_SCHEDULES}"),
    "SOLVER.AMP.PRECISION": (
        lambda value: value in TRAINING_PRECISIONS,
        f"one of {TRAINING_PRECISIONS}",
    ),
    "SOLVER.BASE_LR": (lambda value: 0 <= value < math.inf, "a number, 0 or more"),
    "SOLVER.WEIGHT_DECAY": (lambda value: 0 <= value < math.inf, "a number, 0 or more"),
    "SOLVER.CLIP_GLOBAL_NORM": (lambda value: value >= 0, "a norm, or 0: not clipped"),
    "SOLVER.EMA_DECAY": (lambda value: 0 <= value < 1, "below 1, or 0: no average"),
    "MODEL.POSE.HEATMAP.STRIDE": (lambda value: value >= 1, "1 px or more"),
    "MODEL.POSE.HEATMAP.SIGMA": (lambda value: 0 < value < math.inf, "above 0 px"),
    "MODEL.POSE.HEATMAP.OKS_SCALE": (lambda value: 0 < value < math.inf, "above 0"),
    "TEST.CHUNK_LENGTH": (lambda value: value >= 1, "1 frame or more"),
    "TEST.RESET_EVERY": (lambda value: value >= 0, "a number of frames, or 0: never"),
    "TEST.COMPILE": (lambda value: value in COMPILE, f"one of {COMPILE}"),
    "TEST.BACKEND": (
        lambda value: value == "auto" or value in BACKENDS or os.path.isdir(value),
        "auto, openvino, onnx, torch, a plugin's, or the folder of an export",
    ),
    "TEST.PRECISION": (lambda value: value in PRECISIONS, f"one of {PRECISIONS}"),
    "TEST.OVER_TIME.MODE": (lambda value: value in OVER_TIME_MODES, f"one of {OVER_TIME_MODES}"),
    "TEST.OVER_TIME.LAG": (lambda value: value >= 0, "a number of frames, 0 or more"),
    "TEST.SCALES": (lambda value: value and min(value) > 0, "factors above 0"),
    "TEST.SCALES_STILLS": (lambda value: min(value, default=1) > 0, "factors above 0, or none"),
    "TEST.PCK.PERSON": (lambda value: value in PERSON_RULES, f"one of {PERSON_RULES}"),
    "TEST.PERSON_THRESHOLD": (lambda value: 0 <= value <= 1, "0 to 1"),
    **{
        f"MODEL.RECURRENT_KEYPOINT.{key}": (lambda value: value >= 1, "1 or more")
        for key in ("HIDDEN_CHANNELS", "FEATURE_CHANNELS")
    },
    **{
        f"MODEL.RECURRENT_KEYPOINT.{key}": (lambda value: 0 <= value <= 1, "0 to 1")
        for key in ("MIN_SCORE", "MIN_IOU", "OKS_WEIGHT")
    },
    "MODEL.RECURRENT_KEYPOINT.BOX_JITTER": (lambda value: value >= 0, "0 or more"),
    "MODEL.RECURRENT_KEYPOINT.MAX_MISSED": (lambda value: value >= 0, "0 frames or more"),
    "MODEL.PIXEL_MEAN": (lambda value: len(value) == 3, "numbers, one for each of three colours"),
    "INPUT.CROP_SIZE": (
        lambda value: len(value) == 2 and all(1 <= side <= 4096 for side in value),
        "(height, width), each of 1 to 4096 px",
    ),
    "MODEL.PIXEL_STD": (
        lambda value: len(value) == 3 and min(map(abs, value)) > 0,
        "numbers other than 0, one for each of the three colours",
    ),
}


def check_values(cfg: CfgNode) -> None:
    """Refuse values that would end a run late, or change it in silence.

    Raises:
        ValueError: names the key, its value and what it must be.
    """
    for key, (allows, expected) in _RULES.items():
        value: Any = cfg
        for part in key.split("."):
            value = value[part]
        if not allows(value):
            raise ValueError(f"{key} is {value!r}: must be {expected}")
    for name in cfg.TEST.EVALUATORS:
        EVALUATORS.check(name)


def _say_ignored(cfg: CfgNode) -> None:
    """Name keys that go with another one, which says that they do not count."""
    solver, default = cfg.SOLVER, get_pose_cfg().SOLVER
    is_sgd = solver.OPTIMIZER.upper() == "SGD"
    for key, is_ignored, reason in (
        (
            "TEST.EVAL_PERIOD",
            cfg.TEST.EVAL_PERIOD > 0 and not cfg.DATASETS.TEST,
            "DATASETS.TEST is empty",
        ),
        (
            "SOLVER.AMP.PRECISION",
            solver.AMP.PRECISION != "auto" and not solver.AMP.ENABLED,
            "SOLVER.AMP.ENABLED is False",
        ),
        (
            "SOLVER.MOMENTUM",
            solver.MOMENTUM != default.MOMENTUM and not is_sgd,
            f"SOLVER.OPTIMIZER is {solver.OPTIMIZER}; it has SOLVER.ADAM_BETAS",
        ),
        ("SOLVER.NESTEROV", solver.NESTEROV and not is_sgd, "SOLVER.OPTIMIZER is no SGD"),
        (
            "SOLVER.ADAM_BETAS",
            tuple(solver.ADAM_BETAS) != tuple(default.ADAM_BETAS) and is_sgd,
            "SOLVER.OPTIMIZER is SGD; it has SOLVER.MOMENTUM",
        ),
    ):
        if is_ignored:
            logger.warning("%s is ignored: %s", key, reason)


def check_unread(cfg: CfgNode, for_inference: bool = False) -> None:
    """Hold the keys that the models of the config's view do not read against their defaults.

    Args:
        for_inference: no training and no evaluation follows: what only these have does not matter.

    Raises:
        ValueError: one of `View.unread` has another value; it would change nothing.
    """
    view, model, defaults = view_of(cfg), cfg.MODEL.META_ARCHITECTURE, get_pose_cfg()
    for key, instead in view.unread.items():
        changed = _changed(cfg, defaults, key)
        if changed and (not for_inference or key.startswith("TEST.")):
            raise ValueError(f"{changed}: {model} {instead}")
    for key, instead in view.ignored.items():
        changed = _changed(cfg, defaults, key)
        if changed and not for_inference:
            logger.warning("%s is ignored: %s %s", changed, model, instead)


def _changed(cfg: CfgNode, defaults: CfgNode, key: str) -> str:
    """``key``, or the first one below it, that has another value than by default; "" if none."""
    value: Any = cfg
    default: Any = defaults
    for part in key.split("."):
        value, default = value[part], default[part]
    if isinstance(default, CfgNode):
        return next(
            filter(None, (_changed(cfg, defaults, f"{key}.{name}") for name in default)), ""
        )
    if isinstance(default, list | tuple):  # YAML knows no tuples
        value, default = list(value), list(default)
    return "" if value == default else key


def warn_of_warmup(cfg: CfgNode) -> None:
    """Say how far the learning rate comes where a training ends within its warm-up."""
    solver = cfg.SOLVER
    if 0 < solver.MAX_ITER < solver.WARMUP_ITERS and solver.WARMUP_METHOD == "linear":
        done = solver.MAX_ITER / solver.WARMUP_ITERS
        factor = solver.WARMUP_FACTOR * (1 - done) + done
        logger.warning(
            "SOLVER.MAX_ITER %d is below WARMUP_ITERS %d: the learning rate ends at %.3g and never "
            "reaches BASE_LR %g",
            solver.MAX_ITER, solver.WARMUP_ITERS, solver.BASE_LR * factor, solver.BASE_LR,
        )  # fmt: skip


def require_registered(names: list[str]) -> None:
    """Raise KeyError with the names that exist if one of ``names`` is no registered dataset."""
    for name in names:
        if name not in DatasetCatalog.list():
            known = [known for known in DatasetCatalog.list() if is_video_pose(known)]
            raise KeyError(f"dataset {name!r} is not registered; video datasets: {sorted(known)}")


def setup(args: argparse.Namespace) -> CfgNode:
    """Build the configuration of ``train_net.py``'s arguments, set up memory, logging and seeds.

    The first process holds OUTPUT_DIR from here on, see `lock_output`.

    Args:
        args: of ``detectron2.engine.default_argument_parser``.

    Raises:
        as `load_cfg`, and as `over_time_from_config` where there is something to test. ValueError:
            there is nothing to test, with ``--eval-only``.
    """
    keep_freed_memory()
    if args.config_file:
        args.config_file = find_config(args.config_file)  # Detectron2's set-up reads it, too
    cfg = load_cfg(args.config_file, args.opts)
    if getattr(args, "eval_only", False) and not cfg.DATASETS.TEST:
        raise ValueError("--eval-only: DATASETS.TEST is empty: name at least one dataset")
    if cfg.DATASETS.TEST and is_recurrent(cfg):
        over_time_from_config(cfg)  # the first evaluation may be hours away
    cfg.freeze()
    if comm.is_main_process():
        lock_output(cfg.OUTPUT_DIR)
    with naming(cfg.OUTPUT_DIR):  # which a full disk does not tell
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="video_pose")
        with _config_kept(cfg, args):
            default_setup(cfg, args)
    return cfg


@contextlib.contextmanager
def _config_kept(cfg: CfgNode, args: argparse.Namespace) -> Iterator[None]:
    """Around Detectron2's set-up, which writes config.yaml: where the folder holds a run, an
    evaluation leaves its file as it is, and a run that begins anew keeps it for `set_aside`."""
    folder = Path(cfg.OUTPUT_DIR)
    config, earlier = folder / CONFIG, folder / EARLIER_CONFIG
    evaluates = getattr(args, "eval_only", False)
    begins = not evaluates and not getattr(args, "resume", False)
    holds_run = comm.is_main_process() and config.is_file() and bool(run_files(folder))
    if holds_run and not (evaluates or begins):  # what goes on has one configuration
        earlier.unlink(missing_ok=True)
    # An attempt that did not come as far as to set it aside has left the run's own.
    if not holds_run or not (evaluates or (begins and not earlier.exists())):
        yield
        return
    place = folder / f".{CONFIG}" if evaluates else earlier
    config.replace(place)
    try:
        yield
    finally:
        if evaluates:
            place.replace(config)
            logger.info(
                "%s stays the training's; the evaluation's configuration lies beside its results",
                config,
            )


def merge_config_file(cfg: CfgNode, path: str) -> None:
    """Merge a YAML file, and the files that it names as ``_BASE_``, in place.

    Raises:
        FileNotFoundError: there is no such file. KeyError: it has a key that does not exist.
        ValueError: it is no mapping of keys in YAML and UTF-8, it has tags or too many aliases, its
            bases lead back to itself, or a value is of another type than the key's.
    """
    _check(path, ())
    with _one_line(path, cfg):
        cfg.merge_from_file(path, allow_unsafe=False)


def merge_options(cfg: CfgNode, options: Sequence[object]) -> None:
    """Merge keys and values in turn, as a command line has them. Raises as `merge_config_file`."""
    if len(options) % 2:
        raise ValueError(f"options {list(map(str, options))}: expected KEY VALUE pairs")
    with _one_line("options", cfg):
        cfg.merge_from_list(list(options))


def find_config(name: str) -> str:
    """The file of a config: a path, or a name in the package or in Detectron2's model zoo.

    Args:
        name: ``configs/UniPose-LSTM/x.yaml`` names the package's own wherever there is no such
            file; ``COCO-Keypoints/x.yaml`` is the zoo's; ``video-pose://NAME`` is that of a model
            inside the package.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    if os.path.isfile(name):
        return name
    if name.startswith(PREFIX):
        file = name if name.endswith(".yaml") else f"{name.rstrip('/')}/config.yaml"
        return str(PathManager.get_local_path(file))
    package = Path(__file__).resolve().parents[1]
    # A wheel carries the configs in the package; a checkout has them beside its sources.
    for root in (package / "configs", package.parents[1] / "configs"):
        path = root / name.removeprefix("configs/")
        if path.is_file():
            return str(path)
    from detectron2 import model_zoo  # pulls in pkg_resources: only where it is wanted

    try:
        return str(model_zoo.get_config_file(name))
    except RuntimeError:
        raise FileNotFoundError(f"config not found: {name}") from None


@contextlib.contextmanager
def _one_line(source: str, cfg: CfgNode) -> Iterator[None]:
    """Turn what yacs raises into an error of one line that names ``source``."""
    try:
        yield
    except (KeyError, AssertionError) as error:
        text = str(error.args[0]) if error.args else "an unknown key"
        if isinstance(error, AssertionError) and "Non-existent key" not in text:
            raise ValueError(f"{source}: {text}") from error
        raise KeyError(f"{source}: {text}{_suggestion(text.rpartition(' ')[2], cfg)}") from error
    except (AttributeError, TypeError, ValueError, SyntaxError, MemoryError) as error:
        raise ValueError(f"{source}: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise ValueError(f"{source}: a value is nested too deeply") from None


def _suggestion(key: str, cfg: CfgNode) -> str:
    """The key that may have been meant: one like it, else one whose last part is like its own."""
    known = list(_keys(cfg))
    ends = {name.rpartition(".")[2]: name for name in known}
    close = difflib.get_close_matches(key, known, n=1) or [
        ends[end] for end in difflib.get_close_matches(key.rpartition(".")[2], ends, n=1)
    ]
    return f"; did you mean {close[0]}?" if close else ""


def _keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _check(path: str, seen: tuple[str, ...]) -> None:
    """Look at a file and its bases before Detectron2 reads them."""
    if not os.path.isfile(path):
        named = f", named as {_BASE} in {seen[-1]}" if seen else ""
        raise FileNotFoundError(f"config not found: {path}{named}")
    real = os.path.realpath(path)
    if real in seen:
        raise ValueError(f"{path}: its {_BASE} leads back to itself: {' -> '.join([*seen, real])}")
    try:
        content = _load_yaml(read_text(path))
        values = _count(content, {})
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: no plain YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise ValueError(f"{path}: it is nested too deeply, or refers to itself") from None
    except (ValueError, OverflowError) as error:  # a date or a number that does not exist
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a YAML mapping of keys, found {type(content).__name__}")
    if values > _MOST_VALUES:
        raise ValueError(
            f"{path}: its aliases stand for more than {_MOST_VALUES} values: write them out"
        )
    for base in _bases(path, content.get(_BASE, [])):
        _check(base, (*seen, real))


def _load_yaml(text: str) -> Any:
    """Plain YAML. ``yaml.safe_load`` lets the last of equal keys count, and says nothing.

    Raises:
        yaml.YAMLError: it is none, or a mapping has a key twice.
    """
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _require_keys_once(root, set())
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _require_keys_once(node: yaml.Node, seen: set[int]) -> None:
    if isinstance(node, yaml.ScalarNode) or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _require_keys_once(item, seen)
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise yaml.YAMLError(
                    f"the key {key.value} stands on line {lines[key.value]} and on line {line}"
                )
            lines[key.value] = line
        _require_keys_once(value, seen)


def _bases(path: str, named: Any) -> Iterable[str]:
    for base in named if isinstance(named, list) else [named]:
        if not isinstance(base, str):
            raise ValueError(f"{path}: {_BASE} must be a file's name, found {base!r}")
        if base.startswith(("http://", "https://")):
            raise ValueError(f"{path}: {_BASE} {base} is on the network: download it first")
        yield os.path.join(os.path.dirname(path), os.path.expanduser(base))


def _count(value: Any, known: dict[int, int]) -> int:
    """The number of values that ``value`` stands for with all its aliases written out."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = _MOST_VALUES + 1  # of one that contains itself
        inner = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(one, known) for one in inner)
    return known[id(value)]
