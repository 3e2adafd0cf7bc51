"""Pure functions that every floor above may use: on arrays, rows of worlds, trees, specs and names. No networks, no state."""
