"""The events that the sources log, found by reading them."""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.documents.markdown import ROOT

SOURCES: Final = ROOT / "src" / "kvs"
LEVELS: Final = ("debug", "info", "warning", "error", "critical", "exception")
LOGGERS: Final = ("log", "_log", "logger", "_logger")
MAKERS: Final = frozenset({"wrap_logger", "make_logger", "get_logger"})
Function = ast.FunctionDef | ast.AsyncFunctionDef


def logged_events(root: Path = SOURCES) -> Mapping[str, set[str]]:
    """Return the levels of each event that is logged under a directory.

    An event is a text where it is logged, or an argument of a function in the same module that is given a text there.
    """
    events: dict[str, set[str]] = defaultdict(set)
    for path in sorted(root.rglob("*.py")):
        if path.is_relative_to(SOURCES / "testing"):
            continue
        module = ast.parse(path.read_text(encoding="utf-8"))
        loggers = {*LOGGERS, *_names_of_loggers(module)}
        for function, call in _calls(module):
            if not _logs(call, loggers):
                continue
            assert isinstance(call.func, ast.Attribute)
            where = f"{path}:{call.lineno}"
            assert call.args, f"{where}: an event without a name"
            for name in _texts(call.args[0], function, module, where):
                events[name].add("error" if call.func.attr == "exception" else call.func.attr)
    return events


def _calls(node: ast.AST, function: Function | None = None) -> Iterator[tuple[Function | None, ast.Call]]:
    """Return all calls, each with the function it is made in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield function, child
        yield from _calls(child, child if isinstance(child, Function) else function)


def _names_of_loggers(module: ast.Module) -> Iterator[str]:
    """Return the names to which a module assigns a logger that it makes."""
    for node in ast.walk(module):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            made = {
                getattr(call.func, "attr", getattr(call.func, "id", "")) for _, call in _calls(ast.Expr(node.value))
            }
            if made & MAKERS:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from (target.id for target in targets if isinstance(target, ast.Name))


def _logs(call: ast.Call, loggers: set[str]) -> bool:
    """Return whether a call logs: ``log.info(...)``, ``self._log.error(...)``, ``container.log().warning(...)``."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in LEVELS:
        return False
    logger = call.func.value
    if isinstance(logger, ast.Call):
        logger = logger.func
    name = logger.attr if isinstance(logger, ast.Attribute) else getattr(logger, "id", "")
    return name in loggers


def _texts(argument: ast.expr, function: Function | None, module: ast.Module, where: str) -> Iterator[str]:
    """Return what an argument may be: a text, one of two, a constant, or what the function it belongs to is given."""
    constants = {
        node.target.id: node.value
        for node in module.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
    }
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        yield argument.value
    elif isinstance(argument, ast.IfExp):
        yield from _texts(argument.body, function, module, where)
        yield from _texts(argument.orelse, function, module, where)
    elif isinstance(argument, ast.Name) and argument.id in constants:
        yield from _texts(constants[argument.id], None, module, where)
    else:
        names = [each.arg for each in function.args.args] if function is not None else []
        assert isinstance(argument, ast.Name), f"{where}: the name of the event is not written out"
        assert argument.id in names, f"{where}: the name of the event is not written out"
        assert function is not None
        position = names.index(argument.id) - (names[0] == "self")
        given = [call.args[position] for _, call in _calls(module) if _is_call_of(call, function.name)]
        assert given, f"{where}: nobody in this module calls {function.name}"
        for each in given:
            yield from _texts(each, None, module, where)


def _is_call_of(call: ast.Call, name: str) -> bool:
    return getattr(call.func, "id", None) == name or getattr(call.func, "attr", None) == name
