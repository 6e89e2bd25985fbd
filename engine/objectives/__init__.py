"""Objectives: what a network minimises."""

from camshaft.engine.objectives.affinity import AffinityObjective, AffinitySettings
from camshaft.engine.objectives.erasing import ErasingObjective, ErasingSettings
from camshaft.engine.objectives.objective import Figures, Forward, Moment, Objective
from camshaft.engine.objectives.regression import RegressionObjective, RegressionSettings
from camshaft.engine.objectives.segmentation import SegmentationObjective, SegmentationSettings
from camshaft.engine.objectives.tags import TagsObjective

__all__ = [
    "AffinityObjective",
    "AffinitySettings",
    "ErasingObjective",
    "ErasingSettings",
    "Figures",
    "Forward",
    "Moment",
    "Objective",
    "RegressionObjective",
    "RegressionSettings",
    "SegmentationObjective",
    "SegmentationSettings",
    "TagsObjective",
]
