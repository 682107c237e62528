"""Parts of the page Compare: variants and learned scores."""
