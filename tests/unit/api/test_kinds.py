"""Names of kinds."""

import pytest

from perennial.api import kinds
from perennial.api.v1alpha1 import RESOURCES


def test_a_kind_is_found_by_what_a_manifest_says():
    assert kinds.find("perennial.dev/v1alpha1", "GitSync") is kinds.GIT_SYNC
    assert kinds.find("v1", "Pod") is kinds.POD
    assert kinds.find("apps/v1", "Deployment") is kinds.DEPLOYMENT
    assert kinds.find("apps/v1beta1", "Deployment") is None
    assert kinds.find("v1", "Deployment") is None


@pytest.mark.parametrize("kind", kinds.ALL_KINDS, ids=str)
def test_every_kind_is_found(kind: kinds.Kind):
    assert kinds.find(kind.api_version, kind.kind) is kind
    assert kind.plural == kind.plural.lower()


def test_every_kind_of_ours_has_a_model():
    assert tuple(resource.resource_kind for resource in RESOURCES) == kinds.OUR_KINDS
