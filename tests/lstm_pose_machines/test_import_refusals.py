"""Released files that must not be imported: what is wrong is said, and nothing is written."""

from __future__ import annotations

import pytest

from lstm_pose_machines.import_weights import import_caffe

JOINTS = ["head", "left_hand", "right_hand"]


def changed(layers, name, blob, change):
    return [
        (n, [change(b) if (n, i) == (name, blob) else b for i, b in enumerate(blobs)])
        for n, blobs in layers
    ]


def test_copies_that_disagree_are_named(tmp_path, caffe_bytes, caffe_layers, random_weights):
    layers = caffe_layers(random_weights(), 4)
    source = tmp_path / "net.caffemodel"
    source.write_bytes(caffe_bytes(changed(layers, "f_h_stage4", 0, lambda b: b + 0.5)))
    with pytest.raises(ValueError, match=r"f_h_stage3\[0\] and f_h_stage4\[0\].*up to 0\.5"):
        import_caffe(source, JOINTS)


def test_a_factor_other_than_one_is_refused(tmp_path, caffe_bytes, caffe_layers, random_weights):
    layers = caffe_layers(random_weights(), 3)
    source = tmp_path / "net.caffemodel"
    source.write_bytes(caffe_bytes(changed(layers, "i_stage2", 0, lambda b: b * 2)))
    with pytest.raises(ValueError, match=r"i_stage2\[0\], a gate's fixed factor, must be 1"):
        import_caffe(source, JOINTS)


@pytest.mark.parametrize("lost", ["conv7_stage1", "f_x_stage3", "Mres2_stage3", "o_stage3"])
def test_a_missing_layer_is_reported_and_nothing_written(
    tmp_path, caffe_bytes, caffe_layers, random_weights, lost
):
    """What stage 2 lacks, or holds as the only copy once stage 3's is gone."""
    stage2 = {"f_x_stage3": None, "Mres2_stage3": "Mconv2_stage2", "o_stage3": "o_stage2"}
    gone = {lost, stage2.get(lost)}
    layers = [pair for pair in caffe_layers(random_weights(), 3) if pair[0] not in gone]
    source, target = tmp_path / "net.caffemodel", tmp_path / "net.safetensors"
    source.write_bytes(caffe_bytes(layers))
    if lost == "conv7_stage1":  # the number of maps is unknown without it: the release's is taken
        conversion = import_caffe(source)
    else:
        conversion = import_caffe(source, JOINTS)
    names = {
        "conv7_stage1": "convnet1.conv7.bias",
        "f_x_stage3": "cell.x.f.weight",
        "Mres2_stage3": "head.2.weight",
        "o_stage3": "cell.gate_bias.o",
    }
    assert f"missing    {names[lost]}" in conversion.report()
    with pytest.raises(ValueError, match="required tensors are missing"):
        conversion.write(target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.caffemodel"]


def test_a_number_of_maps_without_names_is_refused(
    tmp_path, caffe_bytes, caffe_layers, random_weights
):
    source = tmp_path / "net.caffemodel"
    source.write_bytes(caffe_bytes(caffe_layers(random_weights(), 3)))
    with pytest.raises(ValueError, match="it has 4 maps.*14 joints.*--joints"):
        import_caffe(source)
