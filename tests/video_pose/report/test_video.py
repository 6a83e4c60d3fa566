"""The page of a video's poses: people, gaps and cuts by hand, and in a real browser."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from video_pose.report.video import collect, score_strip, timeline, write_video_report

NAMES = ["head", "left_wrist", "right_wrist"]


@dataclass(frozen=True)
class Frame:
    video: str
    index: int
    joint_names: list[str]
    keypoints: np.ndarray
    scores: np.ndarray
    track_ids: np.ndarray


def video() -> list[Frame]:
    """Twenty frames: person 1 always, person 7 in frames 5 to 8 and 12 to 15; a joint is lost."""
    frames = []
    for n in range(20):
        ids = [1, 7] if n in (5, 6, 7, 8, 12, 13, 14, 15) else [1]
        poses = np.array([[[10 + 2 * n, 20, 0.9], [40, 60, 0.8], [5, 60, 0.5]]] * len(ids))
        poses[:, 2] = np.nan if n == 3 else poses[:, 2]
        scores = np.full(len(ids), 0.75)
        frames.append(Frame("clip", n, NAMES, poses, scores, np.array(ids)))
    return frames


def test_people_and_their_gaps() -> None:
    names, people, numbers = collect(video())
    assert names == NAMES and [p.number for p in people] == [1, 7] and len(numbers) == 20
    assert people[1].spans() == [(5, 8), (12, 15)] and people[0].spans() == [(0, 19)]
    drawn = timeline(people, 0, 19, [10])
    assert drawn.count("<rect") == 3 and drawn.count('class="cut"') == 1
    strip = score_strip(people[0], names)
    assert strip.count("<rect") == 20 * 3 and 'opacity="0.06"' in strip


def test_what_is_no_video_is_refused(tmp_path) -> None:
    frames = video()
    other = Frame("other", 20, NAMES, frames[0].keypoints, frames[0].scores, frames[0].track_ids)
    with pytest.raises(ValueError, match=r"videos \['clip', 'other'\]"):
        collect([*frames, other])
    with pytest.raises(ValueError, match="no frame to report on"):
        collect([])
    with pytest.raises(ValueError, match="fps 0"):
        write_video_report(tmp_path / "r.html", frames, "clip", fps=0)


def test_in_a_browser(tmp_path, browse) -> None:
    page, table, overlay = tmp_path / "clip.html", tmp_path / "clip.csv", tmp_path / "clip.mp4"
    table.write_text("x")
    overlay.write_bytes(b"no video")
    write_video_report(
        page, video(), "clip <1>", fps=10, tables=[table], cuts=[10], overlay=overlay,
        notes={"mode": "causal"}, command="video-pose predict",
    )  # fmt: skip
    script = (
        "(()=>{person.value='1';person.dispatchEvent(new Event('change'));"
        "const d=document.querySelector('#position .line').getAttribute('d');"
        "return [document.querySelectorAll('#people tbody tr').length,"
        "(d.match(/M/g)||[]).length,[...document.querySelectorAll('.strip')].map(s=>s.hidden),"
        "document.querySelector('ul a').getAttribute('href')]})()"
    )
    found = browse(page, script)
    assert found["errors"] == [] and found["width"] <= 1280
    # Two people; the second one's path has two parts; its strip alone is shown.
    assert found["value"] == [2, 2, [True, False], "clip.csv"]
    text = page.read_text()
    assert "mode: causal." in text and "data:video/mp4;base64," in text


def test_nobody_and_a_large_overlay(tmp_path, monkeypatch) -> None:
    nobody = np.zeros((0, 3, 3)), np.zeros(0), np.zeros(0, int)
    empty = [Frame("clip", n, NAMES, *nobody) for n in (0, 1)]
    overlay = tmp_path / "big.mp4"
    overlay.write_bytes(b"123")
    monkeypatch.setattr("video_pose.report.video.EMBEDDED_BYTES", 2)
    page = tmp_path / "page.html"
    write_video_report(page, empty, "clip", fps=25, overlay=overlay)
    assert 'src="big.mp4"' in page.read_text() and "Nobody was found" in page.read_text()


def boxes_alone() -> list[Frame]:
    """Five frames of two people of a model of boxes."""
    people = np.zeros((2, 0, 3)), np.array([0.5, 0.75]), np.array([1, 4])
    return [Frame("clip", n, [], *people) for n in range(5)]


def test_people_without_joints_in_a_browser(tmp_path, browse) -> None:
    page = tmp_path / "page.html"
    write_video_report(page, boxes_alone(), "clip", fps=10)
    found = browse(page, "document.querySelectorAll('#people tbody tr').length")
    assert found["errors"] == [] and found["value"] == 2


def test_people_without_joints(tmp_path) -> None:
    """When they are there, and no charts of joints."""
    frames, page = boxes_alone(), tmp_path / "page.html"
    write_video_report(page, frames, "clip", fps=10)
    text = page.read_text()
    assert "5 frames, 0.5 s" in text and "2 people" in text and "<td>0.75</td>" in text
    assert 'id="position"' not in text and "Joint scores" not in text


@pytest.mark.parametrize(
    ("folder", "link"),
    [
        ("", "take%20%231%20100%25%3A%20%C3%A9.csv"),
        ("a#", "a%23/take%20%231%20100%25%3A%20%C3%A9.csv"),
    ],
)
def test_links_to_names_of_all_kinds(tmp_path, folder: str, link: str) -> None:
    """A # would begin a part of the page, a % a code, a colon end the name of a protocol."""
    (tmp_path / folder).mkdir(exist_ok=True)
    table = tmp_path / folder / "take #1 100%: é.csv"
    table.touch()
    page = tmp_path / "page.html"
    write_video_report(page, video(), "clip", fps=25, tables=[table])
    assert f'<a href="{link}">take #1 100%: é.csv</a>' in page.read_text(encoding="utf-8")
