"""A stack as a tree in text, as lsblk(8) would draw it: from the disks up to the mounts.

What stands on several things is drawn in full below the last of them, which for a mount is its
device; at the others it is only named, with where to look. So each layer and each edge is one line
at most, and circles are no harm.
"""

from __future__ import annotations

from finalstage.stack import covering, within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.stack import Layer, Stack

ASCII = ("|-", "`-", "| ", "  ")
UNICODE = ("├─", "└─", "│ ", "  ")
"""What stands before a layer that others follow and before the last one, and below these two."""

WIDEST = 24
"""Steps to the right after which what is above is drawn further below, from the left again."""


def draw(stack: Stack, branches: tuple[str, str, str, str] = ASCII) -> str:
    """Return the drawing, lines with their ends; "" of an empty stack."""
    return "".join(f"{line}\n" for line in Drawing(stack, branches).lines)


def below(stack: Stack, ids: list[str]) -> Stack:
    """Return the part of a stack that some layers stand on, with these."""
    return within(stack, covering(stack, ids))


class Drawing:
    """A drawing. `rows` are its lines: what stands before a layer, the layer, and words behind it.

    `home` says below what each layer is drawn in full.
    """

    def __init__(self, stack: Stack, branches: tuple[str, str, str, str]) -> None:
        self.branches = branches
        self.layers = stack.by_id
        self.above = stack.above
        self.home: dict[str, str] = {}
        for layer in self.layers.values():
            for lower in layer.below:
                if lower in self.layers and lower != layer.id:
                    self.home[layer.id] = lower
        self.rows: list[tuple[str, Layer, str]] = []
        self.drawn: set[str] = set()
        for id, layer in self.layers.items():
            if id not in self.home:
                self.tree(layer, "")
        for id, layer in self.layers.items():
            if id not in self.drawn:
                self.home[id] = ""
                self.tree(layer, " (stands on itself)")

    def tree(self, layer: Layer, words: str) -> None:
        """Draw a layer at the left edge, and what stands on it."""
        roots = [(layer, words)]
        for root, note in roots:  # grows while it is walked
            self.drawn.add(root.id)
            self.rows.append(("", root, note))
            todo = self.children(root, "")
            while todo:
                child, prefix, branch, indent = todo.pop()
                full = self.home.get(child.id) == branch and child.id not in self.drawn
                note = "" if full else self.elsewhere(child)
                if full:
                    self.drawn.add(child.id)
                    if len(indent) < WIDEST * 2:
                        todo += self.children(child, indent)
                    elif self.above[child.id]:
                        note = " (goes on below)"
                        roots.append((child, " (goes on)"))
                self.rows.append((prefix, child, note))

    @property
    def lines(self) -> list[str]:
        """The drawing as lines of text."""
        return [f"{prefix}{layer.title}{note}" for prefix, layer, note in self.rows]

    def children(self, layer: Layer, indent: str) -> list[tuple[Layer, str, str, str]]:
        """Return what stands on a layer, the first one last: with its prefix, and the prefix of
        what stands on it in turn."""
        more, last, beside, nothing = self.branches
        users = [self.layers[id] for id in dict.fromkeys(self.above[layer.id])]
        found = [(user, indent + more, layer.id, indent + beside) for user in users[:-1]]
        found += [(user, indent + last, layer.id, indent + nothing) for user in users[-1:]]
        return found[::-1]

    def elsewhere(self, layer: Layer) -> str:
        """Say where a layer is drawn in full."""
        home = self.layers.get(self.home.get(layer.id, ""))
        return f" (see {home.title})" if home else " (see above)"
