"""Where payloads go that are too large for a message: the message carries their address (a claim check)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from queuekit.contract import ConfigurationError, DriverUnavailable
from queuekit_sqs.settings import Settings

__all__ = ["FolderStore", "ObjectStore", "S3Store", "object_store"]


class ObjectStore(Protocol):
    """Texts by name. Any thread may call; errors are `DriverUnavailable` or `DriverRejected`."""

    def put(self, name: str, text: str) -> None:
        """Store a text durably before this returns; the same name again replaces it."""
        ...

    def get(self, name: str) -> str | None:
        """Return the text; None when there is none of that name."""
        ...

    def delete(self, name: str) -> None:
        """Remove it; nothing happens when it is gone already."""
        ...


class FolderStore:
    """Payloads as files in a folder that every process can reach; written beside and renamed, so never half there."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def put(self, name: str, text: str) -> None:
        """Write the file and sync it."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(self._folder / name)
        except OSError as error:
            raise DriverUnavailable(f"the payload cannot be stored in {self._folder}: {error}") from error

    def get(self, name: str) -> str | None:
        """Read the file."""
        try:
            return (self._folder / name).read_bytes().decode()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DriverUnavailable(f"the payload {name} cannot be read from {self._folder}: {error}") from error

    def delete(self, name: str) -> None:
        """Remove the file."""
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise DriverUnavailable(f"the payload {name} cannot be removed from {self._folder}: {error}") from error


class S3Store:
    """Payloads as objects of a bucket, with the driver's own region and credentials.

    A crash between a job's end and the removal leaves its object behind: give the prefix a lifecycle rule.
    """

    def __init__(self, bucket: str, prefix: str = "", *, settings: Settings) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        session = boto3.session.Session(region_name=settings.region, **settings.credentials)
        config = Config(connect_timeout=settings.connect_timeout, read_timeout=settings.read_timeout)
        self._client: Any = session.client("s3", endpoint_url=settings.endpoint, config=config)

    def put(self, name: str, text: str) -> None:
        """Put the object."""
        self._call("put_object", Key=self._prefix + name, Body=text.encode(), ContentType="application/json")

    def get(self, name: str) -> str | None:
        """Get the object."""
        answer = self._call("get_object", Key=self._prefix + name)
        try:
            return None if answer is None else answer["Body"].read().decode()
        except BotoCoreError as error:
            raise _silent(error) from error

    def delete(self, name: str) -> None:
        """Delete the object."""
        self._call("delete_object", Key=self._prefix + name)

    def _call(self, operation: str, **parameters: Any) -> Any:
        try:
            return getattr(self._client, operation)(Bucket=self._bucket, **parameters)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in {"NoSuchKey", "404"}:
                return None
            raise DriverUnavailable(f"S3 refuses a payload ({error})") from error
        except BotoCoreError as error:
            raise _silent(error) from error


def _silent(error: BotoCoreError) -> DriverUnavailable:
    return DriverUnavailable(f"S3 does not answer ({type(error).__name__}: {error})")


def object_store(address: str, settings: Settings) -> ObjectStore:
    """Build the store of an address; raises `ConfigurationError` for one that is neither S3's nor a folder's."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return FolderStore(address)
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ConfigurationError(f"offload={address!r} is refused: give s3://bucket/prefix or a folder's path")
    return S3Store(bucket, prefix, settings=settings)
