"""Evaluation of video pose: PCK counts, their Detectron2 evaluator, the mean-pose baseline."""
