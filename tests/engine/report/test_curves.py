import json

from camshaft.engine.report.curves import sweep_chart, training_curves
from camshaft.engine.report.records import read_run


def log(folder, *lines):
    (folder / "metrics.jsonl").write_text(
        "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    )


def charts(builder):
    return training_curves(read_run(builder.finish()))


def test_one_chart_a_figure_loss_and_learning_rate_first(builder):
    builder.training("ordinary", "classify", steps=3)
    training = charts(builder)[0]
    assert [chart.title for chart in training.learnt] == ["loss", "learning rate", "accuracy"]
    assert [chart.title for chart in training.running] == ["gradient norm", "images per second"]


def test_only_trainings_have_curves(builder):
    log(builder.stage("maps", "maps", {}), {"step": 1, "loss": 1})
    assert charts(builder) == ()


def test_a_line_that_was_cut_and_values_that_are_no_figures_are_left_out(builder):
    folder = builder.stage("ordinary", "classify", {})
    log(
        folder,
        {"step": 2, "epoch": 0, "loss": 0.5, "phase": "warm", "frozen": True, "weight": None},
        {"step": 1, "epoch": 0, "loss": 0.75},
        {"epoch": 0, "loss": 99},
        '{"step": 3, "loss": 0.2',
    )
    (training,) = charts(builder)
    assert [chart.title for chart in training.learnt] == ["loss"]
    assert training.learnt[0].words == "loss: 0.75 at step 1, 0.5 at step 2, lowest 0.5, highest 0.75"


def test_sweeps_of_all_maps_in_one_chart_with_fixed_and_best_thresholds(builder):
    builder.maps("one", 4, 0.4)
    builder.maps("two", 10, 0.5)
    builder.masks("labels", "labels", 0.5)
    builder.evaluate()
    chart = sweep_chart(read_run(builder.finish()))
    assert chart is not None
    assert [line.name for line in chart.lines] == ["one", "two"]
    assert [mark.words for mark in chart.lines[0].marks] == [
        "one: 41.3 at the fixed threshold 0.3",
        "one: best 42.0 at 0.24, found on ground truth",
    ]
    assert [guide.label for guide in chart.guides] == ["fixed: 0.3"]


def test_a_fixed_threshold_outside_the_sweep_is_not_marked(builder):
    sweep = {"thresholds": [0.1, 0.2], "miou": [0.4, None], "best_threshold": 0.1, "best_miou": 0.4}
    builder.evaluated("a", "a", "maps", 0.3, threshold=0.7, sweep=sweep)
    builder.evaluate()
    chart = sweep_chart(read_run(builder.finish()))
    assert chart is not None
    assert [mark.hollow for mark in chart.lines[0].marks] == [True]
    assert chart.guides == ()


def test_no_sweep_no_chart(builder):
    builder.evaluated("a", "a", "maps", 0.3, threshold=0.7)
    builder.evaluate()
    assert sweep_chart(read_run(builder.finish())) is None
