"""The committed CRDs and the reference page are what the models say."""

from pathlib import Path

import pytest
import yaml

from perennial.api.crdgen import ROOT, generated_files, main

GENERATED = generated_files()


@pytest.mark.parametrize("name", GENERATED)
def test_the_committed_file_is_up_to_date(name: str):
    assert (ROOT / name).read_text(encoding="utf-8") == GENERATED[name], "run `make generate`"


def test_check_passes_on_what_was_just_written_and_fails_on_an_edited_file(tmp_path: Path, capsys):
    assert main(["--root", str(tmp_path)]) == 0
    assert main(["--root", str(tmp_path), "--check"]) == 0
    edited = tmp_path / "crds/gitsyncs.perennial.dev.yaml"
    edited.write_text(edited.read_text(encoding="utf-8").replace("gsync", "gs"), encoding="utf-8")
    assert main(["--root", str(tmp_path), "--check"]) == 1
    assert "crds/gitsyncs.perennial.dev.yaml is out of date" in capsys.readouterr().err


def test_a_crd_of_a_kind_that_is_gone_is_found_and_removed(tmp_path: Path):
    main(["--root", str(tmp_path)])
    stray = tmp_path / "crds/olds.perennial.dev.yaml"
    stray.write_text("{}", encoding="utf-8")
    assert main(["--root", str(tmp_path), "--check"]) == 1
    assert main(["--root", str(tmp_path)]) == 0
    assert not stray.exists()


def test_generated_yaml_has_no_aliases():
    for name, text in GENERATED.items():
        if name.endswith(".yaml"):
            assert not any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.CSafeLoader)), (
                name
            )


def test_the_reference_page_lists_a_default_a_limit_and_a_rule():
    page = GENERATED["docs/reference/api.md"]
    assert '| `rollout.analysis.maxErrorRate` | string | `"0.02"` |' in page
    assert "| `prune` | boolean | *required* |" in page
    assert "cooldownSeconds must be at least window.seconds" in page
