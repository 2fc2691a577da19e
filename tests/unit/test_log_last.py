"""State first, log last: nothing that a server does comes after a log call, whatever becomes of that call.

The rule is checked at every place that logs, as the source has it. After a call of the logger, on the way to the end of
the function, only these may follow: other log calls, ``return``, ``raise``, ``yield``, ``break``, ``continue`` and
``pass``.
"""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import kvs

pytestmark = pytest.mark.one_build

ROOT = Path(kvs.__file__).parent
PARTS = ("adapters", "application")
LEVELS = ("debug", "info", "warning", "error", "critical")


def is_log_call(statement: ast.stmt) -> bool:
    """Return whether a statement is a call of a logger."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in LEVELS
        and ast.unparse(call.func.value).endswith("log")
    )


def may_follow(statement: ast.stmt) -> bool:
    """Return whether a statement changes nothing, and so may follow a log call."""
    if isinstance(statement, ast.Return | ast.Raise | ast.Break | ast.Continue | ast.Pass):
        return True
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Yield):
        return True
    if isinstance(statement, ast.If):
        return all(may_follow(each) for each in (*statement.body, *statement.orelse))
    return is_log_call(statement)


def ends_block(statement: ast.stmt) -> bool:
    """Return whether nothing of the function comes after a statement."""
    return isinstance(statement, ast.Return | ast.Raise)


def offences(body: Sequence[ast.stmt], after: Sequence[ast.stmt] = ()) -> Iterator[tuple[ast.stmt, ast.stmt]]:
    """Yield each log call with a statement that follows and should not.

    Args:
        body: A block.
        after: What follows the block in those around it.
    """
    for at, statement in enumerate(body):
        following = [*body[at + 1 :], *after]
        if is_log_call(statement):
            for each in following:
                if not may_follow(each):
                    yield statement, each
                    break
                if ends_block(each):
                    break
        for name in ("body", "orelse", "finalbody"):
            block = getattr(statement, name, [])
            if isinstance(block, list) and not isinstance(statement, ast.FunctionDef | ast.ClassDef):
                yield from offences(block, following)
        for handler in getattr(statement, "handlers", []):
            yield from offences(handler.body, following)


def functions() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function that logs."""
    for part in PARTS:
        for path in sorted((ROOT / part).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
                    is_log_call(each) for each in ast.walk(node) if isinstance(each, ast.stmt)
                ):
                    yield path, node


def test_a_log_call_comes_last() -> None:
    """In every function that logs."""
    found = [
        f"{path}:{call.lineno} logs, and then line {follower.lineno} does: {ast.unparse(follower)[:80]}"
        for path, function in functions()
        for call, follower in offences(function.body)
    ]
    assert not found, "\n".join(found)


def test_the_rule_can_fail() -> None:
    """A state that is changed after a log call is found, in the same block and in one around it."""
    (function,) = ast.parse(
        """
def stop(self):
    if self.draining:
        self._log.warning("again")
    else:
        self._log.info("first")
        return
    self.stopping = True
"""
    ).body
    assert isinstance(function, ast.FunctionDef)
    ((call, follower),) = offences(function.body)
    assert (call.lineno, follower.lineno) == (4, 8)


def test_places_are_found() -> None:
    """There are some, so that the rule is about something."""
    assert len(list(functions())) > 10
