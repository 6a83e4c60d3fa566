"""A browser without a screen, and predictions to report on."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

NAMES = ["head", "left_wrist", "right_wrist", "left_hip", "right_hip"]


@pytest.fixture(scope="session")
def browse(tmp_path_factory) -> Callable[..., dict]:
    """browse(page, script, width) -> what the script (an expression of a promise) gives, with
    ``errors``, what went wrong on the page, and ``width``, how wide its content is.

    The page is opened from disk by a real browser; the script runs when it has loaded.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium: apt-get install chromium")

    def run(page: Path, script: str = "null", width: int = 1280) -> dict:
        probe = tmp_path_factory.mktemp("browser") / page.name
        text = page.read_text(encoding="utf-8")
        catch = (
            "<script>window.problems=[];onerror=(m)=>{problems.push(String(m))};"
            "console.error=(...m)=>{problems.push(m.join(' '))};</script>"
        )
        report = (
            "<script>setTimeout(async()=>{let value;try{value=await (" + script + ")}"
            "catch(e){problems.push(String(e))}"
            "const out=document.createElement('pre');out.id='probe';"
            "out.textContent=JSON.stringify({value:value,errors:problems,"
            "width:document.documentElement.scrollWidth});"
            "document.body.appendChild(out)},300)</script></body>"
        )
        text = text.replace("<head>", "<head>" + catch, 1).replace("</body>", report, 1)
        probe.write_text(text, encoding="utf-8")
        command = [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000",
            f"--window-size={width},900", "--dump-dom", probe.as_uri(),
        ]  # fmt: skip
        dom = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
        start = dom.index('<pre id="probe">') + len('<pre id="probe">')
        content = dom[start : dom.index("</pre>", start)]
        for mark, escaped in (("<", "&lt;"), (">", "&gt;"), ("&", "&amp;")):
            content = content.replace(escaped, mark)
        return json.loads(content)

    return run


@pytest.fixture
def stored() -> dict[str, np.ndarray]:
    """Six videos of twelve frames, three a walk and three a run; the wrists of runs are 30 px (of a
    box of 100) off, and score low."""
    videos, frames = 6, 12
    rows = videos * frames
    number = np.repeat(np.arange(videos), frames)
    truth = np.zeros((rows, len(NAMES), 3), np.float32)
    truth[..., :2] = [[50, 10], [80, 50], [20, 50], [60, 70], [40, 70]]
    truth[..., 0] += np.tile(np.arange(frames), videos)[:, None]
    truth[..., 2] = 2
    predictions = truth.copy()
    predictions[..., 2] = 0.9
    runs = number >= 3
    predictions[np.ix_(runs, [1, 2])] += [0, 30, -0.6]
    return {
        "predictions": predictions, "ground_truth": truth,
        "boxes": np.tile(np.array([0, 0, 100, 80], np.float32), (rows, 1)),
        "video_ids": np.array([f"v{n}" for n in number]), "track_ids": np.full(rows, "0"),
        "source_videos": np.array([f"film {n}" for n in number]),
        "actions": np.where(runs, "run", "walk"),
        "frame_indices": np.tile(np.arange(frames), videos).astype(np.int64),
        "joint_names": np.array(NAMES), "dataset_name": np.array("someone's <own>"),
        "pck_protocols": np.array(["bbox"]), "pck_min_visibility": np.array(1),
        "head_segment": np.array([], str),
    }  # fmt: skip
