"""The version of package and app."""

__version__ = "0.1.0"
