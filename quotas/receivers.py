"""Which addresses webhooks may be sent to."""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from aiohttp import AddrInfoType
from django.conf import settings
from django.core.exceptions import ValidationError


def check_url(url: str) -> None:
    """`ValidationError` if it holds a user or a password, which lists would show, or a port that there is not."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as wrong:
        raise ValidationError("The port must be a number from 1 to 65535.") from wrong
    if port == 0:
        raise ValidationError("The port must be a number from 1 to 65535.")
    if "@" in parts.netloc:
        raise ValidationError("A URL with a user or password is not accepted: receivers check the signature.")


def open_socket(address: AddrInfoType) -> socket.socket:
    """A socket for the very address that is about to be connected to, whatever its name said before; `OSError`."""
    family, kind, protocol, _, target = address
    if not _is_allowed(str(target[0])):
        raise OSError(errno.EACCES, f"{target[0]} is no address for receivers")
    return socket.socket(family=family, type=kind, proto=protocol)


def _is_allowed(address: str) -> bool:
    """Link-local addresses are those of the machine's own services, such as a cloud's metadata; never of a receiver."""
    ip: IPv4Address | IPv6Address = ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return not ip.is_link_local and (ip.is_global or settings.WEBHOOK_PRIVATE_ADDRESSES)
