"""Define the transformer and its plain, prefix, and selective forward (E6)."""
