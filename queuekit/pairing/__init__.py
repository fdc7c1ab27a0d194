"""Pairing: a transport (RabbitMQ, SQS) with an engine's store has every feature. Written once, for all of them."""

from queuekit.pairing.build import pair
from queuekit.pairing.paired import Paired

__all__ = ["Paired", "pair"]
