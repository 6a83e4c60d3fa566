"""Let the C library keep freed memory, for programs that compute on a CPU.

glibc takes every block of more than some MB from the system and hands it back when it is freed, so
that each large tensor of each step is made of fresh pages: the kernel clears them one by one. A
network that allocates the same tensors again and again computes faster on memory that it had
before. What is kept can exceed what the program held at once: memory is fragmented, and threads
have arenas of their own.
"""

from __future__ import annotations

import ctypes
import os
import sys

# Options of mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the allocator of this process, and of processes forked from it, to keep what is freed.

    Nothing is done outside Linux and glibc, or where the user has set an option of glibc's
    allocator by an environment variable (``MALLOC_..._``, ``GLIBC_TUNABLES``); other allocators
    (tcmalloc, jemalloc) ignore it.

    Returns:
        Whether glibc was told.
    """
    if not sys.platform.startswith("linux") or _chosen_by_user():
        return False
    try:
        if not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            return False
    except ValueError:  # another C library does not know the name
        return False
    mallopt = ctypes.CDLL(None).mallopt
    options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _LARGEST), (_TOP_PAD, 2**26))
    return all([bool(mallopt(option, value)) for option, value in options])


def _chosen_by_user() -> bool:
    return "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(
        name.startswith("MALLOC_") and name.endswith("_") for name in os.environ
    )
