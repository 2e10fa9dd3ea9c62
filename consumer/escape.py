"""Text from outside, made safe for terminals and logs.

Keys, photo ids and details come from senders. Control characters (C0, C1, DEL) can drive a terminal, bidirectional and
other format characters show a text as another one, and line separators forge lines of a log.
"""

from typing import Final

_LATIN_1_END: Final = 0x100
_BASIC_PLANE_END: Final = 0x10000


def printable(text: str, keep: str = "") -> str:
    r"""The text with an escape (`\x1b`, `\u202e`) for each character that is not visible, but a space or those kept."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _escape(ord(char)) for char in text)


def json_printable(json: str) -> str:
    r"""JSON that means the same and is printable, apart from its line breaks: `\u001b` for an escape character."""
    if json.isprintable():
        return json
    return "".join(char if char.isprintable() or char == "\n" else _json_escape(ord(char)) for char in json)


def _escape(code: int) -> str:
    if code < _LATIN_1_END:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < _BASIC_PLANE_END else f"\\U{code:08x}"


def _json_escape(code: int) -> str:
    if code < _BASIC_PLANE_END:
        return f"\\u{code:04x}"
    high, low = divmod(code - _BASIC_PLANE_END, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
