"""Draw charts for HTML reports."""
