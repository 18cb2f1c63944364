"""What made an artifact, for a terminal."""

from typing import Any


def tree(node: dict[str, Any], depth: int = 0, role: str = "") -> str:
    """An artifact and, indented below it, what it was made from."""
    metrics = {name: value for name, value in node["metrics"].items() if isinstance(value, int | float)}
    figures = ", ".join(f"{name} {value:,}" for name, value in list(metrics.items())[:4])
    head = f"{'  ' * depth}{role + ': ' if role else ''}{node['stage']} {node['id'][:16]}"
    line = head + (f"  [{node['content']}]" if node["content"] else "") + (f"  {figures}" if figures else "")
    return "\n".join([line, *(tree(below, depth + 1, name) for name, below in node["inputs"].items())])
