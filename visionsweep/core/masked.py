"""Masking of passwords in addresses: other libraries put whole URLs into their messages."""

from __future__ import annotations

import re

HIDDEN = "***"
# scheme://USER:PASSWORD@host and scheme://TOKEN@host. A password may hold a slash, unless what stands before the
# slash could be a port.
_LOGIN = re.compile(
    r"(\b[A-Za-z][A-Za-z0-9+.-]{0,30}://)"
    r"(?:[^\s/@'\"<>?#]{0,300}@|[^\s/:@'\"<>]{1,100}:(?!\d{0,5}[/?#])[^\s@'\"<>]{0,300}@)+"
)  # with bounds, so that it takes linear time
# ?token=..., X-Amz-Signature=..., password=... of a query or a connection's description
_FIELD = re.compile(
    r"(\b[\w-]{0,40}(?:password|passwd|pwd|token|secret|signature|credential|api_?key|access_?key)[\w-]{0,40}=)[^\s&;,'\")]+",
    re.IGNORECASE,
)


def masked_line(error: object, most: int = 200) -> str:
    """Return the message of an error, masked, in one line of at most so many characters."""
    return " ".join(masked(str(error)).split())[:most] or type(error).__name__


def masked(text: str) -> str:
    """Return the text with *** in place of names and passwords in addresses."""
    if "://" not in text and "=" not in text:
        return text
    return _FIELD.sub(rf"\1{HIDDEN}", _LOGIN.sub(rf"\1{HIDDEN}@", text))
