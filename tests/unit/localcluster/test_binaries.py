"""Binaries: keys, names, and that a failed build leaves nothing."""

import json
from pathlib import Path

import pytest

from localcluster import binaries
from localcluster.binaries import Source
from localcluster.errors import ClusterError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of one file that builds without any other."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(binaries, "HERE", tmp_path)
    monkeypatch.setattr(binaries, "SOURCES", {"tiny": Source("tiny", names=("alias",))})
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "go.mod").write_text("module perennial.invalid/tiny\n\ngo 1.21\n")
    (folder / "go.sum").write_text("")
    (folder / "main.go").write_text("package main\n\nfunc main() {}\n")
    monkeypatch.setattr(binaries, "_go_version", lambda folder: "go1.26.8")
    return folder


def test_the_key_follows_sources_and_version_of_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source("tiny")
    keys = {binaries._key(source)}
    (folder / "go.sum").write_text("x")
    keys.add(binaries._key(source))
    (folder / "main.go").write_text("package main\n")
    keys.add(binaries._key(source))
    monkeypatch.setattr(binaries, "_go_version", lambda folder: "go1.27.0")
    keys.add(binaries._key(source))
    assert len(keys) == 4


def test_an_unknown_binary_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ClusterError, match="no binary 'nginx'; known are kubernetes, coredns"):
        binaries.binary("nginx")


def test_a_binary_appears_whole_and_only_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def compile_(name: str, source: Source, folder: Path, output: Path, total: int) -> None:
        compiled.append(name)
        output.write_text("binary")

    monkeypatch.setattr(binaries, "_compile", compile_)
    monkeypatch.setattr(binaries, "run", lambda *a, **k: "one two\n")
    path = binaries.binary("tiny")
    assert path.read_text() == "binary" and (path.parent / "alias").read_text() == "binary"
    assert binaries.binary("tiny") == path
    assert compiled == ["tiny"]


def test_a_failed_build_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, source: Source, folder: Path, output: Path, total: int) -> None:
        output.write_text("half")
        raise ClusterError("building tiny failed: no")

    monkeypatch.setattr(binaries, "_compile", fail)
    monkeypatch.setattr(binaries, "run", lambda *a, **k: "one two\n")
    with pytest.raises(ClusterError, match="building tiny failed"):
        binaries.binary("tiny")
    assert list((binaries.cache_root() / "binaries").iterdir()) == []


def test_kubernetes_reports_its_real_version() -> None:
    flags = binaries.ldflags(binaries.SOURCES["kubernetes"])
    assert f"k8s.io/component-base/version.gitVersion=v{binaries.KUBERNETES_VERSION}" in flags
    module = (binaries.HERE / "kubernetes" / "go.mod").read_text()
    assert f"k8s.io/kubernetes v{binaries.KUBERNETES_VERSION}" in module


def test_files_of_a_module_are_those_that_the_binary_is_built_from(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def run(argv: list[str], cwd: Path, **_: object) -> str:
        asked.append((*argv, cwd))
        return json.dumps({"Path": "example.org/api", "Dir": str(tmp_path / "api@v1.2.3")})

    monkeypatch.setattr(binaries, "run", run)
    assert binaries.module_folder("tiny", "example.org/api") == tmp_path / "api@v1.2.3"
    assert asked == [("go", "mod", "download", "-json", "example.org/api", folder)]
