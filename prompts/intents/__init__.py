"""What somebody wants who writes a text: patterns, a classifier that learns them, and its answers."""
