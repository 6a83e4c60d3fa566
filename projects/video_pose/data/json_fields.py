"""Read JSON files of other people's making field by field, each checked when it is taken.

Every error names the file, the place in it (``annotations[4].bbox``) and the value that is there.
Text is not taken for a number, but for digits as an id; nor a number for text.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

_SHOWN = 80
_LARGEST = 2**63 - 1
_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


class Field:
    """A value of a JSON file, with the place that it has there.

    Attributes:
        value: as ``json`` gives it.
        file: the path.
    """

    __slots__ = ("value", "file", "_parent", "_key", "used")

    def __init__(self, value: Any, file: str, parent: Field | None = None, key: Any = "") -> None:
        self.value = value
        self.file = file
        self._parent = parent
        self._key = key
        # Keys of an object that were asked for.
        self.used: set[str] = set()

    @property
    def place(self) -> str:
        """Where in the file: ``images[3].frame_id``; "" for the whole content."""
        if self._parent is None:
            return ""
        above = self._parent.place
        if isinstance(self._key, int):
            return f"{above}[{self._key}]"
        return f"{above}.{self._key}" if above else str(self._key)

    def error(self, expected: str) -> ValueError:
        """What was expected in place of this value, to be raised."""
        return ValueError(f"{self._where()}: expected {expected}, got {describe(self.value)}")

    def _where(self) -> str:
        owner = self._parent
        while owner is not None and not isinstance(owner.value, dict):
            owner = owner._parent
        named = owner.value.get("id") if owner is not None else None
        owner_name = "" if named is None else f" (id {describe(named)})"
        if self._parent is None:
            return self.file
        return f"{self.file}: {self.place}{owner_name}"

    # ---- objects

    def content(self) -> dict[str, Any]:
        """An object's dict."""
        if not isinstance(self.value, dict):
            raise self.error("an object {...}")
        return self.value

    def get(self, key: str) -> Field | None:
        """A key of an object; None where it lacks or is null."""
        self.used.add(key)
        found = self.content().get(key)
        return None if found is None else Field(found, self.file, self, key)

    def need(self, key: str) -> Field:
        """A key that an object must have, and not as null."""
        found = self.get(key)
        if found is None:
            lacking = Field(None, self.file, self, key)
            state = "null" if key in self.content() else "no such key"
            keys = ", ".join(map(str, list(self.content())[:12])) or "none"
            raise ValueError(f"{lacking._where()}: expected a value, got {state} (keys: {keys})")
        return found

    def unread(self) -> list[str]:
        """Keys of an object that were never asked for, but for those of value null."""
        return [k for k, v in self.content().items() if k not in self.used and v is not None]

    # ---- lists

    def items(self) -> Iterator[Field]:
        """The members of a list."""
        for number, item in enumerate(self.members()):
            yield Field(item, self.file, self, number)

    def members(self) -> list[Any]:
        """A list's members."""
        if not isinstance(self.value, list):
            raise self.error("a list [...]")
        return self.value

    def numbers(self, count: int | None = None, what: str = "") -> np.ndarray:
        """A list of numbers, float64; null becomes NaN, as NaN itself is taken.

        Args:
            count: how many there must be; None for any number. what: their meaning, for the error.
        """
        values = self.members()
        if not set(map(type, values)) <= {int, float, type(None)}:
            raise self.error(f"numbers{what}")
        if count is not None and len(values) != count:
            raise self.error(f"{count} numbers{what}")
        try:
            return np.array(values, dtype=np.float64)
        except OverflowError:
            raise self.error(f"numbers{what} that a float can hold") from None

    def texts(self) -> list[str]:
        """A list of texts."""
        if not all(isinstance(value, str) for value in self.members()):
            raise self.error("a list of texts")
        return list(self.value)

    # ---- single values

    def text(self) -> str:
        """A text that is not empty."""
        if not isinstance(self.value, str) or not self.value:
            raise self.error("text")
        return self.value

    def integer(self, least: int | None = None) -> int:
        """A whole number, 3.0 included. Args: ``least`` that it may be."""
        value = self.value
        whole = type(value) is int or (isinstance(value, float) and value.is_integer())
        if not whole or abs(value) > _LARGEST or (least is not None and value < least):
            limit = "" if least is None else f" of at least {least}"
            raise self.error(f"a whole number{limit}")
        return int(value)

    def number_id(self, least: int | None = None) -> int:
        """An id or a frame's number: a whole number, or its digits as text; ``least`` as above."""
        if isinstance(self.value, str):
            if not re.fullmatch(r"\d+", self.value) or int(self.value) > _LARGEST:
                raise self.error("a whole number, or its digits as text")
            return int(self.value)
        return self.integer(least)

    def number(self) -> float:
        """A finite number."""
        if type(self.value) not in (int, float) or not math.isfinite(self.value):
            raise self.error("a number")
        return float(self.value)

    def identity(self) -> str:
        """An id, as text: a whole number or a text."""
        return self.text() if isinstance(self.value, str) else str(self.integer())

    def flag(self) -> bool:
        """true or false, 1 or 0, 1.0 and 0.0 included."""
        if type(self.value) not in (int, bool, float) or self.value not in (0, 1):
            raise self.error("true, false, 0 or 1")
        return bool(self.value)


def load_json(path: str) -> Field:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON, no UTF-8, nested too deep, or an object has a key twice.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            return Field(json.load(file, object_pairs_hook=_object), path)
    except FileNotFoundError:
        raise FileNotFoundError(f"JSON file {path} does not exist") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder: expected a JSON file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no JSON in UTF-8: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    except RecursionError:
        raise ValueError(f"{path} is no JSON to be read: it is nested too deep") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Python's own lets the last of equal keys count, and says nothing."""
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"an object has the key {twice!r} twice")
    return content


def require_unique(fields: Sequence[Field], what: str) -> None:
    """Raise ValueError, naming the repeated ids, where two fields have the same one."""
    ids = [field.number_id() for field in fields]
    repeated = [value for value, count in Counter(ids).items() if count > 1]
    if repeated:
        second = [field for field, value in zip(fields, ids) if value == repeated[0]][1]
        raise second.error(f"{what}, which no other has: repeated are {repeated[:10]}")


def describe(value: Any) -> str:
    """A value in a message: short, with its kind where that is the point."""
    kind = _KINDS.get(type(value), "")
    text = repr(value)
    if isinstance(value, (dict, list)) and len(text) > _SHOWN:
        return f"{kind} of {len(value)}"
    text = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return f"{kind} {text}" if kind and not isinstance(value, type(None)) else text
