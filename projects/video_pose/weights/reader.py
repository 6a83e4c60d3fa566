"""The one reader of weight files: it executes nothing that a file holds, and names what is wrong.

=================  ==============================================================================
``.safetensors``   tensors by name; joints and background in the metadata
``.pth`` and like  of ``torch.save``: this project's checkpoints, Detectron2's, other code's
``.pkl``           NumPy arrays by name, as Detectron2's model zoo writes them
``.caffemodel``    blobs by layer, without Caffe: the few fields needed of ``caffe.proto`` are
                   declared at run time, and all else is skipped as unknown (docs/PROTOCOLS.md,
                   section 1)
=================  ==============================================================================

A file that reads is not yet a good one: archives are checked against their own check sums, and
every number of a model must be finite.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from safetensors import SafetensorError, safe_open
from torch import Tensor

_PREFIX = "module."
_ZIP = b"PK\x03\x04"
_ZIP_FOLDER = 0x10  # MS-DOS's mark in a part's attributes
# What readers of binary formats raise on bytes that are none of theirs.
_UNREADABLE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    AssertionError,
    ImportError,
    NotImplementedError,
    MemoryError,
    OverflowError,
    RecursionError,
    SystemError,
    UnicodeDecodeError,
)

_PACKAGE = "video_pose_caffe"
_Field = descriptor_pb2.FieldDescriptorProto
# Message -> (field, number, kind); a trailing * repeats, "packed" holds for repeated numbers.
_MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "BlobShape": [("dim", 1, "int64*")],
    "BlobProto": [
        ("num", 1, "int32"),
        ("channels", 2, "int32"),
        ("height", 3, "int32"),
        ("width", 4, "int32"),
        ("data", 5, "float*"),
        ("shape", 7, "BlobShape"),
        ("double_data", 8, "double*"),
    ],
    "LayerParameter": [("name", 1, "string"), ("type", 2, "string"), ("blobs", 7, "BlobProto*")],
    "V1LayerParameter": [("name", 4, "string"), ("blobs", 6, "BlobProto*")],
    "NetParameter": [
        ("name", 1, "string"),
        ("layers", 2, "V1LayerParameter*"),
        ("layer", 100, "LayerParameter*"),
    ],
}
_OLD_DIMS = ("num", "channels", "height", "width")


def read_weights(path: str | Path) -> dict[str, Any]:
    """What a file of weights holds.

    Returns:
        ``model``: {name: tensor on the CPU}; ``joints`` (list of names) and ``background``, where
        the file says what its channels mean; of a checkpoint also what else a run needs;
        ``matching_heuristics`` and ``__author__`` for files whose names are not Detectron2's.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, damaged, of another kind, it holds objects other than plain data, or
            a number of the model is not finite; names file and finding.
    """
    path = Path(path)
    content = _read(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected weights by name, found {type(content).__name__}")
    if path.suffix == ".pyth" and isinstance(content.get("model_state"), dict):  # of pycls
        content = {"model": content["model_state"], "matching_heuristics": True}
    elif path.suffix == ".pkl" and not ("model" in content and "__author__" in content):
        content = _caffe2_layout(content)
    elif "model" not in content:
        content = {"model": content}
    content["model"] = _tensors(path, content["model"])
    require_finite(path, content["model"])
    if "joints" in content:
        _require_names(path, content["joints"])
    return content


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of other code's checkpoint, for a conversion.

    Args:
        path: written by ``torch.save``: a dict of tensors, or one under the key ``state_dict``;
            names with or without the prefix ``module.`` of DataParallel.

    Returns:
        {name without the prefix: tensor on the CPU}.

    Raises:
        FileNotFoundError, ValueError: as `read_weights`.
    """
    path = Path(path)
    content = _read(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a state dict, found {type(content).__name__}")
    tensors = {
        name.removeprefix(_PREFIX): value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    if not tensors:
        raise ValueError(
            f"{path}: expected a state dict, found no tensors under {list(content)[:5]}"
        )
    require_finite(path, tensors)
    return tensors


def require_finite(source: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError for the first tensor that holds NaN or infinity; names ``source``."""
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            wrong = int((~torch.isfinite(value)).sum())
            raise ValueError(
                f"{source}: {wrong} of {value.numel()} numbers of {name} are not finite"
            )


def _read(path: Path) -> Any:
    """The plain content of a file of any kind."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    with path.open("rb") as file:
        start = file.read(len(_ZIP))
    kind = "a PyTorch checkpoint of plain tensors"
    try:
        if path.suffix == ".safetensors":
            kind = "a safetensors file"
            return _read_safetensors(path)
        with path.open("rb") as file:
            if path.suffix == ".pkl" and start != _ZIP:
                kind = "a pickle of plain arrays by name"
                _check_memo(file)
                return _PlainUnpickler(file, encoding="latin1").load()
            return _load_torch(file)
    except PermissionError:
        raise
    except (SafetensorError, OSError, *_UNREADABLE) as error:
        _refuse(path, kind, error)


def _refuse(path: Path, kind: str, error: BaseException) -> NoReturn:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # PyTorch's first line advises to switch the protection off; the reason comes later.
    reasons = [line for line in lines if "Unsupported" in line or "GLOBAL" in line]
    reason = (reasons or lines or ["it ends too early"])[0]
    if "weights_only" in reason:
        reason = "it holds other objects, or is none"
    raise ValueError(
        f"{path}: expected {kind}, found {path.stat().st_size} bytes that cannot be read safely "
        f"(truncated, damaged, or another kind of file): {reason[:200]}"
    ) from error


def _read_safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        content: dict[str, Any] = {"model": {key: file.get_tensor(key) for key in file.keys()}}
    if metadata.get("joints"):
        content["joints"] = metadata["joints"].split(",")
    if metadata.get("background"):
        content["background"] = metadata["background"]
    return content


def _load_torch(file: BinaryIO) -> Any:
    """What ``torch.save`` wrote, in either of its layouts, held against itself first."""
    is_archive = file.read(len(_ZIP)) == _ZIP
    file.seek(0)
    (_check_archive if is_archive else _check_legacy)(file)
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


def _check_archive(file: BinaryIO) -> None:
    """PyTorch reads archives without a look at their check sums, and a tensor that is longer than
    its record to the end, whatever lies behind it in memory. Of a part that is marked as a folder
    it reads nothing, and the tensor stays what the memory held."""
    with zipfile.ZipFile(file) as archive:
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the check sum of {damaged} is wrong: bytes of it were changed")
        parts = archive.infolist()
        if not parts:
            raise ValueError("it is an archive without parts")
        folders = [item.filename for item in parts if item.external_attr & _ZIP_FOLDER]
        if folders:
            raise ValueError(f"its part {folders[0]} is marked as a folder, which holds nothing")
        sizes = {item.filename: item.file_size for item in parts}
        if len({name.lower() for name in sizes}) < len(parts):
            raise ValueError("it holds two parts of one name")
        folder = next(iter(sizes)).split("/")[0]
        storages = _storages(io.BytesIO(archive.read(f"{folder}/data.pkl")))
    for key, length in storages.items():
        if sizes.get(f"{folder}/data/{key}") != length:
            found = sizes.get(f"{folder}/data/{key}")
            raise ValueError(f"its part data/{key} should have {length} bytes, and has {found}")


def _check_legacy(file: BinaryIO) -> None:
    """PyTorch's layout before 1.6: a number, a version, its sizes, the content, the list of the
    storages that follow. One that does not follow would stay what the memory held."""
    for _ in range(3):
        _storages(file)
    storages = _storages(file)
    _check_memo(file)
    listed = _Storages(file).load()
    if not isinstance(listed, list) or sorted(storages) != sorted(map(str, listed)):
        raise ValueError("the list of its parts is not the one that its content names")


def _storages(file: BinaryIO) -> dict[str, int]:
    """The bytes of each storage that the pickle at this place of ``file`` asks for, by its key."""
    _check_memo(file)
    reader = _Storages(file)
    reader.load()
    return reader.sizes


# PyTorch's names of memory for numbers of a type.
_STORAGES = {
    "UntypedStorage": torch.uint8, "ByteStorage": torch.uint8, "CharStorage": torch.int8,
    "ShortStorage": torch.int16, "IntStorage": torch.int32, "LongStorage": torch.int64,
    "HalfStorage": torch.float16, "FloatStorage": torch.float32, "DoubleStorage": torch.float64,
    "BFloat16Storage": torch.bfloat16, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
    "QInt8Storage": torch.qint8, "QUInt8Storage": torch.quint8, "QInt32Storage": torch.qint32,
}  # fmt: skip


class _Storages(pickle.Unpickler):
    """Walks through a pickle of ``torch.save`` for the storages in it, and makes nothing else."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")
        self.sizes: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("torch") and name in _STORAGES:
            return _STORAGES[name]
        return OrderedDict if name == "OrderedDict" else _Nothing

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, _, count = pid[:5]
        size = count * dtype.itemsize
        if kind != "storage" or self.sizes.setdefault(str(key), size) != size:
            raise pickle.UnpicklingError(f"its part {key} has {size} bytes, or others")
        return _Nothing()


class _Nothing:
    """Takes the place of every object in a pickle, and whatever is done to it."""

    def __init__(self, *args: Any) -> None:
        pass

    __call__ = __setstate__ = __setitem__ = append = extend = __init__


def _caffe2_layout(content: dict[str, Any]) -> dict[str, Any]:
    """Detectron 1's and ImageNet models' arrays, whose names Detectron2 matches by heuristics."""
    blobs = content.get("blobs", content)
    if not isinstance(blobs, dict):
        blobs = content
    kept = {name: value for name, value in blobs.items() if not str(name).endswith("_momentum")}
    return {"model": kept, "__author__": "Caffe2", "matching_heuristics": True}


def _tensors(path: Path, found: Any) -> dict[str, Tensor]:
    """``found`` as tensors by name; refuses anything else."""
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{path}: expected weights by name, found {_say(found)}")
    other = [
        name
        for name, value in found.items()
        if not (isinstance(name, str) and isinstance(value, Tensor | np.ndarray | np.generic))
    ]
    if other:
        raise ValueError(
            f"{path}: it holds {other[:5]}, which are no tensors by name; "
            "for other code's weights see tools/convert_weights.py"
        )
    out: dict[str, Tensor] = {}
    for name, value in found.items():
        if isinstance(value, np.ndarray | np.generic):
            array = np.asarray(value)
            if array.dtype.kind not in "fiub":
                raise ValueError(f"{path}: {name} is of type {array.dtype}, which no model has")
            native = array.astype(array.dtype.newbyteorder("="), order="C")
            value = torch.from_numpy(native)
        plain = value.layout == torch.strided and value.device.type == "cpu"
        if value.is_complex() or value.is_quantized or not plain:
            kind = f"{value.dtype} ({value.layout}, on {value.device})"
            raise ValueError(f"{path}: {name} is of type {kind}, which no model has")
        out[name] = value
    return out


def _require_names(path: Path, joints: Any) -> None:
    if not (isinstance(joints, list) and joints and all(isinstance(name, str) for name in joints)):
        raise ValueError(f"{path}: joints must be a list of names, found {_say(joints)}")


def _say(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}..."


def _check_memo(file: BinaryIO) -> None:
    """Refuse a pickle that numbers its parts higher than the file has bytes: some bytes would make
    the unpickler take gigabytes of memory. Stays where the pickle begins."""
    place = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(place)
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name.endswith("PUT") and argument is not None and int(argument) > size:
            raise pickle.UnpicklingError(f"it has a part of number {argument}")
    file.seek(place)


class _PlainUnpickler(pickle.Unpickler):
    """Reads containers, numbers, texts, NumPy arrays and tensors; refuses to look up all else."""

    def find_class(self, module: str, name: str) -> Any:
        maker = _PLAIN.get((module.replace("numpy._core", "numpy.core"), name))
        if maker is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no plain data")
        return maker

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to data outside of itself")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Python 2's bytes, as Python 3 pickles them: a codec of another name could do anything."""
    if encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise pickle.UnpicklingError(f"it asks for the codec {encoding!r}")
    return text.encode(encoding)


def _no_bytes() -> bytes:
    """How older protocols spell them."""
    return b""


def _load_from_bytes(data: bytes) -> Any:
    """PyTorch's own unpickles whatever the bytes hold."""
    return _load_torch(io.BytesIO(data))


class _DType:
    """A type of NumPy's, by its name and byte order: its own takes any state, and a damaged one
    ends the process."""

    def __init__(self, name: str, align: Any = False, copy: Any = True) -> None:
        self.name = name if isinstance(name, str) else name.decode("latin1")
        self.order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"it has numbers in the byte order {order!r}")
        self.order = order

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of numbers or of text that this stands for."""
        if not re.fullmatch(r"[fiub]\d{1,2}|[SU]\d{1,7}", self.name):
            raise pickle.UnpicklingError(f"it has an array of type {self.name!r}, no plain numbers")
        return np.dtype(self.name).newbyteorder(self.order)


class _Array(np.ndarray):
    """An array whose state is looked at before NumPy takes it."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, kind, is_fortran, data = state[-4:]
        if isinstance(kind, _DType) and kind.name.startswith("O"):
            # Of objects, which are not read: who wants the array says what it is called.
            super().__setstate__((1, (0,), np.dtype("O"), False, []))
            return
        super().__setstate__((1, *_array_state(shape, kind, data, bool(is_fortran))))


def _array_state(
    shape: Any, kind: Any, data: Any, is_fortran: bool
) -> tuple[tuple[int, ...], np.dtype[Any], bool, bytes]:
    """The state of an array of plain numbers or text, as NumPy wants it.

    Raises:
        pickle.UnpicklingError: of another type, or its bytes are not as many as its shape needs.
    """
    if not isinstance(kind, _DType) or not isinstance(shape, tuple) or len(shape) > 32:
        raise pickle.UnpicklingError("it has an array without a type or a shape")
    content = data.encode("latin1") if isinstance(data, str) else data
    dtype = kind.dtype
    sizes = [side for side in shape if type(side) is int and side >= 0]
    if len(sizes) < len(shape) or not isinstance(content, bytes | bytearray):
        raise pickle.UnpicklingError(f"it has an array of shape {shape} without its bytes")
    if math.prod(sizes) * dtype.itemsize != len(content):
        raise pickle.UnpicklingError(
            f"it has an array of shape {shape} and type {dtype}, and {len(content)} bytes of it"
        )
    return shape, dtype, is_fortran, bytes(content)


def _reconstruct(kind: Any, shape: Any, letter: Any) -> _Array:
    """An empty array, whose state comes next. NumPy's makes one of any size, unfilled."""
    return np.ndarray.__new__(_Array, (0,), "b")


def _frombuffer(data: Any, kind: Any, shape: Any, order: str) -> np.ndarray:
    """An array as pickles of protocol 5 hold it."""
    shape, dtype, is_fortran, content = _array_state(shape, kind, data, order == "F")
    flat = np.frombuffer(content, dtype)
    return flat.reshape(shape, order="F" if is_fortran else "C")


def _scalar(kind: Any, data: Any = b"") -> Any:
    return _frombuffer(data, kind, (), "C")[()]


_PLAIN: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _DType,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch.storage", "_load_from_bytes"): _load_from_bytes,
}


def read_caffemodel(path: str | Path) -> dict[str, list[np.ndarray]]:
    """The blobs of every layer that has any.

    Args:
        path: a binary NetParameter, with layers of the present or of the V1 kind.

    Returns:
        {layer name: [float32 arrays]}, in the file's order. Old files' blobs have 4 dimensions,
        also where they hold a bias.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, of another kind, without weights, or a blob whose shape and data do
            not agree; names file, expectation and finding.
    """
    path = Path(path)
    content = path.read_bytes()
    net = _net_class()()
    try:
        net.ParseFromString(content)
    except DecodeError as error:
        raise ValueError(
            f"{path}: expected a binary Caffe NetParameter, found {len(content)} bytes that begin "
            f"with {content[:8]!r} and do not parse: truncated, or another kind of file"
        ) from error
    layers: dict[str, list[np.ndarray]] = {}
    for layer in [*net.layers, *net.layer]:
        if not layer.blobs:
            continue
        if layer.name in layers:
            raise ValueError(f"{path}: layer {layer.name!r} occurs twice with weights")
        layers[layer.name] = [
            _array(blob, f"{path}: layer {layer.name!r}, blob {i}")
            for i, blob in enumerate(layer.blobs)
        ]
    if not layers:
        raise ValueError(
            f"{path}: expected a binary Caffe NetParameter with weights, found "
            f"{len(net.layers) + len(net.layer)} layers without any ({len(content)} bytes)"
        )
    return layers


def _array(blob: Any, where: str) -> np.ndarray:
    """float32 array of a BlobProto; ``where`` begins the message of an error."""
    if blob.HasField("shape"):
        shape = tuple(blob.shape.dim)
    else:
        shape = tuple(getattr(blob, name) for name in _OLD_DIMS)
    values = np.array(blob.data or blob.double_data, dtype=np.float32)
    if min(shape, default=1) < 0 or math.prod(shape) != values.size:
        raise ValueError(f"{where}: shape {shape}, but {values.size} values")
    return values.reshape(shape)


def _net_class() -> Any:
    """The message class of NetParameter, from a pool of its own, so that no other one clashes."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto2"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            repeated, kind = kind.endswith("*"), kind.removesuffix("*")
            entry = message.field.add(name=field, number=number)
            entry.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if kind in _MESSAGES:
                entry.type, entry.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
                continue
            entry.type = getattr(_Field, f"TYPE_{kind.upper()}")
            entry.options.packed = repeated
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.NetParameter"))
