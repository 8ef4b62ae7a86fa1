"""Image archives written by hand (the docker-archive format that containerd and Docker both import): the pause image,
which holds nothing but a static busybox and so also serves as a small test image."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

from localcluster.configs import PAUSE_IMAGE

BUSYBOX_IMAGE = "registry.local/busybox:1"
BUSYBOX = Path("/bin/busybox")
APPLETS = (
    "cat", "date", "df", "echo", "env", "false", "grep", "head", "hostname", "httpd", "id", "ip", "kill", "ls",
    "mkdir", "mount", "nc", "netstat", "nslookup", "ping", "printf", "ps", "rm", "sed", "seq", "sh", "sleep", "sort",
    "stat", "tail", "tar", "test", "touch", "tr", "true", "vi", "wc", "wget",
)  # fmt: skip


def busybox(directory: Path) -> Path:
    """The archive of the busybox image under two tags, PAUSE_IMAGE and BUSYBOX_IMAGE; made if it is not there."""
    content = BUSYBOX.read_bytes()
    digest = hashlib.sha256(content + repr(APPLETS).encode()).hexdigest()[:16]
    path = directory / f"busybox-{digest}.tar"
    if not path.exists():
        config = {"Entrypoint": ["/bin/busybox"], "Cmd": ["tail", "-f", "/dev/null"], "Env": ["PATH=/bin"]}
        write(path, [PAUSE_IMAGE, BUSYBOX_IMAGE], [_layer(content)], config)
    return path


def _layer(busybox_binary: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(busybox_binary), 0o755
        tar.addfile(entry, io.BytesIO(busybox_binary))
        for applet in APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return buffer.getvalue()


def write(path: Path, tags: list[str], layers: list[bytes], config: Mapping[str, object]) -> None:
    """Writes an image archive: manifest.json, the config with the digests of the uncompressed layers, the layers."""
    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    image = {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [{"created_by": "localcluster"} for _ in layers],
    }
    config_bytes = json.dumps(image, sort_keys=True).encode()
    config_name = f"{hashlib.sha256(config_bytes).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": tags, "Layers": [f"{digest}/layer.tar" for digest in digests]}]
    files = [(f"{digest}/layer.tar", layer) for digest, layer in zip(digests, layers, strict=True)]
    files += [(config_name, config_bytes), ("manifest.json", json.dumps(manifest).encode())]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with tarfile.open(temporary, "w") as tar:
        for name, data in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    os.replace(temporary, path)
