"""What the example's people put into the artifact store: labelled data of a year, and the broken model.

A data set is uploaded to a new prefix; the pointer LATEST, replaced last, names it (see docs/spec/trainingjob.md). Only
the S3 client is used here; nothing of Perennial is imported.
"""

import csv
import io
import os
from pathlib import Path

import rain
from minio import Minio

DATA = Path(os.environ.get("RAIN_DATA", "/opt/rain/data/rain.csv.gz"))
BUCKET = os.environ.get("RAIN_BUCKET", "rain")


def client() -> Minio:
    """The store named by AWS_ENDPOINT_URL with the usual AWS key variables."""
    address = os.environ["AWS_ENDPOINT_URL"]
    return Minio(
        address.split("://", 1)[1].rstrip("/"),
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        secure=address.startswith("https://"),
    )


def put(store: Minio, key: str, content: bytes) -> None:
    """One object."""
    store.put_object(BUCKET, key, io.BytesIO(content), len(content))


def table(rows: rain.Rows) -> bytes:
    """Rows as CSV: index, the eight features, rain."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", *rain.FEATURES, "rain"])
    for index, features, label in zip(rows.index, rows.x, rows.y, strict=True):
        writer.writerow([int(index), *(repr(float(value)) for value in features), int(label)])
    return text.getvalue().encode()


def upload_labels(record: rain.Rows, year: int) -> None:
    """Train and Evaluate data of a version made after `year`: new prefixes first, the pointers last."""
    store = client()
    train, newest = rain.split(record, year)
    for name, rows in (("train", train), ("eval", newest)):
        put(store, f"{name}/after-{year}/data.csv", table(rows))
    for name in ("train", "eval"):
        put(store, f"{name}/LATEST", f"after-{year}".encode())


def make_bucket() -> None:
    """Make the example's bucket when it is missing."""
    store = client()
    if not store.bucket_exists(BUCKET):
        store.make_bucket(BUCKET)
