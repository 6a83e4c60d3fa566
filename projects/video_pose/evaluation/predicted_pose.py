"""From a frame's predicted persons to one pose in the evaluated dataset's joints.

Shape letters: P persons, K joints of the model, L joints of the dataset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from detectron2.structures import Instances

from video_pose.data.datasets.builtin_meta import BELLY_FORMULA
from video_pose.data.joints import Formula, match_joints

# For models without a belly (LSTM Pose Machines drops JHMDB's and interpolates it afterwards); a
# dataset's own formula comes first.
_FALLBACK_DERIVED = {"belly": BELLY_FORMULA}


class PredictedPose:
    """Reads ``pred_keypoints`` and carries them to a dataset's joints, by name.

    Args:
        model_joints: K names, the order of ``pred_keypoints``.
        dataset_joints: L names.
        derived: the dataset's formulas for joints that can be computed.

    Raises:
        KeyError: a joint of the dataset that the model's joints do not give; lists both.
    """

    def __init__(
        self,
        model_joints: Sequence[str],
        dataset_joints: Sequence[str],
        derived: Mapping[str, Formula],
    ) -> None:
        self._joints = list(model_joints)
        self._map = match_joints(self._joints, dataset_joints, {**_FALLBACK_DERIVED, **derived})

    def best(self, instances: Instances) -> np.ndarray | None:
        """The person with the highest score, float32 (L, 3) = (x, y, score); None without a person.

        Raises:
            KeyError: persons without ``pred_keypoints``.
            ValueError: ``pred_keypoints`` is not (P, K, 3).
        """
        if not instances.get_fields() or len(instances) == 0:
            return None
        if not instances.has("pred_keypoints"):
            raise KeyError(f"predictions have {sorted(instances.get_fields())}, no pred_keypoints")
        keypoints = np.array(_to_numpy(instances.pred_keypoints), np.float32)
        if keypoints.shape[1:] != (len(self._joints), 3):
            raise ValueError(
                f"pred_keypoints {keypoints.shape}, expected (P, {len(self._joints)}, 3) "
                f"for the joints {self._joints}"
            )
        best = 0
        if len(instances) > 1 and instances.has("scores"):
            best = int(np.argmax(_to_numpy(instances.scores)))
        return self._matched(keypoints[best])

    def _matched(self, keypoints: np.ndarray) -> np.ndarray:
        # A score may be zero or negative (linear heads), which the map would read as "no joint".
        scores = np.nan_to_num(keypoints[:, 2])
        shift = 1.0 - scores.min()
        positive = np.concatenate([keypoints[:, :2], (scores + shift)[:, None]], axis=1)
        matched = self._map.apply(positive)
        matched[:, 2] -= shift
        return matched.astype(np.float32)


def _to_numpy(values: torch.Tensor | np.ndarray) -> np.ndarray:
    return values.detach().cpu().float().numpy() if isinstance(values, torch.Tensor) else values
