"""How many frames to encode at once on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from video_pose.modeling.video_pose_net import VideoPoseNet

# Some maps at once keep a processor busy, and weights are read once for them; more only take
# memory, and the largest ones push each other out of its caches.
CACHE_BYTES = 48 * 1024 * 1024


@torch.no_grad()
def frames_that_fit(
    model: VideoPoseNet, crop_size: tuple[int, int], cache_bytes: int = CACHE_BYTES
) -> int:
    """Frames whose largest map takes no more than ``cache_bytes``, at least 1.

    Args:
        model: on a CPU; it encodes one image of zeros. crop_size: (H, W).
    """
    largest = 1

    def note(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal largest
        if isinstance(output, Tensor) and len(output):
            largest = max(largest, output[0].numel() * output.element_size())

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        with model.autocast():
            model.encode(torch.zeros((1, 3, *crop_size)).to(memory_format=model.layout))
    finally:
        for hook in hooks:
            hook.remove()
    return max(1, cache_bytes // largest)
