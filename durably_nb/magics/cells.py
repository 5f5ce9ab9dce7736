"""A cell's body as a job function: what it assigns is local, other names are the notebook's when it runs."""

from __future__ import annotations

import ast
import keyword
import re
from typing import TYPE_CHECKING, Any, Final

from IPython.core.error import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from IPython.core.interactiveshell import InteractiveShell

_BLANK_LINES: Final = re.compile(r"(?:[^\S\n]*\n)*")
_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def function_of_cell(shell: InteractiveShell, name: str, body: str) -> Callable[..., Any]:
    """Make ``def name(step)`` of the body of a cell, which gives the value of its last expression.

    Args:
        shell: The shell whose syntax the body has, and whose namespace the function sees.
        name: The name of the job.
        body: The cell without its first line.

    Raises:
        SyntaxError: If it is no Python.
        UsageError: If there is nothing in it, or it has a ``return``.

    """
    source = _python_of(shell, body)
    number: int = shell.displayhook.prompt_count  # IPython 9 counts on before the cell is executed, 8 afterwards
    filename = shell.compile.cache(source, number)  # where tracebacks find the cell's lines
    cell = ast.parse(source, filename)
    _refuse_unusable(cell)
    _return_last(cell.body)
    code = compile(_wrapped(cell, name), filename, "exec", shell.compile.compiler_flags, dont_inherit=True)
    made: dict[str, Callable[..., Any]] = {}
    exec(code, shell.user_ns, made)  # noqa: S102 - the user's own cell
    return made.popitem()[1]


def _python_of(shell: InteractiveShell, body: str) -> str:
    """Give the cell as Python, each line where it stands in the cell."""
    blank = _BLANK_LINES.match(body)
    dropped = "" if blank is None else "\n" * blank[0].count("\n")  # by IPython, which begins with what is not blank
    return f"# %%job\n{dropped}{shell.transform_cell(body)}"


def _refuse_unusable(cell: ast.Module) -> None:
    if not cell.body:
        raise UsageError("This job has no body: write below the %%job line what it does, with `step` in scope.")
    for node in _own_nodes(cell):
        if isinstance(node, ast.Return):
            raise UsageError(
                f"Line {node.lineno} of the cell returns, but a %%job cell gives the value of its last expression: "
                "put that there alone, without `return`."
            )


def _return_last(body: list[ast.stmt]) -> None:
    last = body[-1]
    if isinstance(last, ast.Expr):
        body[-1] = ast.copy_location(ast.Return(last.value), last)


def _wrapped(cell: ast.Module, name: str) -> ast.Module:
    """Put the statements of a cell into a function."""
    module = ast.parse(f"{'async ' if any(map(_awaits, _own_nodes(cell))) else ''}def job(step): ...")
    function = module.body[0]
    assert isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))  # noqa: S101 - as it is written above
    function.body = cell.body
    if name.isidentifier() and not keyword.iskeyword(name):
        function.name = name
    return module


def _own_nodes(parent: ast.AST) -> Iterator[ast.AST]:
    """Go over the nodes of a scope, and not over those of functions and classes in it."""
    for node in ast.iter_child_nodes(parent):
        yield node
        if not isinstance(node, _SCOPES):
            yield from _own_nodes(node)


def _awaits(node: ast.AST) -> bool:
    if isinstance(node, ast.comprehension):
        return bool(node.is_async)
    return isinstance(node, (ast.Await, ast.AsyncFor, ast.AsyncWith))
