"""Files of the released layouts with random weights, imported, against the protocol's equations.

The forward below is written from docs/PROTOCOLS.md, section 1, with the files' names and plain
functions; it shares nothing with the model.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.config import get_cfg
from safetensors import safe_open

from lstm_pose_machines import LSTMPoseMachine, add_config
from lstm_pose_machines.import_weights import import_caffe, import_torch
from video_pose import add_video_pose_config

JOINTS = ["head", "left_hand", "right_hand"]


def port_tensors(weights):
    """The PyTorch port's state dict: inputs [heatmaps, features, centre], h without bias."""
    out = {}

    def put(name, pair):
        out[f"{name}.weight"], out[f"{name}.bias"] = pair

    for i in range(1, 8):
        put(f"conv{i}_convnet1", weights[f"a{i}"])
    for i in range(1, 5):
        put(f"conv{i}_convnet2", weights[f"b{i}"])
    for i in range(1, 6):
        put(f"Mconv{i}_convnet3", weights[f"m{i}"])
    for gate in "gfio":
        put(f"conv_{gate}x_lstm", weights[f"x{gate}"])
        out[f"conv_{gate}h_lstm.weight"] = weights[f"h{gate}"][0]
        if gate != "f":
            put(f"conv_{gate}x_lstm0", [torch.randn_like(t) for t in weights[f"x{gate}"]])
    return out


def conv(x, pair):
    weight, bias = pair
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def pool(x):
    """3x3, stride 2, rounded up: an even side n ends in a window of n - 2 and n - 1 alone."""
    return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 3, 2)


def stem(x, weights, net):
    for i in range(1, 4):
        x = pool(F.relu(conv(x, weights[f"{net}{i}"])))
    return F.relu(conv(x, weights[f"{net}4"]))


def initial_maps(x, weights):
    x = stem(x, weights, "a")
    for i in (5, 6):
        x = F.relu(conv(x, weights[f"a{i}"]))
    return conv(x, weights["a7"])


def heatmaps(hidden, weights):
    for i in range(1, 5):
        hidden = F.relu(conv(hidden, weights[f"m{i}"]))
    return conv(hidden, weights["m5"])


def center_map(size):
    """Gaussian of 21 px about pixel size / 2 - 1, not cut in testing; mean of 9x9 every 8 px, of
    what lies inside."""
    d = np.arange(size) - (size // 2 - 1)
    full = np.exp(-(d[:, None] ** 2 + d[None] ** 2) / (2 * 21**2))
    cells = size // 8
    out = [
        [full[8 * r : 8 * r + 9, 8 * c : 8 * c + 9].mean() for c in range(cells)]
        for r in range(cells)
    ]
    return torch.tensor(out, dtype=torch.float32)[None, None]


def caffe_forward(images, weights):
    """Normalised images (T, 3, H, W) -> the initial maps and those of every frame."""
    center = center_map(images.shape[-1])
    previous = initial_maps(images[:1], weights)
    out, hidden, cell = [previous], None, None
    for image in images.split(1):
        x = torch.cat([stem(image, weights, "b"), previous, center], 1)
        s = {k: conv(x, weights[f"x{k}"]) + weights[f"s{k}"][1][:, None, None] for k in "gfio"}
        if hidden is None:
            cell = torch.sigmoid(s["i"]) * torch.tanh(s["g"])
        else:
            s = {k: v + conv(hidden, weights[f"h{k}"]) for k, v in s.items()}
            cell = torch.sigmoid(s["f"]) * cell + torch.sigmoid(s["i"]) * torch.tanh(s["g"])
        hidden = torch.sigmoid(s["o"]) * torch.tanh(cell)
        previous = heatmaps(hidden, weights)
        out.append(previous)
    return out


def load(path, size=64):
    """The model of a written file, built from nothing but the file."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    cfg = get_cfg()
    add_video_pose_config(cfg)
    add_config(cfg)
    cfg.merge_from_list([x for pair in json.loads(metadata["config"]).items() for x in pair])
    cfg.INPUT.CROP_SIZE = (size, size)
    model = LSTMPoseMachine(cfg)
    model.load_state_dict(tensors)
    return model.eval(), metadata


def run(model, images):
    """uint8 images (T, 3, H, W) -> initial maps and every frame's, and the states before them."""
    normalized = model.normalize(images)
    features = model.encode(normalized)
    side = images.shape[-1]
    center = model.center_map(torch.full((1, 2), side / 2), (side, side), training=False)
    state = model.begin(normalized[:1], features[:1])
    out, states = [state.heatmaps], []
    for feature in features.split(1):
        states.append(state)
        maps, state = model.advance(feature, center, state)
        out.append(maps)
    return out, states


def noise(frames, size=64):
    random = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (frames, 3, size, size), dtype=torch.uint8, generator=random)


@pytest.mark.parametrize(
    ("released", "stages", "options"),
    [
        (False, 6, {}),
        (False, 4, {"v1": True, "old_shape": True}),
        (True, 3, {}),
    ],
)
@torch.no_grad()
def test_caffe_parity(
    tmp_path, caffe_bytes, caffe_layers, random_weights, released, stages, options
):
    weights = random_weights(released)
    source, target = tmp_path / "net.caffemodel", tmp_path / "net.safetensors"
    source.write_bytes(caffe_bytes(caffe_layers(weights, stages), **options))
    import_caffe(source, None if released else JOINTS).write(target)
    model, _ = load(target)
    images = noise(4)
    found, _ = run(model, images)
    for a, b in zip(found, caffe_forward((images.float() - 128) / 256, weights), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_port_parity(tmp_path, random_weights):
    weights = random_weights()
    source, target = tmp_path / "port.pth", tmp_path / "port.safetensors"
    tensors = {f"module.{k}": v for k, v in port_tensors(weights).items()}
    torch.save({"state_dict": tensors}, source)
    conversion = import_torch(source, JOINTS)
    conversion.write(target)
    model, _ = load(target)
    images = noise(4)
    found, states = run(model, images)
    normalized, center = (images.float() - 128) / 256, center_map(64)
    torch.testing.assert_close(found[0], initial_maps(normalized[:1], weights), atol=1e-4, rtol=0)
    # The port's first frame has a cell of its own; the later three start from our first state.
    hidden, cell, previous = states[1].hidden, states[1].cell, states[1].heatmaps
    for t in (1, 2, 3):
        x = torch.cat([previous, stem(normalized[t : t + 1], weights, "b"), center], 1)
        s = {
            k: conv(x, weights[f"x{k}"]) + F.conv2d(hidden, weights[f"h{k}"][0], padding=1)
            for k in "gfio"
        }
        cell = torch.sigmoid(s["f"]) * cell + torch.sigmoid(s["i"]) * torch.tanh(s["g"])
        hidden = torch.sigmoid(s["o"]) * torch.tanh(cell)
        previous = heatmaps(hidden, weights)
        torch.testing.assert_close(found[t + 1], previous, atol=1e-4, rtol=1e-4)
    report = conversion.report()
    assert report.count("left over  conv_") == 6 and "45x45" in report and "tanh(g i)" in report


def test_metadata_says_how_to_use_the_file(tmp_path, caffe_bytes, caffe_layers, random_weights):
    source, target = tmp_path / "net.caffemodel", tmp_path / "net.safetensors"
    source.write_bytes(caffe_bytes(caffe_layers(random_weights(), 3)))
    import_caffe(source, JOINTS).write(target)
    model, metadata = load(target)
    assert metadata["joints"] == "head,left_hand,right_hand"
    assert metadata["background"] == "last"
    assert (metadata["encode_offset"], metadata["decode_offset"]) == ("2.5", "3.5")
    assert model.joint_names == JOINTS
    assert (model.codec.encode_offset, model.codec.decode_offset) == (2.5, 3.5)
