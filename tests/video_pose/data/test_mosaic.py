"""Four frames as one: where pixels, boxes, masks and joints go."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks

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
    mosaic = Mosaic(0.3, SIZE, weights=[1.0, 0.0001, 3.0])
    drawn = [mosaic.draw(3) for _ in range(3000)]
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
