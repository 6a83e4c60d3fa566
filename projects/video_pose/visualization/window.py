"""A live window of drawn frames."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np

# OpenCV's window toolkit ends the process where it finds no display, so another one tries first.
_TRIAL = "import cv2; cv2.namedWindow('trial'); cv2.waitKey(1); cv2.destroyAllWindows()"
_TRIAL_SECONDS = 20
_QUIT_KEYS = (ord("q"), ord("Q"), 27)  # 27: Escape


class LiveWindow:
    """Shows frames as they are made, until the user presses q or Escape or closes the window."""

    def __init__(self, title: str) -> None:
        """Raises ValueError where no window can be opened, with what to do."""
        reason = _why_no_window()
        if reason:
            raise ValueError(f"--show needs a display: {reason}; leave it out, or use --output")
        self._title = title
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        self._size: tuple[int, int] | None = None

    def show(self, image: np.ndarray) -> bool:
        """Show ``image``, uint8 (H, W, 3) BGR. Returns False when the user wants to stop."""
        if self._size is None:
            self._size = (image.shape[1], image.shape[0])
            cv2.resizeWindow(self._title, *self._size)
        cv2.imshow(self._title, image)
        if cv2.waitKey(1) & 0xFF in _QUIT_KEYS:
            return False
        return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> None:
        cv2.destroyWindow(self._title)

    def __enter__(self) -> LiveWindow:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _why_no_window() -> str:
    """Why no window can be opened; "" where one can."""
    on_linux = sys.platform.startswith("linux")
    if on_linux and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "neither DISPLAY nor WAYLAND_DISPLAY is set"
    try:
        trial = subprocess.run(
            [sys.executable, "-c", _TRIAL], capture_output=True, timeout=_TRIAL_SECONDS, text=True
        )
    except subprocess.TimeoutExpired:
        return "the display does not answer"
    if trial.returncode == 0:
        return ""
    words = " ".join(trial.stderr.split())
    if "not implemented" in words:
        return "this OpenCV has no windows (the headless distribution)"
    return "it cannot be opened"
