from __future__ import annotations

import numpy as np
import pytest

from video_pose.data.cropping import image_to_crop
from video_pose.data.transforms import (
    AffineTransform,
    ClipAugmentation,
    ClipDraw,
    ColorTransform,
    CoverTransform,
    color_transforms,
)


def _centroid(picture: np.ndarray) -> np.ndarray:
    """Centre of mass in continuous coordinates."""
    weights = picture.astype(np.float64)
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


def _blob(height: int, width: int, center: tuple[float, float], sigma: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width] + 0.5
    square = (x - center[0]) ** 2 + (y - center[1]) ** 2
    return (255 * np.exp(-square / (2 * sigma**2))).astype(np.float32)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("angle", [0.0, 90.0, -33.0])
@pytest.mark.parametrize("scale", [(0.2, 0.2), (0.45, 0.45), (0.7, 0.7), (1.0, 1.0), (2.5, 1.3)])
def test_a_blob_lands_where_its_centre_does(
    scale: tuple[float, float], angle: float, flip: bool
) -> None:
    center = (93.3, 61.8)
    image = _blob(150, 200, center, 6.0)
    region = np.array([[60.0, 40.0, 120.0, 90.0]])
    matrix = image_to_crop(region, np.array([scale]), (120, 160), angle, flip, (2.5, -1.0))[0]
    transform = AffineTransform(matrix, (120, 160), pad_value=0)
    found = _centroid(transform.apply_image(image))
    np.testing.assert_allclose(found, transform.apply_coords(np.array(center)), atol=0.05)


def test_half_scale_averages_blocks_of_pixels() -> None:
    # At scale .5 output pixel i covers input pixels 2i and 2i + 1; without the half-pixel shift it
    # would be pixel 2i alone.
    image = np.zeros((8, 8), np.float32)
    image[:, 3] = 100
    got = AffineTransform(np.array([[0.5, 0, 0], [0, 0.5, 0]]), (4, 4), 0).apply_image(image)
    np.testing.assert_allclose(got, np.tile([0, 50, 0, 0], (4, 1)))


def test_a_quarter_turn_is_exact() -> None:
    image = np.arange(9 * 3, dtype=np.uint8).reshape(3, 3, 3)
    matrix = image_to_crop(np.array([[0.0, 0, 3, 3]]), np.ones((1, 2)), (3, 3), 90)[0]
    got = AffineTransform(matrix, (3, 3)).apply_image(image)
    np.testing.assert_array_equal(got, np.rot90(image, -1))  # clockwise


def test_a_mirror_is_exact() -> None:
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    matrix = image_to_crop(np.array([[0.0, 0, 5, 4]]), np.ones((1, 2)), (4, 5), flip=True)[0]
    got = AffineTransform(matrix, (4, 5)).apply_image(image)
    np.testing.assert_array_equal(got, image[:, ::-1])


def test_strong_shrinking_does_not_alias() -> None:
    # Stripes of one pixel, shrunk to a fifth: the mean grey everywhere, not stripes.
    image = np.tile(np.array([0, 255], np.uint8), (100, 50))
    got = AffineTransform(np.array([[0.2, 0, 0], [0, 0.2, 0]]), (20, 20)).apply_image(image)
    assert np.abs(got[1:-1, 1:-1].astype(float) - 127.5).max() < 30


def test_only_the_shrunk_axis_is_averaged() -> None:
    image = np.tile(np.array([0, 255], np.uint8)[:, None], (50, 100))  # stripes along x
    matrix = np.array([[0.2, 0, 0], [0, 1.0, 0]])
    got = AffineTransform(matrix, (100, 20)).apply_image(image)
    np.testing.assert_array_equal(got[:, 10], image[:, 10])


def test_outside_is_the_pad_value_in_every_channel() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    got = AffineTransform(np.array([[1.0, 0, 4], [0, 1, 4]]), (12, 12), 77).apply_image(image)
    assert (got[:3] == 77).all() and (got[5:7, 5:7] == 0).all()


@pytest.mark.parametrize("size", [(30, 40), (300, 400)])  # more than 8 times the output: as it is
def test_channels_are_warped_alike_and_keep_their_order(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    matrix = np.array([[0.9, 0.3, -5.0], [-0.3, 0.9, 6.0]])
    transform = AffineTransform(matrix, (32, 24), 77)
    got = transform.apply_image(image)
    assert got.shape == (32, 24, 3)
    for channel in range(3):
        alone = transform.apply_image(np.ascontiguousarray(image[..., channel]))
        np.testing.assert_array_equal(got[..., channel], alone)


def test_points_far_outside_move_as_well() -> None:
    transform = AffineTransform(np.array([[2.0, 0, 1], [0, 3, -1]]), (4, 4))
    points = np.array([[[-100.0, 50.0]], [[1.0, 1.0]]])
    np.testing.assert_allclose(transform.apply_coords(points), [[[-199, 149]], [[3, 2]]])


def test_brightness_and_contrast_by_hand() -> None:
    pixel = np.full((1, 1, 3), 100, np.uint8)
    assert ColorTransform(1.2, 1.0, 1.0, "RGB").apply_image(pixel)[0, 0, 0] == 120
    # (100 - 128) * .5 + 128
    assert ColorTransform(1.0, 0.5, 1.0, "RGB").apply_image(pixel)[0, 0, 0] == 114
    assert ColorTransform(3.0, 1.0, 1.0, "RGB").apply_image(pixel)[0, 0, 0] == 255


def test_no_saturation_is_grey_of_the_right_weights() -> None:
    red_rgb = np.array([[[200, 0, 0]]], np.uint8)
    # .299 * 200 = 59.8, in every channel, whichever the channel order.
    got = ColorTransform(1.0, 1.0, 0.0, "RGB").apply_image(red_rgb)
    np.testing.assert_array_equal(got, [[[60, 60, 60]]])
    got = ColorTransform(1.0, 1.0, 0.0, "BGR").apply_image(red_rgb[..., ::-1].copy())
    np.testing.assert_array_equal(got, [[[60, 60, 60]]])


def test_cover_leaves_the_rest_and_its_input() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    got = CoverTransform((1, 2, 4, 3), 9).apply_image(image)
    assert (got[2, 1:4] == 9).all() and got.sum() == 3 * 3 * 9
    assert image.sum() == 0


def test_draws_stay_in_their_ranges_and_fill_them() -> None:
    ranges = ClipAugmentation((0.5, 2.0), 40, 0.5, 0.1, 0.3, 0.5, (0.1, 0.3))
    rng = np.random.default_rng(0)
    draws = [ranges.draw(rng, (100, 200)) for _ in range(400)]
    for values, low, high in (
        ([d.scale for d in draws], 0.5, 2.0),
        ([d.angle for d in draws], -40, 40),
        ([d.shift[0] for d in draws], -20, 20),  # a tenth of the width
        ([d.shift[1] for d in draws], -10, 10),
        ([factor for d in draws for factor in d.color], 0.7, 1.3),
    ):
        margin = 0.05 * (high - low)
        assert low <= min(values) < low + margin and high - margin < max(values) <= high
    assert 150 < sum(d.flip for d in draws) < 250
    covers = np.array([d.cover for d in draws if d.cover])
    assert 150 < len(covers) < 250
    sizes = covers[:, 2:] - covers[:, :2]
    assert (sizes >= [20, 10]).all() and (sizes <= [60, 30]).all()
    assert (covers >= 0).all() and (covers[:, 2:] <= [200, 100]).all()


def test_nothing_asked_changes_nothing() -> None:
    assert ClipAugmentation().draw(np.random.default_rng(0), (10, 10)) == ClipDraw()
    assert color_transforms(ClipDraw(), "BGR") == []


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"scale_range": (1.5, 0.5)}, "SCALE_RANGE"),
        ({"flip_prob": 1.5}, "FLIP_PROB"),
        ({"occlusion_size": (0.5, 1.5)}, "OCCLUSION_SIZE"),
        ({"color": 1.0}, "COLOR"),
    ],
)
def test_ranges_out_of_order_are_errors(kwargs: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ClipAugmentation(**kwargs)


def test_a_cover_spans_frames_in_a_row() -> None:
    draw = ClipDraw(cover=(0, 0, 1, 1), cover_span=(0.3, 0.75))
    # Middles of five frames: .1 .3 .5 .7 .9.
    assert [draw.covers(t, 5) for t in range(5)] == [False, True, True, True, False]
    assert not ClipDraw().covers(0, 5)
    assert all(ClipDraw(cover=(0, 0, 1, 1)).covers(t, 5) for t in range(5))


def test_drawn_spans_lie_in_the_clip() -> None:
    ranges = ClipAugmentation(occlusion_prob=1.0, occlusion_span=(0.4, 0.6))
    rng = np.random.default_rng(0)
    spans = np.array([ranges.draw(rng, (64, 64)).cover_span for _ in range(200)])
    lengths = spans[:, 1] - spans[:, 0]
    assert spans.min() >= 0 and spans.max() <= 1
    assert lengths.min() >= 0.4 and lengths.max() <= 0.6 + 1e-9
    assert spans[:, 0].min() < 0.05 and spans[:, 1].max() > 0.95
    with pytest.raises(ValueError, match="OCCLUSION_SPAN goes up to 1.5"):
        ClipAugmentation(occlusion_span=(0.5, 1.5))
