"""Decide when to recompute tokens: policies, triggers, predictors, and feedback (E4, E5, E7)."""
