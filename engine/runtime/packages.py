"""What installed packages offer, by import path; a module that merely lies in the working folder is not taken."""

import functools
import importlib
import importlib.util
import json
from collections.abc import Callable
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from camshaft.engine.errors import RecipeError

IMPORT_PATH = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
"""package.module:name, or package.module:Class.method."""


def import_installed(path: str, folder: Path) -> Callable[..., Any]:
    """The function or class that `path` (see `IMPORT_PATH`) names, defined by an installed package.

    Args:
        path: where it is.
        folder: the recipe's folder, in which nothing counts as installed; nor does anything in the working folder.

    Raises:
        RecipeError: the package is not installed or can't be imported, has no such name, or the name is no function or
            class of that package.
    """
    module_name, _, name = path.partition(":")
    package = module_name.partition(".")[0]
    _check_installed(package, folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise RecipeError(f"{path}: there is no module {error.name!r}") from None
    except Exception as error:  # whatever a foreign module does when it is imported
        raise RecipeError(f"{path}: {module_name} can't be imported: {type(error).__name__}: {error}") from error
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            raise RecipeError(f"{path}: {module_name} has no {name!r}{_offers(module)}")
        value = getattr(value, part)
    if not callable(value):
        raise RecipeError(f"{path}: is a {type(value).__name__}, not a function or class")
    home = str(getattr(value, "__module__", None) or package)
    if home.partition(".")[0] != package:
        raise RecipeError(f"{path}: comes from {home}, not from {package}; name it there")
    checked: Callable[..., Any] = value
    return checked


def versions_of(package: str) -> tuple[str, ...]:
    """The distributions that bring an importable package, as "name version"; none where it is not installed."""
    return tuple(f"{found.name} {found.version}" for found in _distributions(package))


@functools.cache
def _distributions(package: str) -> tuple[Distribution, ...]:
    found = []
    for name in sorted(set(packages_distributions().get(package, ()))):
        try:
            found.append(distribution(name))
        except PackageNotFoundError:
            continue
    return tuple(found)


def _check_installed(package: str, folder: Path) -> None:
    """Fail unless what would be imported under the name `package` is what a distribution has installed."""
    here = {folder.resolve(), Path.cwd()}
    installed = [found for found in _distributions(package) if _place(found) not in here]
    if not installed:
        raise RecipeError(f"no installed package has {package!r}; backbones come from installed packages only")
    spec = find_spec(package)
    if spec is None:
        raise RecipeError(f"{package!r} is installed but can't be found: the search path for modules lacks its folder")
    origins = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    for origin in map(Path, origins):
        if not any(_brings(found, origin.resolve()) for found in installed):
            names = ", ".join(found.name for found in installed)
            raise RecipeError(f"{origin} hides the installed package {names}; rename it or work in another folder")


def _brings(found: Distribution, origin: Path) -> bool:
    """True if the file `origin` lies where the distribution is installed, or in its project, if that is editable."""
    if origin.is_relative_to(_place(found)):
        return True
    try:
        direct = json.loads(found.read_text("direct_url.json") or "{}")
    except json.JSONDecodeError:
        return False
    if not direct.get("dir_info", {}).get("editable"):
        return False
    return origin.is_relative_to(Path(unquote(urlparse(direct["url"]).path)).resolve())


def _place(found: Distribution) -> Path:
    return Path(str(found.locate_file(""))).resolve()


def _offers(module: Any) -> str:
    names = [name for name in getattr(module, "__all__", ()) if callable(getattr(module, name, None))]
    return f"; it has {', '.join(names[:20])}" + (" and more" if len(names) > 20 else "") if names else ""
