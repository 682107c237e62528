"""Define tokens, noise, score model, and solvers: the mathematics without any cache (E1, E2, E3, E8)."""
