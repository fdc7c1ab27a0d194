"""RabbitMQ: a node of its own, with its own name, cookie, name server and folders."""

from __future__ import annotations

import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from queuekit_integration.servers.base import Contained, Kind
from queuekit_integration.servers.ports import free_port
from queuekit_integration.servers.process import ProcessServer

__all__ = ["RabbitMQ", "rabbitmqctl"]

FOLDERS = ("/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin")
"""Where the programs themselves are; those on PATH may be wrappers that change the user and forget the environment."""
SETTINGS = {
    "loopback_users.guest": "false",
    "vm_memory_high_watermark.relative": "0.6",
    "disk_free_limit.absolute": "50MB",
    "collect_statistics_interval": "60000",
}
ADVANCED = "[{rabbit, [{channel_tick_interval, 500}, {dead_letter_worker_publisher_confirm_timeout, 10000}]}].\n"
"""A channel looks twice a second for deliveries that are past their acknowledgement timeout, not once a minute. And, as docs/rabbitmq.md advises, a
node that expires delayed jobs before it has recovered its bindings tries again after ten seconds, not after three minutes."""
RUN = """
epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 >/dev/null 2>&1 & names=$!
"$1" & node=$!
trap 'kill -TERM $node' TERM
wait $node; wait $node
kill $names 2>/dev/null
wait
"""
"""The node and its name server end together, and both stand below one process."""


class RabbitMQ(Kind):
    """A RabbitMQ node with the user guest; `settings` are lines of rabbitmq.conf, by name."""

    name: ClassVar[str] = "rabbitmq"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    image: ClassVar[str] = "rabbitmq:4"
    package: ClassVar[str] = "rabbitmq-server"

    def __init__(self, settings: Mapping[str, str] | None = None, *, folder: str | None = None) -> None:
        self.settings = {**SETTINGS, **(settings or {})}
        self._folder = folder

    def program(self) -> str | None:
        """Return rabbitmq-server: of the folder that was given, of its package's folder, else on PATH."""
        return self._binary("rabbitmq-server")

    def account(self) -> str | None:
        """Run as whoever runs the tests."""
        return None

    def prepare(self, folder: Path) -> list[str] | None:
        """Write the settings; the node makes the rest."""
        lines = [f"{name} = {value}\n" for name, value in self.settings.items()]
        (folder / "rabbitmq.conf").write_text("".join(lines), "utf-8")
        (folder / "advanced.config").write_text(ADVANCED, "utf-8")
        (folder / "plugins").write_text("[].\n", "utf-8")
        (folder / "ports").write_text(f"{free_port()} {free_port()}", "utf-8")
        return None

    def command(self, folder: Path, port: int) -> list[str]:
        """Return the command; a node is told by its environment where everything is."""
        program = self.program()
        assert program is not None
        return ["env", *self.environment(folder, port), "sh", "-c", RUN, "rabbitmq", program]

    def contained(self) -> Contained:
        """Serve from a folder of the container's own."""
        settings = {**self.settings, "listeners.tcp.default": "5672"}
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        script = (
            "export HOME=/tmp/queuekit RABBITMQ_NODENAME=queuekit@localhost && "
            f"PATH={':'.join(FOLDERS)}:$PATH && mkdir -p $HOME && cd $HOME && "
            f"printf %s {shlex.quote(lines)} >rabbitmq.conf && printf %s {shlex.quote(ADVANCED)} >advanced.config && "
            "export RABBITMQ_CONFIG_FILE=/tmp/queuekit/rabbitmq.conf RABBITMQ_MNESIA_BASE=/tmp/queuekit RABBITMQ_LOGS=- "
            "RABBITMQ_ADVANCED_CONFIG_FILE=/tmp/queuekit/advanced.config && exec rabbitmq-server"
        )
        return Contained(script=script, port=5672, stop_signal=self.stop_signal.name)

    def environment(self, folder: Path, port: int) -> list[str]:
        """Return the variables, `NAME=value`, by which the node and its command-line tools find each other."""
        names, distribution = (folder / "ports").read_text("utf-8").split()
        variables = {
            "HOME": folder,
            "RABBITMQ_NODENAME": f"queuekit{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": port,
            "RABBITMQ_DIST_PORT": distribution,
            "ERL_EPMD_PORT": names,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONFIG_FILE": folder / "rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": folder / "advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": folder / "plugins",
            "RABBITMQ_CONF_ENV_FILE": folder / "none",
            "RABBITMQ_MNESIA_BASE": folder,
            "RABBITMQ_LOG_BASE": folder,
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": folder / "pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }
        return [f"{name}={value}" for name, value in variables.items()]

    def control(self, folder: Path, port: int, *words: str) -> str:
        """Run rabbitmqctl, and return what it printed."""
        program = self._binary("rabbitmqctl")
        assert program is not None
        command = ["env", *self.environment(folder, port), program, "-q", *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"rabbitmqctl {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def answers(self, host: str, port: int) -> bool:
        """Greet as a client does; the node answers with connection.start once it has booted."""
        try:
            with socket.create_connection((host, port), timeout=1) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(64).startswith(b"\x01\x00\x00")
        except OSError:
            return False

    def url(self, host: str, port: int) -> str:
        """Return the address of the virtual host `/`."""
        return f"amqp://guest:guest@{host}:{port}/%2F"

    def _binary(self, name: str) -> str | None:
        folders = FOLDERS if self._folder is None else (self._folder,)
        for folder in folders:
            if (Path(folder) / name).exists():
                return str(Path(folder) / name)
        return shutil.which(name)


def rabbitmqctl(server: ProcessServer, *words: str) -> str:
    """Run rabbitmqctl against a server that the tests started, and return what it printed."""
    kind = server.kind
    assert isinstance(kind, RabbitMQ)
    return kind.control(server.data, server.port, *words)
