"""Policy cards, the gate that measures them again, and exported graphs."""
