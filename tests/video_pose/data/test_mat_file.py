"""MATLAB files of both formats give the same plain values; wrong content is named."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from video_pose.data import mat_file
from video_pose.data.mat_file import (
    load_mat,
    require_array,
    require_field,
    require_structs,
    require_text,
)

POINTS = np.arange(2 * 3 * 4, dtype=np.float64).reshape(2, 3, 4)


class Hdf5Writer:
    """Writes values the way MATLAB's ``save -v7.3`` does."""

    def __init__(self, path: Path) -> None:
        # MATLAB's own header lies in a user block of 512 bytes before the HDF5 content.
        self.file = h5py.File(path, "w", userblock_size=512)
        self.refs = self.file.create_group("#refs#")

    def numbers(self, group: Any, name: str, value: np.ndarray, kind: str = "double") -> Any:
        node = group.create_dataset(name, data=np.atleast_2d(value).T)
        node.attrs["MATLAB_class"] = np.bytes_(kind)
        return node

    def text(self, group: Any, name: str, value: str) -> Any:
        codes = np.array([[ord(c) for c in value]], dtype=np.uint16)
        node = self.numbers(group, name, codes, "char")
        node.attrs["MATLAB_int_decode"] = np.int32(2)
        return node

    def empty(self, group: Any, name: str, kind: str) -> Any:
        node = group.create_dataset(name, data=np.array([0, 0], dtype=np.uint64))
        node.attrs["MATLAB_class"] = np.bytes_(kind)
        node.attrs["MATLAB_empty"] = np.uint8(1)
        return node

    def references(self, group: Any, name: str, nodes: list[Any], kind: str | None) -> Any:
        data = np.array([[node.ref] for node in nodes], dtype=h5py.ref_dtype)
        node = group.create_dataset(name, data=data, dtype=h5py.ref_dtype)
        if kind:
            node.attrs["MATLAB_class"] = np.bytes_(kind)
        return node


def _write_v73(path: Path) -> None:
    w = Hdf5Writer(path)
    w.numbers(w.file, "points", POINTS)
    w.numbers(w.file, "count", np.array([[200]], np.uint8), "uint8")
    w.text(w.file, "action", "pull_up (!)")
    w.empty(w.file, "nothing", "char")
    cell = [w.numbers(w.refs, "a", np.array([[1.0, 2.0]])), w.text(w.refs, "b", "two")]
    w.references(w.file, "cell", cell, "cell")
    struct = w.file.create_group("one")
    struct.attrs["MATLAB_class"] = np.bytes_("struct")
    w.text(struct, "type", "val")
    many = w.file.create_group("many")
    many.attrs["MATLAB_class"] = np.bytes_("struct")
    types = [w.text(w.refs, f"t{i}", t) for i, t in enumerate(("train", "test"))]
    frames = [w.numbers(w.refs, f"f{i}", np.array([[i + 1.0, 9.0]])) for i in range(2)]
    w.references(many, "type", types, None)
    w.references(many, "frames", frames, None)
    w.file.close()


def _write_v5(path: Path) -> None:
    many = np.zeros((1, 2), dtype=[("type", "O"), ("frames", "O")])
    for i, kind in enumerate(("train", "test")):
        many[0, i] = (kind, np.array([[i + 1.0, 9.0]]))
    cell = np.empty((1, 2), dtype=object)
    cell[0, 0], cell[0, 1] = np.array([[1.0, 2.0]]), "two"
    content = {
        "points": POINTS, "count": np.uint8(200), "action": "pull_up (!)", "nothing": "",
        "cell": cell, "one": {"type": "val"}, "many": many,
    }  # fmt: skip
    savemat(path, content)


@pytest.fixture(params=["v5", "v7.3"])
def mat(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = tmp_path / "all.mat"
    (_write_v5 if request.param == "v5" else _write_v73)(path)
    return str(path)


def test_both_formats_give_the_same_values(mat: str) -> None:
    content = load_mat(mat)
    assert sorted(content) == ["action", "cell", "count", "many", "nothing", "one", "points"]
    # MATLAB's axis order: element (1, 2, 3) is 1 * 12 + 2 * 4 + 3 = 23 in both formats.
    assert content["points"].shape == (2, 3, 4)
    np.testing.assert_array_equal(content["points"], POINTS)
    assert content["action"] == "pull_up (!)"
    assert content["nothing"] == ""
    assert content["cell"][1] == "two"
    assert content["cell"][0].ravel().tolist() == [1, 2]
    assert content["one"] == {"type": "val"}
    assert [entry["type"] for entry in content["many"]] == ["train", "test"]
    assert [entry["frames"].tolist() for entry in content["many"]] == [[[1, 9]], [[2, 9]]]


def test_counters_do_not_overflow(mat: str) -> None:
    content = load_mat(mat)
    assert content["count"].dtype == np.uint8
    # 200 + 100 is 44 in uint8.
    assert require_array(content, "count", (1, 1), mat)[0, 0] + 100 == 300


def test_struct_of_one_is_a_list_of_one(mat: str) -> None:
    content = load_mat(mat)
    assert require_structs(content, "one", mat) == [{"type": "val"}]
    assert len(require_structs(content, "many", mat)) == 2


def test_a_dropped_last_axis_is_put_back() -> None:
    # MATLAB saves a (2, 15, 1) array as (2, 15).
    content = {"pos_img": np.ones((2, 15))}
    assert require_array(content, "pos_img", (2, 15, None), "x.mat").shape == (2, 15, 1)


@pytest.mark.parametrize(
    ("field", "shape", "message"),
    [
        ("absent", (1,), "expected field 'absent', got only the fields ['action', 'cell', 'count', "
         "'many', 'nothing', 'one', 'points']."),
        ("points", (2, 15, None), "field 'points': expected shape (2, 15, any), got float64 of "
         "shape (2, 3, 4)."),
        ("points", (2, 3, 4, 5, 6), "field 'points': expected shape (2, 3, 4, 5, 6), got float64 "
         "of shape (2, 3, 4)."),
        ("points", (2, 2, 4), "field 'points': expected shape (2, 2, 4), got float64 of shape "
         "(2, 3, 4)."),
        ("points", (2, 3), "field 'points': expected shape (2, 3), got float64 of shape "
         "(2, 3, 4)."),
        ("action", (2, 3), "field 'action': expected numbers of shape (2, 3), got str "
         "'pull_up (!)'."),
        ("cell", (1, 2), "field 'cell': expected numbers of shape (1, 2), got a list of 2 "
         "(ndarray)."),
        ("one", (1,), "field 'one': expected numbers of shape (1), got dict."),
    ],
)  # fmt: skip
def test_wrong_fields_name_file_field_expected_and_got(
    mat: str, field: str, shape: tuple[int | None, ...], message: str
) -> None:
    with pytest.raises(ValueError) as error:
        require_array(load_mat(mat), field, shape, mat)
    assert str(error.value) == f"{mat}: {message}"


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.int16, np.float32])
def test_numbers_of_any_type_become_floats(kind: type) -> None:
    found = require_array({"f": np.ones((2, 3), kind)}, "f", (2, None), "x.mat")
    assert found.dtype == np.float64 and found.tolist() == [[1, 1, 1]] * 2
    with pytest.raises(ValueError, match="expected numbers of shape .2, any., got complex64 of"):
        require_array({"f": np.ones((2, 3), np.complex64)}, "f", (2, None), "x.mat")


def test_text_and_structs_are_checked(mat: str) -> None:
    content = load_mat(mat)
    assert require_text(content, "action", mat) == "pull_up (!)"
    with pytest.raises(ValueError, match="'points': expected text, got float64"):
        require_text(content, "points", mat)
    with pytest.raises(ValueError, match="expected a struct array"):
        require_structs(content, "cell", mat)
    with pytest.raises(ValueError, match="expected field 'x'"):
        require_field(content, "x", mat)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none.mat"):
        load_mat(str(tmp_path / "none.mat"))
    for name, data in (("text.mat", b"no matlab at all"), ("empty.mat", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=name):
            load_mat(str(tmp_path / name))
    _write_v5(tmp_path / "whole.mat")
    (tmp_path / "cut.mat").write_bytes((tmp_path / "whole.mat").read_bytes()[:300])
    with pytest.raises(ValueError, match="cut.mat"):
        load_mat(str(tmp_path / "cut.mat"))


def _element(kind: int, content: bytes) -> bytes:
    """An element of a version 5 file, padded to 8 bytes."""
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def _numbers(*, flags: int = 6, sides: tuple[int, ...] = (1, 2), kind: int = 9, count: int = 2,
             name: int = 1) -> bytes:  # fmt: skip
    """A matrix of doubles (class 6; their type is 9), with one thing changed."""
    parts = [
        _element(6, struct.pack("<II", flags, 0)),
        _element(5, struct.pack(f"<{len(sides)}i", *sides)),
        _element(name, b"x"),
        _element(kind, np.arange(count, dtype=np.float64).tobytes()),
    ]
    return _element(14, b"".join(parts))


def _write(path: Path, *elements: bytes) -> str:
    header = b"MATLAB 5.0 MAT-file".ljust(124, b" ") + struct.pack("<H", 0x0100) + b"IM"
    path.write_bytes(header + b"".join(elements))
    return str(path)


def _packed(content: bytes) -> bytes:
    packed = zlib.compress(content)
    return struct.pack("<II", 15, len(packed)) + packed


def test_elements_by_hand(tmp_path: Path) -> None:
    """What the damaged files below differ from, plain and compressed."""
    for number, element in enumerate((_numbers(), _packed(_numbers()))):
        path = _write(tmp_path / f"{number}.mat", element)
        np.testing.assert_array_equal(load_mat(path)["x"], [[0, 1]])


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": 60}, "16 bytes of type 60 are not 2 numbers"),
        ({"kind": 8, "count": 0, "sides": (0, 0)}, "0 bytes of type 8"),
        ({"sides": (2, 2)}, "16 bytes of type 9 are not 4 numbers"),
        ({"sides": (2**30, 2**30)}, "numbers"),
        ({"sides": (-1, -2)}, r"a matrix has the size \(-1, -2\)"),
        ({"sides": (2,)}, r"a matrix has the size \(2,\)"),
        ({"sides": (1,) * 32 + (2,)}, r"a matrix has the size \((1, ){32}2\)"),
        ({"flags": 40}, "class 40"),
        ({"flags": 1}, "14|matrix"),
        ({"flags": 2}, "no integers|struct"),
        ({"flags": 5}, "no integers|sparse"),
        ({"flags": 6 | 1 << 11}, "an element is missing"),
        ({"name": 9}, "no name"),
    ],
)
def test_damaged_elements_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str, compressed: bool
) -> None:
    """SciPy trusts types and counts; some of these end its process."""
    element = _numbers(**change)
    path = _write(tmp_path / "a.mat", _packed(element) if compressed else element)
    with pytest.raises(ValueError, match=rf"a\.mat cannot be read as .*({message})"):
        load_mat(path)


def test_a_sparse_matrix_is_held_against_its_size(tmp_path: Path) -> None:
    """Two values in a 3 x 2 matrix: rows 0 and 2, a column each."""

    def sparse(rows: list[int], columns: list[int], values: int = 2, flags: int = 5,
               sides: tuple[int, ...] = (3, 2), parts: int = 1) -> bytes:  # fmt: skip
        content = [
            _element(6, struct.pack("<II", flags, 2)),
            _element(5, struct.pack(f"<{len(sides)}i", *sides)),
            _element(1, b"x"),
            _element(5, struct.pack(f"<{len(rows)}i", *rows)),
            _element(5, struct.pack(f"<{len(columns)}i", *columns)),
            *[_element(9, np.ones(values).tobytes())] * parts,
        ]
        return _element(14, b"".join(content))

    good = load_mat(_write(tmp_path / "good.mat", sparse([0, 2], [0, 1, 2])))
    assert good["x"].toarray().tolist() == [[1, 0], [0, 0], [0, 1]]
    _check(sparse([0, 2, 1], [0, 2, 2]), sparse([], [0, 0, 0], 0))
    for number, bad in enumerate((
        sparse([0, 3], [0, 1, 2]), sparse([0, -1], [0, 1, 2]), sparse([0, 2], [0, 2, 1]),
        sparse([0, 2], [0, 1, 9]), sparse([0, 2], [0, 1]), sparse([0, 2], [0, 0, 1, 2]),
        sparse([0, 2], [1, 1, 2]), sparse([0, 2], [0, 1, 2], sides=(3, 2, 1)),
    )):  # fmt: skip
        with pytest.raises(
            ValueError, match=f"{number}.mat .*sparse .*rows and columns do not fit"
        ):
            load_mat(_write(tmp_path / f"{number}.mat", bad))
    with pytest.raises(ValueError, match="8 bytes of type 9 are not 2 numbers"):
        _check(sparse([0, 2], [0, 1, 2], values=1))
    is_complex = 5 | 1 << 11
    _check(sparse([0, 2], [0, 1, 2], flags=is_complex, parts=2))
    with pytest.raises(ValueError, match="an element is missing"):
        _check(sparse([0, 2], [0, 1, 2], flags=is_complex))
    # Truth values are a byte each, whatever their type says.
    begin = sparse([0, 2], [0, 1, 2], values=0)[8:-8]
    _check(_element(14, begin + _element(9, b"ab")))
    for wrong in (b"abc", b"a"):
        with pytest.raises(ValueError, match=f"{len(wrong)} bytes of type 9 are not 2 numbers"):
            _check(_element(14, begin + _element(9, wrong)))
    with pytest.raises(ValueError, match="2 bytes of type 8 are not 2 numbers"):
        _check(_element(14, begin + _element(8, b"ab")))


def test_a_file_that_inflates_without_end_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(mat_file, "_MOST_BYTES", 1 << 20)
    many = {"sides": (1, 1 << 18), "count": 1 << 18}  # 2 MB of numbers
    path = _write(tmp_path / "a.mat", _packed(_numbers(**many)))
    with pytest.raises(ValueError, match=r"a\.mat .*more than 1 MB inflated"):
        load_mat(path)
    # What is plain counts as well, and what is left is never none: zlib takes 0 for no limit.
    for most in (len(_numbers()), len(_numbers()) + 1, len(_numbers()) - 1):
        monkeypatch.setattr(mat_file, "_MOST_BYTES", most)
        for first in (_numbers(), _packed(_numbers(sides=(1, 1), count=1))):
            with pytest.raises(ValueError, match="has more than 0 MB inflated"):
                _check(first, _packed(_numbers()))
    monkeypatch.setattr(mat_file, "_MOST_BYTES", 2 * len(_numbers()) + 1)
    _check(_numbers(), _packed(_numbers()), same=False)


def test_what_is_inflated_stands_in_its_place() -> None:
    header = b"MATLAB 5.0 MAT-file".ljust(124, b" ") + struct.pack("<H", 0x0100) + b"IM"
    one, two = _numbers(), _numbers(sides=(1, 1), count=1)
    assert mat_file._checked_v5(header + _packed(one) + two + _packed(two)) == (
        header + one + two + two
    )
    with pytest.raises(ValueError, match="it ends too early, or has more than 1024 MB inflated"):
        packed = zlib.compress(one)[:-1]
        mat_file._checked_v5(header + struct.pack("<II", 15, len(packed)) + packed)


@pytest.mark.parametrize("rest", range(1, 8))
def test_bytes_after_the_last_element_are_no_element(rest: int) -> None:
    with pytest.raises(ValueError, match="an element of 0 bytes ends too early"):
        _check(_numbers(), bytes(rest))
    with pytest.raises(ValueError, match=r"an element of \d+ bytes ends too early"):
        _check(_numbers()[:-rest])


def _matrix(flags: int, *parts: bytes, sides: tuple[int, ...] = (1, 1)) -> bytes:
    head = [_element(6, struct.pack("<II", flags, 0))]
    head += [_element(5, struct.pack(f"<{len(sides)}i", *sides)), _element(1, b"x")]
    return _element(14, b"".join([*head, *parts]))


def _check(*elements: bytes, same: bool = True) -> None:
    """Plain elements come out as they are."""
    header = b"MATLAB 5.0 MAT-file".ljust(124, b" ") + struct.pack("<H", 0x0100) + b"IM"
    content = header + b"".join(elements)
    assert (mat_file._checked_v5(content) == content) is same


# Bytes of a number of each type.
SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
ONE = _element(9, np.ones(1).tobytes())
CELL = _element(14, _numbers()[8:])


def _struct(lengths: list[int], names: bytes) -> bytes:
    """With one field; ``lengths``: of a name, which must be one number."""
    sizes = _element(5, struct.pack(f"<{len(lengths)}i", *lengths))
    return _matrix(2, sizes, _element(1, names), CELL)


@pytest.mark.parametrize(
    "element",
    [
        _matrix(6, ONE),
        _matrix(15, ONE),
        _matrix(6 | 1 << 11, ONE, ONE),
        _matrix(6 | 1 << 10, ONE),
        _matrix(6 | 1 << 12, ONE),
        _matrix(4, _element(16, b"a")),
        _matrix(4, _element(17, b"ab")),
        _matrix(4, _element(18, b"abcd")),
        _matrix(4, _element(4, b"ab")),
        _matrix(1, CELL, CELL, sides=(2, 1)),
        _matrix(2, _element(5, struct.pack("<i", 2)), _element(1, b"abcd"), CELL, CELL),
        _matrix(3, _element(1, b"c"), _element(5, struct.pack("<i", 1)), _element(1, b"a"), CELL),
        _matrix(16, CELL),
        _element(14, _element(6, struct.pack("<II", 17, 0)) + _element(1, b"x") * 3 + CELL),
        _element(14, b""),
        _matrix(1, _element(14, b"")),
        _matrix(1, _matrix(9, struct.pack("<II", 2, 1) + b"x")),
        _numbers(name=2), _numbers(name=16), _numbers(sides=(0, 2), count=0),
        _numbers(sides=(1,) * 31 + (2,)),
        _matrix(4, _element(16, b""), sides=(1, 1 << 16)),
        *(_matrix(6, _element(kind, bytes(size))) for kind, size in SIZES.items()),
    ],
)  # fmt: skip
def test_what_matlab_writes_passes(element: bytes) -> None:
    """Numbers, complex and global ones, letters of one, two and four bytes, cells, structs,
    objects, functions, opaque objects, and empty matrices, whole and as parts; a last element that
    is not padded; names of each type of bytes, and numbers of each type."""
    _check(element)


@pytest.mark.parametrize(
    ("element", "message"),
    [
        (_matrix(16), "an element is missing"),
        (_matrix(5 + 11, ONE), "where a matrix was due"),
        (_matrix(1, _element(15, b"")), "an element of type 15 at depth 1 where a matrix was due"),
        (_matrix(1, ONE), "an element of type 9 at depth 1 where a matrix was due"),
        (_matrix(1, _matrix(6, ONE, ONE)), "a matrix of 64 bytes has 80"),
        (_matrix(1, sides=(1, 2**20)), "a matrix of 1048576 parts has"),
        (_struct([1, 1], b"a"), "a struct has"),
        (_struct([0], b"a"), r"a struct has 1 bytes for names of \(0,\)"),
        (_struct([], b"a"), r"a struct has 1 bytes for names of \(\)"),
        (_struct([2], b"abc"), "a struct has 3 bytes"),
        (_matrix(4, _element(9, b"a")), "1 bytes of type 9 are not 1 letters"),
        (_matrix(4, _element(16, b""), sides=(1, 2**17)), "0 bytes of type 16 are not 131072"),
        (_matrix(0, ONE), "a matrix is of class 0"),
        (_matrix(18, ONE), "a matrix is of class 18"),
        (_element(14, _element(6, b"1234")), "a matrix has 1 flags"),
        (_element(14, _element(6, b"123")), "3 bytes is no integers"),
        (_element(9, b"12345678"), "an element of type 9 at depth 0"),
        (struct.pack("<II", 14, 80), "an element of 80 bytes ends too early"),
        (_element(14, struct.pack("<II", 6, 80)), "type 6 and 80 bytes ends too early"),
        (_matrix(6, b"1234567"), "an element is missing"),
        (_matrix(1, sides=(1, 6)), "an element is missing"),
        (_matrix(1, sides=(1, 7)), "a matrix of 7 parts has 48 bytes"),
        (_matrix(1, _element(14, b""), sides=(1, 8)), "a matrix of 8 parts has 56 bytes"),
        (_matrix(1, _element(14, b""), sides=(1, 7)), "an element is missing"),
        (_matrix(2, _element(5, struct.pack("<i", 2)), _element(1, b"abcd"), CELL), "is missing"),
        (_matrix(6, _element(1 << 15, bytes(8))), "8 bytes of type 32768 are not 1 numbers"),
        (_numbers(name=15), "type 15 is no name"),
        (_numbers(name=17), "type 17 is no name"),
        (_matrix(6, _element(9, bytes(9))), "9 bytes of type 9 are not 1 numbers"),
        (_matrix(6, _element(9, b"a")), "1 bytes of type 9 are not 1 numbers"),
        (_matrix(6 | 1 << 11, ONE, _element(9, b"")), "0 bytes of type 9 are not 1 numbers"),
        (_numbers(sides=(2, -1)), r"a matrix has the size \(2, -1\)"),
        (_matrix(4, _element(3, b"ab")), "2 bytes of type 3 are not 1 letters"),
        (_matrix(4, _element(5, b"abcd")), "4 bytes of type 5 are not 1 letters"),
        (_matrix(4, _element(16, b""), sides=(1, 1 + (1 << 16))), "0 bytes of type 16 are not"),
        (_element(14, _element(7, bytes(8))), "type 7 and 8 bytes is no integers"),
        (_element(14, _element(6, bytes(12))), "a matrix has 3 flags"),
        (_matrix(3, _element(1, b"c"), _element(5, struct.pack("<i", 1)), _element(1, b"a")),
         "a matrix of 1 parts|is missing"),
    ],
)  # fmt: skip
def test_what_matlab_never_writes_is_refused(element: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _check(element)


def test_matrices_in_matrices_have_an_end() -> None:
    """50 deep, and no deeper; more parts than are told are left to SciPy at the top alone."""
    element = _numbers()
    for _ in range(50):
        element = _matrix(1, element)
    _check(element)
    with pytest.raises(ValueError, match="an element of type 14 at depth 51"):
        _check(_matrix(1, element))
    opaque = _element(6, struct.pack("<II", 17, 0)) + _element(1, b"x") * 3
    for wrap in (lambda inner: _matrix(16, inner), lambda inner: _element(14, opaque + inner)):
        element = _numbers()
        for _ in range(50):
            element = wrap(element)
        _check(element)
        with pytest.raises(ValueError, match="an element of type 14 at depth 51"):
            _check(wrap(element))


def test_small_elements_hold_their_data_beside_their_type() -> None:
    """Type and size share four bytes, the content takes the other four."""
    small = struct.pack("<HHi", 9, 8, 0)  # 8 bytes do not fit there
    good = struct.pack("<HH4s", 1, 4, b"abcd")
    parts = _element(6, struct.pack("<II", 6, 0)) + _element(5, struct.pack("<2i", 1, 1))
    _check(_element(14, parts + good + ONE))
    with pytest.raises(ValueError, match="type 9 and 8 bytes ends too early"):
        _check(_element(14, parts + good + small))


def test_files_of_version_4_are_left_to_scipy(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"x": np.array([[1.0, 2.0]])}, format="4")
    np.testing.assert_array_equal(load_mat(str(tmp_path / "a.mat"))["x"], [[1, 2]])


def test_files_of_the_other_byte_order(tmp_path: Path) -> None:
    swapped = struct.pack(">II", 14, 56) + struct.pack(">IIII", 6, 8, 6, 0)
    swapped += struct.pack(">IIii", 5, 8, 1, 1) + struct.pack(">I4s", 1 << 16 | 1, b"x")
    swapped += struct.pack(">IId", 9, 8, 7.0)
    header = b"MATLAB 5.0 MAT-file".ljust(124, b" ") + struct.pack(">H", 0x0100) + b"MI"
    (tmp_path / "a.mat").write_bytes(header + swapped)
    np.testing.assert_array_equal(load_mat(str(tmp_path / "a.mat"))["x"], [[7]])


def test_texts_of_h5py_and_of_several_rows(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["one"] = "a text"
        file["more"] = ["a", "b"]
        rows = file.create_dataset("rows", data=np.array([[97, 99], [98, 100]], np.uint16))
        rows.attrs["MATLAB_class"] = "char"
        empty = file.create_dataset("empty", data=np.array([0, 3], np.uint64))
        empty.attrs["MATLAB_empty"], empty.attrs["MATLAB_class"] = 1, np.bytes_("double")
    found = load_mat(str(tmp_path / "a.mat"))
    assert (found["one"], found["more"], found["rows"]) == ("a text", ["a", "b"], ["ab", "cd"])
    assert found["empty"].shape == (0, 3)


def test_fields_of_a_struct_array_have_one_length(tmp_path: Path) -> None:
    w = Hdf5Writer(tmp_path / "a.mat")
    many = w.file.create_group("many")
    many.attrs["MATLAB_class"] = np.bytes_("struct")
    for field, count in (("a", 2), ("b", 1)):
        nodes = [w.text(w.refs, f"{field}{i}", "x") for i in range(count)]
        w.references(many, field, nodes, None)
    w.file.close()
    with pytest.raises(ValueError, match=r"a\.mat cannot be read"):
        load_mat(str(tmp_path / "a.mat"))


def test_structs_of_none_and_with_a_cell_are_no_struct_of_one(tmp_path: Path) -> None:
    """In both formats: an array of no structs, and a struct whose only field is a cell."""
    cell = np.empty((1, 2), dtype=object)
    cell[0, 0], cell[0, 1] = "a", "b"
    none = np.zeros((1, 0), dtype=[("type", "O")])
    savemat(tmp_path / "v5.mat", {"none": none, "holder": {"names": cell}})
    w = Hdf5Writer(tmp_path / "v73.mat")
    for name in ("none", "holder"):
        w.file.create_group(name).attrs["MATLAB_class"] = np.bytes_("struct")
    w.references(w.file["none"], "type", [], None)
    nodes = [w.text(w.refs, text, text) for text in "ab"]
    w.references(w.file["holder"], "names", nodes, "cell")
    w.file.close()
    for file in ("v5.mat", "v73.mat"):
        found = load_mat(str(tmp_path / file))
        assert found == {"none": [], "holder": {"names": ["a", "b"]}}
        assert require_structs(found, "none", file) == []


def test_reasons_are_cut_and_texts_are_described(tmp_path: Path, monkeypatch: Any) -> None:
    def fail(data: bytes) -> bytes:
        raise TypeError("why  " * 100)

    _write_v5(tmp_path / "a.mat")
    monkeypatch.setattr(mat_file, "_checked_v5", fail)
    with pytest.raises(ValueError) as error:
        load_mat(str(tmp_path / "a.mat"))
    assert str(error.value).partition("v7.3): ")[2] == "why " * 50
    for value, words in (
        (3, "int"),
        ("x", "str 'x'"),
        ([], r"a list of 0 \(empty\)"),
        (["x"], r"a list of 1 \(str\)"),
    ):
        with pytest.raises(ValueError, match=f"expected numbers of shape .1., got {words}"):
            require_array({"f": value}, "f", (1,), "x.mat")
