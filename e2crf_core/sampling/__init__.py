"""Run whole trajectories of steps: the sampler, its configuration, and its record."""
