"""Pure functions that every floor above may use: on arrays, rows of worlds, trees, specs and names, and the number of cores. No state."""
