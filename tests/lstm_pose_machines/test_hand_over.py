"""The pre-model's weights start a video model, joints by name."""

from __future__ import annotations

import torch

from lstm_pose_machines import LSTMPoseMachine
from video_pose.engine.checkpointer import PoseCheckpointer

JOINTS = ["left_hand", "neck", "right_hand", "head"]  # another order, and one more


def test_pre_model_to_video_model(build, small_cfg, tmp_path):
    pre = build("MODEL.LSTM_PM.STAGES_PER_FRAME", 5)  # joints head, left_hand, right_hand
    PoseCheckpointer(pre, str(tmp_path)).save("pre")
    small_cfg.MODEL.LSTM_PM.STAGES_PER_FRAME = 1
    small_cfg.MODEL.POSE.JOINTS = JOINTS
    video = LSTMPoseMachine(small_cfg)
    before = {name: value.clone() for name, value in video.state_dict().items()}
    PoseCheckpointer(video, str(tmp_path)).load(str(tmp_path / "pre.pth"))
    after, old = video.state_dict(), pre.state_dict()
    # Maps: head, left, right, background -> left, neck, right, head, background.
    moved, kept = {0: 1, 2: 2, 3: 0, 4: 3}, 1
    for name in ("convnet1.conv7.weight", "head.8.bias"):
        for new, source in moved.items():
            assert torch.equal(after[name][new], old[name][source])
        assert torch.equal(after[name][kept], before[name][kept])
    # The LSTM's input: 4 features, the maps, the centre map.
    name = "cell.x.f.weight"
    inputs = {**{i: i for i in range(4)}, 9: 8} | {4 + n: 4 + o for n, o in moved.items()}
    for new, source in inputs.items():
        assert torch.equal(after[name][:, new], old[name][:, source])
    assert torch.equal(after[name][:, 4 + kept], before[name][:, 4 + kept])
    for name in (
        "convnet1.conv5.weight",
        "convnet2.conv4.bias",
        "cell.h.g.weight",
        "head.0.weight",
    ):
        assert torch.equal(after[name], old[name])
