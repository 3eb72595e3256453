"""PostgreSQL, Redis and a model server that Mainstay starts by itself when the environment names no others."""
