"""The demo's Git server as a fixture, and a person's clone of a repository to commit with."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from examples.gitserver.server import GitServer, create_repository, git_environment

__all__ = ["Checkout", "GitServer", "create_repository"]


class Checkout:
    """A person's work tree of a served repository."""

    def __init__(self, folder: Path, bare: Path, *, branch: str = "main") -> None:
        self.folder, self.bare, self.branch = folder, bare, branch
        folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", f"--initial-branch={branch}")
        self.git("remote", "add", "origin", str(bare))

    def git(self, *arguments: str) -> str:
        """Run git in the work tree as a person would; its output."""
        environment = git_environment() | {
            "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org",
            "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org",
        }  # fmt: skip
        done = subprocess.run(
            ["git", *arguments], cwd=self.folder, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def push(self, files: Mapping[str, str | None], message: str = "change", *, force: bool = False) -> str:
        """Write files (None removes one), commit and push; the commit id."""
        for name, text in files.items():
            path = self.folder / name
            if text is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all", ".")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        self.git("push", "--quiet", *(["--force"] if force else []), "origin", self.branch)
        return self.git("rev-parse", "HEAD")

    def pull(self) -> str:
        """Take what others pushed; the commit id."""
        self.git("fetch", "--quiet", "origin", self.branch)
        self.git("reset", "--quiet", "--hard", f"origin/{self.branch}")
        return self.git("rev-parse", "HEAD")

    def read(self, name: str) -> str:
        """A file's text."""
        return (self.folder / name).read_text()

    def log(self) -> list[str]:
        """Subjects of the branch, newest first."""
        return self.git("log", "--format=%s").splitlines()

    def symlink(self, name: str, target: str) -> None:
        """Make a symbolic link in the work tree."""
        os.symlink(target, self.folder / name)
