"""URLs as they stand in lists, and as they can be asked for."""
