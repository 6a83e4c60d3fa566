"""Caffe files written byte by byte, read back; and files that must be refused."""

from __future__ import annotations

import numpy as np
import pytest

from video_pose.weights.reader import read_caffemodel

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
def test_a_truncated_file_is_named(tmp_path, caffe_bytes, kept):
    content = caffe_bytes([("conv1", [WEIGHT, BIAS])])
    path = tmp_path / "cut.caffemodel"
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"cut\.caffemodel: expected a binary Caffe.*truncated"):
        read_caffemodel(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b'name: "text prototxt"\n'])
def test_a_foreign_file_is_named(tmp_path, content):
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


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.caffemodel"):
        read_caffemodel(tmp_path / "none.caffemodel")
