"""The Ray that runs are executed on: one that is there, or one of this machine that comes and goes with them."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from spectral_reach.studies.engines.errors import EngineRefusedError
from spectral_reach.studies.engines.resources import available_cores

_OBJECT_STORE = 100 * 2**20
"""Bytes; nothing but paths, progress and reasons goes through it."""
_SECONDS_TO_ANSWER = 10.0
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}

log = logging.getLogger(__name__)


def require_ray() -> None:
    """Find out before anything is written that Ray is missing.

    Raises:
        ModuleNotFoundError: it is; the message names the extra that brings it.
    """
    if find_spec("ray") is None:
        raise ModuleNotFoundError(
            'ray is not installed. It comes with: pip install "spectral-reach[ray]"; or use the local engine.',
            name="ray",
        )


@contextmanager
def connected(address: str | None, *, cpus: float, gpus: float | None) -> Iterator[float]:
    """Connected to the Ray that this process is connected to, else to that at ``address``, else to one of its own.

    ``cpus`` and ``gpus``: what one run takes at most; the GPUs are what is handed back, and where they are None that is
    1 if the cluster has any.
    """
    # Ray asks for it when it starts: a study sends nothing to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        if address is not None:
            raise EngineRefusedError(
                f"address is {address!r}, and this process is connected to a Ray already; expected None, to use that "
                "one. Leave it out, or call ray.shutdown() first."
            )
        share = _share_of_gpus(gpus)
        _warn_of_room(cpus, share)
        yield share
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        ray.init(
            address=address,
            # A run of more threads than there are cores has the machine to itself, as with the local engine.
            num_cpus=max(available_cores(), int(-(-cpus // 1))),
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE,
            **_QUIET,
        )
    else:
        try:
            _knock(address)
            ray.init(address=address, **_QUIET)
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineRefusedError(
                f"No Ray cluster answers at {address!r}: {str(error).rstrip('.')}. Check the address and that the "
                "cluster is up, or leave the address out for a Ray of this machine alone."
            ) from error
    try:
        share = _share_of_gpus(gpus)
        here = _gpus_of_cluster()
        if address == "local" and here < share:
            raise EngineRefusedError(
                f"A run takes {share:g} GPUs, and Ray finds {here:g} on this machine; expected at most as many. Ask "
                "for fewer, or give the address of a cluster that has them."
            )
        _warn_of_room(cpus, share)
        yield share
    finally:
        # One that was started above ends with its processes; a cluster that was there goes on without us.
        ray.shutdown()


def _knock(address: str) -> None:
    """Find out in seconds that nobody listens at ``host:port``: Ray itself takes many minutes to say so.

    Raises:
        OSError: nobody does.
        ValueError: the port is no number.
    """
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER).close()


def _share_of_gpus(asked: float | None) -> float:
    """A cluster with GPUs is there for their sake: runs that may use one are not left to its CPUs without a word."""
    if asked is not None:
        return asked
    return 1.0 if _gpus_of_cluster() > 0 else 0.0


def _gpus_of_cluster() -> float:
    import ray

    return float(ray.cluster_resources().get("GPU", 0.0))


def _warn_of_room(cpus: float, gpus: float) -> None:
    """A cluster may grow, so runs that no node has room for wait; but not without a word."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0.0) >= cpus and node.get("GPU", 0.0) >= gpus for node in nodes):
        log.warning(
            "No node of the Ray cluster has %g CPUs and %g GPUs, which a run takes: it waits until one joins.",
            cpus,
            gpus,
        )
