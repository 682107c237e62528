"""Kill writers and flip bits: nothing reported as saved is lost, and nothing wrong is taken for good."""
