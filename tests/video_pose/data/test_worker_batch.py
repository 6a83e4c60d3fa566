"""What a loader's worker sends arrives as it was."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from video_pose.data.worker_batch import collate


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
