"""Checkpoints: loading, training, import, and their measured cards."""
