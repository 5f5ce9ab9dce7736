"""The shape of the package: imports point one way, the root is light, the public names are frozen."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import durably_nb

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(durably_nb.__file__).parent
ROOT = "__init__"

# A module imports from its own rank, without a cycle, and from lower ones.
RANKS = {
    # the words that all speak, and small things that know nothing of jobs or databases
    0: [
        *("errors", "events", "models", "schema"),
        *("awaiting", "clicks", "clock", "durations", "fingerprint", "forks", "ids", "interrupts", "keywords"),
        *("lifetimes", "names", "waiting", "weakgroups", "wording", "worker"),
    ],
    # one instrument each, and the contract of the store
    1: [
        *("artifacts", "codecs", "values", "signature", "options", "targets"),
        *("bus", "capture", "failures", "signals", "tracking"),
        *("store", "database", "ownership", "rows", "fold", "run_state"),
    ],
    # the store, and what a holder of a run writes to it
    2: [
        *("admission", "duckdb_store", "ledger", "live", "opening", "reading", "recovery", "writer"),
        *("context", "course", "journal", "lease", "outbox"),
    ],
    3: ["definitions", "execution", "filters", "history", "views"],
    4: ["engine", "plots", "widgets"],
    5: ["dispatch", "jobs", "results", "runlist", "runs", "subscriptions"],
    6: ["durably"],
    7: ["magics"],
    8: [ROOT],
}
RANK = {module: rank for rank, modules in RANKS.items() for module in modules}

# All that is behind the store's contract; `durably` alone builds it.
STORE = {"admission", "duckdb_store", "ledger", "live", "opening", "reading", "recovery", "writer"}
BUILDER = "durably"

# Ranks whose modules need what is too slow to load at once: they are imported when somebody asks for them.
LATE = {RANK["widgets"], RANK["magics"]}

# Too slow to load before they are needed.
HEAVY = ["IPython", "ipywidgets", "matplotlib", "numpy", "pandas", "pyarrow", "pytz"]

PUBLIC_NAMES = [
    "AsyncStepContext",
    "CancelledError",
    "ConflictError",
    "DomainEvent",
    "DomainEventType",
    "DuplicateStepError",
    "Durably",
    "DurablyError",
    "DurablyEvent",
    "EventType",
    "Job",
    "LeaseLostError",
    "LogData",
    "LogWriteEvent",
    "NotFoundError",
    "OperationalEvent",
    "OperationalEventType",
    "ProgressData",
    "Run",
    "RunCancelEvent",
    "RunCoalescedEvent",
    "RunCompleteEvent",
    "RunDeleteEvent",
    "RunFailEvent",
    "RunFailedError",
    "RunLeaseRenewedEvent",
    "RunLeasedEvent",
    "RunProgressEvent",
    "RunTriggerEvent",
    "SerializationError",
    "StepCancelEvent",
    "StepCompleteEvent",
    "StepContext",
    "StepFailEvent",
    "StepStartEvent",
    "StoreCorruptError",
    "StoreError",
    "StoreLockedError",
    "Trigger",
    "ValidationError",
    "WorkerErrorEvent",
    "__version__",
    "event_from_dict",
    "is_domain_event",
    "job",
    "open",
    "results",
]


def dotted(path: Path) -> str:
    """Return the name under which a file is imported."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(f".{ROOT}")


def station(module: str) -> str:
    """Return the name under which RANKS knows a module of this package: a sub-package has one rank."""
    return module.removeprefix(PACKAGE.name).lstrip(".").split(".")[0] or ROOT


FILES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}


class Import(NamedTuple):
    """One import statement: who imports what, where, and whether a function does it."""

    module: str
    target: str
    line: int
    in_function: bool

    def __str__(self) -> str:
        where = " inside a function" if self.in_function else ""
        return f"{self.module}, line {self.line}: imports {self.target}{where}"

    @property
    def is_own(self) -> bool:
        """Whether a module of this package is imported."""
        return self.target in FILES

    @property
    def ranks(self) -> tuple[int, int]:
        """The ranks of the importer and of what it imports."""
        return RANK[station(self.module)], RANK[station(self.target)]


def targets(node: ast.AST, package: list[str]) -> list[str]:
    """Return the modules that a statement of a file in `package` imports."""
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            above = package[: len(package) + 1 - level] if level else []
            source = ".".join([*above, *([module] if module else [])])
            inside = [f"{source}.{alias.name}" for alias in names]
            return [name if name in FILES else source for name in inside]
        case _:
            return []


def imports_of(module: str) -> Iterator[Import]:
    """Yield every import statement of a module."""
    path = FILES[module]
    package = list(path.relative_to(PACKAGE.parent).parent.parts)

    def visit(node: ast.AST, *, in_function: bool) -> Iterator[Import]:
        for target in targets(node, package):
            yield Import(module, target, getattr(node, "lineno", 0), in_function)
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, in_function=inside)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), in_function=False)


IMPORTS = [found for module in FILES for found in imports_of(module)]
OWN_IMPORTS = [found for found in IMPORTS if found.is_own]


def may_wait(found: Import) -> bool:
    """Tell whether an import may stand inside a function, for the sake of start-up time."""
    if not found.is_own:
        return found.target.split(".")[0] in HEAVY
    importer, imported = found.ranks
    return imported in LATE and importer > imported


def test_every_module_has_its_rank() -> None:
    """A new file says where on the way of the data it stands."""
    assert {station(module) for module in FILES} - RANK.keys() == set()


def test_imports_point_down() -> None:
    """No module knows of those above it, not even for a type hint."""
    assert [str(found) for found in OWN_IMPORTS if found.ranks[0] < found.ranks[1]] == []


def test_imports_make_no_cycle() -> None:
    """Within a rank, too, any module can be read after those it builds on."""
    graph: dict[str, set[str]] = {}
    for found in OWN_IMPORTS:
        graph.setdefault(found.module, set()).add(found.target)
    TopologicalSorter(graph).prepare()


def test_the_runtime_knows_only_the_contract() -> None:
    """Another store can take this one's place: nobody but the builder sees behind `store`."""
    pairs = [(station(found.module), station(found.target)) for found in OWN_IMPORTS]
    crossing = {(module, target) for module, target in pairs if target in STORE and module not in STORE}
    assert crossing == {(BUILDER, "duckdb_store")}


def test_no_import_hides_in_a_function() -> None:
    """Inside functions only what is slow to load is imported, never a way round a cycle."""
    assert [str(found) for found in IMPORTS if found.in_function and not may_wait(found)] == []


def test_the_root_is_light() -> None:
    """Importing the package loads none of the large libraries before somebody needs them."""
    code = f"import sys, durably_nb; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own code
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_frozen() -> None:
    """The names that people may type are these; one more or one less is a decision, not an accident."""
    assert durably_nb.__all__ == PUBLIC_NAMES == sorted(PUBLIC_NAMES)
    assert [name for name in PUBLIC_NAMES if not hasattr(durably_nb, name)] == []
