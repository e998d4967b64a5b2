"""The door of a rank: whose group, may we, does the owner let us."""
