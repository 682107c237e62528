"""Charts for HTML reports."""
