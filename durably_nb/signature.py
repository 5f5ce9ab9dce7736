"""What a job's function accepts and returns, by its parameters and type hints."""

from __future__ import annotations

import contextlib
import copy
import difflib
import functools
import inspect
import sys
import types
import typing
from dataclasses import dataclass
from inspect import Parameter as Raw
from typing import TYPE_CHECKING, Any, NewType

import pydantic
from pydantic_core import SchemaError

from durably_nb.errors import ValidationError
from durably_nb.wording import reason_of, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

if sys.version_info >= (3, 14):
    import annotationlib

_new_type: Callable[[str, object], type[object]] = NewType  # type: ignore[assignment] # called at run time
_CONFIG = pydantic.ConfigDict(arbitrary_types_allowed=True)
_NO_STEP = {*(bool, int, float, str, bytes, list, dict), *("bool", "int", "float", "str", "bytes", "list", "dict")}
"""Hints of a first parameter that is none, as objects and as they are written: the step context was forgotten."""
NOTHING_STORED = " Nothing was stored; mend the call."
NEEDS_VALUE = "A value is needed here."


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One input of a job.

    Attributes:
        name: The name, as the function has it and the stored input keeps it.
        annotation: The resolved type hint; ``typing.Any`` if there is none.
        default: The default; ``inspect.Parameter.empty`` if the parameter is required.
        required: Whether a call must give a value.

    """

    name: str
    annotation: object
    default: object
    required: bool


class Signature:
    """What a job's function takes after its step context, and what it returns.

    Attributes:
        name: The job's name.
        is_async: Whether a call of the function gives a coroutine.
        parameters: The inputs by name, in the order of the function; without the step context
            and without ``**kwargs``.

    """

    def __init__(self, fn: Callable[..., object], *, name: str | None = None) -> None:
        """Read the signature of ``fn``; ``name`` defaults to the function's own.

        Raises:
            ValidationError: If ``fn`` cannot be a job function; the message says why.

        """
        self.name = _checked_name(fn, name)
        self.is_async = inspect.iscoroutinefunction(_called(fn))
        signature = _resolved_signature(fn, self.name)
        step, *inputs = signature.parameters.values()
        named = [raw for raw in inputs if raw.kind is not Raw.VAR_KEYWORD]
        self.parameters: Mapping[str, Parameter] = types.MappingProxyType({raw.name: _parameter(raw) for raw in named})
        self._step_name = step.name
        self._positional = [raw.name for raw in named if raw.kind is not Raw.KEYWORD_ONLY]
        self._checks = {raw.name: _Check(raw.annotation, self.name, raw.name) for raw in inputs}
        self._extra = next((self._checks[raw.name] for raw in inputs if raw.kind is Raw.VAR_KEYWORD), None)
        self._output = _Check(signature.return_annotation, self.name, "return")
        self._text = self.name + str(inspect.Signature([_printable(raw) for raw in inputs]))

    def __str__(self) -> str:
        """Show a call as Python shows it: the name and the inputs, without the step context."""
        return self._text

    def bind(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        """Bind a call as Python would, and validate every value by its type hint.

        Returns every input by name in the order of the function, defaults included. Values are
        converted where pydantic converts them (``"3"`` for an ``int``), mutable defaults copied.

        Raises:
            ValidationError: If the call does not fit; it names all that is wrong with it.

        """
        problems = self._misplaced(args, kwargs)
        given = {**dict(zip(self._positional, args, strict=False)), **kwargs}
        bound = {}
        for name, parameter in self.parameters.items():
            if name in given:
                bound[name] = self._checks[name].collect(name, given.pop(name), problems)
            elif parameter.required:
                problems.append(f"needs {name!r}, which was not given")
            else:
                bound[name] = _default(parameter)
        for name, value in given.items():
            if self._extra is not None and name != self._step_name:
                bound[name] = self._extra.collect(name, value, problems)
            else:
                problems.append(self._unknown(name))
        if problems:
            raise ValidationError(f"{self} {'; it '.join(problems)}.{NOTHING_STORED}")
        return bound

    def accepts(self, name: str, value: object) -> bool:
        """Whether an input of this name takes a value."""
        check = self._checks.get(name, self._extra)
        return check is not None and check.refusal(value) is None

    def problems(self, values: Mapping[str, object]) -> dict[str, str]:
        """Say of each input why `bind` would refuse these values, a sentence by name; empty if none is refused."""
        found = {}
        for name, parameter in self.parameters.items():
            reason = self._checks[name].refusal(values[name]) if name in values else None
            if reason is not None:
                found[name] = f"{reason}."
            elif parameter.required and name not in values:
                found[name] = NEEDS_VALUE
        return found

    def replay(self, stored: Mapping[str, object]) -> dict[str, object]:
        """Make the stored input of a run fit today's function; values are not validated again.

        Raises:
            ValidationError: If the function has changed so that the input no longer fits.

        """
        problems = [
            f"now needs {parameter.name!r}"
            for parameter in self.parameters.values()
            if parameter.required and parameter.name not in stored
        ]
        if self._extra is None:
            problems += [f"no longer takes {name!r}" for name in stored if name not in self.parameters]
        if problems:
            raise ValidationError(
                f"The stored input of this run does not fit {self}: it {'; it '.join(problems)}. "
                "Give the job its former parameters back (new ones need a default), or trigger a new run."
            )
        known = {
            name: stored[name] if name in stored else _default(parameter) for name, parameter in self.parameters.items()
        }
        return {**known, **stored}

    def validate_output(self, value: object) -> object:
        """Validate what the function returned, or its coroutine gave, by the return hint if there is one.

        A value of exactly the hinted class comes back as the same object, neither copied nor looked
        into; what pydantic converts or looks into (a dict for a model, ``list[int]``) as pydantic gives it.

        Raises:
            ValidationError: If the value does not fit.

        """
        try:
            return self._output(value)
        except (pydantic.ValidationError, pydantic.PydanticUserError) as error:
            raise ValidationError(
                f"{self.name} returned {shown(value)}, but its return hint is {self._output}: "
                f"{reason_of(error)}. Return what the hint says, or change the hint."
            ) from error

    def _misplaced(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> list[str]:
        twice = [name for name in self._positional[: len(args)] if name in kwargs]
        problems = [f"got two values for {name!r}" for name in twice]
        if len(args) > len(self._positional):
            problems.append(f"takes at most {len(self._positional)} positional values, not {len(args)}")
        return problems

    def _unknown(self, name: object) -> str:
        if name == self._step_name:
            return f"is given {name!r} by the worker, not by the call"
        close = difflib.get_close_matches(str(name)[:80], self.parameters, n=1)
        return f"has no parameter {shown(name)}" + (f" (did you mean {close[0]!r}?)" if close else "")


class _Check:
    """Validates a value by one type hint."""

    def __init__(self, hint: object, job_name: str, where: str) -> None:
        self._hint = Any if hint is Raw.empty else hint
        try:
            # Pydantic takes no configuration for a dataclass or a model itself, but does for a NewType of it.
            alias = _new_type("Value", self._hint)
            self._validate = pydantic.TypeAdapter(alias, config=_CONFIG).validate_python
        except (pydantic.PydanticUserError, SchemaError, TypeError, NameError) as error:
            raise ValidationError(
                f"{job_name} cannot be a job: values cannot be validated by its hint {where}: {self} "
                f"({reason_of(error)}). Use another hint, or none."
            ) from error

    def __call__(self, value: object) -> object:
        return value if type(value) is self._hint else self._validate(value)

    def __str__(self) -> str:
        return "None" if self._hint is types.NoneType else inspect.formatannotation(self._hint)

    def refusal(self, value: object) -> str | None:
        """Say why a value is refused; None if it is not."""
        try:
            self(value)
        except (pydantic.ValidationError, pydantic.PydanticUserError) as error:
            return reason_of(error)
        return None

    def collect(self, name: str, value: object, problems: list[str]) -> object:
        try:
            return self(value)
        except (pydantic.ValidationError, pydantic.PydanticUserError) as error:
            problems.append(f"cannot take {name}={shown(value)}: {reason_of(error)}")
            return value


class _Verbatim:
    """Something whose repr is a given text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _checked_name(fn: object, name: str | None) -> str:
    found = name if name is not None else getattr(fn, "__name__", None)
    if not callable(fn):
        refusal = "it is not callable; pass a function: def name(step, ...)"
    elif inspect.isclass(fn):
        refusal = "it is a class; pass a function, or a bound method of an instance"
    elif inspect.isgeneratorfunction(_called(fn)) or inspect.isasyncgenfunction(_called(fn)):
        refusal = "it is a generator; use step.run() or step.track() instead of yield, and return the result"
    elif not isinstance(found, str) or (name is None and found == "<lambda>"):
        refusal = "it has no name under which its runs could be found again; pass name=..."
    else:
        return found
    raise ValidationError(f"{shown(fn)} cannot be a job: {refusal}.")


def _called(fn: Callable[..., object]) -> Callable[..., object]:
    """Give the function that a call runs: partials and callable objects stand before it."""
    while not (inspect.isroutine(fn) or inspect.isclass(fn)):
        fn = fn.func if isinstance(fn, functools.partial) else type(fn).__call__
    return fn


def _resolved_signature(fn: Callable[..., object], job_name: str) -> inspect.Signature:
    """Give the signature with every hint as an object, whether it was written as text or not."""
    signature = _raw_signature(fn, job_name)
    _refuse_unusable(signature, job_name)
    scope = _scope(fn)
    step, *inputs = signature.parameters.values()
    for i, raw in enumerate(inputs):
        inputs[i] = raw.replace(annotation=_resolved(raw.annotation, scope, job_name, raw.name))
    returns = _resolved(signature.return_annotation, scope, job_name, "return")
    return inspect.Signature([step, *inputs], return_annotation=returns)


def _raw_signature(fn: Callable[..., object], job_name: str) -> inspect.Signature:
    try:
        if sys.version_info >= (3, 14):
            return inspect.signature(fn, annotation_format=annotationlib.Format.FORWARDREF)
        return inspect.signature(fn)
    except (ValueError, TypeError) as error:
        raise ValidationError(
            f"{job_name} cannot be a job: Python knows no parameters of it ({error}). "
            f"Wrap it in a function of your own: def {job_name}(step, ...)."
        ) from error


def _refuse_unusable(signature: inspect.Signature, job_name: str) -> None:
    inputs = list(signature.parameters.values())
    step = inputs.pop(0) if inputs else None
    if step is None or step.kind not in (Raw.POSITIONAL_ONLY, Raw.POSITIONAL_OR_KEYWORD):
        refusal = f"a job function takes the step context first: def {job_name}(step, ...)"
    elif step.name in ("self", "cls"):
        refusal = f"it takes {step.name!r}, not the step context; pass the bound method of an instance"
    elif step.annotation in _NO_STEP or step.default is not Raw.empty:
        refusal = (
            f"a job function takes the step context first, before {step.name!r}: def {job_name}(step, {step}, ...)"
        )
    else:
        refusal = "; ".join(filter(None, map(_nameless, inputs)))
    if refusal:
        raise ValidationError(f"{job_name} cannot be a job: {refusal}.")


def _nameless(raw: Raw) -> str:
    why = "but the inputs of a run are stored and passed by name"
    if raw.kind is Raw.POSITIONAL_ONLY:
        return f"{raw.name!r} is positional-only, {why}; remove the '/' after it"
    if raw.kind is Raw.VAR_POSITIONAL:
        return f"the values of *{raw.name} have no names, {why}; take one list instead: {raw.name}: list"
    return ""


def _scope(fn: Callable[..., object]) -> dict[str, object]:
    """Collect the names that a hint written as text can mean: the function's globals and closure."""
    function = inspect.unwrap(_called(inspect.unwrap(fn)))
    function = getattr(function, "__func__", function)
    scope = dict(getattr(function, "__globals__", {}))
    code: types.CodeType | None = getattr(function, "__code__", None)
    if code is not None:
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # the cell is empty: the name is bound later
                scope[name] = cell.cell_contents
    return scope


def _resolved(hint: object, scope: dict[str, object], job_name: str, where: str) -> object:
    if hint is Raw.empty:
        return hint
    holder = types.SimpleNamespace(__annotations__={where: hint})
    try:
        return typing.get_type_hints(holder, scope, scope, include_extras=True)[where]
    except Exception as error:  # whatever evaluating the text of a hint can raise
        text = hint if isinstance(hint, str) else inspect.formatannotation(hint)
        raise ValidationError(
            f"{job_name} cannot be a job: its hint {where}: {text} means nothing here ({error}). "
            "Import or define what it names, in the module or notebook of the function, before the job."
        ) from error


def _parameter(raw: Raw) -> Parameter:
    return Parameter(
        name=raw.name,
        annotation=Any if raw.annotation is Raw.empty else raw.annotation,
        default=raw.default,
        required=raw.default is Raw.empty,
    )


def _default(parameter: Parameter) -> object:
    try:
        return copy.deepcopy(parameter.default)
    except Exception as error:  # whatever copying an object of the user's can raise
        raise ValidationError(
            f"The default {parameter.name}={shown(parameter.default)} cannot be copied for a run ({error}). "
            "Pass a value, or give the parameter a plain default such as None."
        ) from error


def _printable(raw: Raw) -> Raw:
    """Give a parameter without bounds and other marks of its hint, and its default in short."""
    holder = types.SimpleNamespace(__annotations__={raw.name: raw.annotation})
    default = raw.default if raw.default is Raw.empty else _Verbatim(shown(raw.default))
    return raw.replace(annotation=typing.get_type_hints(holder)[raw.name], default=default)
