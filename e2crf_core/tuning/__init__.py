"""Search for the best setting: space, measurement, studies, choice, and warnings."""
