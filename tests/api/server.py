"""A bare client of the API server: requests as they are, answers and refusals as they come."""

import json
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config

from perennial.api.kinds import Kind

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


class Refused(Exception):
    """The API server said no; `causes` are its reasons, one a field."""

    def __init__(self, status: dict[str, Any]) -> None:
        super().__init__(status.get("message", ""))
        self.code: int = status["code"]
        self.causes = [cause["message"] for cause in status.get("details", {}).get("causes", ())]


class ApiServer:
    """Requests as the user that the kubeconfig names."""

    def __init__(self, kubeconfig: Path) -> None:
        settings = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=settings)
        self._host = settings.host
        token = settings.api_key.get("authorization")
        self._headers = {"authorization": token} if token else {}
        self._pool = urllib3.PoolManager(
            ca_certs=settings.ssl_ca_cert, cert_file=settings.cert_file, key_file=settings.key_file, timeout=15
        )

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content: str = JSON,
        accept: str = JSON,
        user: str = "",
        **query: str,
    ) -> dict[str, Any]:
        """The decoded answer; Refused for an error status. `user`: act as that user."""
        acting = {"impersonate-user": user.encode().decode("latin-1")} if user else {}
        answer = self._pool.request(
            method,
            f"{self._host}{path}?{'&'.join(f'{key}={value}' for key, value in query.items())}",
            body=None if body is None else json.dumps(body),
            headers={**self._headers, **acting, "content-type": content, "accept": accept},
        )
        decoded = json.loads(answer.data)
        if answer.status >= 400:
            raise Refused(decoded)
        return decoded


def path_of(kind: Kind, namespace: str, name: str = "", subresource: str = "") -> str:
    """The URL path of a kind in a namespace, of one object, or of a subresource of it."""
    root = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.version}"
    within = f"/namespaces/{namespace}" if kind.namespaced else ""
    return root + within + f"/{kind.plural}" + (f"/{name}" if name else "") + (f"/{subresource}" if subresource else "")
