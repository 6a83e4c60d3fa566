"""Datasets, clip sampling and loaders of video pose; import the submodules."""
