"""The artifact store: list, download with digests, upload content-addressed, read and write small records.

Atomicity. A local store (pvc) gets a tree under a temporary name, which is then renamed: readers see all of it or
nothing. Object stores have no rename of prefixes: files go straight to the content-addressed prefix, each PUT being
atomic, and the record that names the digest is created last and once. Readers always verify the digest of the whole
tree, so an interrupted upload cannot be taken for a model. Must not log or print.
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perennial.steps.digests import CHUNK, WORKERS, File, Tree, local_tree, regular_files
from perennial.steps.errors import ConfigProblem, DataProblem, StepError, TemporaryProblem
from perennial.steps.locations import Location

LATEST = "LATEST"
MAX_POINTER = 1024
MAX_RECORD = 4 << 20
_UNREACHABLE = frozenset({"EndpointConnectionError", "ConnectTimeoutError", "ClientConnectorError"})
"""Names of errors of the stores' clients, which are installed only where their store is used."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a store: its path relative to the listed place, and where the file system has it."""

    relative: str
    full: str


@contextmanager
def named_errors(what: str) -> Iterator[None]:
    """Turn whatever a file system raises into a StepError that says what could not be done."""
    try:
        yield
    except StepError:
        raise
    except FileNotFoundError as error:
        raise DataProblem(f"{what}: there is nothing at that address") from error
    except PermissionError as error:
        raise ConfigProblem(
            f"{what}: the store refuses the credentials ({_short(error)}); check spec.storage.secretRef"
        ) from error
    except FileExistsError as error:
        raise ConfigProblem(f"{what}: something else is already there") from error
    except Exception as error:
        if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
            raise ConfigProblem(
                f"{what}: no credentials were given; name a Secret in spec.storage.secretRef"
            ) from error
        hint = "; check the store's address in spec.storage.secretRef" if type(error).__name__ in _UNREACHABLE else ""
        raise TemporaryProblem(f"{what}: {_short(error)}{hint}") from error


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:300]


def resolve(place: Location, *, moving: bool) -> Location:
    """The place that a dataset URI means now: a prefix that holds an object LATEST means the prefix named in it."""
    if not moving or not place.is_prefix or place.is_http:
        return place
    pointer = place.child(LATEST)
    try:
        with named_errors(f"reading {pointer.uri}"):
            if place.is_local and Path(pointer.path).is_symlink():
                raise DataProblem(f"{pointer.uri} is a link; it must be a small text file")
            with pointer.fs.open(pointer.path, "rb") as stream:
                text = stream.read(MAX_POINTER + 1).decode(errors="replace").strip()
    except DataProblem as problem:
        if isinstance(problem.__cause__, FileNotFoundError):
            return place
        raise
    if len(text) > MAX_POINTER or not text or "\n" in text:
        raise DataProblem(f"{pointer.uri} must hold one line that names a prefix below it")
    relative = text.removeprefix(place.uri).strip("/")
    if not relative or relative.startswith("..") or "://" in relative:
        raise DataProblem(f"{pointer.uri} names {text[:100]!r}, which is no prefix below {place.uri}")
    return place.child(relative + "/")


def entries(place: Location) -> tuple[list[Entry], bool]:
    """(objects at the place, whether it is a single file); DataProblem when there is nothing."""
    with named_errors(f"reading {place.uri}"):
        if place.is_http or (not place.is_prefix and place.fs.isfile(place.path)):
            if place.is_local and Path(place.path).is_symlink():
                raise DataProblem(f"{place.uri} is a link; only regular files can be read")
            name = place.path.rstrip("/").split("/")[-1].split("?")[0] or "data"
            return [Entry(name, place.path)], True
        found = _listed(place)
    if not found:
        raise DataProblem(f"reading {place.uri}: there is nothing at that address")
    return found, False


def _listed(place: Location) -> list[Entry]:
    if place.is_local:
        if not Path(place.path).is_dir():
            raise FileNotFoundError(place.path)
        return [Entry(path, f"{place.path}/{path}") for path in regular_files(Path(place.path))]
    found = []
    root = place.path.strip("/") + "/"
    for full, info in sorted(place.fs.find(place.path, detail=True).items()):
        relative = full.strip("/").removeprefix(root) if full.strip("/").startswith(root) else ""
        if not relative or full.endswith("/") or info.get("type") == "directory":
            continue
        if any(part in ("", ".", "..") for part in relative.split("/")):
            raise DataProblem(f"{place.uri} holds an object with a name that cannot be a path: {relative[:100]!r}")
        found.append(Entry(relative, full))
    return found


def download(place: Location, target: Path) -> Tree:
    """Bring everything at the place into the folder `target` (emptied first); its Tree, computed from what arrived."""
    found, single = entries(place)
    empty(target)
    with named_errors(f"downloading {place.uri}"):
        _each(found, lambda entry: _download_one(place, entry, target / entry.relative))
    if single:
        return local_tree(target / found[0].relative)
    return local_tree(target, [entry.relative for entry in found])


def empty(target: Path) -> None:
    """A restarted container may find a half-filled folder."""
    target.mkdir(parents=True, exist_ok=True)
    for child in target.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()


def _download_one(place: Location, entry: Entry, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if place.is_local:
        shutil.copyfile(entry.full, path, follow_symlinks=False)
        return
    place.fs.get_file(entry.full, str(path))


def _each(items: list[Any], act: Callable[[Any], object]) -> None:
    with ThreadPoolExecutor(WORKERS) as pool:
        for _ in pool.map(act, items):
            pass


def remote_tree(place: Location) -> Tree:
    """The Tree of what is at the place, read as a stream and kept nowhere."""
    found, single = entries(place)

    def read(entry: Entry) -> File:
        digest, size = hashlib.sha256(), 0
        with place.fs.open(entry.full, "rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
        return File(entry.relative, digest.hexdigest(), size)

    with named_errors(f"reading {place.uri}"), ThreadPoolExecutor(WORKERS) as pool:
        return Tree(tuple(pool.map(read, found)), single)


def upload(source: Path, tree: Tree, place: Location) -> None:
    """Put the files of a local tree at a content-addressed place. Doing it again, or twice at once, changes nothing."""
    if place.is_http:
        raise ConfigProblem(f"{place.uri} can only be read; models are written to s3, gs, abfs or pvc://claim/path/")
    with named_errors(f"uploading to {place.uri}"):
        if place.is_local:
            _upload_local(source, tree, Path(place.path), place.uri)
            return
        _each(list(tree.files), lambda file: place.fs.put_file(str(source / file.path), f"{place.path}/{file.path}"))


def _upload_local(source: Path, tree: Tree, target: Path, uri: str) -> None:
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex[:12]}.partial"
    try:
        for file in tree.files:
            copy = temporary / file.path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file.path, copy)
            with copy.open("rb") as stream:
                os.fsync(stream.fileno())
        if target.is_dir():
            _same(target, tree, uri)
            return
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            _same(target, tree, uri)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _same(target: Path, tree: Tree, uri: str) -> None:
    if local_tree(target).digest != tree.digest:
        raise ConfigProblem(f"{uri} already holds something else than its name says; remove it and train again")


def create_text(place: Location, text: str) -> None:
    """Write a small object that must not exist yet; the same text there already is fine, another is a ConfigProblem."""
    data = text.encode()
    with named_errors(f"writing {place.uri}"):
        try:
            if place.is_local:
                _create_local(Path(place.path), data)
            else:
                place.fs.pipe_file(place.path, data, mode="create")
        except FileExistsError:
            if read_text(place) != text:
                raise


def _create_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:12]}.partial"
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            os.fsync(stream.fileno())
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_text(place: Location) -> str:
    """A small object's text; DataProblem when it is missing or larger than a record may be."""
    with named_errors(f"reading {place.uri}"), place.fs.open(place.path, "rb") as stream:
        data: bytes = stream.read(MAX_RECORD + 1)
    if len(data) > MAX_RECORD:
        raise DataProblem(f"{place.uri} is larger than {MAX_RECORD} bytes")
    return data.decode()


def artifact_place(output: Location, model: str, digest: str) -> Location:
    """`<output>/<model>/sha256-<hex>/`."""
    return output.child(f"{model}/{digest.replace(':', '-')}/")


def record_place(output: Location, model: str, version: str, maker: str, attempt: int) -> Location:
    """`<output>/<model>/records/<version>-<maker>-<attempt>.json`: where the record of an attempt lies.

    maker: which TrainingJob object. One made anew (another cluster, or deleted and applied again) has the same run and
    counts its attempts from 1 again; it must not meet the records of the one before.
    """
    return output.child(f"{model}/records/{version}-{maker}-{attempt}.json")


def samples_place(output: Location, model: str, digest: str) -> Location:
    """`<output>/<model>/samples/sha256-<hex>.csv`: the sample inputs with that digest."""
    return output.child(f"{model}/samples/{digest.replace(':', '-')}.csv")


def verify(tree: Tree, digest: str | None, what: str) -> None:
    """DataProblem when a pinned digest is not the one that was read."""
    if digest and tree.digest != digest:
        raise DataProblem(
            f"{what} has digest {tree.digest}, but {digest} is required; correct the digest or bring the data back"
        )
