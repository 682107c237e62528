"""Read and write files: arrays, JSON, shipped resources, and the user's own folder."""
