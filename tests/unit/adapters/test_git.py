"""The git adapter against a real server: environment, credentials, limits, and a cache that may break at any time."""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from perennial.adapters import git as adapter
from perennial.adapters.git import UNUSED_SECONDS, GitRepositories, GitSettings
from perennial.adapters.git_access import base_environment, opened
from perennial.domain.authors import Author
from perennial.domain.errors import Conflict, PerennialError, Stalled, Transient, Unavailable
from perennial.domain.sync.repository import GitChange, GitReference, GitRemote
from tests.support.git_server import GitServer, Person, create_repository

MAIN = GitReference("branch", "main")
USER = {"username": b"ada", "password": b"canary-password"}


class Bench:
    """A served repository and an adapter with its cache."""

    def __init__(self, folder: Path, credentials: tuple[str, str] | None = None) -> None:
        self.person = Person(create_repository(folder / "srv", "rain"))
        self.server = GitServer(("127.0.0.1", 0), folder / "srv", credentials=credentials)
        self.server.start()
        self.cache = folder / "cache"
        self.git = GitRepositories(GitSettings(self.cache, workers=2, allow_insecure=True))
        self.remote = GitRemote(self.server.url("rain"), {}, 20)

    async def contents(self, path: str = ".") -> dict[str, bytes | None]:
        """All files at the head, as the controllers read them."""
        head = await self.git.head(self.remote, MAIN)
        files = await self.git.files(self.remote, head, path)
        blobs = await self.git.read(self.remote, head, path, [file.blob for file in files])
        return {file.path: blobs[file.blob] for file in files}

    def change(self, parent: str, **files: str | None) -> GitChange:
        """A change that is the same each time."""
        given = {name.replace("__", "/"): None if text is None else text.encode() for name, text in files.items()}
        return GitChange(
            parent, given, "Subject\n\nPerennial-Change: x\n", "P", "p@x", datetime(2026, 1, 1, tzinfo=UTC)
        )

    def close(self) -> None:
        """Stop everything."""
        self.server.shutdown()
        self.server.server_close()
        self.git.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Without credentials."""
    made = Bench(tmp_path)
    yield made
    made.close()


async def test_reads_a_whole_repository_and_a_path_of_it(bench: Bench) -> None:
    big = "x" * ((1 << 20) + 1)
    bench.person.push({"a.yaml": "a", "app/b.yaml": "b", "app/deep/c.yaml": "c", "big.yaml": big, "app/big.yaml": big})
    assert await bench.contents() == {
        "a.yaml": b"a", "app/b.yaml": b"b", "app/deep/c.yaml": b"c", "big.yaml": None, "app/big.yaml": None
    }  # fmt: skip
    assert await bench.contents("app") == {"app/b.yaml": b"b", "app/deep/c.yaml": b"c", "app/big.yaml": None}
    bench.person.push({"app/b.yaml": "b2", "app/deep/c.yaml": None})
    assert await bench.contents("app") == {"app/b.yaml": b"b2", "app/big.yaml": None}


async def test_of_a_path_only_its_own_files_are_fetched(bench: Bench) -> None:
    bench.person.push({"app/b.yaml": "b", "huge.bin": os.urandom(1 << 16).hex()})
    await bench.contents("app")
    packs = list(bench.cache.rglob("*.pack"))
    assert sum(path.stat().st_size for path in packs) < 1 << 14


async def test_refs_of_every_sort(bench: Bench) -> None:
    first = bench.person.push({"a": "1"})
    bench.person.git("-c", "user.name=A", "-c", "user.email=a@b", "tag", "-a", "v1.0.0", "-m", "one", "main")
    second = bench.person.push({"a": "2"})
    bench.person.git("tag", "v1.1.0", "main")
    wanted = {
        ("branch", "main"): second, ("tag", "v1.0.0"): first, ("semver", "^1.0"): second,
        ("name", "refs/tags/v1.0.0"): first, ("commit", first): first,
    }  # fmt: skip
    for (kind, value), commit in wanted.items():
        assert await bench.git.head(bench.remote, GitReference(kind, value)) == commit  # type: ignore[arg-type]


async def failure(work: Any) -> PerennialError:
    """The error that it raises."""
    with pytest.raises(PerennialError) as caught:
        await work
    return caught.value


async def test_every_failure_has_its_reason(bench: Bench) -> None:
    head = bench.git.head
    assert (await failure(head(bench.remote, MAIN))).reason == "EmptyRepository"
    commit = bench.person.push({"app/a": "1"})
    assert (await failure(head(bench.remote, GitReference("branch", "no")))).reason == "RefNotFound"
    assert (await failure(head(bench.remote, GitReference("branch", "--upload-pack=id")))).reason == "RefRefused"
    assert (await failure(head(bench.remote, GitReference("commit", "abc")))).reason == "RefRefused"
    assert (await failure(bench.git.files(bench.remote, commit, "nope"))).reason == "PathNotFound"
    assert (await failure(bench.git.files(bench.remote, commit, "app/a"))).reason == "PathNotFound"
    missing = GitRemote(bench.server.url("none"), {}, 20)
    assert (await failure(head(missing, MAIN))).reason == "RepositoryNotFound"
    assert (await failure(head(GitRemote("http://127.0.0.1:1/x"), MAIN))).reason == "FetchFailed"
    assert (await failure(head(GitRemote("http://no.such.host.invalid/x"), MAIN))).reason == "HostNotFound"
    assert (await failure(head(GitRemote("ext::sh -c id"), MAIN))).reason == "AddressRefused"
    assert (await failure(head(GitRemote("ssh://git@h/x"), MAIN))).reason == "CredentialsMissing"
    for path in ("../x", ".git/config", "/x"):
        change = GitChange(commit, {path: b""}, "m", "P", "p@x", datetime(2026, 1, 1, tzinfo=UTC))
        assert (await failure(bench.git.commit(bench.remote, ".", change))).reason == "PathRefused"


async def test_loopback_and_plain_http_need_the_operators_settings(bench: Bench, tmp_path: Path) -> None:
    strict = GitRepositories(GitSettings(tmp_path / "strict"))
    refused = await failure(strict.head(bench.remote, MAIN))
    assert isinstance(refused, Stalled) and refused.reason == "AddressRefused"
    local = await failure(strict.head(GitRemote("https://localhost/x"), MAIN))
    assert "no repository may have" in local.message
    strict.close()


async def test_a_redirect_is_not_followed(bench: Bench) -> None:
    bench.server.refuse = 302
    assert isinstance(await failure(bench.git.head(bench.remote, MAIN)), Unavailable)


async def test_commit_and_push_are_a_compare_and_swap(bench: Bench) -> None:
    head = bench.person.push({"a": "1", "app/b": "2"})
    change = bench.change(head, app__new__c="3", app__b=None)
    commit = await bench.git.commit(bench.remote, ".", change)
    assert await bench.git.commit(bench.remote, ".", change) == commit
    await bench.git.push(bench.remote, ".", "main", commit, head)
    assert bench.person.head() == commit
    assert bench.person.git("ls-tree", "-r", "--name-only", "main").splitlines() == ["a", "app/new/c"]
    other = await bench.git.commit(bench.remote, ".", bench.change(head, a="4"))
    refused = await failure(bench.git.push(bench.remote, ".", "main", other, head))
    assert isinstance(refused, Conflict) and refused.reason == "BranchMoved"
    bench.person.reset(head)
    late = await bench.git.commit(bench.remote, ".", bench.change(commit, a="5"))
    assert isinstance(await failure(bench.git.push(bench.remote, ".", "main", late, commit)), Conflict)
    assert bench.person.head() == head


async def test_a_commit_keeps_files_that_were_never_fetched(bench: Bench) -> None:
    head = bench.person.push({"other/a": "1" * 100, "app/b": "2", "app/link": "x"}, links={"app/l": "b"})
    await bench.git.files(bench.remote, head, "app")
    commit = await bench.git.commit(bench.remote, "app", bench.change(head, app__b="3"))
    await bench.git.push(bench.remote, "app", "main", commit, head)
    assert bench.person.read("other/a") == "1" * 100 and bench.person.read("app/b") == "3"
    assert "120000 blob" in bench.person.git("ls-tree", "main:app")


async def test_authors_are_those_of_every_commit_since_or_of_the_head_alone(bench: Bench) -> None:
    first = bench.person.push({"a": "1"}, author="Bob <bob@example.org>")
    for number, author in enumerate(("Ada <ada@example.org>", "Zoë <z@example.org>", "Ada <ada@example.org>")):
        head = bench.person.push({"a": f"2{number}"}, author=author)
    ada, zoe = Author("Ada", "ada@example.org"), Author("Zoë", "z@example.org")
    assert await bench.git.authors(bench.remote, head, first) == (ada, zoe)
    assert await bench.git.authors(bench.remote, head, None) == (ada,)
    assert await bench.git.authors(bench.remote, head, head) == (ada,)
    rewritten = bench.person.push({"a": "3"}, onto=first, author="Eve <eve@example.org>")
    assert await bench.git.authors(bench.remote, rewritten, head) == (Author("Eve", "eve@example.org"),)


async def test_history_gives_trailers_since_a_commit_or_says_that_it_was_rewritten(bench: Bench) -> None:
    first = bench.person.push({"a": "0"})
    for number in range(30):
        bench.person.push({"a": str(number)}, f"Change\n\nPerennial-Change: id{number}\n")
    head = bench.person.head()
    found = await bench.git.history(bench.remote, head, first)
    assert found.reached
    assert [dict(trailers).get("Perennial-Change") for _, trailers in found.trailers] == [
        f"id{n}" for n in range(29, -1, -1)
    ]
    rewritten = bench.person.push({"b": "1"}, "New\n\nPerennial-Change: new\n", onto=first)
    found = await bench.git.history(bench.remote, rewritten, head)
    assert not found.reached
    assert [dict(trailers) for _, trailers in found.trailers] == [{"Perennial-Change": "new"}, {}]


async def test_credentials_open_and_are_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, credentials=("ada", "canary-password"))
    bench.person.push({"a": "1"})
    arguments: list[str] = []
    execute = adapter.Git.execute

    def spy(self: Any, command: list[str], *rest: Any, **options: Any) -> Any:
        arguments.extend(command)
        return execute(self, command, *rest, **options)

    monkeypatch.setattr(adapter.Git, "execute", spy)
    refused = await failure(bench.git.head(bench.remote, MAIN))
    assert refused.reason == "AuthenticationFailed"
    bench.remote = GitRemote(bench.remote.url, USER, 20)
    assert await bench.contents() == {"a": b"1"}
    wrong = GitRemote(bench.remote.url, {"username": b"ada", "password": b"canary-wrong"}, 20)
    refused = await failure(bench.git.head(wrong, MAIN))
    seen = " ".join([*arguments, refused.message, repr(bench.remote)])
    assert "canary" not in seen and "Y2FuYXJ5" not in seen and "Basic" not in seen
    for path in bench.cache.rglob("*"):
        if path.is_file():
            assert b"canary" not in path.read_bytes()
    assert await failure(bench.git.files(wrong, bench.person.head(), "."))
    bench.close()


async def test_nothing_of_the_users_environment_reaches_git(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.person.push({"a": "1"})
    for name in ("GIT_DIR", "GIT_CONFIG_PARAMETERS", "http_proxy", "https_proxy", "GIT_SSH", "GIT_EXEC_PATH"):
        monkeypatch.setenv(name, "/nonexistent")
    assert await bench.contents() == {"a": b"1"}


async def test_a_server_that_never_answers_is_given_up_with_all_processes(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        git = GitRepositories(GitSettings(tmp_path / "cache", allow_insecure=True))
        remote = GitRemote(f"http://127.0.0.1:{listener.getsockname()[1]}/x.git", {}, 0.3)
        given_up = await failure(git.head(remote, MAIN))
        assert given_up.reason == "TimedOut"
        git.close()
        listener.settimeout(5)
        connection, _ = listener.accept()
        connection.settimeout(5)
        with connection, contextlib.suppress(ConnectionResetError):
            while connection.recv(4096):
                pass


@pytest.mark.parametrize("damage", ["pack", "head", "lock"])
async def test_a_broken_cache_is_thrown_away_and_made_anew(bench: Bench, damage: str) -> None:
    bench.person.push({"a": "1"})
    await bench.contents()
    directory = next(path for path in bench.cache.iterdir() if path.name != "home")
    if damage == "pack":
        for pack in directory.rglob("*.pack"):
            pack.chmod(0o644)
            pack.write_bytes(b"garbage")
    elif damage == "head":
        (directory / "HEAD").write_text("garbage")
    else:
        (directory / "shallow.lock").write_text("")
    for _ in range(2):
        try:
            found = await bench.contents()
        except Transient as failed:
            assert failed.reason in ("CacheBroken", "FetchFailed")
    assert found == {"a": b"1"}


async def test_credentials_that_are_renewed_leave_no_directories_for_ever(bench: Bench) -> None:
    bench.person.push({"a": "1"})
    await bench.contents()  # makes the directory of the first credentials
    await bench.git.authors(bench.remote, bench.person.head(), None)
    whole, log = (next(bench.cache.glob(f"*-{mode}")) for mode in ("whole", "log"))
    for directory in (whole, log):
        os.utime(directory, (0, time.time() - UNUSED_SECONDS - 60))
    await bench.contents()
    bench.remote = replace(bench.remote, secret=USER)
    await bench.contents()
    assert whole.exists(), "used a moment ago"
    assert not log.exists()
    assert len(list(bench.cache.glob("*-whole"))) == 2


async def test_writers_on_one_branch_all_land_exactly_once(bench: Bench) -> None:
    bench.person.push({"app/a": "0"})

    async def write(number: int) -> None:
        for _ in range(60):
            head = await bench.git.head(bench.remote, MAIN)
            commit = await bench.git.commit(bench.remote, ".", bench.change(head, **{f"app__w{number}": "x"}))
            try:
                return await bench.git.push(bench.remote, ".", "main", commit, head)
            except Conflict:
                await asyncio.sleep(0)
        raise AssertionError("never landed")

    await asyncio.gather(*(write(number) for number in range(5)))
    assert len(bench.person.log()) == 6
    assert len(bench.person.names("app")) == 6


def test_ssh_keys_live_in_private_files_and_only_as_long_as_the_command(tmp_path: Path) -> None:
    secret = {"identity": b"canary-key", "known_hosts": b"h ssh-ed25519 AAAA", "password": b"canary-phrase"}
    remote = GitRemote("ssh://git@127.0.0.1/x", secret)
    with opened(remote, base_environment(tmp_path, allow_insecure=True), allow_insecure=True) as environment:
        command = environment["GIT_SSH_COMMAND"]
        identity = Path(command.split(" -i ")[1].split()[0])
        assert identity.read_bytes() == b"canary-key\n"
        assert identity.stat().st_mode & 0o777 == 0o600 and identity.parent.stat().st_mode & 0o777 == 0o700
        assert "StrictHostKeyChecking=yes" in command and "canary" not in command
        assert b"canary" not in Path(environment["SSH_ASKPASS"]).read_bytes()
    assert not identity.exists()


def test_the_environment_forbids_what_git_could_run(tmp_path: Path) -> None:
    base = base_environment(tmp_path, allow_insecure=False)
    assert base["GIT_ALLOW_PROTOCOL"] == "https:ssh"
    remote = GitRemote("http://127.0.0.1/x")
    with opened(remote, base, allow_insecure=True) as environment:
        count = int(environment["GIT_CONFIG_COUNT"])
        config = {environment[f"GIT_CONFIG_KEY_{n}"]: environment[f"GIT_CONFIG_VALUE_{n}"] for n in range(count)}
    assert config["core.hooksPath"] == "/dev/null" and config["http.followRedirects"] == "false"
    assert config["protocol.ext.allow"] == "never" and config["transfer.fsckObjects"] == "true"


@pytest.mark.parametrize(
    "why",
    [
        "cannot lock ref 'refs/heads/main': is at 1111 but expected 2222",
        "failed to update ref",
        "incorrect old value provided",
        "reference already exists",
    ],
)
def test_a_race_that_only_the_server_saw_is_a_moved_branch(why: str) -> None:
    text = f" ! [remote rejected] 1111 -> main ({why})\nerror: failed to push some refs to 'https://h/rain'\n"
    moved = adapter._remote_error(text, "https://h/rain")
    assert isinstance(moved, Conflict) and moved.reason == "BranchMoved"


@pytest.mark.parametrize("why", ["pre-receive hook declined", "protected branch hook declined", "n/a (unpacker error)"])
def test_a_push_that_the_server_does_not_want_is_refused(why: str) -> None:
    refused = adapter._remote_error(f" ! [remote rejected] 1111 -> main ({why})\n", "https://h/rain")
    assert isinstance(refused, Stalled) and refused.reason == "PushRefused"
