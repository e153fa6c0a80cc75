"""`--export`: which members become files, what is printed, what is refused before anything runs."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pandas as pd
import pytest

from rcm import config, export
from rcm.compress import QAT, Adjust, Quantize, build_chain
from rcm.members import Members
from rcm.parity import Bound
from rcm.preparation import prepare
from rcm.report import page
from rcm.report.tables import LEDGER
from rcm.store import Store
from rcm.study_export import unquantized
from rcm.train import fit
from tests.commands import run_study


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(page, "all_figures", lambda *_: [])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_toy_study):
    """(a study that is run and exported, its report)."""
    study = make_toy_study()
    study.seeds, study.data.ratios, study.shift = 1, (4,), config.Shift()
    study.pipelines = (config.Pipeline("int 4/4", (Quantize(4, 4),)),)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        workdir = tmp_path_factory.mktemp("finished")
        patch.setattr(page, "all_figures", lambda *_: [])
        return study, run_study(study, workdir, export=("int 4/4",))


def test_the_first_member_of_a_pipeline_becomes_a_file(finished):
    study, report = finished
    note, path = sorted((report.parent / "export").iterdir(), key=lambda p: p.suffix)
    assert path.name == "int_4_4-r4-s0.stablehlo"
    assert note.name == f"{path.name}.json"
    plan, _ = prepare(study)
    members = Members(plan, Store(report.parent.parent))
    job = plan.jobs[plan.ends["int 4/4", 4, 0]]
    images = plan.dataset.test.images[:16]
    expected = fit.predict(job.program, members.state(job.fingerprint), images)
    found = jax.export.deserialize(bytearray(path.read_bytes())).call(images)
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())
    events = [json.loads(e) for e in (report.parent / "log.jsonl").read_text().splitlines()]
    (event,) = (event for event in events if event["event"] == "exported")
    assert event["path"] == str(path)
    assert event["accuracy"] == event["simulated"]


def test_report_only_exports_too_and_says_what(finished, capsys):
    study, report = finished
    run_study(study, report.parent.parent, export=("dense",), report_only=True)
    path = report.parent / "export" / "dense-r4-s0.stablehlo"
    said = capsys.readouterr().out
    assert f"Exported {path}: {path.stat().st_size:,} bytes, accuracy" in said
    assert "0.00% of labels differ" in said


def test_exported_bytes_stand_beside_the_ledger_while_the_file_is_as_it_was(finished, capsys):
    """A file of integers, too, which no converter made: the tables only read the notes."""
    study, report = finished
    folder, store = report.parent / "export", Store(report.parent.parent)
    for other in folder.glob("dense-*"):  # of other tests
        other.unlink()
    shown = (folder / "int_4_4-r4-s0.stablehlo").stat().st_size
    (folder / "int_4_4-r4-s0.int8.tflite").write_bytes(bytes(5000))
    note = json.loads((folder / "int_4_4-r4-s0.stablehlo.json").read_text())
    store.note_export(folder / "int_4_4-r4-s0.int8.tflite", {**note, "format": "int8"})
    store.note_export(folder / "int_4_4-r4-s0.stablehlo", {**note, "member": "another"})
    rows = reported(study, report)
    assert list(rows["format"]) == ["int8"]  # a file of another member is not this one's
    store.note_export(folder / "int_4_4-r4-s0.stablehlo", note)
    rows = reported(study, report)
    assert dict(zip(rows["format"], rows["bytes_exported"], strict=True)) == {
        "int8": 5000,
        "stablehlo": shown,
    }
    results = pd.read_parquet(report.with_name("results.parquet")).query("pipeline == 'int 4/4'")
    for name in LEDGER:
        (value,) = results[results["metric"] == name]["value"]
        assert (rows[name] == value).all()
    for file in (report, report.with_suffix(".md")):
        assert "TFLite int8" in file.read_text()
        assert f"{5000 / 1024:.1f}" in file.read_text()

    (folder / "int_4_4-r4-s0.int8.tflite").write_bytes(bytes(5001))
    capsys.readouterr()
    assert list(reported(study, report)["format"]) == ["stablehlo"]
    assert "int8.tflite was changed since it was exported" in capsys.readouterr().out.replace(
        "\n", " "
    )
    (folder / "int_4_4-r4-s0.int8.tflite.json").write_text("{}")
    (folder / "int_4_4-r4-s0.stablehlo").unlink()
    assert reported(study, report).empty
    assert "has no pipeline" in capsys.readouterr().out.replace("\n", " ")
    assert "Exported files" not in report.read_text()


def reported(study, report):
    """The table of exported files after `--report_only`."""
    run_study(study, report.parent.parent, report_only=True)
    return pd.read_csv(report.parent / "tables" / "exports.csv")


def test_a_refused_file_ends_the_command_with_a_sentence(finished, capsys, monkeypatch):
    study, report = finished
    whole = export.compare
    monkeypatch.setattr(export, "compare", lambda *parts: whole(*parts[:4], Bound(accuracy=-1)))
    with pytest.raises(ValueError, match="1 files were not written"):
        run_study(study, report.parent.parent, export=("dense",), report_only=True)
    assert "was not written, because it is not the simulated model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"export": ("prune5",)}, "Unknown pipeline to export 'prune5': did you mean 'prune50'"),
        ({"export": ("dense",), "export_formats": ("tflit",)}, "did you mean 'tflite'"),
        ({"export": ("qat",), "export_formats": ("int8",)}, "bit widths [4, 8] and a full-integer"),
        ({"export": ("edges",), "export_formats": ("int8",)}, "bit widths [4, 8] and a full-int"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported_is_refused_before_anything_runs(
    toy_study, tmp_path, monkeypatch, options, sentence
):
    monkeypatch.setattr(export, "TOOLS", ())
    others = (
        config.Pipeline("edges", (Quantize(edge_bits=4),)),
        config.Pipeline("qat", (QAT(4, 4),)),
    )
    toy_study.pipelines = (*toy_study.pipelines, *others)
    with pytest.raises(ValueError, match="export") as caught:
        run_study(toy_study, tmp_path / "runs", **options)
    assert sentence in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_absent_tools_are_named_before_anything_runs(toy_study, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TOOLS", ("no_such_package",))
    with pytest.raises(ValueError, match=r"no_such_package.*\[export\]"):
        run_study(toy_study, tmp_path / "runs", export=("dense",), export_formats=("tflite",))
    assert not (tmp_path / "runs").exists()


def test_the_float_model_of_an_adjusted_one_is_adjusted_too():
    """Else labels that the adjustment changes would count as changed by quantization, of which the
    parity gate allows a multiple."""
    model, image = config.Model(name="tiny", width=4), (8, 8, 3)
    techniques = (Quantize(activations="dynamic"), Adjust(1.0))
    program = fit.make_program(model, None, config.Train(), techniques, 3, image)
    network = fit.parts_of(program).model
    shapes = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, *image), np.float32))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    levels = (dict(techniques[0].levels(0)), dict(techniques[1].levels(0, [90, 9, 1])))
    begin = jax.jit(build_chain(techniques, network).init)
    states = begin(jax.random.key(1), variables, levels)
    member = SimpleNamespace(variables=variables, compression=states)
    found = unquantized(SimpleNamespace(program=program), member)["params"]
    np.testing.assert_allclose(found["head"]["bias"], -np.log([0.9, 0.09, 0.01]), rtol=1e-6)
