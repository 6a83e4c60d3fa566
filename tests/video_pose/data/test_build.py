from __future__ import annotations

import itertools
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from torch.utils.data import DataLoader, Dataset

from video_pose.data import build
from video_pose.data.build import (
    ClipDataset,
    ResumableTrainingSampler,
    WholeRunSampler,
    build_pose_test_loader,
    build_pose_train_loader,
    collate,
    deal_runs,
)
from video_pose.data.frame_reader import FrameReader


def _take(sampler: ResumableTrainingSampler, count: int) -> list[tuple[int, int]]:
    return list(itertools.islice(sampler, count))


def _batches(cfg: CfgNode, count: int, start_iter: int = 0) -> list[list[dict[str, Any]]]:
    return list(itertools.islice(build_pose_train_loader(cfg, start_iter), count))


def _summary(batches: list[list[dict[str, Any]]]) -> list[tuple]:
    return [
        (clip["video_id"], clip["frame_indices"].tolist(), int(clip["image"].long().sum()))
        for batch in batches
        for clip in batch
    ]


@pytest.fixture
def train_cfg(cfg: CfgNode, register: Callable, make_track: Callable) -> CfgNode:
    cfg.DATASETS.TRAIN = (register([make_track(f"v{i}", frames=5 + i) for i in range(5)]),)
    cfg.INPUT.AUG.ROTATION = 40.0
    return cfg


def test_each_epoch_has_each_item_once_in_a_new_order() -> None:
    items = [item for item, _ in _take(ResumableTrainingSampler(7, seed=1), 21)]
    epochs = [items[:7], items[7:14], items[14:]]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] and epochs[1] != epochs[2]


def test_the_seed_decides_the_order() -> None:
    one, same, other = (_take(ResumableTrainingSampler(50, seed=s), 50) for s in (1, 1, 2))
    assert one == same and one != other


@pytest.mark.parametrize("repeats", [None, [1.0, 2.5, 0.4, 1.0, 1.0, 3.0, 1.0]])
def test_a_later_start_continues_the_stream(repeats: list[float] | None) -> None:
    whole = _take(ResumableTrainingSampler(7, 3, repeats=repeats), 60)
    assert [position for _, position in whole] == list(range(60))
    for start in (1, 7, 33):
        assert _take(ResumableTrainingSampler(7, 3, start, repeats), 60 - start) == whole[start:]


def test_ranks_share_one_stream() -> None:
    whole = _take(ResumableTrainingSampler(7, 3), 30)
    parts = [
        _take(ResumableTrainingSampler(7, 3, start=6, rank=rank, world_size=3), 8)
        for rank in range(3)
    ]
    assert [pair for step in zip(*parts, strict=True) for pair in step] == whole[6:]


def test_repeat_factors_hold_on_average() -> None:
    sampler = ResumableTrainingSampler(3, 0, repeats=[2.0, 1.0, 0.25])
    counts = Counter(item for item, _ in _take(sampler, 6500))
    # Of 3.25 items an epoch: 4000, 2000 and 500 of 6500.
    assert abs(counts[0] - 4000) < 60 and abs(counts[1] - 2000) < 60 and abs(counts[2] - 500) < 60


def test_runs_stay_whole_and_frames_are_balanced() -> None:
    frames = [10, 30, 20, 5, 25]
    # 30 | 25; then 20 to the second (25 < 30), 10 to the first, 5 to the first (40 < 45).
    assert deal_runs(frames, 2) == [[0, 1, 3], [2, 4]]
    items = [[0, 1], [2, 3, 4], [5, 6], [7], [8, 9]]
    assert list(WholeRunSampler(items, frames, 0, 2)) == [0, 1, 2, 3, 4, 7]
    assert list(WholeRunSampler(items, frames, 1, 2)) == [5, 6, 8, 9]


def test_more_ranks_than_runs_leaves_some_empty() -> None:
    assert [len(WholeRunSampler([[0, 1]], [9], rank, 3)) for rank in range(3)] == [2, 0, 0]


def test_train_batches(train_cfg: CfgNode) -> None:
    (batch,) = _batches(train_cfg, 1)
    assert len(batch) == 2
    assert {clip["image"].shape for clip in batch} == {(4, 3, 64, 64)}
    assert batch[0]["dataset_name"] == train_cfg.DATASETS.TRAIN[0]


def test_batches_do_not_depend_on_the_number_of_workers(train_cfg: CfgNode) -> None:
    alone = _summary(_batches(train_cfg, 6))
    train_cfg.DATALOADER.NUM_WORKERS = 2
    assert _summary(_batches(train_cfg, 6)) == alone
    # Twelve clips of five tracks: augmentations differ where tracks come again.
    assert len(set(map(str, alone))) == 12


def test_a_resumed_run_goes_on_with_the_next_clips(train_cfg: CfgNode) -> None:
    whole = _summary(_batches(train_cfg, 7))
    assert _summary(_batches(train_cfg, 3, start_iter=4)) == whole[8:]


def test_another_seed_gives_other_clips(train_cfg: CfgNode) -> None:
    one = _summary(_batches(train_cfg, 3))
    train_cfg.SEED = 6
    assert _summary(_batches(train_cfg, 3)) != one


def test_tracks_without_labels_are_left_out(
    cfg: CfgNode, register: Callable, make_track: Callable
) -> None:
    good, unlabelled, unseen = (make_track(name) for name in "abc")
    unlabelled["labelled"][:] = False
    unseen["keypoints"][..., 2] = 0
    cfg.DATASETS.TRAIN = (register([unlabelled, good, unseen]),)
    seen = {clip["video_id"] for batch in _batches(cfg, 4) for clip in batch}
    assert seen == {"a"}
    cfg.DATASETS.TRAIN += (register([unlabelled, unseen]),)
    with pytest.raises(ValueError, match="no usable frame: none of 2 tracks"):
        build_pose_train_loader(cfg)


def test_a_weight_of_absence_without_data_that_teach_it_is_said(
    cfg: CfgNode, register: Callable, make_track: Callable, caplog
) -> None:
    name = register([make_track("a")])
    cfg.DATASETS.TRAIN, cfg.MODEL.POSE.ABSENT_WEIGHT = (name,), 0.3
    for teaches in (False, True):
        caplog.clear()
        MetadataCatalog.get(name).set(unlabelled_is_absent=teaches)
        build_pose_train_loader(cfg)
        assert ("ABSENT_WEIGHT is ignored: no dataset" in caplog.text) is not teaches
        MetadataCatalog.get(name).__dict__.pop("unlabelled_is_absent")


def test_datasets_are_mixed_by_their_repeat_factors(
    cfg: CfgNode, register: Callable, make_track: Callable
) -> None:
    cfg.DATASETS.TRAIN = (register([make_track("a")]), register([make_track("b")]))
    cfg.DATALOADER.SAMPLER_TRAIN = "WeightedTrainingSampler"
    cfg.DATASETS.TRAIN_REPEAT_FACTOR = [(cfg.DATASETS.TRAIN[1], 3.0)]
    seen = Counter(clip["video_id"] for batch in _batches(cfg, 8) for clip in batch)
    assert seen == {"a": 4, "b": 12}
    cfg.DATASETS.TRAIN_REPEAT_FACTOR = [("c", 3.0)]
    with pytest.raises(ValueError, match="'c'"):
        build_pose_train_loader(cfg)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("SOLVER.IMS_PER_BATCH", 0, "IMS_PER_BATCH is 0"),
        ("DATALOADER.ASPECT_RATIO_GROUPING", True, "ASPECT_RATIO_GROUPING"),
        ("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler", "RepeatFactor"),
        ("DATASETS.TRAIN", (), "DATASETS.TRAIN is empty"),
        ("MODEL.POSE.JOINTS", ["head", "tail"], "(?s)tail.*left_hand"),
        ("INPUT.CLIP.LENGTH", 0, "LENGTH 0"),
    ],
)
def test_wrong_keys_are_said_at_build(train_cfg: CfgNode, key: str, value: Any, words: str) -> None:
    train_cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=words):
        build_pose_train_loader(train_cfg)


def test_test_chunks_carry_each_track_in_order(
    cfg: CfgNode, register: Callable, make_track: Callable
) -> None:
    name = register([make_track("a", frames=5), make_track("b", frames=2)])
    cfg.TEST.CHUNK_LENGTH = 2
    for workers in (0, 2):
        cfg.DATALOADER.NUM_WORKERS = workers
        loader = build_pose_test_loader(cfg, name)
        assert len(loader) == 4
        got = [
            (c["video_id"], c["frame_indices"].tolist(), c["is_first"], c["is_last"])
            for (c,) in loader
        ]
        assert got == [
            ("a", [0, 1], True, False),
            ("a", [2, 3], False, False),
            ("a", [4], False, True),
            ("b", [0, 1], True, True),
        ]


@pytest.mark.parametrize(("videos", "reads"), [(["a", "b"], 6), (["a", "a"], 3)])
def test_frames_are_kept_only_for_further_tracks_of_a_video(
    cfg: CfgNode,
    register: Callable,
    make_track: Callable,
    monkeypatch: pytest.MonkeyPatch,
    videos: list[str],
    reads: int,
) -> None:
    """Kept frames of a long video would fill memory, and serve only another person in it."""
    tracks = [{**make_track(v, frames=3), "track_id": str(i)} for i, v in enumerate(videos)]
    stored: list[tuple[str, int]] = []
    cached = []

    def store(reader: FrameReader, key: tuple[str, int], image: np.ndarray) -> np.ndarray:
        stored.append(key)
        cached.append(reader)
        return keep(reader, key, image)

    keep = FrameReader._store
    monkeypatch.setattr(FrameReader, "_store", store)
    cfg.DATALOADER.NUM_WORKERS = 0
    list(build_pose_test_loader(cfg, register(tracks)))
    assert len(stored) == reads
    assert len(cached[0]._cached) == (0 if reads == 6 else 3)


def test_warmup_runs_are_chunked_from_a_fresh_state(
    cfg: CfgNode, register: Callable, make_track: Callable
) -> None:
    track = make_track("a", frames=12)
    track["labelled"][:] = False
    track["labelled"][[3, 10]] = True
    cfg.TEST.CHUNK_LENGTH = 2
    cfg.TEST.WARMUP_FRAMES = 2
    loader = build_pose_test_loader(cfg, register([track]))
    got = [(c["frame_indices"].tolist(), c["is_first"], c["is_last"]) for (c,) in loader]
    assert got == [
        ([1, 2], True, False),
        ([3], False, True),
        ([8, 9], True, False),
        ([10], False, True),
    ]


def test_a_test_set_without_frames_to_run_is_an_error(
    cfg: CfgNode, register: Callable, make_track: Callable
) -> None:
    track = make_track()
    track["labelled"][:] = False
    name = register([track])
    assert len(build_pose_test_loader(cfg, name)) == 1
    cfg.TEST.WARMUP_FRAMES = 3
    with pytest.raises(ValueError, match="no frame to run"):
        build_pose_test_loader(cfg, name)


def test_a_missing_frame_in_a_worker_names_its_path(
    cfg: CfgNode, register: Callable, make_track: Callable
) -> None:
    track = make_track()
    track["file_names"] = [name + ".gone" for name in track["file_names"]]
    cfg.DATASETS.TRAIN = (register([track]),)
    cfg.DATALOADER.NUM_WORKERS = 1
    with pytest.raises(FileNotFoundError, match=r"frame \d is missing: .*png.gone"):
        next(iter(build_pose_train_loader(cfg)))


def test_real_jhmdb_clips(cfg: CfgNode) -> None:
    """Skips where $DETECTRON2_DATASETS holds no JHMDB."""
    import video_pose  # noqa: F401

    name = "sub_jhmdb_split1_train"
    cfg.DATASETS.TRAIN = (name,)
    cfg.INPUT.MAPPER = "JHMDBClipMapper"
    try:
        (batch,) = _batches(cfg, 1)
    except FileNotFoundError as error:
        pytest.skip(f"no JHMDB here: {error}")
    clip = batch[0]
    assert clip["keypoints"].shape == (4, len(MetadataCatalog.get(name).keypoint_names), 3)
    inside = ((clip["keypoints"][..., :2] > -16) & (clip["keypoints"][..., :2] < 80)).all(dim=-1)
    assert inside.float().mean() > 0.9
    assert clip["image"].float().std() > 5
    assert (
        np.isfinite(clip["crop_to_image"].numpy()).all() and not torch.isnan(clip["center"]).any()
    )


class Clips(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        return {
            "image": torch.full((2, 3, 64, 64), index, dtype=torch.uint8),
            "keypoints": torch.arange(12, dtype=torch.float32).view(2, 2, 3) + index,
            "is_padding": torch.tensor([False, True]),
            "transposed": torch.arange(6).view(2, 3).t(),
            "empty": torch.zeros((0, 5)),
            "video_id": f"v{index}",
            "height": 5,
        }


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_the_same(workers: int) -> None:
    loader = DataLoader(Clips(), batch_size=2, num_workers=workers, collate_fn=collate)
    batches = list(loader)
    assert [len(batch) for batch in batches] == [2, 2]
    for index, item in enumerate(item for batch in batches for item in batch):
        expected = Clips()[index]
        assert list(item) == list(expected)
        for key, value in expected.items():
            if not isinstance(value, torch.Tensor):
                assert item[key] == value
                continue
            assert torch.equal(item[key], value) and item[key].dtype == value.dtype
            item[key].zero_()  # its own memory, writeable
    small = batches[0][0]["keypoints"]
    assert not small.is_shared() and not batches[0][0]["empty"].is_shared()
    assert batches[0][0]["image"].is_shared() == bool(workers)


def test_small_tensors_travel_in_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to 16 KB; large ones through shared memory, which is worth its cost for them."""
    item = {
        "small": torch.arange(4096, dtype=torch.float32), "name": "v",
        "large": torch.zeros(4097, dtype=torch.float32),
    }  # fmt: skip
    assert collate([item]) == [item]
    monkeypatch.setattr(build, "get_worker_info", lambda: object())
    (sent,) = collate([item])
    assert sent["large"] is item["large"] and sent["name"] == "v"
    assert not isinstance(sent["small"], torch.Tensor)
    back = pickle.loads(pickle.dumps(sent["small"]))
    assert torch.equal(back, item["small"]) and back.dtype == torch.float32


@pytest.mark.parametrize("threads", [1, 4])
def test_a_worker_draws_with_one_thread(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    asked: list[int] = []
    monkeypatch.setattr(build.cv2, "getNumThreads", lambda: threads)
    monkeypatch.setattr(build.cv2, "setNumThreads", asked.append)
    build._init_worker(0)
    assert asked == ([] if threads == 1 else [1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 0}, "sampler of 0 items from position 0"),
        ({"size": 3, "start": -1}, "sampler of 3 items from position -1"),
        ({"size": 3, "repeats": [1.0, 2.0]}, "must be 3 numbers above 0"),
        ({"size": 2, "repeats": [1.0, 0.0]}, "must be 2 numbers above 0"),
    ],
)
def test_samplers_of_nothing_are_refused(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ResumableTrainingSampler(seed=0, **arguments)


def test_orders_are_those_of_their_seed() -> None:
    """A resumed or repeated training sees the same items: orders may not change in silence."""
    sampler = ResumableTrainingSampler(5, seed=3, repeats=[0.5, 1.0, 1.5, 2.0, 0.25])
    assert [item for item, _ in _take(sampler, 16)] == [
        2,
        0,
        1,
        3,
        3,
        2,
        2,
        3,
        2,
        3,
        1,
        0,
        1,
        2,
        3,
        3,
    ]
    assert [item for item, _ in _take(ResumableTrainingSampler(6, seed=9), 12)] == [
        5,
        2,
        0,
        4,
        3,
        1,
        3,
        4,
        1,
        2,
        0,
        5,
    ]
    assert [p for _, p in _take(ResumableTrainingSampler(6, 9, 4, rank=1, world_size=3), 4)] == [
        4, 7, 10, 13,
    ]  # fmt: skip


@pytest.mark.parametrize("available", [True, False])
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "cpu"])
def test_memory_is_pinned_for_a_gpu_alone(
    train_cfg: CfgNode, monkeypatch: pytest.MonkeyPatch, device: str, available: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    train_cfg.MODEL.DEVICE = device
    name = train_cfg.DATASETS.TRAIN[0]
    pinned = device != "cpu" and available
    assert build_pose_test_loader(train_cfg, name).pin_memory is pinned


def test_a_resumed_stream_does_not_walk_through_what_was_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Long trainings have thousands of epochs; with repeats these are of unknown lengths."""
    walked: list[int] = []
    plain = ResumableTrainingSampler._epoch
    monkeypatch.setattr(
        ResumableTrainingSampler, "_epoch", lambda self, n: (walked.append(n), plain(self, n))[1]
    )
    for start, first in ((0, 0), (6, 0), (7, 1), (33, 4)):
        assert _take(ResumableTrainingSampler(7, 3, start), 1)[0][1] == start
        assert walked == [first]
        walked.clear()
    _take(ResumableTrainingSampler(7, 3, 7, [1.0] * 7), 1)
    assert walked == [0, 1]


def test_equal_runs_are_dealt_in_turn() -> None:
    assert deal_runs([5, 5, 5, 5, 5], 2) == [[0, 2, 4], [1, 3]]
    assert deal_runs([], 2) == [[], []]


def _seeds(dataset: ClipDataset) -> list[int]:
    return [dataset[0, position]["clip_seed"] for position in (0, 1, 300)]


def test_seeds_of_clips_are_those_of_run_and_position() -> None:
    """A training that is resumed or repeated draws the same: numbers may not change in silence."""
    tracks = [{"video_id": "a"}, {"video_id": "b"}]
    dataset = ClipDataset(tracks, lambda track: track, seed=5)
    assert len(dataset) == 2 and dataset[1, 0]["video_id"] == "b"
    assert _seeds(dataset) == [
        12631478326263854183,
        17996766564426832300,
        4533475110298427369,
    ]
    assert _seeds(ClipDataset(tracks, lambda track: track, seed=6)) != _seeds(dataset)


@pytest.mark.parametrize(
    ("batch", "processes", "share"),
    [(1, 1, 1), (4, 2, 2), (2, 2, 1), (6, 3, 2), (3, 2, None), (1, 2, None), (0, 1, None),
     (-2, 2, None)],
)  # fmt: skip
def test_a_batch_is_shared_evenly(
    cfg: CfgNode, monkeypatch: pytest.MonkeyPatch, batch: int, processes: int, share: int | None
) -> None:
    monkeypatch.setattr(build.comm, "get_world_size", lambda: processes)
    cfg.SOLVER.IMS_PER_BATCH = batch
    if share is not None:
        assert build.share_of_batch(cfg, "clips") == share
        return
    with pytest.raises(ValueError) as error:
        build.share_of_batch(cfg, "clips")
    assert str(error.value) == (
        f"SOLVER.IMS_PER_BATCH is {batch} clips: must be a multiple of {processes} (processes)"
    )


@pytest.mark.parametrize(("seed", "used"), [(0, 0), (4, 4), (-1, 77)])
def test_a_run_without_a_seed_draws_one(
    cfg: CfgNode, monkeypatch: pytest.MonkeyPatch, seed: int, used: int
) -> None:
    monkeypatch.setattr(build.comm, "shared_random_seed", lambda: 77)
    cfg.SEED, cfg.SOLVER.IMS_PER_BATCH = seed, 3
    sampler = build.training_sampler(cfg, 5, 4, None)
    assert sampler.seed == used
    assert _take(sampler, 2) == _take(ResumableTrainingSampler(5, used, start=12), 2)


def _told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Of the loaders, whatever else is told: other loggers' levels are those that tests left."""
    return [one.getMessage() for one in caplog.records if one.name == "video_pose.data.build"]


def test_a_loader_tells_what_it_reads(
    cfg: CfgNode, register: Callable, make_track: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    good, unlabelled = make_track("a", frames=5), make_track("b", frames=2)
    name = register([good, unlabelled])
    cfg.TEST.CHUNK_LENGTH = 3
    with caplog.at_level("INFO", logger="video_pose.data.build"):
        build_pose_test_loader(cfg, name)
        assert _told(caplog) == [f"{name}: 2 tracks, 7 frames in 3 chunks"]
        caplog.clear()
        cfg.DATASETS.TRAIN = (name,)
        build_pose_train_loader(cfg)
        assert _told(caplog) == []
        unlabelled["labelled"][:] = False
        build_pose_train_loader(cfg)
        assert _told(caplog) == [f"{name}: 1 tracks without labels left out"]
        caplog.clear()
        cfg.MODEL.POSE.PARTIAL_JOINTS = True
        build_pose_train_loader(cfg)
    (table, *_) = _told(caplog)
    assert table.startswith("Joints of the model by dataset:\n")
    assert table.split()[-2:] == ["left_hand", "x"]


def test_poses_that_are_corrected_over_time_are_so_over_whole_runs(
    cfg: CfgNode, register: Callable, make_track: Callable
) -> None:
    name = register([make_track("a", frames=5)])
    cfg.TEST.CHUNK_LENGTH = 2
    chunks = {}
    for mode in ("causal", "offline"):
        cfg.TEST.OVER_TIME.MODE = mode
        chunks[mode] = [c["frame_indices"].tolist() for (c,) in build_pose_test_loader(cfg, name)]
    assert chunks == {"causal": [[0, 1], [2, 3], [4]], "offline": [[0, 1, 2, 3, 4]]}


def test_runs_that_begin_late_are_as_long_as_they_are(
    cfg: CfgNode, register: Callable, make_track: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    """Frames 1 and 6 to 8 of two tracks, each after one more: ranks are dealt 2 and 4 frames."""
    track = make_track("a", frames=10)
    track["labelled"][[0, 2, 3, 4, 5, 9]] = False
    cfg.TEST.WARMUP_FRAMES, cfg.TEST.CHUNK_LENGTH, cfg.TEST.OVER_TIME.MODE = 1, 2, "offline"
    name = register([track, {**track, "video_id": "b"}])
    with caplog.at_level("INFO", logger="video_pose.data.build"):
        loader = build_pose_test_loader(cfg, name)
    assert _told(caplog) == [f"{name}: 2 tracks, 12 frames in 4 chunks"]
    frames = [(c["video_id"], c["frame_indices"].tolist()) for (c,) in loader]
    assert frames == [(video, run) for video in "ab" for run in ([0, 1], [5, 6, 7, 8])]


def test_without_warmup_only_labelled_frames_are_run(
    cfg: CfgNode, register: Callable, make_track: Callable
) -> None:
    track = make_track("a", frames=5)
    track["labelled"][[0, 3]] = False
    name = register([track])
    for warmup, frames in ((0, [[1, 2], [4]]), (1, [[0, 1, 2, 3, 4]]), (-1, [[0, 1, 2, 3, 4]])):
        cfg.TEST.WARMUP_FRAMES = warmup
        loader = build_pose_test_loader(cfg, name)
        assert [c["frame_indices"].tolist() for (c,) in loader] == frames, warmup


def test_workers_are_kept_in_training_alone(
    train_cfg: CfgNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a test end with it."""
    threads: list[int] = []
    monkeypatch.setattr(build.cv2, "setNumThreads", threads.append)
    name = train_cfg.DATASETS.TRAIN[0]
    for workers, kept in ((0, False), (1, True), (2, True)):
        train_cfg.DATALOADER.NUM_WORKERS = workers
        loaders = build_pose_train_loader(train_cfg), build_pose_test_loader(train_cfg, name)
        assert [loader.num_workers for loader in loaders] == [workers] * 2
        assert [loader.persistent_workers for loader in loaders] == [kept, False]
        assert threads == [1, 1] * bool(workers), "before workers are started, and only then"
        threads.clear()


def test_weights_of_datasets_are_numbers_of_those_that_are_read(cfg: CfgNode) -> None:
    items = [{"dataset_name": name} for name in "aba"]
    cfg.DATASETS.TRAIN = ("a", "b")
    assert build.repeat_factors(cfg, items) is None
    cfg.DATALOADER.SAMPLER_TRAIN = "WeightedTrainingSampler"
    assert build.repeat_factors(cfg, items) == [1.0, 1.0, 1.0]
    cfg.DATASETS.TRAIN_REPEAT_FACTOR = [["b", 2]]
    assert build.repeat_factors(cfg, items) == [1.0, 2.0, 1.0]
    for name in ("RepeatFactorTrainingSampler", "ZonedTrainingSampler"):
        cfg.DATALOADER.SAMPLER_TRAIN = name
        with pytest.raises(ValueError) as error:
            build.repeat_factors(cfg, items)
        assert str(error.value) == (
            f"DATALOADER.SAMPLER_TRAIN is {name!r}: expected 'TrainingSampler' or "
            "'WeightedTrainingSampler' (with DATASETS.TRAIN_REPEAT_FACTOR)"
        )
    cfg.DATALOADER.SAMPLER_TRAIN = "WeightedTrainingSampler"
    cfg.DATASETS.TRAIN_REPEAT_FACTOR = [["d", 2], ["b", 2], ["c", 2]]
    with pytest.raises(ValueError, match=r"names \['c', 'd'\]: DATASETS.TRAIN is \('a', 'b'\)$"):
        build.repeat_factors(cfg, items)
