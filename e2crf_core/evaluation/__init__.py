"""Compare configurations on common noise."""
