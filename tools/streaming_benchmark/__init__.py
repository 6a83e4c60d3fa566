"""The parts of ``tools/benchmark_streaming.py``: one measurement a file."""
