"""Small stages, formats and files for tests, written as a user would write extensions."""

import json
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from baihua.core import kinds

NOTE_STAGE = '''
"""Write a text, with the text of the input before it."""
from pathlib import Path
from typing import Annotated
from pydantic import AfterValidator
from baihua.core.artifact import hash_file
from baihua.core.config import Base, content, execution, located
from baihua.core.errors import RunError
from baihua.core.stage import Input

VERSION = 1
INPUTS = {"before": Input(("note",), is_required=False)}
OUTPUT = ("note",)

class Inner(Base):
    """A config inside."""
    depth: int = 1
    """How deep."""
    label: str = execution("")
    """A name."""

class Config(Base):
    """What to write."""
    text: str
    """The text."""
    threads: int = execution(1)
    """How many threads."""
    seed: int = 0
    """Which draw."""
    inner: Inner = Inner()
    """More."""
    file: Annotated[str, AfterValidator(located)] | None = content(None)
    """A file whose text is added."""
    trap: str = execution("")
    """While this file exists, the stage stops half way."""

def fingerprint(config):
    return hash_file(Path(config.file)) if config.file else None

def run(config, inputs, out):
    before = (inputs["before"] / "note.txt").read_text() if "before" in inputs else ""
    (out / "note.txt").write_text("half")
    if config.trap and Path(config.trap).exists():
        raise RunError("caught in the trap")
    (out / "note.txt").write_text(before + config.text)
    (out / "parts").mkdir(exist_ok=True)
    (out / "parts" / "note.txt").write_text(config.text)
    return {"num_chars": len(before + config.text)}
'''

COUNT_STAGE = '''
"""Count something that is not a note."""
from baihua.core.config import Base
from baihua.core.stage import Input

VERSION = 1
INPUTS = {"note": Input(("note",))}
OUTPUT = ("count",)

class Config(Base):
    """Nothing to choose."""

def run(config, inputs, out):
    (out / "count.txt").write_text("1")
    return {}
'''

STAGES = {"stages/note.py": NOTE_STAGE, "stages/count.py": COUNT_STAGE}
PACKAGES = ("baihua.stages", "baihua.data.formats", "baihua.data.filters")

Extend = Callable[[dict[str, str]], Path]


def write_extensions(folder: Path, files: dict[str, str]) -> Path:
    """A folder of extensions, laid out like the package."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def take_back(folder: Path) -> None:
    """Undo `kinds.extend`, for the tests that come after."""
    for name in PACKAGES:
        package = import_module(name)
        package.__path__[:] = [path for path in package.__path__ if not Path(path).is_relative_to(folder)]
    for name, module in list(sys.modules.items()):
        if module.__dict__.get("__file__") and Path(str(module.__file__)).is_relative_to(folder):
            del sys.modules[name]


def extend(folder: Path, files: dict[str, str]) -> Path:
    """Write extensions and use them in this process."""
    kinds.extend(write_extensions(folder, files))
    return folder


def write_lines(file: Path, values: Iterable[Any]) -> Path:
    """A JSON Lines file; a text is written as it is."""
    lines = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values)
    file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return file


def talk(*texts: str, group: str | None = None) -> dict[str, Any]:
    """A record in our own format: user and assistant in turn."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return {"messages": messages} | ({"group": group} if group else {})
