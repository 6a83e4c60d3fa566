"""Draw the people of a frame: skeletons with confidences, identities, heatmaps and masks; and show
such frames in a live window.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

import cv2
import numpy as np

from video_pose.visualization.poses import (
    MIN_DISPLAY_SIDE,
    Connection,
    display_factor,
    draw_pose,
    whole_px,
)

# Colours (b, g, r) of identities, in turn; all light enough for dark letters.
_COLORS = (
    (255, 200, 80), (80, 200, 255), (140, 255, 140), (220, 150, 255), (120, 255, 255),
    (255, 255, 120), (160, 170, 255), (200, 255, 200),
)  # fmt: skip
# A face reaches about so far around its joints, in marks' units, and by the person's longer side.
_HEAD, _HEAD_SHARE = 14, 0.12
_MASK_WEIGHT = 0.45
# Joints of lower scores are not there (cut off, or hidden): of Detectron2's models, whose
# visualizer draws from here on, too; and of scores that are the height of a heatmap's peak. In
# people whom the packaged models found in COCO's pictures (val) 95 % of the right joints score as
# much, 56 % of the wrong ones, and 43 % of those without a label.
LEAST_SCORE, LEAST_PEAK = 0.05, 0.2
_HEAT_WEIGHT = 0.6

Tag: TypeAlias = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels of the drawn picture

# OpenCV's window toolkit ends the process where it finds no display, so another one tries first.
_TRIAL = "import cv2; cv2.namedWindow('trial'); cv2.waitKey(1); cv2.destroyAllWindows()"
_TRIAL_SECONDS = 20
_QUIT_KEYS = (ord("q"), ord("Q"), 27)  # 27: Escape


class PeopleOnFrame(Protocol):
    """What is drawn; see `inference.frames.PoseFrame` for shapes."""

    @property
    def image(self) -> np.ndarray: ...
    @property
    def keypoints(self) -> np.ndarray: ...
    @property
    def boxes(self) -> np.ndarray: ...
    @property
    def track_ids(self) -> np.ndarray: ...
    @property
    def heatmaps(self) -> np.ndarray | None: ...
    @property
    def map_to_image(self) -> np.ndarray | None: ...
    @property
    def masks(self) -> np.ndarray | None: ...


def draw_people(
    frame: PeopleOnFrame,
    connections: Sequence[Connection],
    *,
    heatmaps: bool = False,
    masks: bool = True,
    least_score: float = LEAST_SCORE,
) -> np.ndarray:
    """The frame with everybody on it; small frames are enlarged by a whole factor.

    Every person has a box and a number in the colour of the identity; joints as in `draw_pose`,
    those from ``least_score`` on. Numbers make room for each other and for faces.

    Args:
        heatmaps: the joints' highest heatmap, where the frame has heatmaps.
        masks: tinted silhouettes with outlines, where the frame has masks.

    Returns:
        uint8 BGR, (H, W) times `display_factor`.
    """
    canvas = frame.image.copy()
    if masks and frame.masks is not None:
        for number, mask in zip(frame.track_ids.tolist(), frame.masks):
            color = np.array(_color(number), np.float32) * _MASK_WEIGHT
            canvas[mask] = (canvas[mask] * (1 - _MASK_WEIGHT) + color).astype(np.uint8)
    if heatmaps and frame.heatmaps is not None:
        canvas = _draw_heat(canvas, frame)
    factor = display_factor(canvas.shape[:2])
    if factor > 1:
        canvas = cv2.resize(canvas, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    if masks and frame.masks is not None:
        for number, mask in zip(frame.track_ids.tolist(), frame.masks):
            _draw_outline(canvas, mask, _color(number))
    for number, box in zip(frame.track_ids.tolist(), frame.boxes):
        _draw_box(canvas, box * factor, _color(number))
    for pose in frame.keypoints:
        seen = np.where(pose[:, 2:] >= least_score, pose, np.nan)
        canvas = draw_pose(canvas, seen * (factor, factor, 1), connections)
    taken: list[Tag] = []
    joints = frame.keypoints.reshape(-1, 3)
    joints = joints[np.isfinite(joints).all(axis=1) & (joints[:, 2] > 0), :2] * factor
    for number, box in zip(frame.track_ids.tolist(), frame.boxes):
        _draw_number(canvas, box * factor, number, joints, taken)
    return canvas


def _color(number: int) -> tuple[int, int, int]:
    return _COLORS[number % len(_COLORS)]


def _draw_heat(canvas: np.ndarray, frame: PeopleOnFrame) -> np.ndarray:
    """Red where any joint of anybody is likely."""
    assert frame.heatmaps is not None and frame.map_to_image is not None
    height, width = canvas.shape[:2]
    heat = np.zeros((height, width), np.float32)
    for maps, matrix in zip(frame.heatmaps, frame.map_to_image):
        indexed = matrix.astype(np.float64).copy()
        indexed[:, 2] -= 0.5  # cv2 counts pixels by index
        highest = maps.max(axis=0).clip(0, 1)
        heat = np.maximum(heat, cv2.warpAffine(highest, indexed, (width, height)))
    weight = _HEAT_WEIGHT * heat[..., None]
    return (canvas * (1 - weight) + np.float32([0, 0, 255]) * weight).astype(np.uint8)


def _draw_outline(canvas: np.ndarray, mask: np.ndarray, color: tuple[int, int, int]) -> None:
    large = cv2.resize(mask.astype(np.uint8), canvas.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    width = whole_px(1.5 * max(canvas.shape[:2]) / MIN_DISPLAY_SIDE)
    cv2.drawContours(canvas, contours, -1, color, width, cv2.LINE_AA)


def _draw_box(canvas: np.ndarray, box: np.ndarray, color: tuple[int, int, int]) -> None:
    if np.isfinite(box).all():
        x0, y0, x1, y1 = _corners(box)
        width = whole_px(max(canvas.shape[:2]) / MIN_DISPLAY_SIDE)
        cv2.rectangle(canvas, (x0, y0), (x1, y1), color, width, cv2.LINE_AA)


def _draw_number(
    canvas: np.ndarray, box: np.ndarray, number: int, joints: np.ndarray, taken: list[Tag]
) -> None:
    """A tag at a corner of the box, where it hides least; it is added to those ``taken``."""
    if not np.isfinite(box).all():
        return
    unit = max(canvas.shape[:2]) / MIN_DISPLAY_SIDE
    thickness, text = whole_px(unit), str(number)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * unit, thickness)
    pad = whole_px(2 * unit)
    size = (width + 2 * pad, height + 2 * pad)
    x0, y0, x1, y1 = _corners(box)
    margin = min(_HEAD * unit, _HEAD_SHARE * max(x1 - x0, y1 - y0))
    tag = min(
        _places((x0, y0, x1, y1), size, canvas.shape[:2], taken),
        key=lambda tag: _hidden(tag, joints, margin, taken),
    )
    taken.append(tag)
    x, y = tag[:2]
    cv2.rectangle(canvas, (x, y), tag[2:], _color(number), -1)
    cv2.putText(
        canvas, text, (x + pad, y + height + pad), cv2.FONT_HERSHEY_SIMPLEX, 0.5 * unit,
        (0, 0, 0), thickness, cv2.LINE_AA,
    )  # fmt: skip


def _places(
    box: Tag, size: tuple[int, int], picture: tuple[int, ...], taken: Sequence[Tag]
) -> Iterator[Tag]:
    """Tags inside the picture: outside and inside the box's corners, the usual one first, then to
    the right of other tags."""
    x0, y0, x1, y1 = box
    width, height = size
    corners = [(x, y) for y in (y0 - height, y1, y0, y1 - height) for x in (x0, x1 - width)]
    # Beside a tag that has the usual place.
    corners += [
        (tag[2] + 1, y0 - height)
        for tag in taken
        if tag[0] < x1 and x0 < tag[2] and abs(tag[1] - y0 + height) < height
    ]
    for x, y in corners:
        x = int(np.clip(x, 0, max(0, picture[1] - width)))
        y = int(np.clip(y, 0, max(0, picture[0] - height)))
        yield x, y, x + width, y + height


def _hidden(tag: Tag, joints: np.ndarray, margin: float, taken: Sequence[Tag]) -> int:
    """How much a tag would hide: other tags count more than joints, those near it included."""
    x0, y0, x1, y1 = tag
    inside = (joints > (x0 - margin, y0 - margin)) & (joints < (x1 + margin, y1 + margin))
    others = sum(x0 < t[2] and t[0] < x1 and y0 < t[3] and t[1] < y1 for t in taken)
    return int(inside.all(axis=1).sum()) + 1000 * others


def _corners(box: np.ndarray) -> Tag:
    x0, y0, x1, y1 = (int(v) for v in np.clip(np.rint(box), -(2**15), 2**15))
    return x0, y0, x1, y1


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
