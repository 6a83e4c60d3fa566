"""The command ``video-pose``: a module a verb. Nothing heavy is imported before a verb runs."""
