"""Incremental decoding: bytes become whole characters, up to the first stop string."""

import codecs
from collections.abc import Sequence


class TextStream:
    """Decodes UTF-8 piece by piece; holds back incomplete characters and a possible start of a stop string.

    A Chinese character is often two or three tokens of a Latin-centred vocabulary, so bytes arrive incomplete.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = tuple(text for text in stop if text)
        self._held = ""
        self.is_stopped = False

    def push(self, data: bytes) -> str:
        """The text that can be released, possibly empty; always empty after a stop string."""
        return "" if self.is_stopped else self._release(self._decoder.decode(data))

    def finish(self) -> str:
        """The text held back; an incomplete last character becomes U+FFFD."""
        if self.is_stopped:
            return ""
        text = self._release(self._decoder.decode(b"", final=True), is_last=True) + self._held
        self._held = ""
        return text

    def _release(self, text: str, *, is_last: bool = False) -> str:
        self._held += text
        cuts = [at for stop in self._stop if (at := self._held.find(stop)) >= 0]
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        cut = len(self._held) - keep
        # An unfinished stop string takes precedence over a complete one that begins later.
        self.is_stopped = bool(cuts) and (is_last or min(cuts) <= cut)
        cut = min(cuts) if self.is_stopped else cut
        released, self._held = self._held[:cut], "" if self.is_stopped else self._held[cut:]
        return released


def _overlap(text: str, stop: str) -> int:
    """Length of the longest suffix of `text` that is a proper prefix of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
