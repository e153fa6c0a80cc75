"""Strict by default: silent broadcasting raises, warnings are errors (pyproject), no network."""

import os
import pathlib
import socket

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


def pytest_configure():
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A test that opens an internet connection fails; local sockets stay allowed."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in (
            "127.0.0.1",
            "::1",
            "localhost",
        ):
            raise AssertionError(f"a test tried to reach the network: {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def shared():
    """The folder of reference data beside the project; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no reference data folder beside the project ({SHARED.name}/ is absent)")
    return SHARED
