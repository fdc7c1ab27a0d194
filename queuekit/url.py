"""A backend's address, taken apart once, with errors that name the part at fault and never show a password."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from queuekit.errors import ConfigurationError

__all__ = ["Url", "shown"]

ENCODE = "percent-encode / ? # @ : in the user's name and password, and @ in the path"


@dataclass(frozen=True, slots=True)
class Url:
    """A parsed backend address: `scheme://user:password@host:port,host:port/path?options`."""

    scheme: str
    host: str = ""
    port: int | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str = ""
    """What stands behind `scheme://host` up to the query, percent-decoded, with its leading slash."""
    others: tuple[tuple[str, int | None], ...] = ()
    """Further hosts and their ports, in the order given: more nodes of the same backend."""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What stands behind the question mark; some are passwords, so neither `repr` nor `str` shows any."""

    @classmethod
    def parse(cls, text: str) -> Url:
        """Take a URL apart; raises `ConfigurationError` for what is not one."""
        if not isinstance(text, str):
            message = f"a queue's address must be a string such as 'sqlite:///jobs.db', not {type(text).__name__}"
            raise ConfigurationError(message)
        scheme, separator, _ = text.partition("://")
        if not separator or not scheme:
            message = (
                f"{shown(text)!r} is not a queue address: it needs a scheme, "
                "for example 'memory://', 'sqlite:///jobs.db' or 'redis://localhost/0'"
            )
            raise ConfigurationError(message)
        try:
            parts = urlsplit(text)
            pairs = _options(parts.query)
            (host, port), *others = _hosts(parts.netloc.rpartition("@")[2])
        except ValueError as error:
            # The parser quotes what it took for a port, which is part of a password that has a slash in it.
            quoted = "@" in text and "out of range" not in str(error)
            raise _unreadable(text, ENCODE if quoted else str(error)) from None
        if parts.netloc and "@" in parts.path:
            # A password that has a slash in it, behind digits that pass for a port.
            raise _unreadable(text, ENCODE)
        if parts.fragment:
            raise _unreadable(text, "percent-encode the # in it (%23)")
        return cls(
            scheme=scheme.lower(),
            host=host,
            port=port,
            user=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
            path=unquote(parts.path),
            others=tuple(others),
            options=dict(pairs),
        )

    @property
    def hosts(self) -> tuple[tuple[str, int | None], ...]:
        """All hosts with their ports, the first included."""
        return ((self.host, self.port), *self.others)

    def refuse_unknown(self, known: Mapping[str, object] | set[str], *, several_hosts: bool = False) -> None:
        """Raise `ConfigurationError` for an option that is none of `known`, naming the nearest, and for hosts that nobody would ask."""
        if self.others and not several_hosts:
            raise ConfigurationError(f"{self.scheme}:// takes one host, and {self} names {len(self.hosts)}")
        for name in self.options:
            if name not in known:
                near = difflib.get_close_matches(name, list(known), n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                listed = ", ".join(sorted(known)) or "none"
                message = f"{self.scheme}:// has no option {name!r}{hint} (its options: {listed})"
                raise ConfigurationError(message)

    def __str__(self) -> str:
        """Return the address without its password and option values."""
        user = "" if self.user is None else f"{self.user}:***@" if self.password is not None else f"{self.user}@"
        hosts = ",".join(host if port is None else f"{host}:{port}" for host, port in self.hosts)
        return f"{self.scheme}://{user}{hosts}{self.path}"


def _hosts(text: str) -> list[tuple[str, int | None]]:
    """Take `host:port,host:port` apart; raises `ValueError`."""
    places = text.split(",")
    if len(places) > 1 and not all(places):
        raise ValueError("there is a comma without a host beside it")
    parts = [urlsplit(f"//{place}") for place in places]
    return [(part.hostname or "", part.port) for part in parts]


def _options(query: str) -> list[tuple[str, str]]:
    """Take `name=value&name=value` apart; raises `ValueError`, whose text quotes nothing: a value may be a password."""
    try:
        return parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        message = "write its options as name=value&name=value, and percent-encode & = # % in the values"
        raise ValueError(message) from None


def _unreadable(text: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"the queue address {shown(text)!r} cannot be read: {why}")


def shown(text: str) -> str:
    """Return `text` without what may be a password: what stands before its last `@`, and its options."""
    front, mark, options = text.partition("?")
    scheme, separator, rest = front.partition("://") if "://" in front else ("", "", front)
    credentials, at, place = rest.rpartition("@")
    if "@" in options:
        # It is an option's, or belongs to a password that has a question mark in it: then `rest` ends within the password.
        credentials, at, place = rest, "", ""
    user, colon, _ = credentials.partition(":")
    hidden = ":***" if at or colon else ""
    return f"{scheme}{separator}{user}{hidden}{at}{place}{'?…' if mark else ''}"
