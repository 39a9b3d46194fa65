"""Several models answer the same queries."""
