"""What is remembered of a shutdown for the time after it: bounded in memory, and as written.

It holds what the console and the kernel's log get anyway: names of layers and of who holds them,
numbers and times. No key has ever been read here, and no content of a file.

The form, which finalstage/cli/report/shutdown.py reads back: a line that says what it is, one with
the length and the checksum of what follows, and that as one line of JSON in ASCII.
"""

from __future__ import annotations

from finalstage import __version__
from finalstage.console import to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, TypeVar

    Entry = TypeVar("Entry")
    Layer = tuple[str, str, str, float, float, str | None]
    Words = tuple[float, bool, str]

MAGIC = b"finalstage report 1\n"
LONGEST_HEAD = len(MAGIC) + 24
"""Bytes until the JSON begins, at most."""

PRIME = (1 << 32) - 5

MOST_LAYERS, MOST_SAID = 1024, 256
"""How many layers, and how many lines, are remembered. There may be a hundred thousand."""

LONGEST = 240
"""Characters of one name or line; a path may have 4,096."""

SHORTEST_PHASE = 0.001
SAID_SHARE = 3 / 4
"""Of the room, for lines: the rest is for layers, and what lines leave."""

ABOUT_LAYERS = frozenset(("close", "settle"))


class Report:
    """It takes in each record as it is made, and can be written at any time. Lines that begin with
    one of `urgent` come before all others."""

    def __init__(self, urgent: tuple[str, ...] = ()) -> None:
        self.urgent = urgent
        self.facts: dict[str, object] = {"schema": 1, "version": __version__}
        self.phases: list[tuple[str, float]] = []
        self.said: list[Words] = []
        self.layers: dict[tuple[str, str, str | None], Layer] = {}
        self.said_left_out = 0
        self.layers_left_out = 0

    def take(self, at: float, event: str, facts: Mapping[str, Any]) -> None:
        """Take in a record, `at` seconds after the start."""
        if event == "phase":
            self.phases.append((facts["phase"], at))
        elif event in ABOUT_LAYERS:
            error = short(facts["error"]) if facts["error"] else None
            # What is tried again and again counts once, as long as it ends in the same way.
            self.layers[facts["id"], event, error] = (
                *(short(facts["layer"]), facts["kind"], event, at, facts["seconds"], error),
            )
            if len(self.layers) >= 2 * MOST_LAYERS:
                ranked = sorted(self.layers.items(), key=lambda item: _rank_of_layer(item[1]))
                self.layers = dict(ranked[:MOST_LAYERS])
                self.layers_left_out += len(ranked) - MOST_LAYERS
        elif event == "start":
            self.facts |= {"verb": facts["verb"], "when": facts["when"]}
        elif event == "summary":
            self.facts |= {
                "seconds": at,
                "closed": facts["gone"],
                "remaining": len(facts["remaining"]),
                "keys_left": facts["keys_left"],
            }
        elif event in ("problem", "note"):
            self.said.append((at, event == "problem", short(facts["words"])))
            if len(self.said) >= 2 * MOST_SAID:
                self.said.sort(key=self._rank_of_words)
                self.said_left_out += len(self.said) - MOST_SAID
                del self.said[MOST_SAID:]

    def written(self, most: int) -> bytes:
        """Return it in at most so many bytes, of which it takes 300 at least: the phases, problems,
        then the layers that failed or took longest."""
        ends = [at for _, at in self.phases[1:]] + [float("inf")]
        phases = [
            (name, at)
            for (name, at), end in zip(self.phases, ends, strict=False)
            if end - at >= SHORTEST_PHASE
        ]
        counts = {"said_left_out": len(self.said), "layers_left_out": len(self.layers)}
        frame = {**self.facts, "phases": phases, **counts, "said": [], "layers": []}
        room = most - LONGEST_HEAD - len(to_json(frame))
        if room < 0:
            phases, room = [], 0
        said, used = _fit(sorted(self.said, key=self._rank_of_words), int(room * SAID_SHARE))
        layers, _ = _fit(sorted(self.layers.values(), key=_rank_of_layer), room - used)
        body = to_json(
            {
                **self.facts,
                "phases": phases,
                "said_left_out": self.said_left_out + len(self.said) - len(said),
                "layers_left_out": self.layers_left_out + len(self.layers) - len(layers),
                "said": said,
                "layers": layers,
            }
        ).encode()
        return MAGIC + f"{len(body)} {checksum(body)}\n".encode() + body

    def _rank_of_words(self, entry: Words) -> tuple[bool, bool, float]:
        at, is_problem, words = entry
        return not words.startswith(self.urgent), not is_problem, at


def checksum(body: bytes) -> int:
    """Return a number of 32 bits that damage changes. Neither zlib nor binascii is in the tree."""
    return int.from_bytes(body, "big") % PRIME


def short(words: str) -> str:
    """Return words that are cut where they are too long."""
    return words if len(words) <= LONGEST else words[: LONGEST - 3] + "..."


def _fit(entries: Iterable[Entry], room: int) -> tuple[list[Entry], int]:
    """Return those entries that fit into so many bytes, one after the other, and what they take."""
    found: list[Entry] = []
    used = 0
    for entry in entries:
        size = len(to_json(entry)) + len(", ")
        if used + size <= room:
            found.append(entry)
            used += size
    return found, used


def _rank_of_layer(entry: Layer) -> tuple[bool, float]:
    *_, seconds, error = entry
    return error is None, -seconds
