"""Record runs: live control, comparison with the uncached twin, archives, replay, and what-if."""
