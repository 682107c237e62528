"""Whole runs of the step: the sampler, its configuration, and its record."""
