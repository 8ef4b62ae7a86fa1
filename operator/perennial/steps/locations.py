"""From a URI to a file system and a path in it, with the credentials of this container's environment.

s3, gs, abfs(s), http(s, read only), memory (tests), file (tests; refused unless PERENNIAL_ALLOW_FILE=1, because a
file:// dataset could name this container's own environment) and pvc://claim/path, which is where the claim is mounted.
"""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fsspec

from perennial.steps.errors import ConfigProblem

CLAIMS_ROOT = "/perennial/pvc"
"""Where the pod mounts the claims that pvc:// URIs name, each under its own name."""

_LOCAL = ("file", "pvc")
_REMOTE = ("s3", "gs", "abfs", "abfss", "http", "https", "memory")
_EXTRAS = {"s3": "s3", "gs": "gcs", "abfs": "azure", "abfss": "azure"}


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a store. uri: for people and records; path: as the file system wants it, without a trailing slash;
    is_prefix: the URI ends in `/`; is_local: path is a local path; root: where a local path may not lead out of."""

    uri: str
    fs: Any
    path: str
    is_prefix: bool
    is_local: bool
    is_http: bool = False

    def child(self, relative: str) -> "Location":
        """A place below this one; `relative` ends in `/` for a prefix."""
        if relative.startswith("/") or ".." in relative.split("/"):
            raise ConfigProblem(f"{relative!r} leads out of {self.uri}")
        joined = posixpath.join(self.path, relative.rstrip("/"))
        uri = self.uri.rstrip("/") + "/" + relative
        return replace(self, uri=uri, path=joined, is_prefix=relative.endswith("/"))


def locate(uri: str, environ: Mapping[str, str], claims: str = CLAIMS_ROOT) -> Location:
    """The Location of a URI; ConfigProblem when its scheme or form is not allowed."""
    scheme, mark, rest = uri.partition("://")
    if not mark or not rest.strip("/"):
        raise ConfigProblem(
            f"{uri!r} is no store address; write s3://bucket/path/, gs://, abfs:// or pvc://claim/path/"
        )
    if scheme in _LOCAL:
        return _local(uri, scheme, rest, environ, claims)
    if scheme not in _REMOTE:
        raise ConfigProblem(f"{scheme}:// is not supported; use {', '.join(_REMOTE[:-1])} or pvc")
    if ".." in rest.split("/"):
        raise ConfigProblem(f"{uri} may not contain ..")
    is_http = scheme.startswith("http")
    path = uri if is_http else rest.rstrip("/")
    try:
        fs = fsspec.filesystem(scheme, **_options(scheme, environ))
    except ImportError as error:
        raise ConfigProblem(
            f"{scheme}:// needs the extra perennial[{_EXTRAS.get(scheme, scheme)}] in the operator's image"
        ) from error
    return Location(uri, fs, "/" + path if scheme == "memory" else path, uri.endswith("/"), False, is_http)


def _options(scheme: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Options of the fsspec file system. FSSPEC_* variables are read by fsspec itself when it is imported."""
    if scheme.startswith("http") or scheme == "memory":
        return {}
    # A listing may be older than what was just written; everything else of an instance may be shared.
    fresh: dict[str, Any] = {"use_listings_cache": False}
    if scheme != "s3":
        return fresh
    given = {
        "key": environ.get("AWS_ACCESS_KEY_ID"),
        "secret": environ.get("AWS_SECRET_ACCESS_KEY"),
        "token": environ.get("AWS_SESSION_TOKEN"),
    }
    fresh.update({name: value for name, value in given.items() if value})
    client = {"region_name": environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")}
    fresh["client_kwargs"] = {name: value for name, value in client.items() if value}
    endpoint = (
        environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or environ.get("FSSPEC_S3_ENDPOINT_URL")
    )
    tries = int(environ.get("AWS_MAX_ATTEMPTS", "4"))
    config: dict[str, Any] = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": tries}}
    if endpoint:
        # Servers other than Amazon's know buckets by path, not by host name.
        fresh["endpoint_url"] = endpoint
        config["s3"] = {"addressing_style": "path"}
    fresh["config_kwargs"] = config
    return fresh


def _local(uri: str, scheme: str, rest: str, environ: Mapping[str, str], claims: str) -> Location:
    fs = fsspec.filesystem("file")
    if scheme == "file":
        if environ.get("PERENNIAL_ALLOW_FILE") != "1":
            raise ConfigProblem("file:// is not supported; use s3, gs, abfs, http, https or pvc://claim/path/")
        return Location(uri, fs, rest.rstrip("/"), uri.endswith("/"), True)
    claim, _, inside = rest.partition("/")
    base = Path(claims) / claim
    if not base.is_dir():
        raise ConfigProblem(f"the claim {claim} of {uri} is not mounted in this pod")
    path = base / inside.strip("/")
    if not path.resolve().is_relative_to(base.resolve()):
        raise ConfigProblem(f"{uri} leads out of its claim")
    return Location(uri, fs, str(path).rstrip("/"), uri.endswith("/"), True)
