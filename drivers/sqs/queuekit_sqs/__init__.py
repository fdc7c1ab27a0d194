"""The Amazon SQS driver of queuekit."""

from queuekit_sqs.driver import SqsDriver
from queuekit_sqs.offload import FolderStore, ObjectStore, S3Store
from queuekit_sqs.settings import Settings

__all__ = ["FolderStore", "ObjectStore", "S3Store", "Settings", "SqsDriver"]
