"""Metrics survive a kill, and a resume leaves each step once."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camshaft.engine.runtime.metrics import FILE, MetricsLog, read_metrics

tensorboard = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def log_steps(folder, steps, **options):
    with MetricsLog(folder, **{"tensorboard": False, **options}) as log:
        for step in steps:
            log.write(step, {"loss": step / 10})


def steps_in(folder):
    return [record["step"] for record in read_metrics(folder / FILE)]


def test_a_line_is_written_at_once(tmp_path):
    log = MetricsLog(tmp_path, tensorboard=False)
    log.write(1, {"loss": 0.5, "epoch": 0})
    assert json.loads((tmp_path / FILE).read_text()) == {"step": 1, "loss": 0.5, "epoch": 0}
    log.close()


@given(kept=st.integers(0, 8), cut=st.integers(1, 22))
def test_rewind_drops_later_records_and_a_line_cut_short(tmp_path_factory, kept, cut):
    folder = tmp_path_factory.mktemp("metrics")
    log_steps(folder, range(1, 9))
    data = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(data[:-cut])
    log = MetricsLog(folder, tensorboard=False)
    log.rewind(kept)
    log.write(kept + 1, {"loss": 1.0})
    log.close()
    # One line is about 22 bytes, so the cut takes the last line alone.
    assert steps_in(folder) == [*range(1, min(kept, 7) + 1), kept + 1]


def test_other_ranks_write_nothing(tmp_path):
    log = MetricsLog(tmp_path / "none", enabled=False)
    log.rewind(3)
    log.write(1, {"loss": 1.0})
    log.close()
    assert not (tmp_path / "none").exists()


def test_a_figure_that_json_has_no_word_for_is_refused(tmp_path):
    with MetricsLog(tmp_path, tensorboard=False) as log, pytest.raises(ValueError, match="JSON"):
        log.write(1, {"loss": float("nan")})


def test_tensorboard_shows_each_step_once_after_a_resume(tmp_path):
    log = MetricsLog(tmp_path)
    for step in range(1, 7):
        log.write(step, {"loss": 1.0, "name": "left out"})
    log.rewind(3)
    for step in range(4, 8):
        log.write(step, {"loss": 2.0})
    log.close()
    events = tensorboard.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss"]
    shown = [(event.step, event.value) for event in events.Scalars("loss")]
    assert shown == [(step, 1.0 if step <= 3 else 2.0) for step in range(1, 8)]
