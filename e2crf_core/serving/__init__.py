"""Serve samples over HTTP, with a queue."""
