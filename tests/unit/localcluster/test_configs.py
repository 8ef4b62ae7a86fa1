"""Configuration files and kubeconfigs."""

import base64
import json
from pathlib import Path

import pytest
import yaml

from localcluster import components, configs, pki
from localcluster.errors import ClusterError
from localcluster.state import State

STATE = State(name="dev", index=4)


def test_a_kubeconfig_carries_its_certificates_and_names_the_api_server() -> None:
    config = json.loads(pki.kubeconfig(STATE.addresses.server, "dev", "admin", b"ca", b"certificate", b"key"))
    assert config["current-context"] == config["contexts"][0]["name"] == "admin@dev"
    assert config["clusters"][0]["cluster"]["server"] == "https://10.243.4.2:6443"
    user = config["users"][0]["user"]
    assert base64.b64decode(user["client-certificate-data"]) == b"certificate"
    assert base64.b64decode(user["client-key-data"]) == b"key"


def test_every_kubeconfig_has_a_certificate() -> None:
    made = {certificate.name for certificate in pki.certificates(STATE)}
    assert set(pki.KUBECONFIGS) <= made


def test_the_api_server_answers_to_its_names_and_addresses() -> None:
    (api,) = [c for c in pki.certificates(STATE) if c.name == "apiserver"]
    assert {"DNS:kubernetes.default.svc", "IP:10.100.0.1", "IP:10.243.4.2"} <= set(api.san.split(","))


def test_serial_numbers_differ() -> None:
    names = [certificate.name for certificate in pki.certificates(STATE)]
    assert len({pki._serial(name) for name in names}) == len(names)


def test_every_path_in_the_configuration_lies_below_the_cluster(tmp_path: Path) -> None:
    fixed = ("/usr/lib/cni", "/perennial-dev", "/etc/")
    texts = configs.files(STATE)
    paths = [
        word.strip("\"',")
        for name, text in texts.items()
        for word in text.replace("unix://", "").split()
        if word.strip("\"',").startswith("/") and not name.endswith(("audit.json", "kwok.yaml"))
    ]
    assert len(paths) > 10
    assert [p for p in paths if not p.startswith((str(STATE.layout.root), *fixed))] == []


def test_the_fake_nodes_stages_are_yaml() -> None:
    stages = list(yaml.safe_load_all(configs.KWOK_STAGES))
    assert [s["kind"] for s in stages] == ["Stage"] * 4


def test_a_cluster_without_a_node_has_only_the_control_plane() -> None:
    bare = State(name="bare", index=0, node=False)
    assert components.wanted(bare) == ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]
    assert "kwok" in components.wanted(State(name="fake", index=0, fake_nodes=3))


@pytest.mark.parametrize(("given", "full"), [("apiserver", "kube-apiserver"), ("kcm", "kube-controller-manager")])
def test_components_have_short_names(given: str, full: str) -> None:
    assert components.resolve(STATE, given) == full


def test_an_unknown_component_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ClusterError, match="no component 'nginx'; it has etcd, "):
        components.resolve(STATE, "nginx")


def test_etcd_starts_first_and_the_kubelet_after_containerd() -> None:
    order = components.wanted(STATE)
    assert order[0] == "etcd"
    assert order.index("containerd") < order.index("kubelet")
