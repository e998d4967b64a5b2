"""From what a user wrote to the settings of a run."""
