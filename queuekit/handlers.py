"""Registered handlers: a function, how its arguments are made from a payload, and its options."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from queuekit.codec import BASE64, decode_bytes, encode_bytes, encode_json
from queuekit.context import JobContext
from queuekit.durations import checked_name
from queuekit.errors import BadPayload, ConfigurationError
from queuekit.options import BLOCKS, Options

__all__ = ["Handler", "Registry"]

T = TypeVar("T")


class Handler:
    """One job type in this process."""

    __slots__ = ("binder", "fn", "is_async", "name", "options", "wants_context")

    def __init__(self, name: str, fn: Callable[..., Any], options: Options) -> None:
        if not callable(fn):
            message = (
                f"handler={fn!r} ({type(fn).__name__}) of {name!r} is refused: give a function or another callable"
            )
            raise ConfigurationError(message)
        self.name = name
        self.fn = fn
        self.options = options
        self.is_async = _is_async(fn)
        hints = _hints(fn)
        parameters = _parameters(fn, name)
        self.wants_context = _wants_context(name, parameters, hints)
        self.binder = Binder(name, parameters[1:] if self.wants_context else parameters, hints)
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            message = f"the handler {name!r} is a generator, which would never run: leave out `yield`"
            raise ConfigurationError(message)
        if options.settle == "transaction" and self.is_async:
            raise ConfigurationError(f"{name!r}: {BLOCKS}")
        if options.executor == "process":
            _refuse_unimportable(name, fn, self.is_async)


class Binder:
    """Turns call arguments into a payload, and a payload into call arguments, checked against the annotations."""

    __slots__ = (
        "_decoder",
        "_default",
        "_empty",
        "_keywords",
        "_name",
        "_open_ended",
        "_positional",
        "_required",
        "_type",
        "names",
        "whole",
    )

    def __init__(self, name: str, parameters: list[inspect.Parameter], hints: Mapping[str, Any]) -> None:
        self._name = name
        self.names = tuple(p.name for p in parameters if p.kind is not p.VAR_KEYWORD)
        self._open_ended = len(self.names) != len(parameters)
        """It has `**rest`: fields without a parameter are handed over unchecked."""
        self.whole = self.names == ("payload",)
        """The handler takes the payload as it is: beside another parameter nothing would be left for that one."""
        self._default = parameters[0].default if self.whole else inspect.Parameter.empty
        self._positional = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
        self._keywords = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
        self._required = tuple(
            p.name for p in parameters if p.default is p.empty and p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}
        )
        self._empty = not parameters
        if self.whole:
            self._type: Any = hints.get("payload", Any)
        else:
            self._type = _arguments_struct(name, parameters, hints, strict=not self._open_ended)
        self._decoder = _decoder_of(self._type, name)

    def payload(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the payload for a call with these arguments; raises `BadPayload` for a call that does not fit."""
        if self.whole:
            return self._whole_payload(args, kwargs)
        if len(args) > len(self._positional):
            raise self._bad_call(f"takes {len(self._positional)} positional arguments, not {len(args)}", "$")
        named = dict(zip(self._positional, args, strict=False))
        for name in kwargs:
            if name in named:
                raise self._bad_call(f"got the argument {name!r} twice", f"$.{name}")
        named.update(kwargs)
        for name in self._required:
            if name not in named:
                raise self._bad_call(f"needs the argument {name!r}", f"$.{name}")
        return named

    def _whole_payload(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not args and not kwargs and self._default is not inspect.Parameter.empty:
            return self._default
        if len(args) + len(kwargs) != 1 or (kwargs and "payload" not in kwargs):
            raise self._bad_call("takes exactly one argument, `payload`", "$")
        return args[0] if args else kwargs["payload"]

    def _bad_call(self, why: str, path: str) -> BadPayload:
        """Return the error of a caller in this process: no job has a bad payload yet."""
        return BadPayload(f"{self._name!r} {why}", reason=None, path=path)

    def check(self, encoded: bytes) -> None:
        """Raise `BadPayload` when this JSON does not fit the handler; null stands for no arguments."""
        if not self._empty or encoded not in {b"null", b"{}"}:
            self._decode(encoded)

    def arguments(self, encoded: bytes | memoryview | msgspec.Raw) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the call's arguments; raises `BadPayload` with the path of what does not fit."""
        if self._empty and bytes(encoded) in {b"null", b"{}"}:
            return (), {}
        value = self._decode(encoded)
        if self.whole:
            return ((), {"payload": value}) if self._keywords else ((value,), {})
        if self._open_ended:
            return (), {**msgspec.json.decode(encoded), **msgspec.structs.asdict(value)}
        values = msgspec.structs.astuple(value)
        if not self._keywords:
            return values, {}
        by_name = dict(zip(self.names, values, strict=True))
        return tuple(by_name[name] for name in self._positional), {name: by_name[name] for name in self._keywords}

    def _decode(self, encoded: bytes | memoryview | msgspec.Raw) -> Any:
        try:
            return self._decoder.decode(encoded)
        except msgspec.ValidationError as error:
            if not self.whole and bytes(encoded) == b"null":
                return self._decode(b"{}")
            raise _bad(error) from error
        except (msgspec.DecodeError, RecursionError) as error:
            message = f"the payload cannot be decoded: {error}"
            raise BadPayload(message) from error


_FIELD = re.compile(r"Object (?:missing required|contains unknown) field `([^`]+)`")


def _bad(error: msgspec.ValidationError) -> BadPayload:
    """Translate msgspec's sentence, which ends in ` - at `$.path``; a missing or unknown field is part of the path."""
    sentence = str(error)
    text, _, tail = sentence.rpartition(" - at `")
    path = tail.rstrip("`") if text else "$"
    field = _FIELD.match(sentence)
    return BadPayload(sentence, path=path if field is None else f"{path}.{field[1]}")


def bind_payload(encoded: bytes | msgspec.Raw, type_: type[T]) -> T:
    """Decode JSON as a `type_`; raises `BadPayload`."""
    try:
        return typing.cast("T", _decoder_of(type_, "bind").decode(encoded))
    except msgspec.ValidationError as error:
        raise _bad(error) from error
    except msgspec.DecodeError as error:
        message = f"the payload cannot be decoded: {error}"
        raise BadPayload(message) from error


@functools.lru_cache(maxsize=256)
def _cached_decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type_, dec_hook=_decode_model)


def _decoder_of(type_: Any, name: str) -> msgspec.json.Decoder[Any]:
    try:
        try:
            return _cached_decoder(type_)
        except TypeError as error:
            if "unhashable" not in str(error):
                raise
            return msgspec.json.Decoder(type_, dec_hook=_decode_model)
    except (TypeError, ValueError) as error:
        message = f"the annotations of {name!r} cannot be checked: {error}"
        raise ConfigurationError(message) from error


def _decode_model(type_: Any, value: Any) -> Any:
    """Decode what msgspec does not know: pydantic models (recognised by their methods), and bytes."""
    validate = getattr(type_, "model_validate", None)
    if validate is not None:
        try:
            return validate(value)
        except ValueError as error:
            raise ValueError(_model_error(error)) from error
    origin = typing.get_origin(type_) or type_
    if isinstance(origin, type) and isinstance(value, origin):
        return value
    message = f"values of type {getattr(type_, '__name__', type_)} cannot be made from JSON"
    raise ValueError(message)


def _model_error(error: ValueError) -> str:
    details = getattr(error, "errors", None)
    if details is None:
        return str(error)
    first = details()[0]
    return f"{first['msg']} at {'.'.join(map(str, first['loc']))}"


def _arguments_struct(
    name: str, parameters: list[inspect.Parameter], hints: Mapping[str, Any], *, strict: bool
) -> type:
    fields: list[Any] = []
    for p in parameters:
        if p.kind is p.VAR_KEYWORD:
            continue
        annotation = hints.get(p.name, Any)
        fields.append((p.name, annotation) if p.default is p.empty else (p.name, annotation, _default(p)))
    try:
        return msgspec.defstruct(
            f"{name} arguments", fields, forbid_unknown_fields=strict, kw_only=True, gc=False, module=__name__
        )
    except (TypeError, ValueError) as error:
        message = f"the parameters of {name!r} cannot be checked: {error}"
        raise ConfigurationError(message) from error


def _default(parameter: inspect.Parameter) -> Any:
    value = parameter.default
    if value is None or isinstance(value, str | bytes | int | float):
        return value
    return msgspec.field(default_factory=lambda: value)  # the very object, as in a plain call


def _parameters(fn: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError) as error:
        message = f"the parameters of the handler {name!r} cannot be read: {error}; wrap it in a function"
        raise ConfigurationError(message) from error
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL or p.kind is p.POSITIONAL_ONLY:
            kind = f"*{p.name}" if p.kind is p.VAR_POSITIONAL else f"positional-only {p.name!r}"
            message = f"the handler {name!r} has {kind}: a payload has named arguments only, so give it a name"
            raise ConfigurationError(message)
    return parameters


def _wants_context(name: str, parameters: list[inspect.Parameter], hints: Mapping[str, Any]) -> bool:
    asking = [p for p in parameters if hints.get(p.name) is JobContext]
    if asking and (asking != parameters[:1] or asking[0].kind is inspect.Parameter.KEYWORD_ONLY):
        message = f"the handler {name!r} takes its JobContext as {asking[-1].name!r}: it must be the first parameter"
        raise ConfigurationError(message)
    return bool(asking)


def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    target: Any = fn
    while isinstance(target, functools.partial):
        target = target.func
    if not inspect.isroutine(target) and not inspect.isclass(target):
        target = type(target).__call__
    try:
        return typing.get_type_hints(target)
    except (NameError, TypeError, AttributeError):
        return _hints_one_by_one(target)


def _hints_one_by_one(target: Any) -> dict[str, Any]:
    """Resolve the annotations that can be; one that names something local or missing is not checked."""
    scope = {**vars(typing), **getattr(target, "__globals__", {}), "JobContext": JobContext}
    hints: dict[str, Any] = {}
    for name, annotation in getattr(target, "__annotations__", {}).items():
        try:
            hints[name] = eval(annotation, scope) if isinstance(annotation, str) else annotation  # noqa: S307
        except (NameError, TypeError, AttributeError, SyntaxError):
            hints[name] = Any
    return hints


def _is_async(fn: Callable[..., Any]) -> bool:
    target: Any = fn
    while isinstance(target, functools.partial):
        target = target.func
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(getattr(target, "__call__", None))  # noqa: B004


def _refuse_unimportable(name: str, fn: Callable[..., Any], is_async: bool) -> None:
    qualified = getattr(fn, "__qualname__", "<")
    if "<" in qualified or getattr(fn, "__module__", None) is None:
        message = f'executor="process" imports the handler by name, and {name!r} has none: define it at a module\'s top'
        raise ConfigurationError(message)
    if inspect.ismethod(fn) and not inspect.isclass(fn.__self__):
        message = f'executor="process" cannot take the object of the method {name!r} along: use a function'
        raise ConfigurationError(message)
    if is_async:
        message = f'executor="process" runs plain functions, and {name!r} is async: leave the executor out'
        raise ConfigurationError(message)


class Registry:
    """The handlers of one queue, by name."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def add(self, name: str, fn: Callable[..., Any], options: Options) -> Handler:
        """Register a handler; the same function may come again (a module imported twice), another one may not."""
        handler = Handler(checked_name("name", name), fn, options)
        earlier = self._handlers.get(name)
        if earlier is not None and not _same(earlier.fn, fn):
            message = f"two handlers are named {name!r}: {_where(earlier.fn)} and {_where(fn)}; give one of them name=…"
            raise ConfigurationError(message)
        self._handlers[name] = handler
        return handler

    def get(self, name: str) -> Handler | None:
        """Return the handler of a job type; None when this process has none."""
        return self._handlers.get(name)

    def __iter__(self) -> typing.Iterator[Handler]:
        return iter(list(self._handlers.values()))

    def queues(self) -> Iterable[str]:
        """Return the queues that registered handlers name."""
        return sorted({handler.options.queue for handler in self if handler.options.queue})


def _same(first: Callable[..., Any], second: Callable[..., Any]) -> bool:
    return first is second


def _where(fn: Callable[..., Any]) -> str:
    return f"{getattr(fn, '__module__', '?')}.{getattr(fn, '__qualname__', type(fn).__name__)}"


def encode_payload(payload: Any, *, what: str) -> tuple[bytes, str | None]:
    """Return a payload's JSON and the name of its codec (None: plain JSON)."""
    if isinstance(payload, bytes | bytearray | memoryview):
        return msgspec.json.encode(encode_bytes(payload)), BASE64
    return encode_json(payload, what=what), None


def decode_base64(encoded: bytes | msgspec.Raw) -> bytes:
    """Return a bytes payload; raises `BadPayload`."""
    try:
        return decode_bytes(msgspec.json.decode(encoded, type=str))
    except (ValueError, msgspec.MsgspecError) as error:
        raise BadPayload(str(error)) from error
