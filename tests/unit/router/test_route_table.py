"""The route table rendered step by step is the one rendered at once."""

from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.router.envoy import RouteTable, render_routes
from perennial.router.model import Deployment, Share, Snapshot

REVISIONS = ("aaaaaaaa", "bbbbbbbb")

deployments = st.builds(
    lambda name, version, weight, timeout, canary, sticky, own_grpc: Deployment(
        name,
        version,
        (Share(REVISIONS[0], 100 - weight), Share(REVISIONS[1], weight)),
        REVISIONS[0],
        {},
        timeout,
        canary=canary,
        sticky_header=sticky,
        grpc_revisions=own_grpc,
    ),
    st.sampled_from(["fog", "rain", "sun"]),
    st.integers(0, 2),
    st.sampled_from([0, 5, 100]),
    st.sampled_from([5, 60]),
    st.sampled_from([None, REVISIONS[1]]),
    st.sampled_from([None, "x-user-id"]),
    st.sampled_from([(), REVISIONS[1:], REVISIONS]),
)
snapshots = st.lists(deployments, unique_by=lambda d: d.name, max_size=3).map(
    lambda found: Snapshot("team", tuple(sorted(found, key=lambda d: d.name)))
)
CLUSTERS = [
    f"rain-{kind}-{revision}{port}" for kind in ("rev", "pick") for revision in REVISIONS for port in ("", "-grpc")
]
steps = st.lists(st.tuples(snapshots, st.sets(st.sampled_from(CLUSTERS))), min_size=1)


@settings(deadline=None)  # a busy machine needs long for one of these
@given(steps)
def test_parts_that_are_used_again_are_those_that_would_be_rendered(steps: list[tuple[Snapshot, set[str]]]) -> None:
    table = RouteTable()
    for snapshot, ready in steps:
        assert table.render(snapshot, ready) == render_routes(snapshot, ready)
