"""Parts of the page Evidence: stored results and their plots."""
