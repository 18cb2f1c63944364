"""What an artifact was made from, as an indented tree."""

from typing import Any


def format_lineage(node: dict[str, Any], depth: int = 0, role: str = "") -> str:
    """One line for an artifact, and indented below it those of its inputs."""
    numbers = [f"{name} {value:,}" for name, value in node["metrics"].items() if isinstance(value, int | float)]
    content = f"  [{node['content']}]" if node["content"] else ""
    figures = f"  {', '.join(numbers[:4])}" if numbers else ""
    line = f"{'  ' * depth}{role and f'{role}: '}{node['stage']} {node['id'][:16]}{content}{figures}"
    return "\n".join([line, *(format_lineage(below, depth + 1, name) for name, below in node["inputs"].items())])
