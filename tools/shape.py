"""Measure the shape of our own code from its syntax trees; `--check` fails where a hard limit is passed.

Usage: python tools/shape.py [--check] [FOLDER]
"""

import ast
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
Function = ast.FunctionDef | ast.AsyncFunctionDef
NESTING = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.AsyncFor, ast.AsyncWith, ast.Match)
# What mccabe counts: statements, not expressions.
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)
LARGEST_FILE = 350
LARGEST = {"lines": 60, "deep": 3, "branches": 10}
BANNED_NAMES = {"utils", "common", "helpers", "misc"}


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure, the largest value it may have, and how to get it."""

    name: str
    largest: float
    measure: Callable[[list["Module"]], float]


@dataclass(frozen=True, slots=True)
class Module:
    """One parsed file."""

    file: Path
    text: str
    tree: ast.Module

    @property
    def num_lines(self) -> int:
        """All lines, blank ones and comments included."""
        return self.text.count("\n")

    def functions(self) -> Iterator[Function]:
        """Every function and method."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))


def read(folder: Path) -> list[Module]:
    """Parse every Python file below a folder, sorted."""
    files = sorted(folder.rglob("*.py"))
    texts = [(file, file.read_text(encoding="utf-8")) for file in files]
    return [Module(file, text, ast.parse(text)) for file, text in texts if text.strip()]


def length(function: Function) -> int:
    """Lines of a function, its docstring left out."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


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


def num_arguments(function: Function) -> int:
    """Arguments of a function without self and cls."""
    return len(arguments(function))


def arguments(function: Function) -> list[ast.arg]:
    """The arguments that a caller gives."""
    found = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return [argument for argument in found if argument.arg not in ("self", "cls")]


def is_typed(function: Function) -> bool:
    """Whether every argument and the result have a type."""
    return function.returns is not None and all(argument.annotation for argument in arguments(function))


def undocumented(modules: list[Module]) -> list[str]:
    """Public functions and classes without a docstring."""
    found: list[str] = []
    for module in modules:
        for node in module.tree.body:
            if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                found.append(f"{module.file.name}:{node.name}")
    return found


def count(modules: list[Module], test: Callable[[ast.AST], bool]) -> int:
    """Nodes of all files that pass a test."""
    return sum(test(node) for module in modules for node in ast.walk(module.tree))


def is_call_of(*names: str) -> Callable[[ast.AST], bool]:
    """A test for calls of plain functions by name."""
    return lambda node: isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names


def catches_all(node: ast.AST) -> bool:
    """Whether a handler catches everything."""
    if not isinstance(node, ast.ExceptHandler):
        return False
    return node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))


def percentile(values: list[int], share: float) -> float:
    """The value below which a share of the values lies."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def outside_cli(modules: list[Module]) -> list[Module]:
    """Files but those of the command line, where the arguments of a verb are its options."""
    return [module for module in modules if "cli" not in module.file.parts]


def all_functions(modules: list[Module]) -> list[Function]:
    """Functions of all files."""
    return [function for module in modules for function in module.functions()]


def untyped(modules: list[Module]) -> int:
    """How many functions lack a type."""
    return sum(not is_typed(function) for function in all_functions(modules))


def passing_functions(modules: list[Module]) -> list[str]:
    """Where a limit of a single file or function is passed."""
    found = [f"{m.file}: {m.num_lines} lines" for m in modules if m.num_lines > LARGEST_FILE]
    for module in modules:
        for function in module.functions():
            figures = {"lines": length(function), "deep": depth(function), "branches": complexity(function)}
            passed = [f"{figures[unit]} {unit}" for unit in figures if figures[unit] > LARGEST[unit]]
            found += [f"{module.file}:{function.lineno} {function.name}: {', '.join(passed)}"] if passed else []
    return found


LIMITS = [
    Limit("file lines, largest", LARGEST_FILE, lambda ms: max(m.num_lines for m in ms)),
    Limit("file lines, p95", 250, lambda ms: percentile([m.num_lines for m in ms], 0.95)),
    Limit("file lines, median", 80, lambda ms: statistics.median(m.num_lines for m in ms)),
    Limit("function lines, largest", LARGEST["lines"], lambda ms: max(map(length, all_functions(ms)))),
    Limit("function lines, p95", 35, lambda ms: percentile([length(f) for f in all_functions(ms)], 0.95)),
    Limit("function lines, median", 8, lambda ms: statistics.median(map(length, all_functions(ms)))),
    Limit("nesting, deepest", LARGEST["deep"], lambda ms: max(map(depth, all_functions(ms)))),
    Limit("complexity, largest", LARGEST["branches"], lambda ms: max(map(complexity, all_functions(ms)))),
    Limit("complexity, p95", 6, lambda ms: percentile([complexity(f) for f in all_functions(ms)], 0.95)),
    Limit("arguments, largest (outside cli)", 7, lambda ms: max(map(num_arguments, all_functions(outside_cli(ms))))),
    Limit(
        "arguments, p95 (outside cli)",
        4,
        lambda ms: percentile([num_arguments(f) for f in all_functions(outside_cli(ms))], 0.95),
    ),
    Limit("functions not fully typed", 0, untyped),
    Limit("public names without docstring", 0, lambda ms: len(undocumented(ms))),
    Limit("global statements", 0, lambda ms: count(ms, lambda node: isinstance(node, ast.Global))),
    Limit("getattr, hasattr, setattr", 0, lambda ms: count(ms, is_call_of("getattr", "hasattr", "setattr"))),
    Limit("exec, eval", 0, lambda ms: count(ms, is_call_of("exec", "eval"))),
    # At the entry point, where whatever is left becomes one block for the user, and where a worker process ends.
    Limit("catch-all handlers", 2, lambda ms: count(ms, catches_all)),
    Limit("modules named utils and the like", 0, lambda ms: sum(m.file.stem in BANNED_NAMES for m in ms)),
]


def main() -> int:
    """Print the table; with --check, 1 if a limit is passed."""
    words = [word for word in sys.argv[1:] if word != "--check"]
    modules = read(Path(words[0]) if words else ROOT / "src" / "baihua")
    print(f"{'files':<36}{len(modules):>8}\n{'lines, all':<36}{sum(m.num_lines for m in modules):>8,}")
    is_passed = False
    for limit in LIMITS:
        value = limit.measure(modules)
        is_passed |= value > limit.largest
        verdict = "   <-- too much" if value > limit.largest else ""
        print(f"{limit.name:<36}{value:>8g}   at most {limit.largest:g}{verdict}")
    for line in [f"no docstring: {name}" for name in undocumented(modules)] + passing_functions(modules):
        print(line)
    return int(is_passed and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
