"""Errors that a user of the lab is meant to read."""


class LabError(ValueError):
    """Bad input: the message is one line that says what was wrong, where, and what to do."""
