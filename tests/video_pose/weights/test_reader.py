"""State dicts in the shapes that releases have, Caffe files written byte by byte, and files that
must be refused.
"""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from video_pose.weights.reader import read_caffemodel, read_state_dict, read_weights

TENSORS = {"conv.weight": torch.arange(6.0).view(2, 3), "conv.bias": torch.tensor([1.0, -1.0])}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_layouts(tmp_path, nested, prefix):
    content = {prefix + name: value for name, value in TENSORS.items()}
    content = {"epoch": 3, "best": 0.5, "state_dict": content} if nested else content
    torch.save(content, tmp_path / "a.pth")
    read = read_state_dict(tmp_path / "a.pth")
    assert list(read) == ["conv.weight", "conv.bias"]
    assert all(torch.equal(read[name], value) for name, value in TENSORS.items())


class Payload:
    """Unpickling it would run code."""

    ran = False

    def __reduce__(self):
        return (setattr, (Payload, "ran", True))


def test_nothing_in_a_file_is_executed(tmp_path):
    torch.save({"conv.weight": TENSORS["conv.weight"], "x": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth: expected a PyTorch checkpoint"):
        read_state_dict(tmp_path / "evil.pth")
    assert not Payload.ran


def test_a_truncated_file_is_named(tmp_path):
    torch.save(TENSORS, tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut\.pth: expected a PyTorch checkpoint"):
        read_state_dict(tmp_path / "cut.pth")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_foreign_file_is_named(tmp_path, content):
    (tmp_path / "foreign.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"foreign\.pth: expected a PyTorch checkpoint"):
        read_state_dict(tmp_path / "foreign.pth")


@pytest.mark.parametrize("content", [{"epoch": 3}, [1.0, 2.0]])
def test_a_file_without_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "plain.pth")
    with pytest.raises(ValueError, match=r"plain\.pth: expected a state dict"):
        read_state_dict(tmp_path / "plain.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        read_state_dict(tmp_path / "none.pth")


ARRAYS = {name: value.numpy() for name, value in TENSORS.items()}


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_the_zoos_pickles_of_arrays(tmp_path: Path, protocol: int) -> None:
    content = {"model": ARRAYS, "__author__": "someone", "matching_heuristics": True}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_weights(tmp_path / "a.pkl")
    assert read["matching_heuristics"] and read["__author__"] == "someone"
    assert all(torch.equal(read["model"][name], value) for name, value in TENSORS.items())


def test_caffe2s_arrays_are_matched_by_heuristics(tmp_path: Path) -> None:
    content = {"blobs": {"conv1_w": ARRAYS["conv.weight"], "conv1_w_momentum": np.zeros(2)}}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=2))
    read = read_weights(tmp_path / "a.pkl")
    assert list(read["model"]) == ["conv1_w"] and read["__author__"] == "Caffe2"


class Runs:
    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("name", ["a.pkl", "a.pth", "a.pyth"])
def test_a_pickle_executes_nothing(tmp_path: Path, name: str) -> None:
    mark = tmp_path / "ran"
    calls = [Runs(os.mkdir, str(mark)), Runs(eval, f"__import__('os').mkdir({str(mark)!r})")]
    calls.append(Runs(torch.storage._load_from_bytes, pickle.dumps(Runs(os.mkdir, str(mark)))))
    for call in calls:
        content = {"model": ARRAYS, "__author__": call}
        (tmp_path / name).write_bytes(pickle.dumps(content))
        with pytest.raises(ValueError, match=rf"{name}: expected .* cannot be read safely"):
            read_weights(tmp_path / name)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["pth", "safetensors", "pkl"])
def test_a_number_that_is_not_finite_is_named(tmp_path: Path, kind: str) -> None:
    path, broken = tmp_path / f"a.{kind}", {**TENSORS, "conv.bias": torch.tensor([1.0, np.inf])}
    if kind == "pth":
        torch.save({"model": broken}, path)
    elif kind == "safetensors":
        save_file(broken, path)
    else:
        arrays = {name: value.numpy() for name, value in broken.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "x"}))
    with pytest.raises(ValueError, match=rf"a\.{kind}: 1 of 2 numbers of conv.bias are not finite"):
        read_weights(path)


def test_every_flipped_bit_of_the_weights_is_seen(tmp_path: Path) -> None:
    """PyTorch itself reads such an archive without a word."""
    torch.save({"model": {"a": torch.ones(64)}}, tmp_path / "a.pth")
    whole = (tmp_path / "a.pth").read_bytes()
    place = whole.index(torch.ones(64).numpy().tobytes())
    for bit in (0, 7, 200, 64 * 32 - 1):
        damaged = bytearray(whole)
        damaged[place + bit // 8] ^= 1 << bit % 8
        (tmp_path / "b.pth").write_bytes(damaged)
        with pytest.raises(ValueError, match="b.pth: .*check sum of .* is wrong"):
            read_weights(tmp_path / "b.pth")


@pytest.mark.parametrize("kind", ["pth", "safetensors", "pkl"])
def test_a_file_cut_anywhere_is_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "pth":
        torch.save({"model": TENSORS}, path)
    elif kind == "safetensors":
        save_file(TENSORS, path)
    else:
        path.write_bytes(pickle.dumps({"model": ARRAYS, "__author__": "x"}))
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, max(1, len(whole) // 40)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"a\.{kind}") as error:
            read_weights(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "expected weights by name, found list"),
        ({"model": [1]}, "expected weights by name, found list"),
        ({"model": {}}, "expected weights by name, found dict"),
        ({"model": {"a": 1}}, r"it holds \['a'\], which are no tensors"),
        ({"model": {3: torch.ones(1)}}, r"it holds \[3\], which are no tensors"),
        ({"model": {"a": torch.ones(1).cfloat()}}, "a is of type torch.complex64"),
        ({"model": TENSORS, "joints": "a,b"}, "joints must be a list of names, found 'a,b'"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content, message: str) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=rf"a\.pth: {message}"):
        read_weights(tmp_path / "a.pth")


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    content = {"model": {"a": np.array([None, "x"], object)}, "__author__": "x"}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"a\.pkl: a is of type object"):
        read_weights(tmp_path / "a.pkl")


WEIGHT = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 7
BIAS = np.array([-1.5, 2.25], np.float32)


@pytest.mark.parametrize("v1", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_both_kinds_of_layers(tmp_path, caffe_bytes, v1, packed):
    path = tmp_path / "net.caffemodel"
    layers = [("data", []), ("conv1", [WEIGHT, BIAS]), ("conv2", [BIAS])]
    path.write_bytes(caffe_bytes(layers, v1=v1, packed=packed))
    read = read_caffemodel(path)
    assert list(read) == ["conv1", "conv2"]  # data has no weights
    np.testing.assert_array_equal(read["conv1"][0], WEIGHT)
    np.testing.assert_array_equal(read["conv1"][1], BIAS)
    assert read["conv1"][0].dtype == np.float32


def test_old_files_give_every_blob_four_dimensions(tmp_path, caffe_bytes):
    path = tmp_path / "old.caffemodel"
    path.write_bytes(caffe_bytes([("conv1", [WEIGHT, BIAS])], v1=True, old_shape=True))
    weight, bias = read_caffemodel(path)["conv1"]
    np.testing.assert_array_equal(weight, WEIGHT)
    assert bias.shape == (1, 1, 1, 2)
    np.testing.assert_array_equal(bias.ravel(), BIAS)


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_truncated_caffe_file_is_named(tmp_path, caffe_bytes, kept):
    content = caffe_bytes([("conv1", [WEIGHT, BIAS])])
    path = tmp_path / "cut.caffemodel"
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"cut\.caffemodel: expected a binary Caffe.*truncated"):
        read_caffemodel(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b'name: "text prototxt"\n'])
def test_a_foreign_caffe_file_is_named(tmp_path, content):
    path = tmp_path / "foreign.caffemodel"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"foreign\.caffemodel: expected a binary Caffe"):
        read_caffemodel(path)


def test_a_network_without_weights_is_refused(tmp_path, caffe_bytes):
    path = tmp_path / "empty.caffemodel"
    path.write_bytes(caffe_bytes([("data", []), ("conv1", [])]))
    with pytest.raises(ValueError, match="2 layers without any"):
        read_caffemodel(path)


def test_shape_and_values_must_agree(tmp_path, caffe_bytes):
    content = caffe_bytes([("conv1", [BIAS])])
    # The one dimension of the shape, 2, becomes 3.
    wrong = content.replace(b"\x3a\x03\x0a\x01\x02", b"\x3a\x03\x0a\x01\x03")
    assert wrong != content
    path = tmp_path / "wrong.caffemodel"
    path.write_bytes(wrong)
    with pytest.raises(ValueError, match=r"layer 'conv1', blob 0: shape \(3,\), but 2 values"):
        read_caffemodel(path)


def test_a_layer_occurs_once(tmp_path, caffe_bytes):
    path = tmp_path / "twice.caffemodel"
    path.write_bytes(caffe_bytes([("conv1", [BIAS]), ("conv1", [BIAS])]))
    with pytest.raises(ValueError, match="'conv1' occurs twice"):
        read_caffemodel(path)


def test_a_missing_caffe_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.caffemodel"):
        read_caffemodel(tmp_path / "none.caffemodel")


def _write_four_numbers(path: Path, kept: int = 16, attributes: int = 0) -> None:
    """A checkpoint whose only storage has the first ``kept`` bytes, and these attributes."""
    saved = io.BytesIO()
    torch.save({"model": {"a": torch.zeros(4)}}, saved)
    with zipfile.ZipFile(saved) as whole, zipfile.ZipFile(path, "w") as archive:
        for name in whole.namelist():
            item, content = zipfile.ZipInfo(name), whole.read(name)
            if name.endswith("data/0"):
                item.external_attr, content = attributes, content[:kept]
            archive.writestr(item, content)


def test_a_tensor_longer_than_its_record_is_refused(tmp_path: Path) -> None:
    """PyTorch would fill it with what lies behind the record in memory."""
    # Check sums and the pickle are right; of four numbers, 16 bytes, three are there.
    _write_four_numbers(tmp_path / "b.pth", kept=12)
    with pytest.raises(ValueError, match=r"b\.pth: .*data/0 should have 16 bytes, and has 12"):
        read_weights(tmp_path / "b.pth")


def test_two_parts_of_one_name_are_refused(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.zeros(4)}}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth", "a") as archive, pytest.warns(UserWarning):
        archive.writestr(next(n for n in archive.namelist() if n.endswith("/data/0")), bytes(16))
    with pytest.raises(ValueError, match=r"a\.pth: .*two parts of one name"):
        read_weights(tmp_path / "a.pth")


def test_a_part_that_is_marked_as_a_folder_is_refused(tmp_path: Path) -> None:
    """PyTorch would read nothing of it, and leave the tensor what the memory held."""
    _write_four_numbers(tmp_path / "b.pth", attributes=0x10)
    with pytest.raises(ValueError, match=r"b\.pth: .*data/0 is marked as a folder"):
        read_weights(tmp_path / "b.pth")


def test_an_archive_without_parts_or_of_broken_compression_is_one_line(tmp_path: Path) -> None:
    zipfile.ZipFile(tmp_path / "a.pth", "w").close()
    # PyTorch's mark of an archive is that of its first part.
    empty = b"PK\3\4" + (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(empty)
    with pytest.raises(ValueError, match=r"a\.pth: .*without parts"):
        read_weights(tmp_path / "a.pth")
    torch.save({"model": {"a": torch.zeros(400)}}, tmp_path / "b.pth")
    whole = bytearray((tmp_path / "b.pth").read_bytes())
    place = whole.index(b"PK\1\2")  # of the list of parts: the method of the first
    whole[place + 10] = zipfile.ZIP_DEFLATED
    (tmp_path / "b.pth").write_bytes(whole)
    with pytest.raises(ValueError, match=r"b\.pth: .*cannot be read safely.*decompressing"):
        read_weights(tmp_path / "b.pth")


def test_the_old_layouts_list_takes_no_memory_for_parts_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"model": {"a": torch.zeros(4)}}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    place = whole.rindex(b"]q\x00")  # the list of storages, and its number in the memo
    path.write_bytes(whole[:place] + b"]r\xff\xff\xff\x7f" + whole[place + 3 :])
    with pytest.raises(ValueError, match=r"a\.pth: .*it has a part of number 2147483647"):
        read_weights(path)


class _AnyObject(pickle.Unpickler):
    """Reads past the pickle of PyTorch's tensors."""

    def find_class(self, module: str, name: str) -> Any:
        return lambda *args: {}

    def persistent_load(self, pid: Any) -> None:
        return None


def test_the_old_layout_lists_what_it_holds(tmp_path: Path) -> None:
    content = {"model": {"a": torch.arange(3.0), "b": torch.ones(2)}}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert read_weights(tmp_path / "a.pth")["model"]["a"].tolist() == [0, 1, 2]
    data = (tmp_path / "a.pth").read_bytes()
    with open(tmp_path / "a.pth", "rb") as file:
        for _ in range(3):
            pickle.load(file)
        _AnyObject(file).load()
        start = file.tell()
        keys = pickle.load(file)
        rest = file.read()
    assert len(keys) == 2
    (tmp_path / "b.pth").write_bytes(data[:start] + pickle.dumps(keys[:1], 2) + rest)
    with pytest.raises(ValueError, match=r"b\.pth: .*list of its parts"):
        read_weights(tmp_path / "b.pth")


def _pickle_of(dtype: str, shape: str, data: str) -> bytes:
    """A model of one array, whose state is as given, as a pickle of protocol 0 spells it."""
    array = (
        "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        f"(I1\n{shape}cnumpy\ndtype\n(S'{dtype}'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
        f"S'{data}'\ntb"
    )
    return f"(dS'__author__'\nS'x'\nsS'model'\n(dS'a'\n{array}ss.".encode()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (("f4", "(I3\nt", "abcdefgh"), "8 bytes of it"),
        (("f4", "(I-2\nt", "abcdefgh"), "shape"),
        (("f4", "(I4611686018427387904\nI4\nt", ""), "0 bytes of it"),
        (("V8", "(I1\nt", "abcdefgh"), "'V8', no plain numbers"),
        (("M8[s]", "(I1\nt", "abcdefgh"), "no plain numbers"),
        (("f4", "I2\n", "abcdefgh"), "without a type or a shape"),
    ],
)
def test_an_array_of_another_size_than_its_bytes_is_refused(
    tmp_path: Path, state: tuple[str, str, str], message: str
) -> None:
    (tmp_path / "good.pkl").write_bytes(_pickle_of("f4", "(I2\nt", "abcdefgh"))
    assert read_weights(tmp_path / "good.pkl")["model"]["a"].shape == (2,)
    (tmp_path / "bad.pkl").write_bytes(_pickle_of(*state))
    with pytest.raises(ValueError, match=rf"bad\.pkl: .*{message}"):
        read_weights(tmp_path / "bad.pkl")


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_kind_and_protocol(tmp_path: Path, protocol: int) -> None:
    model = {
        "rows": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "swapped": np.arange(3, dtype=">i8"),
        "number": np.float32(3),
        "none": np.zeros((0, 3), np.float16),
        "point": np.array(True),
    }
    content = pickle.dumps({"model": model, "__author__": "x"}, protocol)
    (tmp_path / "a.pkl").write_bytes(content)
    found = read_weights(tmp_path / "a.pkl")["model"]
    for name, value in model.items():
        assert found[name].shape == value.shape, name
        np.testing.assert_array_equal(found[name].numpy(), value)


@pytest.mark.parametrize("tensor", [torch.ones(2).to("meta"), torch.ones(2).to_sparse()])
def test_a_tensor_without_numbers_of_its_own_is_refused(
    tmp_path: Path, tensor: torch.Tensor
) -> None:
    torch.save({"model": {"a": tensor}}, tmp_path / "a.pth")
    with pytest.raises(
        ValueError, match=r"a\.pth: a is of type .*(on meta|sparse).*, which no model"
    ):
        read_weights(tmp_path / "a.pth")
