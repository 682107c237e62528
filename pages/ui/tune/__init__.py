"""Parts of the page Tune: forms, charts and the study's process."""
