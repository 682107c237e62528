"""Parts of the page Training: form, charts and the process that trains."""
