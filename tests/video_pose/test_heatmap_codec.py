"""Targets by hand, and the error and the bias of encoding followed by decoding."""

from __future__ import annotations

import math

import pytest
import torch
from detectron2.config import get_cfg

from video_pose.config import add_video_pose_config
from video_pose.heatmap_codec import HeatmapCodec

# Where a Gaussian of one cell stands at distances of 1 and sqrt(2) cells from its centre.
ONE, DIAGONAL = math.exp(-0.5), math.exp(-1.0)
SIZE = (32, 32)


def joints(*points: tuple[float, float, float]) -> torch.Tensor:
    """One frame with these (x, y, v)."""
    return torch.tensor([points], dtype=torch.float32)


def scattered(count: int = 4000, margin: float = 0.0, side: float = 256.0) -> torch.Tensor:
    """(1, count, 3) labelled points, uniform over the crop without a margin."""
    generator = torch.Generator().manual_seed(0)
    xy = torch.rand((1, count, 2), generator=generator) * (side - 2 * margin) + margin
    return torch.cat([xy, torch.full((1, count, 1), 2.0)], dim=-1)


def round_trip(codec: HeatmapCodec, points: torch.Tensor, size=SIZE) -> torch.Tensor:
    """Decoded minus true (x, y), px."""
    maps, _ = codec.encode(points, size)
    return (codec.decode(maps) - points)[0, :, :2]


def test_targets_by_hand() -> None:
    # Cell i is centred on discrete pixel 8 i + 3.5: cell column 2 on 19.5, cell row 1 on 11.5; the
    # continuous point (20, 12) is the discrete (19.5, 11.5).
    codec = HeatmapCodec(stride=8, sigma=8.0, background="none")
    maps, weights = codec.encode(joints((20, 12, 2)), (4, 6))
    assert maps.shape == (1, 1, 4, 6)
    expected = torch.tensor(
        [
            [math.exp(-2.5), DIAGONAL, ONE, DIAGONAL, math.exp(-2.5), 0.0],  # exp(-5) is cut
            [math.exp(-2.0), ONE, 1.0, ONE, math.exp(-2.0), math.exp(-4.5)],
            [math.exp(-2.5), DIAGONAL, ONE, DIAGONAL, math.exp(-2.5), 0.0],
            [math.exp(-4.0), math.exp(-2.5), math.exp(-2.0), math.exp(-2.5), math.exp(-4.0), 0.0],
        ]
    )
    torch.testing.assert_close(maps[0, 0], expected)
    assert weights.tolist() == [[1.0]]


def test_threshold_of_zero_cuts_nothing() -> None:
    codec = HeatmapCodec(stride=8, sigma=8.0, threshold=0.0, background="none")
    maps, _ = codec.encode(joints((20, 12, 2)), (4, 6))
    assert maps[0, 0, 0, 5].item() == pytest.approx(math.exp(-5), rel=1e-4)


@pytest.mark.parametrize(("background", "channel"), [("first", 0), ("last", 2)])
def test_background_is_one_minus_the_highest_joint(background: str, channel: int) -> None:
    codec = HeatmapCodec(stride=8, sigma=8.0, background=background)
    maps, weights = codec.encode(joints((20, 12, 2), (28, 12, 1)), (4, 6))
    assert maps.shape == (1, 3, 4, 6) and weights.tolist() == [[1.0, 1.0, 1.0]]
    background_map = maps[0, channel]
    assert background_map[1, 2].item() == pytest.approx(0.0, abs=1e-6)
    assert background_map[1, 3].item() == pytest.approx(0.0, abs=1e-6)
    # Column 1 is one cell from the first joint and two from the second: the higher one counts.
    assert background_map[1, 1].item() == pytest.approx(1 - ONE, abs=1e-6)
    torch.testing.assert_close(codec.joint_maps(maps)[0, 1].argmax(), torch.tensor(1 * 6 + 3))
    assert codec.num_channels(2) == 3


def test_channels_have_the_joints_names_in_order() -> None:
    assert HeatmapCodec(background="first").channel_labels(["a", "b"]) == ["background", "a", "b"]
    assert HeatmapCodec(background="last").channel_labels(["a", "b"]) == ["a", "b", "background"]
    assert HeatmapCodec(background="none").channel_labels(["a", "b"]) == ["a", "b"]
    assert HeatmapCodec(background="none").num_channels(2) == 2


def test_unlabelled_joints_carry_no_loss_and_no_map() -> None:
    # Frame 0: joint 1 is not labelled. Frame 1: nothing is, so its background has no weight either.
    points = torch.tensor(
        [[[20.0, 12, 2], [20, 12, 0], [28, 12, 1]], [[20.0, 12, 0], [0, 0, 0], [0, 0, 0]]]
    )
    codec = HeatmapCodec(stride=8, sigma=8.0, background="first")
    maps, weights = codec.encode(points, (4, 6))
    assert weights.tolist() == [[1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
    assert maps[0, 2].abs().max() == 0 and maps[1, 1:].abs().max() == 0
    assert maps[0, 3, 1, 3] == 1


def test_a_joint_outside_draws_the_part_of_its_gaussian_that_is_inside() -> None:
    codec = HeatmapCodec(stride=8, sigma=8.0, background="none", decode="argmax")
    # Cell (1, 0) is centred on continuous (4, 12): 10 px from (-6, 12).
    maps, weights = codec.encode(joints((-6, 12, 2), (-500, 12, 2)), (4, 6))
    assert maps[0, 0, 1, 0].item() == pytest.approx(math.exp(-100 / 128), rel=1e-5)
    assert maps[0, 1].abs().max() == 0 and weights.tolist() == [[1.0, 1.0]]
    decoded = codec.decode(maps)[0]
    assert decoded[0].tolist() == pytest.approx([4, 12, math.exp(-100 / 128)], rel=1e-5)
    assert decoded[1, 2] == 0


@pytest.mark.parametrize("background", ["first", "last", "none"])
@pytest.mark.parametrize(
    ("decode", "largest", "typical"),
    # Arg-max errs by half a cell at most; a quarter of a cell corrects it to a quarter; DARK is
    # exact for a Gaussian.
    [("argmax", 4.0, 2.3), ("quarter", 2.0, 1.2), ("dark", 0.01, 0.01)],
)
def test_round_trip_inside(background: str, decode: str, largest: float, typical: float) -> None:
    codec = HeatmapCodec(stride=8, sigma=8.0, background=background, decode=decode)
    error = round_trip(codec, scattered(margin=12.0))
    assert error.abs().max() <= largest + 1e-3
    assert error.abs().mean() <= typical
    assert error.mean(dim=0).abs().max() < 0.12  # 1.5 % of a cell


@pytest.mark.parametrize("decode", ["argmax", "quarter", "dark"])
@pytest.mark.parametrize("sigma", [7.0, 8.0, 24.0])
def test_round_trip_up_to_the_border(decode: str, sigma: float) -> None:
    codec = HeatmapCodec(stride=8, sigma=sigma, decode=decode)
    points = scattered()
    error = round_trip(codec, points)
    assert error.abs().max() <= 4.0 + 1e-3  # half a cell
    assert error.mean(dim=0).abs().max() < 0.12
    # Both halves apart: an error that pulls to the middle has no mean over the whole map.
    for axis in (0, 1):
        first_half = points[0, :, axis] < 128
        assert error[first_half, axis].mean().abs() < 0.2
        assert error[~first_half, axis].mean().abs() < 0.2


@pytest.mark.parametrize(("decode", "largest"), [("quarter", 2.0), ("dark", 0.05)])
def test_a_peak_in_the_outermost_row_is_refined_along_that_row(decode: str, largest: float) -> None:
    points = scattered()
    top = points[:, (points[0, :, 1] < 8) & ((points[0, :, 0] - 128).abs() < 116)]
    assert top.shape[1] > 50
    error = round_trip(HeatmapCodec(stride=8, sigma=8.0, decode=decode), top)
    assert error[:, 0].abs().max() <= largest and error[:, 1].abs().max() <= 4


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_the_true_centre_follows_the_stride(stride: int) -> None:
    codec = HeatmapCodec(stride=stride, sigma=float(stride), decode="argmax", background="none")
    assert codec.encode_offset == codec.decode_offset == (stride - 1) / 2
    maps = torch.zeros(1, 1, 5, 7)
    maps[0, 0, 3, 2] = 0.5
    # The middle of the continuous interval [2 s, 3 s) x [3 s, 4 s).
    assert codec.decode(maps)[0, 0].tolist() == [2.5 * stride, 3.5 * stride, 0.5]


@pytest.mark.parametrize(
    ("encode", "decode", "bias"),
    [
        (
            2.5,
            3.5,
            1.0,
        ),  # LSTM Pose Machines' release: labels drawn a pixel before where maps are read
        (3.5, 0.0, -3.5),  # true centres read at 8 i
        (0.0, 0.0, 0.0),  # UniPose's release: both ends at 8 i
        (None, None, 0.0),
    ],
)
def test_offsets_shift_the_result_by_exactly_their_difference(encode, decode, bias: float) -> None:
    codec = HeatmapCodec(sigma=8.0, encode_offset=encode, decode_offset=decode, decode="dark")
    error = round_trip(codec, scattered(margin=20.0))
    torch.testing.assert_close(error, torch.full_like(error, bias), atol=0.01, rtol=0)


def test_dark_is_exact_for_a_tilted_gaussian() -> None:
    # Peak at column 10.3, row 7.8; covariance with a mixed term, so that the Hessian's off-diagonal
    # and its sign matter.
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(20.0), indexing="ij")
    dx, dy = columns - 10.3, rows - 7.8
    maps = torch.exp(-(0.3 * dx**2 + 0.2 * dy**2 + 0.25 * dx * dy))[None, None]
    found = HeatmapCodec(stride=8, background="none", decode="dark").decode(maps)[0, 0]
    # Cell position p is continuous pixel 8 p + 4.
    assert found[:2].tolist() == pytest.approx([8 * 10.3 + 4, 8 * 7.8 + 4], abs=0.01)


def test_quarter_moves_towards_the_higher_neighbour() -> None:
    maps = torch.zeros(1, 1, 5, 5)
    maps[0, 0, 2, 1:4] = torch.tensor([0.2, 1.0, 0.4])
    maps[0, 0, 1, 2], maps[0, 0, 3, 2] = 0.3, 0.1
    found = HeatmapCodec(stride=8, background="none", decode="quarter").decode(maps)[0, 0]
    # Column 2 + .25, row 2 - .25.
    assert found.tolist() == [8 * 2.25 + 4, 8 * 1.75 + 4, 1.0]


def oks_codec(*widths: float, sigma: float = 8.0) -> HeatmapCodec:
    return HeatmapCodec(stride=8, sigma=sigma, background="none", decode="oks", oks_widths=widths)


def test_a_joint_lies_where_its_expected_similarity_is_highest() -> None:
    """A high narrow hill and a low wide one: by hand, every cell tried."""
    maps = torch.zeros(1, 3, 12, 16)
    maps[..., 2, 3] = 0.9
    maps[..., 7:10, 9:13] = 0.4
    maps[..., 0, 15] = -5.0  # nothing is likely there
    sigma, widths = 8.0, (8.0, 17.0, 40.0)
    found = oks_codec(*widths, sigma=sigma).decode(maps)[0]
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij")
    for width, joint in zip(widths, found, strict=True):
        spread = max(math.sqrt(width**2 - sigma**2) / 8, 1e-6)
        expected = torch.zeros(12, 16)
        for row, column in maps[0, 0].clamp(min=0).nonzero().tolist():
            squares = (rows - row) ** 2 + (columns - column) ** 2
            expected += maps[0, 0, row, column] * torch.exp(-squares / (2 * spread**2))
        row, column = divmod(expected.argmax().item(), 16)
        assert (joint[:2] - torch.tensor([8.0 * column + 4, 8.0 * row + 4])).abs().max() <= 4
    # The narrow width takes the high hill and its height, wider ones the wide one's middle, which
    # the other hill pulls a little.
    assert found[0].tolist() == pytest.approx([28, 20, 0.9])
    for joint in found[1:].tolist():
        assert joint[:2] == pytest.approx([8 * 10.5 + 4, 8 * 8 + 4], abs=2.5)
        assert joint[2] == pytest.approx(0.4)


def test_maps_without_a_hill_are_read_as_they_are() -> None:
    codec = oks_codec(20.0, 20.0)
    maps = torch.full((1, 2, 6, 6), -0.5)
    maps[0, 0, 4, 2] = -0.1
    assert codec.decode(maps)[0, 0].tolist() == [20.0, 36.0, 0.0]
    for bad in (torch.nan, torch.inf):
        maps[0, 1, 2, 2] = bad
        with pytest.raises(ValueError, match="finite"):
            codec.decode(maps)
    with pytest.raises(ValueError, match="finite"):
        codec.decode(torch.full((1, 2, 6, 6), -torch.inf))


@pytest.mark.parametrize("widths", [(3.0, 8.0), (12.0, 24.0)])
def test_a_single_hill_is_located_as_exactly_as_without_blurring(widths: tuple) -> None:
    points = scattered(count=40, margin=60.0).view(20, 2, 3)
    codec = oks_codec(*widths)
    maps, _ = codec.encode(points, SIZE)
    torch.testing.assert_close(codec.decode(maps)[..., :2], points[..., :2], atol=0.05, rtol=0)
    found = codec.peaks(maps, 3)
    torch.testing.assert_close(found[:, :, 0], codec.decode(maps))
    assert (found[:, :, 1:, 2] == 0).all()  # it has one peak


@pytest.mark.parametrize("wrong", [{"decode": "oks"}, {"oks_widths": [9.0]}])
def test_widths_belong_to_oks(wrong: dict) -> None:
    with pytest.raises(ValueError, match="OKS widths"):
        HeatmapCodec(**wrong)


@pytest.mark.parametrize("decode", ["argmax", "quarter", "dark"])
def test_maps_without_a_peak_give_finite_joints_and_scores_in_range(decode: str) -> None:
    codec = HeatmapCodec(stride=8, background="none", decode=decode)
    noise = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    maps = torch.cat([torch.zeros(1, 3, 8, 8), -torch.ones(1, 3, 8, 8), 3 * noise])
    decoded = codec.decode(maps)
    assert decoded.shape == (8, 3, 3) and torch.isfinite(decoded).all()
    assert decoded[..., 2].min() == 0 and decoded[..., 2].max() == 1
    assert decoded[..., :2].min() >= 0 and decoded[..., :2].max() <= 64
    # Cell centres are 4 px from their borders; no refinement leaves the cell.
    peaks = maps.flatten(2).argmax(-1)
    assert ((decoded[..., 0] - (peaks % 8) * 8 - 4).abs() <= 4 + 1e-4).all()


def test_frames_of_a_batch_do_not_mix() -> None:
    points = scattered(count=30, margin=20.0).view(5, 6, 3)
    codec = HeatmapCodec(sigma=8.0)
    maps, _ = codec.encode(points, SIZE)
    decoded = codec.decode(maps)
    torch.testing.assert_close(decoded[..., :2], points[..., :2], atol=0.01, rtol=0)
    alone, _ = codec.encode(points[3:4], SIZE)
    torch.testing.assert_close(maps[3:4], alone)


def test_maps_may_be_half_precision_and_oblong() -> None:
    codec = HeatmapCodec(sigma=8.0, decode="argmax")
    points = joints((300, 20, 2), (10, 90, 2))
    maps, _ = codec.encode(points, (12, 46))
    decoded = codec.decode(maps.to(torch.bfloat16))
    assert decoded.dtype == torch.float32
    assert (decoded - points)[..., :2].abs().max() <= 4


@pytest.mark.parametrize(
    "wrong",
    [{"background": "middle"}, {"decode": "soft"}, {"stride": 0}, {"sigma": 0.0}],
)
def test_wrong_arguments_are_named(wrong: dict) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        HeatmapCodec(**wrong)


def test_from_config() -> None:
    cfg = get_cfg()
    add_video_pose_config(cfg)
    node = cfg.MODEL.POSE.HEATMAP
    node.STRIDE, node.SIGMA, node.BACKGROUND, node.DECODE = 4, 5.0, "first", "quarter"
    codec = HeatmapCodec.from_config(cfg)
    assert (codec.stride, codec.sigma, codec.background) == (4, 5.0, "first")
    assert (codec.decode_mode, codec.threshold) == ("quarter", 0.01)
    assert codec.encode_offset == codec.decode_offset == 1.5
    node.DECODE, node.OKS_SCALE, cfg.INPUT.CROP_SIZE = "oks", 0.5, (64, 100)
    with pytest.raises(ValueError, match=r"MODEL.POSE.JOINTS is empty"):
        HeatmapCodec.from_config(cfg)
    cfg.MODEL.POSE.JOINTS = ["nose", "left_hip"]
    # 2 x .026 and 2 x .107 of 50 px: 2.6 and 10.7 px, of which the target's 5 px are in the map.
    blur = HeatmapCodec.from_config(cfg).similarity(
        torch.eye(9).view(1, 1, 9, 9).expand(1, 2, 9, 9)
    )
    assert torch.equal(blur[0, 0], torch.eye(9))
    spread = math.sqrt(10.7**2 - 5**2) / 4
    expected = sum(math.exp(-(d**2) / spread**2) for d in range(-4, 5))
    assert blur[0, 1, 4, 4].item() == pytest.approx(expected, rel=1e-4)
    node.DECODE, node.ENCODE_OFFSET, node.DECODE_OFFSET = "quarter", 0.0, 2.5
    codec = HeatmapCodec.from_config(cfg)
    assert (codec.encode_offset, codec.decode_offset) == (0.0, 2.5)


def test_an_absent_joint_has_an_empty_target_of_its_own_weight() -> None:
    points = joints((20, 12, 2), (0, 0, -1), (0, 0, 0))
    maps, weights = HeatmapCodec(absent_weight=0.25).encode(points, (4, 6))
    assert weights.tolist() == [[1.0, 0.25, 0.0, 1.0]]
    assert not maps[0, 1:3].any()
    torch.testing.assert_close(maps[0, 3], 1 - maps[0, 0])
    assert HeatmapCodec().encode(points, (4, 6))[1].tolist() == [[1.0, 0.0, 0.0, 1.0]]


def test_the_background_of_partly_known_joints_carries_no_loss() -> None:
    codec = HeatmapCodec(absent_weight=0.25, partial=True, background="first")
    known = codec.encode(joints((20, 12, 2), (0, 0, -1)), (4, 6))[1]
    unknown = codec.encode(joints((20, 12, 2), (0, 0, 0)), (4, 6))[1]
    nobody = codec.encode(joints((0, 0, -1), (0, 0, -1)), (4, 6))[1]
    assert known.tolist() == [[1.0, 1.0, 0.25]]
    assert unknown.tolist() == [[0.0, 1.0, 0.0]]
    assert nobody.tolist() == [[0.0, 0.25, 0.25]]


def test_a_negative_weight_of_absence_is_an_error() -> None:
    with pytest.raises(ValueError, match="MODEL.POSE.ABSENT_WEIGHT is -1"):
        HeatmapCodec(absent_weight=-1)


def test_the_highest_peaks_by_hand() -> None:
    """Heights 1 at (20, 12) and .5 at (100, 60), of cells of 8 px; nothing else is a peak."""
    codec = HeatmapCodec(stride=8, sigma=8.0, background="none")
    one, _ = codec.encode(joints((20, 12, 2)), (16, 16))
    other, _ = codec.encode(joints((100, 60, 2)), (16, 16))
    maps = torch.maximum(one, other / 2)
    peaks = codec.peaks(maps, 3)
    assert peaks.shape == (1, 1, 3, 3)
    torch.testing.assert_close(peaks[:, :, 0], codec.decode(maps))
    torch.testing.assert_close(peaks[0, 0, 1], torch.tensor([100.0, 60.0, 0.5]), atol=0.01, rtol=0)
    # There is no third: the first stands again, without a height.
    torch.testing.assert_close(peaks[0, 0, 2], torch.tensor([20.0, 12.0, 0.0]), atol=0.01, rtol=0)


def test_a_map_of_one_value_has_its_first_cell_as_the_first_peak() -> None:
    codec = HeatmapCodec(stride=8, sigma=8.0, background="none")
    maps = torch.zeros(1, 2, 4, 4)
    peaks = codec.peaks(maps, 2)
    torch.testing.assert_close(peaks[:, :, 0], codec.decode(maps))
    assert peaks[..., 2].abs().max() == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("decode", ["argmax", "quarter", "dark"])
def test_a_map_that_is_not_finite_has_no_peak(value: float, decode: str) -> None:
    """Such a map gave the first cell, with a score of NaN or 1."""
    codec = HeatmapCodec(stride=8, sigma=8.0, background="none", decode=decode)
    maps = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert codec.decode(maps).isfinite().all()
    maps[1, 2] = value
    with pytest.raises(ValueError, match="1 of 6 maps of the network are not finite"):
        codec.decode(maps)
    with pytest.raises(ValueError, match="1 of 6 maps of the network are not finite"):
        codec.peaks(maps, 2)
