"""Generates crds/*.yaml and docs/reference/api.md from the models: `python -m perennial.api.crdgen [--check]`.

The models are the single source. Nobody edits the generated files; `--check` fails when they differ.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from perennial.api.reference import reference_page
from perennial.api.schema import resource_schema
from perennial.api.v1alpha1 import RESOURCES
from perennial.api.v1alpha1.base import Column, Resource

ROOT = Path(__file__).resolve().parents[3]
HEADER = "# Generated from operator/perennial/api/v1alpha1 by `make generate`. Do not edit.\n"


def custom_resource_definition(resource: type[Resource]) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind."""
    kind = resource.resource_kind
    subresources: dict[str, Any] = {"status": {}}
    if resource.scale_paths:
        subresources["scale"] = dict(resource.scale_paths)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{kind.group}",
            "annotations": {
                # Flux would replace ${VAR} in descriptions and training commands.
                "kustomize.toolkit.fluxcd.io/substitute": "disabled",
            },
            "labels": {"app.kubernetes.io/part-of": "perennial"},
        },
        "spec": {
            "group": kind.group,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [resource.short_name],
                "categories": ["perennial"],
            },
            "versions": [
                {
                    "name": kind.version,
                    "served": True,
                    "storage": True,
                    "subresources": subresources,
                    "additionalPrinterColumns": [_column(column) for column in resource.columns],
                    "schema": {"openAPIV3Schema": resource_schema(resource)},
                }
            ],
        },
    }


def _column(column: Column) -> dict[str, Any]:
    written: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.json_path}
    if column.description:
        written["description"] = column.description
    if column.priority:
        written["priority"] = column.priority
    return written


class _Dumper(yaml.CSafeDumper):
    """Writes no aliases: the same rule object may appear in several places."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def generated_files() -> dict[str, str]:
    """Path below the repository root -> content, of every generated file."""
    files: dict[str, str] = {}
    definitions: list[Mapping[str, Any]] = []
    for resource in RESOURCES:
        definition = custom_resource_definition(resource)
        definitions.append(definition)
        text = yaml.dump(definition, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
        files[f"crds/{definition['metadata']['name']}.yaml"] = HEADER + text
    files["docs/reference/api.md"] = reference_page(definitions)
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the files; with --check writes nothing and returns 1 when one of them differs."""
    parser = argparse.ArgumentParser(prog="perennial.api.crdgen", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is out of date")
    parser.add_argument("--root", type=Path, default=ROOT, help="root of the repository")
    options = parser.parse_args(arguments)
    files = generated_files()
    stale = [name for name, text in files.items() if _read(options.root / name) != text]
    expected = {options.root / name for name in files}
    extra = [path for path in sorted((options.root / "crds").glob("*.perennial.dev.yaml")) if path not in expected]
    if options.check:
        for name in [*stale, *(str(path.relative_to(options.root)) for path in extra)]:
            sys.stderr.write(f"{name} is out of date: run `make generate` and commit the result\n")
        return 1 if stale or extra else 0
    for name in stale:
        (options.root / name).parent.mkdir(parents=True, exist_ok=True)
        (options.root / name).write_text(files[name], encoding="utf-8")
    for path in extra:
        path.unlink()
    return 0


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
