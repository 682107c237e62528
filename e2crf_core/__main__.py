"""Run the command line as `python -m e2crf_core`."""

import sys

from e2crf_core.cli import main

sys.exit(main())
