"""EventBoard: an event board with approval for organizations."""
