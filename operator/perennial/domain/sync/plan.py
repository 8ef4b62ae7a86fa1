"""From pending changes to the contents of one commit: which files change, into what, and how each change ends.

Every edit is a compare-and-swap on the documents at the head: a field that a person moved is left alone (Superseded),
a record that is there already is not written again. Must not read the repository or the cluster.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from perennial.api import kinds
from perennial.domain.sync import records
from perennial.domain.sync.documents import Document, parse_file
from perennial.domain.sync.edit import CannotEdit, edit_records, field_of, render_document, set_version
from perennial.domain.sync.outbox import Change
from perennial.domain.sync.selection import ARCHIVE, VERSIONS, below

Outcome = Literal["Written", "Superseded"]


@dataclass(frozen=True, slots=True)
class Head:
    """The documents of the commit that is built upon, and the bytes of the files that may change."""

    path: str
    documents: Sequence[Document]
    contents: Mapping[str, bytes]
    names: frozenset[str] = frozenset()


@dataclass(slots=True)
class Plan:
    """files: new contents by path (None removes). outcomes: how each change ends, by id, with its sentence."""

    files: dict[str, bytes | None] = field(default_factory=dict)
    outcomes: dict[str, tuple[Outcome, str]] = field(default_factory=dict)


def find(documents: Iterable[Document], kind: kinds.Kind, name: str) -> Document | None:
    """The one document of that kind and name. Of several the one that sets the version; CannotEdit names the places."""
    found = [
        document
        for document in documents
        if document.content.get("kind") == kind.kind
        and document.content.get("apiVersion") == kind.api_version
        and field_of(document.content, ("metadata", "name")) == name
    ]
    if len(found) > 1:
        setting = [document for document in found if field_of(document.content) is not None]
        found = setting if len(setting) == 1 else found
    if len(found) > 1:
        places = " and ".join(document.place for document in found)
        raise CannotEdit(f"{kind.kind} {name} is defined at {places}: keep one of them")
    return found[0] if found else None


def serving_documents(documents: Iterable[Document], deployment: str) -> list[Document]:
    """ModelVersion documents with an open served entry of a deployment."""
    return [
        document
        for document in documents
        if document.content.get("kind") == kinds.MODEL_VERSION.kind
        and records.is_readable(document.content.get("spec"))
        and records.open_served(document.content["spec"], deployment) is not None
    ]


def needed_files(changes: Sequence[Change], documents: Sequence[Document], archive: Sequence[str]) -> set[str]:
    """Paths whose bytes `plan` needs."""
    paths: set[str] = set()
    for change in changes:
        wanted = [find(documents, kinds.MODEL_VERSION, change.version)]
        if change.kind in ("Update", "Revert"):
            wanted.append(find(documents, kinds.MODEL_DEPLOYMENT, change.deployment))
        if change.kind == "Served":
            wanted += serving_documents(documents, change.deployment)
        paths |= {document.path for document in wanted if document is not None}
    for name in archive:
        document = find(documents, kinds.MODEL_VERSION, name)
        paths |= {document.path} if document is not None else set()
    return paths


def plan(changes: Sequence[Change], head: Head, live: Mapping[str, Mapping[str, Any]], archive: Sequence[str]) -> Plan:
    """The commit for `changes`. live: ModelVersion objects by name, for versions that Git lacks. CannotEdit when no."""
    state = _State(head, live)
    result = Plan()
    for change in changes:
        outcome: tuple[Outcome, str]
        if change.kind != "Revert" and not state.knows(change.version):
            outcome = "Superseded", f"{change.version} is neither in the repository nor in the cluster any more"
        elif change.kind == "Update":
            outcome = _update(state, change)
        elif change.kind == "Revert":
            outcome = _revert(state, change)
        elif change.kind == "Served":
            outcome = _served(state, change)
        else:
            outcome = _reject(state, change)
        result.outcomes[change.id] = outcome
    for name in archive:
        state.archive(name)
    result.files = {path: data for path, data in state.changed.items() if data != head.contents.get(path)}
    return result


def _update(state: "_State", change: Change) -> tuple[Outcome, str]:
    moved = state.swap(change)
    state.record(change.version, lambda spec: records.add_proposed(spec, change.deployment, change.moment))
    if moved is None:
        return "Written", f"{change.version} was proposed to {change.deployment}"
    return "Superseded", f"{change.version} was not rolled out to {change.deployment}: {moved}"


def _revert(state: "_State", change: Change) -> tuple[Outcome, str]:
    moved = state.swap(change)
    if moved is None:
        return "Written", f"{change.deployment} went back to {change.to_version}: the canary of {change.version} failed"
    return "Superseded", f"{change.deployment} was not taken back to {change.to_version}: {moved}"


def _served(state: "_State", change: Change) -> tuple[Outcome, str]:
    for document in serving_documents(state.head.documents, change.deployment):
        name = document.content["metadata"]["name"]
        if name != change.version:
            state.record(name, lambda spec: records.close_served(spec, change.deployment, change.moment))
    entry = {"fromTime": change.moment} | ({"approvedBy": change.approved_by} if change.approved_by else {})
    state.record(change.version, lambda spec: records.add_served(spec, change.deployment, entry))
    return "Written", f"{change.version} serves {change.deployment} since {change.moment}"


def _reject(state: "_State", change: Change) -> tuple[Outcome, str]:
    entry = {"revision": change.revision, "reason": change.word, "message": change.reason, "time": change.moment}
    given = {key: value for key, value in entry.items() if value is not None}
    state.record(change.version, lambda spec: records.add_rejection(spec, change.deployment, given))
    return "Written", f"{change.version} is rejected for {change.deployment}: {change.reason}"


class _State:
    """The files as they become, edit by edit. Lines move with each edit, so documents are looked up anew by name."""

    def __init__(self, head: Head, live: Mapping[str, Mapping[str, Any]]) -> None:
        self.head = head
        self.live = live
        self.changed: dict[str, bytes | None] = {}
        self._documents = list(head.documents)

    def knows(self, version: str) -> bool:
        """Whether there is a document or an object of the version to write its records into."""
        return version in self.live or find(self._documents, kinds.MODEL_VERSION, version) is not None

    def swap(self, change: Change) -> str | None:
        """Set the deployment's version if it still holds `from`; the sentence that says what it holds instead."""
        document = find(self._documents, kinds.MODEL_DEPLOYMENT, change.deployment)
        if document is None:
            return "its document left the repository"
        now = field_of(document.content)
        if now == change.to_version:
            return None
        if now != change.from_version or change.to_version is None:
            return f"the repository names {now or 'no version'} now"
        self._put(document.path, set_version(self._bytes(document.path), document, change.to_version))
        return None

    def record(self, version: str, edit: Callable[[records.Spec], None]) -> None:
        """Change the records in the version's document; make the document from the live object when there is none."""
        document = find(self._documents, kinds.MODEL_VERSION, version)
        if document is not None:
            self._put(document.path, edit_records(self._bytes(document.path), document, edit))
            return
        path = below(self.head.path, f"{VERSIONS}/{version}.yaml")
        if path in self.head.names:
            raise CannotEdit(
                f"{path} exists and holds something else: rename it, so that {version} can be written there"
            )
        obj = {**self.live[version], "spec": copy.deepcopy(dict(self.live[version]["spec"]))}
        edit(obj["spec"])
        self._put(path, render_document(records.document_of(obj)))

    def archive(self, version: str) -> None:
        """Move a version's own file to the archive, without its baseline."""
        document = find(self._documents, kinds.MODEL_VERSION, version)
        own = below(self.head.path, f"{VERSIONS}/{version}.yaml")
        if document is None or document.path != own:
            return
        data = edit_records(self._bytes(own), document, lambda spec: spec.pop("baseline", None))
        self.changed[own] = None
        self.changed[below(self.head.path, f"{ARCHIVE}/{version}.yaml")] = data

    def _bytes(self, path: str) -> bytes:
        data = self.changed.get(path, self.head.contents.get(path))
        if data is None:
            raise CannotEdit(f"{path} was not read")
        return data

    def _put(self, path: str, data: bytes) -> None:
        self.changed[path] = data
        others = [document for document in self._documents if document.path != path]
        self._documents = [*others, *parse_file(path, data).documents]


def to_archive(
    documents: Sequence[Document], path: str, model: str, limit: int, kept: Iterable[str]
) -> tuple[str, ...]:
    """Versions of a model beyond the newest `limit` whose own files move to the archive; never one in `kept`."""
    spared = set(kept)
    own = [
        document
        for document in documents
        if document.content.get("kind") == kinds.MODEL_VERSION.kind
        and records.is_readable(document.content.get("spec"))
        and document.content["spec"].get("model") == model
        and document.path == below(path, f"{VERSIONS}/{field_of(document.content, ('metadata', 'name'))}.yaml")
    ]
    own.sort(key=lambda document: records.finished(document.content["spec"]), reverse=True)
    return tuple(
        name
        for document in own[limit:]
        if (name := document.content["metadata"]["name"]) not in spared
        and not any(not entry.get("toTime") for entry in document.content["spec"].get("served") or ())
    )
