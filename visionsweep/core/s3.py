"""Folders on S3, or on a server with its interface: listed, read and written."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from visionsweep.core.errors import StorageError
from visionsweep.core.s3_client import BROKEN_OFF, client, in_words
from visionsweep.core.safe_path import safe_path

SCHEME = "s3://"
TRIES = 3  # of a transfer that breaks off in the middle; boto3 itself retries requests

NOT_FOUND = ("404", "NoSuchKey", "NotFound")
UNMET = ("412", "PreconditionFailed", "ConditionalRequestConflict")  # another writer was faster


@dataclass(frozen=True)
class Listed:
    """A listed object. size is in bytes, and etag changes with the contents."""

    size: int
    etag: str


@dataclass(frozen=True)
class Stored:
    """A read object. age_s is its age at that time, by the server's own clock."""

    content: bytes
    etag: str
    age_s: float


@dataclass(frozen=True)
class Remote:
    """A folder on S3: all objects whose keys begin with `prefix/`. Names are relative to it, with slashes.

    patient  whether failing requests are retried for about a minute, or only for a few seconds, as before a start

    Every method raises StorageError, in one sentence, if S3 fails.
    """

    bucket: str
    prefix: str
    patient: bool = True

    @property
    def uri(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.prefix}".rstrip("/")

    def __str__(self) -> str:
        return self.uri

    @property
    def name(self) -> str:
        return self.prefix.rpartition("/")[2] or self.bucket

    @property
    def parent(self) -> Remote:
        return Remote(self.bucket, self.prefix.rpartition("/")[0], self.patient)

    def __truediv__(self, name: str) -> Remote:
        return Remote(self.bucket, self._key(name), self.patient)

    def hurried(self) -> Remote:
        return Remote(self.bucket, self.prefix, patient=False)

    def listing(self, below: str = "") -> dict[str, Listed]:
        """Return every object by name, of all folders below.

        Names are chosen by anyone who can write to the bucket. Raises StorageError also for a name that is not that of
        a file below a folder.
        """
        found: dict[str, Listed] = {}
        start = self._key("")
        with self._errors_in_words():
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=start + below):
                for entry in page.get("Contents", []):
                    found[entry["Key"][len(start) :]] = Listed(entry["Size"], entry["ETag"].strip('"'))
        found.pop("", None)  # some tools write an object for the folder itself
        for name in found:
            self._path(Path(), name.removesuffix("/"))  # a name with the slash is that of a folder
        return found

    def folders(self) -> list[str]:
        """Return the names of the folders directly in it, at most a thousand."""
        start = self._key("")
        with self._errors_in_words():
            page = self._client.list_objects_v2(Bucket=self.bucket, Prefix=start, Delimiter="/")
        return [entry["Prefix"][len(start) :].rstrip("/") for entry in page.get("CommonPrefixes", [])]

    def exists(self, name: str) -> bool:
        with self._errors_in_words(name, NOT_FOUND) as refused:
            self._client.head_object(Bucket=self.bucket, Key=self._key(name))
        return not refused

    def read(self, name: str) -> Stored | None:
        """Return the whole object, None if there is none."""
        for last in (*[False] * (TRIES - 1), True):
            with self._errors_in_words(name, NOT_FOUND, broken=not last) as refused:
                got = self._client.get_object(Bucket=self.bucket, Key=self._key(name))
                content = got["Body"].read()
                now = parsedate_to_datetime(got["ResponseMetadata"]["HTTPHeaders"]["date"])
                written: datetime = got["LastModified"]
                return Stored(content, got["ETag"], max(0.0, (now - written).total_seconds()))
            if refused != [BROKEN_OFF]:
                break
        return None

    def write(self, name: str, content: bytes, *, replacing: str | None = None, new: bool = False) -> bool:
        """Write the whole object at once. A reader sees the old one or the new one.

        replacing  write only if the object has this etag; None writes at any
        new        write only if there is no object

        Return False if that does not hold.
        """
        condition = {"IfNoneMatch": "*"} if new else {} if replacing is None else {"IfMatch": replacing}
        with self._errors_in_words(name, UNMET if condition else ()) as refused:
            self._client.put_object(Bucket=self.bucket, Key=self._key(name), Body=content, **condition)
        return not refused

    def upload(self, path: Path, name: str) -> None:
        """Upload a file of any size. The object appears when it is complete."""
        with self._errors_in_words(name), path.open("rb") as file:
            self._client.upload_fileobj(file, self.bucket, self._key(name))

    def download(self, name: str, folder: Path, etag: str | None = None, *, to: str | None = None) -> bool:
        """Write an object to the file of its name below `folder`. The file appears when it is complete.

        etag  the object must have this etag, None takes any
        to    another name of the file, None takes the object's

        Return False if there is no such object. Raises OSError if the file cannot be written.
        """
        path = self._path(folder, name if to is None else to)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{os.getpid()}-{threading.get_ident()}.partial")
        condition = {} if etag is None else {"IfMatch": f'"{etag}"'}
        try:
            for last in (*[False] * (TRIES - 1), True):
                with self._errors_in_words(name, (*NOT_FOUND, *UNMET), broken=not last) as refused:
                    body = self._client.get_object(Bucket=self.bucket, Key=self._key(name), **condition)["Body"]
                    with partial.open("wb") as file:
                        shutil.copyfileobj(body, file, 1 << 20)
                    partial.replace(path)
                    return True
                if refused != [BROKEN_OFF]:
                    break
            return False
        finally:
            partial.unlink(missing_ok=True)

    def delete(self, names: Iterable[str]) -> None:
        for name in names:  # one by one: batch deletion needs a checksum that not every server supports
            with self._errors_in_words(name, NOT_FOUND):
                self._client.delete_object(Bucket=self.bucket, Key=self._key(name))

    def forget_unfinished(self) -> None:
        """Delete the parts of uploads that were killed in the middle. They are invisible but take storage."""
        with self._errors_in_words("", NOT_FOUND):
            found = self._client.list_multipart_uploads(Bucket=self.bucket, Prefix=self._key(""))
            for one in found.get("Uploads", []):
                self._client.abort_multipart_upload(Bucket=self.bucket, Key=one["Key"], UploadId=one["UploadId"])

    def _path(self, folder: Path, name: str) -> Path:
        return safe_path(folder, name, self.uri, kind=StorageError)

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    @property
    def _client(self) -> Any:
        return client(patient=self.patient)

    def _errors_in_words(
        self, name: str = "", expected: tuple[str, ...] = (), *, broken: bool = False
    ) -> AbstractContextManager[list[str]]:
        return in_words(Remote(self.bucket, self._key(name)).uri, self.bucket, expected, broken)


def is_remote(text: object) -> bool:
    return str(text).lower().startswith(SCHEME)


def parse_remote(uri: str) -> Remote:
    """Return the folder of an address `s3://BUCKET/FOLDER`. Raises StorageError for any other address."""
    bucket, _, prefix = uri[len(SCHEME) :].partition("/")
    if "@" in bucket:  # the message does not repeat what is before it, perhaps a key and a secret
        raise StorageError(
            f"an address on S3 is s3://BUCKET/FOLDER, and this one has an @ (s3://...@{bucket.rpartition('@')[2]}). "
            "Leave out what is before it: keys belong in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", bucket):
        raise StorageError(f"an address on S3 is s3://BUCKET/FOLDER, got '{uri}'. For example s3://my-bucket/photos.")
    return Remote(bucket, prefix.strip("/"))
