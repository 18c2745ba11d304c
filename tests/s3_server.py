"""An S3 server that tests start themselves (moto's), at the address in the environment."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def point_to_port() -> None:
    """Set S3's address for this process and its children to a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "a-key-that-nobody-may-see",
        "AWS_SECRET_ACCESS_KEY": "a-secret-that-nobody-may-see",
        "AWS_EC2_METADATA_DISABLED": "true",  # a test machine may be one of Amazon's
        "AWS_CONFIG_FILE": "/nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
    }


class S3Server:
    """An S3 server in a process of its own, for the search's processes and the tests. It logs every request."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.num_buckets = 0

    def __enter__(self) -> S3Server:
        self.address = os.environ["AWS_ENDPOINT_URL"]
        port = self.address.rpartition(":")[2]
        code = "import sys; from moto.server import main; main(sys.argv[1:])"
        command = [sys.executable, "-c", code, "-H", "127.0.0.1", "-p", port]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", int(port)), 1).close()
                return self
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the S3 server did not start")

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()

    def new_bucket(self) -> str:
        self.num_buckets += 1
        name = f"bucket-{self.num_buckets}"
        client().create_bucket(Bucket=name)
        return name

    def num_requests(self, words: str) -> int:
        """Return the number of requests with these words in their line, such as 'GET /bucket/photos/'."""
        return self.log.read_text().count(words)


def client() -> Any:
    """Return boto3's own client, without code of ours."""
    import boto3

    return boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")


def upload_folder(folder: Path, bucket: str, prefix: str) -> None:
    s3 = client()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{path.relative_to(folder).as_posix()}", Body=path.read_bytes())


def keys(bucket: str, prefix: str = "") -> set[str]:
    pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {entry["Key"] for page in pages for entry in page.get("Contents", [])}


def stored(bucket: str, key: str) -> str:
    return str(client().get_object(Bucket=bucket, Key=key)["Body"].read().decode())
