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
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
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
# What readers of binary formats raise on bytes that are none of theirs.
_UNREADABLE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
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
        if start == _ZIP:
            _check_sums(path)
            return torch.load(path, map_location="cpu", weights_only=True)
        if path.suffix == ".pkl":
            kind = "a pickle of plain arrays by name"
            with path.open("rb") as file:
                _check_memo(file, path.stat().st_size)
                return _PlainUnpickler(file, encoding="latin1").load()
        return torch.load(path, map_location="cpu", weights_only=True)
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


def _check_sums(path: Path) -> None:
    """PyTorch reads its archives without a look at the check sums that they hold."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the check sum of {damaged} is wrong: bytes of it were changed")


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
        if value.is_complex() or value.is_quantized or value.layout != torch.strided:
            raise ValueError(f"{path}: {name} is of type {value.dtype}, which no model has")
        out[name] = value
    return out


def _require_names(path: Path, joints: Any) -> None:
    if not (isinstance(joints, list) and joints and all(isinstance(name, str) for name in joints)):
        raise ValueError(f"{path}: joints must be a list of names, found {_say(joints)}")


def _say(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}..."


def _check_memo(file: BinaryIO, size: int) -> None:
    """Refuse a pickle that numbers its parts higher than it has bytes: some bytes would make the
    unpickler take gigabytes of memory."""
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name.endswith("PUT") and argument is not None and int(argument) > size:
            raise pickle.UnpicklingError(f"it has a part of number {argument}")
    file.seek(0)


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


def _load_from_bytes(data: bytes) -> Any:
    """PyTorch's own unpickles whatever the bytes hold."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


_reconstruct: Callable[..., Any] = np.array(0).__reduce__()[0]
_scalar: Callable[..., Any] = np.float64(0).__reduce__()[0]
_frombuffer: Callable[..., Any] = np.zeros(1).__reduce_ex__(5)[0]
_PLAIN: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch.storage", "_load_from_bytes"): _load_from_bytes,
}
for _name in ("Float16", "Float32", "Float64", "Int8", "Int32", "Int64", "UInt8", "Bool"):
    _PLAIN["numpy.dtypes", f"{_name}DType"] = getattr(np.dtypes, f"{_name}DType")


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
