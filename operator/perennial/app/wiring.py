"""Which controllers run, and what each is made with. Must not start anything."""

from dataclasses import dataclass
from pathlib import Path

import aiohttp

from perennial.adapters.git import GitRepositories
from perennial.adapters.git import GitSettings as RepositorySettings
from perennial.adapters.prometheus import Prometheus, PrometheusSource
from perennial.app.settings import PrometheusSettings, Settings, SettingsError
from perennial.controllers.git_sync import GitSyncController, GitSyncSettings
from perennial.controllers.model_version import ModelVersionController, ModelVersionSettings
from perennial.controllers.training_job import TrainingJobController, TrainingSettings
from perennial.ports import Clock, EventSink, GitRepository, MetricsSource, ObjectStore
from perennial.render.training_containers import StepImage
from perennial.runtime.cache import Cache
from perennial.runtime.controller import Reconciler


@dataclass(frozen=True, slots=True)
class Ports:
    """What controllers are made with."""

    store: ObjectStore
    cache: Cache
    events: EventSink
    clock: Clock
    git: GitRepository
    metrics: MetricsSource


def reconcilers(settings: Settings, ports: Ports) -> list[Reconciler]:
    """One reconciler for each of our kinds."""
    step = StepImage(settings.image, settings.image_pull_policy)
    shared = (ports.store, ports.cache, ports.events, ports.clock)
    return [
        GitSyncController(*shared, GitSyncSettings(namespaced=bool(settings.namespaces)), ports.git),
        TrainingJobController(*shared, TrainingSettings(step)),
        ModelVersionController(*shared, ModelVersionSettings()),
    ]


def repositories(settings: Settings) -> GitRepositories:
    """The Git adapter; SettingsError when its cache directory cannot be made."""
    git = settings.git
    try:
        return GitRepositories(RepositorySettings(Path(git.cache_directory), git.workers, git.allow_insecure))
    except OSError as error:
        raise SettingsError(f"settings: git.cacheDirectory {git.cache_directory} cannot be used: {error}") from None


def prometheus(settings: Settings, session: aiohttp.ClientSession) -> Prometheus:
    """The Prometheus adapter with the named sources."""
    return Prometheus(session, {name: _source(name, source) for name, source in settings.prometheus.items()})


def _source(name: str, source: PrometheusSettings) -> PrometheusSource:
    headers: dict[str, str] = {}
    if source.authorization_file is not None:
        try:
            headers["Authorization"] = Path(source.authorization_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"settings: prometheus.{name}.authorizationFile cannot be read: {error}") from None
    return PrometheusSource(source.url, source.timeout_seconds, headers)
