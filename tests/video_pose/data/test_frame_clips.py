"""Clips of whole frames: order of a video's frames, one draw a clip, people's numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog

from video_pose.data import frame_clips
from video_pose.data.frame_clips import FrameClipDataset, frames_by_video


@pytest.fixture(autouse=True)
def classes() -> Iterator[None]:
    """Of the tests' datasets, which are registered nowhere."""
    names = ("some", "other", "pictures", "videos", "both")
    for name in names:
        MetadataCatalog.get(name).thing_classes = ["person"]
    yield
    for name in names:
        MetadataCatalog.remove(name)


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
    tiny_rcnn_cfg: Any, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    """A training on them alone has no time in it."""
    cfg = tiny_rcnn_cfg("INPUT.CLIP.LENGTH", 2)
    labelled = {"annotations": [{"bbox": [0, 0, 5, 5]}]}
    pictures = [{"image_id": i, **labelled} for i in range(3)]
    videos = [frame(i, [("A", i)]) for i in range(2)]
    one = [{"image_id": 9, **labelled}, *videos]
    for name, found in (("pictures", pictures), ("videos", videos), ("both", one)):
        monkeypatch.setattr(frame_clips, "named_frames", lambda *a, found=found, **k: found)
        cfg.DATASETS.TRAIN = (name,)
        frame_clips.build_frame_clips_train_loader(cfg)
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert warning == (
        "pictures has no tracks: its pictures are clips of one frame, from which a memory learns "
        "nothing of time (INPUT.CLIP.LENGTH is 2)"
    )
    caplog.clear()
    cfg.INPUT.CLIP.LENGTH, cfg.DATASETS.TRAIN = 1, ("pictures",)
    monkeypatch.setattr(frame_clips, "named_frames", lambda *a, **k: pictures)
    frame_clips.build_frame_clips_train_loader(cfg)
    assert not caplog.records, "clips of one frame are what was asked for"


@pytest.fixture
def asked() -> list[tuple[str, dict[str, Any]]]:
    """Which datasets were read, and how."""
    return []


@pytest.fixture
def train_cfg(tiny_rcnn_cfg: Any, monkeypatch: pytest.MonkeyPatch, asked: list) -> Any:
    """Videos of three frames, one of them without people, and of one; the last one has nobody."""
    people = [frame(i, [("A", i)], "v") for i in range(3)] + [frame(5, [("B", 0)], "w")]
    people[1]["annotations"] = []
    nobody = {**frame(6, [("C", 0)], "x"), "annotations": []}

    def named(name: str, **how: Any) -> list[dict[str, Any]]:
        asked.append((name, how))
        return [{**item, "dataset_name": name} for item in [*people, nobody]]

    monkeypatch.setattr(frame_clips, "named_frames", named)
    cfg = tiny_rcnn_cfg("INPUT.CLIP.LENGTH", 2, "SEED", 3)
    cfg.DATASETS.TRAIN = ("some",)
    return cfg


def shown(cfg: Any, count: int, start: int = 0) -> list[list[list[int]]]:
    """Ids of the frames of the clips of so many batches."""
    loader = frame_clips.build_frame_clips_train_loader(cfg, start, Mapper())
    batches = list(itertools.islice(loader, count))
    return [[[item["id"] for item in clip["frames"]] for clip in batch] for batch in batches]


def test_batches_are_clips_of_videos_in_which_there_is_somebody(
    train_cfg: Any, asked: list, caplog: pytest.LogCaptureFixture
) -> None:
    """Frames without people are a part of their video, and so is a clip with one of them."""
    with caplog.at_level("INFO"):
        batches = shown(train_cfg, 12)
    assert asked == [("some", {"filter_empty": False, "min_keypoints": 0})]
    assert "some: 2 of 3 videos have a labelled person" in caplog.text
    assert {len(batch) for batch in batches} == {2}
    assert {str(clip) for batch in batches for clip in batch} == {"[0, 1]", "[1, 2]", "[5]"}
    for batch in batches:  # an epoch has two videos
        assert sorted(clip == [5] for clip in batch) == [False, True]
    assert shown(train_cfg, 7, start=5) == batches[5:]
    train_cfg.DATALOADER.NUM_WORKERS = 2
    assert shown(train_cfg, 12) == batches
    train_cfg.DATALOADER.NUM_WORKERS, train_cfg.INPUT.CLIP.STRIDE = 0, 2
    ids = {str(clip) for batch in shown(train_cfg, 6) for clip in batch}
    assert ids == {"[0, 2]", "[5]"}


def test_datasets_are_drawn_by_their_weights(train_cfg: Any) -> None:
    train_cfg.DATASETS.TRAIN = ("some", "other")
    train_cfg.DATALOADER.SAMPLER_TRAIN = "WeightedTrainingSampler"
    train_cfg.DATASETS.TRAIN_REPEAT_FACTOR = [["other", 3.0]]
    loader = frame_clips.build_frame_clips_train_loader(train_cfg, 0, lambda record: record)
    names = [
        clip["frames"][0]["dataset_name"] for batch in itertools.islice(loader, 8) for clip in batch
    ]
    assert (names.count("some"), names.count("other")) == (4, 12)


def test_datasets_of_one_training_have_the_same_classes(train_cfg: Any) -> None:
    train_cfg.DATASETS.TRAIN = ("some", "other")
    MetadataCatalog.remove("other")
    MetadataCatalog.get("other").thing_classes = ["person", "dog"]
    with pytest.raises(ValueError, match=r"'some' are \['person'\], .*'other' are .*'dog'\]"):
        frame_clips.build_frame_clips_train_loader(train_cfg)


def test_a_training_without_people_or_datasets_is_refused(
    train_cfg: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_clips, "named_frames", lambda *a, **k: [{"image_id": 1}])
    with pytest.raises(ValueError, match=r"^no labelled person in \['some'\]$"):
        frame_clips.build_frame_clips_train_loader(train_cfg)
    train_cfg.DATASETS.TRAIN = ()
    with pytest.raises(ValueError, match="DATASETS.TRAIN is empty: name at least one dataset"):
        frame_clips.build_frame_clips_train_loader(train_cfg)


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


def test_the_mapper_of_the_configuration_is_that_of_training_or_test(
    train_cfg: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where none is given."""

    def map_by(cfg: Any, is_train: bool) -> Any:
        assert cfg is train_cfg
        return lambda record: is_train

    monkeypatch.setattr(frame_clips, "FrameMapper", map_by)
    clips = next(iter(frame_clips.build_frame_clips_train_loader(train_cfg)))
    assert {found for clip in clips for found in clip["frames"]} == {True}
    frames = frame_clips.build_frame_clips_test_loader(train_cfg, "some")
    assert list(frames) == [[False]] * 5
