"""One event's story as a tree: its spans by parent, and across traces by link."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.tree import Tree

from workbench.spans import Span

# The closest relation first: an attempt hangs below the attempt before it, not below the origin all of them share.
_NEAREST = {"retry": 0, "dead_letter": 1, "origin": 2}


@dataclass
class Node:
    """A span and what followed from it; `via` tells whether as a child or by which link."""

    span: Span
    via: str = "parent"
    children: "list[Node]" = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Return the tree for `--json`."""
        span = self.span
        return {
            "name": span.name,
            "service": span.service,
            "kind": span.kind,
            "via": self.via,
            "milliseconds": round((span.end_ns - span.start_ns) / 1e6, 1),
            "error": span.attributes.get("error.type", "") if span.status_error else "",
            "children": [child.facts() for child in self.children],
        }

    def walk(self) -> "Iterator[Node]":
        """Go through the tree, depth first."""
        yield self
        for child in self.children:
            yield from child.walk()


def grow(spans: Iterable[Span], event_id: str) -> Node | None:
    """Build the tree of the request that created an event; None when its creation was not seen."""
    known = {(span.trace_id, span.span_id): span for span in spans}
    created = next((s for s in known.values() if s.name.startswith("create ") and _is_about(s, event_id)), None)
    if created is None:
        return None
    root = created
    while (parent := known.get((root.trace_id, root.parent_id))) is not None:
        root = parent
    nodes = {key: Node(span) for key, span in known.items()}
    for span in sorted(known.values(), key=lambda span: span.start_ns):
        above, via = _above(span, known)
        if above is not None and span is not root:
            nodes[span.trace_id, span.span_id].via = via
            nodes[above].children.append(nodes[span.trace_id, span.span_id])
    return nodes[root.trace_id, root.span_id]


def _above(span: Span, known: dict[tuple[str, str], Span]) -> tuple[tuple[str, str] | None, str]:
    if span.parent_id:
        key = (span.trace_id, span.parent_id)
        return (key if key in known else None), "parent"
    if span.name.startswith("redrive "):  # it is begun before its first letter is read, so it has no link of its own
        sent = [s for s in known.values() if (s.trace_id, s.parent_id) == (span.trace_id, span.span_id)]
        return next((a for a in (_linked(child, known) for child in sent) if a[0]), (None, "parent"))
    return _linked(span, known)


def _linked(span: Span, known: dict[tuple[str, str], Span]) -> tuple[tuple[str, str] | None, str]:
    links = sorted(span.links, key=lambda link: _NEAREST.get(link.attributes.get("app.link.type", "origin"), 3))
    for link in links:
        if (link.trace_id, link.span_id) in known:
            return (link.trace_id, link.span_id), str(link.attributes.get("app.link.type", "send"))
    return None, "parent"


def _is_about(span: Span, event_id: str) -> bool:
    return span.attributes.get("messaging.message.id") == event_id


def draw(node: Node, tree: Tree | None = None) -> Tree:
    """Return the tree for a terminal."""
    span = node.span
    took = f"{(span.end_ns - span.start_ns) / 1e6:.1f} ms"
    mark = "" if node.via == "parent" else f"[magenta]↪ {node.via}[/magenta] "
    error = f" [red]{span.attributes.get('error.type', 'error')}[/red]" if span.status_error else ""
    label = f"{mark}[cyan]{span.service}[/cyan] {span.name} [dim]{took}[/dim]{error}"
    branch = Tree(label) if tree is None else tree.add(label)
    for child in node.children:
        draw(child, branch)
    return branch
