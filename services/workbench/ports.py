"""A free port on the loopback interface."""

import random
import socket

LOOPBACK = "127.0.0.1"

# Below the range the kernel hands to outgoing connections (32768 up on Linux, 49152 up on macOS).
# A client that retries a *stopped* server on a port inside that range is one day given the very same
# port as its own address, connects to itself, and the server cannot bind when it comes back.
_RANGE = range(20_000, 30_000)

_given: set[int] = set()


def free_port() -> int:
    """Return a loopback TCP port nobody listens on, never the same one twice in this process.

    Raises:
        RuntimeError: no port was free in a thousand tries.
    """
    for _ in range(1_000):
        port = random.choice(_RANGE)  # noqa: S311 - spreads concurrent runs, protects nothing
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise RuntimeError(f"no free port on {LOOPBACK} between {_RANGE.start} and {_RANGE.stop}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Connections of an earlier owner may linger in TIME_WAIT; servers bind over them, so may we.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
