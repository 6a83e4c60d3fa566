"""Evaluation of video pose: PCK counts, their Detectron2 evaluator, the constant-pose floor."""
