"""The line before the samplers: who is next, whatever sessions do."""

import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2crf_core import LabError
from e2crf_core.progress import never
from e2crf_core.runs.line import WaitingLine
from tests.waiting import until


@given(st.lists(st.integers(1, 6), min_size=2, max_size=8), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_owners_that_keep_asking_get_equally_many_turns(eager, slots):
    """However many tickets an owner keeps in line, turns differ by at most one."""
    line, turns = WaitingLine(slots), Counter()
    waiting = [line.join(str(owner), lambda: 1.0) for owner, many in enumerate(eager) for _ in range(many)]
    for _ in range(12 * len(eager)):
        ticket = min(waiting, key=lambda one: one.rank)
        assert ticket.place[0] == 1 and ticket.take(never)
        turns[ticket.owner] += 1
        waiting.remove(ticket)
        ticket.give()
        waiting.append(line.join(ticket.owner))
    assert max(turns.values()) - min(turns.values()) <= 1


def test_first_come_is_first_served_and_leaving_costs_nobody_a_place():
    line = WaitingLine(1)
    a, b, c, again = (line.join(owner) for owner in ("a", "b", "c", "b"))
    assert a.take(never) and [one.place[0] for one in (b, c, again)] == [1, 2, 3]
    b.give()
    assert b.place is None and [one.place[0] for one in (c, again)] == [1, 2]
    a.give()
    assert c.take(never) and c.take(lambda: True) is not False
    c.give()
    assert again.take(never) and again.holds


def test_giving_up_ends_the_wait_and_a_ticket_may_come_back():
    line = WaitingLine(1)
    holder, other = line.join("a"), line.join("b")
    assert holder.take(never) and not other.take(lambda: True) and other.place is None
    holder.give()
    assert other.take(never)


def test_a_slot_passes_on_when_its_holder_dies():
    line, order = WaitingLine(1), []
    tickets = [line.join(str(number)) for number in range(4)]

    def work(ticket):
        try:
            assert ticket.take(never)
            order.append(ticket.owner)
            raise RuntimeError("died")
        except RuntimeError:
            pass
        finally:
            ticket.give()

    threads = [threading.Thread(target=work, args=(ticket,)) for ticket in reversed(tickets)]
    for thread in threads:
        thread.start()
    until(lambda: not any(thread.is_alive() for thread in threads))
    assert order == ["0", "1", "2", "3"]


def test_the_expected_wait_counts_those_ahead_and_the_slots():
    line = WaitingLine(2)
    first, second = line.join("a", lambda: 10.0), line.join("b", lambda: 4.0)
    assert first.take(never) and second.take(never)
    waiting = [line.join(owner) for owner in "cdef"]
    waits = [one.place[1] for one in waiting]
    assert waits == sorted(waits)
    assert waits[:2] == pytest.approx([4.0, 10.0], abs=0.5) and waits[2] > 10
    unknown = WaitingLine(1)
    assert unknown.join("a").take(never) and unknown.join("b").place == (1, None)


def test_a_full_line_refuses():
    line = WaitingLine(0, most=1)
    line.join("a")
    with pytest.raises(LabError, match="no more than 1 may wait"):
        line.join("b")
