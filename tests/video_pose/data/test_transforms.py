from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from video_pose.data.transforms import (
    BlurTransform,
    ClipAugmentation,
    ClipDraw,
    ColorTransform,
    CoverTransform,
    FillTransform,
    cover_transform,
    picture_transforms,
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


@pytest.mark.parametrize(("channel", "grey"), [(0, 60), (1, 117), (2, 23)])
def test_each_colour_has_its_weight_in_grey(channel: int, grey: int) -> None:
    """200 times .299, .587 and .114: of red, green and blue."""
    pixel = np.zeros((1, 1, 3), np.uint8)
    pixel[..., channel] = 200
    assert ColorTransform(1.0, 1.0, 0.0, "RGB").apply_image(pixel).tolist() == [[[grey] * 3]]
    turned = pixel[..., ::-1].copy()
    assert ColorTransform(1.0, 1.0, 0.0, "BGR").apply_image(turned).tolist() == [[[grey] * 3]]
    # Half the saturation: half of the colour, half of the grey.
    half = ColorTransform(1.0, 1.0, 0.5, "RGB").apply_image(pixel)[0, 0].tolist()
    assert half[channel] == pytest.approx(100 + grey / 2, abs=0.6)


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
    assert picture_transforms(ClipDraw(), "BGR") == []


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
    at_middles = ClipDraw(cover=(0, 0, 1, 1), cover_span=(0.1, 0.5))
    assert [at_middles.covers(t, 5) for t in range(5)] == [True, True, False, False, False]
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


def test_lost_resolution_keeps_means_and_no_detail() -> None:
    image = np.tile(np.array([0, 255], np.uint8)[:, None, None], (20, 40, 3))  # stripes of one row
    got = BlurTransform(factor=4.0).apply_image(image)
    assert got.shape == image.shape
    assert np.abs(got.astype(float) - 127.5).max() <= 1
    np.testing.assert_array_equal(BlurTransform().apply_image(image), image)
    soft = BlurTransform(sigma=2.0).apply_image(image)
    assert soft[5:-5].std() < 3 < image.std()


def test_a_coloured_rectangle_covers_alike_in_every_frame() -> None:
    draw = ClipDraw(cover=(2, 1, 12, 7), cover_color=(200, 30, 90), cover_seed=3)
    fill = cover_transform(draw, 128)
    assert isinstance(fill, FillTransform)
    one, two = (fill.apply_image(np.full((10, 16, 3), v, np.uint8)) for v in (0, 255))
    np.testing.assert_array_equal(one[1:7, 2:12], two[1:7, 2:12])
    np.testing.assert_allclose(one[1:7, 2:12].mean((0, 1)), (200, 30, 90), atol=20)
    assert (one[:, 12:] == 0).all() and (two[7:] == 255).all()
    plain = cover_transform(ClipDraw(cover=(2, 1, 12, 7)), 128)
    assert (plain.apply_image(np.zeros((10, 16, 3), np.uint8))[1:7, 2:12] == 128).all()


def test_draws_of_boxes_and_sharpness() -> None:
    augmentation = ClipAugmentation(
        box_jitter=0.1, half_body_prob=0.5, blur_prob=0.5, low_res_prob=0.5, low_res_range=(2, 3)
    )
    rng = np.random.default_rng(0)
    draws = [augmentation.draw(rng, (64, 64)) for _ in range(400)]
    for share in (
        np.mean([draw.half != "" for draw in draws]),
        np.mean([draw.blur > 0 for draw in draws]),
        np.mean([draw.low_res > 1 for draw in draws]),
    ):
        assert 0.4 < share < 0.6
    assert {draw.half for draw in draws} == {"", "upper", "lower"}
    jitter = np.array([draw.jitter for draw in draws])
    assert -0.1 <= jitter.min() < -0.09 and 0.09 < jitter.max() <= 0.1
    assert all(draw.low_res == 1 or 2 <= draw.low_res <= 3 for draw in draws)


def test_a_box_trembles_from_frame_to_frame_about_a_common_shift() -> None:
    draw = ClipAugmentation(box_jitter=0.2, box_jitter_frame=0.05).draw(
        np.random.default_rng(1), (64, 64)
    )
    shifts = draw.jitters(200)
    assert shifts.shape == (200, 4)
    rest = shifts - np.array(draw.jitter)
    assert np.abs(rest).max() <= 0.05 and (rest.std(axis=0) > 0.02).all()
    np.testing.assert_array_equal(shifts, draw.jitters(200))  # a draw is a draw
    still = ClipDraw(jitter=(0.1, 0, 0, -0.1))
    np.testing.assert_array_equal(still.jitters(2), [[0.1, 0, 0, -0.1]] * 2)


def test_what_is_off_leaves_the_other_numbers_as_they_were() -> None:
    plain = ClipAugmentation((0.5, 2.0), 30.0, 0.5, 0.1, 0.2, 0.5)
    more = ClipAugmentation(
        (0.5, 2.0), 30.0, 0.5, 0.1, 0.2, 0.5, box_jitter=0.1, occlusion_fill="color"
    )
    one, two = (a.draw(np.random.default_rng(7), (64, 64)) for a in (plain, more))
    assert (one.scale, one.angle, one.color, one.cover) == (
        two.scale,
        two.angle,
        two.color,
        two.cover,
    )


@pytest.mark.parametrize(
    ("key", "keys"),
    [
        ("OCCLUSION_FILL", {"occlusion_fill": "noise"}),
        ("BOX_JITTER", {"box_jitter": 0.5}),
        ("BOX_JITTER_FRAME", {"box_jitter": 0.3, "box_jitter_frame": 0.2}),
        ("HALF_BODY_PROB", {"half_body_prob": 1.5}),
        ("BLUR_PROB", {"blur_prob": -0.1}),
        ("LOW_RES_PROB", {"low_res_prob": 2.0}),
        ("BLUR_SIGMA", {"blur_sigma": (2.0, 1.0)}),
        ("LOW_RES_RANGE", {"low_res_range": (0.5, 2.0)}),
    ],
)
def test_values_out_of_range_are_named(key: str, keys: dict) -> None:
    with pytest.raises(ValueError, match=f"INPUT.AUG.{key}"):
        ClipAugmentation(**keys)


@pytest.mark.parametrize(
    ("key", "keys"),
    [
        (": COLOR -0.1", {"color": -0.1}),
        (": COLOR 0.0 .*TRANSLATION -0.1", {"translation": -0.1}),
        (": COLOR 0.0 .*ROTATION -1", {"rotation": -1}),
        ("SCALE_RANGE", {"scale_range": (0.0, 1.0)}),
        ("SCALE_RANGE", {"scale_range": (1.0,)}),
        ("OCCLUSION_SIZE goes up to 1.1", {"occlusion_size": (0.5, 1.1)}),
        ("OCCLUSION_PROB", {"occlusion_prob": -0.1}),
        ("OCCLUSION_PROB", {"occlusion_prob": 1.1}),
        ("FLIP_PROB", {"flip_prob": -0.1}),
        ("HALF_BODY_PROB", {"half_body_prob": -0.1}),
        ("BLUR_PROB", {"blur_prob": 1.1}),
        ("LOW_RES_PROB", {"low_res_prob": -0.1}),
        ("BOX_JITTER", {"box_jitter": -0.1}),
        ("BOX_JITTER_FRAME", {"box_jitter_frame": -0.1}),
        ("BOX_JITTER_FRAME", {"box_jitter": 0.2, "box_jitter_frame": 0.3}),
    ],
)
def test_each_bound_is_held(key: str, keys: dict) -> None:
    with pytest.raises(ValueError, match=f"INPUT.AUG.?{key}"):
        ClipAugmentation(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"color": 0.99},
        {"scale_range": (2.0, 2.0)},
        {"occlusion_size": (1.0, 1.0), "occlusion_prob": 1},
        {"occlusion_span": (1.0, 1.0)},
        {"flip_prob": 1},
        {"half_body_prob": 1},
        {"blur_prob": 1, "blur_sigma": (0.1, 0.1)},
        {"low_res_prob": 1, "low_res_range": (1.0, 1.0)},
        {"box_jitter": 0.49},
        {"box_jitter": 0.2, "box_jitter_frame": 0.29},
    ],
)
def test_a_bound_itself_is_taken_and_can_be_drawn(keys: dict) -> None:
    assert ClipAugmentation(**keys).draw(np.random.default_rng(0), (8, 8)).scale > 0


@pytest.mark.parametrize(
    ("options", "field", "draw"),
    [
        ({"box_jitter": 0.2}, "jitter", lambda rng: tuple(rng.uniform(-0.2, 0.2, 4).tolist())),
        ({"box_jitter_frame": 0.1}, "jitter_seed", lambda rng: int(rng.integers(2**31))),
        (
            {"half_body_prob": 1.0},
            "half",
            lambda rng: "upper" if (rng.random(), rng.random())[1] < 0.6 else "lower",
        ),
        ({"blur_prob": 1.0}, "blur", lambda rng: (rng.random(), rng.uniform(1, 2))[1]),
        ({"low_res_prob": 1.0}, "low_res", lambda rng: (rng.random(), rng.uniform(2, 4))[1]),
    ],
)
def test_a_part_that_is_off_takes_no_number(options: dict, field: str, draw: Any) -> None:
    """Each part draws the first numbers after those of a recipe without any."""
    ranges = {"blur_sigma": (1, 2), "low_res_range": (2, 4)}
    first, second = (np.random.default_rng(8) for _ in range(2))
    ClipAugmentation().draw(first, (20, 30))
    found = ClipAugmentation(**ranges, **options).draw(second, (20, 30))
    assert getattr(found, field) == draw(first)


def test_a_seed_draws_what_it_always_drew() -> None:
    """A training that is repeated sees the same clips: draws may not change in silence."""
    everything = ClipAugmentation(
        (0.5, 2.0), 40.0, 0.5, 0.1, 0.3, 0.7, (0.1, 0.3), (0.2, 0.8), "color",
        box_jitter=0.1, box_jitter_frame=0.05, half_body_prob=0.7, blur_prob=0.6, low_res_prob=0.6,
    )  # fmt: skip
    draws = [everything.draw(np.random.default_rng(seed), (100, 200)) for seed in range(8)]
    numbers = [
        sum(
            (2 + np.sin(i)) * float(value)
            for i, value in enumerate(
                (
                    d.scale, d.angle, d.flip, *d.shift, *(d.color or ()), *(d.cover or ()),
                    *d.cover_span, *(d.cover_color or ()), d.cover_seed % 101, *d.jitter,
                    d.frame_jitter, d.jitter_seed % 101, d.blur, d.low_res,
                )
            )
        )
        for d in draws
    ]  # fmt: skip
    expected = [160.4734, 1109.3334, -22.243, 1821.1112, 2700.2678, 1259.3475, 2111.2078, 209.4191]
    assert numbers == pytest.approx(expected, abs=1e-3)
    upper, lower = "upper", "lower"
    assert [d.half for d in draws] == ["", upper, upper, lower, "", upper, upper, upper]
    jitters = [float((d.jitters(3) * np.arange(12).reshape(3, 4)).sum()) for d in draws[:3]]
    assert jitters == pytest.approx([-0.651635, -1.663582, -0.726378], abs=1e-5)


def test_points_stay_where_pictures_change() -> None:
    points = np.array([[1.0, 2.0]])
    for transform in (
        ColorTransform(1.2, 0.9, 1.0, "BGR"), CoverTransform((0, 0, 1, 1), 9),
        FillTransform((0, 0, 1, 1), (1, 2, 3), 0), BlurTransform(1.0, 2.0),
    ):  # fmt: skip
        assert transform.apply_coords(points) is points


def test_sizes_of_lost_resolution_by_hand() -> None:
    """3 x 8 by 4 is 1 x 2 px: a mean of each half of the columns; by 100 it is one px."""
    image = np.repeat(np.arange(8, dtype=np.uint8)[None, :, None] * 10, 3, axis=0).repeat(3, axis=2)
    got = BlurTransform(factor=4.0).apply_image(image)
    assert got.shape == (3, 8, 3) and got[:, 0].tolist() == [[15] * 3] * 3
    assert got[:, -1].tolist() == [[55] * 3] * 3
    for one in (image, image.transpose(1, 0, 2).copy()):
        assert (BlurTransform(factor=100.0).apply_image(one) == 35).all()
    # 7 px by 2 are 3.5, to the even 4, of 1.75 px each: (0 + .75 x 10) / 1.75 is the first one.
    halved = BlurTransform(factor=2.0).apply_image(image[:, :7])
    assert halved.shape == (3, 7, 3) and halved[1, [0, -1], 0].tolist() == [4, 56]
    assert picture_transforms(ClipDraw(blur=0.5), "BGR")[0].sigma == 0.5
    assert picture_transforms(ClipDraw(low_res=1.5), "BGR")[0].factor == 1.5
    both = picture_transforms(ClipDraw(color=(1.1, 1, 1), low_res=1.5), "BGR")
    assert [type(each) for each in both] == [ColorTransform, BlurTransform]


def test_noise_of_a_colour_is_that_of_its_seed() -> None:
    image = np.zeros((6, 9, 3), np.uint8)
    one = FillTransform((1, 1, 9, 5), (250, 128, 4), 3).apply_image(image)
    two = FillTransform((1, 1, 9, 5), (250, 128, 4), 4).apply_image(image)
    assert (one != two).any() and one[0].max() == 0 and one[:, 0].max() == 0 and one[5].max() == 0
    spread = one[1:5, 1:9, 1].astype(float).std()
    assert 15 < spread < 40 and one[..., 0].max() == 255 and image.max() == 0
    # 8 x 8 px are as many as the numbers that are drawn: of mean (250, 128, 4) and deviation 30.
    patch = FillTransform((1, 1, 9, 9), (250, 128, 4), 3).apply_image(np.zeros((9, 9, 3), np.uint8))
    patch = patch[1:, 1:]
    assert patch[0, 0].tolist() == [255, 51, 16] and patch[7, 7].tolist() == [255, 108, 35]
    assert patch.sum(axis=(0, 1)).tolist() == [15386, 8351, 852]
    assert patch[..., 2].min() == 0


def test_a_recipe_of_few_parts_draws_what_it_always_drew() -> None:
    """A cover of the whole clip, in the pad value, takes no numbers for its span and colour."""
    recipe = ClipAugmentation((0.5, 2.0), 40.0, 0.5, 0.1, 0.3, 1.0, (0.1, 0.3))
    draw = recipe.draw(np.random.default_rng(7), (100, 200))
    assert (draw.scale, draw.angle) == pytest.approx((1.201902, -15.757406), abs=1e-6)
    assert draw.flip and draw.shift == pytest.approx((5.003819, 7.944276), abs=1e-6)
    assert draw.color == pytest.approx((1.165411, 0.835124, 0.8801), abs=1e-6)
    assert (draw.cover, draw.cover_span, draw.cover_color) == ((23, 59, 43, 85), (0.0, 1.0), None)
    rest = (draw.cover_seed, draw.half, draw.jitter, draw.frame_jitter, draw.blur, draw.low_res)
    assert rest == (0, "", (0.0,) * 4, 0.0, 0.0, 1.0)


def test_a_cover_is_a_pixel_or_more() -> None:
    """A tenth of 8 px; at every place up to the last one."""
    recipe = ClipAugmentation(occlusion_prob=1.0, occlusion_size=(0.1, 0.1))
    covers = np.array([recipe.draw(np.random.default_rng(i), (8, 8)).cover for i in range(200)])
    assert (covers[:, 2:] - covers[:, :2] == 1).all()
    assert set(covers[:, 0]) == set(covers[:, 1]) == set(range(8))
