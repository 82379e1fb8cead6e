"""Plans the memory of a graph: timeline, live ranges, costs, layout."""
