"""Maps around the network: centre maps, losses by hand, joints, merged scales, mirrors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from torch import Tensor

from video_pose.config import add_video_pose_config
from video_pose.heatmap_codec import HeatmapCodec
from video_pose.modeling.heatmaps import (
    CenterMap,
    _cubic_matrix,
    decode_rows,
    heatmap_loss,
    move_outside_away,
    pose_scores,
    to_instances,
)
from video_pose.skeleton import flip_permutation

UNIPOSE = {"sigma": 3.0, "threshold": 0.0099, "padding": 1, "ceil": False}
LSTM_PM = {"sigma": 21.0, "threshold": 0.01, "padding": 0, "ceil": True}


def pooled_by_hand(
    peak: tuple[int, int], side: int, sigma: float, threshold: float, padding: int, cells: int
) -> np.ndarray:
    """(cells, cells) for a square crop, one window at a time; ``peak`` is (x, y), discrete px.

    A window that reaches over the padded crop is cut there and divided by what is left of it.
    """
    y, x = np.mgrid[:side, :side]
    full = np.exp(-((x - peak[0]) ** 2 + (y - peak[1]) ** 2) / (2 * sigma**2))
    full[full < threshold] = 0
    full = np.pad(full, padding)
    out = np.zeros((cells, cells))
    for i in range(cells):
        for j in range(cells):
            out[i, j] = full[8 * i : 8 * i + 9, 8 * j : 8 * j + 9].mean()
    return out


@pytest.mark.parametrize("side", [368, 256, 128])
@pytest.mark.parametrize("form", [UNIPOSE, LSTM_PM], ids=["unipose", "lstm_pm"])
def test_values(form: dict, side: int) -> None:
    center = torch.tensor([[side / 2, side / 2]])
    maps = CenterMap(**form)(center, (side, side), training=True)
    cells = side // 8
    assert maps.shape == (1, 1, cells, cells)  # 46, 32, 16
    # The centre of 368 px is the continuous 184, drawn at discrete pixel 183.
    peak = (side // 2 - 1, side // 2 - 1)
    expected = pooled_by_hand(peak, side, form["sigma"], form["threshold"], form["padding"], cells)
    torch.testing.assert_close(maps[0, 0].numpy(), expected.astype(np.float32), atol=1e-6, rtol=0)


def test_peak_of_a_wide_gaussian() -> None:
    # LSTM Pose Machines: the windows of cells 22 and 23 are px 176-184 and 184-192; the peak, 183,
    # lies in the first. The map's maximum is its mean over dx = -7..1 of exp(-dx^2 / 882), squared.
    maps = CenterMap(**LSTM_PM)(torch.tensor([[184.0, 184.0]]), (368, 368), training=True)[0, 0]
    row = sum(np.exp(-(d**2) / 882) for d in range(-7, 2)) / 9
    assert maps.max().item() == pytest.approx(row**2, abs=1e-6)
    assert divmod(maps.argmax().item(), 46) == (22, 22)


def test_centres_of_a_batch_keep_their_order() -> None:
    draw = CenterMap(**LSTM_PM)
    centers = torch.tensor([[100.0, 40.0], [20.0, 90.0], [100.4, 40.4], [60.0, 64.0]])
    maps = draw(centers, (128, 128), training=True)
    assert maps.shape == (4, 1, 16, 16)
    for center, got in zip(centers, maps, strict=True):
        torch.testing.assert_close(got, draw(center[None], (128, 128), training=True)[0])
    # x is the column: (100, 40) lies in cells of column 12, row 4.
    assert divmod(maps[0, 0].argmax().item(), 16) == (4, 12)
    torch.testing.assert_close(maps[0], maps[2])  # the same discrete pixel
    assert (maps[0] - maps[1]).abs().max() > 0.5


def test_a_map_is_drawn_once_for_people_at_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly all crops have their person in the middle: a batch need not draw it anew."""
    drawn = []
    pool = torch.nn.functional.avg_pool2d

    def counting(maps: Tensor, *args: object, **kwargs: object) -> Tensor:
        drawn.append(len(maps))
        return pool(maps, *args, **kwargs)

    monkeypatch.setattr("video_pose.modeling.heatmaps.F.avg_pool2d", counting)
    centers = torch.tensor([[64.0, 64.0], [10.0, 64.0], [64.2, 64.3]])
    assert CenterMap(**LSTM_PM)(centers, (128, 128), training=True).shape == (3, 1, 16, 16)
    assert drawn == [2]


def test_a_value_at_the_threshold_is_kept() -> None:
    """The peak itself is 1: of a threshold of 1, it alone is left."""
    draw = CenterMap(sigma=2.0, threshold=1.0, kernel=1, stride=1, ceil=False)
    maps = draw(torch.tensor([[3.5, 1.5]]), (4, 6), training=False)
    expected = torch.zeros(1, 1, 4, 6)
    expected[0, 0, 1, 3] = 1
    assert torch.equal(maps, expected)


def test_oblong_crops() -> None:
    maps = CenterMap(**UNIPOSE)(torch.tensor([[128.0, 64.0]]), (128, 256), training=True)
    assert maps.shape == (1, 1, 16, 32)


def test_the_threshold_may_hold_in_training_only() -> None:
    center = torch.tensor([[64.0, 64.0]])
    draw = CenterMap(sigma=15.0, threshold=0.01, threshold_in_test=False)
    cut, whole = (draw(center, (128, 128), training=t)[0, 0, 0, 0] for t in (True, False))
    assert cut == 0 and whole > 0
    always = CenterMap(sigma=15.0, threshold=0.01)
    assert always(center, (128, 128), training=False)[0, 0, 0, 0] == 0


def test_a_centre_outside_the_crop_is_drawn_as_far_as_it_reaches() -> None:
    maps = CenterMap(**LSTM_PM)(
        torch.tensor([[-10.0, 64.0], [-900.0, 64.0]]), (128, 128), training=True
    )
    assert 0 < maps[0].max() < 1 and maps[0, 0].argmax().item() % 16 == 0
    assert maps[1].max() == 0


def test_from_config() -> None:
    cfg = get_cfg()
    add_video_pose_config(cfg)
    node = cfg.MODEL.POSE.CENTER_MAP
    node.SIGMA, node.THRESHOLD, node.THRESHOLD_IN_TEST = 3.0, 0.0099, False
    node.POOL_KERNEL, node.POOL_PADDING, node.POOL_CEIL = 7, 0, True
    cfg.MODEL.POSE.HEATMAP.STRIDE = 4
    built = CenterMap.from_config(cfg)
    assert (built.sigma, built.threshold, built.threshold_in_test) == (3.0, 0.0099, False)
    assert (built.kernel, built.stride, built.padding, built.ceil) == (7, 4, 0, True)


def example() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two clips, two frames, three channels, 2x5 cells; all errors are 0 but three."""
    predicted, target = torch.zeros(2, 2, 3, 2, 5), torch.zeros(2, 2, 3, 2, 5)
    predicted[0, 0, 0, 0, 0] = 3.0  # squared error 9
    target[0, 1, 2, 1, 4] = -2.0  # 4
    predicted[1, 1, 1, 0, 3], target[1, 1, 1, 0, 3] = 1.0, 6.0  # 25
    return predicted, target, torch.ones(2, 2, 3)


def test_mean_is_over_clips_channels_and_cells_and_summed_over_frames() -> None:
    # 38 / (2 clips x 3 channels x 10 cells)
    assert heatmap_loss(*example(), "mean").item() == pytest.approx(38 / 60)


def test_half_sum_is_caffes_euclidean_loss() -> None:
    # 38 / (2 x 2 clips)
    assert heatmap_loss(*example(), "half_sum").item() == pytest.approx(9.5)


@pytest.mark.parametrize(("reduction", "divisor"), [("mean", 60), ("half_sum", 4)])
def test_a_weight_of_zero_takes_a_channel_of_a_frame_out(reduction: str, divisor: int) -> None:
    predicted, target, weight = example()
    weight[1, 1, 1] = 0
    # The divisor stays: a channel without a label is no reason to weigh the others more.
    loss = heatmap_loss(predicted, target, weight, reduction)
    assert loss.item() == pytest.approx(13 / divisor)


@pytest.mark.parametrize("reduction", ["mean", "half_sum"])
def test_doubling_the_frames_doubles_the_loss_and_doubling_the_batch_does_not(reduction) -> None:
    predicted, target, weight = example()
    loss = heatmap_loss(predicted, target, weight, reduction)
    frames = heatmap_loss(*(torch.cat([t, t], 1) for t in (predicted, target, weight)), reduction)
    clips = heatmap_loss(*(torch.cat([t, t], 0) for t in (predicted, target, weight)), reduction)
    assert frames.item() == pytest.approx(2 * loss.item())
    assert clips.item() == pytest.approx(loss.item())


@pytest.mark.parametrize("reduction", ["mean", "half_sum"])
def test_nothing_labelled_is_zero_with_a_gradient(reduction: str) -> None:
    predicted, target, weight = example()
    predicted.requires_grad_()
    loss = heatmap_loss(predicted, target, weight * 0, reduction)
    loss.backward()
    assert loss.item() == 0 and predicted.grad.abs().max() == 0


def test_gradient_by_hand() -> None:
    predicted, target, weight = example()
    predicted.requires_grad_()
    heatmap_loss(predicted, target, weight, "half_sum").backward()
    # d/dp of (p - t)^2 / (2 B) is (p - t) / B.
    assert predicted.grad[1, 1, 1, 0, 3].item() == pytest.approx((1 - 6) / 2)


def test_half_precision_maps_are_summed_in_float32() -> None:
    predicted = torch.ones(1, 1, 1, 64, 64, dtype=torch.bfloat16)
    loss = heatmap_loss(predicted, torch.zeros(1, 1, 1, 64, 64), torch.ones(1, 1, 1), "half_sum")
    assert loss.dtype == torch.float32 and loss.item() == 64 * 64 / 2


def test_unknown_reduction() -> None:
    message = r"loss reduction 'sum': choose from \('mean', 'half_sum'\)"
    with pytest.raises(ValueError, match=f"^{message}$"):
        heatmap_loss(*example(), "sum")
    predicted, target, weight = example()
    with pytest.raises(AssertionError):
        heatmap_loss(predicted, target[..., :1], weight, "mean")


LABELS = ["background", "head", "right_hand", "left_hand"]
FLIP_MAP = [("left_hand", "right_hand")]
CODEC = HeatmapCodec(stride=8, sigma=8.0, background="first", decode="dark")
# A 64x64 crop of an image of 80x100 px (height x width).
IMAGE = (80, 100)


def scaled(scale: float, x: float, y: float) -> Tensor:
    """crop_to_image of a crop that shows the image enlarged by ``scale`` from its corner (x, y)."""
    return torch.tensor([[1 / scale, 0.0, x], [0.0, 1 / scale, y]])


def mirrored(matrix: Tensor, width: float = 64.0) -> Tensor:
    """crop_to_image of the same crop turned left to right: x_crop becomes width - x_crop."""
    flip = torch.tensor([[-1.0, 0.0, width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    full = torch.cat([matrix, torch.tensor([[0.0, 0.0, 1.0]])])
    return (full @ flip)[:2]


def maps_of(image_points: list[tuple[float, float]], matrix: Tensor) -> Tensor:
    """Target maps (C, 8, 8) of joints given in image px, as a perfect network would make them."""
    full = torch.cat([matrix, torch.tensor([[0.0, 0.0, 1.0]])])
    points = torch.cat([torch.tensor(image_points), torch.ones(len(image_points), 1)], 1)
    crop = (points @ torch.linalg.inv(full).T)[:, :2]
    keypoints = torch.cat([crop, torch.full((len(crop), 1), 2.0)], 1)
    return CODEC.encode(keypoints[None], (8, 8))[0][0]


def run(maps: Tensor, matrices: Tensor, flipped: list[bool], image=IMAGE) -> Tensor:
    return decode_rows(
        maps,
        matrices,
        codec=CODEC,
        swap=flip_permutation(LABELS, FLIP_MAP),
        flipped=torch.tensor(flipped),
        image_size=image,
    )


POINTS = [(40.0, 30.0), (25.0, 45.0), (55.0, 52.0)]


def test_flip_channels_swaps_by_name_and_is_its_own_inverse() -> None:
    swap = flip_permutation(LABELS, FLIP_MAP)
    assert swap == [0, 1, 3, 2]
    assert [swap[i] for i in swap] == [0, 1, 2, 3]
    assert flip_permutation(["left_hand", "x", "right_hand"], [("right_hand", "left_hand")]) == [
        2,
        1,
        0,
    ]


def test_a_mirror_partner_that_is_no_joint_is_named() -> None:
    with pytest.raises(ValueError, match=r"FLIP_MAP.*'left_hand'.*\['head', 'right_hand'\]"):
        flip_permutation(["head", "right_hand"], FLIP_MAP)


def test_one_row_is_mapped_by_its_matrix() -> None:
    # Cell (5, 2) peaks at continuous crop px (2 * 8 + 4, 5 * 8 + 4) = (20, 44); the matrix turns by
    # 90 degrees as well: x_image = 0.5 * 44 + 3, y_image = -2 * 20 + 70.
    maps = torch.zeros(1, 2, 4, 8, 8)
    maps[0, 1, 1, 5, 2] = 0.75
    matrix = torch.tensor([[0.0, 0.5, 3.0], [-2.0, 0.0, 70.0]])
    poses = run(maps, torch.stack([scaled(1, 0, 0), matrix])[None], [False])
    assert poses.shape == (2, 3, 3)
    assert poses[1, 0].tolist() == pytest.approx([25.0, 30.0, 0.75])


def test_frames_keep_their_own_matrices() -> None:
    matrices = torch.stack([scaled(1.0, 5, 0), scaled(0.5, -10, -7)])
    maps = torch.stack([maps_of(POINTS, matrix) for matrix in matrices])[None]
    poses = run(maps, matrices[None], [False])
    for frame in range(2):
        torch.testing.assert_close(poses[frame, :, :2], torch.tensor(POINTS), atol=0.05, rtol=0)


def test_a_mirrored_row_has_its_sides_swapped() -> None:
    matrix = mirrored(scaled(1.0, 10, 10))
    head, right, left = POINTS
    # The network sees a mirror image: what was the right hand looks like a left one.
    maps = maps_of([head, left, right], matrix)[None, None]
    poses = run(maps, matrix[None, None], [True])
    torch.testing.assert_close(poses[0, :, :2], torch.tensor(POINTS), atol=0.05, rtol=0)
    not_swapped = run(maps, matrix[None, None], [False])
    torch.testing.assert_close(not_swapped[0, 1, :2], torch.tensor(left), atol=0.05, rtol=0)


def test_rows_of_all_scales_and_flips_agree_on_a_known_peak() -> None:
    straight = [scaled(0.8, 5, 5), scaled(1.0, 12, 14), scaled(1.25, 18, 20)]
    matrices = straight + [mirrored(matrix) for matrix in straight]
    head, right, left = POINTS
    maps = [maps_of(POINTS, matrix) for matrix in matrices[:3]]
    maps += [maps_of([head, left, right], matrix) for matrix in matrices[3:]]
    poses = run(
        torch.stack(maps)[:, None], torch.stack(matrices)[:, None], [False] * 3 + [True] * 3
    )
    # The result is the centre of an image pixel: within half a pixel, and interpolation between
    # cells moves a peak by a fraction of one.
    error = poses[0, :, :2] - torch.tensor(POINTS)
    assert error.abs().max() <= 1.5
    assert error.mean(dim=0).abs().max() < 1.0
    assert poses[0, :, 2].min() > 0.8


def test_a_shifted_row_is_outvoted() -> None:
    matrices = [scaled(1.0, 12, 14), scaled(1.1, 13, 15), scaled(0.9, 8, 9)]
    wrong = [(x + 24, y) for x, y in POINTS]
    maps = [maps_of(POINTS, matrices[0]), maps_of(POINTS, matrices[1]), maps_of(wrong, matrices[2])]
    poses = run(torch.stack(maps)[:, None], torch.stack(matrices)[:, None], [False] * 3)
    assert (poses[0, :, :2] - torch.tensor(POINTS)).abs().max() <= 1.5
    assert poses[0, :, 2].max() < 0.8  # two of three rows


def test_a_pixel_that_few_rows_see_weighs_little() -> None:
    # Row 0 sees the joint at (70, 70) with 0.6; row 1's crop ends at 64 and has 0.5 at (20, 20),
    # where row 0 has 0.3: (0.5 + 0.3) / 2 beats 0.6 / 2.
    maps = torch.zeros(2, 1, 4, 10, 10)
    maps[0, 0, 1, 8, 8], maps[0, 0, 1, 2, 2] = 0.6, 0.3
    small = torch.zeros(2, 1, 4, 10, 10)
    small[1, 0, 1, 2, 2] = 0.5
    both = maps + small
    matrices = torch.stack([scaled(1.0, 0, 0), scaled(1.0, 0, 0)])[:, None]
    found = run(both, matrices, [False, False], image=(80, 80))[0, 0]
    assert (found[:2] - 20.0).abs().max() <= 0.5 and found[2].item() == pytest.approx(0.4, abs=0.02)


def test_pixels_outside_every_crop_are_zero() -> None:
    # The maps are highest along the crop's left edge: extended beyond it they would win there.
    maps = torch.zeros(2, 1, 4, 8, 8)
    maps[:, 0, 1:, :, 0] = 0.9
    matrices = torch.stack([scaled(1.0, 30, 5), scaled(1.0, 30, 5)])[:, None]
    poses = run(maps, matrices, [False, False])
    assert poses[0, :, 0].min() >= 30 and poses[0, :, 1].min() >= 5


def test_merging_reads_maps_at_the_offset_they_were_drawn_at() -> None:
    codec = HeatmapCodec(
        stride=8, sigma=8.0, background="none", encode_offset=0.0, decode_offset=0.0
    )
    keypoints = torch.tensor([[[37.0, 29.0, 2.0]]])
    maps = codec.encode(keypoints, (8, 8))[0][None].expand(2, -1, -1, -1, -1)
    matrices = scaled(1.0, 0, 0).expand(2, 1, 2, 3)
    poses = decode_rows(
        maps, matrices, codec=codec, swap=[0], flipped=torch.zeros(2, dtype=torch.bool),
        image_size=IMAGE,
    )  # fmt: skip
    assert (poses[0, 0, :2] - torch.tensor([37.0, 29.0])).abs().max() <= 0.1


@pytest.mark.parametrize("scale", [0.3, 1.0, 6.7])
def test_merging_locates_joints_below_a_pixel(scale: float) -> None:
    """A pixel is ``scale`` px of the crop; two rows whose cells lie apart."""
    codec = HeatmapCodec(stride=8, sigma=12.0, background="none")
    corners, truth = ((3.0, 2.0), (2.3, 2.6)), torch.tensor([35.2, 44.9])
    matrices = torch.stack([scaled(scale, *corner) for corner in corners])[:, None]
    pixel = matrices[0, 0, 0, 0]
    place = matrices[0, 0, :, 2] + pixel * truth  # image px
    joints = (place - matrices[:, 0, :, 2]) / pixel
    maps = codec.encode(torch.cat([joints, torch.ones(2, 1)], 1)[:, None], (12, 12))[0][:, None]
    poses = decode_rows(
        maps, matrices, codec=codec, swap=[0], flipped=torch.zeros(2, dtype=torch.bool),
        image_size=(400, 400),
    )  # fmt: skip
    # Of cubic interpolation.
    assert (poses[0, 0, :2] - place).abs().max() <= max(0.03, 0.4 * pixel)


@pytest.mark.parametrize("pixels", [2, 9])
def test_large_photos_are_merged_at_the_crops_size(pixels: int) -> None:
    """A photo of which ``pixels`` px are one of the crop: the joints of the small photo, enlarged;
    with the highest pixel alone, the middle of the highest pixel."""
    generator = torch.Generator().manual_seed(3)
    points = torch.cat([torch.rand(1, 6, 2, generator=generator) * 60 + 20, torch.ones(1, 6, 1)], 2)
    small = torch.stack([scaled(1.0, 3, 2), scaled(1.0, 3, 2)])[:, None]
    for codec, error in (
        (HeatmapCodec(stride=8, sigma=9.0, background="none"), 0.2),
        (HeatmapCodec(stride=8, sigma=9.0, background="none", decode="argmax"), 0.51),
    ):
        maps = codec.encode(points, (12, 12))[0][None].expand(2, -1, -1, -1, -1)
        poses = decode_rows(
            maps, small * pixels, codec=codec, swap=list(range(6)),
            flipped=torch.zeros(2, dtype=torch.bool), image_size=(105 * pixels, 110 * pixels),
        )[0]  # fmt: skip
        place = (points[0, :, :2] + small[0, 0, :, 2]) * pixels
        assert (poses[:, :2] - place).abs().max() <= error * pixels
        if codec.decode_mode == "argmax":
            assert torch.equal(poses[:, :2] % 1, torch.full((6, 2), 0.5))


def test_merged_maps_are_read_where_similarity_is_highest() -> None:
    """A narrow high hill beside a wide lower one, of which each half lies in one of two rows."""
    codec = HeatmapCodec(
        stride=8, sigma=8.0, background="none", decode="oks", oks_widths=[8.0, 24.0]
    )
    maps = torch.zeros(2, 1, 2, 16, 16)
    maps[..., 3, 3] = 0.9
    maps[0, ..., 10:12, 8:12] = 0.7
    maps[1, ..., 12:14, 8:12] = 0.7
    poses = decode_rows(
        maps, scaled(1.0, 0, 0).expand(2, 1, 2, 3), codec=codec, swap=[0, 1],
        flipped=torch.zeros(2, dtype=torch.bool), image_size=(128, 128),
    )[0]  # fmt: skip
    torch.testing.assert_close(poses[0], torch.tensor([28.0, 28.0, 0.9]), atol=0.02, rtol=0)
    torch.testing.assert_close(poses[1, :2], torch.tensor([80.0, 96.0]), atol=0.01, rtol=0)
    # Half of the rows' .7, and what cubic interpolation adds between equal cells.
    assert 0.3 < poses[1, 2] < 0.45


def _merged(maps: Tensor, corner: tuple[float, float] = (0, 0), image=(5, 7)) -> Tensor:
    """Joints of rows of maps whose cells are the image's pixels, from ``corner`` on: (K, 3)."""
    matrices = scaled(8.0, *corner).expand(len(maps), 1, 2, 3)
    return run(maps[:, None], matrices, [False] * len(maps), image=image)[0]


def test_rows_of_oblong_maps_are_averaged_pixel_by_pixel() -> None:
    """Five rows of seven cells. Where cells are pixels, nothing is interpolated."""
    maps = torch.zeros(3, 4, 5, 7)
    maps[0, 1, 4, 6], maps[1, 1, 4, 6], maps[2, 1, 0, 0] = 0.6, 0.3, 0.8
    maps[:, 2, 2, 0] = torch.tensor([1.5, 1.2, 0.9])  # above 1
    maps[:, 3] = -0.5
    maps[0, 3, 1, 3] = -0.4  # below 0, all of it
    torch.testing.assert_close(
        _merged(maps), torch.tensor([[6.5, 4.5, 0.3], [0.5, 2.5, 1.0], [3.5, 1.5, 0.0]])
    )
    # From pixel (2, 1) of a larger picture on.
    found = _merged(maps[:2], (2, 1), (8, 10))
    torch.testing.assert_close(found[0], torch.tensor([8.5, 5.5, 0.45]))
    maps[1, 2, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="finite"):
        _merged(maps)


def whole_image(maps: Tensor, matrices: Tensor, image: tuple[int, int]) -> Tensor:
    """Mean (K, *image) of rows of joint maps (S, K, h, w), every pixel of the image made."""
    total = torch.zeros(maps.shape[1], *image)
    for row, matrix in zip(maps, matrices):
        x = ((torch.arange(image[1]) + 0.5 - matrix[0, 2]) / matrix[0, 0] - 4) / 8
        y = ((torch.arange(image[0]) + 0.5 - matrix[1, 2]) / matrix[1, 1] - 4) / 8
        total += _cubic_matrix(y, maps.shape[2]) @ row @ _cubic_matrix(x, maps.shape[3]).T
    return total / len(maps)


@pytest.mark.parametrize(
    "corners",
    [
        [(20, 15), (24, 18), (10, 12)],
        [(-30, 10), (-28, 12), (-31, 9)],  # over the left edge
        [(60, 50), (50, 60), (70, 55)],  # over the right and the lower edge
        [(5, 5), (60, 40), (30, 70)],  # side by side
        [(-400, 0), (20, 15), (0, -90)],  # one of three shows the image
    ],
)
def test_what_lies_outside_all_crops_need_not_be_made(corners: list[tuple[float, float]]) -> None:
    """Joints are those of the whole image: oblong maps, other scales, one row mirrored."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(3, 4, 6, 9, generator=generator) - 0.2
    scales = (0.9, 2.0, 1.3)
    matrices = torch.stack([scaled(s, *corner) for s, corner in zip(scales, corners)])
    matrices[1] = mirrored(matrices[1], 72.0)
    expected = whole_image(CODEC.joint_maps(maps), matrices, IMAGE)
    swap = torch.tensor(flip_permutation(LABELS, FLIP_MAP))
    given = torch.stack([maps[0], maps[1][swap], maps[2]])
    poses = run(given[:, None], matrices[:, None], [False, True, False])[0]
    for pose, mean in zip(poses, expected, strict=True):
        row, column = divmod(mean.argmax().item(), IMAGE[1])
        assert (pose[:2] - torch.tensor([column + 0.5, row + 0.5])).abs().max() <= 0.5
        assert pose[2].item() == pytest.approx(mean.max().item(), abs=1e-5)


def test_the_memory_of_a_large_photo_is_that_of_its_crops() -> None:
    """Of 40,000 x 30,000 pixels, whose maps no machine holds, the crops show 64 x 64."""
    image = (30_000, 40_000)
    matrices = torch.stack([scaled(8 / 7, 20_000, 9_000), scaled(1.0, 20_000, 9_000)])
    point = (20_030.0, 9_025.0)
    maps = torch.stack([maps_of([point] * 3, matrix) for matrix in matrices])
    poses = run(maps[:, None], matrices[:, None], [False, False], image=image)
    assert (poses[0, :, :2] - torch.tensor(point)).abs().max() <= 1.0


@pytest.mark.parametrize(
    ("corner", "place"),
    [
        ((30, 5), None),
        ((-300, 20), (0.5, None)),
        ((30, 200), (None, 79.5)),
        ((500, -90), (99.5, 0.5)),
    ],
)
def test_joints_that_no_map_shows_stay_where_the_crops_are(
    corner: tuple[float, float], place: tuple[float | None, float | None] | None
) -> None:
    """Maps that are below 0 everywhere, and crops beside the image, which are nearest to its edge:
    score 0, and no joint in a corner of the image."""
    maps = torch.full((2, 1, 4, 8, 8), -0.5)
    matrices = torch.stack([scaled(1.0, *corner), scaled(1.1, *corner)])[:, None]
    poses = run(maps, matrices, [False, False])[0]
    assert (poses[:, 2] == 0).all()
    for axis in range(2):
        fixed = None if place is None else place[axis]
        if fixed is not None:
            assert (poses[:, axis] == fixed).all()
        else:
            assert (poses[:, axis] >= corner[axis]).all()
            assert (poses[:, axis] < corner[axis] + 64).all()


def test_a_turned_crop_cannot_be_merged() -> None:
    matrices = scaled(1.0, 0, 0).repeat(2, 1, 1, 1)
    assert run(torch.zeros(2, 1, 4, 8, 8), matrices, [False, False]).shape == (1, 3, 3)
    for turn in (0.01, -0.01):
        matrices[1, 0, 0, 1] = turn
        with pytest.raises(AssertionError, match="a test crop must not be rotated"):
            run(torch.zeros(2, 1, 4, 8, 8), matrices, [False, False])


def test_cubic_weights_by_hand() -> None:
    """Halfway between two cells -3/32 and 19/32, as OpenCV's; a quarter from one 's own; beyond the
    last cell that cell is repeated, and more than half a cell beyond there is nothing."""
    positions = torch.tensor([1.5, 1.25, 2.0, -0.5, 3.5, -0.51, 3.51])
    a, b = -3 / 32, 19 / 32
    expected = torch.tensor([
        [a, b, b, a],
        [-0.10546875, 0.87890625, 0.26171875, -0.03515625],
        [0, 0, 1, 0],
        [1 - a, a, 0, 0],
        [0, 0, a, 1 - a],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ])  # fmt: skip
    torch.testing.assert_close(_cubic_matrix(positions, 4), expected)


def test_the_better_half_of_the_joints() -> None:
    poses = torch.zeros(2, 4, 3)
    poses[..., 2] = torch.tensor([[0.1, 0.9, 0.3, 0.5], [1, 0, 0, 0]])
    torch.testing.assert_close(pose_scores(poses), torch.tensor([0.7, 0.5]))
    assert pose_scores(poses[:, 1:2]).tolist() == pytest.approx([0.9, 0])
    assert pose_scores(poses[:, :0]).tolist() == [1, 1] and pose_scores(poses[:0]).shape == (0,)


def test_joints_are_moved_away_by_the_picture_of_their_own_clip() -> None:
    """A crop that begins left of and above its picture; another clip's is wider."""
    points = torch.tensor([[[5.0, 7, 2], [4.9, 7, 2], [5, 6.9, 2], [14.9, 7, 2], [15, 7, 2]]])
    clips = [
        {"crop_to_image": torch.tensor([[[1.0, 0, -5], [0, 1, -7]]]), "width": width, "height": 10}
        for width in (10, 11)
    ]
    moved = move_outside_away(points.repeat(2, 1, 1, 1), clips, (40, 60))
    assert (moved[..., 0] > 0).tolist() == [
        [[True, False, False, True, False]], [[True, False, False, True, True]],
    ]  # fmt: skip
    assert moved[0, 0, 0].tolist() == [5, 7, 2]


def test_instances_of_every_frame() -> None:
    poses = torch.tensor(
        [[[10.0, 20, 0.5], [4, 30, 1.0], [5, 25, 0.75]], [[1, 2, 0.0], [3, -4, 0.25], [2, 0, 0.5]]],
    )
    first, second = to_instances(poses, IMAGE)
    assert first.image_size == IMAGE and len(first) == len(second) == 1
    assert first.pred_keypoints.shape == (1, 3, 3)
    assert first.pred_keypoints[0].tolist() == poses[0].tolist()
    assert first.pred_boxes.tensor.tolist() == [[4, 20, 10, 30]]
    # Of three joints the better two: (.75 + 1) / 2 and (.25 + .5) / 2.
    assert first.scores.tolist() == [0.875] and first.pred_classes.tolist() == [0]
    assert second.pred_boxes.tensor.tolist() == [[1, -4, 3, 2]] and second.scores.item() == 0.375


def test_joints_outside_an_oblong_crop_or_picture_are_moved_away() -> None:
    """A crop of 40 x 60 px (height x width) that shows a picture of 100 x 90 from (50, 70) on: its
    last 20 rows are below the picture, its last 10 columns right of it."""
    places = [(0, 0), (49, 0), (50, 0), (0, 19), (0, 20), (59, 0), (-1, 0), (0, -1), (45, 39)]
    points = torch.tensor([[[*place, 2.0] for place in places]])
    clip = {
        "crop_to_image": torch.tensor([[[1.0, 0, 50], [0, 1, 70]]]), "width": 100, "height": 90,
    }  # fmt: skip
    moved = move_outside_away(points[None], [clip], (40, 60))[0, 0]
    gone = moved[:, 0] == -1e6
    assert gone.tolist() == [False, False, True, False, True, True, True, True, True]
    assert (moved[:, 1] == -1e6).tolist() == gone.tolist() and (moved[:, 2] == 2).all()
    wide = {"crop_to_image": torch.eye(2, 3)[None], "width": 500, "height": 500}
    kept = move_outside_away(points[None], [wide], (40, 60))[0, 0, :, 0] > -1e6
    assert kept.tolist() == [True] * 6 + [False, False, True]
    edges = torch.tensor([[[59.0, 39, 1], [60, 0, 1], [0, 40, 1]]])
    assert (move_outside_away(edges[None], [wide], (40, 60))[0, 0, :, 0] > -1e6).tolist() == [
        True, False, False,
    ]  # fmt: skip
