"""Data sets, one description of augmentation, and loaders."""

from camshaft.engine.data.augment import Augmentation, ColourJitter, Drawn, Resize, draw
from camshaft.engine.data.batch import Batch, BatchSource, Normalization
from camshaft.engine.data.dataset import DataSet
from camshaft.engine.data.inspection import Finding, Inspection, SplitInspection, conclude, inspect, look
from camshaft.engine.data.loader import Loader
from camshaft.engine.data.open import DataSettings, open_data
from camshaft.engine.data.transform import apply, normalized, resized
from camshaft.engine.stores import VOID

__all__ = [
    "VOID",
    "Augmentation",
    "Batch",
    "BatchSource",
    "ColourJitter",
    "DataSet",
    "DataSettings",
    "Drawn",
    "Finding",
    "Inspection",
    "Loader",
    "Normalization",
    "Resize",
    "SplitInspection",
    "apply",
    "conclude",
    "draw",
    "inspect",
    "look",
    "normalized",
    "open_data",
    "resized",
]
