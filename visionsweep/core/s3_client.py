"""boto3's client, and its errors in a sentence each. The only file that imports boto3.

The address and the credentials come from boto3's usual environment: AWS_ENDPOINT_URL (MinIO and the like), AWS_REGION,
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role. No key is ever part of a message.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from visionsweep.core.errors import StorageError

PATIENT = 10  # attempts at a request: about a minute
IMPATIENT = 2  # a few seconds
BROKEN_OFF = "broken off"


def client(patient: bool) -> Any:
    """Return boto3's client of S3, one for each process and each setting of the environment. Threads may share it."""
    settings = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    return _client(os.getpid(), settings, PATIENT if patient else IMPATIENT)


@lru_cache(maxsize=4)  # by process and credentials: a client must not outlive a fork or a change of them
def _client(pid: int, settings: tuple[tuple[str, str], ...], attempts: int) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    # Other servers take a bucket in the path, not in the host name, and may lack Amazon's newer checksums.
    other: dict[str, Any] = {
        "s3": {"addressing_style": "path"},
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=10 if attempts == PATIENT else 5,
        read_timeout=60 if attempts == PATIENT else 20,
        max_pool_connections=32,
        **(other if endpoint() else {}),
    )
    try:
        return boto3.session.Session(region_name=os.environ.get("AWS_REGION") or None).client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise StorageError(f"S3: {_sentence(error, '', '')}") from None


def endpoint() -> str:
    """Return the address of an S3 that is not Amazon's, '' if none is set."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


@contextmanager
def in_words(where: str, bucket: str, expected: tuple[str, ...], broken: bool) -> Iterator[list[str]]:
    """Turn boto3's errors into a StorageError. Expected errors end the body instead, and their codes are in the list.

    where     address, for the message
    bucket    its bucket
    expected  codes of expected errors
    broken    whether transfers that broke off are expected too
    """
    from botocore import exceptions as told

    refused: list[str] = []
    try:
        yield refused
    except (told.BotoCoreError, told.ClientError) as error:
        code = error.response["Error"].get("Code", "") if isinstance(error, told.ClientError) else ""
        half_way = (told.ReadTimeoutError, told.ResponseStreamingError, told.IncompleteReadError)
        if code in expected:
            refused.append(code)
        elif broken and isinstance(error, half_way):
            refused.append(BROKEN_OFF)
        else:
            raise StorageError(f"{where}: {_sentence(error, code, bucket)}") from None


def _sentence(error: Exception, code: str, bucket: str) -> str:
    """Say what went wrong and what to do, never in the server's own words, which may hold a key."""
    from botocore import exceptions as told

    named = urlsplit(endpoint())
    at = f" at {named.scheme}://{named.netloc.rpartition('@')[2]}" if named.netloc else ""
    set_keys = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if code == "NoSuchBucket":
        return f"there is no bucket '{bucket}'{at}. Check its name, and AWS_ENDPOINT_URL where it is not Amazon's."
    if isinstance(error, (told.NoCredentialsError, told.PartialCredentialsError, told.CredentialRetrievalError)):
        return f"S3 asks for credentials, and there are none. Set {set_keys}, or AWS_PROFILE."
    if isinstance(error, told.ProfileNotFound):
        return f"AWS_PROFILE names a profile that is not there. Correct it, or set {set_keys}."
    if code in ("403", "AccessDenied", "AllAccessDisabled"):
        return f"these credentials do not allow it ({code}). Give them the right to list, read, write and delete there."
    if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "400"):
        return f"S3 does not accept these credentials ({code}). Check {set_keys}, or renew them."
    if code in ("301", "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"):
        return f"the bucket is in another region ({code}). Set AWS_REGION to the bucket's own."
    if code:
        return f"S3 answered {code}{at}. Try again, or look at the bucket."
    if isinstance(error, ValueError):
        return "AWS_ENDPOINT_URL is not an address. Set it to one, such as http://minio:9000, or unset it."
    kind = type(error).__name__
    return f"S3 cannot be reached{at} ({kind}). Check the network, and AWS_ENDPOINT_URL where it is not Amazon's."
