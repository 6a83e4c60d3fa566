"""Fields of a JSON file: each error names file, place and value; no text is taken for a number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from video_pose.data.json_fields import Field, describe, load_json, require_unique


def _field(value: Any, key: str = "k") -> Field:
    found = Field({"id": 7, key: [value]}, "f.json").need(key)
    return next(iter(found.items()))


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (Field.integer, "4", "a whole number, got text '4'"),
        (Field.integer, 4.5, "a whole number, got 4.5"),
        (Field.integer, True, "a whole number, got true or false True"),
        (Field.integer, 10**30, "a whole number"),
        (lambda f: f.integer(1), 0, "a whole number of at least 1, got 0"),
        (Field.number, float("nan"), "a number, got nan"),
        (Field.number, "1e3", "a number, got text"),
        (Field.text, 3, "text, got 3"),
        (Field.text, "", "text, got text ''"),
        (Field.identity, 1.5, "a whole number, got 1.5"),
        (Field.identity, [1], "a whole number, got a list"),
        (Field.flag, 2, "true, false, 0 or 1, got 2"),
        (Field.flag, "false", "true, false, 0 or 1, got text 'false'"),
        (Field.texts, ["a", 1], "a list of texts"),
        (Field.members, {"0": 1}, "a list [...], got an object"),
        (Field.content, [1], "an object"),
        (lambda f: f.numbers(4), [1, 2, 3], "4 numbers"),
        (Field.numbers, ["57", 1], "numbers, got a list"),
        (Field.numbers, [True, 1], "numbers, got a list"),
        (Field.numbers, [10**400], "numbers that a float can hold"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    read: Callable[[Field], Any], value: Any, expected: str
) -> None:
    with pytest.raises(ValueError) as error:
        read(_field(value))
    assert str(error.value).startswith(f"f.json: k[0] (id 7): expected {expected}")


def test_right_values() -> None:
    assert _field(3.0).integer() == 3 and _field("a7").identity() == "a7"
    assert _field(7).identity() == "7" and _field(0).flag() is False
    np.testing.assert_array_equal(_field([1, None, 2.5]).numbers(3), [1, np.nan, 2.5])


def test_a_key_that_lacks_is_named_with_those_that_exist() -> None:
    content = Field({"images": [{"id": 4, "name": "x", "size": None}]}, "f.json")
    image = next(iter(content.need("images").items()))
    assert image.get("size") is None and image.get("other") is None
    with pytest.raises(
        ValueError, match=r"f.json: images\[0\].file \(id 4\): .*no such key \(keys: id, name"
    ):
        image.need("file")
    with pytest.raises(ValueError, match=r"images\[0\].size.*got null"):
        image.need("size")


def test_keys_that_nobody_asked_for() -> None:
    field = Field({"a": 1, "b": 2, "c": None}, "f.json")
    field.get("a")
    assert field.unread() == ["b"]


def test_repeated_values_are_named_not_the_good_ones() -> None:
    fields = [Field(n, "f.json", Field([], "f.json"), i) for i, n in enumerate([1, 2, 3, 2])]
    with pytest.raises(ValueError, match=r"f.json: \[3\]: .*repeated are \[2\], got 2"):
        require_unique(fields, "its own id")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is no JSON: "),
        (b"", "is no JSON: "),
        ('{"\xe9": 1}'.encode("latin-1"), "no JSON in UTF-8"),
        (b"[" * 100_000, "nested too deep"),
        (b"[" + b"9" * 5000 + b"]", "is no JSON: "),
        (b'[{"a": {"b": 1, "c": 2, "b": 1}}]', "is no JSON: an object has the key 'b' twice"),
        (b'{"a": 1, "b": 1, "b": 1, "b": 2}', "is no JSON: an object has the key 'b' twice"),
    ],
)
def test_what_is_no_json_names_the_file(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"bad.json.*{words}"):
        load_json(str(path))


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "bom.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([1]).encode())
    assert load_json(str(path)).value == [1]
    with pytest.raises(FileNotFoundError, match="none.json"):
        load_json(str(tmp_path / "none.json"))
    with pytest.raises(ValueError, match="is a folder"):
        load_json(str(tmp_path))


def test_how_much_of_a_value_is_shown() -> None:
    """80 letters of a text; lists and objects up to 80 as they are, then their length."""
    for value, shown in (
        ("x" * 78, "text '" + "x" * 78 + "'"),
        ("x" * 79, "text '" + "x" * 79 + "..."),
        ([1] * 26, "a list [" + "1, " * 25 + "1]"),
        ([1] * 27, "a list of 27"),
        ({"a": 1}, "an object {'a': 1}"),
        ({i: 1 for i in range(30)}, "an object of 30"),
        (None, "None"), (True, "true or false True"), (3, "3"), (2.5, "2.5"),
    ):  # fmt: skip
        assert describe(value) == shown
    crowded = Field({f"k{i:02d}": 1 for i in range(14)}, "f.json")
    with pytest.raises(ValueError, match=r"keys: k00, .*k10, k11\)$"):
        crowded.need("x")
    with pytest.raises(ValueError, match=r"no such key \(keys: none\)$"):
        Field({}, "f.json").need("x")


@pytest.mark.parametrize(
    ("value", "least", "good"),
    [
        (2**63 - 1, None, True), (2**63, None, False), (-(2**63) + 1, None, True),
        (-(2**63), None, False), (1, 1, True), (0, 1, False), (2.0, None, True),
        (5, 1, True), (2.5, None, False), (True, None, False), ("2", None, False),
    ],
)  # fmt: skip
def test_whole_numbers(value: Any, least: int | None, good: bool) -> None:
    if good:
        assert _field(value).integer(least) == int(value)
    else:
        limit = "" if least is None else " of at least 1"
        with pytest.raises(ValueError, match=f"expected a whole number{limit}, got"):
            _field(value).integer(least)


def test_ten_repeated_values_are_named() -> None:
    fields = [Field(n, "f.json", Field([], "f.json"), n) for n in [*range(12), *range(12)]]
    with pytest.raises(ValueError, match=r"repeated are \[0, 1, 2, 3, 4, 5, 6, 7, 8, 9\], got 0"):
        require_unique(fields, "its own id")


def test_flags_and_places() -> None:
    assert [_field(value).flag() for value in (0, 1, True, False)] == [False, True, True, False]
    assert [_field(value).flag() for value in (0.0, 1.0)] == [False, True]
    for value in (2, -1, 0.5, "1", None):
        with pytest.raises(ValueError, match="true, false, 0 or 1"):
            Field(value, "f.json", Field({}, "f.json"), "k").flag()
    inner = next(Field({"a": {"b": [[5]]}}, "f.json").need("a").need("b").items())
    assert inner.place == "a.b[0]" and next(inner.items()).place == "a.b[0][0]"
    for content, place in (({"k": 3}, "k"), ({"k": [3], "id": None}, "k[0]"), ([3], "[0]")):
        field = Field(content, "f.json")
        field = field.need("k") if isinstance(content, dict) else next(field.items())
        field = next(field.items()) if isinstance(field.value, list) else field
        with pytest.raises(ValueError) as error:
            field.text()
        assert str(error.value) == f"f.json: {place}: expected text, got 3", "nobody has an id"
    with pytest.raises(ValueError, match="^f.json: expected text, got"):
        Field(3, "f.json").text()
