"""Which of many queues is looked at next."""

from queuekit_sqs.lending import Line, whose_turn

NOW = 100.0


def line(queue, *, looked=0.0, quiet_until=0.0):
    return Line(queue=queue, looked=looked, quiet_until=quiet_until)


def names(lines):
    return [line.queue for line in lines]


def test_the_queue_that_is_owed_most_is_first_and_then_who_waited_longest():
    lines = [line("owed", looked=99), line("b", looked=98), line("never"), line("a", looked=97)]
    assert names(whose_turn(lines, NOW)) == ["owed", "never", "a", "b"]


def test_queues_found_empty_a_moment_ago_are_left_out():
    lines = [line("empty", quiet_until=101), line("b", looked=98), line("again", quiet_until=100)]
    assert names(whose_turn(lines, NOW)) == ["b", "again"]


def test_when_all_were_found_empty_one_is_looked_at():
    assert names(whose_turn([line("a", quiet_until=101), line("b", quiet_until=101)], NOW)) == ["a"]
