"""The LSTM cells against their equations gate by gate; sizes and order of the heatmaps' head; norms
within convolutions.
"""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn

from video_pose.modeling.layers import (
    ConvLSTMCell,
    FirstFrameCell,
    FrozenNormConv2d,
    HeatmapHead,
    fold_norms,
    join_frozen_norms,
)

ROWS, INPUT, HIDDEN, SIZE = 3, 4, 5, (6, 7)
GATE_BIAS = {"g": 0.0, "f": 1.0, "i": 1.4, "o": 0.2}


def randomize(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3


def state(seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """x, hidden and cell maps of three rows."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn((ROWS, channels, *SIZE), generator=generator)
        for channels in (INPUT, HIDDEN, HIDDEN)
    )


def gate(cell: ConvLSTMCell, name: str, x: Tensor, hidden: Tensor | None) -> Tensor:
    """One gate's sum before its nonlinearity; no h-convolution where ``hidden`` is None."""
    conv = cell.x[name]
    total = F.conv2d(x, conv.weight, padding=1) + conv.bias.view(1, -1, 1, 1)
    if hidden is not None:
        conv = cell.h[name]
        total = total + F.conv2d(hidden, conv.weight, padding=1) + conv.bias.view(1, -1, 1, 1)
    if cell.gate_bias is not None:
        total = total + cell.gate_bias[name].view(1, -1, 1, 1)
    return total


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("gate_bias", [None, GATE_BIAS])
def test_step_follows_the_equations(gate_bias: dict | None, training: bool) -> None:
    cell = ConvLSTMCell(INPUT, HIDDEN, gate_bias=gate_bias).train(training)
    randomize(cell)
    x, hidden, memory = state()
    got_hidden, got_memory = cell(x, hidden, memory, torch.zeros(ROWS, 1, 1, 1))
    sums = {name: gate(cell, name, x, hidden) for name in "gfio"}
    expected = sums["f"].sigmoid() * memory + sums["i"].sigmoid() * sums["g"].tanh()
    torch.testing.assert_close(got_memory, expected)
    torch.testing.assert_close(got_hidden, sums["o"].sigmoid() * expected.tanh())


@pytest.mark.parametrize("training", [True, False])
def test_a_fresh_row_loses_the_h_biases_and_nothing_else(training: bool) -> None:
    cell = ConvLSTMCell(INPUT, HIDDEN, gate_bias=GATE_BIAS, mask_fresh_bias=True).train(training)
    randomize(cell)
    x, hidden, memory = state()
    hidden[1], memory[1] = 0, 0
    fresh = torch.tensor([0.0, 1.0, 0.0]).view(-1, 1, 1, 1)
    got_hidden, got_memory = cell(x, hidden, memory, fresh)
    # Row 1 is the paper's first frame: C = i g, h = o tanh(C), no h-convolution at all.
    g, i, o = (gate(cell, name, x[1:2], None) for name in "gio")
    first = i.sigmoid() * g.tanh()
    torch.testing.assert_close(got_memory[1:2], first)
    torch.testing.assert_close(got_hidden[1:2], o.sigmoid() * first.tanh())
    # Rows 0 and 2 are what they are without a fresh row beside them.
    old_hidden, old_memory = cell(x, hidden, memory, torch.zeros(ROWS, 1, 1, 1))
    torch.testing.assert_close(got_hidden[[0, 2]], old_hidden[[0, 2]])
    torch.testing.assert_close(got_memory[[0, 2]], old_memory[[0, 2]])
    assert (got_hidden[1] - old_hidden[1]).abs().max() > 0.01


@pytest.mark.parametrize("kernel", [1, 5])
def test_kernels_of_other_sizes_keep_the_maps_size(kernel: int) -> None:
    """In training, in evaluation and merged."""
    cell = ConvLSTMCell(INPUT, HIDDEN, kernel_size=kernel, mask_fresh_bias=True)
    randomize(cell)
    arguments = (*state(), torch.tensor([0.0, 1.0, 0.0]).view(-1, 1, 1, 1))
    expected = cell.eval()(*arguments)
    assert expected[0].shape == (ROWS, HIDDEN, *SIZE)
    for other in (copy.deepcopy(cell).train(), cell.merged()):
        for ours, theirs in zip(other(*arguments), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    first = FirstFrameCell(INPUT, HIDDEN, kernel_size=kernel)
    assert first(arguments[0])[0].shape == first.merged()(arguments[0])[0].shape == (
        ROWS, HIDDEN, *SIZE,
    )  # fmt: skip


def test_a_merged_cell_takes_a_state_of_another_format() -> None:
    cell = ConvLSTMCell(INPUT, HIDDEN)
    x, hidden, memory = state()
    got, _ = cell.merged()(x, hidden.double(), memory, torch.zeros(ROWS, 1, 1, 1))
    assert got.dtype == torch.float32


def test_without_masking_fresh_changes_nothing() -> None:
    cell = ConvLSTMCell(INPUT, HIDDEN)
    randomize(cell)
    x, hidden, memory = state()
    for a, b in zip(
        cell(x, hidden, memory, torch.ones(ROWS, 1, 1, 1)),
        cell(x, hidden, memory, torch.zeros(ROWS, 1, 1, 1)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_initial_biases() -> None:
    cell = ConvLSTMCell(INPUT, HIDDEN, gate_bias=GATE_BIAS, forget_bias=1.0)
    assert {k: v.unique().tolist() for k, v in cell.gate_bias.items()} == {
        k: pytest.approx([v]) for k, v in GATE_BIAS.items()
    }
    assert cell.x["f"].bias.unique().tolist() == [1.0]
    others = [cell.x[k].bias for k in "gio"] + [cell.h[k].bias for k in "gfio"]
    assert all(bias.abs().max() == 0 for bias in others)


def test_a_zero_state_fits_the_input() -> None:
    x = torch.zeros(2, INPUT, 3, 4, dtype=torch.float64)
    for tensor in ConvLSTMCell(INPUT, HIDDEN).zero_state(x):
        assert tensor.shape == (2, HIDDEN, 3, 4) and tensor.dtype == x.dtype
        assert tensor.abs().max() == 0


def test_every_parameter_has_a_gradient_on_the_first_step() -> None:
    cell = ConvLSTMCell(INPUT, HIDDEN, gate_bias=GATE_BIAS, mask_fresh_bias=True)
    x = torch.randn(ROWS, INPUT, *SIZE)
    hidden, _ = cell(x, *cell.zero_state(x), torch.ones(ROWS, 1, 1, 1))
    hidden.sum().backward()
    assert [name for name, p in cell.named_parameters() if p.grad is None] == []


def test_first_frame_cell_follows_the_equations() -> None:
    cell = FirstFrameCell(INPUT, HIDDEN)
    randomize(cell)
    x = state()[0]
    sums = {k: F.conv2d(x, cell.x[k].weight, cell.x[k].bias, padding=1) for k in "gio"}
    memory = (sums["g"].tanh() * sums["i"].sigmoid()).tanh()
    got_hidden, got_memory = cell(x)
    torch.testing.assert_close(got_memory, memory)
    torch.testing.assert_close(got_hidden, sums["o"].sigmoid() * memory)


def test_even_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match="^kernel_size 4 of an LSTM must be odd$"):
        ConvLSTMCell(INPUT, HIDDEN, kernel_size=4)
    with pytest.raises(ValueError, match="^kernel_size 2 of an LSTM must be odd$"):
        FirstFrameCell(INPUT, HIDDEN, kernel_size=2)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("gate_bias", [None, GATE_BIAS])
def test_the_merged_cell_is_the_cell(gate_bias: dict | None, mask: bool) -> None:
    cell = ConvLSTMCell(INPUT, HIDDEN, gate_bias=gate_bias, mask_fresh_bias=mask)
    randomize(cell)
    arguments = (*state(), torch.tensor([0.0, 1.0, 0.0]).view(-1, 1, 1, 1))
    for ours, theirs in zip(cell.merged()(*arguments), cell(*arguments), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_the_merged_first_frame_cell_is_the_cell() -> None:
    cell = FirstFrameCell(INPUT, HIDDEN)
    randomize(cell)
    x = state()[0]
    for ours, theirs in zip(cell.merged()(x), cell(x), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_papers_sizes() -> None:
    head = HeatmapHead(48, 15)
    shapes = [tuple(conv.weight.shape) for conv in head.convolutions()]
    assert shapes == [
        (128, 48, 11, 11),
        (128, 128, 11, 11),
        (128, 128, 11, 11),
        (128, 128, 1, 1),
        (15, 128, 1, 1),
    ]
    assert head(torch.zeros(2, 48, 12, 14)).shape == (2, 15, 12, 14)


def test_the_field_of_view_is_that_of_the_large_convolutions() -> None:
    # Two 5x5 convolutions see 4 cells to each side, the 1x1 ones no further.
    head = HeatmapHead(1, 1, channels=4, kernel_size=5, num_large=2)
    for conv in head.convolutions():
        conv.weight.data.fill_(1.0)
    image = torch.zeros(1, 1, 21, 21)
    image[0, 0, 10, 10] = 1
    rows, columns = (head(image) - head(torch.zeros_like(image)))[0, 0].nonzero().unbind(1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 14, 6, 14)


def test_the_last_relu_is_optional() -> None:
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    linear = HeatmapHead(3, 5, channels=8, kernel_size=3)
    rectified = HeatmapHead(3, 5, channels=8, kernel_size=3, final_relu=True)
    rectified.load_state_dict(linear.state_dict())  # the same layers under the same names
    assert linear(x).min() < 0
    torch.testing.assert_close(rectified(x), linear(x).clamp(min=0))


def test_initial_maps_are_near_zero() -> None:
    torch.manual_seed(0)
    head = HeatmapHead(16, 14, channels=32, kernel_size=5)
    assert head(torch.rand(2, 16, 10, 10)).abs().max() < 0.5
    # A spread of .01 in the last convolution; of sqrt(2 / inputs) in the others, which keeps the
    # size of what goes through them. No bias.
    first, *_, last = head.convolutions()
    assert last.weight.std().item() == pytest.approx(0.01, rel=0.15)
    assert first.weight.std().item() == pytest.approx((2 / (16 * 25)) ** 0.5, rel=0.05)
    assert all(conv.bias.eq(0).all() for conv in head.convolutions())


@pytest.mark.parametrize(
    ("wrong", "told"), [({"kernel_size": 4}, "odd"), ({"num_large": 0}, "at least 1")]
)
def test_wrong_sizes_are_refused(wrong: dict, told: str) -> None:
    ((key, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"^{key} {value} of a heatmap head must be {told}$"):
        HeatmapHead(3, 5, **wrong)
    assert len(HeatmapHead(3, 5, num_large=1).convolutions()) == 3


def test_folding_by_hand() -> None:
    """Weight 2, mean 3, variance 4, gamma 6, beta 5: y = 6 (2 x - 3) / 2 + 5 = 6 x - 4."""
    conv = Conv2d(1, 1, 1, bias=False, norm=nn.BatchNorm2d(1, eps=0.0))
    conv.weight.data.fill_(2)
    conv.norm.running_mean.fill_(3)
    conv.norm.running_var.fill_(4)
    conv.norm.weight.data.fill_(6)
    conv.norm.bias.data.fill_(5)
    folded = fold_norms(conv)
    assert folded.weight.item() == pytest.approx(6) and folded.bias.item() == pytest.approx(-4)
    assert folded.norm is None and conv.norm is not None and conv.weight.item() == 2


def test_folding_of_sequences_and_frozen_norms() -> None:
    torch.manual_seed(0)
    frozen = Conv2d(3, 4, 3, norm=FrozenBatchNorm2d(4), activation=nn.ReLU())
    frozen.norm.running_mean.normal_()
    frozen.norm.weight.normal_()
    # The last norm follows an activation and must stay.
    model = nn.Sequential(
        frozen, nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5), nn.ReLU(), nn.BatchNorm2d(5)
    )
    model[2].running_mean.normal_()
    model[2].running_var.uniform_(0.5, 2)
    model.eval()
    folded = fold_norms(model)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(folded(x), model(x), atol=1e-5, rtol=1e-5)
    kinds = [type(module).__name__ for module in folded.modules()]
    assert kinds.count("BatchNorm2d") == 1 and "FrozenBatchNorm2d" not in kinds


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_folding_of_tiny_variances(affine: bool, bias: bool) -> None:
    """Of the order of eps, with a bias of the convolution's and without, and of norms that have no
    weights of their own."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4, eps=1e-3, affine=affine)
    norm.running_var.copy_(torch.tensor([1e-3, 0, 2, 1e-4]))
    norm.running_mean.normal_()
    if affine:
        norm.weight.data.normal_()
        norm.bias.data.normal_()
    model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=bias), norm, nn.Conv2d(4, 2, 1)).eval()
    folded, x = fold_norms(model), torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(folded(x), model(x), atol=1e-4, rtol=1e-5)
    assert [type(module) for module in folded] == [nn.Conv2d, nn.Identity, nn.Conv2d]
    assert not folded.training and fold_norms(model.train()).training is False and model.training


def test_norms_that_do_not_follow_the_bare_convolution_stay() -> None:
    """One behind an activation or another norm within the layer, and one of another kind."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    norm.running_mean.normal_()
    for first, second in (
        (Conv2d(3, 4, 1, activation=F.relu), norm),
        (Conv2d(3, 4, 1, norm=nn.GroupNorm(2, 4)), norm),
        (nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4)),
    ):
        model = nn.Sequential(first, second).eval()
        folded, x = fold_norms(model), torch.randn(2, 3, 5, 5)
        assert type(folded[1]) is type(second)
        assert (getattr(folded[0], "norm", None) is None) == (getattr(first, "norm", None) is None)
        torch.testing.assert_close(folded(x), model(x))


def make_net() -> nn.Sequential:
    """A strided convolution with frozen norm and ReLU, one with a norm that is trained, and a bare
    one."""
    torch.manual_seed(0)
    norm = FrozenBatchNorm2d(4)
    for name in ("weight", "bias", "running_mean"):
        getattr(norm, name).copy_(torch.randn(4))
    norm.running_var.copy_(torch.rand(4) + 0.5)
    return nn.Sequential(
        Conv2d(3, 4, 3, stride=2, padding=1, bias=False, norm=norm, activation=F.relu),
        Conv2d(4, 4, 1, bias=False, norm=nn.BatchNorm2d(4)),
        Conv2d(4, 2, 1),
    )


def gradients(net: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    out = net(images)
    out.square().sum().backward()
    return out, {name: p.grad for name, p in net.named_parameters()}


def test_maps_gradients_and_names_stay() -> None:
    apart, images = make_net(), torch.randn(2, 3, 9, 9)
    joined = copy.deepcopy(apart)
    join_frozen_norms(joined)
    assert [type(module) for module in joined] == [FrozenNormConv2d, Conv2d, Conv2d]
    expected, expected_gradients = gradients(apart, images)
    got, got_gradients = gradients(joined, images)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(got_gradients, expected_gradients)
    assert list(joined.state_dict()) == list(apart.state_dict())
    apart[0].norm.bias.add_(1)  # what a checkpoint brings counts
    joined.load_state_dict(apart.state_dict())
    torch.testing.assert_close(joined(images), apart(images))


def test_convolutions_that_are_not_joined() -> None:
    """Those with a bias of their own, and those of another class, which may do something else."""

    class Own(Conv2d):
        pass

    torch.manual_seed(0)
    net = nn.Sequential(
        Conv2d(3, 4, 1, norm=FrozenBatchNorm2d(4)),
        Own(4, 4, 1, bias=False, norm=FrozenBatchNorm2d(4)),
        Conv2d(4, 4, 1, bias=False, norm=FrozenBatchNorm2d(4)),
    )
    join_frozen_norms(net)
    assert [type(module) for module in net] == [Conv2d, Own, FrozenNormConv2d]
    net[2].norm.running_var.fill_(1e-5)  # as small as eps
    x = torch.rand(1, 4, 2, 2)  # without an activation
    torch.testing.assert_close(net[2](x), net[2].norm(F.conv2d(x, net[2].weight)))


def test_folding_for_inference_takes_joined_ones_too() -> None:
    net, images = make_net(), torch.randn(2, 3, 9, 9)
    join_frozen_norms(net)
    expected = net.eval()(images)
    folded = fold_norms(net)
    assert folded[0].norm is None and type(folded[0]) is Conv2d
    torch.testing.assert_close(folded(images), expected)
