"""Content keys, archives and wheels of images."""

import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest

from localcluster import archive, images, wheels
from localcluster.errors import ClusterError
from localcluster.images import Image


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nCOPY a /a\n")
    (directory / "a").write_text("1")
    return directory


def key(source: Path, **build_args: str) -> str:
    return images.content_key(images.from_directory(source, "x:1", build_args))


def test_the_same_content_has_the_same_key_and_any_change_another(source: Path) -> None:
    first = key(source)
    assert key(source) == first
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "a.pyc").write_text("compiled")
    assert key(source, A="1") != first
    (source / "a").chmod(0o755)
    executable = key(source)
    (source / "a").write_text("2")
    assert len({first, executable, key(source)}) == 3


def test_compiled_python_does_not_count(source: Path) -> None:
    (source / "code").mkdir()
    (source / "code" / "m.py").write_text("")
    first = key(source)
    (source / "code" / "__pycache__").mkdir()
    (source / "code" / "__pycache__" / "m.pyc").write_text("compiled")
    assert key(source) == first


def test_a_change_of_the_base_changes_what_stands_on_it(source: Path, tmp_path: Path) -> None:
    top = Image("top:1", source / "Dockerfile", base=images.from_directory(source, "x:1", {}))
    before = images.content_key(top)
    (source / "a").write_text("2")
    top = Image("top:1", source / "Dockerfile", base=images.from_directory(source, "x:1", {}))
    assert images.content_key(top) != before


def test_archives_of_one_repository_are_named_alike(source: Path) -> None:
    path = images.archive_path(images.from_directory(source, "registry.local:5000/a/b:1", {}))
    assert path.name.startswith("registry.local-5000-a-b--")


def test_only_the_archives_used_last_are_kept(tmp_path: Path) -> None:
    paths = [tmp_path / f"x--{number}.tar" for number in range(images.KEPT + 2)]
    for age, path in enumerate(reversed(paths)):
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / "y--1.tar").touch()
    images._prune(paths[-1])
    assert sorted(p.name for p in tmp_path.glob("*.tar")) == [*(p.name for p in paths[2:]), "y--1.tar"]


def test_a_directory_without_a_dockerfile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="DIR must hold a Dockerfile"):
        images.from_directory(tmp_path, "x:1", {})


def test_a_lock_must_name_versions(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("# made by a tool\na==1\n    # via b\nb==2.0  # why\n")
    assert wheels.pinned(lock) == ["a==1", "b==2.0"]
    lock.write_text("a>=1\n")
    with pytest.raises(ClusterError, match="'a>=1' names no version"):
        wheels.pinned(lock)


def test_an_archive_names_the_digests_of_its_layers(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    archive.write(path, ["a:1", "b:1"], [b"layer"], {"Cmd": ["x"]})
    with tarfile.open(path) as tar:
        contents = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    (manifest,) = json.loads(contents["manifest.json"])
    config = json.loads(contents[manifest["Config"]])
    assert manifest["RepoTags"] == ["a:1", "b:1"]
    assert contents[manifest["Layers"][0]] == b"layer"
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(b'layer').hexdigest()}"]
    assert list(tmp_path.iterdir()) == [path]
