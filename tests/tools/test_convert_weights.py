"""The command line of tools/convert_weights.py."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def tool(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("tools/convert_weights.py")


def layers(maps=3):
    """A network of the LSTM-PM layout, one or two channels wide, all weights 0.25."""

    def conv(out, inp, kernel):
        return [np.full((out, inp, kernel, kernel), 0.25, "f4"), np.zeros(out, "f4")]

    net = [("conv5_stage1", conv(2, 1, 3)), ("conv6_stage1", conv(2, 2, 1))]
    net.append(("conv7_stage1", conv(maps, 2, 1)))
    for stage in (1, 2, 3):
        sizes = [(1, 3, 3), (1, 1, 3), (1, 1, 3), (1, 1, 3)]
        net += [(f"conv{i}_stage{stage}", conv(*size)) for i, size in enumerate(sizes, 1)]
    for gate in "gfio":
        net.append((f"{gate}_x_stage3", conv(2, maps + 2, 3)))
        net.append((f"{gate}_h_stage3", conv(2, 2, 3)))
        net.append((f"{gate}_stage3", [np.ones(2, "f4"), np.zeros(2, "f4")]))
    sizes = [(2, 2, 3), (2, 2, 3), (2, 2, 3), (2, 2, 1), (maps, 2, 1)]
    net += [(f"Mres{i}_stage3", conv(*size)) for i, size in enumerate(sizes, 1)]
    return net


def test_the_layouts_of_all_models(tool):
    assert sorted(tool.find_importers()) == ["lstm_pm_caffe", "lstm_pm_torch", "unipose"]


def test_a_conversion(tool, tmp_path, caffe_bytes, capsys):
    (tmp_path / "in.caffemodel").write_bytes(caffe_bytes(layers()))
    out = tmp_path / "out.safetensors"
    arguments = ["--from", "lstm_pm_caffe", "--joints", "left_hand,right_hand"]
    assert tool.main([*arguments, str(tmp_path / "in.caffemodel"), "--output", str(out)]) == 0
    assert out.is_file()
    printed = capsys.readouterr().out
    assert "matched    f_x_stage3[0] -> cell.x.f.weight (2, 5, 3, 3)" in printed
    assert "left over  g_stage3[0] (2,): the fixed factor 1" in printed
    assert "JOINTS: [left_hand, right_hand]" in printed
    assert "ENCODE_OFFSET: 2.5, DECODE_OFFSET: 3.5" in printed


def test_a_missing_layer_ends_without_a_file(tool, tmp_path, caffe_bytes, capsys):
    incomplete = [pair for pair in layers() if pair[0] != "Mres5_stage3"]
    (tmp_path / "in.caffemodel").write_bytes(caffe_bytes(incomplete))
    arguments = ["--from", "lstm_pm_caffe", "--joints", "left_hand,right_hand"]
    out = tmp_path / "out.safetensors"
    assert tool.main([*arguments, str(tmp_path / "in.caffemodel"), "--output", str(out)]) == 1
    printed = capsys.readouterr()
    assert "missing    head.8.weight (3, 2, 1, 1)" in printed.out
    assert printed.err.startswith("error: ") and "nothing is written" in printed.err
    assert not out.exists()


@pytest.mark.parametrize("layout", ["lstm_pm_caffe", "lstm_pm_torch", "unipose"])
@pytest.mark.parametrize("content", [None, b"PK\x03\x04 cut off"])
def test_a_bad_file_is_one_line(tool, tmp_path, layout, content, capsys):
    source = tmp_path / "in.bin"
    if content is not None:
        source.write_bytes(content)
    assert (
        tool.main(["--from", layout, str(source), "--output", str(tmp_path / "out.safetensors")])
        == 1
    )
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "in.bin" in error and error.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()
