"""docs/reference/settings.md from the models: `python -m perennial.app.settings_page [--check]`.

Must not say anything that the models do not say.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from perennial.app.settings import DEFAULT_FILE, ENV_PREFIX, Settings

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "settings.md"
_HEAD = f"""# Settings of the operator

Generated from the operator's code; do not edit. One YAML file, `{DEFAULT_FILE}` (or `--config`, or
`${ENV_PREFIX}CONFIG`). An environment variable wins over the file, a command line option over both. Lists are written
with commas in a variable, tables as JSON. An unknown key stops the operator with a sentence that names the known ones.
"""


def page() -> str:
    """The whole page."""
    schema = Settings.model_json_schema(by_alias=True)
    parts = [_HEAD, "| Key | Variable | Type | Default | |\n|---|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        key = to_camel(name)
        default = _default(field.get_default(call_default_factory=True))
        parts.append(
            f"| `{key}` | `{ENV_PREFIX}{name.upper()}` | {_type(schema['properties'][key], schema)} | {default} "
            f"| {_words(schema['properties'][key])} |"
        )
    for title, part in schema["$defs"].items():
        parts.append(f"\n## {title.removesuffix('Settings')}\n\n{' '.join(part.get('description', '').split())}\n")
        parts.append("| Key | Type | Default | |\n|---|---|---|---|")
        for key, field in part["properties"].items():
            default = "required" if key in part.get("required", ()) else _default(field.get("default"))
            parts.append(f"| `{key}` | {_type(field, schema)} | {default} | {_words(field)} |")
    return "\n".join(parts) + "\n"


def _words(field: dict[str, Any]) -> str:
    return " ".join(str(field.get("description", "")).split()) if "$ref" not in field else ""


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, dict):
        value = {key: v.model_dump(by_alias=True, exclude_defaults=True) if isinstance(v, BaseModel) else v
                 for key, v in value.items()}  # fmt: skip
    return "none" if value is None else f"`{json.dumps(value)}`"


def _type(field: dict[str, Any], schema: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[1].removesuffix("Settings")
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(_type(part, schema) for part in field["anyOf"] if part.get("type") != "null")
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_type(field['items'], schema)}"
    if field.get("type") == "object":
        inner = field.get("additionalProperties")
        return f"map of {_type(inner, schema)}" if isinstance(inner, dict) else "map"
    low, high = field.get("minimum", field.get("exclusiveMinimum")), field.get("maximum")
    bounds = f" {low:g} to {high:g}" if low is not None and high is not None else ""
    return f"{field.get('type', 'any')}{bounds}"


def main(arguments: list[str]) -> int:
    """Write the page, or with --check tell whether it is up to date."""
    if "--check" in arguments:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page():
            return 0
        sys.stderr.write(f"{PAGE} is out of date: run python -m perennial.app.settings_page\n")
        return 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
