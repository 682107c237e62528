"""Run work on Ray: evaluations, trials, and live runs on other machines."""
