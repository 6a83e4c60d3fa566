from __future__ import annotations

import cv2
import numpy as np
import pytest

from video_pose.data import cropping
from video_pose.data.cropping import (
    AffineTransform,
    PersonCropper,
    Placement,
    RegionRule,
    apply_affine,
    clip_regions,
    fill_boxes,
    half_body_boxes,
    hide_surroundings,
    image_to_crop,
    invert_affine,
    is_valid_box,
    jitter_boxes,
    region_scales,
    resolve_window,
    rotated_size,
    union_box,
)

BOX = np.array([[10.0, 20.0, 50.0, 40.0]])  # 40 x 20 about (30, 30)


def _map(rule: RegionRule, boxes: np.ndarray, factor: float = 1.0, **kwargs) -> np.ndarray:
    regions = clip_regions(rule, boxes, union_box(boxes), 100, 200)
    return image_to_crop(regions, region_scales(rule, regions, factor), rule.crop_size, **kwargs)


def test_missing_boxes_take_the_nearest_valid_one() -> None:
    nothing = [0, 0, 0, 0]
    boxes = [nothing, [1, 1, 2, 2], nothing, nothing, nothing, [5, 5, 9, 5], [6, 6, 8, 8]]
    got = fill_boxes(np.array(boxes), 10, 10)
    # Frame 5 has no height. Frames 2 and 3 are nearer to 1; frame 4 to 6. A tie goes to the past.
    assert got[:, 0].tolist() == [1, 1, 1, 1, 6, 6, 6]
    tie = fill_boxes(np.array([[1, 1, 2, 2], nothing, [6, 6, 8, 8]]), 10, 10)
    assert tie[:, 0].tolist() == [1, 1, 6]
    # Boxes of frames 0, 2 and 9: frame 5 is nearer to 2, frame 6 to 9.
    rows = np.zeros((10, 4))
    rows[[0, 2, 9]] = [[1, 1, 2, 2], [3, 1, 4, 2], [5, 1, 6, 2]]
    assert fill_boxes(rows, 10, 10)[:, 0].tolist() == [1, 1, 3, 3, 3, 3, 5, 5, 5, 5]


def test_a_track_without_boxes_shows_the_frame() -> None:
    boxes = np.array([[0, 0, 0, 0], [3, 3, np.nan, 4]])
    np.testing.assert_array_equal(fill_boxes(boxes, 30, 40), [[0, 0, 40, 30]] * 2)


def test_the_box_centre_is_the_crop_centre_and_the_longer_side_fills() -> None:
    rule = RegionRule(crop_size=(64, 64), padding=1.6)
    (matrix,) = _map(rule, BOX)
    # 40 x 1.6 = 64: scale 1.
    np.testing.assert_allclose(matrix, [[1, 0, 2], [0, 1, 2]], atol=1e-12)


def test_a_crop_that_is_not_square_holds_both_sides() -> None:
    rule = RegionRule(crop_size=(10, 80), padding=1.0)
    # Width would allow 80 / 40 = 2, height 10 / 20 = 0.5.
    np.testing.assert_allclose(region_scales(rule, BOX, 1.0), [[0.5, 0.5]])


def test_scale_factor_multiplies() -> None:
    rule = RegionRule(crop_size=(64, 64), padding=1.6)
    np.testing.assert_allclose(region_scales(rule, BOX, 0.75), [[0.75, 0.75]])


def test_regions_follow_each_frame_or_stay() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [20, 0, 40, 20]])
    each = clip_regions(RegionRule((8, 8)), boxes, union_box(boxes), 50, 50)
    one = clip_regions(RegionRule((8, 8), per="clip"), boxes, union_box(boxes), 50, 50)
    np.testing.assert_array_equal(each, boxes)
    np.testing.assert_array_equal(one, [[0, 0, 40, 20]] * 2)


def test_whole_frame_keeps_its_aspect_or_is_stretched() -> None:
    keep = RegionRule((50, 50), region="frame")
    stretch = RegionRule((50, 50), region="frame", stretch=True)
    # A frame of 100 x 200: corners of the fitted picture, then of the stretched one.
    corners = np.array([[0.0, 0.0], [200.0, 100.0]])
    np.testing.assert_allclose(apply_affine(_map(keep, BOX)[0], corners), [[0, 12.5], [50, 37.5]])
    np.testing.assert_allclose(apply_affine(_map(stretch, BOX)[0], corners), [[0, 0], [50, 50]])


def test_windows_count_from_the_far_edges() -> None:
    # The bottom-right 368 x 368 of a 576 x 720 frame.
    window = resolve_window((-368, -368, 0, 0), 576, 720)
    np.testing.assert_array_equal(window, [352, 208, 720, 576])
    np.testing.assert_array_equal(resolve_window((0, 10, 368, -8), 576, 720), [0, 10, 368, 568])
    np.testing.assert_array_equal(resolve_window((), 576, 720), [0, 0, 720, 576])
    with pytest.raises(ValueError, match="300 x 200"):
        resolve_window((-368, -368, 0, 0), 200, 300)


def test_absolute_scale_is_the_images_own() -> None:
    rule = RegionRule((368, 368), scale_mode="absolute")
    np.testing.assert_allclose(region_scales(rule, BOX, 1.3, train=True), [[1.3, 1.3]])


def test_absolute_training_shrinks_the_clip_by_its_longest_rotated_box() -> None:
    rule = RegionRule((368, 368), scale_mode="absolute")
    boxes = np.array([[0.0, 0, 300, 400], [0, 0, 10, 10]])
    # Turned by 90 degrees 400 lies across; x 1.2 = 480 > 368: 1.2 * 368 / 480 / 1.1 for both.
    expected = 1.2 * 368 / 480 / 1.1
    got = region_scales(rule, boxes, 1.2, angle=90, train=True)
    np.testing.assert_allclose(got, np.full((2, 2), expected))
    # Turned by 45 degrees a 300 x 400 box is (300 + 400) / sqrt(2) = 494.97 on either side.
    expected = 368 / (700 / np.sqrt(2)) / 1.1
    np.testing.assert_allclose(
        region_scales(rule, boxes, 1.0, angle=45, train=True), np.full((2, 2), expected)
    )


def test_absolute_testing_shrinks_each_frame_apart() -> None:
    rule = RegionRule((368, 368), scale_mode="absolute")
    boxes = np.array([[0.0, 0, 300, 400], [0, 0, 10, 10]])
    got = region_scales(rule, boxes, 1.2)
    np.testing.assert_allclose(got[:, 0], [1.2 * 368 / 480 / 1.05, 1.2])


def test_rotated_size_of_a_quarter_turn_swaps_the_sides() -> None:
    np.testing.assert_allclose(rotated_size(BOX, -90.0), [[20, 40]], atol=1e-12)


def test_rotation_is_clockwise_then_mirrored_then_shifted() -> None:
    centre, right = np.array([30.0, 30.0]), np.array([40.0, 30.0])
    turned = image_to_crop(BOX, np.ones((1, 2)), (64, 64), angle=90)[0]
    # Clockwise on the screen: what is right of the centre goes below it.
    np.testing.assert_allclose(
        apply_affine(turned, np.stack([centre, right])), [[32, 32], [32, 42]]
    )
    mirrored = image_to_crop(BOX, np.ones((1, 2)), (64, 64), 0, True, (3, -5))[0]
    np.testing.assert_allclose(
        apply_affine(mirrored, np.stack([centre, right])), [[35, 27], [25, 27]]
    )


def test_inverse_undoes_any_map() -> None:
    maps = image_to_crop(
        np.repeat(BOX, 2, 0), np.array([[0.5, 2.0], [1.0, 1.0]]), (64, 32), 33, True, (3, 4)
    )
    points = np.array([[1.0, 2.0], [70.0, -5.0]])
    for matrix, inverse in zip(maps, invert_affine(maps), strict=True):
        np.testing.assert_allclose(apply_affine(inverse, apply_affine(matrix, points)), points)


def test_what_is_far_from_the_box_is_hidden() -> None:
    """A box of 20 x 40 in a crop of 100 x 100, 2 crop px per image px: margin .1 is 4 image px, so
    that 56 x 96 crop px about the middle stay; turned by a quarter, 96 x 56."""
    image = np.full((100, 100, 3), 200, np.uint8)
    box = np.array([[40.0, 30, 60, 70]])
    cropper = PersonCropper(RegionRule((100, 100), margin=0.1), pad_value=7)
    placements = [Placement(), Placement(angle=90), Placement(flip=True, shift=(10, 0))]
    upright, turned, moved = (row[0, 0] for row in cropper([image], box, box, placements).pictures)
    expected = np.full((100, 100), 7, np.uint8)
    expected[2:99, 22:79] = 200
    np.testing.assert_array_equal(upright, expected)
    np.testing.assert_array_equal(turned, expected.T)
    np.testing.assert_array_equal(moved[:, 10:], expected[:, :-10])
    everything = PersonCropper(RegionRule((100, 100)), pad_value=7)([image], box, box).pictures
    assert (everything == 200).all()


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"margin": -0.1}, "INPUT.REGION_MARGIN is -0.1"),
        ({"margin": 0.1, "region": "frame"}, "INPUT.REGION_MARGIN needs"),
        ({"region": "person"}, "INPUT.REGION is 'person'"),
        ({"per": "video"}, "INPUT.REGION_PER"),
        ({"scale_mode": "relative"}, "INPUT.SCALE_MODE"),
        ({"stretch": True}, "need INPUT.REGION"),
        ({"region": "frame", "stretch": True, "scale_mode": "absolute"}, "STRETCH needs"),
        ({"window": (0, 0, 5, 5)}, "need INPUT.REGION"),
        ({"region": "frame", "window": (0, 0, 5)}, "INPUT.WINDOW"),
        ({"padding": -1.0}, "INPUT.REGION_PADDING"),
    ],
)
def test_contradicting_keys_are_errors(kwargs: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RegionRule((64, 64), **kwargs)


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


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 3)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_pictures_with_and_without_colour_keep_shape_and_type(
    shape: tuple[int, ...], kind: type
) -> None:
    image = np.full(shape, 9, kind)
    got = AffineTransform(np.eye(2, 3), (4, 3), 7).apply_image(image)
    assert got.shape == (4, 3, *shape[2:]) and got.dtype == kind and (got == 9).all()


def test_points_far_outside_move_as_well() -> None:
    transform = AffineTransform(np.array([[2.0, 0, 1], [0, 3, -1]]), (4, 4))
    points = np.array([[[-100.0, 50.0]], [[1.0, 1.0]]])
    np.testing.assert_allclose(transform.apply_coords(points), [[[-199, 149]], [[3, 2]]])


def test_two_people_of_one_image_are_cropped_as_each_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    boxes = np.array([[10.0, 10, 30, 50], [40, 20, 70, 40]])
    rule = RegionRule(crop_size=(32, 48), padding=1.25, per="clip")
    unions = np.array([[0.0, 10, 40, 50], [40, 20, 70, 40]])
    placements = [Placement(), Placement(scale=0.5, flip=True)]
    crops = PersonCropper(rule)([image] * 2, boxes, unions, placements)
    assert crops.pictures.shape == (2, 2, 3, 32, 48) and crops.pictures.dtype == np.uint8
    for p in range(2):
        alone = PersonCropper(rule)([image], boxes[p : p + 1], unions[p], placements)
        for both, one in zip(crops, alone, strict=True):
            np.testing.assert_array_equal(both[:, p], one[:, 0])
    # The union is centred, not the box: (20, 30) at (24, 16), scale min(48 / 50, 32 / 50) = .64;
    # the box's centre is there, too.
    np.testing.assert_allclose(crops.image_to_crop[0, 0], [[0.64, 0, 11.2], [0, 0.64, -3.2]])
    np.testing.assert_allclose(crops.centers[0, 0], (24, 16))
    # Mirrored at half the scale: x = 48 - (.32 * 55 + 6.4), the centre stays.
    np.testing.assert_allclose(crops.centers[1, 1], (24, 16))
    np.testing.assert_allclose(crops.image_to_crop[1, 1, 0], [-0.64, 0, 24 + 0.64 * 55])


def test_a_pad_value_out_of_range_is_an_error() -> None:
    with pytest.raises(ValueError, match="INPUT.PAD_VALUE is 300"):
        PersonCropper(RegionRule(crop_size=(8, 8)), 300)


def test_a_box_about_half_of_the_joints() -> None:
    joints = np.zeros((2, 5, 3))
    joints[0] = [[10, 10, 2], [20, 10, 1], [10, 30, 2], [90, 90, 2], [99, 99, 0]]
    joints[1, :2] = [[10, 10, 2], [20, 10, 2]]
    boxes = np.array([[0.0, 0, 40, 100], [5, 5, 25, 15]])
    got = half_body_boxes(boxes, joints, [0, 1, 2, 4], factor=2.0)
    # x 10-20 would be 20 px wide: a quarter of the longer side is 25. y 10-30 becomes 40 px.
    np.testing.assert_allclose(got[0], [2.5, 0, 27.5, 40])
    np.testing.assert_allclose(got[1], boxes[1])  # two joints make no box


def test_edges_move_by_shares_of_their_side() -> None:
    boxes = np.array([[10.0, 20, 30, 60], [0, 0, 10, 10]])
    got = jitter_boxes(boxes, (0.1, -0.1, 0.2, 0.0))
    np.testing.assert_allclose(got, [[12, 16, 34, 60], [1, -1, 12, 10]])


@pytest.mark.parametrize("pad_value", [0, 255])
def test_pad_values_at_the_ends_are_taken(pad_value: int) -> None:
    box = np.array([[40.0, 40, 60, 60]])
    cropper = PersonCropper(RegionRule((8, 8), padding=20.0), pad_value)
    picture = cropper([np.full((100, 100, 3), 9, np.uint8)], box, box[0]).pictures[0, 0]
    assert picture[:, 0, 0].tolist() == [pad_value] * 3
    with pytest.raises(ValueError, match="INPUT.PAD_VALUE is -1: expected 0 to 255"):
        PersonCropper(RegionRule((8, 8)), -1)


def test_rules_at_their_ends() -> None:
    RegionRule((1, 1), padding=0.01, margin=0.0)
    RegionRule((8, 8), region="frame", window=(0, 0, 5, 5), scale_mode="absolute")
    for size in ((8, 8, 8), (0, 8), (8, 0), (8,)):
        with pytest.raises(ValueError, match=r"INPUT.CROP_SIZE is .*: expected \(height, width\)"):
            RegionRule(size)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="INPUT.REGION_PADDING is 0"):
        RegionRule((8, 8), padding=0)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ((0, 0, 200, 100), (0, 0, 200, 100)),
        ((199, 99, 200, 100), (199, 99, 200, 100)),
        ((-200, -100, 0, 0), (0, 0, 200, 100)),
        ((-200, -100, -199, -99), (0, 0, 1, 1)),
        ((0, 0, 0, 0), (0, 0, 200, 100)),
        ((0, 0, 1, 1), (0, 0, 1, 1)),
        ((-1, -1, 0, 0), (199, 99, 200, 100)),
        ((0, 0, 201, 100), None),
        ((0, 0, 200, 101), None),
        ((-201, 0, 200, 100), None),
        ((0, -101, 200, 100), None),
        ((5, 0, 5, 100), None),
        ((0, 7, 200, 7), None),
        ((9, 0, 5, 100), None),
        ((0, 9, 200, 7), None),
    ],
)
def test_windows_reach_to_the_edges_and_no_further(window: tuple, expected: tuple | None) -> None:
    """Of a frame 200 px wide and 100 high."""
    if expected is None:
        with pytest.raises(ValueError, match="of a frame of 200 x 100"):
            resolve_window(window, 100, 200)
    else:
        assert resolve_window(window, 100, 200).tolist() == list(expected)


def test_three_joints_are_the_fewest_that_make_a_box() -> None:
    joints = np.zeros((1, 4, 3))
    joints[0, :3] = [[10, 10, 2], [20, 10, 1], [10, 30, 2]]
    got = half_body_boxes(np.array([[0.0, 0, 8, 16]]), joints, [0, 1, 2])
    # 10 and 20 px by 1.3: 13 and 26 about (15, 20); a quarter of 16 is less.
    np.testing.assert_allclose(got, [[8.5, 7, 21.5, 33]])


def test_a_long_box_that_just_fits_is_not_shrunk() -> None:
    rule = RegionRule((40, 60), scale_mode="absolute")
    boxes = np.array([[0.0, 0, 40, 10], [0, 0, 41, 10]])
    np.testing.assert_allclose(region_scales(rule, boxes, 1.0), [[1, 1], [40 / 41 / 1.05] * 2])


@pytest.mark.parametrize(
    ("box", "valid"),
    [
        ((1, 2, 1.5, 2.5), True), ((-3, -4, -1, -2), True), ((1, 2, 1, 4), False),
        ((1, 2, 4, 2), False), ((4, 2, 1, 4), False), ((1, 4, 4, 2), False),
        ((np.nan, 2, 3, 4), False), ((1, np.nan, 3, 4), False), ((1, 2, np.inf, 4), False),
        ((1, 2, 3, np.inf), False), ((-np.inf, 2, 3, 4), False),
    ],
)  # fmt: skip
def test_a_box_has_a_width_and_a_height(box: tuple[float, ...], valid: bool) -> None:
    good = (0, 0, 1, 1)
    assert is_valid_box(np.array([good, box, good])).tolist() == [True, valid, True]


def test_a_frame_without_a_box_shows_its_joints_before_its_neighbours_box() -> None:
    boxes = np.array([[0.0, 0, 9, 9], [5, 5, 5, 5], [0, 0, 0, 0]])
    joints = np.zeros((3, 2, 3))
    joints[:2] = [[10, 20, 2], [30, 60, 1]]
    filled = fill_boxes(boxes, 100, 100, joints)
    # (10, 20) to (30, 60) x 1.25 about (20, 40); the last frame has neither, and takes the next.
    assert filled.tolist() == [[0, 0, 9, 9], [7.5, 15, 32.5, 65], [7.5, 15, 32.5, 65]]
    assert boxes[1].tolist() == [5, 5, 5, 5], "the input stays"
    assert fill_boxes(np.zeros((0, 4)), 4, 5).shape == (0, 4)
    late = fill_boxes(np.array([[0.0] * 4, [0.0] * 4, [1, 2, 3, 4]]), 9, 9)
    assert late.tolist() == [[1, 2, 3, 4]] * 3


def test_rotated_size_by_hand() -> None:
    """40 x 20 by 30 degrees: 40 cos + 20 sin by 40 sin + 20 cos, whichever way it turns."""
    cos = np.sqrt(3) / 2
    for angle in (30, -30, 150, 210):
        found = rotated_size(BOX, angle)
        np.testing.assert_allclose(found, [[40 * cos + 10, 20 + 20 * cos]])


@pytest.mark.parametrize(
    ("shape", "kind", "channels"),
    [
        ((6, 8, 3), np.uint8, 4), ((7, 7, 3), np.uint8, 3), ((6, 8, 3), np.float32, 3),
        ((6, 8), np.uint8, 1), ((6, 8, 1), np.uint8, 1),
    ],
)  # fmt: skip
def test_a_fourth_channel_is_added_where_it_saves_time(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], kind: type, channels: int
) -> None:
    """To pictures of bytes of up to eight times the output's 6 px; the result is the same."""
    plain, warped = cv2.warpAffine, []
    monkeypatch.setattr(
        cropping.cv2,
        "warpAffine",
        lambda img, *a, **k: (warped.append(img), plain(img, *a, **k))[1],
    )
    AffineTransform(np.eye(2, 3), (2, 3)).apply_image(np.zeros(shape, kind))
    assert [1 if img.ndim == 2 else img.shape[2] for img in warped] == [channels]


def test_a_picture_that_shrinks_to_nothing_is_one_pixel() -> None:
    """4 px by .1: one of value 100 that reaches to .4; at .5 a quarter of it is left. By .5 nothing
    is averaged first, below that it is."""
    image = np.full((4, 4), 100, np.float32)
    tiny = AffineTransform(np.array([[0.1, 0, 0], [0, 1.0, 0]]), (1, 1), 0).apply_image(image)
    np.testing.assert_allclose(tiny, [[25]])
    tiny = AffineTransform(np.array([[1.0, 0, 0], [0, 0.1, 0]]), (1, 1), 0).apply_image(image)
    np.testing.assert_allclose(tiny, [[25]])


def test_each_frame_of_half_a_body_has_its_own_box() -> None:
    """A frame without enough joints keeps its box, those after it do not; three joints in a column
    get a quarter of the longer side, which is 40 px wide or high, as width."""
    joints = np.zeros((3, 3, 3))
    joints[1:] = [[50, 10, 2], [50, 20, 2], [50, 30, 2]]
    boxes = np.array([[1.0, 2, 3, 4], [30, 12, 70, 22], [45, 2, 55, 42]])
    found = half_body_boxes(boxes, joints, [0, 1, 2], factor=2.0)
    assert found.tolist() == [[1, 2, 3, 4], [45, 0, 55, 40], [45, 0, 55, 40]]


def test_the_union_of_boxes_by_hand() -> None:
    boxes = np.array([[3.0, 9, 5, 12], [1, 10, 2, 11], [4, 8, 7, 9]])
    assert union_box(boxes).tolist() == [1, 8, 7, 12]
    assert union_box(boxes[:1]).tolist() == [3, 9, 5, 12]


def test_a_frame_has_one_box() -> None:
    """Frames and boxes of different numbers are a mistake of the caller."""
    image, boxes = np.zeros((9, 9, 3), np.uint8), np.array([[0.0, 0, 4, 4]] * 2)
    with pytest.raises(ValueError, match="shorter|longer"):
        PersonCropper(RegionRule((8, 8)))([image], boxes, boxes[0])
    with pytest.raises(ValueError, match="shorter|longer"):
        half_body_boxes(boxes, np.zeros((1, 3, 3)), [0, 1, 2])
    with pytest.raises(ValueError, match="shorter|longer"):
        hide_surroundings(np.zeros((1, 3, 8, 8), np.uint8), boxes, np.eye(2, 3)[None], 0.1, 0)


def test_what_shrinks_to_more_than_half_is_not_averaged() -> None:
    """Stripes of 0 and 255, 10 px by .6: the first pixel's centre is at 1/3 of the way between two
    of them; the mean of 1 2/3 px would be 102. At .4 it is that of 2.5 px: (255 + .5 x 0) / 2.5."""
    stripes = np.tile(np.array([0, 255], np.float32), (20, 5))
    for scale, other, value in ((0.6, 1.0, 85), (0.6, 0.2, 85), (0.4, 1.0, 102), (0.4, 0.2, 102)):
        matrix = np.array([[scale, 0, 0], [0, other, 0]])
        size = (round(20 * other), round(10 * scale))
        got = AffineTransform(matrix, size, 0).apply_image(stripes)
        np.testing.assert_allclose(got[:, 0], value, atol=4)
