"""The recipe as a whole: one data set and the stages of one full run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from camshaft.engine.data import DataSettings
from camshaft.engine.errors import RecipeError
from camshaft.engine.pipeline import graph
from camshaft.engine.recipe import overrides as dotted
from camshaft.engine.recipe.check import problems_of, report
from camshaft.engine.recipe.settings import Settings
from camshaft.engine.recipe.yaml import Document, parse
from camshaft.engine.runtime.precision import PrecisionName
from camshaft.engine.stages.classify import Classify
from camshaft.engine.stages.crf import Crf
from camshaft.engine.stages.erase import Erase
from camshaft.engine.stages.evaluate import Evaluate
from camshaft.engine.stages.labels import Labels
from camshaft.engine.stages.maps import InferMaps
from camshaft.engine.stages.predict import Predict
from camshaft.engine.stages.segment import Segment
from camshaft.engine.stages.stage import Stage

AnyStage = Annotated[
    Classify | Erase | InferMaps | Crf | Labels | Segment | Predict | Evaluate, Field(discriminator="kind")
]


class Recipe(Settings):
    """One full run, from tags to masks."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)
    """Names the run's folder."""
    description: str = ""
    """What the run is for, for readers; printed in the report."""
    seed: int = Field(0, ge=0)
    """All randomness of the run derives from it."""
    data: DataSettings
    """The data set."""
    precision: PrecisionName = "auto"
    """Arithmetic of the networks: auto takes bf16 where the hardware computes in it, else fp32."""
    stages: tuple[AnyStage, ...] = Field(min_length=1)
    """The stages; their order follows from the stages that each of them names."""

    @model_validator(mode="after")
    def _stages_fit(self) -> "Recipe":
        found = graph.problems(self.stages, [stage.id for stage in self.stages])
        if found:
            raise ValueError("\n".join(found))
        return self

    def ordered(self) -> list[Stage]:
        """The stages in the order in which they run."""
        return graph.order(self.stages)


@dataclass(frozen=True)
class LoadedRecipe:
    """A checked recipe and the folder from which its relative paths start."""

    recipe: Recipe
    base: Path
    origin: str


def load(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read, override and check a recipe file.

    Raises:
        RecipeError: the file can't be read, or anything in it is wrong; all problems in one message.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: is not a UTF-8 text file") from None
    document = parse(text, str(path))
    if not isinstance(document.value, dict):
        raise RecipeError(f"{path}: a recipe is a mapping with the keys name, data and stages")
    for override in overrides:
        dotted.apply(document.value, override)
    return LoadedRecipe(_checked(document, str(path)), path.resolve().parent, str(path))


def _checked(document: Document, origin: str) -> Recipe:
    try:
        return Recipe.model_validate(document.value)
    except ValidationError as error:
        found = problems_of(error, Recipe, document)
    raise RecipeError(report(origin, list(dict.fromkeys(found + _graph_problems(document.value)))))


def _graph_problems(value: dict[str, Any]) -> list[str]:
    """What is wrong between the stages that are well-formed, while others or the rest of the recipe are not."""
    raw = value.get("stages")
    if not isinstance(raw, list):
        return []
    adapter: TypeAdapter[Stage] = TypeAdapter(AnyStage)
    stages: list[Stage] = []
    for item in raw:
        try:
            stages.append(adapter.validate_python(item))
        except ValidationError:
            continue
    return graph.problems(stages, [str(item["id"]) for item in raw if isinstance(item, dict) and "id" in item])
