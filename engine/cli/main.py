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
    _add_running(run)
    run.set_defaults(command=_run)

    sweep = commands.add_parser("sweep", help="run all variants of a recipe; what they share is computed once")
    _add_recipe(sweep, "SWEEP", "a sweep's file (YAML)")
    _add_running(sweep)
    sweep.set_defaults(command=_sweep)

    show = commands.add_parser("show", help="check a recipe; print it with all defaults and its stages' order")
    _add_recipe(show)
    show.set_defaults(command=_show)

    schema = commands.add_parser("schema", help="print the JSON schema of recipes, for editors")
    schema.set_defaults(command=_schema)

    report = commands.add_parser("report", help="write the HTML report of a run again")
    report.add_argument("run", type=Path, metavar="RUN_DIR", help="the run's folder")
    report.add_argument("--images", type=int, default=12, metavar="N", help="images in the gallery (default: 12)")
    report.set_defaults(command=_report)

    weights = commands.add_parser("weights", help="pretrained weights: convert those of other programs")
    actions = weights.add_subparsers(title="actions", required=True, metavar="ACTION")
    convert = actions.add_parser("convert", help="check weights against a backbone and write them as safetensors")
    convert.add_argument("source", type=Path, metavar="SOURCE", help=".params (MXNet), .pth, .pt or .safetensors")
    convert.add_argument("target", type=Path, metavar="TARGET", help="the file to write, .safetensors")
    convert.add_argument("--backbone", required=True, metavar="NAME", help="whose weights they are, as in recipes")
    convert.set_defaults(command=_convert_weights)

    _add_figures(commands.add_parser("figure", help="draw a figure of a run or a sweep as a PNG"))

    doctor = commands.add_parser("doctor", help="say what this machine has and what is missing")
    doctor.set_defaults(command=_doctor)
    return root


def _add_recipe(command: argparse.ArgumentParser, metavar: str = "RECIPE", words: str = "a recipe file (YAML)") -> None:
    command.add_argument("recipe", type=Path, metavar=metavar, help=words)
    command.add_argument(
        "overrides",
        nargs="*",
        metavar="PATH=VALUE",
        help="change a value, as in stages.cgnet.epochs=5, or take another preset, as in preset=official",
    )


def _add_running(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="the run's folder (default: runs/NAME, NAME as the file says)"
    )
    command.add_argument(
        "--dry-run", action="store_true", help="check the recipe, its data's lists and its stages; say what would run"
    )
    command.add_argument("--verbose", action="store_true", help="let the libraries below log too")


def _add_figures(figure: argparse.ArgumentParser) -> None:
    kinds = figure.add_subparsers(title="figures", required=True, metavar="KIND")
    maps = kinds.add_parser("maps", help="maps and masks of several stages side by side, an image a row")
    maps.add_argument("--stages", nargs="+", required=True, metavar="STAGE", help="stages with maps or masks, in order")
    maps.add_argument("--truth", action="store_true", help="show the ground-truth masks too")

    variants = kinds.add_parser("variants", help="one stage of all variants of a sweep side by side, an image a row")
    variants.add_argument("--stage", required=True, help="a stage with maps or masks")
    variants.add_argument("--variants", nargs="+", metavar="NAME", help="which variants, in order (default: all)")
    variants.add_argument("--truth", action="store_true", help="show the ground-truth masks too")

    features = kinds.add_parser("features", help="mean feature map of each layer, a row for each network and image")
    features.add_argument("--networks", nargs="+", required=True, metavar="STAGE", help="stages with a network")
    features.add_argument("--layers", nargs="+", metavar="LAYER", help="which layers, in order (default: all)")
    features.add_argument(
        "--unsuppressed", action="store_true", help="show networks with suppression again, with it switched off"
    )

    rounds = kinds.add_parser("rounds", help="erase-and-infer: what is left and what is found, round after round")
    rounds.add_argument("--stage", required=True, help="an erase_and_infer stage")

    balance = kinds.add_parser(
        "balance", help="what a guide says as an erasing mask shrinks and grows; also CSV and SVG"
    )
    balance.add_argument("--stage", required=True, help="an erase stage")
    balance.add_argument("--image", required=True, metavar="ID", help="id of the image")
    balance.add_argument("--target", required=True, metavar="CLASS", help="the class that is erased, one of its tags")

    figures = {"maps": maps, "variants": variants, "features": features, "rounds": rounds, "balance": balance}
    for name, kind in figures.items():
        kind.add_argument("run", type=Path, metavar="RUN_DIR", help="the run's folder")
        if kind is not balance:
            kind.add_argument("--images", nargs="+", metavar="ID", help="images' ids (default: three, chosen by tags)")
        kind.add_argument("--split", default="val", choices=("train", "val"), help="of which split (default: val)")
        kind.add_argument("--sweep", metavar="NAME", help="which sweep, where the folder holds several")
        if kind is not variants:
            kind.add_argument("--variant", metavar="NAME", help="the variant of a sweep that is meant")
        kind.add_argument("--out", type=Path, metavar="FILE", help=f"the PNG (default: RUN_DIR/figures/{name}.png)")
        kind.set_defaults(command=_figure, figure=name)


def _run(options: argparse.Namespace) -> int:
    from camshaft.engine.cli.run import plan_command, run_command  # noqa: PLC0415

    if options.dry_run:
        return plan_command(options.recipe, options.overrides, options.out)
    return run_command(options.recipe, options.overrides, options.out, verbose=options.verbose)


def _sweep(options: argparse.Namespace) -> int:
    from camshaft.engine.cli.sweep import plan_sweep_command, sweep_command  # noqa: PLC0415

    if options.dry_run:
        return plan_sweep_command(options.recipe, options.overrides, options.out)
    return sweep_command(options.recipe, options.overrides, options.out, verbose=options.verbose)


def _show(options: argparse.Namespace) -> int:
    from camshaft.engine.cli.show import show_command  # noqa: PLC0415

    return show_command(options.recipe, options.overrides)


def _schema(_options: argparse.Namespace) -> int:
    from camshaft.engine.cli.show import schema_command  # noqa: PLC0415

    return schema_command()


def _report(options: argparse.Namespace) -> int:
    from camshaft.engine.cli.run import report_command  # noqa: PLC0415

    return report_command(options.run, options.images)


def _convert_weights(options: argparse.Namespace) -> int:
    from camshaft.engine.cli.weights import convert_command  # noqa: PLC0415

    return convert_command(options.source, options.target, options.backbone)


def _figure(options: argparse.Namespace) -> int:
    from camshaft.engine.cli.figure import figure_command  # noqa: PLC0415

    return figure_command(options)


def _doctor(_options: argparse.Namespace) -> int:
    from camshaft.engine.cli.doctor import doctor_command  # noqa: PLC0415

    return doctor_command()
