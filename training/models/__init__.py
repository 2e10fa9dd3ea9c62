"""Networks by name, the specification of each served model, and the graph that serves it."""
