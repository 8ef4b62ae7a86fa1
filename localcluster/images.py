"""Container images of the project: built from its Dockerfiles, kept as archives by content, loaded into a cluster.

With Docker the build is `docker build` on the Dockerfile's own BASE. Without it, as root on Linux, the base is made of
Debian packages (mmdebstrap) and the build is `buildah bud` in chroot isolation, so that no registry is needed.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from localcluster import choose, containerd, host, lifecycle, packages, state, wheels
from localcluster.binaries import cache_lock, cache_root, workspace
from localcluster.errors import ClusterError
from localcluster.shell import run, say, succeeds

BASE_PACKAGES = ("python3", "python3-pip", "python3-venv", "git", "openssh-client", "ca-certificates")
BASE_SUITE = "bookworm"
BASE_MIRROR = "http://deb.debian.org/debian"
BASE_OPTIONS = (
    '--aptopt=Acquire::Languages "none"',
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)
KEPT = 4
"""How many archives of one repository (an image's name without its version) are kept: those used last."""


@dataclass(frozen=True)
class Image:
    """What an image is made of. `context` maps paths of the build context to files and directories here; the wheels of
    the pinned `requirements` and the wheel files `own_wheels` go to wheels/. `base`, if given, is the image that the
    Dockerfile's BASE names."""

    tag: str
    dockerfile: Path
    context: Mapping[str, Path] = field(default_factory=dict)
    requirements: Sequence[str] = ()
    own_wheels: Sequence[Path] = ()
    build_args: Mapping[str, str] = field(default_factory=dict)
    base: "Image | None" = None


def from_directory(directory: Path, tag: str, build_args: Mapping[str, str]) -> Image:
    """The image of a directory that is its own complete build context."""
    dockerfile = directory / "Dockerfile"
    if not dockerfile.is_file():
        raise ClusterError(f"there is no {dockerfile}; DIR must hold a Dockerfile and everything it copies")
    context = {path.name: path for path in sorted(directory.iterdir())}
    return Image(tag, dockerfile, context, build_args=build_args)


def content_key(image: Image) -> str:
    """Digest of everything the image is made of."""
    parts = [image.tag, image.dockerfile.read_text(), *sorted(image.requirements)]
    parts += [f"{k}={v}" for k, v in sorted(image.build_args.items())]
    parts += [f"{name}:{wheels.content_key([path])}" for name, path in sorted(image.context.items())]
    parts += [wheels.content_key([path]) for path in image.own_wheels]
    parts.append(content_key(image.base) if image.base else _base_key())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def build(image: Image) -> Path:
    """The image's archive (docker-archive), from the cache or built now; bases are built first."""
    path = archive_path(image)
    if path.exists():
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))  # read just now: pruned last
        return path
    wheel_directory = wheels.directory(image.requirements) if image.requirements else None
    docker = choose.docker_reachable()
    if image.base:
        build(image.base)
    with cache_lock("images"):
        if path.exists():
            return path
        say(f"building image {image.tag}")
        with workspace(path.parent, "build") as temporary:
            context, output = temporary / "context", temporary / "image.tar"
            _fill_context(context, image, wheel_directory)
            (_docker if docker else _buildah)(image, context, output)
            os.replace(output, path)
        _prune(path)
    return path


def archive_path(image: Image) -> Path:
    """Where the archive of this content is kept."""
    return (
        cache_root() / "images" / f"{re.sub('[^A-Za-z0-9.]+', '-', _repository(image.tag))}--{content_key(image)}.tar"
    )


def _repository(tag: str) -> str:
    """The name of an image without its version: `registry:5000/a/b:1` -> `registry:5000/a/b`."""
    head, slash, last = tag.rpartition("/")
    return head + slash + last.partition(":")[0]


def load(cluster: choose.Cluster, *images: Image) -> None:
    """Builds images as needed and loads them; quick when the cluster has them already."""
    for image in images:
        load_archive(cluster, build(image))


def load_archive(cluster: choose.Cluster, path: Path) -> None:
    """Loads a docker-archive into a cluster that `choose.ensure` gave."""
    known = state.by_kubeconfig(cluster.kubeconfig)
    kind = cluster.kubeconfig.name.removesuffix(".kubeconfig")
    if known is not None:
        containerd.load(known.name, path)
    elif cluster.how == "kind" or cluster.kubeconfig == choose.kind_kubeconfig(kind):
        load_into_kind(kind, path)
    else:
        raise ClusterError(
            f"images cannot be put into the cluster of {cluster.kubeconfig}, since the driver did not make it; "
            "push them to a registry that it pulls from"
        )


def load_into_kind(name: str, path: Path) -> None:
    """Loads a docker-archive into the nodes of a kind cluster."""
    run(["kind", "load", "image-archive", path, "--name", choose.kind_name(name)], timeout=600)


def _fill_context(context: Path, image: Image, wheel_directory: Path | None) -> None:
    context.mkdir()
    shutil.copyfile(image.dockerfile, context / "Dockerfile")
    for name, source in image.context.items():
        target = context / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)
    found = [*image.own_wheels, *(wheel_directory.glob("*.whl") if wheel_directory else ())]
    if found:
        (context / "wheels").mkdir(exist_ok=True)
        for path in found:
            shutil.copy2(path, context / "wheels" / path.name)


def _docker(image: Image, context: Path, output: Path) -> None:
    arguments = dict(image.build_args)
    if image.base:
        run(["docker", "load", "--input", archive_path(image.base)], timeout=600)
        arguments.setdefault("BASE", image.base.tag)
    run(["docker", "build", "--tag", image.tag, *_build_arguments(arguments), context], timeout=1800)
    run(["docker", "save", "--output", output, image.tag], timeout=600)


def _buildah(image: Image, context: Path, output: Path) -> None:
    if reason := lifecycle.supported():
        raise ClusterError(
            f"images cannot be built here: Docker is not reachable and buildah cannot be used ({reason})"
        )
    packages.install(packages.IMAGES)
    tool = _tool()
    arguments = dict(image.build_args)
    try:
        if image.base:
            _pull_base(tool, image.base)
            arguments.setdefault("BASE", image.base.tag)
        arguments.setdefault("BASE", _debian_base(tool))
        options = ["--isolation", "chroot", "--network", "host", "--pull-never", "--tag", image.tag]
        run([*tool, "bud", *options, *_build_arguments(arguments), context], timeout=1800)
        run([*tool, "push", "--quiet", image.tag, f"docker-archive:{output}:{image.tag}"], timeout=600)
        run([*tool, "rmi", image.tag])  # the archive is what is kept
    finally:
        run([*tool, "rm", "--all"])  # an interrupted build leaves its containers
        run([*tool, "rmi", "--prune"])
        host.unmount_below(_store())


def _pull_base(tool: Sequence[str], base: Image) -> None:
    """Puts an image of ours into buildah's store for others to build on, in place of its older versions."""
    if succeeds([*tool, "inspect", "--type", "image", base.tag]):
        return
    listed = run([*tool, "images", "--format", "{{.Name}}:{{.Tag}}"]).split()
    for old in [tag for tag in listed if _repository(tag) == _repository(base.tag)]:
        run([*tool, "rmi", old])
    run([*tool, "pull", "--quiet", f"docker-archive:{archive_path(base)}"], timeout=600)


def _build_arguments(arguments: Mapping[str, str]) -> list[str]:
    return [text for key, value in sorted(arguments.items()) for text in ("--build-arg", f"{key}={value}")]


def _store() -> Path:
    return cache_root() / "buildah"


def _tool() -> list[str]:
    """buildah with a store of its own; overlay where the file system can, else plain copies."""
    store = _store()
    store.mkdir(parents=True, exist_ok=True)
    for driver in ("overlay", "vfs"):
        tool = ["buildah", "--root", f"{store}/{driver}", "--runroot", f"{store}/run", "--storage-driver", driver]
        if succeeds([*tool, "images"]):
            return tool
    raise ClusterError(f"buildah cannot keep images in {store}; remove that directory and try again")


def _base_key() -> str:
    text = " ".join([*BASE_PACKAGES, BASE_SUITE, *BASE_OPTIONS])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _debian_base(tool: Sequence[str]) -> str:
    """Tag of the base image made of Debian packages; made if the store has it not."""
    tag = f"localhost/perennial-base:{_base_key()}"
    if succeeds([*tool, "inspect", "--type", "image", tag]):
        return tag
    say("making the base image from Debian packages (once, about a minute)")
    with workspace(_store(), "base") as temporary:
        tar = temporary / "base.tar"
        run(["mmdebstrap", "--variant=minbase", f"--include={','.join(BASE_PACKAGES)}", *BASE_OPTIONS, BASE_SUITE, tar,
             BASE_MIRROR], timeout=1800)  # fmt: skip
        container = run([*tool, "from", "scratch"]).strip()
        run([*tool, "add", container, tar, "/"], timeout=600)
        run([*tool, "config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container])
        run([*tool, "commit", "--quiet", "--format", "docker", "--rm", container, tag], timeout=600)
    return tag


def _prune(newest: Path) -> None:
    """Removes all but the archives of the same repository that were used last."""
    repository = newest.name.rpartition("--")[0]
    archives = sorted(newest.parent.glob(f"{repository}--*.tar"), key=lambda p: p.stat().st_atime_ns, reverse=True)
    for old in archives[KEPT:]:
        old.unlink(missing_ok=True)
