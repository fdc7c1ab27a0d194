from __future__ import annotations

from pathlib import Path

import pytest

from queuekit import Backoff, Job, JobContext, Queue
from queuekit.testing import FakeQueue, TwoPhase, fake

pytest_plugins = ["pytester"]


def test_time_moves_only_by_hand(queue: FakeQueue) -> None:
    attempts: list[int] = []

    @queue.job(name="flaky", retries=2, backoff=Backoff.constant(60))
    def flaky(ctx: JobContext) -> str:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return "ok"

    handle = flaky.dispatch()
    assert attempts == []
    assert queue.run_due() == 1
    assert queue.advance(59) == 0
    assert queue.advance(2) == 1
    assert queue.advance(60) == 1
    assert handle.result(1) == "ok"
    assert attempts == [1, 2, 3]


def test_asserts_tell_what_was_dispatched(queue: FakeQueue) -> None:
    queue.assert_nothing_dispatched()
    queue.dispatch(Job("mail", {"to": "a@b.c", "subject": "hi"}, queue="slow"))
    assert queue.assert_dispatched("mail", {"to": "a@b.c"}, times=1).queue == "slow"
    queue.assert_dispatched_on("slow", "mail")
    queue.assert_not_dispatched("mail", {"to": "x@y.z"})
    for broken in (
        lambda: queue.assert_dispatched("other"),
        lambda: queue.assert_dispatched("mail", times=2),
        lambda: queue.assert_dispatched_on("default", "mail"),
        lambda: queue.assert_not_dispatched("mail"),
        queue.assert_nothing_dispatched,
    ):
        with pytest.raises(AssertionError, match=r"mail on slow: \{'to': 'a@b\.c', 'subject': 'hi'\} \(pending\)"):
            broken()


def test_an_application_is_tested_on_its_own_queue(tmp_path: Path) -> None:
    app = Queue(f"sqlite:///{tmp_path}/app.db")
    sent: list[str] = []

    @app.job(name="send")
    def send(to: str) -> None:
        sent.append(to)

    with fake(app) as jobs:
        send.dispatch("a@b.c")
        jobs.assert_dispatched(send, {"to": "a@b.c"})
        assert jobs.run_due() == 1
    assert sent == ["a@b.c"]
    assert not (tmp_path / "app.db").exists(), "the application's own backend was touched"
    send.dispatch("d@e.f")
    assert len(app.jobs()) == 1
    app.close()


def test_two_phases_share_handles(tmp_path: Path, queue: FakeQueue) -> None:
    first = TwoPhase(tmp_path / "handles.json")
    handle = queue.dispatch(Job("t"))
    first.record("nightly", handle)
    second = TwoPhase(tmp_path / "handles.json")
    assert second.handle("nightly", queue) == handle
    with pytest.raises(LookupError, match="preparation"):
        second.handle("other", queue)


def test_the_plugin_keeps_the_phase_asked_for(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.preparation
        def test_prepare(queue, two_phase): pass
        @pytest.mark.validation
        def test_validate(): raise SystemExit("not asked for")
        """
    )
    pytester.runpytest_subprocess("--two-phase", "preparation", "-p", "no:randomly").assert_outcomes(
        passed=1, deselected=1
    )
