"""Clips of whole frames: order of a video's frames, one draw a clip, people's numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from video_pose.data import frame_clips
from video_pose.data.frame_clips import FrameClipDataset, frames_by_video


def frame(image_id: int, tracks: list[tuple[str, int]], video: str = "v") -> dict[str, Any]:
    return {
        "image_id": image_id,
        "video_id": video,
        "frame_index": tracks[0][1],
        "tracks": tracks,
        "annotations": [{"track_id": track} for track, _ in tracks],
    }


def test_frames_come_in_the_order_of_their_tracks() -> None:
    """B begins at A's third frame; image ids say nothing about time."""
    frames = [
        frame(9, [("A", 0)]),
        frame(4, [("A", 1)]),
        frame(7, [("A", 2), ("B", 0)]),
        frame(2, [("B", 1)]),
    ]
    (video,) = frames_by_video([frames[3], frames[1], frames[2], frames[0]])
    assert [item["image_id"] for item in video] == [9, 4, 7, 2]
    assert [item["frame_index"] for item in video] == [0, 1, 2, 3]
    assert frames[3]["frame_index"] == 1, "the input stays"


def test_frames_that_no_track_compares_go_by_number() -> None:
    parts = [frame(5, [("A", 0)]), frame(3, [("B", 0)]), frame(4, [("B", 1)])]
    (video,) = frames_by_video(parts)
    assert [item["image_id"] for item in video] == [3, 4, 5]
    for item, number in zip(parts, (0, 8, 9)):
        item["frame_number"] = number
    (video,) = frames_by_video(parts)
    assert [item["image_id"] for item in video] == [5, 3, 4]


def test_tracks_that_contradict_each_other_are_refused() -> None:
    parts = [frame(1, [("A", 0), ("B", 1)]), frame(2, [("A", 1), ("B", 0)])]
    with pytest.raises(ValueError, match="video 'v': its tracks disagree"):
        frames_by_video(parts)


def test_pictures_are_videos_of_one_frame() -> None:
    videos = frames_by_video([{"image_id": 3}, {"image_id": 4}])
    assert [[item["video_id"] for item in video] for video in videos] == [["image 3"], ["image 4"]]


class Mapper:
    """Shows what it is given, and the number that an augmentation would draw."""

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        numbers = [item["track_number"] for item in record["annotations"]]
        return {"id": record["image_id"], "draw": np.random.rand(), "tracks": torch.tensor(numbers)}


def dataset(length: int, **options: Any) -> FrameClipDataset:
    parts = [frame(i, [("A", i), ("B", i)] if i != 2 else [("B", 2)]) for i in range(6)]
    return FrameClipDataset(frames_by_video(parts), Mapper(), seed=3, length=length, **options)


def test_a_clip_has_one_draw_and_one_number_a_person() -> None:
    clip = dataset(4)[(0, 0)]["frames"]
    assert [item["id"] for item in clip] == list(range(clip[0]["id"], clip[0]["id"] + 4))
    assert len({item["draw"] for item in clip}) == 1
    for item in clip:
        expected = 1 if item["id"] == 2 else 2
        assert len(item["tracks"]) == expected
    full = [item["tracks"].tolist() for item in clip if item["id"] != 2]
    alone = [item["tracks"].tolist() for item in clip if item["id"] == 2]
    assert all(numbers == full[0] for numbers in full)
    # Numbers follow the order of appearance: B is 1, unless the clip starts with B alone.
    assert alone in ([], [[full[0][1]]])


def test_a_clip_follows_from_its_position() -> None:
    data, state = dataset(3), np.random.get_state()[1].copy()
    first, again, other = data[(0, 7)], data[(0, 7)], data[(0, 8)]
    assert str(first) == str(again) != str(other)
    assert (np.random.get_state()[1] == state).all(), "the global generator is left as it was"


def test_a_short_video_gives_all_of_its_frames() -> None:
    assert [item["id"] for item in dataset(9)[(0, 0)]["frames"]] == list(range(6))


def test_stride() -> None:
    ids = [item["id"] for item in dataset(3, stride=2)[(0, 1)]["frames"]]
    assert np.diff(ids).tolist() == [2, 2]


@pytest.mark.parametrize("options", [{"length": 0}, {"length": 2, "stride": 0}])
def test_impossible_lengths_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="INPUT.CLIP"):
        dataset(**options)


def test_pictures_without_tracks_are_named(
    datasets: Any, tiny_rcnn_cfg: Any, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    """A training on them alone has no time in it."""
    cfg = tiny_rcnn_cfg()
    labelled = {"annotations": [{"bbox": [0, 0, 5, 5]}]}
    pictures = [{"image_id": i, **labelled} for i in range(3)]
    videos = [frame(i, [("A", i)]) for i in range(3)]
    for name, found in (("pictures", pictures), ("videos", videos)):
        monkeypatch.setattr(frame_clips, "named_frames", lambda *a, found=found, **k: found)
        cfg.DATASETS.TRAIN = (name,)
        frame_clips.build_frame_clips_train_loader(cfg)
    assert "pictures has no tracks: its pictures are clips of one frame" in caplog.text
    assert "videos has no tracks" not in caplog.text


def test_a_test_reads_the_frames_of_each_video_in_order(
    tiny_rcnn_cfg: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames without people and without joints as well: a video is gone through whole."""
    shown = [frame(4, [("A", 1)]), {"image_id": 1}, frame(9, [("A", 0)]), frame(5, [("B", 0)], "w")]
    asked = []
    monkeypatch.setattr(
        frame_clips, "named_frames", lambda *args, **kwargs: asked.append((args, kwargs)) or shown
    )
    loader = frame_clips.build_frame_clips_test_loader(
        tiny_rcnn_cfg(), "some", lambda record: (record["video_id"], record["image_id"])
    )
    assert asked == [(("some",), {"filter_empty": False, "min_keypoints": 0})]
    assert list(loader) == [[("v", 9)], [("v", 4)], [("image 1", 1)], [("w", 5)]]
    assert len(loader) == 4


def test_a_frame_clip_dataset_is_as_long_as_its_videos() -> None:
    assert len(dataset(2)) == 1
