"""Which controllers run, and what each is made with. Must not start anything."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from perennial.adapters.git import GitRepositories
from perennial.adapters.git import GitSettings as RepositorySettings
from perennial.adapters.prometheus import Prometheus, PrometheusSource
from perennial.app.settings import PrometheusSettings, Settings, SettingsError
from perennial.controllers.drift_policy import DriftPolicyController, DriftSettings
from perennial.controllers.git_sync import GitSyncController, GitSyncSettings
from perennial.controllers.model_deployment import DeploymentSettings, ModelDeploymentController
from perennial.controllers.model_version import ModelVersionController, ModelVersionSettings
from perennial.controllers.training_job import TrainingJobController, TrainingSettings
from perennial.ports import Clock, EventSink, GitRepository, MetricsSource, ObjectStore, RouterReports
from perennial.render.router import RouterSettings
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
    reports: RouterReports


def reconcilers(settings: Settings, ports: Ports, *, image: str, operator_namespace: str) -> list[Reconciler]:
    """One reconciler for each of our kinds.

    image: what routers and steps run from; operator_namespace: whose pods may ask the routers.
    """
    step = StepImage(image, settings.image_pull_policy)
    shared = (ports.store, ports.cache, ports.events, ports.clock)
    return [
        GitSyncController(*shared, GitSyncSettings(namespaced=settings.namespaced_roles), ports.git),
        TrainingJobController(*shared, TrainingSettings(step)),
        ModelVersionController(*shared, ModelVersionSettings()),
        ModelDeploymentController(
            *shared,
            DeploymentSettings(step, runtime_table(settings)),
            ports.reports,
            router_settings(settings, image, operator_namespace),
            ports.metrics,
        ),
        DriftPolicyController(*shared, DriftSettings(step), ports.reports, ports.metrics),
    ]


def runtime_table(settings: Settings) -> dict[str, dict[str, Any]]:
    """The runtime table as manifests write it (camelCase); what is not said is left out."""
    return {
        name: {key: value for key, value in row.model_dump(by_alias=True).items() if value not in ([], None)}
        for name, row in settings.runtimes.items()
    }


def router_settings(settings: Settings, image: str, operator_namespace: str) -> RouterSettings:
    """What the settings say of routers."""
    said = settings.routers.model_dump(exclude_none=True)
    return RouterSettings(
        image=image,
        image_pull_policy=settings.image_pull_policy,
        image_pull_secrets=tuple(settings.image_pull_secrets),
        operator_namespace=operator_namespace,
        namespaced=settings.namespaced_roles,
        **said,
    )


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
    file = None if source.authorization_file is None else Path(source.authorization_file)
    made = PrometheusSource(source.url, source.timeout_seconds, file)
    try:
        made.headers()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings: prometheus.{name}.authorizationFile cannot be read: {error}") from None
    return made
