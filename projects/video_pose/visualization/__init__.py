"""Draw poses on frames, sheets of pictures and overlay videos. Images are uint8 BGR (H, W, 3)."""

from video_pose.visualization.overlay_video import side_by_side, write_overlay_video, write_video
from video_pose.visualization.pictures import contact_sheet
from video_pose.visualization.poses import (
    connection_indices,
    display_factor,
    draw_pose,
    label_confidence,
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
