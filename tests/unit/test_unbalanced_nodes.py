"""When a cluster is told to move shards: where that helps, and never because a pair is large."""

from __future__ import annotations

import pytest

from kraken_db.backends import Node
from kraken_db.status import unbalanced

GIB = 2**30


def node(name: str, *shards: float, takes: bool = True) -> Node:
    sizes = [int(size * GIB) for size in shards]
    return Node(name, sizes, sum(sizes), takes)


@pytest.mark.parametrize(
    "nodes, named",
    [
        # A node that was added has nothing yet.
        ([node("a", 1, 1, 1), node("b", 1, 1, 1), node("new")], ("a", "new")),
        # 4 and 2: one of 1 evens them.
        ([node("a", 1, 1, 2), node("b", 1, 1)], ("a", "b")),
        # 5 and 2, and all of it is one pair: moved, it would only make the other one the fullest.
        ([node("a", 5), node("b", 1, 1)], None),
        # 2.2 and 2: less than a quarter above the share of 2.1.
        ([node("a", 0.1, 1.1, 1), node("b", 1, 1)], None),
        # Far apart, and next to nothing.
        ([node("a", 0.2, 0.2), node("b")], None),
        # A coordinator takes no shards: that it has none is as it should be.
        ([node("a", 2, 2), node("b", 2, 2), node("coordinator", takes=False)], None),
        ([node("alone", 9, 9)], None),
        ([], None),
    ],
)
def test_unbalanced(nodes: list[Node], named: tuple[str, str] | None) -> None:
    found = unbalanced(nodes)
    assert (found and tuple(node.name for node in found)) == named
