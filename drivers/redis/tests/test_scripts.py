"""Every script names what it touches, and the server can compile it."""

from __future__ import annotations

import re

import pytest

from queuekit.contract import FAILED_RETAIN, MAX_ERRORS, RETAIN
from queuekit_redis import keys
from queuekit_redis.scripts import NAMES, script

DOCUMENTED = set(re.findall(r"^(\w+) +(?:hash|sorted set|set) ", keys.__doc__ or "", re.MULTILINE))


@pytest.mark.parametrize("name", NAMES)
def test_a_script_declares_every_key_that_it_touches_and_the_key_space_knows_them_all(name):
    made = script(name)
    assert set(made.keys) <= DOCUMENTED
    touched = set(re.findall(r"call\('\w+', ([A-Z]+)\b", made.text))
    assert {key.lower() for key in touched} <= set(made.keys)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_builds_no_key_by_itself(name):
    body = script(name).text.partition("\n")[2].partition("\n")[2]
    named = re.findall(r"call\('[A-Z]+', ([^,)]+)", body)
    assert named
    assert not [one for one in named if ".." in one]


def test_the_contracts_numbers_reach_the_scripts():
    first = script("settle").text.splitlines()[0]
    assert f"= {RETAIN:.0f}, {FAILED_RETAIN:.0f}, {MAX_ERRORS}, 100000," in first
