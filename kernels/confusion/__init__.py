"""Confusion matrices: one prediction, or all background thresholds of a sweep in one pass. The definition is in
reference.py, the compiled twin in counting.py, the tie rule and the costs in README.md."""

from camshaft.kernels.confusion.operation import confusion, mean_iou, sweep

__all__ = ["confusion", "mean_iou", "sweep"]
