"""Work that outlives a page: background processes and their progress."""
