"""A table of predictions is scored from the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from video_pose.cli.main import main
from video_pose.inference.writers.tables import HEAD
from video_pose.skeleton import OPENPOSE_25


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


def test_files_of_people_who_are_not_followed(tmp_path: Path, capsys) -> None:
    """OpenPose's own, and COCO's without track ids and boxes: two people who change places."""
    folder, flat = tmp_path / "walk_openpose", [v for k in range(25) for v in (k + 1, 2 * k, 0.9)]
    folder.mkdir()
    names = list(OPENPOSE_25.names)
    images, labels, found = [], [], []
    for n in range(4):
        images.append({"id": n + 1, "video_id": "walk", "frame_index": n})
        people = []
        for place in (0, 1):
            x = 500 * ((place + n) % 2)
            points = [v + x if i % 3 == 0 else v for i, v in enumerate(flat)]
            people.append({"person_id": [-1], "pose_keypoints_2d": points})
            joints = [2 if i % 3 == 2 else v for i, v in enumerate(points)]
            found.append({"image_id": n + 1, "category_id": 1, "keypoints": joints})
            labels.append({**found[-1], "track_id": x, "bbox": [x, 0, 25, 49]})
        text = json.dumps({"people": people})
        (folder / f"walk_{n:012d}_keypoints.json").write_text(text)
    content = {"images": images, "categories": [{"id": 1, "keypoints": names}]}
    (tmp_path / "truth.json").write_text(json.dumps({**content, "annotations": labels}))
    (tmp_path / "walk.json").write_text(json.dumps({**content, "annotations": found}))
    for poses in (folder, tmp_path / "walk.json"):
        command = ["--poses", str(poses), "--annotations", str(tmp_path / "truth.json")]
        out = tmp_path / "figures.json"
        assert main(["score", *command, "--output", str(out)]) == 0
        figures = json.loads(out.read_text())
        assert figures["matched"] == 8 and "MOTA" not in figures and "switches" not in figures
        assert "8 predicted persons have no track id" in capsys.readouterr().out
