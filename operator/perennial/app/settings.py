"""The operator's settings: one YAML file, then environment variables, then command line options.

Every mistake is one sentence that names the field and what is allowed. Must not read the cluster.
"""

import os
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from perennial.domain.conditions import bounded

DEFAULT_FILE = "/etc/perennial/config.yaml"
ENV_PREFIX = "PERENNIAL_"
REFERENCE_IMAGE = "perennial-runtime:latest"
Port = Annotated[int, Field(ge=1, le=65535)]
PullPolicy = Literal["Always", "IfNotPresent", "Never"]
Seconds = Annotated[float, Field(gt=0, le=86400)]


class SettingsError(Exception):
    """What is wrong with the settings, in one sentence."""


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True
    )


class RuntimeSettings(_Part):
    """One row of the runtime table: which server serves artifacts of which formats."""

    formats: list[str] = Field(min_length=1)
    image: str = Field(min_length=1)
    pull_policy: PullPolicy = "IfNotPresent"
    command: list[str] = []
    args: list[str] = []
    env: list[dict[str, Any]] = []
    port: Port = 8080
    grpc_port: Port | None = None
    """Takes gRPC, when that is another port than the one for HTTP."""
    probe_path: str = Field(default="/v2/health/ready", pattern="^/")

    @model_validator(mode="after")
    def _two_ports(self) -> "RuntimeSettings":
        if self.grpc_port == self.port:
            raise ValueError("grpcPort must differ from port: leave it out when one port takes both")
        return self


class PrometheusSettings(_Part):
    """A Prometheus that tenants may query by name; the file holds the value of the Authorization header."""

    url: str = Field(pattern=r"^https?://")
    timeout_seconds: Seconds = 10.0
    authorization_file: str | None = None


class GitSettings(_Part):
    """cacheDirectory holds bare repositories; it may be thrown away."""

    cache_directory: str = "/var/cache/perennial/git"
    allow_insecure: bool = False
    """Also http:// and git://, passwords over http, loopback and link-local addresses: for demos."""
    workers: Annotated[int, Field(ge=1, le=64)] = 4


class RouterSettings(_Part):
    """The routers of each namespace that serves models; resources as in a pod."""

    replicas: Annotated[int, Field(ge=1, le=50)] = 2
    envoy_concurrency: Annotated[int, Field(ge=1, le=64)] = 2
    envoy_resources: dict[str, Any] | None = None
    """Default: requests 50m CPU and 96Mi memory, limit 1Gi memory."""
    agent_resources: dict[str, Any] | None = None
    """Default: requests 50m CPU and 96Mi memory, limit 512Mi memory."""


class HttpSettings(_Part):
    """Where /metrics, /healthz and /readyz answer."""

    host: str = "0.0.0.0"  # noqa: S104 (a pod's probes and scrapers come from outside)
    port: Annotated[int, Field(ge=0, le=65535)] = 8080


class LeaseSettings(_Part):
    """namespace: default the pod's own. name: the shipped Role allows only the default."""

    namespace: str | None = None
    name: str = "perennial-operator"
    duration_seconds: Annotated[float, Field(ge=3, le=300)] = 15.0
    renew_deadline_seconds: Annotated[float, Field(ge=2, le=200)] = 10.0
    retry_seconds: Annotated[float, Field(ge=0.1, le=60)] = 2.0

    @model_validator(mode="after")
    def _ordered(self) -> "LeaseSettings":
        if not self.retry_seconds < self.renew_deadline_seconds < self.duration_seconds:
            raise ValueError("retrySeconds must be below renewDeadlineSeconds, and that below durationSeconds")
        return self


class Settings(_Part):
    """All settings; every field can be given as PERENNIAL_<NAME> too (lists by commas, tables as JSON)."""

    image: str | None = Field(default=None, min_length=1)
    """Routers, Envoy and steps run from it. Default: the image of the operator's own pod."""
    image_pull_policy: PullPolicy = "IfNotPresent"
    image_pull_secrets: list[str] = []
    """Names of Secrets in the models' namespaces, for the routers' pods only."""
    namespaces: list[str] = []
    """Watch only these; empty: the whole cluster. Changes no rights."""
    namespaced_roles: bool = False
    """Bind perennial-router and perennial-sync as Roles, not ClusterRoles: set by manifests/namespaced."""
    workers: Annotated[int, Field(ge=1, le=32)] = 4
    """Passes at a time for each kind."""
    resync_seconds: Annotated[float, Field(ge=10, le=86400)] = 300.0
    """How often every watched kind is listed again and every object looked at."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    runtimes: dict[str, RuntimeSettings] = {
        format_: RuntimeSettings(formats=[format_], image=REFERENCE_IMAGE, args=[f"--format={format_}"], grpc_port=8081)
        for format_ in ("sklearn", "xgboost", "lightgbm", "onnx")
    }
    """Which server serves which artifact formats: what spec.runtime may name."""
    prometheus: dict[str, PrometheusSettings] = {}
    """Sources that tenants may name in queries."""
    git: GitSettings = GitSettings()
    routers: RouterSettings = RouterSettings()
    http: HttpSettings = HttpSettings()
    lease: LeaseSettings = LeaseSettings()


def load(path: str | None, environ: Mapping[str, str], options: Mapping[str, Any] | None = None) -> Settings:
    """The settings from a file (its absence is an error only when named), the environment and the options.

    `options` are fields by their Python names; None means not given.
    """
    named = path or environ.get(f"{ENV_PREFIX}CONFIG")
    values = _read(Path(named or DEFAULT_FILE), required=named is not None)
    for field in Settings.model_fields:
        text = environ.get(f"{ENV_PREFIX}{field.upper()}")
        if text is not None:
            values[to_camel(field)] = _from_text(field, text)
    values |= {to_camel(key): value for key, value in (options or {}).items() if value is not None}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_sentence(error, values)) from None


def identity(environ: Mapping[str, str]) -> str:
    """Who this process is, for the Lease: the pod's uid, else host name, process and a random part."""
    return environ.get("POD_UID") or f"{socket.gethostname()}_{os.getpid()}_{uuid.uuid4().hex[:8]}"


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise SettingsError(f"the settings file {path} does not exist") from None
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"the settings file {path} cannot be read: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"the settings file {path} must hold a map, not {type(content).__name__}")
    return content


def _from_text(field: str, text: str) -> Any:
    """An environment variable's value: a list by commas, a table as JSON (YAML reads it), else the text."""
    if field in ("namespaces", "image_pull_secrets"):
        return [part.strip() for part in text.split(",") if part.strip()]
    if field in ("runtimes", "prometheus", "git", "routers", "http", "lease"):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            raise SettingsError(f"{ENV_PREFIX}{field.upper()} is not valid JSON") from None
    return text


def _sentence(error: ValidationError, values: Mapping[str, Any]) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        allowed = ", ".join(_allowed(first["loc"][:-1]))
        return bounded(f"settings: {where} is not a known setting; allowed here: {allowed}")
    more = len(error.errors()) - 1
    rest = f" (and {more} more)" if more else ""
    return bounded(f"settings: {where}: {first['msg']}{rest}; see the settings reference for what is allowed")


def _allowed(path: tuple[int | str, ...]) -> list[str]:
    """The keys allowed at a place in the file."""
    models: dict[str, type[BaseModel]] = {
        "runtimes": RuntimeSettings,
        "prometheus": PrometheusSettings,
        "git": GitSettings,
        "routers": RouterSettings,
        "http": HttpSettings,
        "lease": LeaseSettings,
    }
    model = models[str(path[0])] if path else Settings
    return sorted(field.alias or name for name, field in model.model_fields.items())
