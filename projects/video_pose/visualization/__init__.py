"""Draw poses on frames, sheets of pictures and overlay videos. Images are uint8 BGR (H, W, 3)."""

from video_pose.video_io.writing import write_video
from video_pose.visualization.poses import (
    connection_indices,
    contact_sheet,
    display_factor,
    draw_pose,
    label_confidence,
    side_by_side,
    write_overlay_video,
)

__all__ = [
    "connection_indices",
    "contact_sheet",
    "display_factor",
    "draw_pose",
    "label_confidence",
    "side_by_side",
    "write_overlay_video",
    "write_video",
]
