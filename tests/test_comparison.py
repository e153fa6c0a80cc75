"""Real run folders side by side and predictions alone, by the command a user types."""

import sys

import numpy as np
import pandas as pd
import pytest
from absl.testing import flagsaver

import launch
from rcm import comparison, config
from rcm.progress import Display
from rcm.report import page
from rcm.study import Options, execute


@pytest.fixture(scope="module")
def runs(toy_file, tmp_path_factory):
    """Run folders of two studies that differ in one number."""
    found = []
    for rate in (0.1, 0.2):
        study = config.Study(
            name="tiny", seeds=2, data=config.Data(name=str(toy_file)),
            model=config.Model(name="tiny", width=4),
            train=config.Train(steps=1, batch=8, learning_rate=rate, schedule="constant",
                               warmup_epochs=0, augment="none"),
        )  # fmt: skip
        workdir = tmp_path_factory.mktemp("workdir")
        with pytest.MonkeyPatch.context() as patch, Display() as display:
            patch.setattr(page, "all_figures", lambda *_: [])
            found.append(execute(study, Options(workdir=str(workdir), lanes=2), display).parent)
    return found


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["launch.py", *map(str, arguments)])
    with flagsaver.flagsaver():
        launch.main(launch.parse(sys.argv))


def refuse(*arguments):
    with Display() as display:
        return comparison.execute(arguments, "runs", "command", display)


@pytest.mark.filterwarnings("ignore:the load_module.*:DeprecationWarning")  # of ml_collections
def test_two_runs_by_the_command(runs, tmp_path, monkeypatch, capsys):
    """B's workdir and flags may stand anywhere; the change is that of the runs' own tables."""
    command(monkeypatch, "--compare", runs[0], runs[1], f"--workdir={tmp_path}")
    base = tmp_path / f"compare-{runs[0].name}-{runs[1].name}"
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Comparison: {base}.html" in shown
    assert "train.learning_rate 0.1 0.2" in shown
    table = pd.read_csv(f"{base}.csv")
    means = [
        pd.read_csv(run / "tables" / "main.csv").query("quantity == 'accuracy'")["mean"].item()
        for run in runs
    ]
    (change,) = table[table["quantity"] == "accuracy"].itertuples()
    assert (change.a, change.b) == (pytest.approx(means[0]), pytest.approx(means[1]))
    assert (change.test, change.n) == ("paired", 2)
    assert "train.learning_rate" in (tmp_path / f"{base.name}.md").read_text()
    command(monkeypatch, f"--compare={runs[0]},{runs[1]}", f"--workdir={tmp_path / 'other'}")
    assert (tmp_path / "other" / f"{base.name}.csv").read_bytes() == (
        tmp_path / f"{base.name}.csv"
    ).read_bytes()


@pytest.mark.filterwarnings("ignore:the load_module.*:DeprecationWarning")  # of ml_collections
def test_predictions_by_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(page, "all_figures", lambda *_: [])
    true = np.array([0, 0, 1, 1])
    np.savez(tmp_path / "labels.npz", labels=true)
    for name, answers in (("dense", true), ("pruned", true[::-1])):
        kind = "dense" if name == "dense" else "trained"
        model = {"pipeline": name, "kind": kind, "seed": 0, "label/clean": answers}
        np.savez(tmp_path / f"{name}.npz", **model)
    command(monkeypatch, f"--analyse={tmp_path}", "--workdir", tmp_path / "runs")
    (report,) = (tmp_path / "runs").glob("*/report.html")
    assert f"Report: {report}" in capsys.readouterr().out
    frame = pd.read_parquet(report.with_name("results.parquet"))
    found = frame[frame["metric"] == "accuracy"].set_index("pipeline")["value"]
    assert found.to_dict() == {"dense": 1.0, "pruned": 0.0}


def test_runs_of_older_versions_are_read(runs, tmp_path):
    """Without run.json, all pipelines come from the dense parent."""
    for name in comparison.FILES:
        (tmp_path / name).write_bytes((runs[0] / name).read_bytes())
    old, new = (comparison.read_side(path, "run") for path in (tmp_path, runs[0]))
    assert [p.name for p in old.run.pipelines] == [p.name for p in new.run.pipelines]
    assert new.run.data
    assert new.hardware
    assert (old.run.data, old.hardware) == ("", "")


def test_what_is_no_run_folder_is_one_sentence(runs, tmp_path):
    good, other = str(runs[0]), tmp_path / "other"
    with pytest.raises(ValueError, match="takes two run folders, A and B, but 1 were given"):
        refuse(good)
    with pytest.raises(ValueError, match=r"^Both runs are .*: name two folders"):
        refuse(good, f"{good}/")
    with pytest.raises(ValueError, match="is no run folder: expected config"):
        refuse(good, str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=f"name a run folder in it, such as {runs[0].name}"):
        refuse(good, str(runs[0].parent))
    other.mkdir()
    (other / "config.json").write_text("{}")
    (other / "results.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"other cannot be read .*: make its report again"):
        refuse(good, str(other))
    pd.DataFrame({"dataset": ["a"]}).to_parquet(other / "results.parquet")
    with pytest.raises(ValueError, match="holds results of another version: the results"):
        refuse(good, str(other))
    frame = pd.read_parquet(runs[0] / "results.parquet").assign(pipeline="strange")
    frame.to_parquet(other / "results.parquet")
    with pytest.raises(ValueError, match="the two runs have nothing in common"):
        refuse(good, str(other))
    (other / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"cannot be read \(config.json or run.json holds no obj"):
        refuse(good, str(other))
