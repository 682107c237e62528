"""Load, train, and import checkpoints, with their measured cards."""
