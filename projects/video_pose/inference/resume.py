"""Going on inside a video whose run was cut off, with the results of a run that was not.

Of all that a stream carries from frame to frame, only the recurrent states need a network. Tracker,
numbers, smoother, counters and the writers' rows follow from what the networks said about each
frame, and are replayed from that: in little time, to the bit, whichever tracker or format it is. A
`Checkpoint` is a folder of

* ``frames-N.safetensors``: what the networks said about the frames since the save before;
* ``state-N.safetensors``: the recurrent states after these frames, people as rows;
* ``checkpoint.json``: how many of the others count, and whose they are. It is replaced last, so
  that a kill at any moment leaves the old checkpoint or the new one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save as dump_arrays
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor

from video_pose.files import lock, replacing_file, write_json
from video_pose.inference.frames import Frame

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.json"
VERSION = 1
DEFAULT_SECONDS = 60.0
# The first save of a run comes this soon, and each wait is twice the one before.
_FIRST_SECONDS = 5.0
# Bytes for `describe_files` from the start and from the end of a file, of many fewer each.
_HEAD, _LEAST_HEAD = 1 << 20, 1 << 12
_OWN = ("index", "time", "size", "cut")


@dataclass(frozen=True)
class Past:
    """What the networks said about a frame.

    Attributes:
        index, time: of the frame. size: its height and width.
        cut: whether a new shot was seen to begin with it.
        arrays: by name; one that the frame does not have is missing.
    """

    index: int
    time: float
    size: tuple[int, int]
    cut: bool
    arrays: dict[str, np.ndarray]


class Frames(Protocol):
    """As `sources.FrameSource`."""

    def __iter__(self) -> Iterator[Frame]: ...


@runtime_checkable
class Seekable(Protocol):
    """A source that need not be read from its start.

    Attributes:
        sound: whether all frames so far were whole, none was missing, and a later reading can begin
            behind them.
    """

    @property
    def sound(self) -> bool: ...

    def resume_at(self, index: int) -> Iterator[Frame]:
        """The frames from ``index`` on; ``problems`` then are those of a reading of all."""


class Checkpoint:
    """The folder of one video, see the module.

    Attributes:
        count: frames that a stream need not give to its networks again.
    """

    def __init__(
        self,
        folder: str | Path,
        about: Mapping[str, str],
        *,
        seconds: float = DEFAULT_SECONDS,
        frames: int = 0,
        pictures: bool = True,
    ) -> None:
        """Read the folder, or begin it.

        Args:
            about: what results depend on, by name; it must be what the folder was begun with.
            seconds: between two saves, at most: the first waits are shorter. frames: instead, so
                many frames; 0 goes by ``seconds``.
            pictures: whether frames done before are wanted with their pictures, as for drawing. If
                not, and where the source can, reading begins behind them.

        Raises:
            ValueError: the folder is of something else, damaged, or another process's; says what to
                do.
        """
        if seconds < 0 or frames < 0:
            raise ValueError(f"a checkpoint every {seconds} s or {frames} frames: expected >= 0")
        self.folder = Path(folder)
        self.count = self._segments = 0
        self._about, self._seconds, self._frames = dict(about), seconds, frames
        self._pictures = pictures
        self._last: dict[str, Any] = {}
        self._state: dict[str, Any] | None = None
        self._waiting: list[Past] = []
        self._image: np.ndarray | None = None
        self._source: Frames | None = None
        self._saved, self._wait = time.monotonic(), min(_FIRST_SECONDS, seconds)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.folder / ".lock", "ab")
        lock(self._lock, self.folder)
        if (self.folder / CHECKPOINT).exists():
            self._read()
        else:
            self._commit()

    def _read(self) -> None:
        path = self.folder / CHECKPOINT
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["version"] != VERSION:
                raise ValueError(f"version {content['version']}, this program writes {VERSION}")
            other = [key for key in {**content["about"], **self._about}
                     if content["about"].get(key) != self._about.get(key)]  # fmt: skip
            self.count, self._segments = int(content["frames"]), int(content["segments"])
            self._last, self._state = dict(content["last"]), content["state"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} cannot be read ({error}): delete {self.folder} to begin anew"
            ) from error
        if other:
            raise ValueError(
                f"{self.folder} was begun with another {' and '.join(other)}: delete it to begin "
                "anew, or go on with what it was begun with"
            )

    def _commit(self) -> None:
        content = {
            "version": VERSION,
            "about": self._about,
            "frames": self.count,
            "segments": self._segments,
            "last": self._last,
            "state": self._state,
        }
        write_json(self.folder / CHECKPOINT, content)

    # ---- what was done

    def past(self) -> Iterator[Past]:
        """The frames that were done, in order.

        Raises:
            ValueError: a file is missing or damaged.
        """
        for segment in range(self._segments):
            arrays = self._load(self.folder / f"frames-{segment:06d}.safetensors", load_arrays)
            yield from _unpack(arrays)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and the rest, as they were given to `save`; None before the first.

        Raises:
            ValueError: the file is missing or damaged.
        """
        if self._state is None:
            return None
        path = self.folder / f"state-{self._segments - 1:06d}.safetensors"
        tensors = self._load(path, load_tensors)
        for name in self._state["channels_last"]:
            tensors[name] = tensors[name].contiguous(memory_format=torch.channels_last)
        return tensors, self._state["rest"]

    def _load(self, path: Path, load: Any) -> dict[str, Any]:
        try:
            return dict(load(path))
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(
                f"{path} cannot be read ({error}): delete {self.folder} to begin anew"
            ) from error

    def frames(self, source: Frames) -> Iterator[Frame]:
        """All frames of ``source``, of which the first `count` are those of `past`.

        Of these only the last has a picture, unless pictures are wanted or the source must be read
        from its start.

        Raises:
            ValueError: the source gives other frames than before.
        """
        self._source = source
        if self.count == 0:
            yield from source
            return
        rest = None if self._pictures else self._behind(source)
        if rest is None:
            yield from self._from_start(source)
            return
        for past in itertools.islice(self.past(), self.count - 1):
            yield Frame(past.index, past.time, _blank(past.size))
        yield from rest

    def _behind(self, source: Frames) -> Iterator[Frame] | None:
        """From the last frame that was done on; None where a source cannot begin there."""
        if not (self._last["sound"] and isinstance(source, Seekable)):
            return None
        frames = source.resume_at(self._last["index"])
        first = next(frames, None)
        if first is None or not self._is_last(first):
            logger.warning("%s: frames cannot be found again, it is read anew", self.folder)
            return None
        return itertools.chain([first], frames)

    def _from_start(self, source: Frames) -> Iterator[Frame]:
        frames = iter(source)
        for number, past in enumerate(self.past(), 1):
            frame = next(frames, None)
            same = frame is not None and (frame.index, frame.time) == (past.index, past.time)
            if frame is None or not same or (number == self.count and not self._is_last(frame)):
                raise ValueError(
                    f"frame {past.index} is another than when {self.folder} was written: delete "
                    "it to begin anew"
                )
            yield frame
        yield from frames

    def _is_last(self, frame: Frame) -> bool:
        return (
            frame.index == self._last["index"]
            and frame.time == self._last["time"]
            and _digest(frame.image) == self._last["picture"]
        )

    # ---- what is done now

    def add(self, past: Past, image: np.ndarray) -> None:
        """Take down a frame with its picture; it counts from the next `save` on."""
        self._waiting.append(past)
        self._image = image

    def is_due(self) -> bool:
        """Whether it is time to save."""
        if not self._waiting:
            return False
        if self._frames:
            return len(self._waiting) >= self._frames
        return time.monotonic() - self._saved >= self._wait

    def save(self, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
        """Write what was added, and the state after it.

        Args:
            tensors: of people as rows, by name. rest: JSON.

        Raises:
            OSError: it cannot be written.
        """
        assert self._waiting and self._image is not None
        number = f"{self._segments:06d}"
        kept = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
        wide = [name for name, tensor in kept.items() if _is_channels_last(tensor)]
        packed = {name: tensor.contiguous() for name, tensor in kept.items()}
        with replacing_file(self.folder / f"frames-{number}.safetensors") as file:
            file.write(dump_arrays(_pack(self._waiting)))
        with replacing_file(self.folder / f"state-{number}.safetensors") as file:
            file.write(dump_tensors(packed))
        last = self._waiting[-1]
        self._last = {
            "index": last.index,
            "time": last.time,
            "picture": _digest(self._image),
            "sound": isinstance(self._source, Seekable) and self._source.sound,
        }
        self._state = {"channels_last": wide, "rest": dict(rest)}
        self._segments, self.count = self._segments + 1, self.count + len(self._waiting)
        self._commit()
        self._waiting, self._saved = [], time.monotonic()
        self._wait = min(2 * self._wait, self._seconds)
        for old in self.folder.glob("state-*.safetensors"):
            if old.name != f"state-{number}.safetensors":
                old.unlink(missing_ok=True)

    def remove(self) -> None:
        """Take the folder away: the video is done."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def _blank(size: tuple[int, int]) -> np.ndarray:
    """A picture (H, W, 3) that takes no memory."""
    return np.broadcast_to(np.zeros(3, np.uint8), (*size, 3))


def _digest(image: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def _is_channels_last(tensor: Tensor) -> bool:
    """Engines choose their arithmetic by the order in memory, too."""
    return tensor.is_contiguous(memory_format=torch.channels_last)


def _pack(frames: Sequence[Past]) -> dict[str, np.ndarray]:
    """Frames as arrays: every named array one below the other, and ``NAME.rows`` (N,), how many
    rows are each frame's, -1 where it has no such array."""
    packed = {
        "index": np.array([past.index for past in frames], np.int64),
        "time": np.array([past.time for past in frames], np.float64),
        "size": np.array([past.size for past in frames], np.int64),
        "cut": np.array([past.cut for past in frames], np.uint8),
    }
    for name in sorted({name for past in frames for name in past.arrays}):
        parts = [past.arrays.get(name) for past in frames]
        packed[f"{name}.rows"] = np.array([-1 if x is None else len(x) for x in parts], np.int64)
        packed[name] = np.concatenate([part for part in parts if part is not None])
    return packed


def _unpack(packed: dict[str, np.ndarray]) -> Iterator[Past]:
    names = [name for name in packed if f"{name}.rows" in packed]
    begin = dict.fromkeys(names, 0)
    columns = [packed[name].tolist() for name in _OWN]
    for place, (index, seconds, size, cut) in enumerate(zip(*columns)):
        arrays = {}
        for name in names:
            rows = int(packed[f"{name}.rows"][place])
            if rows >= 0:
                arrays[name] = packed[name][begin[name] : begin[name] + rows]
                begin[name] += rows
        yield Past(index, seconds, (size[0], size[1]), bool(cut), arrays)


# ---- what a checkpoint is about


def describe_files(paths: Sequence[str | Path]) -> str:
    """A short text that changes with the files: names, sizes, times of change, and the bytes at
    their starts and ends.

    Raises:
        OSError: one cannot be read.
    """
    text = hashlib.sha256()
    head = max(_LEAST_HEAD, _HEAD // max(1, len(paths)))
    for path in paths:
        state = os.stat(path)
        text.update(f"{os.path.basename(path)}\0{state.st_size}\0{state.st_mtime_ns}\0".encode())
        with open(path, "rb") as file:
            text.update(file.read(head))
            file.seek(max(0, state.st_size - head))
            text.update(file.read(head))
    return text.hexdigest()[:32]


def describe_text(*parts: object) -> str:
    """A short text that changes with the parts' own."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:32]
