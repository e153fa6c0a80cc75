"""What a page says about the run behind it."""

from rcm.reporting import versions


def test_versions_of_all_rounds_are_told():
    first = {"source": "abc", "environment": {"jax": "0.10.2", "devices": 2}}
    second = {"source": "abc", "environment": {"jax": "0.11.2", "devices": 2}}
    assert versions([first, second, first]) == {
        "rcm source": "abc",
        "jax": "0.10.2 and 0.11.2",
        "devices": "2",
    }
