"""One person's joints over time: what the frames before and after say about each of them.

A model's pose of a frame is its heatmaps' highest peaks. Here whole sequences are corrected, for
recorded video or with a delay of a few frames: sides that change places are put back
(`exchange_sides`), and `SequenceRefiner`, a small network over time, says which of a joint's peaks
to believe, and how much.

Shape letters: B sequences, T frames, K joints, C peaks of a joint. Positions are continuous image
pixels; a "box" is about the longer side of the person's box (`body_sizes`). Scores are heights of
peaks, 0 to 1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from video_pose.files import replacing_file
from video_pose.skeleton import connect, find_mirror_pairs

FILE = "refiner.safetensors"
_VERSION = 1
PEAKS = 3
# Rounds of judging and smoothing, and the frames between what a judge's convolutions see.
ROUNDS = 2
_DILATIONS = (1, 2, 4)
# Standard deviations of the smoothed paths, frames; the second is that between the rounds.
SMOOTHED = (1.0, 2.5, 5.0)
# Before any training: logits of the candidates (own peaks, the other side's first), and of the
# frame's own place and the smoothed paths.
_PRIOR = (3.0, -2.0, -2.0, -2.0)
_MIX = (1.0, 3.0, 0.0, -2.0)
# A frame's result depends on so many frames before it (and after it, without a lag).
CONTEXT = 48
# A box is so many times as long as its joints' extent.
_MARGIN = 1.2
# Of `exchange_sides`: what a frame costs whose sides are exchanged against the model's word, and
# the most that one joint's step can cost, boxes.
EXCHANGED = 0.1
STEP = 0.3
# A joint of a lower score says nothing about where its path goes.
_LEAST = 0.01


def exchange_sides(points: np.ndarray, box: float, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """In which frames the sides of paired joints have changed places, pair by pair.

    The cheapest sequence of "as found" and "exchanged" (Viterbi): a frame costs the two joints'
    steps from the frame before, at most `STEP` each, and `EXCHANGED` where it goes against the
    model's word. Without the latter a path that began on the wrong side would stay there.

    Args:
        points: (T, K, 2); NaN where a joint was not found, which costs nothing.
        box: px.
        pairs: columns of (left, right).

    Returns:
        bool (T, pairs).
    """
    out = np.zeros((len(points), len(pairs)), bool)
    for place, (a, b) in enumerate(pairs):
        both = points[:, [a, b]] / box
        stay, cross = _steps(both[1:], both[:-1]), _steps(both[1:], both[:-1, ::-1])
        cost = np.array([0.0, EXCHANGED])
        origins = np.zeros((len(points), 2), np.int64)
        for t in range(1, len(points)):
            moves = np.array([[stay[t - 1], cross[t - 1]], [cross[t - 1], stay[t - 1]]])
            total = cost[:, None] + moves
            origins[t] = total.argmin(axis=0)
            cost = total.min(axis=0) + [0.0, EXCHANGED]
        state = int(cost.argmin())
        for t in range(len(points) - 1, -1, -1):
            out[t, place] = bool(state)
            state = int(origins[t, state])
    return out


def _steps(now: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Cost (T - 1,) of the two joints' steps, none of an unknown one; both (T - 1, 2, 2)."""
    return np.minimum(np.nan_to_num(np.linalg.norm(now - before, axis=-1)), STEP).sum(axis=1)


def exchanged(
    values: np.ndarray, which: np.ndarray, pairs: Sequence[tuple[int, int]]
) -> np.ndarray:
    """``values`` (T, K, ...) with the pairs' columns exchanged where ``which`` (T, pairs) says."""
    out = values.copy()
    for place, (a, b) in enumerate(pairs):
        rows = which[:, place]
        out[rows, a], out[rows, b] = values[rows, b], values[rows, a]
    return out


def smooth(values: Tensor, weights: Tensor, sigma: float) -> Tensor:
    """Gaussian mean over time, weighted, without a shift in time.

    Args:
        values: (B, T, J, D). weights: (B, T, J), 0 where there is nothing. sigma: frames.

    Returns:
        (B, T, J, D); 0 where nothing is near.
    """
    radius = int(3 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=values.dtype, device=values.device)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))[None, None]
    batch, frames, joints, size = values.shape
    both = torch.cat([values * weights[..., None], weights[..., None]], dim=-1)
    rows = both.permute(0, 2, 3, 1).reshape(-1, 1, frames)
    sums = functional.conv1d(rows, kernel, padding=radius)
    sums = sums.view(batch, joints, size + 1, frames).permute(0, 3, 1, 2)
    return sums[..., :size] / sums[..., size:].clamp(min=1e-9)


class Sequences(NamedTuple):
    """People over time in the unit of their size.

    Attributes:
        peaks: (B, T, K, C, 3) x, y in boxes and score, the highest first; score 0: not there.
        mask: (B, T), 1 where there is a pose.
        mirror: K columns, of the other side's joint (of the middle: its own).
        near: (K, K), 1 for two joints with a line between them.
    """

    peaks: Tensor
    mask: Tensor
    mirror: list[int]
    near: Tensor


def as_sequences(
    peaks: Tensor, mask: Tensor, joint_names: Sequence[str]
) -> tuple[Sequences, Tensor]:
    """Of peaks (B, T, K, C, 3) in px and mask (B, T); and the sizes (B, 1, 1, 1), px."""
    size = body_sizes(peaks[:, :, :, 0], mask)
    places = peaks[..., :2] / size[:, None, None, None, None]
    near = peaks.new_zeros(len(joint_names), len(joint_names))
    order = list(joint_names)
    for a, b, _ in connect(order):
        near[order.index(a), order.index(b)] = near[order.index(b), order.index(a)] = 1
    mirror = list(range(len(order)))
    for a, b in find_mirror_pairs(order):
        i, j = order.index(a), order.index(b)
        mirror[i], mirror[j] = j, i
    known = torch.cat([places, peaks[..., 2:]], dim=-1)
    return Sequences(known, mask, mirror, near), size[:, None, None, None]


def local_line(points: Tensor, weights: Tensor, sigma: float) -> Tensor:
    """At every frame the value of the straight line that fits its neighbours, by Gaussian weights.

    Unlike a mean it follows a steady movement where one side of the neighbours weighs little.

    Args:
        points: (B, T, K, 2). weights: (B, T, K). sigma: frames.
    """
    radius = int(3 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=points.dtype, device=points.device)
    bell = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernels = torch.stack([bell, bell * offsets, bell * offsets**2])[:, None]
    batch, frames, joints, _ = points.shape
    values = torch.cat([torch.ones_like(points[..., :1]), points], dim=-1) * weights[..., None]
    rows = values.permute(0, 2, 3, 1).reshape(-1, 1, frames)
    sums = functional.conv1d(rows, kernels, padding=radius)
    sums = sums.view(batch, joints, 3, 3, frames).permute(2, 3, 0, 4, 1)  # value, power, B, T, K
    s0, s1, s2 = sums[0]
    s0 = s0.clamp(min=1e-9)
    # A line through one point, or two, is no line to trust: a little of the mean.
    s2 = s2 + 0.1 * sigma**2 * s0
    return ((s2 * sums[1:, 0] - s1 * sums[1:, 1]) / (s0 * s2 - s1**2)).permute(1, 2, 3, 0)


class _Judge(nn.Module):
    """Looks at every joint's path by itself, with the same weights for all joints."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.start = nn.Conv1d(inputs, width, 1)
        self.steps = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
            for dilation in _DILATIONS
        )
        self.end = nn.Conv1d(width, outputs, 1)
        nn.init.zeros_(self.end.weight)
        nn.init.zeros_(self.end.bias)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """features (B, T, K, I), mask (B, T) -> (B, T, K, O)."""
        batch, frames, joints, _ = features.shape
        rows = features.permute(0, 2, 3, 1).flatten(0, 1)
        seen = mask[:, None].expand(batch, joints, frames).reshape(-1, 1, frames)
        x = functional.gelu(self.start(rows)) * seen
        for step in self.steps:
            x = (x + functional.gelu(step(x))) * seen
        return self.end(x).view(batch, joints, -1, frames).permute(0, 3, 1, 2)


class SequenceRefiner(nn.Module):
    """Judges whom to trust, joint by joint and frame by frame, and smooths by that.

    Candidates of a joint's place are its own peaks and the other side's first one. In each of
    `ROUNDS` rounds a `_Judge` sees how far every candidate lies from the joint's path so far, its
    score, and how the limbs' lengths differ from their usual ones. It weighs the candidates and
    says how reliable their mean is; the next path is the `local_line` through them. After the last
    round it mixes the weighed candidates of the frame itself with paths of several widths.
    Distances alone go in, so that a result turns and mirrors with the picture, and every skeleton
    is served.
    """

    def __init__(self, *, width: int = 24) -> None:
        super().__init__()
        self.width = width
        inputs = 2 * (PEAKS + 1) + 6
        self.judges = nn.ModuleList(
            _Judge(inputs, PEAKS + 2 + len(_MIX) * (last == ROUNDS - 1), width)
            for last in range(ROUNDS)
        )
        self.register_buffer("prior", torch.tensor(_PRIOR), persistent=False)
        self.register_buffer("mix", torch.tensor(_MIX), persistent=False)

    def forward(self, sequences: Sequences) -> Tensor:
        """(B, T, K, 3): place in boxes, and the score of what was trusted."""
        peaks, mask, mirror = sequences.peaks, sequences.mask, sequences.mirror
        candidates = torch.cat([peaks, peaks[:, :, mirror, :1]], dim=3)
        scores = candidates[..., 2]
        # A joint that was not found stands where its neighbours in time tell: that is a candidate.
        absent = scores <= 0
        absent[..., 0] = False
        weights = scores[..., 0].clamp(min=_LEAST) ** 2 * mask[..., None]
        path = local_line(peaks[..., 0, :2], weights, SMOOTHED[1])
        for judge in self.judges:
            out = judge(self._features(sequences, candidates, path), mask)
            shares = (4 * out[..., : PEAKS + 1] + self.prior).masked_fill(absent, -20)
            chosen = (shares.softmax(dim=-1)[..., None] * candidates).sum(dim=3)
            trust = torch.exp(3 * torch.tanh(out[..., PEAKS + 1]))
            weights = trust * chosen[..., 2].clamp(min=_LEAST) ** 2 * mask[..., None]
            path = local_line(chosen[..., :2], weights, SMOOTHED[1])
        paths = [chosen[..., :2], *(local_line(chosen[..., :2], weights, s) for s in SMOOTHED)]
        mixed = (4 * out[..., PEAKS + 2 :] + self.mix).softmax(dim=-1)
        places = (mixed[..., None] * torch.stack(paths, dim=3)).sum(dim=3)
        return torch.cat([places, chosen[..., 2:]], dim=-1)

    def _features(self, sequences: Sequences, candidates: Tensor, path: Tensor) -> Tensor:
        """(B, T, K, I), about -2 to 2 each."""
        mask = sequences.mask[..., None, None]
        from_path = _length(candidates[..., :2] - path[..., None, :])
        first = candidates[..., 0, :2]
        step = _length(torch.diff(first, dim=1)) * mask[:, 1:, :, 0] * mask[:, :-1, :, 0]
        before, after = functional.pad(step, (0, 0, 1, 0)), functional.pad(step, (0, 0, 0, 1))
        apart = _length(path - path[:, :, sequences.mirror])
        pose = candidates[..., 0, 2].mean(dim=2, keepdim=True).expand(apart.shape)
        limb, usual = self._limbs(sequences, first, path)
        values = [_scaled(from_path), candidates[..., 2]]
        values += [_scaled(torch.stack([before, after, apart], dim=-1))]
        values += [torch.stack([pose, limb, usual], dim=-1)]
        return torch.cat(values, dim=-1) * mask

    @staticmethod
    def _limbs(sequences: Sequences, first: Tensor, path: Tensor) -> tuple[Tensor, Tensor]:
        """Mean difference, of the lines at a joint, between their lengths and the usual ones, from
        the first peaks and from the path, (B, T, K) each."""
        near, mask = sequences.near, sequences.mask[:, :, None, None] > 0
        count = near.sum(dim=1).clamp(min=1)
        found = _length(path[:, :, :, None] - path[:, :, None])
        usual = torch.where(mask, found, found.new_full((), torch.nan))
        usual = usual.nanmedian(dim=1, keepdim=True).values.nan_to_num()
        now = _length(first[:, :, :, None] - path[:, :, None])
        differ = [(lengths - usual).abs().clamp(max=0.4) * near for lengths in (now, found)]
        return 5 * differ[0].sum(dim=3) / count, 5 * differ[1].sum(dim=3) / count

    def save(self, path: str | Path, source: str) -> None:
        """Write weights as safetensors; ``source``: what it was fitted on, in words."""
        facts = {"version": _VERSION, "width": self.width, "source": source}
        tensors = {key: value.contiguous() for key, value in self.state_dict().items()}
        with replacing_file(path) as file:
            file.write(save(tensors, metadata={"refiner": json.dumps(facts)}))

    @classmethod
    def load(cls, path: str | Path) -> SequenceRefiner:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: no such file. ValueError: it is no refiner, of another version, or
                damaged.
        """
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})["refiner"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}
            if facts["version"] != _VERSION:
                raise ValueError(f"it is of version {facts['version']}, expected {_VERSION}")
            refiner = cls(width=int(facts["width"]))
            refiner.load_state_dict(tensors)
        except FileNotFoundError:
            raise FileNotFoundError(f"no such refiner: {path}") from None
        except (SafetensorError, KeyError, TypeError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} is no refiner of sequences: {reason}") from error
        if not all(bool(value.isfinite().all()) for value in tensors.values()):
            raise ValueError(f"{path}: a value is not finite")
        return refiner.eval()


def _length(vectors: Tensor) -> Tensor:
    """Of (..., 2); with a gradient also at 0."""
    return ((vectors**2).sum(dim=-1) + 1e-10).sqrt()


def _scaled(lengths: Tensor) -> Tensor:
    """0 to about 2.3, steep where lengths are small."""
    return torch.log1p(lengths.clamp(max=0.5) / 0.03) - 0.5


@torch.no_grad()
def refine(
    refiner: SequenceRefiner | None,
    peaks: np.ndarray,
    joint_names: Sequence[str],
) -> np.ndarray:
    """One person's joints, corrected.

    Args:
        refiner: None smooths every joint by the first of `SMOOTHED`.
        peaks: (T, K, C, 3) of consecutive frames, in the order of `HeatmapCodec.peaks`; NaN in a
            frame without a pose, and for a joint that was not found. Of fewer than `PEAKS` the rest
            counts as not there.

    Returns:
        (T, K, 3): x, y in image px, and the score of what was trusted (of the first peak, smoothed,
        where there is no refiner); NaN in a frame without a pose, and for a joint that is found in
        no frame.
    """
    known = _is_found(peaks).any(axis=0)
    refined = np.full((*peaks.shape[:2], 3), np.nan, np.float32)
    if not known.any():
        return refined
    # A joint of no frame would have a place in the body's size and in its neighbours' limbs: the
    # skeleton goes without it.
    found, there = _filled(peaks[:, known])
    names = [name for name, is_known in zip(joint_names, known, strict=True) if is_known]
    places = torch.from_numpy(found).float()[None]
    mask = torch.from_numpy(there.any(axis=1)).float()[None]
    if refiner is None:
        weights = places[..., 0, 2].clamp(min=_LEAST) ** 2 * mask[..., None]
        (out,) = smooth(places[..., 0, :], weights, SMOOTHED[0])
    else:
        sequences, size = as_sequences(places, mask, names)
        (out,) = refiner(sequences)
        out[..., :2] *= size.squeeze()
    poses = out.numpy().astype(np.float32)
    poses[~there.any(axis=1)] = np.nan
    refined[:, known] = poses
    return refined


@dataclass(frozen=True)
class OverTime:
    """How poses are corrected over time: one rule for evaluation, streams and stored poses.

    Attributes:
        lag: frames after its own that a frame's pose may use; None: all of them.
        refiner: None smooths.
        repair_sides: first put sides back that change places, by `exchange_sides`.
    """

    lag: int | None = None
    refiner: SequenceRefiner | None = None
    repair_sides: bool = False

    def __post_init__(self) -> None:
        if self.lag is not None and self.lag < 0:
            raise ValueError(f"a lag of {self.lag} frames: expected 0 or more")

    def __call__(self, peaks: np.ndarray, joint_names: Sequence[str]) -> np.ndarray:
        """Poses (T, K, 3) of one person's consecutive frames; see `refine`."""
        if self.lag is None:
            return self.whole(peaks, joint_names)
        poses = np.full((*peaks.shape[:2], 3), np.nan, np.float32)
        for t in range(len(peaks)):
            start = max(0, t - CONTEXT)
            seen = peaks[start : t + self.lag + 1]
            poses[t] = self.whole(seen, joint_names)[t - start]
        return poses

    def whole(self, peaks: np.ndarray, joint_names: Sequence[str]) -> np.ndarray:
        """The same where every frame may use all of them."""
        if self.repair_sides:
            peaks = repair_sides(peaks, joint_names)
        return refine(self.refiner, peaks, joint_names)

    def describe(self) -> str:
        """The mode, for reports."""
        when = "offline, the whole video" if self.lag is None else f"{self.lag} frames late"
        how = "smoothed" if self.refiner is None else "refined over time"
        return f"{when}: {how}" + (", sides repaired" if self.repair_sides else "")


def repair_sides(peaks: np.ndarray, joint_names: Sequence[str]) -> np.ndarray:
    """Peaks (T, K, C, 3) with sides put back where `exchange_sides` says so.

    A pair of which one joint is found in no frame stays as it is.
    """
    names, known = list(joint_names), _is_found(peaks).any(axis=0)
    columns = [(names.index(a), names.index(b)) for a, b in find_mirror_pairs(names)]
    pairs = [(a, b) for a, b in columns if known[a] and known[b]]
    if not pairs:
        return peaks
    found, there = _filled(peaks[:, known])
    poses = torch.from_numpy(found[:, :, 0]).float()[None]
    size = float(body_sizes(poses, torch.from_numpy(there.any(axis=1)).float()[None]))
    which = exchange_sides(peaks[:, :, 0, :2].astype(np.float64), size, pairs)
    return exchanged(peaks, which, pairs)


def fill_gaps(poses: np.ndarray, longest: float) -> np.ndarray:
    """Poses (T, K, 3) without runs of at most ``longest`` frames that are NaN throughout.

    A joint goes from the frame before the gap to the one after on a straight line, with half of the
    lower one's score. What one of the two lacks stays NaN.
    """
    out = poses.copy()
    there = np.isfinite(poses[..., :2]).all(axis=2).any(axis=1)
    known = np.flatnonzero(there)
    for before, after in zip(known, known[1:]):
        missing = after - before - 1
        if missing > longest:
            continue
        part = (np.arange(1, missing + 1) / (missing + 1))[:, None, None]
        line = (1 - part) * poses[before, :, :2] + part * poses[after, :, :2]
        out[before + 1 : after, :, :2] = line
        out[before + 1 : after, :, 2] = np.minimum(poses[before, :, 2], poses[after, :, 2]) / 2
    return out


def body_sizes(poses: Tensor, mask: Tensor) -> Tensor:
    """About the longer side of people's boxes, px, (B,): `_MARGIN` times the longer side of their
    joints' extent, the median over frames; at least 1.

    Args:
        poses: (B, T, K, 3). mask: (B, T).
    """
    xy = poses[..., :2]
    extent = (xy.amax(dim=2) - xy.amin(dim=2)).amax(dim=-1)
    known = torch.where(mask > 0, extent, extent.new_full((), torch.nan))
    return (_MARGIN * known.nanmedian(dim=1).values).nan_to_num(nan=1.0).clamp(min=1.0)


def _is_found(peaks: np.ndarray) -> np.ndarray:
    """Of peaks (T, K, C, 3), bool (T, K)."""
    return np.isfinite(peaks[:, :, 0]).all(axis=-1)


def _filled(peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Peaks (T, K, PEAKS, 3) without NaN, and which joints were found, bool (T, K).

    A joint that was not found stands where it was in the nearest frames, with the score 0.
    """
    frames, joints, count = peaks.shape[:3]
    there = _is_found(peaks)
    full = np.zeros((frames, joints, PEAKS, 3))
    full[:, :, : min(count, PEAKS)] = np.nan_to_num(peaks[:, :, :PEAKS], nan=0.0)
    time = np.arange(frames)
    for k in range(joints):
        known = there[:, k]
        if known.any() and not known.all():
            for axis in (0, 1):
                full[:, k, 0, axis] = np.interp(time, time[known], peaks[known, k, 0, axis])
    lacking = full[..., 2] <= 0
    first = np.broadcast_to(full[:, :, :1, :2], full[..., :2].shape)
    full[..., :2] = np.where(lacking[..., None], first, full[..., :2])
    return full, there
