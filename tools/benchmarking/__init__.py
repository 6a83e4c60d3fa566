"""Parts of tools/benchmark.py: what is measured, and how."""
