"""Parts of the page Models: cards, import and charts."""
