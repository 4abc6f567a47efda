"""A look at the machine before it is trained on: what is there, and what would go wrong."""
