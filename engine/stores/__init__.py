"""What stages hand to each other: class activation maps (`MapStore`) and label images (`MaskFolder`)."""

from camshaft.engine.stores.encoding import Encoding
from camshaft.engine.stores.layout import Layout, plan
from camshaft.engine.stores.masks import VOID, MaskFolder, voc_palette
from camshaft.engine.stores.reader import Maps, MapStore
from camshaft.engine.stores.writer import MapStoreWriter, finalize

__all__ = [
    "VOID",
    "Encoding",
    "Layout",
    "MapStore",
    "MapStoreWriter",
    "Maps",
    "MaskFolder",
    "finalize",
    "plan",
    "voc_palette",
]
