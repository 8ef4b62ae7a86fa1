"""The environment in which git runs: fixed, and with the credentials of one repository and nothing else.

Nothing secret is ever an argument of a process: passwords and tokens travel as configuration in the environment, keys
as files in a private temporary directory that lives as long as the command. Must not run git.
"""

import base64
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from perennial.domain.errors import Stalled, Unavailable
from perennial.domain.sync.address import Address, parse_address, refused_ip
from perennial.domain.sync.repository import GitRemote

REMOTE = "origin"
MIN_SECRET = 4
"""Shorter texts are found in every sentence; to redact them would say nothing more."""
_PASSPHRASE = "PERENNIAL_KEY_PASSPHRASE"  # noqa: S105 - the name of a variable
_ASKPASS = f"#!/bin/sh\nprintf '%s\\n' \"${_PASSPHRASE}\"\n"

FIXED_CONFIG: tuple[tuple[str, str], ...] = (
    ("core.hooksPath", "/dev/null"),
    ("core.askPass", ""),
    ("core.fsmonitor", "false"),
    ("credential.helper", ""),
    ("fetch.recurseSubmodules", "false"),
    ("gc.auto", "0"),
    ("http.followRedirects", "false"),
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "30"),
    ("maintenance.auto", "false"),
    ("protocol.ext.allow", "never"),
    ("protocol.file.allow", "never"),
    ("push.recurseSubmodules", "no"),
    ("submodule.recurse", "false"),
    ("transfer.fsckObjects", "true"),
)


def base_environment(home: Path, *, allow_insecure: bool) -> dict[str, str]:
    """What every git process gets, whatever the repository."""
    return {
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_ALLOW_PROTOCOL": "https:ssh:http:git" if allow_insecure else "https:ssh",
        "LC_ALL": "C",
    }


def with_config(environment: Mapping[str, str], config: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The environment that carries `config` (git reads GIT_CONFIG_COUNT, _KEY_n, _VALUE_n)."""
    result = {**environment, "GIT_CONFIG_COUNT": str(len(config))}
    for number, (key, value) in enumerate(config):
        result[f"GIT_CONFIG_KEY_{number}"] = key
        result[f"GIT_CONFIG_VALUE_{number}"] = value
    return result


def checked_address(remote: GitRemote, *, allow_insecure: bool) -> Address:
    """The address of the remote; Stalled when it, or what comes with it, is refused."""
    address = parse_address(remote.url, allow_insecure=allow_insecure)
    if isinstance(address, str):
        raise Stalled("AddressRefused", address)
    has_password = "password" in remote.secret or "bearerToken" in remote.secret
    if address.scheme in ("http", "git") and has_password and not allow_insecure:
        raise Stalled("AddressRefused", "a password is not sent over plain http: use https")
    if address.scheme == "ssh":
        for key in ("identity", "known_hosts"):
            if not remote.secret.get(key):
                raise Stalled("CredentialsMissing", f"an ssh address needs the key {key} in the Secret of secretRef")
    return address


@contextmanager
def opened(remote: GitRemote, base: Mapping[str, str], *, allow_insecure: bool) -> Iterator[dict[str, str]]:
    """The environment for commands that talk to the remote; key files exist while the context is open."""
    address = checked_address(remote, allow_insecure=allow_insecure)
    config = [*FIXED_CONFIG, (f"remote.{REMOTE}.url", address.url)]
    environment = dict(base)
    addresses = _resolve(address, allow_local=allow_insecure)
    with TemporaryDirectory(prefix="perennial-git-") as folder:
        if address.scheme == "ssh":
            environment.update(_ssh_environment(remote, Path(folder)))
        elif address.scheme in ("https", "http"):
            config += _http_config(remote, address, Path(folder))
            if addresses and address.host not in addresses:
                config.append(("http.curloptResolve", f"{address.host}:{address.port}:{','.join(addresses)}"))
        yield with_config(environment, tuple(config))


def secret_texts(remote: GitRemote) -> list[str]:
    """Every form of a secret that might turn up in git's output, for redaction."""
    texts = []
    for key, value in remote.secret.items():
        if key in ("ca.crt", "known_hosts", "username"):
            continue
        text = value.decode(errors="replace").strip()
        if len(text) >= MIN_SECRET:
            texts.append(text)
    authorization = _authorization(remote)
    if authorization:
        texts.append(authorization.partition(" ")[2])
    return texts


def _authorization(remote: GitRemote) -> str | None:
    def text(key: str) -> str:
        return remote.secret[key].decode(errors="replace").strip()

    if remote.secret.get("bearerToken"):
        return f"Bearer {text('bearerToken')}"
    if remote.secret.get("username") and remote.secret.get("password"):
        pair = f"{text('username')}:{text('password')}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"
    return None


def _http_config(remote: GitRemote, address: Address, folder: Path) -> list[tuple[str, str]]:
    config: list[tuple[str, str]] = []
    authorization = _authorization(remote)
    if authorization is not None:
        if "\n" in authorization or "\r" in authorization:
            raise Stalled("CredentialsInvalid", "the credentials in the Secret of secretRef contain a line break")
        config.append((f"http.{address.origin}/.extraHeader", f"Authorization: {authorization}"))
    if remote.secret.get("ca.crt"):
        config.append(("http.sslCAInfo", str(_write(folder / "ca.crt", remote.secret["ca.crt"]))))
    return config


def _ssh_environment(remote: GitRemote, folder: Path) -> dict[str, str]:
    key = remote.secret["identity"]
    identity = _write(folder / "identity", key if key.endswith(b"\n") else key + b"\n")
    known_hosts = _write(folder / "known_hosts", remote.secret["known_hosts"])
    passphrase = remote.secret.get("password")
    command = (
        f"ssh -F /dev/null -i {identity} -o IdentitiesOnly=yes -o UserKnownHostsFile={known_hosts} "
        "-o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes -o ForwardAgent=no -o ConnectTimeout=20 "
        f"-o BatchMode={'no' if passphrase else 'yes'}"
    )
    environment = {"GIT_SSH_COMMAND": command, "GIT_SSH_VARIANT": "ssh"}
    if passphrase:
        askpass = _write(folder / "askpass", _ASKPASS.encode())
        askpass.chmod(0o700)
        environment |= {
            "SSH_ASKPASS": str(askpass),
            "SSH_ASKPASS_REQUIRE": "force",
            _PASSPHRASE: passphrase.decode(errors="replace").strip("\n"),
        }
    return environment


def _write(path: Path, data: bytes) -> Path:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    return path


def _resolve(address: Address, *, allow_local: bool) -> list[str]:
    """Addresses of the host, so that git connects to those that were checked and to no others."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as failure:
        raise Unavailable("HostNotFound", f"the host {address.host} cannot be resolved: {failure.strerror}") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    refused = [ip for ip in addresses if refused_ip(ip)]
    if refused and not allow_local:
        raise Stalled(
            "AddressRefused", f"the host {address.host} is {refused[0]}, an address that no repository may have"
        )
    return addresses
