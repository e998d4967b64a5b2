"""What a group may be asked for, when, and what its answers change."""
