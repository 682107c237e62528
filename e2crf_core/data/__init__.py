"""Data sets: those that ship, and the import of files."""
