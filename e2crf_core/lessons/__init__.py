"""Teach the method: the lessons' texts, series, runs and measurements, and their static pages."""
