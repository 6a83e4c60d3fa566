"""The evaluator against a dataset of known poses: boxes of 100 px, torsos of 40 px."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.evaluation import inference_on_dataset, print_csv_format, verify_results
from detectron2.structures import Boxes, Instances

from video_pose.evaluation import pck_evaluator
from video_pose.evaluation.pck_evaluator import ImagePCKEvaluator, PCKEvaluator, PredictedPose
from video_pose.evaluation.predictions import read_predictions, scoring_facts
from video_pose.evaluation.report import score_joints, sections

MakeTrack = Callable[..., dict]
Register = Callable[..., str]


def person(keypoints: np.ndarray, score: float = 1.0) -> Instances:
    """One predicted person of (K, 3)."""
    instances = Instances((120, 320))
    instances.pred_keypoints = torch.as_tensor(np.array(keypoints, np.float32))[None]
    instances.scores = torch.tensor([score])
    return instances


def nobody(joints: int) -> Instances:
    instances = Instances((120, 320))
    instances.pred_keypoints = torch.zeros(0, joints, 3)
    instances.scores = torch.zeros(0)
    return instances


def clip(track: dict, frames: list[int], padding: int = 0) -> dict:
    """The mapper's dict for frames of a track, the last one repeated as padding."""
    indices = frames + [frames[-1]] * padding
    return {
        "video_id": track["video_id"],
        "track_id": track["track_id"],
        "frame_indices": torch.tensor(indices),
        "is_padding": torch.tensor([False] * len(frames) + [True] * padding),
    }


def predict(track: dict, inputs: dict, shift: float = 0.0) -> dict:
    """Labels moved to the right by ``shift`` px."""
    keypoints = track["keypoints"] + np.array([shift, 0, 0], np.float32)
    return {"instances": [person(keypoints[i]) for i in inputs["frame_indices"].tolist()]}


def give(evaluator: PCKEvaluator, track: dict, frames: list[int], shift: float = 0.0) -> None:
    inputs = clip(track, frames)
    evaluator.process([inputs], [predict(track, inputs, shift)])


def test_a_person_without_a_heads_size_is_not_in_mpiis_pckh(
    register: Register, make_track: MakeTrack, joints: list[str], tmp_path: Path
) -> None:
    """Three people; one has no size, of one it is not known: the third counts."""
    tracks = [make_track(name, "0", 1) for name in "abc"]
    tracks[1]["head_sizes"] = np.array([np.nan], np.float32)
    tracks[2]["head_sizes"] = np.array([20], np.float32)
    name = register("pck_heads", tracks)
    evaluator = PCKEvaluator(name, joints, ["mpii_head"], str(tmp_path), distributed=False)
    for track in tracks:
        give(evaluator, track, [0], shift=5)
    figures = evaluator.evaluate()["keypoints_pck_mpii_head"]
    assert figures["PCK@0.5"] == 100 and figures["joints"] == len(joints)
    assert figures["excluded_frames"] == 2
    stored = np.load(tmp_path / "predictions.npz")["head_sizes"]
    np.testing.assert_array_equal(stored, [np.nan, np.nan, 20])
    bare = register("pck_no_heads", tracks[:1])
    with pytest.raises(ValueError, match=r"'mpii_head' needs the people's head_sizes.*'pck_no_hea"):
        PCKEvaluator(bare, joints, ["bbox", "mpii_head"])
    PCKEvaluator(bare, joints, ["bbox"])


def test_known_shifts(register: Register, make_track: MakeTrack, joints: list[str]) -> None:
    near, far = make_track("near", "0", 3), make_track("far", "0", 1, left=100)
    name = register("pck_shift_test", [near, far])
    evaluator = PCKEvaluator(name, joints)
    batch = [clip(near, [0, 1, 2], padding=2), clip(far, [0])]
    evaluator.process(batch, [predict(near, batch[0], 8), predict(far, batch[1], 20)])
    results = evaluator.evaluate()
    assert [*results] == ["keypoints_pck_bbox", "keypoints_pck_torso", "keypoints_motion"]
    # By the box: 8 and 20 are .08 and .2 of 100. By the torso: .2 and .5 of 40.
    box, torso, over_time = results.values()
    assert (box["PCK@0.2"], box["PCK@0.1"], box["PCK@0.05"]) == (100, 75, 0)
    assert (torso["PCK@0.2"], torso["PCK@0.1"]) == (75, 0)
    assert torso["PCK@0.2-left_wrist"] == torso["PCK@0.2-wrist"] == 75
    assert torso["PCK@0.2_groups"] == 75
    assert box["mean_error_px"] == pytest.approx(11) and box["median_error_px"] == 8
    assert (box["frames"], box["missed_frames"]) == (4, 0)
    # All poses are the same: the constant pose is right.
    assert box["baseline_PCK@0.2"] == 100
    # Nobody moves, and both wrists lie 80 px apart.
    assert over_time["swap_rate"] == 0 and over_time["swap_pairs"] == 3 * 4
    assert over_time["acceleration_error_px"] == 0 and np.isnan(over_time["lag_frames"])


def test_swapped_sides_score_low(
    register: Register, make_track: MakeTrack, joints: list[str]
) -> None:
    track = make_track("a", "0", 2)
    name = register("pck_swap_test", [track])
    swapped = [0, 2, 1, 4, 3, 6, 5]
    mirrored = {**track, "keypoints": track["keypoints"][:, swapped]}
    wrong, right = PCKEvaluator(name, joints), PCKEvaluator(name, [joints[i] for i in swapped])
    give(wrong, mirrored, [0, 1])
    box = wrong.evaluate()["keypoints_pck_bbox"]
    # Hips are 20 px apart, a hit at .2 of 100; shoulders 30, wrists 80.
    assert box["PCK@0.2"] == pytest.approx(300 / 7) and box["PCK@0.2-wrist"] == 0
    # The same predictions under names that are swapped as well are right.
    give(right, mirrored, [0, 1])
    assert right.evaluate()["keypoints_pck_bbox"]["PCK@0.05"] == 100


def test_belly_is_derived_for_models_without_it(
    register: Register, make_track: MakeTrack, joints: list[str]
) -> None:
    track = make_track("a", "0", 1)
    # Shoulder mid (50, 30), hip mid (50, 70): y = .35 * 30 + .65 * 70 = 56.
    belly = np.array([[[50, 56, 2]]], np.float32)
    wide = {**track, "keypoints": np.concatenate([track["keypoints"], belly], axis=1)}
    name = register("pck_belly_test", [wide], keypoint_names=[*joints, "belly"])
    for score in (0.9, 0.0, -0.5):  # a linear head's score may be anything
        prediction = track["keypoints"][0].copy()
        prediction[:, 2] = score
        evaluator = PCKEvaluator(name, joints)
        evaluator.process([clip(wide, [0])], [{"instances": [person(prediction)]}])
        box = evaluator.evaluate()["keypoints_pck_bbox"]
        assert box["PCK@0.2-belly"] == box["PCK@0.05"] == 100
        assert box["mean_error_px"] == pytest.approx(0, abs=1e-4)


def test_scores_of_any_size_stay_with_their_joints() -> None:
    """Negative ones too; one that is no number is 0, and a joint that the model lacks is NaN."""
    pose = PredictedPose(["a", "b", "extra"], ["b", "c", "a"], {})
    assert pose.scored == ["b", "a"]
    given = person([[1, 2, -0.5], [3, 4, np.nan], [0, 0, 7]])
    expected = np.array([[3, 4, 0], [np.nan] * 3, [1, 2, -0.5]], np.float32)
    found = pose.best(given)
    assert found is not None and found.dtype == np.float32
    np.testing.assert_allclose(found, expected)
    assert pose.best(Instances((9, 9))) is None and pose.best(given[[]]) is None
    # Arrays, and tensors of formats that NumPy does not know.
    arrays = Instances((9, 9), pred_keypoints=given.pred_keypoints.numpy(), scores=np.ones(1))
    np.testing.assert_allclose(pose.best(arrays), expected)
    given.pred_keypoints = given.pred_keypoints.bfloat16()
    np.testing.assert_allclose(pose.best(given), expected)


def test_a_model_with_fewer_joints_is_scored_on_those_it_has(
    register: Register, make_track: MakeTrack, joints: list[str], tmp_path: Path
) -> None:
    track = make_track("a", "0", 2)
    name = register("pck_fewer_test", [track])
    # No head, no hips, but the torso that needs them is the truth's; a joint of its own besides.
    rows = [joints.index(n) for n in ("right_wrist", "left_shoulder", "left_wrist")]
    own = [*(joints[i] for i in rows), "tail"]
    prediction = np.concatenate([track["keypoints"][0][rows], [[0, 0, 1]]])
    prediction[0, 0] += 10  # .25 of the torso, .1 of the box
    evaluator = PCKEvaluator(name, own, output_dir=str(tmp_path))
    batch = [{"instances": [person(prediction), person(prediction)]}]
    evaluator.process([clip(track, [0, 1])], batch)
    box, torso, over_time = evaluator.evaluate().values()
    assert box["joints"] == torso["joints"] == 6 and box["uncounted_joints"] == 0
    assert box["PCK@0.1"] == 100 and torso["PCK@0.2"] == pytest.approx(200 / 3)
    assert torso["PCK@0.2-wrist"] == 50 and torso["PCK@0.2-shoulder"] == 100
    assert not [key for key in torso if "hip" in key or "head" in key]
    # The wrists alone are a pair that the model has; no joint is missed for want of it.
    assert over_time["swap_pairs"] == 2 and np.isnan(over_time["miss_run_frames"])
    text = (tmp_path / "pck.txt").read_text()
    assert "3 joints (not scored: head, right_shoulder, left_hip, right_hip)" in text
    stored = read_predictions(tmp_path / "predictions.npz")
    assert stored["scored_joints"].tolist() == ["left_shoulder", "left_wrist", "right_wrist"]
    scored = score_joints(stored, "torso", 1)
    assert scored.counted.sum() == 6 and scored.hits.sum() == 4
    assert list(sections(scored)["joint"]) == scored.scored
    with pytest.raises(ValueError, match="none of the joints"):
        PCKEvaluator(name, ["tail"])


def test_nobody_is_a_miss_and_the_best_of_several_counts(
    register: Register, make_track: MakeTrack, joints: list[str]
) -> None:
    track = make_track("a", "0", 3)
    name = register("pck_nobody_test", [track])
    right, wrong = (person(track["keypoints"][0] + [s, 0, 0], 1 - s / 100) for s in (0, 50))
    evaluator = PCKEvaluator(name, joints)
    instances = [nobody(7), Instances((120, 320)), Instances.cat([wrong, right])]
    evaluator.process([clip(track, [0, 1, 2])], [{"instances": instances}])
    box = evaluator.evaluate()["keypoints_pck_bbox"]
    assert box["PCK@0.2"] == pytest.approx(100 / 3)
    assert box["missed_frames"] == 2 and box["never_predicted_frames"] == 0
    # Without scores, the first person.
    for first, second, hits in ((right, wrong, 100), (wrong, right, 0)):
        evaluator.reset()
        found = Instances.cat([first, second])
        found.remove("scores")
        evaluator.process([clip(track, [0, 1, 2])], [{"instances": [found] * 3}])
        assert evaluator.evaluate()["keypoints_pck_bbox"]["PCK@0.2"] == hits


def test_frames_twice_never_or_unknown(
    register: Register, make_track: MakeTrack, joints: list[str]
) -> None:
    track, other = make_track("a", "0", 4), make_track("b", "0", 2)
    name = register("pck_frames_test", [track, other])
    evaluator = PCKEvaluator(name, joints)
    give(evaluator, track, [0, 1])
    with pytest.raises(ValueError, match="frame 1 was predicted twice"):
        give(evaluator, track, [1])
    with pytest.raises(KeyError, match="no track '7' of video 'a'"):
        evaluator.process(
            [{**clip(track, [2]), "track_id": "7"}], [predict(track, clip(track, [2]))]
        )
    for frame in (4, 9):
        with pytest.raises(IndexError, match=f"frame {frame} of a track of 4"):
            evaluator.process([clip(track, [frame])], [{"instances": [nobody(7)]}])
    with pytest.raises(ValueError, match=r"^\('a', '0'\): 1 predictions for 2 frames$"):
        evaluator.process([clip(track, [2, 3])], [{"instances": [nobody(7)]}])
    message = f"pred_keypoints (1, 6, 3), expected (P, 7, 3) for the joints {joints}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        evaluator.process([clip(track, [2])], [{"instances": [person(np.zeros((6, 3)))]}])
    boxes = Instances((120, 320), scores=torch.ones(2))
    with pytest.raises(KeyError, match=r"predictions have \['scores'\], no pred_keypoints"):
        evaluator.process([clip(track, [2])], [{"instances": [boxes]}])
    with pytest.raises(ValueError, match=r"1 of 2 tracks.*'b'"):
        evaluator.evaluate()
    give(evaluator, other, [0, 1])
    box = evaluator.evaluate()["keypoints_pck_bbox"]
    assert box["PCK@0.2"] == pytest.approx(400 / 6) and box["never_predicted_frames"] == 2
    evaluator.reset()
    give(evaluator, track, [0, 1, 2, 3])
    give(evaluator, other, [0, 1])
    assert evaluator.evaluate()["keypoints_pck_bbox"]["PCK@0.2"] == 100


def test_unlabelled_frames_are_context_only(
    register: Register, make_track: MakeTrack, joints: list[str]
) -> None:
    track = make_track("a", "0", 3)
    track["labelled"][1] = False
    track["keypoints"][1] = 0
    evaluator = PCKEvaluator(register("pck_context_test", [track]), joints)
    give(evaluator, track, [0, 1])
    give(evaluator, track, [1, 2])  # frame 1 warms up another frame: no error
    box = evaluator.evaluate()["keypoints_pck_bbox"]
    assert box["frames"] == 2 and box["PCK@0.2"] == 100
    # Within one clip, too, and padding may come first.
    evaluator.reset()
    inputs = clip(track, [2, 0, 1, 2]) | {"is_padding": [True, False, False, False]}
    evaluator.process([inputs], [predict(track, inputs)])
    box = evaluator.evaluate()["keypoints_pck_bbox"]
    assert box["PCK@0.2"] == 100 and box["never_predicted_frames"] == 0


def test_persons_of_a_frame_are_keyed_by_track(
    register: Register, make_track: MakeTrack, joints: list[str]
) -> None:
    left, right = make_track("a", "0", 2), make_track("a", "1", 2, left=150)
    evaluator = PCKEvaluator(register("pck_tracks_test", [left, right]), joints)
    give(evaluator, left, [0, 1])
    give(evaluator, {**left, "track_id": "1"}, [0, 1])  # the right one gets the left one's pose
    box = evaluator.evaluate()["keypoints_pck_bbox"]
    assert box["PCK@0.2"] == 50 and box["frames"] == 4


def test_order_does_not_matter_and_nothing_is_changed(
    register: Register, make_track: MakeTrack, joints: list[str]
) -> None:
    tracks = [make_track(f"v{i}", "0", 5) for i in range(3)]
    name = register("pck_order_test", tracks)
    before = copy.deepcopy(tracks)
    generator = np.random.default_rng(0)
    pairs = []
    for track in tracks:
        for frame in range(5):
            inputs = clip(track, [frame])
            pairs.append((inputs, predict(track, inputs, generator.uniform(0, 40))))
    kept = [pair[1]["instances"][0].pred_keypoints.clone() for pair in pairs]
    evaluator = PCKEvaluator(name, joints)
    results = []
    for order in (range(15), generator.permutation(15)):
        evaluator.reset()
        for index in order:
            evaluator.process([pairs[index][0]], [pairs[index][1]])
        results.append(evaluator.evaluate())
    np.testing.assert_equal(results[0], results[1])
    assert 0 < results[0]["keypoints_pck_bbox"]["PCK@0.2"] < 100
    assert all(torch.equal(p[1]["instances"][0].pred_keypoints, k) for p, k in zip(pairs, kept))
    for track, old in zip(tracks, before):
        np.testing.assert_array_equal(track["keypoints"], old["keypoints"])


def test_two_ranks_give_what_one_gives(
    register: Register,
    make_track: MakeTrack,
    joints: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracks = [make_track(f"v{i}", "0", 4) for i in range(2)]
    name = register("pck_ranks_test", tracks)
    one, zero, other = (PCKEvaluator(name, joints) for _ in range(3))
    for track, shift, rank in zip(tracks, (5, 30), (zero, other)):
        for evaluator in (one, rank):
            give(evaluator, track, [0, 1, 2, 3], shift)
    expected = one.evaluate()
    assert expected["keypoints_pck_bbox"]["PCK@0.2"] == 50
    shares: list[object] = []
    monkeypatch.setattr(pck_evaluator.comm, "gather", lambda data, dst: shares.append(data) or [])
    monkeypatch.setattr(pck_evaluator.comm, "is_main_process", lambda: False)
    assert other.evaluate() == {}
    at_rank = {0: shares}
    monkeypatch.setattr(pck_evaluator.comm, "gather", lambda data, dst: [data, *at_rank[dst]])
    monkeypatch.setattr(pck_evaluator.comm, "is_main_process", lambda: True)
    np.testing.assert_equal(zero.evaluate(), expected)
    # A video that a sampler gave to both ranks.
    give(zero, tracks[1], [0])
    with pytest.raises(ValueError, match="two ranks"):
        zero.evaluate()


def test_nothing_labelled_is_nan_and_said(
    register: Register,
    make_track: MakeTrack,
    joints: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    track = make_track("a", "0", 2)
    track["keypoints"][..., 2] = 0
    evaluator = PCKEvaluator(register("pck_empty_test", [track]), joints)
    give(evaluator, track, [0, 1])
    with caplog.at_level(logging.WARNING):
        assert np.isnan(evaluator.evaluate()["keypoints_pck_bbox"]["PCK@0.2"])
    assert "no joint was counted" in caplog.text


def test_what_happens_over_time_needs_two_frames_of_a_person(
    register: Register, make_track: MakeTrack, joints: list[str], caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:  # fmt: skip
    """And the report is the same on the screen and in the file, however often it is asked for."""
    still, short = make_track("still", "0", 1), make_track("short", "0", 2)
    for names, tasks in (((still,), ["bbox", "torso"]), ((still, short), ["bbox", "torso", None])):
        folder = tmp_path / str(len(names)) / "out"
        evaluator = PCKEvaluator(
            register(f"pck_over_time_{len(names)}", list(names)), joints, output_dir=str(folder),
            save_predictions=len(names) > 1,
        )  # fmt: skip
        for track in names:
            give(evaluator, track, list(range(len(track["labelled"]))), 5)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            results = evaluator.evaluate()
        assert list(results) == [f"keypoints_pck_{t}" if t else "keypoints_motion" for t in tasks]
        text = (folder / "pck.txt").read_text()
        assert caplog.messages == [f"PCK on pck_over_time_{len(names)}\n{text[:-1]}"]
        assert ("\n\nOver time" in text) == (len(names) > 1) and text.endswith("|\n") == (
            len(names) > 1
        )
        assert (folder / "predictions.npz").exists() == (len(names) > 1)
        np.testing.assert_equal(evaluator.evaluate(), results)


def test_a_file_says_how_its_dataset_is_scored(
    register: Register, make_track: MakeTrack, joints: list[str], tmp_path: Path
) -> None:
    """By the dataset's protocols, else by those that were asked for."""
    segment = ("head", "left_shoulder")
    for own, told in ((["torso", "bbox"], ["torso", "bbox"]), (None, ["pixels"])):
        track = make_track("a", "0", 1)
        name = register(
            f"pck_scored_{own is None}", [track], head_segment=segment, pck_min_visibility=2,
            pck_protocols=own,
        )  # fmt: skip
        evaluator = PCKEvaluator(name, joints, ["pixels"], str(tmp_path / name))
        give(evaluator, track, [0])
        assert list(evaluator.evaluate()) == ["keypoints_pck_pixels"]
        assert scoring_facts(read_predictions(tmp_path / name / "predictions.npz")) == {
            "pck_protocols": told, "pck_min_visibility": 2, "head_segment": segment,
        }  # fmt: skip


def test_people_of_an_image_get_the_poses_that_overlap_them(
    register: Register, make_track: MakeTrack, joints: list[str]
) -> None:
    """Images of other numbers have nobody to score; one in which nobody was found is missed."""
    left, right = make_track("4", "0", 1), make_track("4", "1", 1, left=150)
    other = make_track("5", "0", 1)
    name = register("pck_images_test", [left, right, other])
    evaluator = ImagePCKEvaluator(PCKEvaluator(name, joints, distributed=False), name)
    evaluator.reset()
    found = Instances.cat([person(track["keypoints"][0], 0.5) for track in (right, left)])
    found.pred_boxes = Boxes(torch.tensor([[150.0, 0, 250, 100], [0, 0, 100, 90]]))
    empty = found[[]]
    evaluator.process(
        [{"image_id": 4}, {"image_id": 9}, {"image_id": 5}],
        [{"instances": found}, {"instances": found}, {"instances": empty}],
    )
    box = evaluator.evaluate()["keypoints_pck_bbox"]
    assert (box["PCK@0.05"], box["missed_frames"], box["frames"]) == (
        pytest.approx(200 / 3), 1, 3,
    )  # fmt: skip


def test_protocols_are_checked_before_inference(
    register: Register, make_track: MakeTrack, joints: list[str]
) -> None:
    name = register("pck_protocols_test", [make_track("a", "0", 1)])
    with pytest.raises(ValueError, match="torso_diagonal"):
        PCKEvaluator(name, joints, protocols=["box"])
    with pytest.raises(ValueError, match="head segment"):
        PCKEvaluator(name, joints, protocols=["head"])


def test_with_detectron2s_functions_and_files(
    register: Register,
    make_track: MakeTrack,
    joints: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    track = {**make_track("café!", "0", 3), "source_video": "film", "action": "run"}
    evaluator = PCKEvaluator(
        register("pck_detectron_test", [track]), joints, output_dir=str(tmp_path / "out")
    )

    class Model(torch.nn.Module):
        def forward(self, inputs: list[dict]) -> list[dict]:
            return [predict(track, one, 10) for one in inputs]

    results = inference_on_dataset(Model(), [[clip(track, [0, 1])], [clip(track, [2])]], evaluator)
    with caplog.at_level(logging.INFO, logger="detectron2"):
        print_csv_format(results)
    printed = str([r.message for r in caplog.records if r.name.endswith("testing")])
    assert "PCK@0.2,PCK@0.2_low" in printed and "wrist" not in printed
    cfg = get_cfg()
    cfg.TEST.EXPECTED_RESULTS = [["keypoints_pck_bbox", "PCK@0.2-wrist", 100.0, 0.1]]
    assert verify_results(cfg, results)
    cfg.TEST.EXPECTED_RESULTS = [["keypoints_pck_torso", "PCK@0.2", 100.0, 0.1]]
    with pytest.raises(SystemExit):
        verify_results(cfg, results)
    stored = read_predictions(tmp_path / "out" / "predictions.npz")
    assert (set(stored["video_ids"]), [*stored["frame_indices"]]) == ({"café!"}, [0, 1, 2])
    assert (set(stored["source_videos"]), set(stored["actions"])) == ({"film"}, {"run"})
    np.testing.assert_array_equal(stored["ground_truth"], track["keypoints"])
    np.testing.assert_allclose(stored["predictions"][..., 0], track["keypoints"][..., 0] + 10)
    report = (tmp_path / "out/pck.txt").read_text("utf-8")
    words = ("longer side", "PCK@0.2 mean pose", "pck_detectron_test", "of 1 videos (1 source")
    assert all(word in report for word in words)


def test_a_few_of_many_are_named(
    register: Register, make_track: MakeTrack, joints: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Three tracks of those that there are, ten of those that were never predicted."""
    tracks = [make_track(f"v{i:02d}", "0", 1) for i in range(12)]
    name = register("pck_many_test", tracks)
    evaluator = PCKEvaluator(name, joints, distributed=False)
    stranger = {**clip(tracks[0], [0]), "video_id": "w"}
    with pytest.raises(KeyError) as error:
        evaluator.process([stranger], [predict(tracks[0], clip(tracks[0], [0]))])
    known = [(f"v{i:02d}", "0") for i in range(3)]
    assert error.value.args[0].endswith(f"it has 12 tracks, such as {known}")
    give(evaluator, tracks[0], [0])
    with pytest.raises(ValueError) as wrong:
        evaluator.evaluate()
    first = [(f"v{i:02d}", "0") for i in range(1, 11)]
    assert f"predicted of 11 of 12 tracks (video, track): {first};" in str(wrong.value)
    with pytest.raises(ValueError, match="1 inputs but 2 outputs"):
        evaluator.process([clip(tracks[0], [0])], [{"instances": []}] * 2)
    with pytest.raises(IndexError, match="frame -1 of a track of 1"):
        evaluator.process([clip(tracks[0], [-1])], [{"instances": [nobody(7)]}])
    caplog.clear()
    PCKEvaluator(name, joints[1:], distributed=False)
    assert f"{name}: scored on the joints {joints[1:]}; the model has no ['head']" in caplog.text


def test_a_run_in_which_nothing_is_counted_is_said(
    register: Register, make_track: MakeTrack, joints: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    track = make_track("a", "0", 2)
    track["boxes"][:] = 0
    evaluator = PCKEvaluator(register("pck_none_test", [track]), joints, ["bbox"])
    give(evaluator, track, [0, 1])
    results = evaluator.evaluate()["keypoints_pck_bbox"]
    assert np.isnan(results["PCK@0.2"]) and results["excluded_frames"] == 2
    assert "no joint was counted (2 labelled frames, 2 of them without a reference" in caplog.text
