"""Tokens, noise, the score model and the solvers: the mathematics without any cache (E1, E2, E3, E8)."""
