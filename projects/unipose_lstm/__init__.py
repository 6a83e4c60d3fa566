"""UniPose and UniPose-LSTM (Artacho & Savakis, CVPR 2020) as Detectron2 meta-architectures."""

from unipose_lstm.config import add_config
from unipose_lstm.import_weights import IMPORTERS
from unipose_lstm.unipose import UniPose
from unipose_lstm.unipose_lstm import UniPoseLSTM

__all__ = ["IMPORTERS", "UniPose", "UniPoseLSTM", "add_config"]
