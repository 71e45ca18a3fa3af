"""The house: who may know whom, nothing in circles, nobody's private parts, and files that can be read in a sitting.

Read from the sources with `ast`, so an import inside a function counts as well, and one that is only a string does.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ARROWS = {
    "train": {"simulator"},
    "export": {"simulator", "train"},
    "simulator": set(),
    "firmware_bridge": {"simulator"},
    "edge": {"simulator", "firmware_bridge"},
}
ON_DEVICES = ("simulator", "firmware_bridge", "edge")
NOT_ON_DEVICES = ("torch", "onnx", "ai_edge_litert")
LONGEST = 600  # lines of a file that gives no reason for more
REASON = "one file because"  # how a longer file says why, within its first lines
FIRST_LINES = 20
# The documented interface of named tuples, and parts of os and torch that have no other name.
NOT_PRIVATE = ("_asdict", "_fields", "_make", "_replace", "_exit", "_dynamo", "_inductor")

SOURCES = {
    path.relative_to(ROOT): ast.parse(path.read_text(), str(path))
    for package in (*ARROWS, "tests")
    for path in sorted((ROOT / package).rglob("*.py"))
}
PACKAGED = {path: tree for path, tree in SOURCES.items() if path.parts[0] in ARROWS}


def module_of(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCES}


def imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports; of `from a import b`, `a.b` where that is a module of this project."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        assert node.level == 0, "imports are absolute in this project"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in MODULES else node.module for name in names]
    return []


def strings(tree: ast.AST) -> Iterator[ast.Constant]:
    """Every string that is not a docstring."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node


# A whole command, and the imports of a program for another process; a sentence that names a command is neither.
COMMAND = re.compile(r"(?:python3? +)?-m +(\w+)(?:\.\w+)*(?: .*)?")
IMPORT_LINE = re.compile(r"^ *(?:from|import) +(\w+)", re.MULTILINE)


def reached(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, package of this project) of every import statement, and of every string that names a module to run."""
    for node in ast.walk(tree):
        for name in imported(node):
            yield node.lineno, name.partition(".")[0]
        if isinstance(node, ast.List | ast.Tuple | ast.Call):
            parts = node.args if isinstance(node, ast.Call) else node.elts
            words = [part.value if isinstance(part, ast.Constant) else None for part in parts]
            called = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module")
            for i, word in enumerate(words):
                if isinstance(word, str) and (words[i - 1] == "-m" if i else called):
                    yield node.lineno, word.partition(".")[0]
    for text in strings(tree):
        if text.value in MODULES and "." in text.value:
            yield text.lineno, text.value.partition(".")[0]
        command = COMMAND.fullmatch(text.value)
        for package in [command[1]] if command else IMPORT_LINE.findall(text.value):
            yield text.lineno, package


@pytest.mark.parametrize("package", ARROWS)
def test_a_package_knows_no_others_than_it_may(package: str) -> None:
    allowed = ARROWS[package] | {package}
    wrong = [
        f"{path}:{line} reaches {other}"
        for path, tree in PACKAGED.items()
        if path.parts[0] == package
        for line, other in reached(tree)
        if other in ARROWS and other not in allowed
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "packages"),
    [
        ("import export.onnx", ["export"]),
        ("def f():\n    from train import hkd", ["train"]),
        ("load('export.onnx')", ["export"]),
        ("run([python, '-m', 'edge.cli'])", ["edge"]),
        ("run('python -m edge.cli --help')", ["edge"]),
        ("run([python, '-m', 'edge'])", ["edge"]),
        ("importlib.import_module('train')", ["train"]),
        ("PROGRAM = '''\nimport sys\nfrom edge.cli import main\n'''", ["edge"]),
        ("'''`python -m export.bundle` writes one.'''", []),
        ("raise Error('no bundle; `python -m export.bundle` writes one')", []),
        ("folder = root / 'edge'", []),
    ],
)
def test_what_reaches_a_package_is_seen(source: str, packages: list[str]) -> None:
    assert sorted({name for _, name in reached(ast.parse(source)) if name in ARROWS}) == packages


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of names that reach one another (Tarjan's strongly connected components of more than one)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(arrows[name]):
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            group = [stack.pop()]
            while group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1 or name in arrows[name]:
                found.append(sorted(group))

    for name in arrows:
        if name not in index:
            visit(name)
    return found


def at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported, without those for type checkers only."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef | ast.For):
            for part in ("body", "orelse", "finalbody"):
                yield from at_import(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from at_import(handler.body)


def test_no_files_import_one_another_in_a_circle() -> None:
    arrows = {
        module_of(path): {name for node in at_import(tree.body) for name in imported(node) if name in MODULES}
        for path, tree in PACKAGED.items()
    }
    assert circles(arrows) == []


def test_no_c_files_include_one_another_in_a_circle() -> None:
    """A .c file and the header of its name count as one."""
    arrows: dict[str, set[str]] = {}
    for path in c_files():
        included = {Path(name).stem for name in re.findall(r'^#include "(.*)"', path.read_text(), re.MULTILINE)}
        arrows.setdefault(path.stem, set()).update(included - {path.stem})
    everything = {name for names in arrows.values() for name in names}
    assert circles({name: arrows.get(name, set()) for name in {*arrows, *everything}}) == []


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"e"}}) == [["a", "b", "c"], ["e"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def c_files() -> list[Path]:
    return [path for suffix in ("c", "h") for path in sorted((ROOT / "firmware_bridge").rglob(f"*.{suffix}"))]


def test_a_file_of_more_than_600_lines_gives_its_reason_in_its_first_lines() -> None:
    wrong = []
    for path in [*(ROOT / path for path in SOURCES), *c_files()]:
        lines = path.read_text().splitlines()
        start = " ".join(line.strip(" *#/") for line in lines[:FIRST_LINES])
        if len(lines) > LONGEST and REASON not in start.lower():
            wrong.append(f"{path.relative_to(ROOT)}: {len(lines)} lines, and no sentence with {REASON!r} at its start")
    assert not wrong, "\n".join(wrong)


def defined(tree: ast.AST) -> set[str]:
    """Names that a file gives to something: functions, classes, arguments, variables, and attributes of `self`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and own(node.value):
            names.add(node.attr)
    return names


def own(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("_") and name not in NOT_PRIVATE


def test_no_file_uses_a_private_part_of_another() -> None:
    """An attribute `_name` belongs to the file that defines it; `super()._name` to the file of the class above."""
    wrong = []
    for path, tree in PACKAGED.items():
        here = defined(tree)
        classes = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ARROWS:
                wrong += [f"{path}:{node.lineno} {alias.name}" for alias in node.names if private(alias.name)]
            elif isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in here:
                wrong.append(f"{path}:{node.lineno} {ast.unparse(node)}")
            elif isinstance(node, ast.ClassDef) and not classes & {ast.unparse(base) for base in node.bases}:
                wrong += [
                    f"{path}:{call.lineno} {ast.unparse(call)} of {', '.join(map(ast.unparse, node.bases))}"
                    for call in ast.walk(node)
                    if isinstance(call, ast.Attribute) and private(call.attr) and ast.unparse(call.value) == "super()"
                ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", ON_DEVICES)
def test_what_devices_run_imports_neither_torch_nor_onnx_nor_litert(package: str) -> None:
    wrong = [
        f"{path}:{node.lineno} {name}"
        for path, tree in PACKAGED.items()
        if path.parts[0] == package
        for node in ast.walk(tree)
        for name in imported(node)
        if name.partition(".")[0] in NOT_ON_DEVICES
    ]
    assert not wrong, "\n".join(wrong)
    # None in sys.modules is what an import of a missing package finds.
    modules = [module_of(path) for path in PACKAGED if path.parts[0] == package and path.name not in ("__main__.py",)]
    program = (
        f"import importlib, sys\nsys.modules.update(dict.fromkeys({NOT_ON_DEVICES!r}))\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not {"train", "export"} & set(done.stdout.split())
