"""From a recipe's data settings to a data set."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from camshaft.engine.data.coco import CocoSettings, open_coco
from camshaft.engine.data.dataset import DataSet
from camshaft.engine.data.folder import FolderSettings, open_folder
from camshaft.engine.data.scenes import Scenes, ScenesSettings
from camshaft.engine.data.voc import VocSettings, open_voc

DataSettings = Annotated[VocSettings | CocoSettings | FolderSettings | ScenesSettings, Field(discriminator="kind")]


def open_data(settings: VocSettings | CocoSettings | FolderSettings | ScenesSettings, base: Path) -> DataSet:
    """Open the data set that a recipe names.

    Args:
        settings: the recipe's `data`.
        base: the recipe's folder, which relative roots start from.

    Raises:
        DataError: the data are not what the settings say; the message names file and line.
    """
    match settings:
        case VocSettings():
            return open_voc(settings, base)
        case CocoSettings():
            return open_coco(settings, base)
        case FolderSettings():
            return open_folder(settings, base)
        case ScenesSettings():
            return Scenes(settings)
