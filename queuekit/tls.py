"""The files that TLS needs, tried when a driver is built: at a connection each mistake would look like a server that is away."""

from __future__ import annotations

import os
from pathlib import Path

from queuekit.durations import refuse

__all__ = ["TlsFile", "check_certificates", "check_file"]

TlsFile = tuple[str, str | None]
"""An option's name and the path that it states; None where it states none."""


def check_file(option: str, path: str) -> None:
    """Raise `ConfigurationError` for what is no file that can be read."""
    if not isinstance(path, str):
        raise refuse(option, path, "give the path of a file")
    if not Path(path).is_file():
        raise refuse(option, path, "there is no such file; give the path of one, as this process sees it")
    if not os.access(path, os.R_OK):
        raise refuse(option, path, "this process may not read that file; grant it that, or give another")


def check_certificates(*, authorities: TlsFile, certificate: TlsFile, key: TlsFile) -> None:
    """Raise `ConfigurationError` for PEM files with which TLS cannot be spoken, naming option, file and remedy."""
    from ssl import PROTOCOL_TLS_CLIENT, SSLContext, SSLError  # noqa: PLC0415 - 10 ms that an import alone need not pay

    for option, path in (authorities, certificate, key):
        if path is not None:
            check_file(option, path)
    if key[1] is not None and certificate[1] is None:
        raise refuse(*key, f"it is the key of a certificate; give that as {certificate[0]}")
    context = SSLContext(PROTOCOL_TLS_CLIENT)
    try:
        if authorities[1] is not None:
            context.load_verify_locations(authorities[1])
    except SSLError:
        raise refuse(*authorities, "it holds no certificates; give a file of trusted ones in PEM format") from None
    try:
        if certificate[1] is not None:
            context.load_cert_chain(certificate[1], key[1], password="")
    except SSLError:
        beside = "" if key[1] is None else f" and {key[0]}"
        remedy = f"give in {certificate[0]}{beside} a certificate and its key in PEM format, without passphrase"
        raise refuse(*certificate, remedy) from None
