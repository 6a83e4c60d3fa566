"""Read the weights of a Caffe network (``.caffemodel``, binary) without Caffe.

The few fields needed of ``caffe.proto`` are declared at run time; everything else in a file is
skipped as unknown. Wire format: docs/PROTOCOLS.md, section 1.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

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
