"""Frame by frame, in chunks and whole: the same numbers; and the pre-model's stages."""

from __future__ import annotations

import pytest
import torch


def chunk(clip, start, stop):
    """Frames start to stop of a test clip, whose frame axis is 0 or, with test rows, 1."""
    frames = len(clip["frame_indices"])
    axis = clip["image"].dim() - 4
    part = dict(clip)
    for key in ("image", "crop_to_image", "center"):
        part[key] = clip[key].narrow(axis, start, stop - start)
    for key in ("keypoints", "is_padding", "frame_indices"):
        part[key] = clip[key][start:stop]
    return part | {"is_first": start == 0, "is_last": stop == frames}


def poses(results):
    return torch.cat([i.pred_keypoints for result in results for i in result["instances"]])


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("stages", [1, 2])
def test_chunks_equal_the_whole(build, make_clip, rows, stages):
    model = build("MODEL.LSTM_PM.STAGES_PER_FRAME", stages).eval()
    clip = make_clip(7, rows=rows)
    whole = poses(model([clip]))
    assert whole.shape == (7, 3, 3)
    for cuts in ([0, 3, 4, 7], list(range(8))):
        parts = [poses(model([chunk(clip, a, b)])) for a, b in zip(cuts, cuts[1:], strict=False)]
        torch.testing.assert_close(torch.cat(parts), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stages", [1, 2])
@torch.no_grad()
def test_streaming_equals_the_scan(build, make_clip, stages):
    model = build("MODEL.LSTM_PM.STAGES_PER_FRAME", stages).eval()
    clips = [make_clip(4, seed=s) for s in (0, 1)]
    images = torch.stack([c["image"] for c in clips])
    centers = torch.stack([c["center"] for c in clips])
    scanned = model.scan(images, centers).heatmaps
    center_map = model.center_map(centers[:, 0], (64, 64), training=False)
    state = None
    for t in range(4):
        normalized = model.normalize(images[:, t])
        features = model.encode(normalized)
        if state is None:
            state = model.begin(normalized, features)
        maps, state = model.advance(features, center_map, state)
        torch.testing.assert_close(maps, scanned[:, t], atol=1e-4, rtol=1e-4)
    # Memory matters: a frame by itself gives something else.
    alone, _ = model.advance(features, center_map, model.begin(normalized, features))
    assert not torch.allclose(alone, maps, atol=1e-3)


@torch.no_grad()
def test_convnet1_sees_first_frames_only_and_convnet2_all_at_once(build, make_clip):
    model = build().eval()
    seen = {"convnet1": [], "convnet2": []}
    for name, calls in seen.items():
        hook = lambda _, inputs, calls=calls: calls.append(len(inputs[0]))  # noqa: E731
        getattr(model, name).register_forward_pre_hook(hook)
    clips = [make_clip(5, seed=s) for s in (0, 1)]
    model.scan(torch.stack([c["image"] for c in clips]), torch.stack([c["center"] for c in clips]))
    assert seen == {"convnet1": [2], "convnet2": [10]}


def test_a_video_of_one_frame(build, make_clip):
    model = build().eval()
    result = model([make_clip(1), make_clip(1, seed=1, video="b")])
    assert poses(result).shape == (2, 3, 3)
    assert torch.isfinite(poses(result)).all()


def test_videos_do_not_see_each_other(build, make_clip):
    model = build().eval()
    clips = [make_clip(4, seed=s, video=v) for s, v in ((0, "a"), (1, "b"))]
    alone = [poses(model([clip])) for clip in clips]
    halves = [[chunk(clip, a, b) for clip in clips] for a, b in ((0, 2), (2, 4))]
    mixed = [model(half) for half in halves]
    for i in (0, 1):
        together = torch.cat([poses([results[i]]) for results in mixed])
        torch.testing.assert_close(together, alone[i], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_pre_model_unrolls_stages_on_one_image(build, make_clip):
    """Five stages a frame are five steps of the same network on the frame's one feature."""
    model = build("MODEL.LSTM_PM.STAGES_PER_FRAME", 5).eval()
    clip = make_clip(1)
    maps = model.scan(clip["image"][None], clip["center"][None])
    assert list(maps.extra) == ["initial", "stage2", "stage3", "stage4", "stage5"]
    image = model.normalize(clip["image"])
    center_map = model.center_map(clip["center"], (64, 64), training=False)
    features = model.encode(image)
    state = model.begin(image, features)
    expected = [state.heatmaps]
    model.stages_per_frame = 1  # the video model, fed the same image five times
    for _ in range(5):
        stage, state = model.advance(features, center_map, state)
        expected.append(stage)
    found = [*(m[:, 0] for m, _ in maps.extra.values()), maps.heatmaps[:, 0]]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_six_losses_of_the_pre_model(build, make_clip):
    model = build("MODEL.LSTM_PM.STAGES_PER_FRAME", 5).train()
    losses = model([make_clip(1), make_clip(1, seed=1)])
    assert len(losses) == 6 and all(float(value.detach()) > 0 for value in losses.values())
