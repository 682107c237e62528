"""One module for each command of `python -m e2crf_core`; heavy imports wait until a command runs."""
