"""CFG and ERR: bad input and the error contract."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from queuekit import (
    AmbiguousDispatch,
    BadPayload,
    ConfigurationError,
    DriverUnavailable,
    Job,
    JobNotFound,
    PartialDispatch,
    PayloadTooLarge,
    Queue,
    QueueClosed,
    QueuekitError,
    UnsupportedError,
    errors,
)
from queuekit.drivers import EXTRAS, available
from queuekit.worker.inline import run_due
from queuekit_integration.harness import Harness, logged
from queuekit_integration.registry import scenario


@scenario("CFG-01")
def scenario_cfg_01_unknown_option(h: Harness) -> None:
    with pytest.raises(ConfigurationError, match=r"retires.*did you mean 'retries'"):
        Job("t", retires=3)  # type: ignore[call-arg]
    queue = h.queue()
    with pytest.raises(ConfigurationError, match=r"timout.*did you mean 'timeout'"):
        queue.register("t", lambda: None, timout=3)  # type: ignore[call-arg]


@scenario("CFG-02")
def scenario_cfg_02_bad_values(h: Harness) -> None:
    bad: dict[str, list[Any]] = {
        "delay": [-1, math.nan, math.inf, "1", True, []],
        "retries": [-1, 1.5, "3", True],
        "timeout": [0, -1, math.nan, "1"],
        "deadline": [-1, math.nan],
        "priority": [-1, 10, 4.0, "high"],
        "key": ["", 5, "\ud800", "x" * 513],
        "concurrency": [5, ("k", 0), ("k", -1), ("", 1), ("k",), ("k", 1.5)],
        "rate_limit": ["10", "0/s", "ten/s", 10, "-1/s", ""],
        "unique_for": [0, -1, math.nan],
        "until": ["never"],
        "on_conflict": ["ignore"],
        "id": ["not a uuid", 5],
        "delivery": ["exactly_once"],
        "settle": ["later"],
        "retain": [-1, math.nan],
        "tags": ["text", [5], ["a b"]],
        "headers": [{"a": 1}, "text"],
        "backoff": [5, "exponential"],
    }
    for option, values in bad.items():
        for value in values:
            with pytest.raises(ConfigurationError) as caught:
                Job("t", **{option: value})
            assert option.split("_")[0] in str(caught.value), f"{option}={value!r}: {caught.value}"
    queue = h.queue()
    for concurrency in (0, -1, 1.5, "4", True):
        with pytest.raises(ConfigurationError, match="concurrency"):
            queue.worker(concurrency=concurrency)  # type: ignore[arg-type]


@scenario("CFG-03")
def scenario_cfg_03_contradictory(h: Harness) -> None:
    from datetime import UTC, datetime  # noqa: PLC0415 - only here

    for options in (
        {"delay": 5, "at": datetime.now(UTC)},
        {"delivery": "at_most_once", "retries": 1},
        {"until": "start"},
        {"on_conflict": "raise"},
        {"delay": 10, "deadline": 5},
    ):
        with pytest.raises(ConfigurationError):
            Job("t", **options)


@scenario("CFG-04")
def scenario_cfg_04_unsupported_option_refused_early(h: Harness) -> None:
    with pytest.raises(UnsupportedError) as caught:
        Queue("null://", requires=["browse"])
    assert (caught.value.driver, caught.value.feature) == ("null", "browse")
    with pytest.raises(ConfigurationError, match="no feature 'brows'"):
        h.queue(requires=["brows"])
    with Queue("sync://") as queue, pytest.raises(UnsupportedError, match="delay"):
        queue.dispatch(Job("t", delay=5))


@scenario("CFG-05")
def scenario_cfg_05_bad_dsn(h: Harness) -> None:
    missing = {scheme: extra for scheme, extra in EXTRAS.items() if scheme not in available()}
    for address, words in {
        **{f"{scheme}://localhost/": rf"pip install 'queuekit\[{extra}\]'" for scheme, extra in missing.items()},
        "nosuch://x": "no driver for nosuch://",
        "just text": "needs a scheme",
        "": "needs a scheme",
        "sqlite://": "names no file",
        "sqlite:///x.db?synchronus=OFF": "did you mean 'synchronous'",
        "sqlite:///x.db?busy_timeout=soon": "busy_timeout",
        "memory://a/b": "at most a name",
    }.items():
        with pytest.raises(ConfigurationError, match=words):
            Queue(address)
    with pytest.raises(ConfigurationError):
        Queue(5)  # type: ignore[arg-type]


@scenario("CFG-07", needs=("diagnose",))
def scenario_cfg_07_unsafe_backend_setting_detected(h: Harness) -> None:
    usual = h.queue()
    before = {finding.setting: finding for finding in usual.doctor()}
    seen = 0
    with contextlib.closing(h.unsafe()) as settings:
        for setting, driver in settings:
            queue = Queue(driver, namespace=h.namespace)
            [found] = [finding for finding in queue.doctor() if finding.setting == setting]
            queue.close()
            assert found.level in {"warning", "error"}, f"{setting} = {found.value} is only a {found.level}"
            assert found.promise
            assert found.remedy
            assert not driver.limits.durable or before[setting].level in {"ok", "note"}
            seen += 1
    assert seen


@scenario("CFG-09", needs=("connections",))
def scenario_cfg_09_pool_smaller_than_concurrency(h: Harness) -> None:
    queue = h.queue()
    most = queue.capabilities.limits.connections
    assert most is not None
    for concurrency, warned in ((most, False), (most + 1, True)):
        with logged("queuekit.worker") as lines, queue.worker(concurrency=concurrency) as worker:
            assert worker.ready(20)
        assert any("connections" in line for line in lines) == warned
        if queue.supports("diagnose"):
            [found] = [f for f in queue.doctor(concurrency=concurrency) if f.setting == "connections"]
            assert found.level == ("warning" if warned else "ok")


@scenario("CFG-HANDLERS")
def scenario_cfg_handlers_are_checked_at_registration(h: Harness) -> None:
    queue = h.queue()
    queue.register("t", lambda: None)
    cases: list[tuple[Any, str]] = [
        (5, "callable"),
        (lambda *args: None, "named arguments"),
        (lambda x, /: None, "positional-only"),
    ]
    for handler, words in cases:
        with pytest.raises(ConfigurationError, match=words):
            queue.register("other", handler)
    with pytest.raises(ConfigurationError, match="two handlers"):
        queue.register("t", lambda: 1)
    with pytest.raises(ConfigurationError, match="module's top"):
        queue.register("p", lambda: 1, executor="process")
    wrapped = h.queue(middleware=[lambda ctx, call_next: call_next()])
    with pytest.raises(ConfigurationError, match="middleware does not reach"):
        wrapped.register("p", math.sqrt, executor="process")


@scenario("ERR-01")
def scenario_err_01_hierarchy(h: Harness) -> None:
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), QueuekitError)
    driver = h.broken()
    with pytest.raises(QueuekitError):
        driver.open()


@scenario("ERR-02", needs=("browse", "control"))
def scenario_err_02_not_found(h: Harness) -> None:
    queue = h.queue()
    for call in (queue.get, queue.info, queue.cancel, queue.retry, queue.delete):
        with pytest.raises(JobNotFound):
            call("01890000-0000-7000-8000-000000000000")


@scenario("ERR-03")
def scenario_err_03_closed_client(h: Harness) -> None:
    queue = h.queue()
    queue.dispatch(Job("t"))
    queue.close()
    queue.close()
    id = "01890000-0000-7000-8000-000000000000"
    calls: list[Callable[[], object]] = [
        lambda: queue.dispatch(Job("t")),
        lambda: queue.dispatch_many([Job("t")]),
        lambda: asyncio.run(_dispatch_async(queue)),
        lambda: queue.start_workers(1),
        lambda: queue.worker(),
        *(
            getattr(queue, name)
            for name in ("stats", "drain", "jobs", "workers", "prune", "history")
            if _has(queue, name)
        ),
        *(functools.partial(getattr(queue, name), id) for name in ("cancel", "info") if _has(queue, name)),
        *(
            functools.partial(getattr(queue, name), "default")
            for name in ("pause", "resume", "purge")
            if _has(queue, name)
        ),
    ]
    for call in calls:
        with pytest.raises(QueueClosed):
            call()
    assert queue.shutdown() == []
    assert not queue.health().healthy


FEATURE = {
    "stats": "count", "drain": "count", "jobs": "browse", "workers": "registry", "prune": "records", "history": "browse",
    "cancel": "control", "info": "browse", "pause": "pause", "resume": "pause", "purge": "purge",
}  # fmt: skip
"""What each verb needs."""


def _has(queue: Queue, verb: str) -> bool:
    return queue.supports(FEATURE[verb])


async def _dispatch_async(queue: Queue) -> None:
    await queue.dispatch_async(Job("t"))


@scenario("ERR-04")
def scenario_err_04_transient_vs_permanent(h: Harness) -> None:
    """Provoke native errors: each says rightly whether the same call may succeed later, and keeps its cause."""
    met = []
    for name, call, kind in h.troubles():
        with pytest.raises(kind) as caught:
            call()
        assert caught.value.retryable == issubclass(kind, DriverUnavailable), name
        met.append(name)
    assert met, "nothing was provoked"
    driver = h.driver()
    driver.send([h.message()])
    h.claim_one(driver)


@scenario("ERR-06")
def scenario_err_06_no_secret_in_errors(h: Harness) -> None:
    for address in ("nosuch://user:hunter2@host/0", "redis://user:hunter2@host:port/0", "user:hunter2@host"):
        with pytest.raises(ConfigurationError) as caught:
            Queue(address)
        assert "hunter2" not in str(caught.value)
        assert "hunter2" not in repr(caught.value)


@scenario("ERR-07")
def scenario_err_07_handler_exception_not_swallowed(h: Harness) -> None:
    queue = h.queue(virtual=True)

    class SpecialError(Exception):
        pass

    @queue.job(name="t", retries=0)
    def job() -> None:
        raise SpecialError("what happened")

    handle = job.dispatch()
    run_due(queue)
    assert h.standing(handle).errors == ("SpecialError: what happened",)
    if not h.lookup:
        return
    [error] = handle.info().errors
    assert (error.kind, error.message) == ("SpecialError", "what happened")
    with pytest.raises(errors.JobFailed, match="SpecialError: what happened"):
        handle.result(1)


@scenario("ERR-08")
def scenario_err_08_pickling(h: Harness) -> None:
    samples: list[QueuekitError] = [
        ConfigurationError("text"),
        UnsupportedError("text", driver="d", feature="f", remedy="r"),
        PayloadTooLarge("text", size=5, limit=4),
        PartialDispatch("text", accepted=["a"], failed={"b": ValueError("x")}),
        AmbiguousDispatch("text", job_id="a"),
        BadPayload("text", path="$.a"),
        errors.JobTimeout("text", job_id="a"),
    ]
    for error in samples:
        sent = pickle.loads(pickle.dumps(error))  # noqa: S301 - bytes of our own
        for other in (sent, copy.copy(error)):
            assert type(other) is type(error)
            assert str(other) == str(error)
            assert {k: repr(v) for k, v in vars(other).items()} == {k: repr(v) for k, v in vars(error).items()}


@scenario("no_false_support_claims")
def scenario_no_false_support_claims(h: Harness) -> None:
    queue = h.queue()
    for feature in queue.capabilities.features:
        assert queue.supports(feature)
    with pytest.raises(ConfigurationError):
        queue.supports("telepathy")
