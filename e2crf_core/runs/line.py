"""Let work wait in line for a few slots: first come, first served, and fair between owners."""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable

from e2crf_core.errors import LabError
from e2crf_core.progress import Cancel

WAIT_S = 0.05
"""Seconds between a waiting ticket's checks whether it should leave the line."""
REMEMBERED = 32
"""Completed turns whose mean length predicts the next ones."""


class WaitingLine:
    """A line before `slots` places of work, in which at most `most` tickets wait.

    Owners take rounds: an owner's second ticket comes after the first ones of all who wait, so that nobody
    gains by asking more often. Within a round, first come is first served. Safe to call from any thread.
    """

    def __init__(self, slots: int, most: int = 64) -> None:
        self.slots, self.most = slots, most
        self._lock = threading.Condition()
        self._waiting: list[Ticket] = []
        self._holding: list[Ticket] = []
        self._served: deque[float] = deque(maxlen=REMEMBERED)
        self._round, self._tickets = 0, 0
        self._last: dict[str, int] = {}

    def join(self, owner: str, left: Callable[[], float | None] = lambda: None) -> Ticket:
        """Return a ticket at its place in line. `left` estimates the seconds that its work still takes.

        Raises LabError when too many are waiting.
        """
        with self._lock:
            if len(self._waiting) >= self.most:
                raise LabError(
                    f"the line is full: no more than {self.most} may wait", remedy="try again later"
                )
            ticket = Ticket(self, owner, left)
            self._enter(ticket)
            return ticket

    def _enter(self, ticket: Ticket) -> None:
        round = max(self._round, self._last.get(ticket.owner, 0) + 1)
        self._last[ticket.owner] = round
        self._tickets += 1
        ticket.rank = (round, self._tickets)
        self._waiting.append(ticket)
        self._waiting.sort(key=lambda one: one.rank)

    def _leave(self, ticket: Ticket) -> None:
        if ticket in self._waiting:
            self._waiting.remove(ticket)
            # Who leaves without a turn has not had it.
            if self._last.get(ticket.owner) == ticket.rank[0]:
                self._last[ticket.owner] -= 1
        if ticket in self._holding:
            self._holding.remove(ticket)
            self._served.append(time.monotonic() - ticket.since)
        self._lock.notify_all()

    def _serve(self, ticket: Ticket) -> bool:
        """Give a free slot to a ticket that is next; return whether it now has one."""
        if ticket in self._waiting and ticket is self._waiting[0] and len(self._holding) < self.slots:
            self._holding.append(self._waiting.pop(0))
            ticket.since = time.monotonic()
            self._round = ticket.rank[0]
            self._last = {owner: last for owner, last in self._last.items() if last >= self._round}
            self._lock.notify_all()
        return ticket in self._holding

    def _expected(self, ticket: Ticket) -> float | None:
        """Estimate the seconds until a waiting ticket's turn; None while nothing is known."""
        now = time.monotonic()
        turns = [(now - other.since, other.left()) for other in self._holding]
        lengths = list(self._served) or [done + left for done, left in turns if left is not None]
        if not lengths:
            return None
        mean = sum(lengths) / len(lengths)
        free = [max(0.0, mean - done) if left is None else left for done, left in turns]
        free += [0.0] * (self.slots - len(free))
        heapq.heapify(free)
        for _ in range(self._waiting.index(ticket)):
            heapq.heapreplace(free, free[0] + mean)
        return free[0]


class Ticket:
    """One piece of work in a line: it waits, holds a slot, or does neither."""

    def __init__(self, line: WaitingLine, owner: str, left: Callable[[], float | None]) -> None:
        self.line, self.owner, self.left = line, owner, left
        self.rank = (0, 0)
        self.since = 0.0

    @property
    def holds(self) -> bool:
        """Return whether the ticket has a slot."""
        return self in self.line._holding

    @property
    def place(self) -> tuple[int, float | None] | None:
        """Return the place in line (1 is next) and the expected seconds, or None if it does not wait."""
        with self.line._lock:
            if self not in self.line._waiting:
                return None
            return self.line._waiting.index(self) + 1, self.line._expected(self)

    def take(self, given_up: Cancel) -> bool:
        """Wait for a slot, at the end of the line if need be; return False, out of line, once `given_up()`."""
        line = self.line
        with line._lock:
            if self not in line._waiting and self not in line._holding:
                line._enter(self)
            while not line._serve(self):
                if given_up():
                    line._leave(self)
                    return False
                line._lock.wait(WAIT_S)
            return True

    def give(self) -> None:
        """Return the slot, or leave the line."""
        with self.line._lock:
            self.line._leave(self)
