"""COCO's and PCK's evaluators on the same predictions, of frames and of clips."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluators
from detectron2.structures import Boxes, Instances

from video_pose.data.frames import tracks_to_frames
from video_pose.evaluation.coco import FrameCOCOEvaluator, copy_for_coco, write_coco_json
from video_pose.evaluation.pck_evaluator import FramePCKEvaluator, PCKEvaluator, assign_by_overlap
from video_pose.evaluation.people import PeopleEvaluator


@pytest.fixture
def dataset(register, make_track) -> str:
    """Two videos of one person and one of two, three frames each; image ids 10 v + frame."""

    def track(video: int, person: str, left: float = 0.0) -> dict:
        return {
            **make_track(str(video), person, 3, left),
            "file_names": [f"{video}_{i}.png" for i in range(3)],
            "image_ids": np.arange(3) + 10 * video,
        }

    tracks = [track(0, "0"), track(1, "0"), track(2, "0"), track(2, "1", left=150)]
    return register(
        "frames_adapter", tracks, keypoint_oks_sigmas=[0.05] * 7, thing_classes=["person"]
    )


def person(keypoints, box, score=0.9) -> Instances:
    return Instances(
        (120, 320),
        pred_keypoints=torch.as_tensor(np.array(keypoints), dtype=torch.float32)[None],
        pred_boxes=Boxes(torch.tensor([box], dtype=torch.float32)),
        scores=torch.tensor([score]),
        pred_classes=torch.zeros(1, dtype=torch.int64),
    )


def predict(dataset: str, seed: int = 0, found=lambda frame: True) -> tuple[list, list]:
    """Frames and what a detector says of them: every labelled pose, moved by up to some px."""
    generator = np.random.default_rng(seed)
    inputs, outputs = [], []
    for frame in tracks_to_frames(DatasetCatalog.get(dataset)):
        people = []
        for annotation in frame["annotations"]:
            keypoints = np.array(annotation["keypoints"]).reshape(-1, 3)
            keypoints[:, :2] += generator.normal(0, 4, (7, 2))
            keypoints[:, 2] = 0.5
            score = 0.5 + 0.4 * generator.random()
            people.append(person(keypoints, annotation["bbox"], score))
        if not found(frame):
            people = []
        inputs.append(frame)
        empty = person(np.zeros((7, 3)), [0, 0, 1, 1])[[]]
        outputs.append({"instances": Instances.cat(people) if people else empty})
    return inputs, outputs


def coco_of(dataset, joints, tasks=("bbox", "keypoints"), output_dir=None):
    return FrameCOCOEvaluator(dataset, joints, tasks, output_dir, distributed=False)


def pck_of(dataset, joints, rule="overlap"):
    inner = PCKEvaluator(dataset, joints, distributed=False)
    return FramePCKEvaluator(inner, dataset, rule)


def run(evaluators, inputs, outputs) -> dict:
    both = DatasetEvaluators(evaluators)
    both.reset()
    for frame, output in zip(inputs, outputs):
        both.process([frame], [output])
    return both.evaluate()


def test_the_order_of_the_evaluators_changes_no_figure(dataset, joints) -> None:
    """Detectron2's conversion moves keypoints by half a pixel in place: whoever comes second would
    score others."""
    inputs, outputs = predict(dataset)
    before = outputs[0]["instances"].pred_keypoints.clone()
    first = run([coco_of(dataset, joints), pck_of(dataset, joints)], inputs, outputs)
    second = run([pck_of(dataset, joints), coco_of(dataset, joints)], inputs, outputs)
    pck = {"keypoints_pck_bbox", "keypoints_pck_torso", "keypoints_motion"}
    assert set(first) == {"bbox", "keypoints"} | pck
    for task in first:
        np.testing.assert_equal(first[task], second[task])
    assert torch.equal(outputs[0]["instances"].pred_keypoints, before)
    assert 0 < first["keypoints"]["AP"] < 100
    assert first["bbox"]["AP"] == pytest.approx(100)


def test_exact_predictions_score_100_and_half_a_pixel_does_not(dataset, joints) -> None:
    """Any wrong half pixel between truth and prediction would cost similarity at tiny widths."""
    MetadataCatalog.get(dataset).keypoint_oks_sigmas[:] = [0.001] * 7
    inputs, outputs = predict(dataset)
    for frame, output in zip(inputs, outputs):
        truth = [np.array(a["keypoints"]).reshape(-1, 3) for a in frame["annotations"]]
        output["instances"].pred_keypoints[..., :2] = torch.tensor(np.stack(truth)[..., :2])
    assert run([coco_of(dataset, joints)], inputs, outputs)["keypoints"]["AP"] == pytest.approx(100)
    for output in outputs:
        output["instances"].pred_keypoints[..., 0] += 0.5
    assert run([coco_of(dataset, joints)], inputs, outputs)["keypoints"]["AP"] < 10


def test_clips_and_frames_of_the_same_predictions_agree(dataset, joints) -> None:
    inputs, outputs = predict(dataset)
    by_frame = run([coco_of(dataset, joints), pck_of(dataset, joints)], inputs, outputs)
    clips: dict[tuple[str, str], list] = {}
    for frame, output in zip(inputs, outputs):
        for row, (track, index) in enumerate(frame["tracks"]):
            clips.setdefault((frame["video_id"], track), []).append(
                (index, output["instances"][row])
            )
    clip_inputs, clip_outputs = [], []
    for (video, track), found in clips.items():
        padded = [*found, found[-1]]  # padding repeats the last frame
        clip_inputs.append(
            {
                "video_id": video,
                "track_id": track,
                "frame_indices": torch.tensor([index for index, _ in padded]),
                "is_padding": torch.tensor([False] * len(found) + [True]),
            }
        )
        clip_outputs.append({"instances": [instances for _, instances in padded]})
    evaluators = [coco_of(dataset, joints), PCKEvaluator(dataset, joints, distributed=False)]
    by_clip = run(evaluators, clip_inputs, clip_outputs)
    assert set(by_clip) == set(by_frame)
    for task in by_clip:
        np.testing.assert_equal(by_clip[task], by_frame[task])


def test_frames_without_detection_are_counted_misses(dataset, joints) -> None:
    """Of 12 persons in 9 frames, those of the three frames 0 are not found: 4 persons."""
    inputs, outputs = predict(dataset, found=lambda frame: frame["frame_index"] != 0)
    for rule in ("overlap", "score"):
        metrics = run([pck_of(dataset, joints, rule)], inputs, outputs)["keypoints_pck_bbox"]
        assert (metrics["frames"], metrics["missed_frames"]) == (12, 4)
        assert metrics["never_predicted_frames"] == 0
        assert metrics["PCK@0.2"] <= 100 * 8 / 12 + 1e-9


def test_the_surest_or_the_overlapping_person(dataset, joints) -> None:
    """A bystander with a higher score: "score" takes his pose, "overlap" the labelled person's."""
    inputs, outputs = predict(dataset)
    bystander = person(np.full((7, 3), 300.0), [290, 0, 310, 20], score=0.99)
    for output in outputs:
        output["instances"] = Instances.cat([output["instances"], bystander])
    by_score = run([pck_of(dataset, joints, "score")], inputs, outputs)
    by_overlap = run([pck_of(dataset, joints, "overlap")], inputs, outputs)
    assert by_score["keypoints_pck_bbox"]["PCK@0.2"] == 0
    assert by_overlap["keypoints_pck_bbox"]["PCK@0.2"] > 95
    with pytest.raises(ValueError, match="TEST.PCK.PERSON 'best'"):
        pck_of(dataset, joints, "best")


def test_each_detection_serves_one_person() -> None:
    predicted = torch.tensor([[0.0, 0, 10, 10], [100, 0, 110, 10], [0, 0, 9, 10]])
    truth = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]])
    # The first takes the exact box; the second the one left that overlaps; the third has none.
    assert assign_by_overlap(predicted, truth) == [0, 2, None]
    assert assign_by_overlap(predicted[:1], truth[:2]) == [0, None]
    # The best pair first, whoever stands first; boxes that touch do not overlap; few are enough.
    assert assign_by_overlap(predicted[:1], truth[[1, 0]]) == [None, 0]
    assert assign_by_overlap(predicted[1:2], np.array([[90, 0, 100, 10]])) == [None]
    assert assign_by_overlap(predicted[1:2], np.array([[90, 0, 100.5, 10]])) == [0]
    assert assign_by_overlap(predicted, truth[[1]]) == [0]
    assert assign_by_overlap(predicted[:0], truth[:2]) == [None, None]
    assert assign_by_overlap(predicted, truth[:0]) == []


def test_joints_are_matched_by_name(dataset, joints) -> None:
    inputs, outputs = predict(dataset)
    straight = run([coco_of(dataset, joints)], inputs, outputs)
    order = [3, 0, 6, 1, 5, 2, 4]
    for output in outputs:
        instances = output["instances"]
        instances.pred_keypoints = instances.pred_keypoints[:, order]
    mixed = run([coco_of(dataset, [joints[i] for i in order])], inputs, outputs)
    for task in straight:
        np.testing.assert_equal(mixed[task], straight[task])
    assert straight["keypoints"]["AP"] > 0


def test_a_model_with_fewer_joints_is_scored_on_those_it_has(dataset, joints, caplog) -> None:
    inputs, outputs = predict(dataset)
    wrist = joints.index("left_wrist")
    for output in outputs:  # a wrist that is wrong, of a model that has one
        output["instances"].pred_keypoints[:, wrist, 0] += 500
    whole = run([coco_of(dataset, joints)], inputs, outputs)["keypoints"]["AP"]
    rows = [i for i in range(7) if i != wrist]
    for output in outputs:
        output["instances"].pred_keypoints = output["instances"].pred_keypoints[:, rows]
    fewer = run([coco_of(dataset, [joints[i] for i in rows])], inputs, outputs)["keypoints"]["AP"]
    assert fewer > whole + 5
    assert [record.getMessage() for record in caplog.records if dataset in record.getMessage()] == [
        f"{dataset}: AP of keypoints is that of the joints {[joints[i] for i in rows]}; the model "
        "has no ['left_wrist']"
    ]
    with pytest.raises(ValueError, match="none of the joints"):
        coco_of(dataset, ["tail"])


def test_nothing_is_pinned_or_cached(dataset, joints, tmp_path: Path) -> None:
    names = set(MetadataCatalog.list()) | set(DatasetCatalog.list())
    coco_of(dataset, joints, output_dir=str(tmp_path))
    assert not hasattr(MetadataCatalog.get(dataset), "json_file")
    assert set(MetadataCatalog.list()) | set(DatasetCatalog.list()) == names
    assert not list(tmp_path.glob("*coco_format*"))


def test_foreign_images_and_tasks_are_refused(dataset, joints) -> None:
    evaluator = coco_of(dataset, joints)
    evaluator.reset()
    (frame, *_), (output, *_) = predict(dataset)
    with pytest.raises(KeyError, match="frames_adapter has no image 99 with labels"):
        evaluator.process([{**frame, "image_id": 99}], [output])
    message = "evaluation tasks ['boxes', 'x']: choose from ('bbox', 'segm', 'keypoints')"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        coco_of(dataset, joints, ["x", "bbox", "boxes"])


def test_pictures_of_nobody_and_of_people_with_boxes_alone_are_scored(
    register, make_track, joints
) -> None:
    def still(number: int, **facts) -> dict:
        names = {"file_names": [f"{number}.png"], "image_ids": np.array([number])}
        return {**make_track(f"still_{number}", "0", 1), **names, **facts}

    bare = {"keypoints": np.zeros((1, 7, 3), np.float32), "labelled": np.zeros(1, bool)}
    tracks = [
        still(1), still(2, **bare, boxed=np.ones(1, bool)),
        still(3, **bare, boxes=np.zeros((1, 4), np.float32), nobody=True),
    ]  # fmt: skip
    facts = {"keypoint_oks_sigmas": [0.05] * 7, "thing_classes": ["person"]}
    name = register("nobody_there", tracks, **facts)
    frames = tracks_to_frames(DatasetCatalog.get(name))
    right = person(make_track("v", "0", 1)["keypoints"][0], [0.0, 0, 100, 100], 0.5)
    false = person(make_track("v", "0", 1)["keypoints"][0], [0.0, 0, 100, 100], 0.9)
    empty = right[[]]
    for last, box_ap, ap in ((empty, 100, 100), (false, 66.9, 50.5)):
        given = [{"instances": found} for found in (right, right, last)]
        results = run([coco_of(name, joints)], frames, given)
        assert results["bbox"]["AP"] == pytest.approx(box_ap, abs=0.3)
        assert results["keypoints"]["AP"] == pytest.approx(ap, abs=0.6)
        people = run([PeopleEvaluator(name, joints, distributed=False)], frames, given)["people"]
        assert (people["matched"], people["false"]) == (1, len(last))


def test_frames_of_a_clip_that_nobody_labelled_are_skipped(register, make_track, joints) -> None:
    """And so is padding, of which a clip need not tell."""
    track = {
        **make_track("v", "0", 3), "file_names": [f"{i}.png" for i in range(3)],
        "image_ids": np.arange(3), "labelled": np.array([True, False, True]),
    }  # fmt: skip
    name = register("skips", [track], keypoint_oks_sigmas=[0.05] * 7, thing_classes=["person"])
    right = person(track["keypoints"][0], [0.0, 0, 100, 100], 0.5)
    wrong = person(track["keypoints"][0], [200.0, 0, 300, 100], 0.9)
    clip = {"video_id": "v", "track_id": "0", "frame_indices": np.arange(3)}
    for padding, found in (
        ({}, [right, wrong, right]),
        ({"is_padding": [False, False, False, True]}, [right, wrong, right, wrong]),
    ):
        given = {**clip, **padding, "frame_indices": [0, 1, 2, 0][: len(found)]}
        results = run([coco_of(name, joints, ["bbox"])], [given], [{"instances": found}])
        assert set(results) == {"bbox"} and results["bbox"]["AP"] == pytest.approx(100)
    results = run([coco_of(name, joints, ["bbox"])], [clip], [{"instances": [right, right, wrong]}])
    assert results["bbox"]["AP50"] == pytest.approx(25, abs=1)


def test_a_file_of_results_names_the_users_category(
    register, make_track, joints, tmp_path: Path
) -> None:
    track = {**make_track("v", "0", 1), "file_names": ["a.png"], "image_ids": np.array([4])}
    facts = {"keypoint_oks_sigmas": [0.05] * 7, "thing_classes": ["person"]}
    own = register("own_ids", [track], thing_dataset_id_to_contiguous_id={7: 0}, **facts)
    found = person(track["keypoints"][0], [0.0, 0, 100, 100])
    for name, category in ((own, 7), (register("no_ids", [track], **facts), 0)):
        # Two at once: each has a truth of its own.
        pair = [coco_of(name, joints, output_dir=str(tmp_path / f"{name}{i}")) for i in range(2)]
        for evaluator in pair:
            evaluator.reset()
            evaluator.process([{"image_id": 4}], [{"instances": found}])
            assert evaluator.evaluate()["keypoints"]["AP"] == pytest.approx(100)
        rows = json.loads((tmp_path / f"{name}1" / "coco_instances_results.json").read_text())
        assert [row["category_id"] for row in rows] == [category]


def test_masks_are_left_out_where_there_are_none(dataset, joints) -> None:
    inputs, outputs = predict(dataset)
    for output in outputs:
        count = len(output["instances"])
        output["instances"].pred_masks = torch.zeros(count, 120, 320, dtype=torch.bool)
    results = run([coco_of(dataset, joints, ("bbox", "segm", "keypoints"))], inputs, outputs)
    assert set(results) == {"bbox", "keypoints"}


def test_the_annotation_file(make_track, tmp_path: Path) -> None:
    masks = np.zeros((120, 320, 1), np.uint8)
    masks[10:20, 30:50] = 1
    scipy.io.savemat(tmp_path / "m.mat", {"part_mask": masks})
    track = {
        **make_track("v", "0", 2),
        "file_names": ["a.png", "b.png"],
        "image_ids": np.array([4, 5]),
        "masks": {"mat_file": str(tmp_path / "m.mat"), "field": "part_mask"},
    }
    track["keypoints"][0, 0] = 0
    path = tmp_path / "sub" / "truth.json"
    write_coco_json(path, tracks_to_frames([track]), ["person"], ["a"] * 7)
    content = json.loads(path.read_text())
    first, second = content["annotations"]
    assert [image["file_name"] for image in content["images"]] == ["a.png", "b.png"]
    # Box 0 to 100, clipped at 0: 100.5 px. The mask's area, 10 x 20, where there is a mask.
    assert first["bbox"] == [0, 0, 100.5, 100.5] and first["area"] == 200
    assert second["area"] == 100.5**2 and "segmentation" not in second
    assert first["keypoints"][:6] == [0, 0, 0, 64.5, 29.5, 2] and first["num_keypoints"] == 6
    assert (first["image_id"], second["id"]) == (4, 2)


def test_similarity_is_measured_by_the_labels_area(register, make_track, joints) -> None:
    """All joints 8 px off, widths .05: exp(-64 / (2 area (2 x .05)^2)) is .73 by the box's area,
    101^2 px, which passes the thresholds .5 to .7, and .41 by the labels' 3,600 px^2: none."""
    found = {}
    for area in (None, 3600.0):
        track = {
            **make_track("v", "0", 1),
            "file_names": ["a.png"],
            "image_ids": np.array([4]),
            **({} if area is None else {"areas": np.array([area], np.float32)}),
        }
        name = f"area_{area}"
        register(name, [track], keypoint_oks_sigmas=[0.05] * 7, thing_classes=["person"])
        (frame,) = tracks_to_frames([track])
        (annotation,) = frame["annotations"]
        keypoints = np.array(annotation["keypoints"]).reshape(-1, 3) + [8, 0, 0]
        outputs = [{"instances": person(keypoints, annotation["bbox"])}]
        evaluators = [coco_of(name, joints), PeopleEvaluator(name, joints, distributed=False)]
        results = run(evaluators, [frame], outputs)
        found[area] = [results["keypoints"]["AP"], results["people"]["AP"]]
    assert found == {None: pytest.approx([50, 50]), 3600.0: [0, 0]}


def test_results_have_the_category_ids_of_the_users_file(make_track, tmp_path: Path) -> None:
    """Class 0 is category 7 of the user's file."""
    track = {**make_track("v", "0", 1), "file_names": ["a.png"], "image_ids": np.array([4])}
    path = tmp_path / "truth.json"
    write_coco_json(path, tracks_to_frames([track]), ["person"], ["a"] * 7, {7: 0})
    content = json.loads(path.read_text())
    assert [category["id"] for category in content["categories"]] == [7]
    assert [annotation["category_id"] for annotation in content["annotations"]] == [7]


def test_nobody_found_has_the_fields_of_nobody(joints) -> None:
    for found in (Instances((9, 9)), Instances((9, 9), pred_boxes=Boxes(torch.zeros(0, 4)))):
        copied = copy_for_coco(found, ["bbox", "keypoints"], None)
        assert copied.image_size == (9, 9) and copied.pred_boxes.tensor.shape == (0, 4)
        assert copied.scores.tolist() == [] and copied.pred_classes.dtype == torch.int64


def test_what_is_copied_for_coco_is_apart_from_the_model() -> None:
    found = Instances(
        (9, 9), pred_boxes=Boxes(torch.ones(1, 4)), scores=torch.ones(1),
        pred_classes=torch.ones(1, dtype=torch.int64), pred_keypoints=torch.zeros(1, 2, 3),
        pred_masks=torch.ones(1, 9, 9, dtype=torch.bool),
    )  # fmt: skip
    copied = copy_for_coco(found, ["bbox", "segm", "keypoints"], None)
    for name in ("scores", "pred_classes", "pred_keypoints", "pred_masks"):
        getattr(copied, name).zero_()
    copied.pred_boxes.tensor.zero_()
    assert found.scores.item() == 1 and found.pred_boxes.tensor.min() == 1
    assert found.pred_classes.item() == 1 and found.pred_masks.all()
    boxes = copy_for_coco(found, ["bbox"], None)
    assert not boxes.has("pred_keypoints") and not boxes.has("pred_masks")
    again = copy_for_coco(found, ["keypoints"], None).pred_keypoints
    assert again[..., 2].tolist() == [[1, 1]] and found.pred_keypoints.max() == 0
    for name in ("pred_keypoints", "pred_masks"):
        found.remove(name)
    fewer = copy_for_coco(found, ["bbox", "segm", "keypoints"], None)
    assert sorted(fewer.get_fields()) == ["pred_boxes", "pred_classes", "scores"]


def test_annotations_by_hand(tmp_path: Path) -> None:
    """Ids of the dataset's own file, areas as labelled or of the box, joints as pixel indices."""
    person = {
        "bbox": [1.0, 2.0, 5.0, 12.0], "category_id": 0, "iscrowd": 0,
        "keypoints": [3.5, 4.5, 2, 9.0, 9.0, 0],
    }  # fmt: skip
    frame = {"file_name": "a.png", "image_id": 7, "height": 20, "width": 30}
    frames = [
        {**frame, "annotations": [person, {**person, "area": 11.0, "category_id": 1}]},
        {**frame, "image_id": 8, "video_file": "v.mp4", "frame_number": 3, "annotations": []},
    ]
    write_coco_json(
        tmp_path / "x" / "y" / "a.json", frames, ["person", "dog"], ["a", "b"], {4: 0, 9: 1}
    )
    content = json.loads((tmp_path / "x" / "y" / "a.json").read_text())
    assert content["images"] == [
        {"id": 7, "file_name": "a.png", "height": 20, "width": 30},
        {"id": 8, "file_name": "v.mp4#3", "height": 20, "width": 30},
    ]
    one, two = content["annotations"]
    assert (one["id"], one["image_id"], one["category_id"], one["area"]) == (1, 7, 4, 40)
    assert (two["id"], two["category_id"], two["area"]) == (2, 9, 11)
    assert one["bbox"] == [1, 2, 4, 10] and one["keypoints"] == [3, 4, 2, 0, 0, 0]
    assert one["num_keypoints"] == 1 and one["iscrowd"] == 0
    assert content["categories"] == [
        {"id": 4, "name": "person", "keypoints": ["a", "b"]},
        {"id": 9, "name": "dog", "keypoints": ["a", "b"]},
    ]
    write_coco_json(tmp_path / "b.json", frames, ["person", "dog"], ["a", "b"])
    content = json.loads((tmp_path / "b.json").read_text())
    assert [a["category_id"] for a in content["annotations"]] == [0, 1]
    assert [c["id"] for c in content["categories"]] == [0, 1]
