"""The queue of operations: what waits for the school, what became of each, and what is shown of rows meanwhile."""
