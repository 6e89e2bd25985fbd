"""The commands. Each imports what it needs when it runs, so that --help answers at once."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import camshaft
from camshaft.engine.errors import CamshaftError
from camshaft.kernels.choice import Unavailable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the process's exit code.

    A user's mistake is one clear message on standard error, without a traceback.
    """
    grammar = parser()
    options, rest = grammar.parse_known_args(arguments)
    # argparse takes no further PATH=VALUE once an option has followed the first ones.
    if rest and not (hasattr(options, "overrides") and all("=" in text and text[0] != "-" for text in rest)):
        grammar.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    try:
        return int(options.command(options))
    except CamshaftError as error:
        print(f"camshaft: {error}", file=sys.stderr)  # noqa: T201 - the command line's own output
        return error.exit_code
    except Unavailable as error:  # a recipe asked for an implementation by name
        print(f"camshaft: {error}", file=sys.stderr)  # noqa: T201 - the command line's own output
        return CamshaftError.exit_code
    except BrokenPipeError:  # the reader of the output has gone, as in `camshaft show … | head`
        sys.stderr.close()
        return 0


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    root = argparse.ArgumentParser(
        prog="camshaft", description="From image-level tags to segmentation masks and a segmentation network."
    )
    root.add_argument("--version", action="version", version=f"camshaft {camshaft.__version__}")
    # The deepspeed launcher puts this before the command; the rank is taken from the environment instead.
    root.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a recipe; a run that was stopped goes on, one that is complete says so")
    _add_recipe(run)
    run.add_argument(
        "--out", type=Path, metavar="DIR", help="the run's folder (default: runs/NAME, NAME as the recipe says)"
    )
    run.add_argument(
        "--dry-run", action="store_true", help="check the recipe, its data's lists and its stages; say what would run"
    )
    run.add_argument("--verbose", action="store_true", help="let the libraries below log too")
    run.set_defaults(command=_run)

    show = commands.add_parser("show", help="check a recipe; print it with all defaults and its stages' order")
    _add_recipe(show)
    show.set_defaults(command=_show)

    schema = commands.add_parser("schema", help="print the JSON schema of recipes, for editors")
    schema.set_defaults(command=_schema)

    report = commands.add_parser("report", help="write the HTML report of a run again")
    report.add_argument("run", type=Path, metavar="RUN_DIR", help="the run's folder")
    report.add_argument("--images", type=int, default=12, metavar="N", help="images in the gallery (default: 12)")
    report.set_defaults(command=_report)

    doctor = commands.add_parser("doctor", help="say what this machine has and what is missing")
    doctor.set_defaults(command=_doctor)
    return root


def _add_recipe(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipe", type=Path, metavar="RECIPE", help="a recipe file (YAML)")
    command.add_argument(
        "overrides", nargs="*", metavar="PATH=VALUE", help="change a value, as in stages.cgnet.epochs=5"
    )


def _run(options: argparse.Namespace) -> int:
    from camshaft.engine.cli.run import plan_command, run_command  # noqa: PLC0415

    if options.dry_run:
        return plan_command(options.recipe, options.overrides, options.out)
    return run_command(options.recipe, options.overrides, options.out, verbose=options.verbose)


def _show(options: argparse.Namespace) -> int:
    from camshaft.engine.cli.show import show_command  # noqa: PLC0415

    return show_command(options.recipe, options.overrides)


def _schema(_options: argparse.Namespace) -> int:
    from camshaft.engine.cli.show import schema_command  # noqa: PLC0415

    return schema_command()


def _report(options: argparse.Namespace) -> int:
    from camshaft.engine.cli.run import report_command  # noqa: PLC0415

    return report_command(options.run, options.images)


def _doctor(_options: argparse.Namespace) -> int:
    from camshaft.engine.cli.doctor import doctor_command  # noqa: PLC0415

    return doctor_command()
