from __future__ import annotations

import numpy as np
import pytest

from video_pose.data.transforms import (
    ClipAugmentation,
    ClipDraw,
    ColorTransform,
    CoverTransform,
    color_transforms,
)


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
