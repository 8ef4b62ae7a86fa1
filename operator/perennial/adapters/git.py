"""Git repositories for the controllers: bare, without a work tree, through the git program (`ports.GitRepository`).

Only GitPython's `git.cmd.Git` runner is used, with an argument list built here from checked values and the fixed
environment of `git_access`. Every call runs in a small pool of threads and is killed with all its children when its
time is up. The directories are a cache: whatever is wrong with one, it is thrown away and fetched again.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from git.cmd import Git

from perennial.adapters.git_access import FIXED_CONFIG, REMOTE, base_environment, opened, secret_texts, with_config
from perennial.domain.authors import Author
from perennial.domain.conditions import bounded
from perennial.domain.errors import Conflict, PerennialError, Stalled, Transient, Unavailable
from perennial.domain.sync.address import is_commit_id, is_ref_name, is_repository_path
from perennial.domain.sync.documents import MAX_FILE_BYTES, MAX_REVISION_BYTES
from perennial.domain.sync.repository import GitChange, GitFile, GitHistory, GitReference, GitRemote
from perennial.domain.sync.semver import newest

MAX_FILES = 100_000
LOCAL_TIMEOUT = 60.0
MAX_PACKS = 50
UNUSED_SECONDS = 86_400
DEPTHS = (20, 200, 2_000, 20_000)
MESSAGE_BYTES = 400
HISTORY = "//history"
ResultT = TypeVar("ResultT")

_MOVED = ("[rejected]", "stale info", "fetch first", "non-fast-forward", "cannot lock ref", "failed to update ref",
          "incorrect old value", "reference already exists")  # fmt: skip
_AUTHENTICATION = ("authentication failed", "could not read username", "could not read password", "permission denied",
                   "terminal prompts disabled", "error: 401", "error: 403", "host key verification failed")  # fmt: skip
_UNUSABLE = "shallow update not allowed"
_MISSING = ("repository not found", "does not appear to be a git repository", "' not found", "error: 404")
_REFUSED = ("hook declined", "protected branch", "deny updating", "not allowed to push")
_REJECTED = "[remote rejected]"


@dataclass(frozen=True, slots=True)
class GitSettings:
    """Where repositories are cached, how many git processes may run, whether http and local addresses are allowed."""

    cache: Path
    workers: int = 4
    allow_insecure: bool = False


class _Failed(Exception):
    """git ended with an error; the text is its standard error, redacted."""


class _TimedOut(Exception):
    """git did not end in time and was killed."""


class GitRepositories:
    """Implements `ports.GitRepository`; one directory per (address, credentials, whole or partial)."""

    def __init__(self, settings: GitSettings) -> None:
        self._settings = settings
        self._executor = ThreadPoolExecutor(settings.workers, thread_name_prefix="git")
        self._locks: dict[str, asyncio.Lock] = {}
        home = settings.cache / "home"
        home.mkdir(parents=True, exist_ok=True)
        self._base = base_environment(home, allow_insecure=settings.allow_insecure)

    def close(self) -> None:
        """Let running calls end and take no more."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    # -- the port --------------------------------------------------------------------------------------------------
    async def head(self, remote: GitRemote, ref: GitReference) -> str:
        """See GitRepository."""
        if ref.kind == "commit":
            return _checked_commit(ref.value)
        patterns = _patterns(ref)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: self._head(remote, ref, patterns))

    async def files(self, remote: GitRemote, commit: str, path: str) -> tuple[GitFile, ...]:
        """See GitRepository."""
        _checked_commit(commit)
        return await self._locked(remote, path, lambda clone: clone.files(commit, path))

    async def read(self, remote: GitRemote, commit: str, path: str, blobs: Sequence[str]) -> dict[str, bytes | None]:
        """See GitRepository."""
        wanted = [_checked_commit(blob) for blob in dict.fromkeys(blobs)]
        return await self._locked(remote, path, lambda clone: clone.read(_checked_commit(commit), wanted))

    async def history(self, remote: GitRemote, head: str, since: str) -> GitHistory:
        """See GitRepository."""
        _checked_commit(head), _checked_commit(since)
        return await self._locked(remote, HISTORY, lambda clone: clone.history(head, since))

    async def authors(self, remote: GitRemote, head: str, since: str | None) -> tuple[Author, ...]:
        """See GitRepository."""
        _checked_commit(head), _checked_commit(since or head)
        return await self._locked(remote, HISTORY, lambda clone: clone.authors(head, since))

    async def commit(self, remote: GitRemote, path: str, change: GitChange) -> str:
        """See GitRepository."""
        for name in change.files:
            if not is_repository_path(name) or name == ".":
                raise Stalled("PathRefused", f"the path {name!r} cannot be written: it is not a plain relative path")
        _checked_commit(change.parent)
        return await self._locked(remote, path, lambda clone: clone.commit(change))

    async def push(self, remote: GitRemote, path: str, branch: str, commit: str, parent: str) -> None:
        """See GitRepository."""
        if not is_ref_name(branch):
            raise Stalled("RefRefused", f"the branch {branch!r} is not a branch name")
        _checked_commit(commit), _checked_commit(parent)
        await self._locked(remote, path, lambda clone: clone.push(branch, commit, parent))

    # -- inside ----------------------------------------------------------------------------------------------------
    def _head(self, remote: GitRemote, ref: GitReference, patterns: Sequence[str]) -> str:
        settings = self._settings
        with opened(remote, self._base, allow_insecure=settings.allow_insecure) as environment:
            run = _Runner(settings.cache, environment, remote)
            out = run.remote(["ls-remote", "--end-of-options", REMOTE, *patterns])
            lines = [line.partition("\t") for line in out.decode().splitlines()]
            found = {name: commit for commit, _, name in lines}
            return _chosen(ref, found, lambda: run.remote(["ls-remote", "--end-of-options", REMOTE]))

    async def _locked(self, remote: GitRemote, path: str, work: "Callable[[_Clone], ResultT]") -> ResultT:
        """Run `work` in a thread, alone on its directory. A broken directory is removed: the next try is clean."""
        key = _directory_name(remote, path)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, lambda: self._work(remote, key, path, work))

    def _work(self, remote: GitRemote, key: str, path: str, work: "Callable[[_Clone], ResultT]") -> ResultT:
        directory = self._settings.cache / key
        try:
            if not directory.exists():
                _sweep(self._settings.cache)
            with opened(remote, self._base, allow_insecure=self._settings.allow_insecure) as environment:
                clone = _Clone(directory, _Runner(directory, environment, remote), whole=path == ".")
                clone.prepare(with_config(self._base, FIXED_CONFIG))
                return work(clone)
        except PerennialError:
            raise
        except (_Failed, _TimedOut, OSError, ValueError) as failure:
            shutil.rmtree(directory, ignore_errors=True)
            raise Transient(
                "CacheBroken", f"the local copy of the repository could not be used and was removed: {failure}"
            ) from failure


class _Runner:
    """Runs git in one directory with one environment."""

    def __init__(self, directory: Path, environment: Mapping[str, str], remote: GitRemote) -> None:
        self._git = Git(str(directory))
        self._environment = dict(environment)
        self._secrets = secret_texts(remote)
        self._timeout = remote.timeout_seconds
        self._url = remote.url

    def local(self, arguments: Sequence[str], *, data: bytes = b"", extra: Mapping[str, str] | None = None) -> bytes:
        """A command that does not need the network; _Failed when it fails.

        It gets none: git would fetch a missing object by itself, one by one, and hide a broken directory.
        """
        return self._run(arguments, data, LOCAL_TIMEOUT, {**(extra or {}), "GIT_ALLOW_PROTOCOL": ""})

    def remote(self, arguments: Sequence[str], *, data: bytes = b"") -> bytes:
        """A command that talks to the remote; its failures are told apart (Unavailable, Stalled, Conflict)."""
        try:
            return self._run(arguments, data, self._timeout, {})
        except _TimedOut:
            raise Unavailable(
                "TimedOut", f"{self._url} did not answer within {self._timeout:g} s (timeoutSeconds)"
            ) from None
        except _Failed as failure:
            if _UNUSABLE in str(failure):
                raise  # the directory holds as a boundary what is to be pushed; a fresh one does not
            raise _remote_error(str(failure), self._url) from None

    def _run(self, arguments: Sequence[str], data: bytes, timeout: float, extra: Mapping[str, str]) -> bytes:
        own = {**self._environment, **extra}
        # The runner passes its own environment on; whatever is not ours is taken out by name (names are no secrets).
        inherited = [name for name in sorted(os.environ) if name not in own and name not in ("PATH", "SSL_CERT_FILE")]
        unset = [part for name in inherited for part in ("-u", name)]
        process = self._git.execute(
            ["env", *unset, "git", *arguments],
            istream=subprocess.PIPE,
            as_process=True,
            env=own,
            start_new_session=True,
        )
        try:
            out, err = process.proc.communicate(data, timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.proc.pid, signal.SIGKILL)
            process.proc.communicate()
            raise _TimedOut(f"git {arguments[0]} took more than {timeout:g} s") from None
        if process.proc.returncode != 0:
            raise _Failed(self._redacted(err.decode(errors="replace")))
        return bytes(out)

    def _redacted(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return re.sub(r"//[^/@\s]+@", "//***@", text)


class _Clone:
    """One bare, shallow directory. All methods block; the caller holds its lock."""

    def __init__(self, directory: Path, run: _Runner, *, whole: bool) -> None:
        self._directory = directory
        self._run = run
        self._filter = f"--filter=blob:limit={MAX_FILE_BYTES + 1}" if whole else "--filter=blob:none"
        self._whole = whole

    def prepare(self, environment: Mapping[str, str]) -> None:
        """Make the directory when it is not there; start anew when it has grown too many packs."""
        packs = list((self._directory / "objects" / "pack").glob("*.pack"))
        if len(packs) > MAX_PACKS:
            shutil.rmtree(self._directory)
        if not (self._directory / "HEAD").exists():
            self._directory.mkdir(parents=True, exist_ok=True)
            self._run.local(["init", "--quiet", "--bare", "--template=", "."], extra=environment)
        os.utime(self._directory)  # its last use, for _sweep
        for lock in ("shallow.lock", "config.lock", "packed-refs.lock"):
            (self._directory / lock).unlink(missing_ok=True)

    def files(self, commit: str, path: str) -> tuple[GitFile, ...]:
        """See GitRepository.files."""
        self._have(commit)
        tree = f"{commit}:" if path == "." else f"{commit}:{path}"
        try:
            out = self._run.local(["ls-tree", "-r", "-z", "--full-tree", "--end-of-options", tree])
        except _Failed:
            self._run.local(["ls-tree", "--end-of-options", f"{commit}:"])  # fails too: the directory is broken
            if path == ".":
                raise
            raise Stalled(
                "PathNotFound", f"the path {path} does not exist in commit {commit[:12]}: correct spec.path or push it"
            ) from None
        prefix = "" if path == "." else f"{path}/"
        entries = [entry for entry in out.decode(errors="surrogateescape").split("\0") if entry]
        if len(entries) > MAX_FILES:
            raise Stalled("TooManyFiles", f"the path {path} has {len(entries)} files; at most {MAX_FILES} are read")
        return tuple(_file(entry, prefix) for entry in entries)

    def read(self, commit: str, blobs: Sequence[str]) -> dict[str, bytes | None]:
        """See GitRepository.read."""
        if not blobs:
            return {}
        self._have(commit)
        missing = self._missing(commit) & set(blobs)
        if missing and not self._whole:
            self._fetch(["--stdin"], data="\n".join(sorted(missing)) + "\n", negotiate=False)
            missing = set()
        here = [blob for blob in blobs if blob not in missing]
        sizes = self._sizes(here)
        small = [blob for blob in here if sizes[blob] <= MAX_FILE_BYTES]
        total = sum(sizes[blob] for blob in small)
        if total > MAX_REVISION_BYTES:
            raise Stalled(
                "RevisionTooLarge", f"the manifests are {total} bytes together; at most {MAX_REVISION_BYTES} are read"
            )
        contents: dict[str, bytes | None] = dict.fromkeys(blobs)
        contents.update(self._contents(small))
        return contents

    def history(self, head: str, since: str) -> GitHistory:
        """See GitRepository.history. Commits only, without their trees."""
        reached = self._reaches(head, since)
        arguments = [f"^{since}"] if reached else []
        text = self._run.local(
            ["log", "--format=%H%x00%(trailers:only,unfold)%x01", "--end-of-options", head, *arguments]
        ).decode(errors="replace")
        return GitHistory(tuple(_commit_trailers(part) for part in text.split("\x01") if part.strip()), reached)

    def authors(self, head: str, since: str | None) -> tuple[Author, ...]:
        """See GitRepository.authors."""
        some = self._reaches(head, since or head) and since not in (None, head)
        which = [head, f"^{since}"] if some else ["--max-count=1", head]
        text = self._run.local(["log", "--format=%an%x00%ae%x01", *which, "--"]).decode(errors="replace")
        pairs = (part.strip().partition("\0") for part in text.split("\x01") if part.strip())
        return tuple(dict.fromkeys(Author(name, email) for name, _, email in pairs))

    def _reaches(self, head: str, since: str) -> bool:
        """Fetch commits until `since` is among them; whether it is."""
        for depth in DEPTHS:
            self._fetch([f"--depth={depth}", REMOTE, head], filters="--filter=tree:0", negotiate=False)
            out = self._run.local(["rev-list", "--topo-order", "--end-of-options", head]).decode().split()
            if since in out or not self._shallow():
                break
        return since in out

    def commit(self, change: GitChange) -> str:
        """See GitRepository.commit."""
        self._have(change.parent)
        blobs = {
            path: None
            if data is None
            else self._run.local(["hash-object", "-w", "--stdin"], data=data).decode().strip()
            for path, data in change.files.items()
        }
        tree = self._tree(f"{change.parent}^{{tree}}", {tuple(path.split("/")): blob for path, blob in blobs.items()})
        when = f"{int(change.time.timestamp())} +0000"
        author = {
            "GIT_AUTHOR_NAME": change.author_name, "GIT_AUTHOR_EMAIL": change.author_email, "GIT_AUTHOR_DATE": when,
            "GIT_COMMITTER_NAME": change.author_name, "GIT_COMMITTER_EMAIL": change.author_email,
            "GIT_COMMITTER_DATE": when,
        }  # fmt: skip
        arguments = [
            "commit-tree",
            "-p",
            change.parent,
            "-F",
            "-",
            tree or self._run.local(["mktree"]).decode().strip(),
        ]
        return self._run.local(arguments, data=change.message.encode(), extra=author).decode().strip()

    def push(self, branch: str, commit: str, parent: str) -> None:
        """See GitRepository.push.

        The lease makes the server's update a compare-and-swap; the commit's parent is the leased head, so the update is
        always a fast-forward and nothing can be overwritten.
        """
        ref = f"refs/heads/{branch}"
        lease = f"--force-with-lease={ref}:{parent}"
        self._run.remote(["push", "--quiet", "--no-verify", lease, "--end-of-options", REMOTE, f"{commit}:{ref}"])
        self._run.local(["update-ref", f"refs/perennial/{commit}", commit])  # whole here: no need to fetch it back

    # -- inside ----------------------------------------------------------------------------------------------------
    def _have(self, commit: str) -> None:
        """Fetch a commit unless it was fetched before; each keeps a ref, so that git builds on what is here."""
        if not (self._directory / "refs" / "perennial" / commit).exists():
            self._fetch(["--depth=1", REMOTE, f"+{commit}:refs/perennial/{commit}"])

    def _fetch(self, rest: Sequence[str], *, filters: str = "", data: str = "", negotiate: bool = True) -> None:
        options = ["--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance"]
        strategy = [] if negotiate else ["-c", "fetch.negotiationAlgorithm=noop"]
        target = [REMOTE] if data else []
        self._run.remote([*strategy, "fetch", *options, filters or self._filter, *rest, *target], data=data.encode())

    def _shallow(self) -> bool:
        return self._run.local(["rev-parse", "--is-shallow-repository"]).strip() == b"true"

    def _missing(self, commit: str) -> set[str]:
        out = self._run.local(
            ["rev-list", "--objects", "--no-object-names", "--missing=print", f"{commit}^{{tree}}"]
        ).decode()
        return {line[1:] for line in out.splitlines() if line.startswith("?")}

    def _sizes(self, blobs: Sequence[str]) -> dict[str, int]:
        data = "".join(f"{blob}\n" for blob in blobs).encode()
        out = self._run.local(["cat-file", "--batch-check=%(objectname) %(objectsize)"], data=data).decode()
        return {name: int(size) for name, size in (line.split(" ", 1) for line in out.splitlines())}

    def _contents(self, blobs: Sequence[str]) -> dict[str, bytes]:
        out = self._run.local(["cat-file", "--batch"], data="".join(f"{blob}\n" for blob in blobs).encode())
        contents, position = {}, 0
        for _ in blobs:
            end = out.index(b"\n", position)
            name, _type, size = out[position:end].decode().split(" ")
            contents[name] = out[end + 1 : end + 1 + int(size)]
            position = end + 2 + int(size)
        return contents

    def _tree(self, base: str | None, files: Mapping[tuple[str, ...], str | None]) -> str | None:
        """Write the tree `base` with `files` changed (None removes); None when nothing is left in it."""
        lines = {}
        if base is not None:
            for line in self._run.local(["ls-tree", "-z", "--end-of-options", base]).split(b"\0"):
                if line:
                    lines[line.split(b"\t", 1)[1].decode(errors="surrogateescape")] = line
        below: dict[str, dict[tuple[str, ...], str | None]] = {}
        for parts, blob in files.items():
            if len(parts) > 1:
                below.setdefault(parts[0], {})[parts[1:]] = blob
            elif blob is None:
                lines.pop(parts[0], None)
            else:
                lines[parts[0]] = f"100644 blob {blob}\t{parts[0]}".encode()
        for name, inner in below.items():
            old = lines.pop(name, None)
            is_tree = old is not None and old.startswith(b"040000 tree ")
            sub = self._tree(old.split(b"\t")[0].split(b" ")[2].decode() if is_tree and old else None, inner)
            if sub is not None:
                lines[name] = f"040000 tree {sub}\t{name}".encode()
        if not lines:
            return None
        return self._run.local(["mktree", "-z", "--missing"], data=b"\0".join(lines.values()) + b"\0").decode().strip()


def _directory_name(remote: GitRemote, path: str) -> str:
    """Credentials are part of it: nobody reads from the cache what his own credentials do not open.

    Directories with all small files, with the files below some paths, and with commits only are kept apart: git takes a
    commit that it has for complete, and would fetch what is missing piece by piece.
    """
    mode = {".": "whole", HISTORY: "log"}.get(path, "part")
    digest = hashlib.sha256()
    for part in (
        remote.url.encode(),
        *(v for item in sorted(remote.secret.items()) for v in (item[0].encode(), item[1])),
    ):
        digest.update(len(part).to_bytes(8, "big") + part)
    return f"{digest.hexdigest()[:32]}-{mode}"


def _sweep(cache: Path) -> None:
    """Remove the directories that nobody has used for a day: credentials that are renewed every hour leave one each."""
    unused = time.time() - UNUSED_SECONDS
    for directory in cache.glob("*-*"):
        with contextlib.suppress(FileNotFoundError):  # another thread sweeps too
            if directory.stat().st_mtime < unused:
                shutil.rmtree(directory, ignore_errors=True)


def _checked_commit(commit: str) -> str:
    if not is_commit_id(commit):
        raise Stalled("RefRefused", f"{commit[:80]!r} is not a full commit id")
    return commit


def _patterns(ref: GitReference) -> list[str]:
    prefix = {"branch": "refs/heads/", "tag": "refs/tags/", "name": ""}.get(ref.kind)
    if prefix is None:
        return ["refs/tags/*"]
    name = f"{prefix}{ref.value}"
    if not is_ref_name(name):
        raise Stalled("RefRefused", f"the {ref.kind} {ref.value!r} is not a ref name")
    return [name, f"{name}^{{}}"]


def _chosen(ref: GitReference, found: Mapping[str, str], everything: Callable[[], bytes]) -> str:
    """The commit among ls-remote's answers; an annotated tag's `^{}` entry is the commit behind it."""
    if ref.kind == "semver":
        tags = [name.removeprefix("refs/tags/") for name in found if not name.endswith("^{}")]
        tag = newest(tags, ref.value)
        name = f"refs/tags/{tag}" if tag is not None else ""
    else:
        name = _patterns(ref)[0]
    commit = found.get(f"{name}^{{}}") or found.get(name)
    if commit is not None:
        return _checked_commit(commit)
    if not everything().strip():
        raise Stalled("EmptyRepository", "the repository has no commits yet: push one")
    raise Stalled(
        "RefNotFound", f"the {ref.kind} {ref.value} does not exist in the repository: create it or correct spec.ref"
    )


def _file(entry: str, prefix: str) -> GitFile:
    meta, name = entry.split("\t", 1)
    mode, _type, blob = meta.split(" ")
    return GitFile(prefix + name, blob, mode)


def _commit_trailers(text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    commit, _, rest = text.strip().partition("\0")
    pairs = (line.partition(":") for line in rest.splitlines() if ":" in line)
    return commit, tuple((key.strip(), value.strip()) for key, _, value in pairs)


def _remote_error(text: str, url: str) -> PerennialError:
    """What a failed talk with the remote means. The texts are git's and its servers' (LC_ALL=C)."""
    lowered = text.lower()
    words = bounded(_gist(text), MESSAGE_BYTES)

    def says(phrases: Iterable[str]) -> bool:
        return any(phrase in lowered for phrase in phrases)

    if says(_REFUSED):
        return Stalled("PushRefused", f"{url} refused the push: {words}")
    if says(_MOVED):  # also a race that only the server saw, which it tells as a remote rejection
        return Conflict("BranchMoved", "the branch moved while the commit was made")
    if _REJECTED in lowered:
        return Stalled("PushRefused", f"{url} refused the push: {words}")
    if says(_AUTHENTICATION):
        return Stalled("AuthenticationFailed", f"{url} refused the credentials: {words}")
    if says(_MISSING):
        return Stalled("RepositoryNotFound", f"{url} was not found (or the credentials may not see it): {words}")
    return Unavailable("FetchFailed", f"{url} cannot be used: {words}")


def _gist(text: str) -> str:
    """The lines of git's output that say what is wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    wrong = [line for line in lines if re.match(r"(fatal|error|remote|ERROR|ssh| ?!)", line)]
    return "; ".join((wrong or lines)[-3:]) or "git said nothing"
