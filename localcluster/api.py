"""A small client of the API server, for the driver's own few requests. Tests and the operator use real clients."""

import http.client
import json
import ssl
from typing import Any

from localcluster.errors import ClusterError
from localcluster.state import State


class Refused(ClusterError):
    """The API server answered with an error; `code` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Api:
    """Requests as the administrator of one local cluster."""

    def __init__(self, state: State) -> None:
        pki = state.layout.pki
        self._host = state.addresses.node_ip
        self._tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._tls.load_cert_chain(str(pki / "admin.crt"), str(pki / "admin.key"))

    def request(
        self, method: str, path: str, body: Any = None, *, content: str = "application/json", timeout: float = 10.0
    ) -> Any:
        """The decoded answer (text where it is no JSON); Refused for an error status, OSError when unreachable."""
        connection = http.client.HTTPSConnection(self._host, 6443, context=self._tls, timeout=timeout)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": content, "Accept": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise Refused(answer.status, f"{method} {path}: {answer.status} {_message(text)}")
        return json.loads(text) if text.startswith("{") else text

    def create(self, path: str, body: dict[str, Any]) -> None:
        """Creates an object; one that exists already is left as it is."""
        try:
            self.request("POST", path, body)
        except Refused as error:
            if error.code != 409:
                raise

    def answers(self, path: str = "/readyz") -> bool:
        """Whether a request succeeds now."""
        try:
            self.request("GET", path, timeout=2.0)
        except (Refused, OSError):
            return False
        return True


def _message(text: str) -> str:
    try:
        return str(json.loads(text).get("message", text))[:300]
    except ValueError:
        return text[:300]
