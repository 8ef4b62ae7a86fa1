"""Which troubles become events."""

from typing import Any

import pytest

from perennial.domain.decision import EventNote
from perennial.domain.rollout.news import trouble_news


def ready(status: str, reason: str, message: str) -> dict[str, Any]:
    return {"type": "Ready", "status": status, "reason": reason, "message": message}


SCALES = ready("False", "PodsNotReady", "1 of 3 pods of v1 are ready.")
STALLED = {"type": "Stalled", "status": "True"}
GOOD = ready("True", "Serving", "v1 serves.")
UNKNOWN = ready("False", "VersionUnknown", "ModelVersion v2 does not exist.")
DEADLINE = ready("False", "ProgressDeadlineExceeded", "v1 is not tried again: no pods.")


@pytest.mark.parametrize(
    ("before", "after", "type_"),
    [
        ([GOOD], {"conditions": [UNKNOWN]}, "Warning"),
        ([], {"conditions": [UNKNOWN]}, "Warning"),
        ([UNKNOWN], {"conditions": [UNKNOWN]}, None),
        ([ready("False", "VersionUnknown", "Another.")], {"conditions": [UNKNOWN]}, "Warning"),
        ([GOOD], {"conditions": [ready("False", "Suspended", "spec.suspend is set.")]}, "Normal"),
        ([UNKNOWN], {"conditions": [GOOD]}, None),
        ([GOOD], {"conditions": [SCALES, {"type": "Available", "status": "True"}]}, None),
        ([GOOD], {"conditions": [SCALES, {"type": "Available", "status": "False"}]}, "Warning"),
        ([GOOD], {"conditions": [ready("False", "Scaling", "0 of 1 pods.")], "rollout": {}}, None),
        ([], {"conditions": [DEADLINE, STALLED], "rollout": {}}, "Warning"),
        ([], {"conditions": [DEADLINE, STALLED], "rejected": [{"message": "no pods."}]}, None),
    ],
)
def test_a_trouble_is_told_once_when_no_rollout_tells_it(
    before: list[dict[str, Any]], after: dict[str, Any], type_: Any
) -> None:
    message = after["conditions"][0]["message"]
    wanted = EventNote(after["conditions"][0]["reason"], message, type_) if type_ else None
    assert trouble_news(before, after) == wanted
