"""The Git server and the S3 server of the demo, as manifests: real servers in the cluster, each with one directory."""

from collections.abc import Mapping
from typing import Any

USER, PASSWORD = "perennial", "rain-demo"  # a throw-away server inside the demo's namespace
ACCESS_KEY, SECRET_KEY = "raindemo", "raindemo-secret"
S3_ADDRESS = "http://s3:7070"


def secrets() -> list[dict[str, Any]]:
    """Credentials for the Git repository and the artifact store."""
    return [
        _secret("rain-git", {"username": USER, "password": PASSWORD}),
        _secret(
            "rain-store",
            {
                "AWS_ENDPOINT_URL": S3_ADDRESS,
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            },
        ),
    ]


def servers(tags: Mapping[str, str], durable: bool = False) -> list[dict[str, Any]]:
    """Deployments and Services of both servers; `durable` keeps their data on claims, so that they may be stopped."""
    git = _server(
        "git",
        tags["git"],
        8080,
        80,
        args=[
            "--root",
            "/data",
            "--port",
            "8080",
            "--create",
            "rain",
            "--user",
            USER,
            "--password-file",
            "/secret/password",
        ],
        secret="rain-git",
        durable=durable,
    )
    s3 = _server(
        "s3",
        tags["s3"],
        7070,
        7070,
        env={"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY},
        folders=("meta", "objects"),
        durable=durable,
    )
    return [*git, *s3]


def elsewhere(namespace: str) -> list[dict[str, Any]]:
    """The same Service names for servers that run in another namespace."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"type": "ExternalName", "externalName": f"{name}.{namespace}.svc.cluster.local"},
        }
        for name in ("git", "s3")
    ]


def _secret(name: str, values: Mapping[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": dict(values)}


def _server(
    name: str, image: str, target: int, port: int, *, args: list[str] | None = None,
    env: Mapping[str, str] | None = None, folders: tuple[str, ...] = (), secret: str | None = None,
    durable: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    labels = {"app": name}
    safe = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    mounts = [{"name": "data", "mountPath": "/data"}]
    claim = {"persistentVolumeClaim": {"claimName": f"{name}-data"}}
    volumes: list[dict[str, Any]] = [{"name": "data", **(claim if durable else {"emptyDir": {}})}]
    if secret:
        mounts.append({"name": "secret", "mountPath": "/secret"})
        volumes.append({"name": "secret", "secret": {"secretName": secret}})
    container = {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "HOME", "value": "/tmp"}, *({"name": k, "value": v} for k, v in (env or {}).items())],
        "ports": [{"containerPort": target}],
        "readinessProbe": {"tcpSocket": {"port": target}, "periodSeconds": 1},
        "securityContext": safe,
        "volumeMounts": mounts,
    }
    if args:
        container["args"] = args
    pod = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }
    if folders:
        made = {"name": "folders", "image": image, "imagePullPolicy": "IfNotPresent", "securityContext": safe}
        command = ["mkdir", "-p", *(f"/data/{folder}" for folder in folders)]
        pod["initContainers"] = [{**made, "command": command, "volumeMounts": mounts}]
    size = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    volume = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": f"{name}-data"}, "spec": size}
    return [
        *([volume] if durable else []),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": 1,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": labels, "ports": [{"port": port, "targetPort": target}]},
        },
    ]


def store_env() -> list[dict[str, Any]]:
    """The artifact store's credentials, for pods of people and clients."""
    keys = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    return [{"name": k, "valueFrom": {"secretKeyRef": {"name": "rain-store", "key": k}}} for k in keys]


def git_env() -> list[dict[str, Any]]:
    """The repository's credentials, for people."""
    pairs = (("GIT_USER", "username"), ("GIT_PASSWORD", "password"))
    return [{"name": n, "valueFrom": {"secretKeyRef": {"name": "rain-git", "key": k}}} for n, k in pairs]
