"""Frames, joints and masks as stock models get them."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import scipy.io
import torch
from detectron2.data import DatasetMapper, MetadataCatalog
from detectron2.data import detection_utils as d2
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from pycocotools import mask as coco_mask

from video_pose.data.frame_reader import FrameReader
from video_pose.data.frames_mapper import (
    IGNORED,
    FrameMapper,
    MaskReader,
    color_changes,
    encode_mask,
    joint_maps,
    visible_shares,
)
from video_pose.engine.defaults import get_pose_cfg
from video_pose.skeleton import match_joints

JOINTS = ["head", "left_hand", "right_hand"]


def make_mapper(augmentations=(), maps=None, masks=True, train=True, **changes) -> FrameMapper:
    return FrameMapper(
        train,
        reader=FrameReader(0, "BGR"),
        joint_maps=maps or {},
        augmentations=list(augmentations),
        image_format="BGR",
        use_instance_mask=masks,
        use_keypoint=True,
        instance_mask_format="bitmask",
        keypoint_hflip_indices=np.array([0, 2, 1]),
        **changes,
    )


@pytest.fixture
def frame(tmp_path: Path) -> dict:
    """A 40 x 30 image; the person in columns 10-19 and rows 5-24, its mask of frame 1 alike."""
    image = np.zeros((30, 40, 3), np.uint8)
    image[5:25, 10:20] = (10, 20, 30)
    cv2.imwrite(str(tmp_path / "f.png"), image)
    masks = np.zeros((30, 40, 3), np.uint8)
    masks[5:25, 10:20, 1] = 1
    scipy.io.savemat(tmp_path / "m.mat", {"part_mask": masks})
    return {
        "file_name": str(tmp_path / "f.png"),
        "image_id": 7,
        "height": 30,
        "width": 40,
        "video_id": "v",
        "frame_index": 1,
        "tracks": [("0", 1)],
        "dataset_name": "d",
        "annotations": [
            {
                "bbox": [10.0, 5.0, 20.0, 25.0],
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": 0,
                "iscrowd": 0,
                "keypoints": [15.0, 6.0, 2, 11.0, 10.0, 1, 18.0, 12.0, 2],
                "segmentation_ref": {
                    "mat_file": str(tmp_path / "m.mat"),
                    "field": "part_mask",
                    "index": 1,
                },
            }
        ],
    }


def test_a_mirrored_frame_swaps_sides_and_moves_box_joints_and_mask(frame) -> None:
    before = repr(frame)
    out = make_mapper([T.RandomFlip(prob=1.0)])(frame)
    assert repr(frame) == before  # the catalog's dict is not changed
    instances = out["instances"]
    assert out["image"].shape == (3, 30, 40)
    assert out["image"][:, 10, 25].tolist() == [10, 20, 30]  # column 14 became 25
    assert instances.gt_boxes.tensor.tolist() == [[20, 5, 30, 25]]
    # x becomes 40 - x; the left hand (11, 10) is now the image's right one.
    expected = [[25, 6, 2], [22, 12, 2], [29, 10, 1]]
    assert instances.gt_keypoints.tensor[0].tolist() == expected
    mask = instances.gt_masks.tensor[0]
    assert mask.sum() == 200 and mask[5:25, 20:30].all()
    assert instances.gt_has_mask.tolist() == [True]


def test_in_testing_the_annotations_stay_behind(frame) -> None:
    out = make_mapper(train=False)(frame)
    assert "instances" not in out and "annotations" not in out
    assert (out["image_id"], out["tracks"]) == (7, [("0", 1)])


def test_a_person_without_mask_is_kept_or_refused(frame) -> None:
    for index in (0, 5):  # an empty mask; beyond the file's three masks
        frame["annotations"][0]["segmentation_ref"]["index"] = index
        with pytest.raises(ValueError, match="frame 1 of video 'v'.*PartlyLabelledMaskHead"):
            make_mapper()(frame)
        instances = make_mapper(unmasked="keep")(frame)["instances"]
        assert instances.gt_has_mask.tolist() == [False]
        assert instances.gt_boxes.tensor.tolist() == [[10, 5, 20, 25]]
        assert instances.gt_masks.tensor.sum() == 0
        plain = make_mapper(masks=False)(frame)["instances"]
        assert len(plain) == 1 and not plain.has("gt_masks")


def test_joints_that_no_model_asks_for_stay_behind(frame) -> None:
    mapper = make_mapper()
    mapper.use_keypoint = False
    persons = mapper(frame)["instances"]
    assert not persons.has("gt_keypoints") and len(persons) == 1
    assert "keypoints" in frame["annotations"][0]


@pytest.mark.parametrize("points", [None, []])
def test_a_person_of_no_joints_has_all_of_them_unlabelled(frame, points: list | None) -> None:
    frame["annotations"][0]["keypoints"] = points
    persons = make_mapper()(frame)["instances"]
    assert persons.gt_keypoints.tensor.tolist() == [[[0, 0, 0]] * 3]
    assert frame["annotations"][0]["keypoints"] == points


def test_the_track_of_a_person_comes_along_where_all_have_one(frame) -> None:
    (person,) = frame["annotations"]
    assert not make_mapper()(frame)["instances"].has("gt_tracks")
    frame["annotations"] = [{**person, "track_number": 4}, {**person, "track_number": 0}]
    assert make_mapper()(frame)["instances"].gt_tracks.tolist() == [4, 0]
    del frame["annotations"][0]["track_number"]
    assert not make_mapper()(frame)["instances"].has("gt_tracks")


def test_boxes_are_those_of_the_masks_where_asked_for(frame) -> None:
    """Where there is a mask: a person without one keeps its box."""
    (person,) = frame["annotations"]
    person["bbox"] = [8.0, 2.0, 30.0, 28.0]
    boxed = {key: value for key, value in person.items() if key != "segmentation_ref"}
    frame["annotations"] = [person, boxed]
    mapper = make_mapper(unmasked="keep")
    assert mapper(frame)["instances"].gt_boxes.tensor.tolist() == [[8, 2, 30, 28]] * 2
    mapper.recompute_boxes = True
    boxes = mapper(frame)["instances"].gt_boxes.tensor.tolist()
    assert boxes == [[10, 5, 20, 25], [8, 2, 30, 28]]
    frame["annotations"] = [boxed]
    assert mapper(frame)["instances"].gt_boxes.tensor.tolist() == [[8, 2, 30, 28]]


def test_masks_of_the_clips_read_last_are_kept(tmp_path: Path, monkeypatch) -> None:
    read = []

    def masks(reference: dict) -> list[np.ndarray]:
        read.append(reference["mat_file"])
        return [np.ones((2, 3), bool)]

    monkeypatch.setattr("video_pose.data.frames_mapper.read_masks", masks)
    reader = MaskReader(keep=2)
    for name in "abacab":
        reference = {"mat_file": name, "field": "part_mask", "index": 0}
        assert reader.read(reference)["size"] == [2, 3]
        assert reader.read({**reference, "index": 1}) is None
    # c took the place of b, which was read longer ago than a; b that of c.
    assert read == ["a", "b", "c", "b"]


def test_an_unknown_rule_and_polygons_are_refused(frame) -> None:
    with pytest.raises(ValueError, match="INPUT.FRAMES.UNMASKED 'drop'"):
        make_mapper(unmasked="drop")
    mapper = make_mapper()
    mapper.instance_mask_format = "polygon"
    with pytest.raises(ValueError, match="INPUT.MASK_FORMAT is 'polygon'"):
        mapper(frame)


def test_a_person_cropped_away_is_no_instance(frame) -> None:
    out = make_mapper([T.CropTransform(25, 0, 15, 30)])(frame)
    assert len(out["instances"]) == 0 and out["image"].shape == (3, 30, 15)


def test_joints_of_another_skeleton_by_name_with_absent_ones_unlabelled(frame) -> None:
    names = ["right_hand", "tail", "head"]
    mapper = make_mapper(maps={"d": match_joints(names, JOINTS, partial=True)})
    frame["annotations"][0]["keypoints"] = [18.0, 12.0, 2, 1.0, 1.0, 2, 15.0, 6.0, 1]
    keypoints = mapper(frame)["instances"].gt_keypoints.tensor[0]
    assert keypoints.tolist() == [[15, 6, 1], [0, 0, 0], [18, 12, 2]]


def test_no_common_joint_names_both_lists(register) -> None:
    name = register([], ["trunk", "tail"])
    with pytest.raises(ValueError, match=r"dataset '.*': none of the joints \['head'\].*trunk"):
        joint_maps([name], ["head"])


def test_images_of_stock_datasets_come_out_as_from_the_stock_mapper(frame) -> None:
    polygon = [[10.0, 5.0, 20.0, 5.0, 20.0, 25.0, 10.0, 25.0]]
    for key in ("video_id", "frame_index", "tracks"):
        del frame[key]
    del frame["annotations"][0]["segmentation_ref"]
    frame["annotations"][0]["segmentation"] = polygon
    stock = DatasetMapper(
        True,
        augmentations=[T.RandomFlip(prob=1.0)],
        image_format="BGR",
        use_instance_mask=True,
        use_keypoint=True,
        instance_mask_format="bitmask",
        keypoint_hflip_indices=np.array([0, 2, 1]),
    )
    ours, theirs = make_mapper([T.RandomFlip(prob=1.0)])(frame), stock(frame)
    assert torch.equal(ours["image"], theirs["image"])
    assert ours["instances"].get_fields().keys() == theirs["instances"].get_fields().keys()
    for field in ("gt_boxes", "gt_keypoints", "gt_masks"):
        pair = [out["instances"].get(field).tensor for out in (ours, theirs)]
        assert torch.equal(*pair)


def test_wide_grey_images_of_stock_datasets_are_scaled(frame, tmp_path: Path) -> None:
    """Detectron2's mapper would clip them to white. 0x8080 of 16 bits is 0x80 of 8."""
    for key in ("video_id", "frame_index", "tracks", "annotations"):
        del frame[key]
    frame["file_name"] = str(tmp_path / "wide.png")
    cv2.imwrite(frame["file_name"], np.full((30, 40), 0x8080, np.uint16))
    for train in (True, False):
        assert (make_mapper(train=train)(dict(frame))["image"] == 0x80).all()


def test_persons_of_an_image_may_lack_masks_and_joints(frame) -> None:
    """As in a user's COCO file: a person with all, another with a box alone, and a crowd."""
    for key in ("video_id", "frame_index", "tracks"):
        del frame[key]
    (person,) = frame["annotations"]
    del person["segmentation_ref"]
    boxed = {key: value for key, value in person.items() if key != "keypoints"}
    person["segmentation"] = [[10.0, 5.0, 20.0, 5.0, 20.0, 25.0, 10.0, 25.0]]
    frame["annotations"] += [boxed, {**person, "iscrowd": 1}]
    with pytest.raises(ValueError, match="f.png has a person without a mask"):
        make_mapper()(frame)
    persons = make_mapper([T.RandomFlip(prob=1.0)], unmasked="keep")(frame)["instances"]
    assert persons.gt_has_mask.tolist() == [True, False]
    assert persons.gt_masks.tensor.sum(dim=(1, 2)).tolist() == [200, 0]
    assert persons.gt_boxes.tensor.tolist() == [[20, 5, 30, 25]] * 2
    assert persons.gt_keypoints.tensor[1].tolist() == [[0, 0, 0]] * 3
    assert persons.gt_keypoints.tensor[0, 0].tolist() == [25, 6, 2]
    # Without masks, Detectron2's mapper takes both.
    plain = make_mapper(masks=False)(frame)["instances"]
    assert plain.gt_keypoints.tensor[:, 0, 2].tolist() == [2, 0]


def test_outlines_of_a_users_people_do_no_harm_where_no_masks_are_asked_for(frame) -> None:
    """A region that carries no loss has none; Detectron2 wants them of all annotations or none."""
    for key in ("video_id", "frame_index", "tracks"):
        del frame[key]
    (person,) = frame["annotations"]
    del person["segmentation_ref"]
    person["segmentation"] = [[10.0, 5.0, 20.0, 5.0, 20.0, 25.0, 10.0, 25.0]]
    for found in ([person], [person, {**person, "iscrowd": 1}]):
        record = {**frame, "annotations": found}
        people = make_mapper(masks=False, crowds="ignore")(record)["instances"]
        assert len(people) == len(found) and not people.has("gt_masks")


def test_a_frame_without_annotations_is_background(frame) -> None:
    """With DATALOADER.FILTER_EMPTY_ANNOTATIONS False such frames are trained on."""
    persons = make_mapper()({**frame, "annotations": []})["instances"]
    assert len(persons) == 0 and persons.gt_boxes.tensor.shape == (0, 4)


def test_changed_colours_keep_size_and_persons(frame) -> None:
    assert len(changes := color_changes(0.5, "BGR")) == 3
    np.random.seed(0)
    values = {make_mapper(changes)(frame)["image"][1, 10, 14].item() for _ in range(8)}
    assert len(values) > 3 and max(values) <= 255
    assert [kind.intensity_min for kind in color_changes(2.0, "BGR")] == [0, 0, 0]


@pytest.mark.parametrize(("strength", "changes"), [(0.0, 0), (0.5, 3)])
def test_colours_change_in_training_alone(strength: float, changes: int) -> None:
    cfg = get_pose_cfg()
    cfg.INPUT.AUG.COLOR = strength
    plain = FrameMapper.from_config(cfg, is_train=False)["augmentations"]
    without = FrameMapper.from_config(get_pose_cfg(), is_train=True)["augmentations"]
    assert not any(isinstance(one, T.RandomContrast) for one in plain)
    assert len(FrameMapper.from_config(cfg)["augmentations"]) == len(without) + changes


@pytest.mark.parametrize("is_train", [True, False])
def test_a_negative_strength_of_colour_changes_is_refused(is_train: bool) -> None:
    cfg = get_pose_cfg()
    cfg.INPUT.AUG.COLOR = -0.1
    with pytest.raises(ValueError, match=r"INPUT.AUG.COLOR is -0.1: expected 0 or more"):
        FrameMapper.from_config(cfg, is_train)


@pytest.mark.parametrize(("image_format", "red"), [("RGB", 0), ("BGR", 2)])
def test_saturation_weighs_the_channels_by_format(image_format: str, red: int) -> None:
    """Pure red of 200 without saturation is 0.299 * 200 = 59.8; as blue it would be 22.8."""
    image = np.zeros((1, 1, 3), np.uint8)
    image[..., red] = 200
    saturation = color_changes(1.0, image_format)[2]
    saturation.intensity_max = 0  # no saturation at all
    grey = saturation.get_transform(image).apply_image(image)
    assert grey.ravel().tolist() == [59, 59, 59]


def test_frames_of_a_video_file_are_exact(tmp_path: Path, frame) -> None:
    path = str(tmp_path / "v.avi")
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.gop_size = 40, 30, 6
        for i in range(20):
            image = np.full((30, 40, 3), 10 + 12 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    mapper = make_mapper(masks=False)
    for number in (13, 2, 19, 3):
        out = mapper({**frame, "file_name": path, "frame_number": number})
        assert abs(float(out["image"].float().mean()) - (10 + 12 * number)) < 4
    with pytest.raises(ValueError, match="no frame 20"):
        mapper({**frame, "file_name": path, "frame_number": 20})


def test_a_missing_image_is_named(frame) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.png"):
        make_mapper()({**frame, "file_name": "nowhere.png"})


def test_run_lengths_give_the_mask_back_and_are_fresh_dicts(frame) -> None:
    reference = frame["annotations"][0]["segmentation_ref"]
    reader = MaskReader(keep=1)
    first = reader.read(reference)
    decoded = coco_mask.decode(first)
    assert decoded.sum() == 200 and decoded[5:25, 10:20].all()
    first["counts"] = b""
    assert reader.read(reference)["counts"] != b""
    assert encode_mask(np.zeros((3, 3), bool)) is None
    with pytest.raises(FileNotFoundError):
        reader.read({**reference, "mat_file": "nowhere.mat"})


def test_regions_that_carry_no_loss_reach_the_model_as_such(frame) -> None:
    """A crowd; a person of whom a crop leaves 2 of 10 columns; the picture, where not everybody has
    a box. Left out ("drop"), the crowd is background, and the sliver a person."""
    person, crowd = frame["annotations"][0], {**frame["annotations"][0], "iscrowd": 1}
    crowd["bbox"] = [22.0, 0.0, 40.0, 30.0]
    record = {**frame, "annotations": [person, crowd]}
    kept = make_mapper(masks=False, crowds="ignore")(record)["instances"]
    assert kept.gt_classes.tolist() == [0, IGNORED]
    assert kept.gt_boxes.tensor[1].tolist() == [22, 0, 40, 30]
    assert not kept.gt_keypoints.tensor[1].any()
    dropped = make_mapper(masks=False)(record)["instances"]
    assert dropped.gt_classes.tolist() == [0]

    right = [T.CropTransform(18, 0, 22, 30)]
    cut = make_mapper(right, masks=False, crowds="ignore")(record)["instances"]
    assert cut.gt_classes.tolist() == [IGNORED, IGNORED]
    assert make_mapper(right, masks=False)(record)["instances"].gt_classes.tolist() == [0]

    name = "frames_mapper_test_incomplete"
    MetadataCatalog.get(name).boxes_complete = False
    try:
        incomplete = {**frame, "dataset_name": name}
        whole = make_mapper(masks=False, crowds="ignore")(incomplete)["instances"]
        assert whole.gt_boxes.tensor[1].tolist() == [0, 0, 40, 30]
        assert whole.gt_classes.tolist() == [0, IGNORED]
    finally:
        MetadataCatalog.remove(name)
    with pytest.raises(ValueError, match="INPUT.FRAMES.CROWDS 'keep': choose from"):
        make_mapper(crowds="keep")


def test_a_face_that_fills_the_picture_is_a_person(frame) -> None:
    """Of a body of 200 px 16 are left: .13 of one picture, .44 of another."""
    face = [T.CropTransform(0, 0, 14, 9)]  # columns 10 to 14, rows 5 to 9: 16 of 200 px
    small = make_mapper(face, masks=False, crowds="ignore")(frame)["instances"]
    assert small.gt_classes.tolist() == [IGNORED]
    near = [T.CropTransform(8, 3, 6, 6)]  # the same 16 px of 36
    large = make_mapper(near, masks=False, crowds="ignore")(frame)["instances"]
    assert large.gt_classes.tolist() == [0]
    assert large.gt_boxes.tensor.tolist() == [[2, 2, 6, 6]]


@pytest.mark.parametrize(
    ("box", "share"),
    [
        ((0, 0, 10, 10), 1.0),
        ((30, 20, 40, 30), 1.0),
        ((-5, 0, 5, 10), 0.5),
        ((35, 25, 45, 35), 0.25),
        ((-10, 5, 0, 15), 0.0),
        ((3, 3, 3, 9), 0.0),
        ((1, 1, 1.5, 1.25), 1.0),
        ((-0.25, 1, 0.25, 1.5), 0.5),
    ],
)
def test_the_visible_shares_of_a_box(box: tuple[int, ...], share: float) -> None:
    """In a picture of 40 x 30, up to its edges."""
    item = {"bbox": list(box), "bbox_mode": BoxMode.XYXY_ABS}
    own, of_picture = visible_shares(item, T.TransformList([]), (30, 40))
    width, height = box[2] - box[0], box[3] - box[1]
    assert own == pytest.approx(share)
    assert of_picture == pytest.approx(share * width * height / 1200)


def test_strengths_of_colour_changes() -> None:
    """A factor of 1 - amount to 1 + amount, of brightness, contrast and saturation."""
    for amount, bounds in ((0.25, (0.75, 1.25)), (1.0, (0.0, 2.0)), (2.0, (0.0, 3.0))):
        for image_format in ("BGR", "RGB"):
            changes = color_changes(amount, image_format)
            assert [type(one).__name__ for one in changes] == [
                "RandomBrightness",
                "RandomContrast",
                "SaturationBGR" if image_format == "BGR" else "RandomSaturation",
            ]
            assert {(one.intensity_min, one.intensity_max) for one in changes} == {bounds}


def test_joints_and_mirror_pairs_are_the_models(register) -> None:
    first, bare = register([], JOINTS), register([], [])
    MetadataCatalog.get(bare).keypoint_names = []
    cfg = get_pose_cfg()
    cfg.DATASETS.TRAIN = (bare, first)
    cfg.MODEL.POSE.JOINTS = ["left_hand", "head", "right_hand"]
    cfg.MODEL.POSE.FLIP_MAP = [["left_hand", "right_hand"]]
    without = FrameMapper.from_config(cfg)
    assert without["joint_maps"] == {} and without["use_keypoint"] is False
    assert without.get("keypoint_hflip_indices") is None
    cfg.MODEL.KEYPOINT_ON = True
    train, test = (FrameMapper.from_config(cfg, is_train) for is_train in (True, False))
    assert train["use_keypoint"] is test["use_keypoint"] is True
    for found in (train, test):
        assert found["keypoint_hflip_indices"].tolist() == [2, 1, 0]
    assert list(train["joint_maps"]) == [first] and test["joint_maps"] == {}
    assert list(train["joint_maps"][first].target_names) == cfg.MODEL.POSE.JOINTS
    assert (train["unmasked"], train["crowds"]) == ("error", "drop")
    assert cfg.MODEL.KEYPOINT_ON is True, "the configuration is not changed"


def test_what_lies_outside_the_picture_is_nobody(frame) -> None:
    """A person of whose mask nothing is left, beside one without a mask whose box stays."""
    (person,) = frame["annotations"]
    person["bbox"] = [10.0, 5.0, 30.0, 25.0]  # the mask ends at column 20
    boxed = {key: value for key, value in person.items() if key != "segmentation_ref"}
    frame["annotations"] = [person, boxed, {**boxed, "bbox": [0.0, 5.0, 21.0, 9.0]}]
    right = [T.CropTransform(22, 0, 18, 30)]
    persons = make_mapper(right, unmasked="keep")(frame)["instances"]
    assert persons.gt_has_mask.tolist() == [False]
    assert persons.gt_boxes.tensor.tolist() == [[0, 5, 8, 25]]
    assert persons.gt_masks.tensor.shape == (1, 30, 18)
    assert len(make_mapper(right, masks=False)(frame)["instances"]) == 2


def test_masks_of_people_alone_are_asked_for(frame) -> None:
    """Crowds and people who are nearly outside become regions without a mask."""
    (person,) = frame["annotations"]
    crowd = {key: value for key, value in person.items() if key != "segmentation_ref"}
    frame["annotations"] = [person, {**crowd, "iscrowd": 1}]
    persons = make_mapper(crowds="ignore")(frame)["instances"]
    assert persons.gt_classes.tolist() == [0, IGNORED]
    assert persons.gt_has_mask.tolist() == [True, False]
    frame["annotations"] = [crowd]
    with pytest.raises(ValueError) as error:
        make_mapper(crowds="ignore")(frame)
    assert str(error.value) == (
        f"frame 1 of video 'v' ({frame['file_name']}) has a person without a mask: set "
        "INPUT.FRAMES.UNMASKED to 'keep' and MODEL.ROI_MASK_HEAD.NAME to "
        "'PartlyLabelledMaskHead', whose loss leaves such persons out, or MODEL.MASK_ON to False"
    )


@pytest.mark.parametrize(
    ("left", "classes"), [(17, [0]), (18, [IGNORED]), (19, [IGNORED]), (20, []), (25, [])]
)
def test_a_quarter_of_a_person_is_a_label_and_less_is_ignored(
    frame, left: int, classes: list[int]
) -> None:
    """Of the columns 8 to 20: three remain, two, one, none."""
    frame["annotations"][0]["bbox"] = [8.0, 5.0, 20.0, 25.0]
    crop = [T.CropTransform(left, 0, 40 - left, 30)]
    persons = make_mapper(crop, masks=False, crowds="ignore")(frame)["instances"]
    assert persons.gt_classes.tolist() == classes
    frame["annotations"][0]["iscrowd"] = 1
    crowds = make_mapper(crop, masks=False, crowds="ignore")(frame)["instances"]
    assert crowds.gt_classes.tolist() == [IGNORED] * len(classes)


def test_joints_of_ignored_regions_are_as_many_as_the_models(frame) -> None:
    frame["annotations"][0]["iscrowd"] = 1
    mapper = make_mapper(masks=False, crowds="ignore")
    persons = mapper(frame)["instances"]
    assert persons.gt_keypoints.tensor.tolist() == [[[0, 0, 0]] * 3]
    mapper.use_keypoint = False
    assert not mapper(frame)["instances"].has("gt_keypoints")


def test_pictures_that_say_no_size_are_read(frame) -> None:
    """Those that say another one than they have are not."""
    for key in ("video_id", "frame_index", "tracks"):
        del frame[key]
    sizeless = {k: v for k, v in frame.items() if k not in ("height", "width", "annotations")}
    assert make_mapper(crowds="ignore")(sizeless)["image"].shape == (3, 30, 40)
    told = {**frame, "height": 31}
    with pytest.raises((ValueError, d2.SizeMismatchError), match="31"):
        make_mapper(masks=False, crowds="ignore")(told)


def test_the_stock_mapper_is_asked_where_it_does_all(frame, monkeypatch) -> None:
    """Of pictures without a video: in a test; in training, where no mask lacks that is asked for,
    and regions are not kept."""
    for key in ("video_id", "frame_index", "tracks"):
        del frame[key]
    monkeypatch.setattr(DatasetMapper, "__call__", lambda self, record: "stock")
    (person,) = frame["annotations"]
    del person["segmentation_ref"]
    masked = {**person, "segmentation": [[10.0, 5.0, 20.0, 5.0, 20.0, 25.0]]}

    def is_stock(annotations: list | None, **options) -> bool:
        record = {k: v for k, v in frame.items() if k != "annotations"}
        if annotations is not None:
            record["annotations"] = annotations
        return make_mapper(unmasked="keep", **options)(record) == "stock"

    assert is_stock(None) and is_stock([]) and is_stock([masked, masked])
    assert not is_stock([masked, person]) and is_stock([masked, person], masks=False)
    assert is_stock([person], train=False) and is_stock([person], train=False, crowds="ignore")
    assert not is_stock([masked], crowds="ignore")
    assert not is_stock([masked], masks=False, crowds="ignore")


def test_masks_reach_the_end_of_their_file(frame) -> None:
    """Three frames; the second has a mask."""
    reference = frame["annotations"][0]["segmentation_ref"]
    found = [MaskReader().read({**reference, "index": index}) for index in range(4)]
    assert [mask is not None for mask in found] == [False, True, False, False]
