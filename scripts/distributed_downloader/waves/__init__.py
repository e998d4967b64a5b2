"""Plan what is left, ask for it over all ranks, look at what is left then."""
