"""Configurations measured against one another on common noise."""
