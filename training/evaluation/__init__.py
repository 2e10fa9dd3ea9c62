"""Evaluation of a model on held-out photos: figures with intervals, a report, a model card."""
