"""Fuzz whatever reads foreign input: files, cards, requests, messages, addresses, command lines.

    python -m tests.fuzz --inputs 10000

Every input is accepted or refused in one line. Anything else is a fault: another exception, a message of several
lines, an answer of 5xx, more than five seconds of computing, a write outside the input's own folder, code run from a
file, a connection to another machine. The inputs of faults are kept in `corpus/`, which `tests/test_fuzz.py` replays.
"""
