"""How many frames to encode at once on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from video_pose.modeling.compiled import Compiled

# Some maps at once keep a processor busy, and weights are read once for them; more only take
# memory, and the largest ones push each other out of its caches.
CACHE_BYTES = 48 * 1024 * 1024


@torch.no_grad()
def frames_that_fit(encoder: nn.Module, image: Tensor, cache_bytes: int) -> int:
    """Frames whose largest map takes no more than ``cache_bytes``, at least 1.

    Args:
        encoder: a model whose ``encode`` runs once. image: (1, 3, H, W), normalised.
    """
    largest = 1

    def note(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal largest
        if isinstance(output, Tensor) and len(output):
            largest = max(largest, output[0].numel() * output.element_size())

    hooks = [module.register_forward_hook(note) for module in encoder.modules()]
    # What is compiled calls no hooks.
    encode: Any = encoder.encode
    if isinstance(encode, Compiled):
        encode = encode.function
    try:
        encode(image)
    finally:
        for hook in hooks:
            hook.remove()
    return max(1, cache_bytes // largest)
