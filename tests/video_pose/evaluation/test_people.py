"""Many people: similarity, assignment, counts and identity by hand; AP against Detectron2's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances

from video_pose.data.datasets.coco_video import register_video_keypoints
from video_pose.data.frames import tracks_to_frames
from video_pose.data.synthetic.dataset import SyntheticOptions, make_dataset
from video_pose.evaluation import people
from video_pose.evaluation.coco import FrameCOCOEvaluator
from video_pose.evaluation.people import JointFacts, LabelledPeople, PredictedPeople

NAMES = ["left_hip", "right_hip"]
# k = 2 sigma = .2.
FACTS = JointFacts(NAMES, np.array([0.1, 0.1]), {"hip": NAMES})
NONE = np.zeros((0, 4))


def pose(x: float, v: float = 2, apart: float = 20) -> list[list[float]]:
    return [[x, 50, v], [x + apart, 50, v]]


def labelled(*places: float, ignored: np.ndarray = NONE) -> LabelledPeople:
    """Persons "0", "1", ... in boxes of 100 px about their left hip."""
    keypoints = np.array([pose(x) for x in places]).reshape(-1, 2, 3)
    boxes = np.array([[x - 50, 0, x + 50, 100] for x in places]).reshape(-1, 4)
    ids = np.array([str(i) for i in range(len(places))])
    return LabelledPeople(ids, keypoints, boxes, np.full(len(places), 100.0 * 100), ignored)


def found(*places: float, ids: list[int] | None = None) -> PredictedPeople:
    keypoints = np.array([pose(x, 0.9) for x in places]).reshape(-1, 2, 3)
    given = None if ids is None else np.array(ids)
    return PredictedPeople(keypoints, np.linspace(0.9, 0.5, len(places)), given)


def test_similarity_is_cocos() -> None:
    truth = np.array([pose(100), [[100, 50, 2], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]])
    predicted = np.array([pose(100), [[100, 50, 1], [140, 50, 1]], [[np.nan] * 3, [120, 50, 1]]])
    values = people.oks_matrix(truth, np.full(3, 1e4), predicted, np.array([0.1, 0.1]))
    # 20 px: exp(-400 / (8 * 10000 * .01)) = exp(-.5).
    far = np.exp(-0.5)
    expected = [[1, (1 + far) / 2, 0.5], [1, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(values, expected)
    # A person without an area is like nobody, also in the very place.
    values = people.oks_matrix(truth[:1], np.zeros(1), predicted[:1], np.array([0.1, 0.1]))
    assert values.tolist() == [[0.0]]
    # A joint of half the area and of a width of its own: exp(-400 / (8 * 5000 * .0025)).
    values = people.oks_matrix(truth[1:2], np.array([5e3]), predicted[:1] + 20, [0.05, 9])
    np.testing.assert_allclose(values, [[np.exp(-800 / 100)]])


def test_hidden_joints_make_a_person_and_half_known_places_no_joint() -> None:
    """Of one joint of two the similarity is .5, which is right at one of COCO's ten thresholds."""
    truth = labelled(100)
    truth.keypoints[..., 2] = 1
    predicted = found(100)
    predicted.keypoints[0, 1, 1] = np.nan
    results = people.score_people({("v", 0): (truth, predicted)}, FACTS)
    assert (results["persons"], results["matched"]) == (1, 1)
    assert results["AP"] == pytest.approx(10) and results["AP75"] == 0
    truth.keypoints[..., 2] = -1  # no label at all
    results = people.score_people({("v", 0): (truth, predicted)}, FACTS)
    assert (results["persons"], results["matched"], results["false"]) == (0, 0, 1)


def test_boxes_about_the_joints_that_were_found() -> None:
    keypoints = np.array([
        [[3, 9, 1], [1, 12, 1], [np.nan, 0, 1]], [[5, 6, 1], [0, np.nan, 1], [7, np.inf, 1]],
        [[np.nan] * 3] * 3,
    ])  # fmt: skip
    assert people.extents(keypoints).tolist() == [[1, 9, 3, 12], [5, 6, 5, 6], [0, 0, 0, 0]]
    assert people.extents(keypoints[:0]).shape == (0, 4)


def test_facts_of_some_joints() -> None:
    """In the skeleton's order; PCK goes by box where the head segment is not complete."""
    facts = JointFacts(
        ["head", "neck", "left_hip", "right_hip"], np.array([0.1, 0.2, 0.3, 0.4]),
        {"head": ["head"], "hip": ["left_hip", "right_hip"]}, "head", ("head", "neck"), 2,
    )  # fmt: skip
    part = facts.restricted(["right_hip", "head"])
    assert list(part.names) == ["head", "right_hip"] and part.sigmas.tolist() == [0.1, 0.4]
    assert part.groups == {"head": ["head"], "hip": ["right_hip"]}
    assert (part.protocol, part.head_segment, part.min_visibility) == ("bbox", None, 2)
    whole = facts.restricted(["neck", "head"])
    assert (whole.protocol, whole.head_segment) == ("head", ("head", "neck"))
    assert whole.groups == {"head": ["head"]}
    with pytest.raises(KeyError, match="tail"):
        facts.restricted(["head", "tail"])
    hips = JointFacts(["left_hip", "right_hip"], np.ones(2)).restricted(["left_hip"])
    assert (hips.protocol, hips.head_segment) == ("bbox", None)


def test_the_assignment_is_of_the_largest_sum_and_only_above_the_least() -> None:
    similarity = np.array([[0.9, 0.8], [0.85, 0.1]])
    assert people.assign(similarity) == [(0, 1), (1, 0)]
    # Above .5 alone: the pair (1, 1) of .1 must not be chosen for company.
    assert people.assign(np.array([[0.9, 0.6], [0.45, 0.1]]), 0.5) == [(0, 0)]
    assert people.assign(np.zeros((2, 0))) == []
    # Who have nothing in common are no pair, and the bound itself is not above it.
    assert people.assign(np.zeros((1, 1))) == [] and people.assign(np.eye(1), 1.0) == []


def test_counts_and_pck() -> None:
    frames = {
        ("v", 0): (labelled(100, 300), found(100, 500)),  # one found, one false, one missed
        ("v", 1): (labelled(100), found(115)),  # 15 px off: OKS exp(-.28) = .75, PCK@0.1 missed
        ("v", 2): (labelled(), found(40)),  # nobody there: false
    }
    results = people.score_people(frames, FACTS)
    assert (results["persons"], results["matched"], results["false"]) == (3, 2, 2)
    # Six joints: two right, two 15 % of the box off, two missed.
    assert results["PCK@0.2"] == pytest.approx(400 / 6)
    assert results["PCK@0.1"] == pytest.approx(200 / 6)
    assert "IDF1" not in results


def test_frames_with_two_skeletons_on_one_person() -> None:
    """Boxes from 50 to 150 and 250 to 350; the second skeleton, at 130 to 150, matches nobody."""
    close = found(100, 130)  # exp(-900 / 800) = .32
    alone = found(130, 120)  # neither at .5: exp(-.5) = .61 of 120 is, so 130 is the second
    frames = {
        ("v", 0): (labelled(100, 300), close),
        ("v", 1): (labelled(100, 300), found(100, 300)),
        ("v", 2): (labelled(100, 300), alone),
        ("v", 3): (labelled(100, 300), found(100, 341)),  # 341 to 361: half of it is in the air
        ("v", 4): (labelled(100, 300), found(135, 138)),  # both on the first, neither matches
        ("v", 5): (labelled(100, 300), found(100, 190)),  # 190 to 210: between them
        # With the pixels of the joints 339.5 to 360.5: just half of it is in the box to 350.
        ("v", 6): (labelled(100, 300), found(300, 340)),
        ("v", 7): (labelled(100, 300), found(300, 340.1)),
    }
    expected = [{0}, set(), {0}, set(), {0}, set(), {1}, set()]
    for (truth, predicted), persons in zip(frames.values(), expected):
        oks = people.oks_matrix(truth.keypoints, truth.areas, predicted.keypoints, FACTS.sigmas)
        assert people.doubled(truth, predicted, people.assign(oks, 0.5)) == persons
    assert people.score_people(frames, FACTS)["doubled"] == 4
    # Of two boxes that it lies in, the one that it fills more.
    truth = labelled(100, 110)
    truth.boxes[0] = [0, 0, 400, 400]
    assert people.doubled(truth, found(100, 110), [(0, 0)]) == set()
    assert people.doubled(truth, found(100, 110), [(1, 0)]) == {1}
    assert people.doubled(labelled(100), found(), []) == set()
    # By what both cover of what either does, 21 / 40 px^2 and 10.5 / 21: a box of twice the
    # skeleton's extent about all of it before one that is half of it.
    truth.boxes[:] = [[99.5, 49.5, 120.5, 49.5 + 40 / 21], [110, 49.5, 120.5, 50.5]]
    assert people.doubled(truth, found(100, 300), [(0, 1)]) == {0}
    assert people.doubled(truth, found(100, 300), [(1, 1)]) == set()
    assert people.doubled(labelled(), close, []) == set()


def test_a_crowd_hides_what_matches_nobody() -> None:
    crowd = np.array([[400.0, 0, 700, 100]])
    frames = {("v", 0): (labelled(100, ignored=crowd), found(100, 500, 900))}
    results = people.score_people(frames, FACTS)
    assert (results["matched"], results["false"]) == (1, 1)
    # Half of the extent (500 to 520) must lie inside.
    edge = np.array([[511.0, 0, 700, 100]])
    frames = {("v", 0): (labelled(100, ignored=edge), found(100, 500))}
    assert people.score_people(frames, FACTS)["false"] == 1
    # With the pixels of the joints 499.5 to 520.5: just half of it from 510 on, of one of two
    # regions. Numbers stay with their persons.
    edge = np.array([[0, 0, 9, 9], [510.0, 0, 700, 100]])
    kept = people.drop_ignored(
        labelled(100, ignored=edge), found(100, 500, 900, ids=[7, 8, 9]), FACTS.sigmas
    )
    assert kept.ids is not None and kept.ids.tolist() == [7, 9]
    assert kept.keypoints[:, 0, 0].tolist() == [100, 900] and kept.scores.tolist() == [0.9, 0.5]
    # A person of whom one of two joints was found is as similar as .5, and matched.
    half = found(500)
    half.keypoints[0, 1] = np.nan
    truth = labelled(500, ignored=crowd)
    assert len(people.drop_ignored(truth, half, FACTS.sigmas).scores) == 1
    assert people.score_people({("v", 0): (truth, half)}, FACTS)["matched"] == 1
    truth.areas[0] = 9e3  # the other person is no more than similar
    far = found(540)
    assert len(people.drop_ignored(truth, far, FACTS.sigmas).scores) == 0
    nobody = people.drop_ignored(truth, found(), FACTS.sigmas)
    assert nobody.keypoints.shape == (0, 2, 3) and len(nobody.scores) == 0
    # A labelled person who stands in the crowd is scored.
    frames = {("v", 0): (labelled(500, ignored=crowd), found(500))}
    assert people.score_people(frames, FACTS)["matched"] == 1


def test_identity_by_hand() -> None:
    # Two people over four frames; the ids change places once, after two frames.
    ids = [[7, 8], [7, 8], [8, 7], [8, 7]]
    frames = {("v", n): (labelled(100, 300), found(100, 300, ids=row)) for n, row in enumerate(ids)}
    results = people.score_people(frames, FACTS)
    # The best pairing of ids is right in four of eight.
    assert results["IDF1"] == pytest.approx(50) and results["switches"] == 2
    assert results["DetA"] == pytest.approx(100) and results["MOTA"] == pytest.approx(75)
    # Each pair of ids shares two of 4 + 4 - 2 frames.
    assert results["AssA"] == pytest.approx(100 / 3)
    assert results["HOTA"] == pytest.approx(100 * np.sqrt(1 / 3))
    held = {("v", n): (labelled(100, 300), found(100, 300, ids=[7, 8])) for n in range(4)}
    results = people.score_people(held, FACTS)
    assert results["IDF1"] == results["HOTA"] == 100 and results["switches"] == 0


def test_ids_are_of_a_video() -> None:
    frames = {(v, 0): (labelled(100), found(100, ids=[i])) for i, v in enumerate("ab")}
    assert people.score_people(frames, FACTS)["switches"] == 0


def test_some_frames_without_ids_are_refused() -> None:
    frames = {("v", n): (labelled(9), found(9, ids=[1])) for n in range(2)}
    frames["v", 2] = (labelled(9), found(9))
    with pytest.raises(ValueError, match="^1 of 3 frames have no track ids$"):
        people.score_people(frames, FACTS)


def test_a_false_person_counts_in_ap_whatever_it_lacks() -> None:
    """In every frame somebody right, and a surer one who is nobody: a precision of a half."""
    for lacking in ([], [1], [0, 1]):
        frames = {}
        for n in range(20):
            predicted = found(500, 100)
            predicted.keypoints[0, lacking] = np.nan
            frames["v", n] = labelled(100), predicted
        results = people.score_people(frames, FACTS)
        assert results["AP"] == pytest.approx(50) and results["false"] == 20


def test_people_of_some_joints() -> None:
    """Who had labels on the others alone is left to neither side; who never had any stays."""
    truth = labelled(100, 300, 500, ignored=np.array([[1.0, 2, 3, 4]]))
    truth.keypoints[1, 0, 2] = truth.keypoints[2, :, 2] = 0
    part = truth.restricted([0])
    assert part.ids is not None and part.ids.tolist() == ["0", "2"] and len(part) == 2
    assert part.keypoints.tolist() == [[[100, 50, 2]], [[500, 50, 0]]]
    assert part.boxes.tolist() == [[50, 0, 150, 100], [450, 0, 550, 100]]
    assert part.areas.tolist() == [1e4, 1e4]
    assert part.ignored.tolist() == [[1, 2, 3, 4], [250, 0, 350, 100]]
    assert truth.restricted([1]).ignored.tolist() == [[1, 2, 3, 4]]
    unnamed = LabelledPeople(None, truth.keypoints, truth.boxes, truth.areas, truth.ignored)
    assert unnamed.restricted([0]).ids is None


def test_a_skeleton_on_a_person_of_other_joints_is_no_false_one(
    register, make_track, joints
) -> None:
    """Of the second person only the head is labelled, which the model lacks."""
    tracks = [
        {**make_track("0", person, 1, left), "file_names": ["0.png"], "image_ids": np.arange(1)}
        for person, left in (("0", 0.0), ("1", 150.0))
    ]
    tracks[1]["keypoints"][:, 1:, 2] = 0
    name = register("people_other", tracks, keypoint_oks_sigmas=[0.05] * 7, box_margin=0.0)
    evaluator = people.PeopleEvaluator(name, joints[1:], distributed=False)
    first = torch.from_numpy(make_track("0", "0", 1)["keypoints"][:, 1:])
    poses = torch.cat([first, first + torch.tensor([150, 0, 0])])
    found = Instances((120, 320), scores=torch.ones(2), pred_keypoints=poses)
    evaluator.process(tracks_to_frames(tracks), [{"instances": found}])
    results = evaluator.evaluate()["people"]
    assert (results["persons"], results["matched"], results["false"]) == (1, 1, 0)


def test_identity_of_labels_that_do_not_tell_it() -> None:
    truth = labelled(100, 300)
    unnamed = LabelledPeople(None, truth.keypoints, truth.boxes, truth.areas, truth.ignored)
    frames = {("v", 0): (unnamed, found(100, 300, ids=[1, 2]))}
    results = people.score_people(frames, FACTS)
    assert results["matched"] == 2 and "IDF1" not in results and "switches" not in results
    frames["v", 1] = truth, found(100, 300, ids=[1, 2])
    assert "IDF1" not in people.score_people(frames, FACTS)


def test_identity_where_nobody_is_labelled_is_no_number() -> None:
    results = people.score_people(
        {("v", 0): (labelled(), found(*range(10), ids=[*range(10)]))}, FACTS
    )
    assert results["false"] == 10 and results["switches"] == 0
    assert all(np.isnan(results[n]) for n in ("IDF1", "HOTA", "DetA", "AssA", "MOTA"))
    assert "IDF1 nan, HOTA nan" in people.format_people("a", results, FACTS)
    # One labelled person in another video is enough.
    both = {
        ("v", 0): (labelled(), found(9, ids=[1])),
        ("w", 0): (labelled(9), found(9, ids=[1])),
    }
    assert people.score_people(both, FACTS)["MOTA"] == 0


def test_identity_without_its_package_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "trackers", None)
    frames = {("v", 0): (labelled(9), found(9, ids=[1]))}
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'video-pose-detectron2\[track\]'"):
        people.identity(frames, FACTS)


def test_nobody_labelled_and_nobody_found() -> None:
    assert np.isnan(people.score_people({("v", 0): (labelled(), found(9))}, FACTS)["AP"])
    results = people.score_people({("v", 0): (labelled(9), found())}, FACTS)
    assert results["AP"] == 0 and results["PCK@0.2"] == 0
    nothing = people.score_people({}, FACTS)
    assert nothing["persons"] == 0 and np.isnan(nothing["AP"]) and "IDF1" not in nothing


def test_who_is_near_a_person_without_joints_is_no_false_one() -> None:
    """COCO's rule: a prediction within the box and its size about it is left out of AP, that whose
    joints lie at the corners of this too; one a little farther out is false."""
    truth = labelled(100, 400)
    truth.keypoints[1] = 0
    truth.boxes[1], truth.areas[1] = [400, 10, 405, 14], 1e-3
    # One of two joints is as similar as .5, and left out at that threshold alone of ten.
    for x, y, right, low, ap in (
        (395, 6, 410, 18, 100), (394, 6, 410, 18, 55), (395, 5, 410, 18, 55),
        (395, 6, 411, 18, 55), (395, 6, 410, 19, 55),
    ):  # fmt: skip
        poses = np.array([[[x, y, 1], [right, low, 1]], pose(100)])
        frames = {("v", 0): (truth, PredictedPeople(poses, np.array([0.9, 0.8])))}
        results = people.score_people(frames, FACTS)
        assert results["AP"] == pytest.approx(ap) and results["persons"] == 1


@pytest.fixture
def dataset(register, make_track) -> str:
    """Two people in a video of three frames, image ids 0 to 2."""
    tracks = [
        {
            **make_track("0", person, 3, left),
            "file_names": [f"{i}.png" for i in range(3)],
            "image_ids": np.arange(3),
        }
        for person, left in (("0", 0.0), ("1", 150.0))
    ]
    return register("people_two", tracks, keypoint_oks_sigmas=[0.05] * 7, thing_classes=["person"])


def _outputs(dataset: str, followed: bool) -> tuple[list, list]:
    """Every labelled pose, some px off; person 1 is lost in the last frame."""
    generator = np.random.default_rng(0)
    inputs, outputs = [], []
    for number, frame in enumerate(tracks_to_frames(DatasetCatalog.get(dataset))):
        annotations = frame["annotations"][: 1 if number == 2 else 2]
        poses = np.array([a["keypoints"] for a in annotations]).reshape(-1, 7, 3)
        poses[..., :2] += generator.normal(0, 4, poses[..., :2].shape)
        poses[..., 2] = 0.5
        instances = Instances(
            (120, 320),
            pred_keypoints=torch.tensor(poses, dtype=torch.float32),
            pred_boxes=Boxes(torch.tensor([a["bbox"] for a in annotations])),
            scores=torch.tensor(generator.uniform(0.5, 0.9, len(poses)), dtype=torch.float32),
            pred_classes=torch.zeros(len(poses), dtype=torch.int64),
        )
        if followed:
            instances.pred_track_ids = torch.arange(len(poses))
        inputs.append(frame)
        outputs.append({"instances": instances})
    return inputs, outputs


def test_ap_is_detectron2s(dataset, joints, tmp_path) -> None:
    inputs, outputs = _outputs(dataset, followed=True)
    ours = people.PeopleEvaluator(dataset, joints, str(tmp_path), distributed=False)
    theirs = FrameCOCOEvaluator(dataset, joints, ["keypoints"], distributed=False)
    for evaluator in (ours, theirs):
        evaluator.reset()
        evaluator.process(inputs, outputs)
    results, other = ours.evaluate()["people"], theirs.evaluate()["keypoints"]
    for width, lowest, highest in ((1e-4, 0, 1), (9.0, 60, 100)):  # of who sets widths
        widths = dict.fromkeys(joints, width)
        ap = []
        for kind, more in ((people.PeopleEvaluator, ()), (FrameCOCOEvaluator, (["keypoints"],))):
            evaluator = kind(dataset, joints, *more, distributed=False, widths=widths)
            evaluator.reset()
            evaluator.process(inputs, outputs)
            ap.append(next(iter(evaluator.evaluate().values()))["AP"])
        assert ap[0] == pytest.approx(ap[1], abs=1e-9) and lowest <= ap[0] <= highest
        assert (ap[0] < results["AP"]) is (width < 1)
    for name in ("AP", "AP50", "AP75"):
        assert 0 < results[name] == pytest.approx(other[name], abs=1e-9)
    assert results["persons"] == 6 and results["matched"] == 5 and results["false"] == 0
    assert results["switches"] == 0 and results["IDF1"] == pytest.approx(100 * 10 / 11)
    figures = ", ".join(
        f"{name} {results[name]:.{0 if name == 'switches' else 1}f}"
        for name in ("AP", "AP50", "AP75", "AR", "PCK@0.2", "PCK@0.1", "PCK@0.05", "IDF1", "HOTA",
                     "DetA", "AssA", "MOTA", "switches")
    )  # fmt: skip
    assert (tmp_path / "people.txt").read_text() == (
        "[people] people_two: 6 labelled persons, 5 matched (OKS of at least 0.5), 0 false; frames "
        f"with two skeletons on one person: 0; joints: {', '.join(joints)}.\n{figures}\n"
    )


def test_frames_that_never_came_and_models_that_follow_nobody(dataset, joints) -> None:
    inputs, outputs = _outputs(dataset, followed=False)
    evaluator = people.PeopleEvaluator(dataset, joints, distributed=False)
    evaluator.process(inputs[:1], outputs[:1])
    results = evaluator.evaluate()["people"]
    assert results["matched"] == 2 and results["persons"] == 6 and "IDF1" not in results
    assert results["false"] == 0
    with pytest.raises(KeyError, match="people_two has no labelled image 99"):
        evaluator.process([{"image_id": 99}], outputs[:1])
    evaluator.reset()
    assert evaluator.evaluate()["people"]["matched"] == 0


def test_folders_are_made_and_only_the_main_process_answers(
    dataset, joints, tmp_path, monkeypatch
) -> None:
    inputs, outputs = _outputs(dataset, followed=False)
    folder = tmp_path / "a" / "b"
    evaluator = people.PeopleEvaluator(dataset, joints, str(folder))
    evaluator.process(inputs[:1], outputs[:1])
    # Another process had the last frame: people stand still.
    at_rank = {0: {2: evaluator._found[0]}}
    monkeypatch.setattr(people.comm, "gather", lambda mine, dst: [mine, at_rank[dst]])
    for _ in range(2):  # the second time the folder is there
        assert evaluator.evaluate()["people"]["matched"] == 4
    (folder / "people.txt").unlink()
    monkeypatch.setattr(people.comm, "is_main_process", lambda: False)
    assert evaluator.evaluate() == {} and not (folder / "people.txt").exists()


def test_a_detection_without_a_track_is_a_person_of_its_frame(dataset, joints) -> None:
    inputs, outputs = _outputs(dataset, followed=True)
    outputs[0]["instances"].pred_track_ids = torch.tensor([-1, 0])
    evaluator = people.PeopleEvaluator(dataset, joints, distributed=False)
    evaluator.process(inputs, outputs)
    assert evaluator._found[0].ids.tolist() == ["0 0", "0"]
    assert evaluator._found[1].ids.tolist() == ["0", "1"]
    nobody = Instances((120, 320))
    nobody.pred_keypoints = torch.zeros((0, 7, 3))
    evaluator.process(inputs[2:], [{"instances": nobody}])
    assert evaluator.evaluate()["people"]["matched"] == 4


def test_a_model_of_some_joints_is_scored_on_those(register, make_track, joints) -> None:
    track = {**make_track("0", "0", 1), "file_names": ["0.png"], "image_ids": np.arange(1)}
    name = register(
        "people_part", [track], keypoint_oks_sigmas=[0.01 * k for k in range(1, 8)],
        pck_min_visibility=2, head_segment=("head", "left_hip"), box_margin=0.5,
    )  # fmt: skip
    facts = people.joint_facts(MetadataCatalog.get(name))
    assert (facts.protocol, facts.head_segment, facts.min_visibility) == (
        "head", ("head", "left_hip"), 2,
    )  # fmt: skip
    bare = Metadata(
        name="bare",
        keypoint_names=("a",),
        keypoint_oks_sigmas=[0.1],
        pck_protocols=["torso", "bbox"],
    )
    facts = people.joint_facts(bare)
    assert (facts.names, facts.groups, facts.protocol) == (["a"], {}, "torso")
    assert (facts.head_segment, facts.min_visibility) == (None, 1)
    given = ["right_wrist", "head"]
    evaluator = people.PeopleEvaluator(name, given, distributed=False)
    found = Instances((120, 320), scores=torch.ones(1))
    found.pred_keypoints = torch.tensor([[[10.0, 50, 0.5], [50, 10, 0.5]]])
    evaluator.process(tracks_to_frames([track]), [{"instances": found}])
    results = evaluator.evaluate()["people"]
    assert results["AP"] == pytest.approx(100) and results["PCK@0.2"] == 100
    # By box, since of the head segment one end is not there.
    assert "PCKh@0.5" not in results


def test_areas_are_the_labels_or_those_of_the_pixels(register, make_track) -> None:
    tracks = [
        {**make_track("0", person, 2, left), "file_names": ["0.png", "1.png"],
         "image_ids": np.array([4, 3])}
        for person, left in (("b", 0.0), ("a", 150.0))
    ]  # fmt: skip
    tracks[1]["areas"] = np.array([0.5, 0])
    truth = people.catalog_truth("made up", tracks, 0.5)
    assert list(truth) == [3, 4]
    key, frame = truth[4]
    assert key == ("0", 4) and frame.ids.tolist() == ["b", "a"]
    assert frame.areas.tolist() == [101 * 101, 0.5] and truth[3][1].areas.tolist() == [101**2] * 2
    assert frame.boxes.tolist() == [[0, 0, 100, 100], [150, 0, 250, 100]]
    assert frame.keypoints[:, 0].tolist() == [[50, 10, 2], [200, 10, 2]]
    assert frame.ignored.shape == (0, 4)


def test_crowds_and_people_with_boxes_alone_are_neither_right_nor_wrong(
    register, make_track, joints
) -> None:
    """Frame 0 has a person, 1 a crowd and somebody with a box alone. Skeletons lie on the person,
    in the crowd, on the box, and elsewhere: only the last one is false."""
    person = {**make_track("0", "0", 2), "file_names": ["0.png", "1.png"]}
    person["image_ids"], person["labelled"] = np.arange(2), np.array([True, False])
    nobody = {**person, "keypoints": np.zeros_like(person["keypoints"])}
    nobody["labelled"], nobody["boxed"] = np.zeros(2, bool), np.array([False, True])
    boxes = {"crowd_0": [0, 0, 100, 100], "box_0": [150, 0, 250, 100]}
    tracks = [person]
    for name, box in boxes.items():
        tracks.append({**nobody, "track_id": name, "boxes": np.array([box] * 2, np.float32)})
    tracks[1]["crowd"] = True
    name = register("people_ignored", tracks, keypoint_oks_sigmas=[0.05] * 7, box_margin=0.5)
    truth = people.catalog_truth(name, tracks, 0.5)
    assert [len(frame.ids) for _, frame in truth.values()] == [1, 0]
    assert truth[0][1].ignored.shape == (0, 4) and truth[1][1].keypoints.shape == (0, 7, 3)
    assert truth[1][1].ignored.tolist() == [[0, 0, 100.5, 100.5], [149.5, 0, 250.5, 100.5]]

    evaluator = people.PeopleEvaluator(name, joints, distributed=False)
    frames = tracks_to_frames(tracks)
    pose = torch.from_numpy(person["keypoints"][:1]).float()
    for frame, lefts in zip(frames, ((0,), (0, 150, 400))):
        found = Instances((120, 600), scores=torch.ones(len(lefts)))
        found.pred_keypoints = torch.cat([pose + torch.tensor([x, 0.0, 0.0]) for x in lefts])
        evaluator.process([frame], [{"instances": found}])
    results = evaluator.evaluate()["people"]
    assert (results["matched"], results["false"]) == (1, 1)


@pytest.mark.parametrize("kind", [LabelledPeople, PredictedPeople, JointFacts])
def test_people_and_facts_stay_as_they_are(kind: type) -> None:
    with pytest.raises(FrozenInstanceError):
        object.__new__(kind).ids = None


@pytest.fixture(scope="module")
def crossing(tmp_path_factory) -> Iterator[str]:
    """Rendered clips in which three people cross, registered with their identities."""
    root = tmp_path_factory.mktemp("crossing")
    options = SyntheticOptions(
        "coco_video", videos=1, test_videos=1, frames=(12, 12), size=(160, 120), people=3
    )
    make_dataset(root, options, workers=1)
    name = "people_crossing"
    register_video_keypoints(name, str(root / "annotations" / "test.json"), str(root))
    yield name
    for registered in (name, f"{name}_frames"):
        DatasetCatalog.remove(registered)
        MetadataCatalog.remove(registered)


@pytest.mark.parametrize(("ids", "switches"), [("held", 0), ("swapped", 2), ("new", 8)])
def test_people_who_cross(crossing, ids, switches) -> None:
    """The true poses with ids that are kept, that two people exchange when they have crossed, or
    that one person gets anew in each of the last frames."""
    names = MetadataCatalog.get(crossing).keypoint_names
    evaluator = people.PeopleEvaluator(crossing, names, distributed=False)
    frames = DatasetCatalog.get(f"{crossing}_frames")
    for number, frame in enumerate(frames):
        tracks = [int(track) for track, _ in frame["tracks"]]
        if ids == "swapped" and number >= 6:
            tracks = [{0: 1, 1: 0}.get(track, track) for track in tracks]
        if ids == "new" and number >= 4:
            tracks = [track if track else 100 + number for track in tracks]
        poses = torch.tensor([a["keypoints"] for a in frame["annotations"]]).view(
            len(tracks), -1, 3
        )
        poses[..., 2] = torch.where(poses[..., 2] > 0, 0.9, 0.0)
        found = Instances(
            (120, 160), pred_keypoints=poses.float(), scores=torch.full((len(tracks),), 0.9),
            pred_track_ids=torch.tensor(tracks),
        )  # fmt: skip
        evaluator.process([frame], [{"instances": found}])
    results = evaluator.evaluate()["people"]
    assert results["switches"] == switches
    assert results["matched"] == results["persons"] > 30
    assert results["AP"] == pytest.approx(100, abs=1e-6)
    assert (results["HOTA"] > 99.9) == (ids == "held")
