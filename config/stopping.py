"""What is to be done when a web process stops, at once and before it cuts off what is still open.

`config.asgi` adds to it, `config.serve` calls.

A module of its own, since the server must not import what needs Django before the application does.
"""

from collections.abc import Callable

at_once: list[Callable[[], None]] = []
before_cut_off: list[Callable[[], None]] = []
