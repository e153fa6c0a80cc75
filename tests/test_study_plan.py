"""What `--dry_run` prints, and that it leaves nothing behind."""

import jax
import pytest

from rcm import study as study_module
from rcm.estimate import Cost
from tests.commands import run_study


def test_dry_run_prints_the_plan_and_writes_nothing(toy_study, tmp_path, capsys):
    assert run_study(toy_study, tmp_path / "runs", dry_run=True) is None
    shown = capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    for word in ("prune 50%", "estimated", "MB", "member"):
        assert word in shown


@pytest.mark.parametrize("idle", [0, 1])
def test_the_plan_says_which_devices_stay_idle(toy_study, tmp_path, capsys, idle):
    """A member on each device, and one member fewer."""
    devices = jax.local_device_count()
    toy_study.seeds, toy_study.data.ratios = devices - idle, (1,)
    run_study(toy_study, tmp_path / "runs", dry_run=True, lanes=0)
    shown = " ".join(capsys.readouterr().out.split())
    told = f"{idle} of {devices} devices stay idle: no stage has more than {devices - idle} member"
    assert (told in shown) == ("stay idle" in shown) == bool(idle)


@pytest.mark.parametrize(
    ("seconds", "words"), [(145, "about 2.4 min"), (3540, "about 59.0 min"), (9000, "about 2.5 h")]
)
def test_the_plan_says_how_long_an_accelerator_would_take(
    toy_study, tmp_path, capsys, monkeypatch, seconds, words
):
    monkeypatch.setattr(study_module, "total_cost", lambda *_: Cost(seconds, 0))
    run_study(toy_study, tmp_path / "runs", dry_run=True)
    assert f"On one NVIDIA H200 {words}," in " ".join(capsys.readouterr().out.split())
