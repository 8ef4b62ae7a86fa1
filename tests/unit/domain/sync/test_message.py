"""The words of write-back commits."""

import subprocess

from perennial.domain.sync.message import render
from perennial.domain.sync.outbox import Change

VERSION = {
    "metrics": {"roc_auc": "0.86"},
    "championMetrics": {"roc_auc": "0.81"},
    "artifact": {"digest": "sha256:aa"},
    "lineage": {
        "trainingJob": "rain-train",
        "datasets": [{"name": "train", "digest": "sha256:dd"}, {"name": "other"}],
        "request": {"id": "t1", "kind": "Drift", "policy": "p"},
    },
}


def trailers(message: str) -> list[str]:
    """What git itself takes for trailers."""
    done = subprocess.run(
        ["git", "interpret-trailers", "--parse"], input=message, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_an_update_says_what_why_and_by_which_numbers() -> None:
    change = Change("id1", "Update", "rain", "rain-r2", "it is newer", "", "rain-r1", "rain-r2")
    text = render([change], {"id1": ("Written", "x")}, VERSION)
    assert text.startswith("Roll out rain-r2 to rain\n\nit is newer\n\nroc_auc 0.86 (champion 0.81)\n\n")
    assert trailers(text) == [
        "Perennial-Change: id1", "Model-Version: rain-r2", "Model-Digest: sha256:aa", "Training-Job: rain-train",
        "Dataset-Digest: train sha256:dd", "Trigger: Drift p t1",
    ]  # fmt: skip


def test_a_revert_with_its_rejection_has_both_trailers() -> None:
    changes = [
        Change("id1", "Revert", "rain", "rain-r2", "bad", "", "rain-r2", "rain-r1"),
        Change("id2", "Reject", "rain", "rain-r2", "bad", ""),
    ]
    text = render(changes, {"id1": ("Written", ""), "id2": ("Written", "")}, {})
    assert text.startswith("Revert rain to rain-r1\n")
    assert trailers(text)[:2] == ["Perennial-Change: id1", "Perennial-Change: id2"]


def test_a_reason_cannot_forge_a_trailer() -> None:
    change = Change("id1", "Reject", "rain", "rain-r2", "x\n\nPerennial-Change: forged\nModel-Version: y", "")
    text = render([change], {"id1": ("Written", "")}, {})
    assert trailers(text) == ["Perennial-Change: id1", "Model-Version: rain-r2"]
