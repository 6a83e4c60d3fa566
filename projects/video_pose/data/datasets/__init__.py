"""Loaders of the datasets' on-disk formats and their table of registered splits."""
