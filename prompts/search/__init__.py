"""Finding prompts again: by their words, by their meaning, and by both."""
