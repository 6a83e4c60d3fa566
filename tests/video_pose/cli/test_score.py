"""A table of predictions is scored from the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from video_pose.cli.main import main
from video_pose.inference.writers.tables import HEAD


def test_a_table_against_annotations(tmp_path: Path, capsys) -> None:
    names = ["left_wrist", "right_wrist"]
    points = [[20, 30], [60, 30]]
    flat = [v for x, y in points for v in (x, y, 2)]
    images = [
        {"id": n, "video_file": "walk.mp4", "video_id": 1, "frame_index": n} for n in range(3)
    ]
    annotations = [
        {"id": n, "image_id": n, "track_id": 4, "keypoints": flat, "bbox": [0, 0, 100, 100]}
        for n in range(3)
    ]
    truth = {"images": images, "annotations": annotations, "categories": [{"keypoints": names}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with (tmp_path / "walk.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*HEAD, "joint", "x", "y", "score"])
        for n in range(3):
            for name, (x, y) in zip(names, points):
                row = dict.fromkeys(HEAD, 0) | {"video": "walk", "frame": n, "track": 7}
                writer.writerow([*row.values(), name, x + 0.5, y + 0.5, 0.9])
    command = ["--poses", tmp_path / "walk.csv", "--annotations", tmp_path / "truth.json"]
    out = tmp_path / "figures.json"
    assert main(["score", *map(str, command), "--output", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert figures["matched"] == 3 and figures["switches"] == 0 and figures["PCK@0.05"] == 100
    assert "3 labelled persons, 3 matched" in capsys.readouterr().out
    assert main(["score", *map(str, command[:3]), str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err


def test_two_people_of_one_track_are_refused_by_the_files_name(tmp_path: Path, capsys) -> None:
    (tmp_path / "truth.json").write_text("{}")
    files = []
    for name, tracks in {"walk": (1, 2), "run": (4, 4)}.items():
        people = [
            {
                "image_id": 9,
                "category_id": 1,
                "track_id": t,
                "keypoints": [1, 2, 2],
                "bbox": [0] * 4,
            }
            for t in tracks
        ]
        content = {"images": [{"id": 9, "video_id": name, "frame_id": 3}], "annotations": people}
        content["categories"] = [{"id": 1, "keypoints": ["nose"]}]
        files.append(str(tmp_path / f"{name}.json"))
        Path(files[-1]).write_text(json.dumps(content))
    command = ["score", "--poses", *files, "--annotations", str(tmp_path / "truth.json")]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert f"{files[1]}: frame 3 of video 'run' has two people of track 4" in said
