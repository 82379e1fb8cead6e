"""From a graph to a memory plan: timeline, live ranges, costs, layout."""
