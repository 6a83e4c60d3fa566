"""How far an exported model is from the model it was made from, and how fast both are."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from video_pose.modeling.backend import PoseBackend, TorchBackend

FRAMES = 50


@torch.no_grad()
def compare(
    reference: TorchBackend, exported: PoseBackend, crops: Tensor, *, rows: int = 1
) -> dict[str, float]:
    """Run both over the same frames, each with a state of its own that rolls on.

    Args:
        crops: uint8 (T, 3, H, W), shown to every row with another first frame.

    Returns:
        ``heatmap_max_difference``, ``joint_max_difference_px`` (crop px) of all frames and rows,
        ``frames``, ``rows``, and milliseconds per frame of each, the first five frames left out.
    """
    reference_maps, reference_time = _run(reference, crops, rows)
    exported_maps, exported_time = _run(exported, crops, rows)
    codec = reference.codec
    joints = [codec.decode(maps.flatten(0, 1))[..., :2] for maps in (reference_maps, exported_maps)]
    return {
        "frames": len(crops),
        "rows": rows,
        "heatmap_max_difference": float((reference_maps - exported_maps).abs().max()),
        "joint_max_difference_px": float((joints[0] - joints[1]).norm(dim=-1).max()),
        "reference_ms_per_frame": reference_time,
        "exported_ms_per_frame": exported_time,
        "threads": torch.get_num_threads(),
    }


def _run(backend: PoseBackend, crops: Tensor, rows: int) -> tuple[Tensor, float]:
    """Heatmaps (T, R, C, h, w), and milliseconds per frame."""
    size = (int(crops.shape[-2]), int(crops.shape[-1]))
    centers = torch.tensor([[size[1] / 2, size[0] / 2]]).expand(rows, 2)
    maps: list[Tensor] = []
    state: Any = None
    times = []
    for t in range(len(crops)):
        images = torch.stack([crops[(t + 7 * row) % len(crops)] for row in range(rows)])
        start = time.perf_counter()
        prepared, features = backend.encode(images)
        center_map = backend.center_map(centers, size, training=False)
        if state is None:
            state = backend.begin(prepared, features)
        heatmaps, state = backend.advance(features, center_map, state)
        times.append(time.perf_counter() - start)
        maps.append(heatmaps.float())
    steady = times[5:] or times
    return torch.stack(maps), 1000 * sum(steady) / len(steady)
