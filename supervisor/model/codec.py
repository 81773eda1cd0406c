# SPDX-License-Identifier: Apache-2.0
"""Objects as bytes: MessagePack for everybody, pickle for those who trust the other side.

MessagePack holds None, truth values, numbers, text, bytes, lists and dicts (times and UUIDs too), and decoding it runs no code of
the sender's. Unpickling runs whatever the sender likes, so it is never done unless the receiver names it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final


class Codec:
    """A name and two functions, found when first used: msgspec costs 30 ms to import, which a job that sends bytes never pays."""

    __slots__ = ("_load", "decode", "encode", "name")

    def __init__(self, name: str, load: Callable[[], tuple[Callable[[Any], bytes], Callable[[Any], Any]]]) -> None:
        self.name = name

        self.encode: Callable[[Any], bytes] = self._first_encode
        self.decode: Callable[[Any], Any] = self._first_decode
        self._load = load

    def _first_encode(self, item: Any) -> bytes:
        self.encode, self.decode = self._load()
        return self.encode(item)

    def _first_decode(self, body: Any) -> Any:
        self.encode, self.decode = self._load()
        return self.decode(body)

    def __repr__(self) -> str:
        return f"<Codec {self.name}>"


def _msgpack() -> tuple[Callable[[Any], bytes], Callable[[Any], Any]]:
    from msgspec import msgpack

    decode = msgpack.Decoder().decode

    def checked(body: Any) -> Any:
        """Raises ValueError for whatever is no object, also for what is nested too deep."""
        try:
            return decode(body)
        except RecursionError:
            raise ValueError("lists and dicts are nested too deep") from None

    return msgpack.Encoder().encode, checked


def _pickle() -> tuple[Callable[[Any], bytes], Callable[[Any], Any]]:
    from pickle import HIGHEST_PROTOCOL, dumps, loads

    return lambda item: dumps(item, HIGHEST_PROTOCOL), loads


MSGPACK: Final = Codec("msgpack", _msgpack)
PICKLE: Final = Codec("pickle", _pickle)
