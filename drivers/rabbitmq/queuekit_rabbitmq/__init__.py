"""RabbitMQ as a transport: quorum queues, confirmed publishes, pushed deliveries, delays without plug-ins."""

from queuekit_rabbitmq.driver import RabbitMQDriver
from queuekit_rabbitmq.settings import Settings

__all__ = ["RabbitMQDriver", "Settings"]
