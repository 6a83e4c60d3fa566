from __future__ import annotations

import cv2
import numpy as np
import pytest

from video_pose.visualization import overlay
from video_pose.visualization.overlay import LiveWindow


def test_without_a_display_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(overlay.sys, "platform", "linux")
    with pytest.raises(ValueError, match="^--show needs a display: neither DISPLAY nor"):
        LiveWindow("video")


def test_a_display_that_is_not_there_does_not_end_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Qt aborts on it: only the trial may die."""
    monkeypatch.setattr(overlay.sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", ":987")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ValueError, match="needs a display: .*(cannot be opened|headless)"):
        LiveWindow("video")


def test_frames_are_shown_until_the_user_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, shown = [-1, ord("q"), -1], []
    monkeypatch.setattr(overlay, "_why_no_window", lambda: "")
    for name in ("namedWindow", "resizeWindow", "destroyWindow"):
        monkeypatch.setattr(cv2, name, lambda *args: None)
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append((title, image.shape)))
    monkeypatch.setattr(cv2, "waitKey", lambda delay: keys.pop(0))
    visible = [1.0, 0.0]
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *args: visible.pop(0))
    with LiveWindow("walk") as live:
        image = np.zeros((4, 6, 3), np.uint8)
        assert live.show(image) is True
        assert live.show(image) is False  # q
        assert live.show(image) is False  # closed
    assert shown[0] == ("walk", (4, 6, 3))
