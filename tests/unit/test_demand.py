"""How much a worker claims, and when it settles."""

from __future__ import annotations

from queuekit.worker.demand import FULL, MOST, Demand


def quick(concurrency: int = 10) -> Demand:
    """Return the demand of a worker whose handlers take a microsecond."""
    demand = Demand(concurrency)
    demand.measured(100, 100e-6)
    return demand


def test_before_anything_was_measured_only_free_slots_are_claimed():
    demand = Demand(10)
    assert demand.limit(0, 0) == 10
    assert demand.limit(4, 0) == 6
    assert demand.limit(10, 0) == 0
    assert demand.linger(1, 100) == 0


def test_long_jobs_are_not_hoarded():
    demand = Demand(10)
    demand.measured(1, 60.0)
    assert demand.limit(0, 0) == 10
    assert demand.limit(10, 0) == 0


def test_jobs_that_never_entered_a_handler_say_nothing_of_how_long_handlers_take():
    demand = Demand(10)
    demand.measured(0, 0.0)
    assert demand.prefetch == 0


def test_after_a_stall_only_free_slots_are_claimed_until_something_is_measured_anew():
    demand = quick()
    demand.stalled()
    assert demand.limit(0, 0) == 10
    assert demand.limit(10, 0) == 0
    demand.measured(100, 100e-6)
    assert demand.limit(0, 0) == MOST // 2


def test_half_travels_while_the_other_half_is_worked_off():
    demand = quick()
    assert demand.limit(0, 0) == MOST // 2
    assert demand.limit(MOST // 2, MOST // 2) == MOST // 2
    assert demand.limit(MOST, MOST // 2 + 1) == 0


def test_no_more_is_held_than_the_slots_and_the_prefetch():
    demand = quick()
    assert demand.limit(MOST, 0) == 10
    assert demand.limit(MOST + 10, 0) == 0


def test_one_slow_batch_ends_prefetching_at_once():
    demand = quick()
    demand.measured(10, 10 * 60.0)
    assert demand.limit(0, 0) == 10


def test_a_full_batch_does_not_wait_for_more_outcomes():
    demand = quick()
    demand.measured(100, 100 * 100e-6)
    assert demand.linger(1, 500) > 0
    assert demand.linger(FULL, 500) == 0


def test_outcomes_wait_for_others_3_ms_at_most_and_never_while_a_slot_could_starve():
    demand = Demand(10)
    demand.measured(10, 10 * 0.01)
    assert 0 < demand.linger(1, 100) <= 0.003
    assert demand.linger(1, 10) == 0


def test_quick_handlers_are_waited_for_where_nothing_else_waits():
    demand = quick()
    assert demand.patience(found=1, limit=500) > 0
    assert demand.patience(found=500, limit=500) == 0, "more is waiting: claim it"
    assert demand.patience(found=0, limit=500) == 0, "nothing was started"


def test_slow_and_unknown_handlers_are_not_waited_for():
    demand = Demand(10)
    assert demand.patience(found=1, limit=10) == 0
    demand.measured(1, 0.01)
    assert demand.patience(found=1, limit=10) == 0
