"""From the columns that a data set stores to house names, units and conventions: a table with a row for each data set."""
