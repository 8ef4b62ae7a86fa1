"""The HTTPRoute of a ModelDeployment on the API server: read at its own pace; one of a stranger is never touched.

Nothing is watched and nothing is cached of Gateway API, so a cluster without it costs nothing. Must not decide.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from perennial.api import kinds
from perennial.domain.decision import JsonObject
from perennial.domain.errors import Forbidden, Invalid, NameTaken, PerennialError
from perennial.domain.owners import is_controlled_by
from perennial.domain.rollout.gateway import GatewaySeen, Obstacle, RouteSeen, missing_api, objections, taken
from perennial.domain.rollout.looking import look_seconds
from perennial.domain.rollout.spec import GatewayRoute
from perennial.domain.rollout.world import Recorded, RevisionSeen
from perennial.domain.times import is_fresh
from perennial.ports import ObjectStore, PatchTarget
from perennial.render.gateway import http_route, is_attached, weights_of
from perennial.render.serving import server_port


@dataclass(frozen=True, slots=True)
class _Look:
    """What was seen at a time, for one spec and one set of weights."""

    time: datetime
    of: tuple[str, int, int, str]
    seen: GatewaySeen


class GatewayRoutes:
    """Reads and writes the routes of all ModelDeployments that ask for one."""

    def __init__(self, store: ObjectStore, manager: str) -> None:
        self._store = store
        self._manager = manager
        self._looks: dict[tuple[str, str], _Look] = {}

    async def look(
        self,
        deployment: JsonObject,
        route: GatewayRoute | None,
        recorded: Recorded,
        revisions: Mapping[str, RevisionSeen],
        now: datetime,
    ) -> GatewaySeen | None:
        """The route and its Gateways; None, without any request, when none is asked for and none is left. A look that
        is fresh enough is not repeated, and whatever fails is part of what was seen."""
        key = _key(deployment)
        if route is None and not recorded.routed:
            self._looks.pop(key, None)
            return None
        meta = deployment["metadata"]
        state = str(recorded.rollout.state) if recorded.rollout is not None else ""
        of = (meta["uid"], int(meta.get("generation", 0)), recorded.traffic_version, state)
        last = self._looks.get(key)
        if (
            last is not None
            and last.of == of
            and is_fresh(last.time, now, 0.9 * look_seconds(recorded, now, last.seen))
        ):
            return last.seen
        seen = await self._read(deployment, route, revisions)
        self._looks[key] = _Look(now, of, seen)
        return seen

    def forget(self, namespace: str, name: str) -> None:
        """The next look reads anew."""
        self._looks.pop((namespace, name), None)

    async def apply(
        self, deployment: JsonObject, route: GatewayRoute, weights: Mapping[str, int], ports: Mapping[str, int]
    ) -> None:
        """Make the route, or bring ours to what it must be. Invalid or Forbidden with the server's words."""
        self.forget(*_key(deployment))
        wanted = http_route(deployment, route, weights, ports)
        found = await self._store.get(kinds.HTTP_ROUTE, *_key(deployment))
        if found is None:
            await self._store.create(wanted, manager=self._manager)  # Conflict when somebody was faster: seen next time
            return
        if not is_controlled_by(found, deployment):
            raise NameTaken("NameTaken", taken(deployment["metadata"]["name"]).message)
        # A merge patch: hosts that nobody asks for go, whoever named them. Server-side apply leaves them to that one.
        body = {"metadata": {"labels": wanted["metadata"]["labels"]}, "spec": {"hostnames": None, **wanted["spec"]}}
        target = PatchTarget(kinds.HTTP_ROUTE, *_key(deployment), uid=found["metadata"]["uid"])
        await self._store.patch(target, body, manager=self._manager)

    async def delete(self, deployment: JsonObject, uid: str) -> None:
        """Remove our route, by uid."""
        self.forget(*_key(deployment))
        await self._store.delete(kinds.HTTP_ROUTE, *_key(deployment), uid=uid)

    async def _read(
        self, deployment: JsonObject, route: GatewayRoute | None, revisions: Mapping[str, RevisionSeen]
    ) -> GatewaySeen:
        try:
            return await self._seen(deployment, route, revisions)
        except Invalid as error:
            if error.reason == "NoSuchKind":
                return GatewaySeen(obstacle=missing_api())
            return GatewaySeen(unreadable=error.message)
        except Forbidden as error:
            words = f"The operator may not read HTTPRoutes or Gateways; apply its present roles: {error.message}"
            return GatewaySeen(obstacle=Obstacle(error.reason, words, known=False))
        except PerennialError as error:
            return GatewaySeen(unreadable=error.message)

    async def _seen(
        self, deployment: JsonObject, route: GatewayRoute | None, revisions: Mapping[str, RevisionSeen]
    ) -> GatewaySeen:
        namespace, name = _key(deployment)
        found = await self._store.get(kinds.HTTP_ROUTE, namespace, name)
        if found is None:
            return GatewaySeen()
        if not is_controlled_by(found, deployment):
            return GatewaySeen(obstacle=taken(name)) if route is not None else GatewaySeen()
        if route is None:
            return GatewaySeen(RouteSeen(found["metadata"]["uid"], weights_of(found)))
        wanted = {parent.name for parent in route.parents}
        gateways = {parent: await self._store.get(kinds.GATEWAY, namespace, parent) for parent in sorted(wanted)}
        return GatewaySeen(_route_seen(found, deployment, route, revisions), objections(found, route, gateways))


def _route_seen(
    found: JsonObject, deployment: JsonObject, route: GatewayRoute, revisions: Mapping[str, RevisionSeen]
) -> RouteSeen:
    weights = weights_of(found)
    uid = found["metadata"]["uid"]
    known = {revision: weight for revision, weight in weights.items() if revision in revisions}
    wanted = http_route(deployment, route, known, ports_of(revisions))
    attached = is_attached(found, wanted)
    return RouteSeen(uid, weights, attached, attached and found["spec"].get("rules") == wanted["spec"]["rules"])


def ports_of(revisions: Mapping[str, RevisionSeen]) -> dict[str, int]:
    """The port of each revision's Service."""
    return {revision: server_port(seen.entry) for revision, seen in revisions.items()}


def _key(obj: Mapping[str, Any]) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]
