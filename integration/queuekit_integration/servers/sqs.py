"""Emulators of Amazon SQS."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import ClassVar

from queuekit_integration.servers.base import Contained, Kind

__all__ = ["LocalStack", "Roto", "address"]

CREDENTIALS = "test:test"
"""Emulators take any."""


def address(host: str, port: int) -> str:
    """Return a queue's address at an emulator; queues are made as they are used."""
    return f"sqs://{CREDENTIALS}@eu-west-1?endpoint=http://{host}:{port}&create=true"


REQUIREMENTS = Path(__file__).with_name("localstack-sqs-requirements.txt")
"""What LocalStack's SQS needs, pinned: a plain installation is broken. It takes an environment of its own."""


LIST = {
    "Content-Type": "application/x-amz-json-1.0",
    "X-Amz-Target": "AmazonSQS.ListQueues",
    "Authorization": "AWS4-HMAC-SHA256 Credential=test/20000101/eu-west-1/sqs/aws4_request, SignedHeaders=host, Signature=0",
}
"""A request that emulators take as one of SQS; they do not look at signatures."""


def _says_something(host: str, port: int) -> bool:
    """Ask for the queues: whatever HTTP answer comes within a second, it serves."""
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("POST", "/", "{}", LIST)
        connection.getresponse().read()
    except OSError:
        return False
    finally:
        connection.close()
    return True


class LocalStack(Kind):
    """LocalStack's SQS: closest to the service in what it answers (deduplication for five minutes, 1 MiB, stale handles).

    It forgets everything when it ends. QUEUEKIT_LOCALSTACK_PYTHON names the interpreter of an environment with `REQUIREMENTS`.
    """

    name: ClassVar[str] = "localstack"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    image: ClassVar[str] = "localstack/localstack:4"
    package: ClassVar[str] = "-"
    start_seconds: ClassVar[float] = 120.0
    """A quarter of a gigabyte of Python is read, by several processes of a run at the same time."""

    def program(self) -> str | None:
        """Return the interpreter of LocalStack's environment."""
        return os.environ.get("QUEUEKIT_LOCALSTACK_PYTHON")

    def account(self) -> str | None:
        """Run as whoever runs the tests."""
        return None

    def prepare(self, folder: Path) -> list[str] | None:  # noqa: ARG002 - other kinds need it
        """Nothing: an empty folder will do."""
        return None

    def command(self, folder: Path, port: int) -> list[str]:
        """Return the command; every setting is a variable of its environment, and all its files are in the folder."""
        program = self.program()
        assert program is not None
        here = f"127.0.0.1:{port}"
        settings = {
            "HOME": str(folder),
            "FILESYSTEM_ROOT": str(folder),
            "CONFIG_DIR": str(folder / "conf"),
            "OVERRIDE_IN_DOCKER": "0",
            "SERVICES": "sqs",
            "EAGER_SERVICE_LOADING": "1",
            "GATEWAY_SERVER": "hypercorn",
            "GATEWAY_LISTEN": here,
            "LOCALSTACK_HOST": here,
            "DISABLE_EVENTS": "1",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "DNS_ADDRESS": "0",
            "LS_LOG": "warn",
        }
        return [
            "env",
            *(f"{name}={value}" for name, value in settings.items()),
            program,
            "-m",
            "localstack.runtime.main",
        ]

    def contained(self) -> Contained:
        """Serve as its image does."""
        script = "exec docker-entrypoint.sh"
        return Contained(script=script, port=4566, stop_signal=self.stop_signal.name)

    def answers(self, host: str, port: int) -> bool:
        """Ask for the queues: it loads its SQS with the first such request, and is up before."""
        return _says_something(host, port)

    def url(self, host: str, port: int) -> str:
        """Return the address of a queue."""
        return address(host, port)


class Roto(Kind):
    """roto-aws: starts in a tenth of a second, keeps what it accepted after a SIGKILL, and has exact timers."""

    name: ClassVar[str] = "roto"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    image: ClassVar[str] = "localstack/localstack:4"
    package: ClassVar[str] = "-"

    def program(self) -> str | None:
        """Return the program of this Python's environment, else the one on PATH."""
        beside = Path(sys.executable).with_name("roto-server")
        return str(beside) if os.access(beside, os.X_OK) else shutil.which("roto-server")

    def account(self) -> str | None:
        """Run as whoever runs the tests."""
        return None

    def prepare(self, folder: Path) -> list[str] | None:  # noqa: ARG002 - other kinds need it
        """Nothing: an empty folder will do."""
        return None

    def command(self, folder: Path, port: int) -> list[str]:
        """Return the command."""
        program = self.program()
        assert program is not None
        return [program, "--host", "127.0.0.1", "--port", str(port), "--data-dir", str(folder)]

    def contained(self) -> Contained:
        """Serve from a folder of the container's own."""
        script = "exec $(command -v roto-server) --host 0.0.0.0 --port 5070 --data-dir /tmp/queuekit"
        return Contained(script=script, port=5070, stop_signal=self.stop_signal.name)

    def answers(self, host: str, port: int) -> bool:
        """Ask for the queues."""
        return _says_something(host, port)

    def url(self, host: str, port: int) -> str:
        """Return the address of a queue; this emulator carries messages of 256 KiB."""
        return address(host, port) + "&message_bytes=262144"
