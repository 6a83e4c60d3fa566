"""Memory that is freed and taken again, counted in pages that the system had to give."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import resource
import numpy as np
from video_pose.engine.launch import keep_freed_memory
told = {call}
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**23)  # 64 MB, freed at once
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(told, max(faults[1:]))
"""


def run(call: str, **variables: str) -> tuple[str, int]:
    """What the call returned, and the most pages that a block of 64 MB took anew."""
    # Another allocator, loaded beforehand, would have its own way.
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(call=call)],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    told, faults = done.stdout.split()
    return told, int(faults)


def is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError):
        return False


@pytest.mark.skipif(not is_glibc(), reason="no glibc here")
def test_a_freed_block_is_taken_again_without_new_pages() -> None:
    told, kept = run("keep_freed_memory()")
    assert told == "True"
    _, plain = run("None")
    assert kept * 10 < plain


@pytest.mark.skipif(not is_glibc(), reason="no glibc here")
def test_a_users_choice_stands() -> None:
    for name, value in (("MALLOC_TOP_PAD_", "0"), ("GLIBC_TUNABLES", "glibc.malloc.top_pad=0")):
        assert run("keep_freed_memory()", **{name: value})[0] == "False"
