"""The examples of the guides, so that tests can run what a reader copies."""

from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def python_example(guide: str, word: str) -> str:
    """The Python file in a guide that holds a word."""
    blocks = (DOCS / guide).read_text(encoding="utf-8").split("```python\n")[1:]
    [code] = [code for block in blocks if word in (code := block.partition("```")[0])]
    return code
