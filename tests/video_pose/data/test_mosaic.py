"""Four frames as one: where pixels, boxes, masks and joints go."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks

from video_pose.data import mosaic
from video_pose.data.frames_mapper import IGNORED
from video_pose.data.mosaic import Mosaic

SIZE = (96, 128)


def frame(value: int, box=(10, 8, 30, 38), shape=(48, 64)) -> dict:
    """An image of value 0 whose person, a rectangle of ``value``, fills box and mask; joints at its
    corners, the second one unlabelled."""
    x1, y1, x2, y2 = box
    image = torch.zeros(3, *shape, dtype=torch.uint8)
    image[:, y1:y2, x1:x2] = value
    persons = Instances(shape)
    persons.gt_boxes = Boxes(torch.tensor([[x1, y1, x2, y2]], dtype=torch.float32))
    persons.gt_classes = torch.tensor([value])
    persons.gt_masks = BitMasks(image[:1] > 0)
    persons.gt_keypoints = Keypoints(torch.tensor([[[x1, y1, 2.0], [0, 0, 0], [x2, y2, 1]]]))
    persons.gt_has_mask = torch.tensor([True])
    return {"image": image, "instances": persons, "file_name": f"{value}.png"}


def test_pixels_boxes_masks_and_joints_move_together() -> None:
    """Whatever is drawn: a person's pixels, box, mask and joints say the same place."""
    seen = cut = 0
    for seed in range(60):
        np.random.seed(seed)
        frames = [frame(0) for _ in range(4)]
        frames[seed % 4] = frame(200)
        out = Mosaic(1.0, SIZE)(frames)
        assert out["image"].shape == (3, *SIZE)
        assert out["mosaic_of"][seed % 4] == "200.png"
        persons = out["instances"]
        assert persons.image_size == SIZE
        for person in (persons[i] for i in range(len(persons)) if persons.gt_classes[i] == 200):
            pixels = out["image"][0] >= 100
            rows, columns = pixels.any(1).nonzero()[:, 0], pixels.any(0).nonzero()[:, 0]
            extent = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            box = person.gt_boxes.tensor[0]
            assert torch.allclose(box, extent.float(), atol=1), seed
            assert (person.gt_masks.tensor[0] ^ pixels).float().mean() < 0.02
            points = person.gt_keypoints.tensor[0]
            assert points[1].tolist() == [0, 0, 0]
            for row, corner in ((0, box[:2]), (2, box[2:])):
                if points[row, 2] > 0:  # inside its quarter
                    assert torch.allclose(points[row, :2], corner, atol=0.01)
                    seen += 1
                else:
                    cut += 1
    assert seen > 50 and cut > 5


def test_a_frame_covers_its_quarter_and_none_beyond() -> None:
    np.random.seed(0)
    frames = [frame(v, (0, 0, 64, 48)) for v in (40, 90, 140, 240)]  # persons fill their frames
    out = Mosaic(1.0, SIZE)(frames)
    assert sorted(out["image"].unique().tolist()) == [40, 90, 140, 240]
    corners = [out["image"][0, y, x].item() for y in (0, -1) for x in (0, -1)]
    assert corners == [40, 90, 140, 240]
    assert out["instances"].gt_boxes.area().sum() == SIZE[0] * SIZE[1]


def test_a_person_of_whom_little_remains_is_not_labelled() -> None:
    """Persons at the right edge of frames twice as wide as their quarter."""
    wide = [frame(v, (236, 4, 256, 44), (48, 256)) for v in (40, 90, 140, 240)]
    counts = []
    for seed in range(40):
        np.random.seed(seed)
        counts.append(len(Mosaic(1.0, SIZE)(wide)["instances"]))
    assert min(counts) == 0 and max(counts) >= 2


def test_who_fills_a_quarter_is_labelled_however_little_of_them_it_shows() -> None:
    """Faces close to the camera: of 400 columns a quarter shows at most some 90."""
    np.random.seed(0)
    near = [frame(v, (0, 0, 400, 48), (48, 400)) for v in (40, 90, 140, 240)]
    out = Mosaic(1.0, SIZE)(near)["instances"]
    assert len(out) == 4 and out.gt_boxes.area().sum() == SIZE[0] * SIZE[1]


def test_frames_without_persons_and_without_masks() -> None:
    np.random.seed(1)
    empty = {**frame(0), "instances": Instances((48, 64))}
    empty["instances"].gt_boxes = Boxes(torch.zeros(0, 4))
    empty["instances"].gt_classes = torch.zeros(0, dtype=torch.int64)
    out = Mosaic(1.0, SIZE)([empty, frame(90), empty, frame(200)])
    assert len(out["instances"]) == 2 and out["instances"].has("gt_masks")
    assert len(Mosaic(1.0, SIZE)([empty] * 4)["instances"]) == 0


def test_images_that_have_all_masks_say_so_in_a_mosaic() -> None:
    """Frames of both kinds are one batch: whether a person has a mask is known of each."""
    np.random.seed(1)
    frames = [frame(value) for value in (40, 90, 140, 200)]
    for item in frames[:2]:
        item["instances"].remove("gt_has_mask")
    frames[2]["instances"].gt_has_mask = torch.tensor([False])
    persons = Mosaic(1.0, SIZE)(frames)["instances"]
    known = dict(zip(persons.gt_classes.tolist(), persons.gt_has_mask.tolist()))
    told = {40: True, 90: True, 140: False, 200: True}
    assert len(known) > 2 and known == {value: told[value] for value in known}
    assert persons.gt_has_mask.dtype == torch.bool


def test_how_often_and_with_which_frames() -> None:
    np.random.seed(2)
    some = Mosaic(0.3, SIZE, weights=[1.0, 0.0001, 3.0])
    drawn = [some.draw(3) for _ in range(3000)]
    assert np.mean([item is not None for item in drawn]) == pytest.approx(0.3, abs=0.03)
    others = [i for item in drawn if item for i in item]
    assert others.count(1) <= 3 and others.count(2) / others.count(0) == pytest.approx(3, rel=0.2)
    plain = [i for _ in range(500) for i in Mosaic(1.0, SIZE).draw(3)]
    assert {plain.count(i) // 100 for i in range(3)} <= {4, 5}


def test_what_cannot_be_composed_is_refused() -> None:
    with pytest.raises(ValueError, match="MOSAIC_PROB is 2"):
        Mosaic(2, SIZE)
    with pytest.raises(ValueError, match="MOSAIC_SIZE is"):
        Mosaic(0.5, (8, 320))
    polygons = frame(90)
    outline = [np.array([10.0, 8, 30, 8, 30, 38])]
    polygons["instances"].gt_masks = PolygonMasks([outline])
    with pytest.raises(ValueError, match="MASK_FORMAT to 'bitmask'"):
        Mosaic(1.0, SIZE)([polygons] * 4)
    with pytest.raises(ValueError, match="90.png: a mosaic needs frames with annotations"):
        Mosaic(1.0, SIZE)([{k: v for k, v in frame(90).items() if k != "instances"}] * 4)


def test_a_mosaic_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """80 x 120 px that meet at (30, 20), so that the quarters are 30, 90, 30 and 90 px wide and 20,
    20, 60 and 60 high. Frames are 30 px wide and 20 high: the first one fits, the others are
    enlarged by 3 to 90 x 60; of these the last rows, or columns, are shown."""
    monkeypatch.setattr(mosaic, "CENTRE", (0.25, 0.25))
    monkeypatch.setattr(mosaic, "ZOOM", 1.0)
    monkeypatch.setattr(np.random, "randint", lambda count: count - 1)
    frames = [frame(value, (15, 10, 27, 16), (20, 30)) for value in (60, 100, 140, 200)]
    out = Mosaic(1.0, (80, 120))(frames)
    persons = out["instances"]
    # At (x, y) x 3: (45, 30) to (81, 48). Top right: + (30, -40); bottom left: + (-60, 20); bottom
    # right: + (30, 20).
    boxes = [[15, 10, 27, 16], [75, 0, 111, 8], [0, 50, 21, 68], [75, 50, 111, 68]]
    assert persons.gt_boxes.tensor.tolist() == boxes
    assert persons.gt_classes.tolist() == [60, 100, 140, 200]
    none = [0, 0, 0]
    assert persons.gt_keypoints.tensor.tolist() == [
        [[15, 10, 2], none, [27, 16, 1]],
        [none, none, [111, 8, 1]],
        [none, none, [21, 68, 1]],
        [[75, 50, 2], none, [111, 68, 1]],
    ]
    for (x0, y0, x1, y1), mask, value in zip(boxes, persons.gt_masks.tensor, persons.gt_classes):
        assert mask.sum() == (x1 - x0) * (y1 - y0) and mask[y0:y1, x0:x1].all()
        assert (out["image"][:, y0 + 3 : y1 - 3, x0 + 3 : x1 - 3] == value).all()
        seen = out["image"].clone()
        seen[:, max(y0 - 2, 0) : y1 + 2, max(x0 - 2, 0) : x1 + 2] = 0
        assert not (seen == value).any()
    assert (out["height"], out["width"], out["image"].dtype) == (80, 120, torch.uint8)
    assert out["mosaic_of"] == ["60.png", "100.png", "140.png", "200.png"]


def test_a_quarter_of_a_person_is_enough_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 12 columns, three of the person in the left half are shown, or two; an ignored region
    stays while any of it does."""
    monkeypatch.setattr(mosaic, "CENTRE", (0.5, 0.5))
    monkeypatch.setattr(mosaic, "ZOOM", 1.0)
    for place, kept in ((9, 4), (10, 0), (12, 0)):
        monkeypatch.setattr(np.random, "randint", lambda count, place=place: min(place, count - 1))
        frames = [frame(1, (0, 4, 12, 12), (16, 64)) for _ in range(4)]
        assert len(Mosaic(1.0, (32, 32))(frames)["instances"]) == kept
        for item in frames:
            item["instances"].gt_classes[:] = IGNORED
        ignored = Mosaic(1.0, (32, 32))(frames)["instances"]
        assert len(ignored) == (4 if place < 12 else 0)


def test_persons_without_classes_go_by_what_is_seen_of_them() -> None:
    np.random.seed(4)
    frames = [frame(value) for value in (40, 90, 140, 200)]
    for item in frames:
        item["instances"].remove("gt_classes")
    assert Mosaic(1.0, SIZE)(frames)["instances"].get_fields().keys() == {
        "gt_boxes", "gt_masks", "gt_keypoints", "gt_has_mask",
    }  # fmt: skip


def test_of_frames_without_persons_the_first_says_which_fields_there_are() -> None:
    np.random.seed(1)
    frames = [frame(value) for value in (40, 90, 140, 200)]
    for item in frames:
        item["instances"] = item["instances"][torch.zeros(1, dtype=torch.bool)]
    frames[1]["instances"].remove("gt_keypoints")
    persons = Mosaic(1.0, SIZE)(frames)["instances"]
    assert len(persons) == 0 and persons.has("gt_keypoints")
    assert persons.gt_masks.tensor.shape == (0, *SIZE)


def test_three_frames_join_one() -> None:
    for weights in (None, [1.0, 2.0]):
        drawn = Mosaic(1.0, SIZE, weights).draw(2)
        assert len(drawn) == 3 and set(drawn) <= {0, 1}
    assert Mosaic(0.0, SIZE).draw(2) is None
    # The first and the last of the numbers that the generator gives.
    for number, drawn in ((0.0, 0), (0.249, 0), (0.25, 1), (0.999, 1)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(np.random, "rand", lambda *n, x=number: np.full(n, x) if n else 0.0)
            assert Mosaic(1.0, SIZE, [1.0, 3.0]).draw(2) == [drawn] * 3


@pytest.mark.parametrize("probability", [-0.1, 1.1])
def test_a_probability_lies_between_0_and_1(probability: float) -> None:
    with pytest.raises(ValueError, match=f"MOSAIC_PROB is {probability}: must lie in 0-1"):
        Mosaic(probability, SIZE)


@pytest.mark.parametrize("size", [(15, 16), (16, 15), (16,), (16, 16, 16)])
def test_a_mosaic_of_16_px_is_the_smallest(size: tuple[int, ...]) -> None:
    Mosaic(0.5, (16, 16))
    with pytest.raises(ValueError, match=r"MOSAIC_SIZE is \(.*: give \(height, width\) >= 16 px"):
        Mosaic(0.5, size)


def test_where_four_frames_meet_and_how_much_they_are_enlarged() -> None:
    """Between .3 and .7 of either side; up to 1.3 times what it takes to cover the quarter. The
    person of 4 x 4 px stands in the middle of its frame."""
    high, wide = SIZE
    rows, columns, zooms = [], [], []
    for seed in range(80):
        np.random.seed(seed)
        frames = [frame(value, (30, 22, 34, 26)) for value in (40, 90, 140, 240)]
        for item, value in zip(frames, (40, 90, 140, 240)):
            item["image"][:] = value
        out = Mosaic(1.0, SIZE)(frames)
        x = int((out["image"][0, 0] == 40).sum())
        y = int((out["image"][0, :, 0] == 40).sum())
        columns.append(x / wide)
        rows.append(y / high)
        persons = out["instances"][out["instances"].gt_classes == 40]
        for x0, y0, x1, y1 in persons.gt_boxes.tensor.tolist():
            if x1 < x and y1 < y and x0 > 0 and y0 > 0:
                zooms.append((x1 - x0) / 4 / max(x / 64, y / 48))
    for values in (rows, columns):
        assert 0.29 <= min(values) < 0.33 and 0.67 < max(values) <= 0.7
    assert 0.97 < min(zooms) < 1.03 and 1.27 < max(zooms) < 1.33 and len(zooms) > 60


def test_large_frames_are_made_smaller_without_moire() -> None:
    """Stripes of one pixel become grey."""
    np.random.seed(0)
    frames = [frame(value, (0, 0, 4, 4), (384, 512)) for value in (40, 90, 140, 240)]
    for item in frames:
        item["image"][:, 0::2], item["image"][:, 1::2] = 0, 255
    image = Mosaic(1.0, SIZE)(frames)["image"].float()
    assert (image - 127.5).abs().mean() < 12


def test_a_quarter_is_covered_whatever_its_size_and_the_frames() -> None:
    """Sizes are rounded: not a row or column may be left black."""
    for seed in range(40):
        np.random.seed(seed)
        shape = tuple(np.random.randint(7, 50, 2))
        frames = [frame(value, (0, 0, shape[1], shape[0]), shape) for value in (40, 90, 140, 240)]
        assert (Mosaic(1.0, (37, 41))(frames)["image"] > 0).all()
