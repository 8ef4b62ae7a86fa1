"""Who wrote a change in Git, and whether somebody who gives a command is one of them. Pure.

A user name is compared with what a commit says of its author, nothing else is known here: names are equal when they are
the author's whole email address, its part before the @, or the author's name, without regard to case.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

MAX_AUTHORS = 64
MAX_LENGTH = 256


@dataclass(frozen=True, slots=True)
class Author:
    """The author of a commit, as the commit says."""

    name: str
    email: str

    @property
    def words(self) -> str:
        """As Git shows one."""
        return f"{self.name} <{self.email}>" if self.email else self.name


def authors_text(authors: Iterable[Author]) -> str | None:
    """The annotation for these authors, each once. None, for not known, without any or with more than can be kept."""
    kept = list(dict.fromkeys(Author(a.name[:MAX_LENGTH], a.email[:MAX_LENGTH]) for a in authors))
    if not 0 < len(kept) <= MAX_AUTHORS:
        return None
    return json.dumps([{"name": a.name, "email": a.email} for a in kept], ensure_ascii=False, separators=(",", ":"))


def read_authors(text: str | None) -> tuple[Author, ...]:
    """The authors in an annotation; empty when it does not tell any."""
    try:
        found = json.loads(text or "[]")
        return tuple(Author(str(a["name"])[:MAX_LENGTH], str(a["email"])[:MAX_LENGTH]) for a in found)[:MAX_AUTHORS]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ()


def written_by(user: str, authors: Iterable[Author]) -> Author | None:
    """The author who this user is; None when the user is none of them."""
    asked = user.casefold()
    return next((author for author in authors if asked in _names(author)), None)


def _names(author: Author) -> set[str]:
    email = author.email.casefold()
    return {author.name.casefold(), email, email.rpartition("@")[0]} - {""}
