"""Share one worker's time between tasks: short ones end soon, and long ones go on."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

FIRST_S = 0.25
"""Seconds of the first turn: most small requests need no second one."""
TURN_S = 0.1
"""Seconds of every later turn."""

T = TypeVar("T")


class Rounds(Generic[T]):
    """The order of turns: round robin, in which newcomers and the others alternate.

    A newcomer therefore waits for the newcomers before it and as many short turns, however many tasks are
    running; and newcomers, however many arrive, take at most their share from the others.
    """

    def __init__(self) -> None:
        self._new: deque[T] = deque()
        self._old: deque[T] = deque()
        self._old_next = False

    def __len__(self) -> int:
        """Return the number of tasks that wait for a turn."""
        return len(self._new) + len(self._old)

    def enter(self, task: T) -> None:
        """Add a newcomer."""
        self._new.append(task)

    def again(self, task: T) -> None:
        """Add a task that has had a turn and needs another."""
        self._old.append(task)

    def turn(self) -> tuple[T, float]:
        """Return whose turn it is, and its seconds. Raises IndexError when nobody waits."""
        if self._new and not (self._old_next and self._old):
            self._old_next = True
            return self._new.popleft(), FIRST_S
        self._old_next = False
        return self._old.popleft(), TURN_S
