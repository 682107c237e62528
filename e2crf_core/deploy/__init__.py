"""Make policy cards, the gate that remeasures them, and exported graphs."""
