"""The demo's Git server as a fixture, and a person who commits to a served repository.

The person writes with `git fast-import` straight into the bare repository: one process a commit, no work tree.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from examples.gitserver.server import GitServer, create_repository, git_environment

__all__ = ["GitServer", "Person", "create_repository"]

ADA = "Ada <ada@example.org>"
_TIME = "1764000000 +0000"


class Person:
    """Somebody with a clone that is always fresh."""

    def __init__(self, bare: Path, *, branch: str = "main") -> None:
        self.bare, self.branch = bare, branch

    def git(self, *arguments: str, data: bytes | None = None) -> str:
        """Run git in the served repository; its output."""
        done = subprocess.run(
            ["git", "--git-dir", str(self.bare), *arguments],
            env=git_environment(),
            check=True,
            capture_output=True,
            input=data,
        )
        return done.stdout.decode().strip()

    def push(
        self,
        files: Mapping[str, str | None],
        message: str = "change",
        *,
        links: Mapping[str, str] | None = None,
        onto: str | None = None,
        author: str = ADA,
    ) -> str:
        """Commit files (None removes one) and links (to targets); the commit id. `onto`: rewrite history from there."""
        ref = f"refs/heads/{self.branch}"
        parent = onto or (f"{ref}^0" if self.head() else None)
        who = [f"author {author} {_TIME}", f"committer {ADA} {_TIME}"]
        lines = [f"commit {ref}", *who, _data(message), f"from {parent}" if parent else ""]
        for name, text in files.items():
            lines.append(f"D {name}" if text is None else f"M 100644 inline {name}\n{_data(text)}")
        lines += [f"M 120000 inline {name}\n{_data(target)}" for name, target in (links or {}).items()]
        script = "\n".join(line for line in lines if line) + "\n"
        self.git("fast-import", "--quiet", "--force", data=script.encode())
        return self.head()

    def head(self) -> str:
        """The branch's commit, "" when there is none."""
        return self.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{self.branch}")

    def reset(self, commit: str) -> None:
        """Force the branch to a commit, "" deletes it."""
        ref = f"refs/heads/{self.branch}"
        self.git("update-ref", *([ref, commit] if commit else ["-d", ref]))

    def read(self, name: str) -> str:
        """A file's text at the head (without trailing line breaks)."""
        return self.git("cat-file", "blob", f"{self.branch}:{name}")

    def names(self, folder: str) -> list[str]:
        """Names of the files right below a folder at the head."""
        entries = self.git("ls-tree", f"{self.branch}:{folder}").splitlines()
        return [entry.split("\t")[1] for entry in entries if " blob " in entry]

    def log(self) -> list[str]:
        """Subjects of the branch, newest first."""
        return self.git("log", "--format=%s", self.branch).splitlines()


def _data(text: str) -> str:
    raw = text.encode()
    return f"data {len(raw)}\n{text}"
