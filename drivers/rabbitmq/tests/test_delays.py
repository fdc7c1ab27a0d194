"""The ladder's arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit_rabbitmq.delays import STEPS, key_of, longest, units_of


@given(st.floats(0.001, 1e6), st.sampled_from([0.01, 0.05, 1.0]))
def test_a_delay_is_never_shortened_and_gains_less_than_one_unit(delay: float, unit: float) -> None:
    waited = units_of(delay, unit) * unit
    assert delay - unit * 1e-5 <= waited < delay + unit


@pytest.mark.parametrize(("delay", "units"), [(0.05, 1), (0.051, 2), (0.3, 6), (1.0, 20), (0.15000000000000002, 3)])
def test_whole_units_stay_whole(delay: float, units: int) -> None:
    assert units_of(delay, 0.05) == units


def test_a_key_spells_every_bit_and_the_lane() -> None:
    words = key_of(5, "9").split(".")
    assert len(words) == STEPS + 1
    assert words[-4:] == ["1", "0", "1", "9"]
    assert set(words[:-4]) == {"0"}


def test_the_longest_delay_has_every_bit_set() -> None:
    units = units_of(longest(0.05), 0.05)
    assert key_of(units, "4").split(".")[:-1] == ["1"] * STEPS
