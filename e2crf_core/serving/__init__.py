"""The HTTP server and its queue."""
