"""Checkpoints of the released layout with random weights, imported, against the released equations.

The forward below is written from docs/PROTOCOLS.md, section 2, with the files' names and plain
functions; it shares nothing with the model.
"""

from __future__ import annotations

import json
import re

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import get_cfg
from detectron2.modeling import META_ARCH_REGISTRY
from safetensors import safe_open

from unipose_lstm import add_config
from unipose_lstm.import_weights import import_unipose, target_name
from video_pose import add_video_pose_config

JOINTS = ["head", "left_hand", "right_hand"]


class Reference:
    """The released forward pass."""

    def __init__(self, tensors):
        self.t = tensors

    def conv(self, name, x, *, stride=1, dilation=1):
        weight = self.t[f"{name}.weight"]
        padding = dilation * (weight.shape[-1] // 2)
        return F.conv2d(x, weight, self.t.get(f"{name}.bias"), stride, padding, dilation)

    def norm(self, name, x):
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(self.t[f"{name}.{key}"] for key in keys))

    def block(self, name, x, stride, dilation):
        y = F.relu(self.norm(f"{name}.bn1", self.conv(f"{name}.conv1", x)))
        y = self.conv(f"{name}.conv2", y, stride=stride, dilation=dilation)
        y = self.norm(
            f"{name}.bn3", self.conv(f"{name}.conv3", F.relu(self.norm(f"{name}.bn2", y)))
        )
        if f"{name}.downsample.0.weight" in self.t:
            x = self.norm(
                f"{name}.downsample.1", self.conv(f"{name}.downsample.0", x, stride=stride)
            )
        return F.relu(x + y)

    def backbone(self, x):
        x = F.relu(self.norm("backbone.bn1", self.conv("backbone.conv1", x, stride=2)))
        x, low = F.max_pool2d(x, 3, 2, 1), None
        blocks = sorted(
            {
                (int(m[1]), int(m[2]))
                for m in (re.match(r"backbone\.layer(\d)\.(\d+)", k) for k in self.t)
                if m
            }
        )
        for stage, i in blocks:
            # Stage 4 keeps the stride of 16; dilation 2 times the multi-grid 1, 2, 4.
            stride = 2 if i == 0 and stage in (2, 3) else 1
            dilation = 2 * (1, 2, 4)[i] if stage == 4 else 1
            x = self.block(f"backbone.layer{stage}.{i}", x, stride, dilation)
            low = x if stage == 1 else low
        return low, x

    def wasp(self, x):
        outputs, y = [], x
        for i, dilation in enumerate((1, 18, 12, 6), start=1):
            y = self.conv(f"wasp.aspp{i}.atrous_conv", y, dilation=dilation)
            y = F.relu(self.norm(f"wasp.aspp{i}.bn", y))
            outputs.append(self.conv("wasp.conv2", self.conv("wasp.conv2", y)))
        pooled = self.conv("wasp.global_avg_pool.1", F.adaptive_avg_pool2d(x, 1))
        if "wasp.global_avg_pool.2.weight" in self.t:
            pooled = self.norm("wasp.global_avg_pool.2", pooled)
        size = x.shape[-2:]
        outputs.append(F.interpolate(F.relu(pooled), size, mode="bilinear", align_corners=True))
        return F.relu(self.norm("wasp.bn1", self.conv("wasp.conv1", torch.cat(outputs, 1))))

    def maps(self, images):
        low, high = self.backbone(images)
        low = F.relu(self.norm("decoder.bn1", self.conv("decoder.conv1", low)))
        low = F.max_pool2d(low, 3, 2, 1)
        x = F.interpolate(self.wasp(high), low.shape[-2:], mode="bilinear", align_corners=True)
        x = torch.cat([x, low], 1)
        for conv, norm in ((0, 1), (4, 5)):
            x = self.conv(f"decoder.last_conv.{conv}", x)
            x = F.relu(self.norm(f"decoder.last_conv.{norm}", x))
        return self.conv("decoder.last_conv.8", x)

    def video(self, images):
        """Images (T, 3, H, W) -> final maps of every frame."""
        hidden, cell, out = None, None, []
        center = center_map(images.shape[-1])
        for maps in self.maps(images).split(1):
            x = torch.cat([maps, center], 1)
            if hidden is None:
                g, i, o = (self.conv(f"lstm_0.conv_{k}_lstm", x) for k in "gio")
                cell = torch.tanh(torch.tanh(g) * torch.sigmoid(i))
                hidden = torch.sigmoid(o) * cell
            else:
                s = {
                    k: self.conv(f"lstm.conv_{k}x_lstm", x)
                    + self.conv(f"lstm.conv_{k}h_lstm", hidden)
                    for k in "gfio"
                }
                cell = torch.sigmoid(s["f"]) * cell + torch.sigmoid(s["i"]) * torch.tanh(s["g"])
                hidden = torch.sigmoid(s["o"]) * torch.tanh(cell)
            y = hidden
            for i in range(1, 6):
                y = F.relu(self.conv(f"conv{i}", y))
            out.append(y)
        return torch.cat(out)


def center_map(size):
    """Sigma 3 px about pixel size / 2 - 1, cut below .0099; pooled 9x9, stride 8, padding 1."""
    d = torch.arange(size) - (size // 2 - 1)
    full = torch.exp(-(d[:, None] ** 2 + d[None] ** 2) / (2 * 3.0**2))
    full[full < 0.0099] = 0
    return F.avg_pool2d(full[None, None], 9, 8, 1)


def load(path, size=64):
    """The model of a written file, built from nothing but the file."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    cfg = get_cfg()
    add_video_pose_config(cfg)
    add_config(cfg)
    cfg.merge_from_list([x for pair in json.loads(metadata["config"]).items() for x in pair])
    model = META_ARCH_REGISTRY.get(metadata["model"])(cfg)
    model.load_state_dict(tensors)
    return model.eval(), metadata


def run(model, images):
    """uint8 images (T, 3, H, W) -> maps (T, C, h, w)."""
    size = images.shape[-1]
    clips, centers = images[None], torch.full((1, len(images), 2), size / 2)
    return model.scan(clips, centers).heatmaps[0]


def noise(frames, size=64):
    random = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (frames, 3, size, size), dtype=torch.uint8, generator=random)
    return images, (images.float() - 128) / 256


def converted(tmp_path, tensors, joints=None, prefix="", nested=True):
    content = {prefix + name: value for name, value in tensors.items()}
    torch.save({"epoch": 1, "state_dict": content} if nested else content, tmp_path / "in.pth")
    conversion = import_unipose(tmp_path / "in.pth", joints)
    conversion.write(tmp_path / "out.safetensors")
    return conversion, *load(tmp_path / "out.safetensors")


@pytest.mark.parametrize(("prefix", "nested"), [("", False), ("module.", True)])
@torch.no_grad()
def test_image_parity(tmp_path, image_tensors, prefix, nested):
    tensors = image_tensors()
    conversion, model, metadata = converted(tmp_path, tensors, JOINTS, prefix, nested)
    assert type(model).__name__ == "UniPose" and metadata["background"] == "first"
    images, normalized = noise(3)
    expected = Reference(tensors).maps(normalized)
    torch.testing.assert_close(run(model, images), expected, atol=1e-4, rtol=1e-4)
    # decoder.conv2 (1 tensor) and decoder.bn2 (5) are never used; nothing else is left.
    assert conversion.report().count("left over  decoder.") == 6
    assert ", 6 left over, 0 wrong, 0 missing" in conversion.report()


@torch.no_grad()
def test_video_parity(tmp_path, video_tensors):
    tensors = video_tensors()
    _, model, metadata = converted(tmp_path, tensors, JOINTS)
    assert type(model).__name__ == "UniPoseLSTM" and model.form == "released"
    assert (metadata["encode_offset"], metadata["decode_offset"]) == ("0.0", "0.0")
    assert (model.codec.encode_offset, model.codec.decode_offset) == (0.0, 0.0)
    images, normalized = noise(4)
    expected = Reference(tensors).video(normalized)
    assert (expected > 0).any()  # the last ReLU has not silenced everything
    torch.testing.assert_close(run(model, images), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_releases_own_widths(tmp_path, video_tensors):
    tensors = video_tensors(released=True)
    _, model, _ = converted(tmp_path, tensors)
    # The protocol's count of the released video model, its unused tensors left out.
    assert sum(p.numel() for p in model.parameters()) == 51_259_620
    images, normalized = noise(2)
    expected = Reference(tensors).video(normalized)
    torch.testing.assert_close(run(model, images), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_fourth_input_channel_is_dropped_and_said(tmp_path, image_tensors):
    tensors = image_tensors(in_channels=4)
    conversion, model, _ = converted(tmp_path, tensors, JOINTS)
    assert "left over  backbone.conv1.weight[:, 3]" in conversion.report()
    assert (
        "note       the first convolution's fourth input channel is dropped" in conversion.report()
    )
    images, normalized = noise(1)
    tensors["backbone.conv1.weight"] = tensors["backbone.conv1.weight"][:, :3]
    expected = Reference(tensors).maps(normalized)
    torch.testing.assert_close(run(model, images), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_five_further_maps(tmp_path, image_tensors, video_tensors):
    """Cut off the image model; kept in the video model, whose LSTM sees them."""
    images, normalized = noise(2)
    tensors = image_tensors(maps=9)
    conversion, model, _ = converted(tmp_path, tensors, JOINTS)
    expected = Reference(tensors).maps(normalized)[:, :4]
    torch.testing.assert_close(run(model, images), expected, atol=1e-4, rtol=1e-4)
    assert "left over  decoder.last_conv.8.weight[4:] (5, 8, 1, 1)" in conversion.report()
    tensors = video_tensors(maps=9)
    _, model, metadata = converted(tmp_path, tensors, JOINTS)
    expected = Reference(tensors).video(normalized)
    torch.testing.assert_close(run(model, images), expected, atol=1e-4, rtol=1e-4)
    assert metadata["joints"].split(",") == [*JOINTS, *(f"extra_{i}" for i in range(1, 6))]


@pytest.mark.parametrize(
    ("lost", "target"),
    [
        ("backbone.layer2.0.bn2.running_var", "backbone.res3.0.conv2.norm.running_var"),
        ("wasp.global_avg_pool.2.bias", "wasp.pool.norm.bias"),
        ("lstm_0.conv_i_lstm.bias", "first_cell.x.i.bias"),
        ("conv5.weight", "head.8.weight"),
    ],
)
def test_a_missing_tensor_is_reported_and_nothing_written(
    tmp_path, image_tensors, video_tensors, lost, target
):
    video = lost.startswith(("lstm", "conv"))
    tensors = video_tensors() if video else image_tensors()
    tensors = {name: value for name, value in tensors.items() if name != lost}
    torch.save(tensors, tmp_path / "in.pth")
    conversion = import_unipose(tmp_path / "in.pth", JOINTS)
    assert f"missing    {target} " in conversion.report()
    with pytest.raises(ValueError, match=re.escape(target)):
        conversion.write(tmp_path / "out.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["in.pth"]


def test_a_number_of_maps_without_names_is_refused(tmp_path, image_tensors):
    torch.save(image_tensors(), tmp_path / "in.pth")
    with pytest.raises(ValueError, match="it has 4 maps.*13 joints make 14.*--joints"):
        import_unipose(tmp_path / "in.pth")


def test_names():
    assert target_name("backbone.layer4.2.conv3.weight") == "backbone.res5.2.conv3.weight"
    assert (
        target_name("backbone.layer1.0.downsample.1.bias") == "backbone.res2.0.shortcut.norm.bias"
    )
    assert target_name("lstm.conv_fh_lstm.bias") == "cell.h.f.bias"
    assert target_name("decoder.conv2.weight") is None
    assert target_name("backbone.fc.weight") is None
