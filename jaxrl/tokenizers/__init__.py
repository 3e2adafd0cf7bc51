"""Actions as tokens and back. What needs a package of its own imports it when it is called."""
