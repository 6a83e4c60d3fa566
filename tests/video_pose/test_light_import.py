"""What importing the package does not import: a process that only predicts has no use for it."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys
import video_pose
import video_pose.inference
print(*(name for name in ("torch._dynamo", "sympy", "pandas", "matplotlib") if name in sys.modules))

import torch
from torchvision.ops import roi_align
print(roi_align.__globals__["is_compile_supported"]("cpu") in (True, False))
print(torch._dynamo.is_compiling(), sys.modules["torch._dynamo"].__file__ is not None)
"""


def test_the_compiler_is_imported_by_who_needs_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True
    )
    early, pooling, compiler = done.stdout.splitlines()
    assert early == ""
    assert pooling == "True" and compiler == "False True"
