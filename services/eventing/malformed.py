"""What is no HTTP is refused like every other request: with problem details (RFC 9457), naming the fault."""

import json
import sys
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

PROBLEM = "application/problem+json"
DEFAULT = HTTPStatus.BAD_REQUEST
MAX_HEAD = 16 << 10  # bytes of a request line and headers that are waited for
DISCARDED = 8 << 20  # bytes of a refused sender that are read and dropped
LINGER = 2.0  # seconds for him to read the answer and to close


class Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, which answers text where no request can be read: no application has seen it yet."""

    _after: int | None = None  # bytes that came after the refusal

    def data_received(self, data: bytes) -> None:
        """Take bytes; those of a refused sender are dropped: closed upon unread ones, he could not read why."""
        if self._after is None:
            return super().data_received(data)
        self._after += len(data)
        if self._after > DISCARDED:
            self.transport.close()
        return None

    def send_400_response(self, msg: str) -> None:
        """Answer with a problem and end; an answer that is on its way already is ended where it is."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        status, detail = _fault(msg)
        body = json.dumps(problem(status, detail)).encode()
        headers = [("content-type", PROBLEM), ("content-length", str(len(body))), ("connection", "close")]
        answer = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
        for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self._after = 0
        self.transport.write_eof()
        self.loop.call_later(LINGER, self.transport.close)


def problem(status: HTTPStatus, detail: str) -> dict[str, object]:
    """Return problem details."""
    return {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail, "errors": []}


def _fault(msg: str) -> tuple[HTTPStatus, str]:
    """Return what h11 found, which uvicorn is handling just now: 431 for headers too large, else mostly 400."""
    error = sys.exc_info()[1]  # sys.exception is Python 3.12's
    if not isinstance(error, h11.RemoteProtocolError):
        return DEFAULT, msg
    status = HTTPStatus(error.error_status_hint)
    if status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
        return status, f"the request line and its headers are larger than {MAX_HEAD} bytes"
    return status, f"this is no HTTP/1.1 request: {error}"
