"""A seeded mix of faults."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable

from queuekit_integration.faults import Proxy
from queuekit_integration.faults.proxy import Direction
from queuekit_integration.harness import Harness
from queuekit_integration.servers import Server

__all__ = ["Chaos", "seed_of_this_run"]


def seed_of_this_run() -> int:
    """Return the seed, a new one unless QUEUEKIT_SEED repeats an earlier one."""
    seed = int(os.environ.get("QUEUEKIT_SEED") or random.SystemRandom().randrange(10**6))
    print(f"QUEUEKIT_SEED={seed} repeats this mix of faults")  # noqa: T201 - pytest shows it beside a failure
    return seed


class Chaos:
    """Faults of a server's connections, of the server and of a worker: about a quarter of the time is quiet, each is healed before the next.

    Without a proxy only the worker is harmed.
    """

    def __init__(self, h: Harness, proxy: Proxy | None, seed: int) -> None:
        self.caused: Counter[str] = Counter()
        """How often each fault was caused."""
        self._h = h
        self._through = proxy
        self._rng = random.Random(seed)
        self._worker = h.spawn_worker(through=proxy, lease=1.0)

    def run(self, seconds: float) -> None:
        """Cause faults for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            fault = self._rng.choice(self._faults())
            self.caused[fault.__name__.strip("_")] += 1
            fault(self._rng.uniform(0.1, 0.6))

    def _faults(self) -> list[Callable[[float], None]]:
        found: list[Callable[[float], None]] = [self._quiet, self._worker_dies]
        found += [self._hold, self._reset, self._slow] if self._through else []
        found += [self._freeze] if "freeze" in self._h.faults() else []
        return found + ([self._kill] if "kill" in self._h.faults() and self._h.outlives else [])

    @property
    def _proxy(self) -> Proxy:
        assert self._through is not None
        return self._through

    @property
    def _server(self) -> Server:
        assert self._h.server is not None
        return self._h.server

    def _quiet(self, seconds: float) -> None:
        time.sleep(seconds)

    def _hold(self, seconds: float) -> None:
        held: list[tuple[Direction, ...]] = [("up",), ("down",), ("up", "down")]
        self._proxy.hold(*self._rng.choice(held))
        time.sleep(seconds)
        self._proxy.release()

    def _reset(self, seconds: float) -> None:
        for _ in range(5):
            self._proxy.reset_all()
            time.sleep(seconds / 5)

    def _slow(self, seconds: float) -> None:
        self._proxy.delay(0.05)
        time.sleep(seconds)
        self._proxy.delay(0.0)

    def _freeze(self, seconds: float) -> None:
        self._server.freeze()
        time.sleep(seconds)
        self._server.thaw()

    def _kill(self, seconds: float) -> None:
        self._server.kill()
        time.sleep(seconds)
        self._server.start()

    def _worker_dies(self, seconds: float) -> None:
        self._h.kill_recorded(self._worker)
        time.sleep(seconds)
        self._worker = self._h.spawn_worker(through=self._through, lease=1.0)
