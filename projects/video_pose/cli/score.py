"""Score stored poses against annotated videos: AP, PCK, and who is who.

  score --poses out/*.jsonl --annotations test.json
  score --poses clip.csv --annotations 000342_mpii_test.json --output scores.json

--poses takes whatever predict writes and convert reads. The annotations are COCO-style with
video_id, frame_index (or frame_id) and track_id, or PoseTrack18's; no picture is read. How frames
are matched is said where there is a choice; without track ids there are no figures of identity.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two files, and where the figures go."""
    add = parser.add_argument
    add("--poses", required=True, nargs="+", metavar="FILE", help="stored poses, one or several")
    add("--format", default="", metavar="NAME", help="of the poses, where the name does not tell")
    add("--annotations", required=True, metavar="FILE", help="JSON")
    add("--output", metavar="FILE", help="also write the figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the figures; returns 0."""
    from video_pose.evaluation.score import score_poses
    from video_pose.files import write_json
    from video_pose.inference.writers import read_poses

    frames = []
    for path in args.poses:
        frames += read_poses(path, args.format)
    results, text = score_poses(frames, args.annotations)
    print(text)
    if args.output:
        write_json(args.output, results, indent=1)
    return 0
