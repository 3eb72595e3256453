"""Conversations as files: those that go out, and those that come in."""
