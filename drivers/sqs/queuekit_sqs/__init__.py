"""The Amazon SQS driver of queuekit."""

from queuekit_sqs.driver import SqsDriver
from queuekit_sqs.offload import FolderStore, ObjectStore, S3Store

__all__ = ["FolderStore", "ObjectStore", "S3Store", "SqsDriver"]
