"""What is to be done before a web process cuts off what is still open. `config.asgi` adds to it, `config.serve` calls.

A module of its own, since the server must not import what needs Django before the application does.
"""

from collections.abc import Callable

before_cut_off: list[Callable[[], None]] = []
