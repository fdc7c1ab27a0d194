"""Which of many queues is looked at next, and which receipts count."""

from queuekit.contract import Message
from queuekit.ids import new_id
from queuekit_sqs.lending import Line, newest, whose_turn
from queuekit_sqs.lent import Lent
from queuekit_sqs.wire import Label

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


def receipt(service_id, *, count):
    message = Message(new_id(), "default", "t", "{}")
    return Lent(
        queue="default",
        service_id=service_id,
        handle=f"{service_id} {count}",
        label=Label(id=message.id),
        body="{}",
        ends=NOW,
        last=NOW,
        count=count,
        hidden=0,
        arrived=0.0,
        message=message,
    )


def test_of_two_receipts_of_one_message_the_later_one_counts():
    old, new, other = receipt("a", count=2), receipt("a", count=3), receipt("b", count=1)
    assert newest([old, new, other], []) == [new, other]
    assert newest([old, other], [new]) == [other], "it is lent later, with the receipt that is kept"
    assert newest([new], [old]) == [new]
