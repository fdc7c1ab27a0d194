"""What RabbitMQ's errors mean, by pika's classes and the protocol's reply codes, mapped once at the driver's edge."""

from __future__ import annotations

import logging
import ssl

from pika import exceptions
from pika.adapters.utils.connection_workflow import AMQPConnectionWorkflowFailed, AMQPConnectorPhaseErrorBase

from queuekit.contract import DriverError, DriverRejected, DriverUnavailable

__all__ = ["MissingError", "of_code", "of_error"]

_pika = logging.getLogger("pika")
if _pika.level == logging.NOTSET:
    # It logs a dozen errors for each refused connection; everything in them is in the one error that is raised instead.
    _pika.setLevel(logging.CRITICAL)

GUESSED = (
    exceptions.IncompatibleProtocolError,
    exceptions.ProbableAuthenticationError,
    exceptions.ProbableAccessDeniedError,
)
LASTING: dict[int, str] = {
    403: "the user may not do this: grant it configure, write and read on the namespace's names",
    404: "the queue or exchange does not exist",
    405: "another connection holds it exclusively",
    406: "it exists with other arguments: use the options it was made with, or delete it while it is empty",
    402: "the path is not valid",
    530: "the virtual host does not exist, or the user may not enter it",
    540: "this broker does not know that: RabbitMQ 3.10 or newer is needed",
}
"""Reply codes (AMQP 0-9-1, section 1.2, and RabbitMQ's own use of them) after which somebody must act."""
GUESSES = (
    exceptions.ProbableAuthenticationError,
    exceptions.ProbableAccessDeniedError,
    exceptions.IncompatibleProtocolError,
)
"""What pika guesses from the step at which a connection ended. RabbitMQ says why before it ends one, so that an end without a word is a
network's or a dying broker's, and passes; the text has the original error's name."""


class MissingError(DriverRejected):
    """A queue or exchange was asked for that does not exist."""


def of_error(error: BaseException, where: str) -> DriverError:
    """Say what it means that a connection could not be opened, or was lost."""
    error = _root(error)
    if isinstance(error, DriverError):
        return error
    if isinstance(error, GUESSED) and "StreamLostError" in str(error):
        # Pika guesses from the step at which the connection was lost; a broker that refuses says so.
        return DriverUnavailable(
            f"RabbitMQ at {where} cannot be reached (the connection was lost while it was opened: {error})"
        )
    if isinstance(error, exceptions.ConnectionClosed | exceptions.ChannelClosed):
        return of_code(error.reply_code, error.reply_text, where)
    if isinstance(error, GUESSES) and "ConnectionClosedByBroker" not in str(error):
        return DriverUnavailable(f"RabbitMQ at {where} hung up while the connection was made ({error})")
    if isinstance(error, exceptions.ProbableAuthenticationError | exceptions.AuthenticationError):
        return DriverRejected(f"RabbitMQ at {where} refused the user's name or password")
    if isinstance(error, exceptions.ProbableAccessDeniedError):
        return DriverRejected(f"RabbitMQ at {where}: {LASTING[530]}")
    if isinstance(error, exceptions.IncompatibleProtocolError | exceptions.ProtocolVersionMismatch):
        return DriverRejected(f"whatever answers at {where} does not speak AMQP 0-9-1")
    if isinstance(error, ssl.SSLCertVerificationError):
        return DriverRejected(f"RabbitMQ at {where}: its certificate is not trusted ({error.verify_message})")
    return DriverUnavailable(f"RabbitMQ at {where} cannot be reached ({type(error).__name__}: {error})")


def _root(error: BaseException) -> BaseException:
    """Return what lies under pika's wrappings of an attempt to connect."""
    while True:
        inner: object = None
        if isinstance(error, AMQPConnectionWorkflowFailed) and error.exceptions:
            inner = error.exceptions[-1]
        elif isinstance(error, AMQPConnectorPhaseErrorBase):
            inner = error.exception
        elif type(error) is exceptions.AMQPConnectionError and error.args:
            inner = error.args[0]
        if not isinstance(inner, BaseException):
            return error
        error = inner


def of_code(code: int, text: str, where: str) -> DriverError:
    """Say what a reply code means."""
    if code in LASTING:
        kind = MissingError if code == 404 else DriverRejected
        return kind(f"RabbitMQ at {where}: {LASTING[code]} ({code} {text})")
    return DriverUnavailable(f"RabbitMQ at {where} closed the connection ({code} {text})")
