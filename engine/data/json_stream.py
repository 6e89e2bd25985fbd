"""Reading a large JSON object in pieces: the elements of its arrays one by one, each with its place in the file."""

import json
from collections.abc import Iterator
from typing import IO, Any, NoReturn

from camshaft.engine.errors import DataError

PIECE_BYTES = 1 << 24
LARGEST_BYTES = 1 << 28
"""An element that does not end within so many bytes is no annotation."""
_SPACE = " \t\n\r"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf".decode("latin-1")
_MARGIN = 4
"""Characters that must follow a value, or else a number such as 12.5e+3 might go on in the next piece."""


class JsonStream:
    """The top-level object of a file. Go through `keys`; after each key take `elements` or `skip`.

    The text is decoded as Latin-1, a character a byte, so that places in it are places in the file; an element is
    decoded again as UTF-8 where it is not plain ASCII.
    """

    def __init__(self, file: IO[bytes], name: str, piece_bytes: int = PIECE_BYTES) -> None:
        """Read `file` from its start; `name` is for messages."""
        self._file, self._name, self._piece_bytes = file, name, max(piece_bytes, len(_BYTE_ORDER_MARK))
        self._text, self._before, self._position = "", 0, 0
        self._decoder = json.JSONDecoder()
        self._extend()
        if self._text.startswith(_BYTE_ORDER_MARK):
            self._position = len(_BYTE_ORDER_MARK)

    def keys(self) -> Iterator[str]:
        """The keys of the object, in the file's order.

        Raises:
            DataError: the file is no JSON object; names the byte.
        """
        for _ in self._container("{", "}", "an object"):
            key, _, _ = self._value()
            if not isinstance(key, str):
                self._fail("a key is expected")
            self._expect(":", "':'")
            yield key
        if self._peek():
            self._fail("nothing more is expected")

    def elements(self) -> Iterator[tuple[dict[str, Any], int, int]]:
        """The objects of the array that follows: each with its first byte and its length.

        Raises:
            DataError: it is no array of objects; names the byte.
        """
        for _ in self._container("[", "]", "an array"):
            value, start, length = self._value()
            if not isinstance(value, dict):
                raise DataError(f"{self._name}: at byte {start}: an object is expected")
            yield value, start, length

    def skip(self) -> None:
        """Pass over the value that follows."""
        self._value()

    def _value(self) -> tuple[Any, int, int]:
        self._peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._position)
            except (ValueError, RecursionError) as error:
                # It may go on in the next piece, unless a number has more digits than Python takes.
                hopeless = isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError)
                if hopeless or len(self._text) - self._position > LARGEST_BYTES or not self._extend():
                    at = getattr(error, "pos", self._position)
                    self._position = min(at, len(self._text))
                    self._fail(
                        "a number has too many digits" if hopeless else getattr(error, "msg", "nested too deeply")
                    )
                continue
            if end + _MARGIN < len(self._text) or not self._extend():
                break
        start, length = self._before + self._position, end - self._position
        source = self._text[self._position : end]
        self._position = end
        if not source.isascii():
            try:
                value = json.loads(source.encode("latin-1"))
            except ValueError as error:
                raise DataError(f"{self._name}: at byte {start}: not UTF-8 ({error})") from None
        return value, start, length

    def _peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            while self._position < len(self._text):
                if self._text[self._position] not in _SPACE:
                    return self._text[self._position]
                self._position += 1
            if not self._extend():
                return ""

    def _expect(self, character: str, what: str) -> None:
        if self._peek() != character:
            self._fail(f"{what} is expected")
        self._position += 1

    def _container(self, start: str, end: str, what: str) -> Iterator[None]:
        """Go from item to item; who iterates reads each of them."""
        self._expect(start, what)
        while self._peek() != end:
            yield
            if self._peek() == ",":
                self._position += 1
                if self._peek() == end:
                    self._fail("another value is expected after ','")
            elif self._peek() != end:
                self._fail(f"',' or {end!r} is expected")
        self._position += 1

    def _extend(self) -> bool:
        """Drop what was read and take in more; False at the end of the file."""
        try:
            piece = self._file.read(max(self._piece_bytes, len(self._text) - self._position))
        except OSError as error:
            raise DataError(f"{self._name}: can't be read: {error.strerror}") from None
        if not piece:
            return False
        self._before += self._position
        self._text = self._text[self._position :] + piece.decode("latin-1")
        self._position = 0
        return True

    def _fail(self, what: str) -> NoReturn:
        raise DataError(f"{self._name}: not valid JSON at byte {self._before + self._position}: {what}")
