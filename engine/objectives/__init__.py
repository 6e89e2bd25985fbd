"""Objectives: what a network minimises."""

from camshaft.engine.objectives.erasing import ErasingObjective, ErasingSettings
from camshaft.engine.objectives.objective import Figures, Forward, Moment, Objective
from camshaft.engine.objectives.segmentation import SegmentationObjective, SegmentationSettings
from camshaft.engine.objectives.tags import TagsObjective

__all__ = [
    "ErasingObjective",
    "ErasingSettings",
    "Figures",
    "Forward",
    "Moment",
    "Objective",
    "SegmentationObjective",
    "SegmentationSettings",
    "TagsObjective",
]
