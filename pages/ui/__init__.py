"""What the pages share: run registry, live feed, canvas component, policy widgets, result cards."""
