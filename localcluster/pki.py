"""Keys, certificates and kubeconfigs of one cluster, made with openssl. Knows which component needs which identity."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from localcluster.shell import run
from localcluster.state import State

DAYS = "3650"


@dataclass(frozen=True)
class Certificate:
    """A leaf certificate: `ca` signs, `cn` and `org` are the identity, `san` the names of a server."""

    name: str
    ca: str
    cn: str
    org: str = ""
    san: str = ""


def certificates(state: State) -> list[Certificate]:
    """Every leaf certificate of the cluster."""
    at = state.addresses
    node = f"system:node:{at.node_name}"
    api_names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    api_names += ["kubernetes.default.svc.cluster.local", "localhost"]
    api_san = ",".join(
        [f"DNS:{n}" for n in api_names] + [f"IP:{ip}" for ip in ("127.0.0.1", at.api_service_ip, at.node_ip)]
    )
    return [
        Certificate("apiserver", "ca", "kube-apiserver", san=api_san),
        Certificate("kubelet-server", "ca", node, "system:nodes", f"DNS:{at.node_name},IP:{at.node_ip},IP:127.0.0.1"),
        Certificate("apiserver-kubelet-client", "ca", "kube-apiserver-kubelet-client", "system:masters"),
        Certificate("front-proxy-client", "front-proxy-ca", "front-proxy-client"),
        Certificate("admin", "ca", "admin", "system:masters"),
        Certificate("kwok", "ca", "kwok", "system:masters"),
        Certificate("kube-controller-manager", "ca", "system:kube-controller-manager"),
        Certificate("kube-scheduler", "ca", "system:kube-scheduler"),
        Certificate("kubelet", "ca", node, "system:nodes"),
        Certificate("kube-proxy", "ca", "system:kube-proxy"),
        Certificate("coredns", "ca", "system:coredns"),
    ]


KUBECONFIGS = ("admin", "kwok", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns")


def create(state: State) -> None:
    """Makes all keys, certificates and kubeconfigs."""
    pki = state.layout.pki
    for ca in ("ca", "front-proxy-ca"):
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", pki / f"{ca}.key", "-out", pki / f"{ca}.crt", "-days", DAYS, "-subj", f"/CN={ca}"])  # fmt: skip
    run(["openssl", "genrsa", "-out", pki / "service-account.key", "2048"])
    run(["openssl", "rsa", "-in", pki / "service-account.key", "-pubout", "-out", pki / "service-account.pub"])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda certificate: _sign(pki, certificate), certificates(state)))
    for name in KUBECONFIGS:
        text = kubeconfig(state.addresses.server, state.name, name, *(
            (pki / file).read_bytes() for file in ("ca.crt", f"{name}.crt", f"{name}.key")
        ))  # fmt: skip
        path = state.layout.kubeconfig if name == "admin" else state.layout.config / f"{name}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(text)


def kubeconfig(server: str, cluster: str, user: str, ca: bytes, certificate: bytes, key: bytes) -> str:
    """A kubeconfig (JSON, which is YAML) that carries its certificates inside."""

    def text(data: bytes) -> str:
        return base64.b64encode(data).decode()

    context = f"{user}@{cluster}"
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": text(ca)}}],
            "users": [
                {"name": user, "user": {"client-certificate-data": text(certificate), "client-key-data": text(key)}}
            ],
            "contexts": [{"name": context, "context": {"cluster": cluster, "user": user}}],
            "current-context": context,
        },
        indent=1,
    )


def _sign(pki: Path, certificate: Certificate) -> None:
    stem = pki / certificate.name
    subject = (f"/O={certificate.org}" if certificate.org else "") + f"/CN={certificate.cn}"
    run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", f"{stem}.key", "-out", f"{stem}.csr", "-subj", subject])  # fmt: skip
    extensions = "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n"
    if certificate.san:
        extensions += f"subjectAltName={certificate.san}\n"
    extension_file = Path(f"{stem}.ext")
    extension_file.write_text(extensions)
    ca = pki / certificate.ca
    run(["openssl", "x509", "-req", "-in", f"{stem}.csr", "-CA", f"{ca}.crt", "-CAkey", f"{ca}.key",
         "-set_serial", str(_serial(certificate.name)), "-days", DAYS, "-extfile", extension_file,
         "-out", f"{stem}.crt"])  # fmt: skip


def _serial(name: str) -> int:
    """A serial number that is unique per certificate name; a counter file would make signing sequential."""
    return int.from_bytes(name.encode()[:19].ljust(1, b"\0"), "big")
