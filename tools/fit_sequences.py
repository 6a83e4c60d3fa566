#!/usr/bin/env python3
"""Fit what stands beside a packaged pose model: its refiner of sequences, its calibrated scores.

python tools/fit_sequences.py --model unipose_lstm_R50_res4_people --cache output/traces
python tools/fit_sequences.py --model NAME --cache DIR --check sub_jhmdb_split1_test

Writes refiner.safetensors and calibration.json into the model's folder, and prints what they do on
the held-back clips. Three steps, of which the first is kept in --cache and done once:

1. traces: the model's highest peaks on degraded clips (covered, blurred, turned, of low resolution,
   in trembling boxes), beside the truth. The model has learnt the clips of --train and --choose as
   they are; degraded, its errors there are about as large as on clips that are new to it.
2. the refiner is trained on traces of --train, mirrored, turned, scaled, played backwards, and on
   the errors of one trace put on the movement of another.
3. the calibration is fitted on the traces of --train, by joint.

--choose is looked at alone; --check may name test clips, which are neither degraded nor fitted.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import video_pose  # noqa: F401  (first: it silences a warning of Detectron2's import)

# isort: split
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager
from torch import Tensor

from video_pose import packaged
from video_pose.backends.graphs import file_hash
from video_pose.backends.pose import build_backend
from video_pose.data.clip_mapper import build_pose_mapper
from video_pose.evaluation.calibration import FILE as CALIBRATION_FILE
from video_pose.evaluation.calibration import Calibration, fit_calibration, reliability
from video_pose.evaluation.motion import motion_metrics
from video_pose.files import replacing_file
from video_pose.inference.predictor import load_cfg, load_model
from video_pose.modeling.backend import PoseBackend, run_chunk
from video_pose.modeling.sequences import FILE as REFINER_FILE
from video_pose.modeling.sequences import (
    PEAKS,
    OverTime,
    SequenceRefiner,
    Sequences,
    as_sequences,
    body_sizes,
)
from video_pose.modeling.states import TrackStates
from video_pose.skeleton import find_mirror_pairs, match_joints

logger = logging.getLogger("fit_sequences")
# Frames of a training sequence, and sequences of a batch.
LENGTH, BATCH = 32, 16
# Share of batches whose errors are moved to another clip's movement.
MOVED = 0.4
# Share of examples to which runs of wrong frames are added, their number in a clip of 40 frames and
# 15 joints, and their mean length, frames.
WRONG, RUNS, RUN_LENGTH = 0.4, 3.0, 4.0
# Widths of the loss, boxes: a joint gains from coming nearer than each of them.
WIDTHS = (0.025, 0.06, 0.12)
FAR, ACCELERATION = 3.0, 1.0
# The degradations: of every clip, one draw of these.
DEGRADED = {
    "OCCLUSION_PROB": 0.8, "OCCLUSION_SIZE": (0.15, 0.5), "OCCLUSION_SPAN": (0.15, 0.7),
    "OCCLUSION_FILL": "color", "COLOR": 0.35, "ROTATION": 45.0, "SCALE_RANGE": (0.68, 1.32),
    "TRANSLATION": 0.1, "BLUR_PROB": 0.7, "BLUR_SIGMA": (1.0, 4.9), "LOW_RES_PROB": 0.7,
    "LOW_RES_RANGE": (1.5, 8.1), "BOX_JITTER": 0.1, "BOX_JITTER_FRAME": 0.026,
}  # fmt: skip
PLAIN = {
    "OCCLUSION_PROB": 0.0, "COLOR": 0.0, "ROTATION": 0.0, "SCALE_RANGE": (1.0, 1.0),
    "TRANSLATION": 0.0, "BLUR_PROB": 0.0, "LOW_RES_PROB": 0.0, "BOX_JITTER": 0.0,
    "BOX_JITTER_FRAME": 0.0, "HALF_BODY_PROB": 0.0,
}  # fmt: skip


class Trace(NamedTuple):
    """One clip: peaks (T, K, C, 3), truth (T, K, 3), boxes (T, 4), in image px, and its source."""

    peaks: np.ndarray
    truth: np.ndarray
    boxes: np.ndarray
    frames: np.ndarray
    video: str
    source: str


# ---- traces


def model_folder(args: argparse.Namespace) -> Path:
    """Of --model, which is a folder or a packaged model's name."""
    return Path(args.model) if Path(args.model).is_dir() else packaged.ROOT / args.model


def model_cfg(args: argparse.Namespace, dataset: str, degraded: bool) -> CfgNode:
    """The model's configuration, with whole clips and the degradations as augmentations."""
    folder = model_folder(args)
    file, weights = str(folder / packaged.CONFIG), args.weights or str(folder / packaged.WEIGHTS)
    # Of a model's joints each must be in some dataset: those that this one lacks are in its own.
    named = load_cfg(file).DATASETS
    own = [name for name in (*named.TRAIN, *named.TEST) if name in DatasetCatalog.list()]
    options: list[object] = ["MODEL.WEIGHTS", weights, "TEST.PRECISION", "bfloat16"]
    options += ["DATASETS.TRAIN", tuple(dict.fromkeys([dataset, *own]))]
    options += ["INPUT.CLIP.LENGTH", args.frames]
    options += ["INPUT.CLIP.STRIDE", 1, "INPUT.AUG.FLIP_PROB", 0.0]
    for key, value in {**PLAIN, **(DEGRADED if degraded else {})}.items():
        options += [f"INPUT.AUG.{key}", value]
    return load_cfg(file, [str(option) for option in options])


def make_traces(args: argparse.Namespace, dataset: str, degraded: bool, seed: int) -> list[Trace]:
    """The traces of a dataset's clips, from the cache or made now, a file each."""
    cfg = model_cfg(args, dataset, degraded)
    weights = Path(PathManager.get_local_path(cfg.MODEL.WEIGHTS))
    facts = file_hash(weights) + repr(cfg.MODEL.POSE.HEATMAP)
    model = f"{Path(args.model).name}-{zlib.crc32(facts.encode()):08x}"
    name = f"{dataset}-{'degraded' if degraded else 'plain'}-{seed}"
    folder = Path(args.cache) / model / name
    folder.mkdir(parents=True, exist_ok=True)
    tracks = DatasetCatalog.get(dataset)[:: args.every]
    # Degraded, each by its own seed; the order does not matter.
    paths = [folder / f"{number}.npz" for number in range(len(tracks))]
    if not all(path.is_file() for path in paths):
        backend = build_backend(cfg, load_model(cfg), args.backend)
        mapper = build_pose_mapper(cfg, True, list(cfg.DATASETS.TRAIN))
        for number, (path, track) in enumerate(zip(paths, tracks)):
            if not path.is_file():
                clip_seed = seed * 1_000_003 + number
                clip = mapper({**track, "dataset_name": dataset, "clip_seed": clip_seed})
                _write_trace(path, _trace(backend, clip, track))
    return [_read_trace(path) for path in paths]


def _trace(backend: PoseBackend, clip: dict, track: dict) -> Trace:
    """Run one clip of the training mapper through the model."""
    kept = ~clip["is_padding"]
    frames = clip["frame_indices"][kept].numpy()
    matrices = clip["crop_to_image"][kept]
    whole = {**clip, "is_first": True, "is_last": True}
    images, centers = clip["image"][kept], clip["center"][kept]
    states = TrackStates()
    with torch.no_grad():
        maps = run_chunk(backend, states, whole, images[None], centers[None], matrices[None])[0]
    peaks = backend.codec.peaks(maps, PEAKS)
    truth = clip["keypoints"][kept]
    return Trace(
        _to_image(peaks.flatten(1, 2), matrices).unflatten(1, peaks.shape[1:3]).numpy(),
        _to_image(truth, matrices).numpy(),
        np.asarray(track["boxes"])[frames],
        frames,
        str(track["video_id"]),
        str(track.get("source_video", track["video_id"])),
    )


def _to_image(points: Tensor, matrices: Tensor) -> Tensor:
    """(T, N, 3) of crop px in image px; the third column stays."""
    xy = points[..., :2] @ matrices[:, :, :2].transpose(1, 2) + matrices[:, None, :, 2]
    return torch.cat([xy, points[..., 2:]], dim=-1)


def _write_trace(path: Path, trace: Trace) -> None:
    with replacing_file(path) as file:
        np.savez_compressed(file, **trace._asdict())


def _read_trace(path: Path) -> Trace:
    with np.load(path, allow_pickle=False) as stored:
        values = {name: stored[name] for name in stored.files}
    return Trace(**{k: str(v) if k in ("video", "source") else v for k, v in values.items()})


# ---- training


def movements(args: argparse.Namespace, joints: Sequence[str]) -> list[np.ndarray]:
    """The truth of all clips of --train, (T, K, 3), in boxes."""
    found = []
    metadata = MetadataCatalog.get(args.train)
    for track in DatasetCatalog.get(args.train):
        match = match_joints(metadata.keypoint_names, joints, metadata.derived_joints, partial=True)
        truth = match.apply(np.asarray(track["keypoints"], np.float64))
        truth[..., :2] /= _size(truth)
        found.append(truth)
    return found


def _size(truth: np.ndarray) -> float:
    """Of a body, as a refiner takes it."""
    labelled = torch.from_numpy(truth[:, (truth[..., 2] > 0).all(axis=0)]).float()[None]
    return float(body_sizes(labelled, torch.ones(labelled.shape[:2])))


def batches(
    traces: Sequence[Trace],
    joints: Sequence[str],
    seed: int,
    moves: Sequence[np.ndarray] = (),
) -> Iterator[list[Tensor]]:
    """Endless batches: peaks (B, T, K, C, 3), truth (B, T, K, 3) and mask (B, T), in boxes.

    Args:
        moves: movements to put traces' errors on, beside the traces' own.
    """
    rng = np.random.default_rng(seed)
    known = []
    for trace in traces:
        peaks = torch.from_numpy(trace.peaks).float()[None]
        seen, size = as_sequences(peaks, torch.ones(peaks.shape[:2]), joints)
        truth = trace.truth.astype(np.float64)
        truth[..., :2] /= float(size)
        known.append((seen.peaks[0].numpy(), truth))
    truths = [truth for _, truth in known] + list(moves)
    while True:
        items = [_example(rng, known, truths, seen.mirror) for _ in range(BATCH)]
        yield [torch.from_numpy(np.stack(column)).float() for column in zip(*items)]


def _example(
    rng: np.random.Generator,
    known: Sequence[tuple[np.ndarray, np.ndarray]],
    truths: Sequence[np.ndarray],
    mirror: list[int],
) -> tuple[np.ndarray, ...]:
    peaks, truth = known[rng.integers(len(known))]
    if rng.random() < MOVED:
        peaks, truth = _moved(rng, peaks, truth, truths[rng.integers(len(truths))])
    if rng.random() < WRONG:
        peaks = _with_runs(rng, peaks.copy(), mirror)
    stride = 2 if len(truth) > LENGTH and rng.random() < 0.15 else 1
    begin = int(rng.integers(0, max(1, len(truth) - LENGTH * stride + 1)))
    chosen = slice(begin, begin + LENGTH * stride, stride)
    peaks, truth = _transformed(rng, peaks[chosen].copy(), truth[chosen].copy(), mirror)
    frames = len(truth)
    out = np.zeros((LENGTH, *peaks.shape[1:])), np.zeros((LENGTH, *truth.shape[1:]))
    out[0][:frames], out[1][:frames] = peaks, truth
    return *out, (np.arange(LENGTH) < frames).astype(float)


def _moved(
    rng: np.random.Generator, peaks: np.ndarray, truth: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The errors of one trace on the movement of another clip, turned by a random angle."""
    frames = min(len(truth), len(other))
    places = [_with_middle(both[:frames]) for both in (truth, other)]
    errors = peaks[:frames].copy()
    errors[..., :2] -= places[0][:, :, None]
    errors[..., :2] = errors[..., :2] @ _rotation(rng.uniform(0, 2 * np.pi)).T
    errors[..., :2] += places[1][:, :, None]
    target = other[:frames].copy()
    target[..., 2] *= truth[:frames, :, 2] > 0
    return errors, target


def _with_middle(truth: np.ndarray) -> np.ndarray:
    """Places (T, K, 2) of truth (T, K, 3); of an unlabelled joint the middle of the labelled."""
    labelled = (truth[..., 2] > 0)[..., None]
    count = labelled.sum(axis=1, keepdims=True).clip(1)
    middle = (truth[..., :2] * labelled).sum(axis=1, keepdims=True) / count
    return np.where(labelled, truth[..., :2], middle)


def _with_runs(rng: np.random.Generator, peaks: np.ndarray, mirror: list[int]) -> np.ndarray:
    """``peaks`` (T, K, C, 3), changed in place: runs of frames in which a joint's peak lies where
    another one belongs. The right one is the second then, more often than not."""
    frames, joints = peaks.shape[:2]
    for _ in range(rng.poisson(RUNS * joints * frames / 600)):
        joint, start = int(rng.integers(joints)), int(rng.integers(frames))
        part = slice(start, start + int(rng.geometric(1 / RUN_LENGTH)))
        other = mirror[joint] if rng.random() < 0.6 else int(rng.integers(joints))
        old = peaks[part, joint].copy()
        if other == mirror[joint] and rng.random() < 0.5:  # an exchange
            peaks[part, joint], peaks[part, other] = peaks[part, other].copy(), old
            continue
        height = rng.uniform(0.4, 1.0) * old[:, 0, 2:]
        peaks[part, joint, 0] = np.concatenate([peaks[part, other, 0, :2], height], axis=1)
        if rng.random() < 0.6:
            second = np.minimum(old[:, 0, 2], height[:, 0]) * rng.uniform(0.4, 1.0)
            peaks[part, joint, 1] = np.concatenate([old[:, 0, :2], second[:, None]], axis=1)
        else:
            peaks[part, joint, 1:, 2] = np.minimum(old[:, 1:, 2], height)
    return peaks


def _transformed(
    rng: np.random.Generator, peaks: np.ndarray, truth: np.ndarray, mirror: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Backwards, turned, scaled, mirrored; scores scaled."""
    if rng.random() < 0.5:
        peaks, truth = peaks[::-1].copy(), truth[::-1].copy()
    matrix = rng.uniform(0.85, 1.18) * _rotation(rng.normal() * 0.25)
    if rng.random() < 0.5:
        matrix = matrix @ np.diag([-1.0, 1.0])
        peaks, truth = peaks[:, mirror], truth[:, mirror]
    peaks[..., :2] = peaks[..., :2] @ matrix.T
    truth[..., :2] = truth[..., :2] @ matrix.T
    peaks[..., 2] = np.clip(peaks[..., 2] * rng.uniform(0.85, 1.15), 0, 1)
    return peaks, truth


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def loss_of(places: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Robust: how far beyond each of `WIDTHS` joints are, and how their acceleration differs.

    Args:
        places, truth: (B, T, J, 2) boxes. valid: (B, T, J).
    """
    squares = ((places - truth) ** 2).sum(-1) + 1e-10
    cost = sum((1 - torch.exp(-squares / (2 * width**2)) for width in WIDTHS), squares * 0)
    cost = cost + FAR * squares.sqrt().clamp(max=0.4)
    loss = (cost * valid).sum() / valid.sum().clamp(min=1)
    bend = torch.diff(places, 2, dim=1) - torch.diff(truth, 2, dim=1)
    known = valid[:, 2:] * valid[:, 1:-1] * valid[:, :-2]
    error = ((bend**2).sum(-1) + 1e-8).sqrt().clamp(max=0.3)
    return loss + ACCELERATION * (error * known).sum() / known.sum().clamp(min=1)


def train(
    traces: Sequence[Trace], joints: Sequence[str], steps: int, chosen_on: Sequence[Trace],
    *, moves: Sequence[np.ndarray] = (), rate: float = 2e-3, seed: int = 0,
) -> SequenceRefiner:  # fmt: skip
    """Fit a refiner; every 200 steps it says how it does on ``chosen_on``."""
    torch.manual_seed(seed)
    refiner, mean = SequenceRefiner(), SequenceRefiner()
    mean.load_state_dict(refiner.state_dict())
    optimizer = torch.optim.AdamW(refiner.parameters(), rate, weight_decay=0.05)
    start = time.process_time()
    empty = torch.zeros(1, 1, len(joints), PEAKS, 3)
    _, _, mirror, near = as_sequences(empty, torch.ones(1, 1), joints)[0]
    for step, (peaks, truth, mask) in zip(
        range(1, steps + 1), batches(traces, joints, seed, moves)
    ):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, step / 50) * (0.51 + 0.5 * np.cos(np.pi * step / steps))
        poses = refiner(Sequences(peaks, mask, mirror, near))
        loss = loss_of(poses[..., :2], truth[..., :2], (truth[..., 2] > 0) * mask[..., None])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(refiner.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for kept, value in zip(mean.parameters(), refiner.parameters()):
                kept.lerp_(value, 0.1 if step < 100 else 0.01)
        if step % 200 == 0 or step == steps:
            seconds = time.process_time() - start
            logger.info("step %d, %.0f s: %s", step, seconds, figures(chosen_on, joints, mean))
    return mean.eval()


# ---- figures


def stored_form(
    traces: Sequence[Trace], joints: Sequence[str], poses: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """Poses of traces as the arrays of a predictions file."""
    lengths = [len(trace.frames) for trace in traces]
    return {
        "predictions": np.concatenate(poses).astype(np.float32),
        "ground_truth": np.concatenate([trace.truth for trace in traces]),
        "boxes": np.concatenate([trace.boxes for trace in traces]),
        "video_ids": np.repeat([trace.video for trace in traces], lengths),
        "track_ids": np.repeat(["0"] * len(traces), lengths),
        "frame_indices": np.concatenate([trace.frames for trace in traces]),
        "joint_names": np.array(joints),
    }


def figures(
    traces: Sequence[Trace], joints: Sequence[str], refiner: SequenceRefiner | None,
    causal: bool = False, *, lag: int | None = None,
) -> str:  # fmt: skip
    """PCK by box, acceleration error and swap rate of poses as the model, or the refiner, says."""
    poses = [
        trace.peaks[:, :, 0] if causal else OverTime(lag, refiner)(trace.peaks, joints)
        for trace in traces
    ]
    stored = stored_form(traces, joints, poses)
    sides = (stored["boxes"][:, 2:] - stored["boxes"][:, :2]).max(axis=1)
    gaps = stored["predictions"][..., :2] - stored["ground_truth"][..., :2]
    distance = (np.linalg.norm(gaps, axis=-1) / sides[:, None])[stored["ground_truth"][..., 2] > 0]
    moves = motion_metrics(stored, find_mirror_pairs(joints))
    shares = " / ".join(f"{100 * np.mean(distance <= t):.1f}" for t in (0.05, 0.1, 0.2))
    return (
        f"box@.05/.1/.2 {shares}, acceleration error {moves['acceleration_error']:.2f} %, "
        f"swaps {moves['swap_rate']:.1f} %"
    )


# ---- calibration


def calibrate(
    traces: Sequence[Trace],
    joints: Sequence[str],
    refiner: SequenceRefiner | None,
    source: str,
) -> Calibration:
    """Curves of the model's own scores, and of those of corrected poses."""
    rule = OverTime(None, refiner)
    as_found = stored_form(traces, joints, [trace.peaks[:, :, 0] for trace in traces])
    late = stored_form(traces, joints, [rule(trace.peaks, joints) for trace in traces])
    curves = [fit_calibration(stored, 1, source).curves for stored in (as_found, late)]
    return Calibration(curves[0], source, curves[1])


def calibration_error(
    calibration: Calibration, traces: Sequence[Trace], joints: Sequence[str],
    refiner: SequenceRefiner | None,
) -> str:  # fmt: skip
    """Expected calibration error of the model's poses and of corrected ones."""
    parts = []
    late = calibration.of_late_poses()
    assert late is not None
    for name, curves, rule in (
        ("causal", calibration, None), ("corrected", late, OverTime(None, refiner)),
    ):  # fmt: skip
        poses = [t.peaks[:, :, 0] if rule is None else rule(t.peaks, joints) for t in traces]
        stored = stored_form(traces, joints, poses)
        raw = stored["predictions"][..., 2]
        errors = [
            reliability(scores, stored, 1).error for scores in (raw, curves.apply(raw, joints))
        ]
        parts.append(f"{name} {errors[0]:.3f} raw, {errors[1]:.3f} calibrated")
    return "calibration error: " + "; ".join(parts)


# ---- the command


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", required=True, help="a packaged model's name, or a folder like one")
    add("--weights", default="", help="instead of the folder's own")
    add("--cache", required=True, metavar="DIR", help="for the traces")
    add("--train", default="sub_jhmdb_split1_fit", metavar="DATASET")
    add("--choose", default="sub_jhmdb_split1_holdout", metavar="DATASET")
    add("--calibrate-on", default="", metavar="DATASET", help="default: that of --train")
    add("--check", nargs="*", default=[], metavar="DATASET", help="as they are, at the end")
    add("--every", type=int, default=1, metavar="N", help="of the clips, each n-th alone")
    add("--frames", type=int, default=400, metavar="N", help="of a clip, at most")
    add("--draws", type=int, default=1, metavar="N", help="degraded versions of each clip")
    add("--steps", type=int, default=1500, help="of the refiner's training; 0 keeps the one there")
    add("--backend", default="auto", help="as TEST.BACKEND")
    add("--output", metavar="DIR", help="instead of the model's folder")
    return parser.parse_args(argv)


def joints_of(args: argparse.Namespace) -> list[str]:
    """The model's joints."""
    return list(model_cfg(args, args.train, False).MODEL.POSE.JOINTS)


def run(args: argparse.Namespace) -> None:
    """All steps. Raises as the functions above."""
    joints = joints_of(args)
    folder = Path(args.output) if args.output else model_folder(args)
    folder.mkdir(parents=True, exist_ok=True)
    chosen_on = make_traces(args, args.choose, True, 0)
    traces = [
        trace for seed in range(1, args.draws + 1)
        for trace in make_traces(args, args.train, True, seed)
    ]  # fmt: skip
    logger.info("%s, degraded, as found: %s", args.choose, figures(chosen_on, joints, None, True))
    logger.info("smoothed: %s", figures(chosen_on, joints, None))
    source = f"{len(traces)} degraded clips of {args.train}"
    if args.steps:
        moves = movements(args, joints)
        refiner = train(traces, joints, args.steps, chosen_on, moves=moves)
        refiner.save(folder / REFINER_FILE, source)
    refiner = SequenceRefiner.load(folder / REFINER_FILE)
    fitted_on = traces
    if args.calibrate_on:
        fitted_on = make_traces(args, args.calibrate_on, True, 1)
        source = f"{len(fitted_on)} degraded clips of {args.calibrate_on}"
    calibration = calibrate(fitted_on, joints, refiner, source)
    calibration.write(folder / CALIBRATION_FILE)
    checked = [(f"{args.choose}, degraded", chosen_on)]
    checked += [(name, make_traces(args, name, False, 0)) for name in args.check]
    for name, found in checked:
        logger.info("%s", name)
        logger.info("  as found: %s", figures(found, joints, None, True))
        logger.info("  smoothed: %s", figures(found, joints, None))
        for lag in (4, None):
            late = "offline" if lag is None else f"lag {lag}"
            logger.info("  %s: %s", late, figures(found, joints, refiner, lag=lag))
        logger.info("  %s", calibration_error(calibration, found, joints, refiner))


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 with a message on standard error."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        run(parse_args(argv))
    except (ValueError, KeyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
