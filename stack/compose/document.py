"""Compose files as plain data: YAML with anchors and `<<`, nothing understood yet."""

from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.nodes import MappingNode, Node, ScalarNode

from stack.errors import ComposeError


class Reset:
    """`!reset`: in an override, takes away what stands at this key."""


RESET = Reset()


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, as Compose does; what `<<` brings may be replaced."""

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in (_text(key) for key, _ in node.value):
            if key in seen:
                problem = f"{key!r} stands twice in one mapping"
                raise ComposerError(None, None, problem, node.start_mark)
            seen.add(key)
        return node


def _reset(loader: _Loader, node: Node) -> Reset:
    return RESET


_Loader.add_constructor("!reset", _reset)


def _text(key: Node) -> str:
    return str(key.value) if isinstance(key, ScalarNode) else repr(key)


def load(path: Path) -> dict[str, Any]:
    """The document of one file.

    Raises:
        ComposeError: it is unreadable, no YAML, or no mapping with text keys.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ComposeError(path, [str(error).replace("\n", " ")]) from error
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ComposeError(path, [f"the file is {document!r}, expected a mapping with text keys"])
    return document
