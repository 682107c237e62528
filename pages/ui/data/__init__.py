"""Parts of the page Data: cards, import and charts."""
