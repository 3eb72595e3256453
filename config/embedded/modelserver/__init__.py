"""A local server that speaks the OpenAI protocol: chat and embeddings by small real models, no network, no key."""
