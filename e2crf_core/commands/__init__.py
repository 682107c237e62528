"""Implement each command of `python -m e2crf_core` in one module; heavy imports wait until a command runs."""
