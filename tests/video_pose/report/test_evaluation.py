"""The page of an evaluation: its numbers by hand, and in a real browser."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from video_pose.evaluation.calibration import Calibration, fit_calibration
from video_pose.report.evaluation import error_counts, webp, worst_clips, write_evaluation_report

FACTS = {"pck_protocols": ["bbox"], "pck_min_visibility": 1, "head_segment": None}


def _read(stored: dict) -> dict:
    return {**stored, "scored_joints": stored["joint_names"]}


def _save(folder: Path, stored: dict[str, np.ndarray]) -> Path:
    path = folder / "inference" / "d" / "predictions.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, **stored)
    return folder


def test_counts_by_action_joint_and_distance(stored) -> None:
    stored["predictions"][0, 0, 0] += 20  # exactly .2: the cell that ends there
    stored["predictions"][1, 0] = np.nan
    counts = error_counts(_read(stored), 1, ["run", "walk"])
    assert counts.shape == (2, 5, 51) and counts.sum() == 6 * 12 * 5
    assert counts[0, 1, 29] == 36 and counts[0, 1].sum() == 36  # .3 ends the thirtieth cell
    assert counts[1, 0, 19] == 1 and counts[1, 0, 50] == 1 and counts[1, 0, 0] == 34
    fewer = {**stored, "scored_joints": np.array(["left_hip"])}
    assert error_counts(fewer, 1, ["run", "walk"]).shape == (2, 1, 51)


def test_worst_clips_are_of_different_sources(stored) -> None:
    stored["predictions"][40, :, 1] += 50
    clips = worst_clips(_read(stored), FACTS, None)
    assert clips[0]["title"].startswith("run: v3, frames 0 to 11") and len(clips) == 6
    assert len(clips[0]["truth"]) == len(clips[0]["predicted"]) == 12
    x, y, w, h = clips[0]["view"]
    assert x < 0 and y < 0 and x + w > 100 and clips[0]["images"] == []
    assert clips[0]["truth"][0][0] == [50.0, 10.0]


def test_pictures_are_small_data_urls() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    picture = cv2.GaussianBlur(picture, (0, 0), 9)
    url = webp(picture)
    assert url.startswith("data:image/webp;base64,") and len(url) < 20_000


def test_one_run_in_a_browser(stored, tmp_path, browse) -> None:
    stored["actions"][0] = "walk"
    run = _save(tmp_path / "A", stored)
    (run / "config.yaml").write_text("MODEL: {x: '<&>'}")
    (run / "metrics.json").write_text('{"iteration": 1, "total_loss": 2.0}\n{"iteration": 9, "tot')
    page = tmp_path / "report.html"
    pictures = np.zeros((80, 120, 3), np.uint8)
    write_evaluation_report(
        page, [run], command="video-pose report A", read_frame=lambda v, t, f: pictures
    )
    text = page.read_text()
    assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text
    # The first clip's frames change, and its figures with them.
    script = (
        "new Promise(done=>{const clip=document.querySelector('.clip'),seen=new Set();"
        "const timer=setInterval(()=>{seen.add(clip.dataset.frame);if(seen.size>3){"
        "clearInterval(timer);done([document.querySelectorAll('.clip').length,"
        "selected.textContent,document.querySelectorAll('.clip image[href]').length,"
        "clip.querySelectorAll('line').length>0])}},40)})"
    )
    found = browse(page, script)
    assert found["errors"] == []
    # Of 72 x 5 joints the 72 wrists of runs are wrong.
    assert found["value"] == [6, "A: 80.0 % of 360 joints within 0.2 of the box", 12, True]
    assert found["width"] <= 1280


def test_the_filter_filters(stored, tmp_path, browse) -> None:
    page = tmp_path / "report.html"
    write_evaluation_report(page, [_save(tmp_path / "A", stored)])
    choose = (
        "(()=>{action.value='run';action.dispatchEvent(new Event('change'));"
        "joint.value='left_wrist';joint.dispatchEvent(new Event('change'));"
        "const shown=s=>[...document.querySelectorAll(s)].filter(e=>!e.hidden).length;"
        "return [selected.textContent,shown('.clip'),shown('tr[data-section=joint]'),"
        "shown('tr[data-section=action]')]})()"
    )
    found = browse(page, choose)
    assert found["errors"] == []
    assert found["value"] == ["A: 0.0 % of 36 joints within 0.2 of the box", 3, 1, 1]


def test_two_runs_fit_into_wide_and_narrow_windows(stored, tmp_path, browse) -> None:
    """Chromium's own window is at least 500 px wide; one of 390 px is measured as a frame in it."""
    better = {**stored, "predictions": stored["predictions"].copy()}
    better["predictions"][..., :2] = stored["ground_truth"][..., :2]
    runs = [_save(tmp_path / name, s) for name, s in (("A", stored), ("B", better))]
    page = tmp_path / "report.html"
    write_evaluation_report(page, runs)
    script = (
        "new Promise(done=>{const frame=document.createElement('iframe');frame.width=390;"
        "frame.style.border=0;frame.srcdoc=document.documentElement.outerHTML;"
        "const rows=[...document.querySelectorAll('#differences tbody tr')].map(r=>r.textContent);"
        "frame.onload=()=>done([frame.contentDocument.documentElement.scrollWidth,rows]);"
        "document.body.appendChild(frame)})"
    )
    found = browse(page, script)
    assert found["errors"] == [] and found["width"] <= 1280
    narrow, rows = found["value"]
    assert narrow <= 390 and any("+20.0" in row and "B better" in row for row in rows)


def test_calibrated_scores_are_shown(stored, tmp_path) -> None:
    stored = {**stored, "scored_joints": stored["joint_names"]}
    calibration = fit_calibration(stored, 1, "the same")
    run = _save(tmp_path / "A", stored)
    raw, own = tmp_path / "raw.html", tmp_path / "own.html"
    write_evaluation_report(raw, [run])
    write_evaluation_report(own, [run], calibration=calibration)
    assert "error of raw peak heights" in raw.read_text()
    assert "error of calibrated scores: 0.0" in own.read_text()


def test_wrong_runs_are_refused(stored, tmp_path) -> None:
    run = _save(tmp_path / "A", stored)
    with pytest.raises(ValueError, match="of one run or of two, got 3"):
        write_evaluation_report(tmp_path / "r.html", [run] * 3)
    other = {**stored, "dataset_name": np.array("other")}
    with pytest.raises(ValueError, match="no pair"):
        write_evaluation_report(tmp_path / "r.html", [run, _save(tmp_path / "B", other)])


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("", "A: causal"),
        ("TEST: {OVER_TIME: {MODE: causal, LAG: 4}}", "A: causal"),
        ("TEST: {OVER_TIME: {MODE: lag, LAG: 3}}", "A: 3 frames late"),
        ("TEST: {OVER_TIME: {MODE: offline, LAG: 3}}", "A: offline, by the whole track"),
    ],
)
def test_the_page_says_which_frames_poses_went_by(
    stored: dict[str, np.ndarray], tmp_path: Path, config: str, said: str
) -> None:
    """And scores of corrected poses are read by their own curves."""
    folder = tmp_path / "A" / "inference" / "d"
    folder.mkdir(parents=True)
    np.savez(folder / "predictions.npz", **stored)
    (tmp_path / "A" / "config.yaml").write_text(config)
    flat = ((0.0, 1.0), (0.5, 0.5))
    late = ((0.0, 1.0), (0.9, 0.9))
    page = tmp_path / "page.html"
    calibration = Calibration({"": flat}, "made up", {"": late})
    write_evaluation_report(page, [tmp_path / "A"], calibration=calibration)
    text = page.read_text()
    assert said in text
    (tmp_path / "A" / "config.yaml").rename(folder / "config.yaml")  # the evaluation's own
    (tmp_path / "A" / "config.yaml").write_text("TEST: {OVER_TIME: {MODE: lag, LAG: 9}}")
    write_evaluation_report(page, [tmp_path / "A"], calibration=calibration)
    assert page.read_text() == text
    # Of 7 bins all joints are right, of 7 others .6, of the one between .8: the gaps of .5 are
    # .5, .1 and .3, those of .9 are .1, .3 and .1.
    error = ".300" if "causal" in said else ".193"
    assert f"calibration error of calibrated scores: 0{error}" in text
