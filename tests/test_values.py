from __future__ import annotations

import asyncio
import base64
import copy
import dataclasses
import datetime as dt
import enum
import functools
import inspect
import io
import json
import math
import operator
import os
import pickle
import struct
import sys
import threading
import types
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
import pandas as pd
import pydantic
import pytest
import pytz
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durably_nb.artifacts import Artifacts
from durably_nb.codecs import INLINE_LIMIT, Codec, artifact_names, describe
from durably_nb.errors import SerializationError
from durably_nb.values.walk import MAX_DEPTH

if TYPE_CHECKING:
    from collections.abc import Callable

RUN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
Strategy: TypeAlias = "st.SearchStrategy[Any]"
BACK_AND_FORTH = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# importlib's import mode leaves test modules out of sys.modules, where classes are looked for.
sys.modules.setdefault(__name__, types.ModuleType(__name__)).__dict__.update(globals())


@pytest.fixture
def codec(tmp_path: Path) -> Codec:
    return Codec(Artifacts(tmp_path / "jobs.artifacts"))


def known(cls: Any) -> Any:
    """Put a class where its name says it is, as the import of its module would."""
    vars(sys.modules[__name__])[cls.__name__] = cls
    return cls


def there_and_back(value: object, codec: Codec | None = None) -> Any:
    codec = codec or Codec()
    text = json.dumps(codec.encode(value, run_id=RUN), allow_nan=False)
    text.encode()
    return codec.decode(json.loads(text))


def same(left: Any, right: Any) -> bool:
    """Whether two values are the same in type, sign, order and everything else that can be seen."""
    if type(left) is not type(right):
        return False
    compare = next((check for cls, check in COMPARED.items() if isinstance(left, cls)), operator.eq)
    return bool(compare(left, right))


def all_same(left: Any, right: Any) -> bool:
    return len(left) == len(right) and all(map(same, left, right))


COMPARED: dict[type, Callable[[Any, Any], bool]] = {
    float: lambda left, right: struct.pack("d", left) == struct.pack("d", right),
    complex: lambda left, right: same((left.real, left.imag), (right.real, right.imag)),
    Decimal: lambda left, right: left.as_tuple() == right.as_tuple(),
    dict: lambda left, right: all_same(list(left.items()), list(right.items())),
    list: all_same,
    tuple: all_same,
    deque: lambda left, right: all_same(left, right) and left.maxlen == right.maxlen,
    set: lambda left, right: sorted(map(repr, left)) == sorted(map(repr, right)),
    dt.datetime: lambda left, right: moment(left) == moment(right),
    dt.time: lambda left, right: moment(left) == moment(right),
}


def moment(value: Any) -> tuple[str, int, Any]:
    return value.replace(tzinfo=None).isoformat(), value.fold, value.tzinfo


# --- classes that steps return ---


@known
class Color(enum.Enum):
    RED = 1
    CRIMSON = 1  # noqa: PIE796 - an alias
    BLUE = "blue"


@known
class Level(enum.IntEnum):
    LOW = 1


@known
class Word(enum.StrEnum):
    YES = "yes"


@known
class Access(enum.Flag):
    READ = 1
    WRITE = 2


@known
class Choosy(enum.Flag):
    A = 1
    B = 2

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return super()._missing_(value)


@known
class Point(NamedTuple):
    x: int
    y: Any = None


Pair = known(namedtuple("Pair", "left right"))  # noqa: PYI024 - the plain kind, on purpose


@known
@dataclasses.dataclass
class Trip:
    name: str
    stops: list[Any]
    built: list[str] = dataclasses.field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        self.built.append("init")

    @functools.cached_property
    def length(self) -> int:
        return len(self.stops)


@known
@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    a: int
    b: tuple[int, ...]


@known
@dataclasses.dataclass(slots=True)
class Base:
    first: int


@known
@dataclasses.dataclass(slots=True)
class Derived(Base):
    __private: int = 5


@known
@dataclasses.dataclass
class Listing(list):  # type: ignore[type-arg]
    a: int = 1


@known
class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: int
    b: str = "default"
    _secret: int = pydantic.PrivateAttr(default=7)

    @pydantic.field_validator("a")
    @classmethod
    def _ran(cls, value: int) -> int:
        RAN.append(value)
        return value


RAN: list[int] = []
T = TypeVar("T")


@known
@dataclasses.dataclass
class Box(Generic[T]):
    inside: T


COMPARED[Box] = lambda left, right: same(left.inside, right.inside)


@known
class Strings(dict):  # type: ignore[type-arg]
    pass


@known
class Thing:
    pass


PARIS = zoneinfo.ZoneInfo("Europe/Paris")
VALUES: list[Any] = [
    None, True, 0, -1, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 10**5000, 0.0, -0.0, 1.5, 5e-324, 1e308,
    math.nan, -math.nan, math.inf, -math.inf, struct.unpack(">d", bytes.fromhex("7ff8000000000001"))[0],
    "", "a", "é😀", "\0", "\ud800", "a\udfffb", "$", "x" * 100_000, "\ud800" * 50_000,
    [], {}, (), set(), frozenset(), [[]], {"a": {}}, {"$": 1}, {"$": "tuple", "v": []}, {"\ud800": 1}, {"": 0},
    {1: "a", "1": "b", None: "c", (1, 2): "d", 2.5: "e", False: "f"}, {frozenset({1}): {2}}, {b"k": b"v"},
    (1,), ([], (2,)), {1, "a", None}, frozenset({(1, 2)}), {Color.RED: 1},
    b"", b"\0\xff", bytearray(b"ab"), os.urandom(60_000), bytearray(60_000), 1 + 2j, complex(-0.0, math.nan),
    range(0), range(1, 10**30, 7), Decimal("1.10"), Decimal("-0"), Decimal("0E+9"), Decimal("NaN"), Decimal("-sNaN12"),
    Decimal("-Infinity"), Decimal("1" * 6000), uuid.UUID(int=5), uuid.UUID(int=2**128 - 1),
    dt.date(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999999), dt.datetime(2020, 1, 1, tzinfo=dt.UTC),  # noqa: DTZ001 - naive too
    dt.datetime(2020, 10, 25, 2, 30, tzinfo=PARIS), dt.datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=PARIS),
    dt.datetime(2020, 1, 1, fold=1), dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=-3601), "X")),  # noqa: DTZ001
    dt.datetime(2020, 1, 1, tzinfo=pytz.utc), dt.datetime(2020, 1, 1, tzinfo=pytz.FixedOffset(90)),
    pytz.timezone("Europe/Paris").localize(dt.datetime(2020, 7, 1)),  # noqa: DTZ001
    pytz.timezone("Europe/Paris"), dt.time(1, 2, 3, 4), dt.time(1, fold=1, tzinfo=dt.UTC), PARIS, dt.UTC,
    dt.timedelta.max, dt.timedelta.min, dt.timedelta(microseconds=-1),
    Path("/a/b"), Path(), Path("\udcff"), PurePosixPath("a/../b"), PureWindowsPath("C:/x"),
    Color.RED, Color.CRIMSON, Color.BLUE, Level.LOW, Word.YES, Access.READ, Access.READ | Access.WRITE, Access(0),
    Point(1), Point(1, [Point(2)]), Pair(1, 2), Frozen(1, (2,)), Box([1]), Base(1), Derived(1),
    OrderedDict([("b", 1), ("a", 2)]), Counter("hello"), deque([1, 2], 5), deque([(1,)]),
    [{"a": [1, {"b": (Color.RED, {"c": Decimal(1)})}]}],
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_every_value_comes_back_as_it_was(codec: Codec, value: object) -> None:
    """Type, sign, order and time zone of every supported value survive, in a file and in memory."""
    for each in (codec, Codec()):
        assert same(there_and_back(value, each), value)
        assert same(there_and_back([value, {"k": value}], each), [value, {"k": value}])


plain_leaves: Strategy = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.dates() | st.uuids()
leaves: Strategy = (
    plain_leaves
    | st.floats()
    | st.text(st.characters(categories=["Cs", "L", "P", "S"]))
    | st.complex_numbers()
    | st.decimals().filter(lambda value: not value.is_snan())
    | st.datetimes(timezones=st.none() | st.timezones() | st.just(dt.UTC))
    | st.times()
    | st.timedeltas()
    | st.sampled_from([*Color, *Word, Path("x"), PARIS])
)
hashables: Strategy = leaves | st.tuples(leaves) | st.frozensets(plain_leaves)
values: Strategy = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.just("$"), inner)
        | st.dictionaries(hashables, inner)
        | st.sets(plain_leaves)
        | st.builds(Point, inner, inner)
        | st.builds(Box, inner)
    ),
    max_leaves=20,
)


@pytest.mark.slow
@BACK_AND_FORTH
@given(values)
def test_any_combination_comes_back(value: object) -> None:
    """Whatever is built of supported values comes back exactly and is plain JSON in between."""
    assert same(there_and_back(value), value)


@BACK_AND_FORTH
@given(values)
def test_what_is_stored_is_described_without_decoding(value: object) -> None:
    """The type and size of a stored value are known without reading it."""
    stored = Codec().encode(value, run_id=RUN)
    name, size = describe(stored)
    assert name == ("None" if value is None else type(value).__name__.replace("PosixPath", "Path"))
    assert size == len(json.dumps(stored, separators=(",", ":")))


def test_descriptions_name_the_type(codec: Codec) -> None:
    """The steps frame says dict, DataFrame, ndarray, Color; sizes count files too."""
    expected: dict[str, Any] = {
        "None": None,
        "int": 2**70,
        "dict": {"$": 1},
        "list": [],
        "Color": Color.RED,
        "Path": Path(),
    }
    expected |= {"ndarray": np.zeros(2), "DataFrame": pd.DataFrame(), "float64": np.float64(1), "Model": Model(a=1)}
    for name, value in expected.items():
        assert describe(codec.encode(value, run_id=RUN))[0] == name
    assert describe(codec.encode({"a": ["x" * 1000] * 100}, run_id=RUN))[0] == "dict"
    name, size = describe(codec.encode(np.zeros(100_000), run_id=RUN))
    assert name == "ndarray"
    assert 800_000 < size < 801_000


# --- classes ---


def test_objects_come_back_without_their_constructors(codec: Codec) -> None:
    """Dataclasses and pydantic models are rebuilt from their state; no constructor or validator runs."""
    trip = Trip("x", [1, (2,)])
    assert trip.length == 2
    trip.extra = "hung on"  # type: ignore[attr-defined]
    back = there_and_back(trip, codec)
    assert type(back) is Trip
    assert vars(back) == vars(trip)
    assert back.built == ["init"]

    model = Model.model_construct(a="not validated", c=Decimal(1))
    model._secret = 8
    RAN.clear()
    back = there_and_back(model, codec)
    assert back == model
    assert isinstance(back, Model)
    assert (back.model_fields_set, back.model_extra, back._secret) == ({"a"}, {"c": Decimal(1)}, 8)
    assert RAN == []


def test_derived_slots_come_back(codec: Codec) -> None:
    """Slots of base classes and private names are part of a dataclass."""
    value = Derived(3)
    value._Derived__private = 9  # type: ignore[attr-defined]
    back = there_and_back(value, codec)
    assert back == value
    assert back._Derived__private == 9


def test_a_class_that_is_not_there_says_what_to_import(codec: Codec) -> None:
    """A value of a class that is not imported is a sentence, and nothing is imported to find it."""
    stored = codec.encode(Point(1), run_id=RUN)
    assert isinstance(stored, dict)
    for name in ("this:s", "nowhere:Point", f"{__name__}:Missing", f"{__name__}:Thing", "os:system", "", ":", "a"):
        with pytest.raises(SerializationError, match="re-run the cell that defines class"):
            codec.decode({**stored, "type": name}, where="output")
    assert "this" not in sys.modules


def test_a_lazy_module_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking a class up calls no module's __getattr__."""
    module = types.ModuleType("lazy")
    asked: list[str] = []
    vars(module)["__getattr__"] = asked.append
    monkeypatch.setitem(sys.modules, "lazy", module)
    with pytest.raises(SerializationError, match="lazy"):
        Codec().decode({"$": "namedtuple", "type": "lazy:Point", "v": [1, 2]})
    assert asked == []


def test_classes_that_cannot_be_found_again_are_refused() -> None:
    """A class made in a function, or replaced since, is refused when the value is stored."""

    class Local(enum.Enum):
        A = 1

    with pytest.raises(SerializationError, match=r"^output\['a'\] is a .*Local, a class made inside a function"):
        Codec().encode({"a": Local.A}, run_id=RUN, where="output")
    old = Point
    replaced = known(type("Point", old.__bases__, dict(vars(old))))
    try:
        with pytest.raises(SerializationError, match="now stands for another class"):
            Codec().encode(old(1), run_id=RUN)
    finally:
        known(old)
    assert replaced is not old


def test_an_object_of_another_shape_is_refused() -> None:
    """A class that lost a field or slot since does not get a half-made value."""
    point: Any = Codec().encode(Point(1), run_id=RUN)
    frozen: Any = Codec().encode(Frozen(1, ()), run_id=RUN)
    model: Any = Codec().encode(Model(a=1), run_id=RUN)
    for damaged in (
        {**point, "v": [1]},
        {**frozen, "slots": {"gone": 1}},
        {**frozen, "slots": {"__init__": 1}},
        {**frozen, "attrs": {"a": 1}},
        {**model, "slots": {}},
        {**model, "slots": {**model["slots"], "__pydantic_fields_set__": 5}},
    ):
        with pytest.raises(SerializationError):
            Codec().decode(damaged)


# --- what is refused ---


def circular() -> list[Any]:
    value: list[Any] = []
    value.append({"me": value})
    return value


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


async def coroutine() -> int:
    return 1


def local_counter() -> Any:
    counter = Counter("a")
    counter.note = 1  # type: ignore[attr-defined]
    return counter


REFUSED: list[tuple[str, Any, str]] = [
    ("function", lambda: deep, r"output\['a'\]\[1\] is a function, .* Use plain values .*path.*allow_pickle=True"),
    ("lambda", lambda: lambda: 1, "is a function"),
    ("generator", lambda: (i for i in [1]), "is a generator"),
    ("open file", lambda: open(os.devnull, "rb", buffering=0), "FileIO"),  # noqa: SIM115, PTH123
    ("lock", threading.Lock, "lock"),
    ("module", lambda: os, "module"),
    ("class", lambda: Thing, "is a type"),
    ("object", Thing, "Thing"),
    ("defaultdict", lambda: defaultdict(list, a=[1]), "Convert it to a plain dict"),
    ("dict subclass", lambda: Strings(a=1), "Convert it to a plain dict"),
    ("list dataclass", Listing, "holds more than its fields"),
    ("memoryview", lambda: memoryview(b"a"), "memoryview"),
    ("exception", lambda: ValueError("x"), "ValueError"),
    ("cycle", circular, "contains itself"),
    ("too deep", lambda: deep(MAX_DEPTH + 1), f"more than {MAX_DEPTH} deep"),
    ("attributes", local_counter, "attributes of its own"),
    ("parametrised", lambda: Box[int](1), "__orig_class__"),
    ("file zone", lambda: zoneinfo.ZoneInfo.no_cache("Europe/Paris"), "Use zoneinfo"),
    ("flag of a strange class", lambda: Choosy.A | Choosy.B, "none of its members"),
    ("os.stat", lambda: os.stat("."), "stat_result"),  # noqa: PTH116
]


@pytest.mark.parametrize(("make", "sentence"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_cannot_be_exact_is_refused_with_its_path(make: Any, sentence: str) -> None:
    """A refusal names the path, the type and the ways out."""
    value = make()
    with pytest.raises(SerializationError, match=sentence) as caught:
        Codec().encode({"a": [0, value]}, run_id=RUN, where="output")
    assert str(caught.value).startswith("output['a'][1]")
    if isinstance(value, io.FileIO):
        value.close()


def test_a_forgotten_await_is_told() -> None:
    """Returning a coroutine asks whether the await was forgotten, even where pickles are allowed."""
    forgotten = coroutine()
    loop = asyncio.new_event_loop()
    for value in (forgotten, loop.create_future()):
        with pytest.raises(SerializationError, match="did you forget await"):
            Codec(allow_pickle=True).encode(value, run_id=RUN)
    forgotten.close()
    loop.close()


def test_the_path_goes_through_every_kind_of_container() -> None:
    """Keys, indexes and attributes are written as Python writes them."""
    for value, path in (
        (Trip("x", [1, Thing()]), "output.stops[1]"),
        (Point(1, {2: (Thing(),)}), "output.y[2][0]"),
        (Model(a=1, c=[Thing()]), "output.__pydantic_extra__.c[0]"),  # type: ignore[call-arg]
        (pd.DataFrame({"col": [1, Thing()]}), "output['col'][1]"),
        (pd.Series([1], index=[Thing()]), "output.index[0]"),
        ({"x" * 500: Thing()}, "output['xxx"),
        ({10**5000: Thing()}, "output[<int>]"),
    ):
        with pytest.raises(SerializationError) as caught:
            Codec().encode(value, run_id=RUN, where="output")
        assert str(caught.value).replace("__pydantic_extra__['c']", "__pydantic_extra__.c").startswith(path)
        assert len(str(caught.value)) < 500


def test_just_deep_enough_comes_back() -> None:
    """A value a hundred levels deep is stored."""
    assert there_and_back(deep(MAX_DEPTH - 1)) == deep(MAX_DEPTH - 1)
    nested: Any = 1
    for _ in range(MAX_DEPTH - 1):
        nested = Point(0, nested)
    assert same(there_and_back(nested), nested)


def test_a_nearly_full_stack_is_no_crash() -> None:
    """Little stack left is a sentence, not a RecursionError."""

    def down(levels: int) -> None:
        if levels:
            down(levels - 1)
        else:
            Codec().encode(deep(90), run_id=RUN)

    limit = sys.getrecursionlimit()
    frames = len(inspect.stack())
    with pytest.raises(SerializationError, match="stack"):
        down(limit - frames - 60)


# --- pickles ---


def test_a_pickle_is_made_and_read_only_when_asked_for(tmp_path: Path) -> None:
    """With allow_pickle the part that has no exact form is pickled; without it, it is never read."""
    trusting = Codec(Artifacts(tmp_path / "a"), allow_pickle=True)
    value = {"a": [1, Strings(x=1)], "b": (2,)}
    stored = trusting.encode(value, run_id=RUN)
    assert same(trusting.decode(stored), value)
    assert describe(trusting.encode(Strings(), run_id=RUN))[0] == "Strings"
    careful = Codec(Artifacts(tmp_path / "a"))
    with pytest.raises(SerializationError, match="runs whatever code it names"):
        careful.decode(stored)
    careful.allow_pickle = True
    assert careful.decode(stored) == value
    large = trusting.encode(Strings(x=os.urandom(60_000)), run_id=RUN)
    assert next(iter(artifact_names(large))).endswith(".pickle")
    with pytest.raises(SerializationError, match="could not be stored"):
        trusting.encode([lambda: 1], run_id=RUN)


def test_a_hostile_pickle_is_not_run() -> None:
    """A pickle planted in the file stays unread, wherever it stands."""

    class Bomb:
        def __reduce__(self) -> Any:
            return (RAN.append, (666,))

    RAN.clear()
    planted: Any = {"$": "pickle", "type": "Bomb", "data": base64.b64encode(pickle.dumps(Bomb())).decode()}
    places: list[Any] = [planted, [planted], {"$": "tuple", "v": [planted]}]
    for stored in places:
        with pytest.raises(SerializationError, match="pickle"):
            Codec().decode(stored)
    npy = Codec().encode(np.zeros(1), run_id=RUN)
    assert isinstance(npy, dict)
    with pytest.raises(SerializationError):
        Codec().decode({**npy, "npy": planted["data"]})
    assert RAN == []


# --- damage ---

json_values: Strategy = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**64) | st.floats() | st.text(max_size=5) | st.text("AB=\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.just("$"), inner, max_size=3),
    max_leaves=10,
)
EVERYTHING = [
    *VALUES,
    Model(a=1), Trip("x", [1]), np.zeros(3), np.float32(1), np.datetime64("2020-01-01"), np.longdouble(1),
    np.array([None, "x"], dtype=object), pd.Timestamp("2020", tz="UTC"), pd.Timedelta(1), pd.Period("2020-01"),
    pd.Interval(0, 1), pd.DataFrame({"a": [1], "b": ["x"], "c": pd.Categorical(["y"])}), pd.Series([None, 1.5]),
    pd.date_range("2020", periods=2, freq="D"), pd.MultiIndex.from_tuples([(1, "a"), (2, "b")]),
    pd.array([1, None], dtype="Int64"), pd.interval_range(0, 2), pd.period_range("2020", periods=2, freq="M"),
]  # fmt: skip
SAMPLES = [
    stored
    for stored in (Codec().encode(value, run_id=RUN) for value in EVERYTHING)
    if isinstance(stored, (dict, list)) and len(json.dumps(stored)) < 5000
]
TAGS = sorted({str(stored.get("$")) for stored in SAMPLES if isinstance(stored, dict)} | {"files", "pickle"})
FIELDS = ["v", "type", "data", "tz", "name", "array", "table", "columns", "of", "at", "items", "npy", "files", "value"]
tagged = st.builds(
    lambda tag, fields: {"$": tag, **fields},
    st.sampled_from(TAGS),
    st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=5),
)


def places(stored: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = stored.items() if isinstance(stored, dict) else enumerate(stored) if isinstance(stored, list) else ()
    return [path, *(place for key, item in inside for place in places(item, (*path, key)))]


def put(stored: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    damaged = copy.copy(stored)
    damaged[path[0]] = put(stored[path[0]], path[1:], new)
    return damaged


@st.composite
def damaged(draw: Any) -> Any:
    stored = draw(st.sampled_from(SAMPLES))
    path = draw(st.sampled_from(places(stored)))
    return put(stored, path, draw(json_values | tagged | st.sampled_from(SAMPLES)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@settings(BACK_AND_FORTH, max_examples=1500)
@given(json_values | tagged | damaged())
def test_anything_else_that_is_stored_is_one_kind_of_error(tmp_path_factory: Any, stored: Any) -> None:
    """Arbitrary JSON in the file decodes to some value or raises SerializationError; nothing else happens."""
    for codec in (Codec(), Codec(Artifacts(tmp_path_factory.getbasetemp() / "none"))):
        for use in (codec.decode, describe, artifact_names):
            try:
                use(stored)
            except SerializationError as error:
                assert str(error).endswith(".")  # noqa: PT017 - raising is optional


def test_endless_nesting_is_an_error() -> None:
    """JSON nested beyond anything ever stored is refused."""
    with pytest.raises(SerializationError, match="nested deeper"):
        Codec().decode(deep(500))
    with pytest.raises(SerializationError):
        Codec().decode(deep(100_000))


@pytest.mark.parametrize("stored", [object(), b"x", (1,), {1: 2}, [object()], 2**70, math.nan, "\ud800"])
def test_what_is_not_json_is_refused(stored: Any) -> None:
    """Values that no JSON parser gives are refused too."""
    with pytest.raises(SerializationError):
        Codec().decode(stored)


# --- aliasing, and files ---


def test_a_value_changed_afterwards_is_stored_as_it_was(codec: Codec) -> None:
    """What a step does with its result after returning it does not change what is stored."""
    for make in (
        lambda: {"a": 1},
        lambda: {"a": [1, {"b": [2]}]},
        lambda: [bytearray(b"ab"), {1, 2}, deque([1]), Trip("x", [1])],
        lambda: {"n": np.arange(5), "big": np.arange(50_000)},
        lambda: pd.DataFrame({"a": [1, 2], "o": [[1], [2]]}),
    ):
        value: Any = make()
        stored = codec.encode(value, run_id=RUN)
        before = json.dumps(stored)
        change(value)
        assert json.dumps(stored) == before
        decoded = codec.decode(stored)
        change(decoded)
        assert json.dumps(stored) == before


def change(value: Any) -> None:
    if isinstance(value, dict):
        for each in value.values():
            change(each)
        value["new"] = 1
    elif isinstance(value, (list, deque)):
        for each in value:
            change(each)
        value.append(1)
    elif isinstance(value, bytearray):
        value[:] = b"zz"
    elif isinstance(value, np.ndarray):
        value[:] = 0
    elif isinstance(value, pd.DataFrame):
        value.loc[0, "a"] = 99
        value["o"].iloc[0].append(5)
    elif isinstance(value, Trip):
        value.stops.append(2)


def test_small_values_are_inline_and_large_ones_in_files(codec: Codec) -> None:
    """Up to 32 KiB of JSON stay in the row; more goes to a file, whatever the value is made of."""
    fits = "x" * (INLINE_LIMIT - 2)
    assert codec.encode(fits, run_id=RUN) == fits
    for value in (fits + "x", ["é" * 100] * 100, {"a": list(range(10_000))}, {"b": os.urandom(30_000)}):
        stored = codec.encode(value, run_id=RUN)
        assert len(json.dumps(stored)) < 1000
        assert len(artifact_names(stored)) == 1
        assert codec.decode(stored) == value
        assert describe(stored)[1] > 30_000
    alone = Codec()
    assert artifact_names(alone.encode(fits + "x", run_id=RUN)) == set()
    with pytest.raises(SerializationError, match="belongs to a store on disk"):
        alone.decode(codec.encode(fits + "x", run_id=RUN))


def test_all_files_of_a_value_are_named_in_the_row(codec: Codec, tmp_path: Path) -> None:
    """Sweeping needs no file to be read: tables inside a large JSON are named outside it."""
    value: Any = {"arrays": [np.arange(20_000), np.arange(30_000.0)], "text": "x" * 50_000}
    stored = codec.encode(value, run_id=RUN)
    names = artifact_names(stored)
    assert names == {f"{RUN}/{each.name}" for each in (tmp_path / "jobs.artifacts" / RUN).iterdir()}
    assert sorted(name.rpartition(".")[2] for name in names) == ["json", "npy", "npy"]
    back: Any = codec.decode(json.loads(json.dumps(stored)))
    assert np.array_equal(back["arrays"][1], value["arrays"][1])


def test_nothing_is_written_for_a_value_that_is_refused(codec: Codec, tmp_path: Path) -> None:
    """A refusal leaves no orphan behind."""
    with pytest.raises(SerializationError):
        codec.encode([np.arange(50_000), Thing()], run_id=RUN)
    assert not (tmp_path / "jobs.artifacts").exists()


@pytest.mark.parametrize("value", [["x"] * 20_000, np.arange(20_000), pd.DataFrame({"a": np.arange(90_000.0)})])
def test_a_damaged_file_is_never_read_as_a_value(codec: Codec, tmp_path: Path, value: object) -> None:
    """A file that was cut, changed or lost is a sentence that says so."""
    stored = codec.encode(value, run_id=RUN)
    (name,) = artifact_names(stored)
    path = tmp_path / "jobs.artifacts" / name
    whole = path.read_bytes()
    for bad in (whole[:-1], b"", whole + b"x", whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]):
        path.write_bytes(bad)
        with pytest.raises(SerializationError, match="was changed or cut short"):
            codec.decode(stored)
    path.unlink()
    with pytest.raises(SerializationError, match="cannot be read from"):
        codec.decode(stored)
