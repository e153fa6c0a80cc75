"""Bits of a whole study, as users get them: alone or together, from the device or streamed."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from rcm import config
from rcm.progress import Display
from rcm.report import page
from rcm.store import Store
from rcm.study import Options, execute

pytestmark = pytest.mark.optimized


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(study) -> its results and its store, without figures."""

    def run(study):
        workdir = tmp_path_factory.mktemp("runs")
        with Display() as display:
            path = execute(study, Options(workdir=str(workdir), lanes=2), display)
        return pd.read_parquet(path.parent / "results.parquet"), Store(workdir)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setattr(page, "all_figures", lambda *_: [])
        yield run


@pytest.fixture(scope="module")
def study(make_toy_study):
    """Two seeds at two ratios, dense, fine-tuned and pruned, without shifts."""
    study = make_toy_study()
    return dataclasses.replace(study, pipelines=study.pipelines[:1], shift=config.Shift())


@pytest.fixture(scope="module")
def population(run, study):
    return run(study)


def test_a_member_alone_equals_the_member_in_its_population(run, study, population):
    data = dataclasses.replace(study.data, ratios=(4,))
    mine, _ = run(dataclasses.replace(study, seeds=1, data=data))
    everyone, _ = population
    theirs = everyone[(everyone.seed == 0) & (everyone.ratio == 4)]
    keys = ["pipeline", "metric", "cls", "shift"]
    mine, theirs = (f.set_index(keys).value.sort_index() for f in (mine, theirs))
    # groups are read off the largest ratio of a study, which is the same here
    pd.testing.assert_series_equal(mine, theirs, check_exact=True)


def test_stream_and_device_feed_give_the_same_bits(run, study, population):
    streamed = dataclasses.replace(study, data=dataclasses.replace(study.data, feed="stream"))
    (device, one), (stream, two) = population, run(streamed)
    pd.testing.assert_frame_equal(device, stream, check_exact=True)
    fingerprints = one.index()
    assert fingerprints.keys() == two.index().keys()
    for chunk in {place.chunk for place in fingerprints.values()}:
        mine, theirs = (store.load_chunk(chunk) for store in (one, two))
        for name in mine:
            np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)
