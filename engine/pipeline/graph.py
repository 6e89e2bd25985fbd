"""The order of a recipe's stages, from the stages that each of them names."""

from collections.abc import Sequence

from camshaft.engine.recipe.check import suggestion
from camshaft.engine.stages.stage import Input, Stage


def problems(stages: Sequence[Stage], known_ids: Sequence[str]) -> list[str]:
    """Everything that is wrong with how stages name each other, a line each.

    Args:
        stages: the stages that are well-formed in themselves.
        known_ids: the ids of all stages of the recipe, those with errors of their own among them.
    """
    found = [
        f"stages.{name}: the id {name!r} stands more than once"
        for name in sorted(set(known_ids))
        if known_ids.count(name) > 1
    ]
    by_id = {stage.id: stage for stage in stages}
    for stage in stages:
        for field, reference, mark in stage.references():
            where = f"stages.{stage.id}.{field}"
            if reference in by_id:
                found += _misfit(where, stage, by_id[reference], mark.products)
            elif reference not in known_ids:
                hint = suggestion(reference, known_ids)
                found.append(f"{where}: there is no stage {reference!r}{hint} (there are {', '.join(known_ids)})")
        inputs = {name: by_id[name] for _, name, mark in stage.references() if _makes(by_id.get(name), mark)}
        found += [f"stages.{stage.id}.{misfit}" for misfit in stage.misfits(inputs)]
    if cycle := _cycle(stages):
        found.append(f"stages: {' → '.join(cycle)} is a cycle: each of them waits for the next")
    return found


def order(stages: Sequence[Stage]) -> list[Stage]:
    """The stages so that each comes after those it names; otherwise as the recipe has them.

    `problems` must have found nothing.
    """
    waiting = list(stages)
    done: set[str] = set()
    ordered: list[Stage] = []
    while waiting:
        ready = next(stage for stage in waiting if all(name in done for _, name, _ in stage.references()))
        waiting.remove(ready)
        done.add(ready.id)
        ordered.append(ready)
    return ordered


def _makes(made: Stage | None, mark: Input) -> bool:
    return made is not None and made.produces in mark.products


def _misfit(where: str, stage: Stage, made: Stage, accepted: tuple[str, ...]) -> list[str]:
    if made.produces not in accepted:
        return [f"{where}: {made.id!r} makes {made.produces}, but {' or '.join(accepted)} is needed here"]
    splits = made.made_splits()
    lacking = [] if splits is None else [split for split in stage.needed_splits() if split not in splits]
    if lacking:
        return [
            f"{where}: {made.id!r} works on {', '.join(splits or ())} only, but {', '.join(lacking)} is needed here; "
            f"add it to stages.{made.id}.splits"
        ]
    return []


def _cycle(stages: Sequence[Stage]) -> list[str] | None:
    """One cycle as ids, the first repeated at the end; None where there is none."""
    names = {stage.id: [reference for _, reference, _ in stage.references()] for stage in stages}
    finished: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in finished or name not in names:
            return None
        for reference in names[name]:
            if cycle := visit(reference, [*path, name]):
                return cycle
        finished.add(name)
        return None

    return next((cycle for name in names if (cycle := visit(name, []))), None)
