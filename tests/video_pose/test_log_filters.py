"""What importing the project keeps from users' eyes, and nothing more."""

from __future__ import annotations

import logging

import pytest

import video_pose  # noqa: F401  (its import installs the filter)


def test_one_message_of_tracing_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("torch.fx._symbolic_trace")
    logger.addHandler(caplog.handler)  # PyTorch's loggers do not pass records on
    try:
        logger.warning("is_fx_tracing will return true for both fx.symbolic_trace and torch.export")
        logger.warning("something else of %s", "tracing")
    finally:
        logger.removeHandler(caplog.handler)
    messages = {record.getMessage() for record in caplog.records}
    assert messages == {"something else of tracing"}
