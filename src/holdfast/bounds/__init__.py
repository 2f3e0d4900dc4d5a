"""Bounds of any graph on batches of boxes: intervals, backward substitution, optimised slopes."""
