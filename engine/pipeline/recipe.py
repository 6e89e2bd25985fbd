"""The recipe as a whole: one data set and the stages of one full run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from camshaft.engine.data import DataSettings
from camshaft.engine.errors import RecipeError
from camshaft.engine.pipeline import graph
from camshaft.engine.recipe.check import problems_of, report
from camshaft.engine.recipe.compose import Chain, Composed, compose, read_chain
from camshaft.engine.recipe.paths import moved
from camshaft.engine.recipe.settings import Settings, runtime_field
from camshaft.engine.recipe.yaml import Document
from camshaft.engine.runtime.precision import PrecisionName
from camshaft.engine.stages.affinity import Affinity
from camshaft.engine.stages.classify import Classify
from camshaft.engine.stages.crf import Crf
from camshaft.engine.stages.erase import Erase
from camshaft.engine.stages.erase_and_infer import EraseAndInfer
from camshaft.engine.stages.evaluate import Evaluate
from camshaft.engine.stages.labels import Labels
from camshaft.engine.stages.maps import InferMaps
from camshaft.engine.stages.predict import Predict
from camshaft.engine.stages.refine import Refine
from camshaft.engine.stages.segment import Segment
from camshaft.engine.stages.stage import Stage
from camshaft.engine.stages.walk import Walk

AnyStage = Annotated[
    Classify
    | Erase
    | Refine
    | InferMaps
    | EraseAndInfer
    | Crf
    | Affinity
    | Walk
    | Labels
    | Segment
    | Predict
    | Evaluate,
    Field(discriminator="kind"),
]

VARIANTS = "variants"
"""The key that makes a file a sweep: `camshaft.engine.pipeline.variants`."""


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
    rank_timeout_minutes: float = runtime_field(30.0, gt=0, le=10_000)
    """With several ranks: how long all wait for one that does not come to where they meet, before the run ends and
    names it. Longer than the slowest block of work, or checkpoint, of one rank."""
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
    """A checked recipe and where it comes from."""

    recipe: Recipe
    base: Path
    """The folder from which its relative paths start: that of the file that has no base."""
    origin: str
    """The file that was asked for, as it was asked for."""
    files: tuple[str, ...] = ()
    """All its files, the one that has no base first."""
    preset: str | None = None
    """The preset that it took."""


def load(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read a recipe file and its bases, take its preset, override and check it.

    Raises:
        RecipeError: a file can't be read, or anything in it is wrong; all problems in one message.
    """
    chain = read_chain(path)
    for file in chain.files:
        if VARIANTS in file.value:
            raise RecipeError(f"{file.file}: is a sweep, for it has {VARIANTS}: camshaft sweep runs those")
    return checked(chain, compose(chain, overrides))


def checked(chain: Chain, composed: Composed) -> LoadedRecipe:
    """The recipe that files and overrides made, checked, its paths as its first file's folder sees them.

    Raises:
        RecipeError: anything in it is wrong; all problems in one message.
    """
    origin, start = chain.path, chain.files[0].file.resolve().parent
    recipe = _checked(composed.document, str(origin))
    files = tuple(str(file.file) for file in chain.files)
    return LoadedRecipe(
        moved(recipe, composed.document, origin, start), start, str(origin), files=files, preset=composed.preset
    )


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
