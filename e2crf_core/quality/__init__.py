"""Measure distances between samples and data, with their intervals and floors."""
