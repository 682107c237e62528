"""Parts of the pages, one wing for each page, and what the wings share."""
