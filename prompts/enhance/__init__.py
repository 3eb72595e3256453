"""Improving prompts: choosing techniques, applying them, and learning from what people say of the result."""
