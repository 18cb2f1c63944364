"""Measure the shape of Baihua's code from its syntax trees; `--check` fails where an enforced limit is exceeded.

Usage: python tools/shape.py [--check] [FOLDER]
"""

import ast
import io
import statistics
import sys
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
NESTING = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.AsyncFor, ast.AsyncWith, ast.Match)
# What mccabe counts: statements, not expressions.
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
LARGEST_FILE = 350
LARGEST = {"lines": 60, "deep": 3, "branches": 10}
BANNED_NAMES = {"utils", "common", "helpers", "misc"}
# One file for each kind, so the number of files is the number of features; `core` has one file for each noun.
REGISTRIES = {"core", "filters", "formats", "methods", "stages", "templates", "verbs"}


@dataclass(frozen=True, slots=True)
class Module:
    """One parsed file."""

    file: Path
    tree: ast.Module
    nodes: list[ast.AST]
    num_lines: int
    num_code_lines: int


def parse(file: Path) -> Module:
    """Parse a file and count its lines; those of code without blank lines, comments and docstrings."""
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    strings = [one for node in nodes if isinstance(node, Documented) for one in node.body if is_text(one)]
    tokens = [one for one in tokenize.generate_tokens(io.StringIO(text).readline) if one.type not in LAYOUT]
    code = {line for one in tokens for line in range(one.start[0], one.end[0] + 1)}
    code -= {line for one in strings for line in range(one.lineno, (one.end_lineno or 0) + 1)}
    return Module(file, tree, nodes, text.count("\n"), len(code))


def is_text(node: ast.AST) -> bool:
    """Whether a statement is only a string, such as a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def functions(modules: Sequence[Module]) -> list[Function]:
    """Functions and methods of all files."""
    return [node for module in modules for node in module.nodes if isinstance(node, Function)]


def length(function: Function) -> int:
    """Lines of a function without its docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    return lines - ((first.end_lineno or 0) - first.lineno + 1 if is_text(first) else 0)


def depth(node: ast.AST) -> int:
    """How deep blocks nest; `elif` counts like the `if` it belongs to."""
    below = 0
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, Function | ast.Lambda | ast.ClassDef):
                continue
            is_elif = isinstance(node, ast.If) and name == "orelse" and isinstance(child, ast.If)
            below = max(below, depth(child) + (isinstance(child, NESTING) and not is_elif))
    return below


def complexity(function: Function) -> int:
    """Branches plus one, as mccabe counts them."""
    return 1 + sum(isinstance(node, BRANCHES) for node in ast.walk(function))


def arguments(function: Function) -> list[ast.arg]:
    """The arguments that a caller gives."""
    found = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return [argument for argument in found if argument.arg not in ("self", "cls")]


def is_untyped(function: Function) -> bool:
    """Whether an argument or the result has no type."""
    return function.returns is None or not all(argument.annotation for argument in arguments(function))


def undocumented(modules: Sequence[Module]) -> list[str]:
    """Public functions and classes without a docstring."""
    nodes = [(m, node) for m in modules for node in m.tree.body if isinstance(node, Function | ast.ClassDef)]
    return [f"{m.file}:{n.name}" for m, n in nodes if not n.name.startswith("_") and not ast.get_docstring(n)]


def is_call_of(*names: str) -> Callable[[ast.AST], bool]:
    """A test for calls of plain functions by name."""
    return lambda node: isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names


def catches_all(node: ast.AST) -> bool:
    """Whether a handler catches everything."""
    if not isinstance(node, ast.ExceptHandler):
        return False
    return node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))


def lazy_imports(modules: Sequence[Module]) -> list[str]:
    """Imports of this project's own modules inside functions."""
    found: set[str] = set()
    for module in modules:
        for node in (below for function in functions([module]) for below in ast.walk(function)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                first = (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
                found |= {f"{module.file}:{node.lineno}"} if first.split(".")[0] == "baihua" else set()
    return sorted(found)


def doubled_classes(modules: Sequence[Module]) -> list[str]:
    """Class names that are defined more than once; every kind has a Config."""
    names = Counter(node.name for module in modules for node in module.nodes if isinstance(node, ast.ClassDef))
    return sorted(name for name, times in names.items() if times > 1 and name != "Config")


def crowded_folders(modules: Sequence[Module], *, least: int = 9) -> dict[str, int]:
    """Folders with many loose files, `__init__` not counted; registries are left out."""
    folders = Counter(module.file.parent for module in modules if module.file.stem != "__init__")
    return {str(folder): n for folder, n in folders.items() if n >= least and folder.name not in REGISTRIES}


def exceeding(modules: Sequence[Module]) -> Iterator[str]:
    """Files and functions that exceed a limit of their own."""
    yield from (f"{m.file}: {m.num_lines} lines" for m in modules if m.num_lines > LARGEST_FILE)
    for module in modules:
        for function in functions([module]):
            figures = {"lines": length(function), "deep": depth(function), "branches": complexity(function)}
            found = [f"{figures[unit]} {unit}" for unit in figures if figures[unit] > LARGEST[unit]]
            if found:
                yield f"{module.file}:{function.lineno} {function.name}: {', '.join(found)}"


def measure(modules: Sequence[Module]) -> list[tuple[str, float, float]]:
    """Name, value and limit of each figure."""
    found = functions(modules)
    nodes = [node for module in modules for node in module.nodes]
    # The arguments of a verb are its options.
    num_arguments = [len(arguments(f)) for f in functions([m for m in modules if "cli" not in m.file.parts])] or [0]
    files, lines, branches = [m.num_lines for m in modules], [*map(length, found)], [*map(complexity, found)]
    return [
        ("file lines, largest", max(files), LARGEST_FILE),
        ("file lines, p95", percentile(files), 250),
        ("file lines, median", statistics.median(files), 100),
        ("function lines, largest", max(lines), LARGEST["lines"]),
        ("function lines, p95", percentile(lines), 35),
        ("function lines, median", statistics.median(lines), 8),
        ("nesting, deepest", max(map(depth, found)), LARGEST["deep"]),
        ("complexity, largest", max(branches), LARGEST["branches"]),
        ("complexity, p95", percentile(branches), 6),
        ("arguments, largest (outside cli)", max(num_arguments), 7),
        ("arguments, p95 (outside cli)", percentile(num_arguments), 4),
        ("functions not fully typed", sum(map(is_untyped, found)), 0),
        ("public names without docstring", len(undocumented(modules)), 0),
        ("global statements", sum(isinstance(node, ast.Global) for node in nodes), 0),
        ("getattr, hasattr, setattr", sum(map(is_call_of("getattr", "hasattr", "setattr"), nodes)), 0),
        ("exec, eval", sum(map(is_call_of("exec", "eval"), nodes)), 0),
        # At the entry point, where any error becomes one message for the user, and where a worker process ends.
        ("catch-all handlers", sum(map(catches_all, nodes)), 2),
        ("modules named utils and the like", sum(m.file.stem in BANNED_NAMES for m in modules), 0),
        ("code lines, all", sum(m.num_code_lines for m in modules), 16_500),
        ("first-party imports inside functions", len(lazy_imports(modules)), 60),
        # Optional members of a registry's files, and the packages that are loaded (core/kinds.py).
        ("calls of vars", sum(map(is_call_of("vars"), nodes)), 2),
        ("class names defined twice", len(doubled_classes(modules)), 0),
        ("loose files in a folder, most", max(crowded_folders(modules, least=0).values(), default=0), 12),
    ]


def percentile(values: list[int], share: float = 0.95) -> float:
    """The value below which a share of the values lies."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def main() -> int:
    """Print the table; with --check, return 1 if an enforced limit is exceeded."""
    words = [word for word in sys.argv[1:] if word != "--check"]
    root = Path(words[0]) if words else ROOT / "src" / "baihua"
    modules = [parse(file) for file in sorted(root.rglob("*.py")) if file.stat().st_size]
    print(f"{'files':<36}{len(modules):>8}\n{'lines, all':<36}{sum(m.num_lines for m in modules):>8,}")
    failed = False
    for name, value, largest in measure(modules):
        failed |= value > largest
        print(f"{name:<36}{value:>8g}   at most {largest:g}{'   <-- too much' if value > largest else ''}")
    packages: Counter[str] = Counter()
    for module in modules:
        packages[module.file.relative_to(root).parts[0]] += module.num_code_lines
    print("code lines: " + ", ".join(f"{name} {lines:,}" for name, lines in packages.most_common()))
    remarks = [f"no docstring: {name}" for name in undocumented(modules)] + [*exceeding(modules)]
    remarks += [f"class defined twice: {name}" for name in doubled_classes(modules)]
    remarks += [f"{folder}: {n} loose files" for folder, n in crowded_folders(modules).items()]
    print("\n".join(remarks))
    return int(failed and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
