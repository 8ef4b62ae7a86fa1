"""The Job that sends sample inputs to a canary. Pure: the same inputs give the same bytes.

Its image is the operator's own, not the one that was stored with the revision: the Job is no part of what serves, and
its input must be one that its program knows. Its pod carries no labels of the revision, whose Service selects by them.
"""

from collections.abc import Mapping
from typing import Any

from perennial.api import names
from perennial.domain.revision import served_name
from perennial.domain.rollout.smoke import START_SECONDS
from perennial.domain.rollout.smoke_job import CONTAINER
from perennial.domain.rollout.world import Target
from perennial.render.ownership import child_labels, owner_reference
from perennial.render.serving import revision_name, server_port
from perennial.render.step_job import step_job
from perennial.render.training_containers import StepImage

_PATIENCE_SECONDS = 120
"""For fetching the samples and asking the canary for its inputs."""


def smoke_job(
    owner: Mapping[str, Any], target: Target, name: str, requests: int, seconds: int, step: StepImage
) -> dict[str, Any]:
    """The Job `name`: so many requests in at most `seconds` to the pods of the target's revision, past the routers."""
    assert target.samples is not None
    spec, meta = owner["spec"], owner["metadata"]
    timeout = int((spec.get("traffic") or {}).get("timeoutSeconds", 60))
    host = f"{revision_name(meta['name'], target.revision)}.{meta['namespace']}.svc"
    given = {
        "samples": {"uri": target.samples.uri, "digest": target.samples.digest},
        "url": f"http://{host}:{server_port(target.entry)}",
        "model": served_name(spec) or meta["name"],
        "requests": requests,
        "timeoutSeconds": timeout,
        "seconds": seconds,
    }
    metadata = {
        "name": name,
        "namespace": meta["namespace"],
        "labels": {**child_labels(owner), names.LABEL_COMPONENT: names.COMPONENT_SMOKE},
        "ownerReferences": [owner_reference(owner)],
    }
    limit = int(START_SECONDS) + _PATIENCE_SECONDS + seconds + timeout
    return step_job(metadata, spec, CONTAINER, given, [target.samples.uri], limit, step)
