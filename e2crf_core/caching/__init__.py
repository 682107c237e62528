"""When a token is recomputed and what is learned from it: policies, triggers, predictors, feedback (E4, E5, E7)."""
