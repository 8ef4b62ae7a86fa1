"""Which GatewayClass the cluster tests use on a cluster that the driver did not make."""

import json
from dataclasses import dataclass
from pathlib import Path

from localcluster.using import Running
from tests.support import gateway


@dataclass(frozen=True)
class Foreign(Running):
    """A cluster named by its kubeconfig. `classes`: status of Accepted by name, "" where no controller spoke; None
    where the cluster does not know the kind."""

    classes: dict[str, str] | None = None

    def kubectl(self, *arguments: str | Path, stdin: str | None = None, timeout: float = 120.0) -> str:
        """Answers the two questions that are asked and nothing else."""
        if arguments[:2] == ("get", f"crd/gatewayclasses.{gateway.GROUP}"):
            return "" if self.classes is None else str(arguments[1])
        assert arguments[:2] == ("get", f"gatewayclasses.{gateway.GROUP}") and self.classes is not None, arguments
        return json.dumps({"items": [_gateway_class(name, status) for name, status in self.classes.items()]})


def _gateway_class(name: str, status: str) -> dict[str, object]:
    conditions = [{"type": "Accepted", "status": status}] if status else []
    return {"metadata": {"name": name}, "status": {"conditions": conditions}}


def chosen(classes: dict[str, str] | None) -> str | None:
    """What is used on such a cluster."""
    return gateway.gateway_class(Foreign(Path("/nowhere/kubeconfig"), "explicit", "", classes))


def test_an_accepted_class_is_used_as_it_is() -> None:
    assert chosen({"left-over": "", "refused": "False", "istio": "True"}) == "istio"


def test_there_is_none_where_no_controller_accepted_one_or_the_kind_is_unknown() -> None:
    assert chosen({"left-over": "", "refused": "False"}) is None
    assert chosen({}) is None
    assert chosen(None) is None
