"""Sweeps: one file that says how several variants of one recipe differ.

name: drs_delta
base: ../voc6_drs.yaml
variants:
  - {name: delta_0.9, stages: [{id: drs, suppression: {delta: 0.9}}]}
  - {name: delta_0.5, stages: [{id: drs, suppression: {delta: 0.5}}]}
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from camshaft.engine.errors import RecipeError
from camshaft.engine.pipeline.recipe import VARIANTS, LoadedRecipe, Recipe, checked
from camshaft.engine.recipe.check import problems_of, report, suggestion
from camshaft.engine.recipe.compose import Chain, compose, read_chain
from camshaft.engine.recipe.merge import Node, document_of
from camshaft.engine.recipe.settings import Settings
from camshaft.engine.stages.evaluate import Evaluate

COLUMNS = "columns"
OF_A_VARIANT = ("name", "description")


class VariantSettings(Settings):
    """What a variant says of itself, beside its changes."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=40)
    """Names the variant in the table, and the folder of its records."""
    description: str = ""
    """What the variant is, for readers."""


class SweepSettings(Settings):
    """What a sweep's file says beside a recipe or the changes to its base."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)
    """Names the sweep's folder."""
    description: str = ""
    """What the sweep is for, for readers."""
    columns: tuple[str, ...] | None = Field(None, min_length=1)
    """The table's columns: STAGE for the mIoU of an evaluated stage, STAGE.FIGURE for a figure in its stage.json; null:
    every mIoU, and the accuracy of every stage that has one."""
    variants: tuple[VariantSettings, ...] = Field(min_length=1)
    """The variants, in the order of the table."""


@dataclass(frozen=True)
class Variant:
    """One recipe of a sweep."""

    name: str
    description: str
    loaded: LoadedRecipe


@dataclass(frozen=True)
class LoadedSweep:
    """A checked sweep: its recipes differ in what they compute."""

    name: str
    description: str
    origin: str
    columns: tuple[str, ...] | None
    variants: tuple[Variant, ...]


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> LoadedSweep:
    """Read a sweep's file and its bases, and check all its variants.

    Args:
        path: the file.
        overrides: `path=value` each, applied to every variant.

    Raises:
        RecipeError: a file can't be read, or anything in any variant is wrong; all problems in one message.
    """
    chain = read_chain(path, "a sweep is a mapping with the keys name, base and variants")
    if VARIANTS not in chain.files[-1].value:
        raise RecipeError(f"{path}: has no {VARIANTS}, so it is no sweep: camshaft run runs a recipe")
    for file in chain.files[:-1]:
        if VARIANTS in file.value:
            raise RecipeError(f"{file.file}: is a sweep, which can't be the base of another file")
    settings = _settings(chain)
    variants, problems = _variants(chain, settings, overrides)
    problems = problems or [*_alike(variants), *_column_problems(settings.columns or (), variants)]
    if problems:
        raise RecipeError(report(str(path), problems))
    return LoadedSweep(
        variants[0].loaded.recipe.name, settings.description, str(path), settings.columns, tuple(variants)
    )


def _settings(chain: Chain) -> SweepSettings:
    """The sweep's own keys, checked."""
    top = chain.files[-1]
    own = {name: node for name, node in top.value.items() if name in SweepSettings.model_fields}
    if isinstance(own[VARIANTS].value, list):
        own[VARIANTS] = Node([_own_part(node) for node in own[VARIANTS].value], top.file, own[VARIANTS].line)
    document = document_of(Node(own, top.file, top.line), chain.path)
    try:
        settings = SweepSettings.model_validate(document.value)
    except ValidationError as error:
        raise RecipeError(report(str(chain.path), problems_of(error, SweepSettings, document))) from None
    names = [variant.name for variant in settings.variants]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RecipeError(f"{chain.path}: variants: {twice[0]!r} stands more than once")
    return settings


def _own_part(variant: Node) -> Node:
    if not isinstance(variant.value, dict):
        return variant
    own = {name: node for name, node in variant.value.items() if name in OF_A_VARIANT}
    return Node(own, variant.file, variant.line)


def _variants(chain: Chain, settings: SweepSettings, overrides: Sequence[str]) -> tuple[list[Variant], list[str]]:
    """The variants that are right, and what is wrong with the others."""
    variants, problems = [], []
    for variant, node in zip(settings.variants, chain.files[-1].value[VARIANTS].value, strict=True):
        block = node.less(*OF_A_VARIANT)
        try:
            composed = compose(chain, overrides, block=block, own=(VARIANTS, COLUMNS))
            variants.append(Variant(variant.name, variant.description, checked(chain, composed)))
        except RecipeError as error:
            text = str(error).removeprefix(f"{chain.path}: ")
            problems.append(f"variants.{variant.name}: {text}")
    return variants, problems


def _alike(variants: Sequence[Variant]) -> list[str]:
    """Variants that ask for the same: an override may have undone the difference, or a key is mistaken."""
    seen: list[tuple[Recipe, str]] = []
    problems = []
    for variant in variants:
        recipe = variant.loaded.recipe.model_copy(update={"description": ""})
        same = next((name for other, name in seen if other == recipe), None)
        if same is not None:
            problems.append(f"variants.{variant.name}: asks for the same as {same}")
        seen.append((recipe, variant.name))
    return problems


def _column_problems(columns: Sequence[str], variants: Sequence[Variant]) -> list[str]:
    stages = [stage for variant in variants for stage in variant.loaded.recipe.stages]
    ids = list(dict.fromkeys(stage.id for stage in stages))
    evaluated = {name for stage in stages if isinstance(stage, Evaluate) for name in stage.of}
    problems = []
    for column in columns:
        stage, _, figure = column.partition(".")
        if stage not in ids:
            hint = suggestion(stage, ids, f" (there are {', '.join(ids)})")
            problems.append(f"columns.{column}: no variant has a stage {stage!r}{hint}")
        elif not figure and stage not in evaluated:
            problems.append(
                f"columns.{column}: {stage!r} is evaluated in no variant; STAGE.FIGURE names a figure of its own"
            )
    return problems
