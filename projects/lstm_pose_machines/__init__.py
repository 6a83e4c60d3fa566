"""LSTM Pose Machines (Luo et al., CVPR 2018) as a Detectron2 meta-architecture."""

from lstm_pose_machines.config import add_config
from lstm_pose_machines.import_weights import IMPORTERS
from lstm_pose_machines.lstm_pose_machine import LSTMPoseMachine

__all__ = ["IMPORTERS", "LSTMPoseMachine", "add_config"]
