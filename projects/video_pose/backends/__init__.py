"""Engines that compute a network at inference, and the graphs that they read."""
