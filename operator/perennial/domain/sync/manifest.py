"""From the documents of a revision to the objects that may be applied, and the errors of those that may not.

Every object lands in the GitSync's own namespace and carries its mark (label `perennial.dev/sync`) and where it came
from (annotation `perennial.dev/path`). Must not talk to a cluster: what only the API server can know is its dry run's
business.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from perennial.api import kinds, names
from perennial.api.kinds import Kind
from perennial.domain.decision import JsonObject
from perennial.domain.sync.documents import Document, SourceError

ORDER = (
    kinds.CONFIG_MAP,
    kinds.SECRET,
    kinds.SERVICE_ACCOUNT,
    kinds.ROLE,
    kinds.ROLE_BINDING,
    kinds.PERSISTENT_VOLUME_CLAIM,
    kinds.SERVICE,
    kinds.NETWORK_POLICY,
    kinds.DEPLOYMENT,
    kinds.JOB,
    kinds.HPA,
    kinds.PDB,
    kinds.HTTP_ROUTE,
    kinds.MODEL_VERSION,
    kinds.MODEL_DEPLOYMENT,
    kinds.TRAINING_JOB,
    kinds.DRIFT_POLICY,
    kinds.GIT_SYNC,
)
"""What may be applied, in the order of applying: a version is there before the deployment and the run that name it."""

OPEN_KINDS = frozenset((*kinds.OUR_KINDS, kinds.CONFIG_MAP, kinds.SERVICE))
"""What may be applied without an account named in spec.serviceAccountName."""

_RANK = {kind: rank for rank, kind in enumerate(ORDER)}
_METADATA = frozenset(("name", "namespace", "labels", "annotations"))
_DROPPED_METADATA = frozenset(("creationTimestamp",))


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose objects these are: the GitSync's namespace and name, and what it may do."""

    namespace: str
    sync: str
    named_account: bool = False
    follow: bool = False


@dataclass(frozen=True, slots=True, order=True)
class ObjectId:
    """Names one object of the namespace, whatever its API version. Sorted and printed as an inventory entry."""

    group: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}/{self.name}" if self.group else f"{self.kind}/{self.name}"

    @property
    def words(self) -> str:
        """How a message names it."""
        return f"{self.kind} {self.name}"


def parse_id(text: str) -> ObjectId:
    """The ObjectId of an inventory entry."""
    kind, _, name = text.partition("/")
    word, _, group = kind.partition(".")
    return ObjectId(group, word, name)


def kind_of(entry: ObjectId) -> Kind | None:
    """The Kind of an inventory entry; None for one that this version of the operator does not know."""
    return next((kind for kind in ORDER if kind.group == entry.group and kind.kind == entry.kind), None)


@dataclass(frozen=True, slots=True)
class Mark:
    """Where an object's document last changed; authors: who wrote that, as the annotation says it."""

    commit: str
    authors: str | None = None


@dataclass(frozen=True, slots=True)
class DesiredObject:
    """One object as Git wants it. `body` lacks the commit annotation; `digest` is the hash of `body`."""

    id: ObjectId
    kind: Kind
    path: str
    line: int
    body: JsonObject
    digest: str

    @property
    def place(self) -> str:
        """`path:line`."""
        return f"{self.path}:{self.line}"

    @property
    def asks_authors(self) -> bool:
        """Whether it must be known who wrote its change: a ModelDeployment that forbids approving one's own."""
        if self.kind != kinds.MODEL_DEPLOYMENT:
            return False
        spec = self.body.get("spec")
        rollout = spec.get("rollout") if isinstance(spec, dict) else None
        return isinstance(rollout, dict) and rollout.get("forbidOwnApproval") is True

    def rendered(self, mark: Mark) -> JsonObject:
        """What is applied: the body with the commit in which this document last changed."""
        metadata = dict(self.body["metadata"])
        metadata["annotations"] = {**metadata["annotations"], names.ANNOTATION_SYNC_COMMIT: mark.commit}
        if self.asks_authors and mark.authors is not None:
            metadata["annotations"][names.ANNOTATION_SYNC_AUTHORS] = mark.authors
        return {**self.body, "metadata": metadata}

    def error(self, message: str) -> SourceError:
        """An error at this document."""
        return SourceError(self.path, self.line, f"{self.id.words}: {message}")


def digest_of(body: Mapping[str, Any]) -> str:
    """Hash of canonical JSON, 16 hex digits."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def desired_objects(
    documents: Iterable[Document], scope: Scope
) -> tuple[tuple[DesiredObject, ...], tuple[SourceError, ...]]:
    """The objects in order of applying, and the errors. An object defined twice is an error of both places."""
    found: dict[ObjectId, list[DesiredObject]] = {}
    errors: list[SourceError] = []
    for document in documents:
        result = _desired(document, scope)
        if isinstance(result, SourceError):
            errors.append(result)
        else:
            found.setdefault(result.id, []).append(result)
    objects = []
    for same in found.values():
        if len(same) == 1:
            objects.append(same[0])
            continue
        places = " and ".join(item.place for item in same)
        errors.extend(item.error(f"defined more than once, at {places}: keep one of them") for item in same)
    return tuple(sorted(objects, key=lambda o: (_RANK[o.kind], o.id))), tuple(errors)


def located(documents: Iterable[Document], scope: Scope) -> tuple[DesiredObject, ...]:
    """The documents of our kinds in this namespace, for a GitSync that only writes back. The rest is another tool's."""
    ours = {(kind.api_version, kind.kind) for kind in kinds.OUR_KINDS}
    found = []
    for document in documents:
        content = document.content
        if (content.get("apiVersion"), content.get("kind")) in ours:
            result = _desired(document, scope)
            if isinstance(result, DesiredObject):
                found.append(result)
    return tuple(found)


def _desired(document: Document, scope: Scope) -> DesiredObject | SourceError:
    problem = _identity_problem(document.content)
    if problem is not None:
        return SourceError(document.path, document.line, problem)
    content = document.content
    metadata: dict[str, Any] = content["metadata"]
    kind = kinds.find(content["apiVersion"], content["kind"])
    problem = _scope_problem(content, kind, scope) or _metadata_problem(metadata, scope)
    if problem is not None or kind is None:
        words = f"{content['kind']} {metadata['name']}"
        return SourceError(document.path, document.line, f"{words}: {problem}")
    body = {key: value for key, value in content.items() if key != "status"}
    body["metadata"] = {
        "name": metadata["name"],
        "namespace": scope.namespace,
        "labels": {**(metadata.get("labels") or {}), names.LABEL_SYNC: scope.sync},
        "annotations": {**(metadata.get("annotations") or {}), names.ANNOTATION_SYNC_PATH: document.path},
    }
    if scope.follow and kind in (kinds.TRAINING_JOB, kinds.DRIFT_POLICY) and isinstance(body.get("spec"), dict):
        body["spec"] = {**body["spec"], "suspend": True}
    entry = ObjectId(kind.group, kind.kind, metadata["name"])
    return DesiredObject(entry, kind, document.path, document.line, body, digest_of(body))


def _identity_problem(content: Mapping[str, Any]) -> str | None:
    for field in ("apiVersion", "kind"):
        if not isinstance(content.get(field), str) or not content[field]:
            return f"the document has no {field}: every document must have apiVersion, kind and metadata.name"
    metadata = content.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        return (
            f"the {content['kind']} has no metadata.name: every document must have apiVersion, kind and metadata.name"
        )
    return None


def _scope_problem(content: Mapping[str, Any], kind: Kind | None, scope: Scope) -> str | None:
    if kind is None or (kind.namespaced and kind not in _RANK):
        allowed = ", ".join(known.kind for known in ORDER)
        return f"{content['apiVersion']} {content['kind']} is not applied by Perennial; it applies {allowed}"
    if not kind.namespaced:
        return f"{kind.kind} is cluster-scoped; a GitSync applies only to its own namespace: remove it from spec.path"
    namespace = content["metadata"].get("namespace")
    if namespace not in (None, scope.namespace):
        return (
            f"it names namespace {namespace}; this GitSync applies only to its own namespace {scope.namespace}: "
            "remove metadata.namespace"
        )
    if kind not in OPEN_KINDS and not scope.named_account:
        return f"a {kind.kind} is applied only with an account of your own: set spec.serviceAccountName in the GitSync"
    if "sops" in content:
        return "it is encrypted with SOPS, which Perennial does not decrypt: use a secret operator instead"
    return None


def _metadata_problem(metadata: Mapping[str, Any], scope: Scope) -> str | None:
    unknown = sorted(key for key in metadata if key not in _METADATA and key not in _DROPPED_METADATA)
    if unknown:
        return f"metadata.{unknown[0]} cannot come from Git; allowed are {', '.join(sorted(_METADATA))}"
    for field in ("labels", "annotations"):
        values = metadata.get(field) or {}
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            return f"metadata.{field} must be a mapping of strings: put the values in quotes"
    if metadata.get("labels", {}) and metadata["labels"].get(names.LABEL_SYNC, scope.sync) != scope.sync:
        return f"the label {names.LABEL_SYNC} is set by the GitSync: remove it"
    if names.ANNOTATION_SYNC_AUTHORS in (metadata.get("annotations") or {}):
        return f"the annotation {names.ANNOTATION_SYNC_AUTHORS} is set by the GitSync: remove it"
    for own in (names.ANNOTATION_COMMAND, names.ANNOTATION_SYNC_REQUESTED):
        if own in (metadata.get("annotations") or {}):
            return f"the annotation {own} is a command to the running system and cannot come from Git: remove it"
    return None
