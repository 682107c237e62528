"""Provide the shipped data sets and import users' files."""
