"""Topic filters by their levels: those that a topic belongs to are found without looking at the others. Pure."""

from __future__ import annotations

from attrs import define, field


@define(eq=False)
class _Node:
    children: dict[str, _Node] = field(factory=dict)  # by level, ``+`` and ``#`` among them
    names: dict[str, int] = field(factory=dict)  # that end here, and when they were added


@define(eq=False)
class FilterTree:
    """Named topic filters. One topic costs its own levels, however many filters there are."""

    _root: _Node = field(factory=_Node)
    _added: int = 0

    def add(self, name: str, topic_filter: str) -> None:
        """Keep *topic_filter* (without ``$share``) under *name*, which is new."""
        node = self._root
        for level in topic_filter.split("/"):
            node = node.children.setdefault(level, _Node())
        self._added += 1
        node.names[name] = self._added

    def remove(self, name: str, topic_filter: str) -> None:
        """Forget what `add` was given."""
        levels = topic_filter.split("/")
        path = [self._root]
        for level in levels:
            path.append(path[-1].children[level])
        del path[-1].names[name]
        while levels and not path[-1].names and not path[-1].children:
            path.pop()
            del path[-1].children[levels.pop()]

    def matching(self, topic: str) -> list[str]:
        """The names of the filters that *topic* belongs to, in the order of adding. Source: MQTT 5, 4.7.1 and 4.7.2."""
        found: dict[str, int] = {}
        nodes = [self._root]
        is_first = True
        for level in topic.split("/"):
            following: list[_Node] = []
            for node in nodes:
                # A wildcard in the first level stands for no topic with a leading $.
                keys = {level} if is_first and topic.startswith("$") else {level, "+", "#"}
                for key in keys:
                    child = node.children.get(key)
                    if child is None:
                        continue
                    if key == "#":
                        found.update(child.names)
                    else:
                        following.append(child)
            nodes = following
            is_first = False
        for node in nodes:
            found.update(node.names)
            if (rest := node.children.get("#")) is not None:  # ``a/#`` takes ``a`` as well
                found.update(rest.names)
        return sorted(found, key=found.__getitem__)
