"""`perennial check DIR`: a repository of manifests validated without a cluster, with path and line.

What only an API server can know (CEL rules, admission, quotas) is not checked here: `kubectl apply --dry-run=server`
does that. Must not talk to a cluster.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from perennial.api import kinds
from perennial.api.v1alpha1 import RESOURCES
from perennial.domain.sync.documents import Document, SourceError, parse_file

MODELS = {resource.__name__: resource for resource in RESOURCES}
SUFFIXES = (".yaml", ".yml")
GROUP = f"{kinds.GIT_SYNC.group}/"


def check_directory(root: Path) -> list[SourceError]:
    """Every error below `root`, in order of path and line; empty when all is well."""
    errors: list[SourceError] = []
    documents: list[Document] = []
    for path in sorted(p for p in root.rglob("*") if p.suffix in SUFFIXES and ".git" not in p.parts):
        if path.is_dir() and not path.is_symlink():
            continue
        name = str(path.relative_to(root))
        if path.is_symlink():
            errors.append(SourceError(name, 0, "symbolic links are not followed: put the file itself here"))
            continue
        parsed = parse_file(name, path.read_bytes())
        documents.extend(parsed.documents)
        errors.extend([parsed.error] if parsed.error else [])
    for document in documents:
        errors.extend(_identity(document))
        errors.extend(_schema(document))
    errors.extend(_duplicates(documents))
    errors.extend(_references(documents))
    return sorted(errors, key=lambda e: (e.path, e.line))


def _identity(document: Document) -> Iterator[SourceError]:
    content = document.content
    name = content.get("metadata", {}).get("name") if isinstance(content.get("metadata"), dict) else None
    missing = [
        f
        for f, v in (("apiVersion", content.get("apiVersion")), ("kind", content.get("kind")), ("metadata.name", name))
        if not v
    ]
    if missing:
        yield SourceError(
            document.path, document.line, f"the object has no {', '.join(missing)}: every object needs it"
        )


def _schema(document: Document) -> Iterator[SourceError]:
    content = document.content
    api_version, kind = str(content.get("apiVersion", "")), str(content.get("kind", ""))
    if not api_version.startswith(GROUP):
        return
    model = MODELS.get(kind)
    if model is None:
        allowed = ", ".join(sorted(MODELS))
        yield SourceError(
            document.path, document.line, f"kind {kind} is unknown in {api_version}; allowed are {allowed}"
        )
        return
    try:
        model.model_validate({"spec": content.get("spec", {}), "metadata": content.get("metadata", {})})
    except ValidationError as failure:
        for error in failure.errors(include_url=False, include_context=False, include_input=False):
            where = ".".join(str(part) for part in error["loc"])
            yield SourceError(document.path, document.line, f"{kind} {where}: {error['msg']}")
    yield from _unknown(document, model, content, ())


def _unknown(
    document: Document, model: type[BaseModel], value: Mapping[str, Any], where: tuple[str, ...]
) -> Iterator[SourceError]:
    """Fields that the model does not have: the API server refuses or drops them."""
    known = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    for key, inner in value.items():
        if not where and key in ("apiVersion", "kind", "metadata", "status"):
            continue
        path = (*where, key)
        if key not in known:
            allowed = ", ".join(sorted(k for k in known if k != "status"))
            yield SourceError(
                document.path, document.line, f"unknown field {'.'.join(path)}; allowed here are {allowed}"
            )
            continue
        inner_model = _model_of(known[key])
        if inner_model is None:
            continue
        items = inner if isinstance(inner, list) else [inner]
        for item in items:
            if isinstance(item, dict):
                yield from _unknown(document, inner_model, item, path)


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The model inside `X | None`, `list[X]`, `tuple[X, ...]`; None for plain values and maps of values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    origin = getattr(annotation, "__origin__", None)
    if origin is dict:
        return None
    found = [_model_of(a) for a in getattr(annotation, "__args__", ())]
    return next((m for m in found if m is not None), None)


def _key(document: Document) -> tuple[str, str]:
    metadata = document.content.get("metadata")
    name = metadata.get("name", "") if isinstance(metadata, dict) else ""
    return str(document.content.get("kind", "")), str(name)


def _duplicates(documents: list[Document]) -> Iterator[SourceError]:
    seen: dict[tuple[str, str], Document] = {}
    for document in documents:
        first = seen.setdefault(_key(document), document)
        if first is not document:
            kind, name = _key(document)
            yield SourceError(
                document.path, document.line, f"{kind} {name} is also defined at {first.place}; keep one of the two"
            )


def _references(documents: list[Document]) -> Iterator[SourceError]:
    present = {_key(d) for d in documents}
    for document in documents:
        for kind, name, where in _named(document):
            if (kind, name) not in present:
                yield SourceError(
                    document.path, document.line, f"{where} names {kind} {name}, which is not in this directory"
                )


def _named(document: Document) -> Iterator[tuple[str, str, str]]:
    spec = document.content.get("spec")
    if not isinstance(spec, dict) or not str(document.content.get("apiVersion", "")).startswith(GROUP):
        return
    kind = document.content.get("kind")
    if kind == "DriftPolicy":
        yield from _reference(spec, ("deploymentRef", "name"), "ModelDeployment")
        yield from _reference(spec, ("retrain", "trainingJobRef", "name"), "TrainingJob")
    if kind == "TrainingJob":
        yield from _reference(spec, ("champion", "deploymentRef", "name"), "ModelDeployment")
    if kind == "ModelDeployment":
        yield from _reference(spec, ("model", "version"), "ModelVersion")


def _reference(spec: Mapping[str, Any], path: tuple[str, ...], kind: str) -> Iterator[tuple[str, str, str]]:
    value: Any = spec
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, str):
        yield kind, value, "spec." + ".".join(path)
