"""RabbitMQ as a transport: quorum queues, confirmed publishes, pushed deliveries, delays without plug-ins."""

from queuekit_rabbitmq.driver import RabbitMQDriver

__all__ = ["RabbitMQDriver"]
