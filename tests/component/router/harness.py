"""A whole router on loopback: real Envoy, real agent, real upstream servers, and a small API server to follow."""

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import yaml
from aiohttp import web

from perennial.router.agent import Agent, AgentSettings
from perennial.router.envoy import READY_PATH, Layout
from perennial.router.http import Token
from perennial.router.main import envoy_command, run_router_init

NAMESPACE = "team"
TOKEN = "sesame"
PATIENCE = 15.0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on right now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


async def eventually(check: Callable[[], Awaitable[Any]], what: str) -> Any:
    """The first truthy answer of `check`; AssertionError with `what` and the last answer after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = await check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"never happened: {what}; last answer {answer!r}"
        await asyncio.sleep(0.01)


class SmallApi:
    """List, watch and get of one namespace, as much of the API server as the agent uses."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = {
            plural: {} for plural in ("modeldeployments", "endpointslices", "driftpolicies", "modelversions")
        }
        self.away = False
        self._version = 1
        self._changed = asyncio.Condition()
        self._log: list[tuple[int, str, str, dict[str, Any]]] = []

    async def put(self, plural: str, obj: dict[str, Any]) -> None:
        """Creates or replaces an object."""
        name = obj["metadata"]["name"]
        self._version += 1
        obj = json.loads(json.dumps(obj))
        obj["metadata"]["resourceVersion"] = str(self._version)
        event = "MODIFIED" if name in self.objects[plural] else "ADDED"
        self.objects[plural][name] = obj
        await self._tell(plural, event, obj)

    async def delete(self, plural: str, name: str) -> None:
        """Removes an object."""
        self._version += 1
        obj = self.objects[plural].pop(name)
        obj["metadata"]["resourceVersion"] = str(self._version)
        await self._tell(plural, "DELETED", obj)

    async def _tell(self, plural: str, event: str, obj: dict[str, Any]) -> None:
        self._log.append((self._version, plural, event, obj))
        async with self._changed:
            self._changed.notify_all()

    def application(self) -> web.Application:
        """The HTTP side."""
        app = web.Application()
        app.router.add_get("/apis/{group}/{version}/namespaces/{namespace}/{plural}", self._list_or_watch)
        app.router.add_get("/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}", self._get)
        return app

    async def _get(self, request: web.Request) -> web.StreamResponse:
        obj = self.objects[request.match_info["plural"]].get(request.match_info["name"])
        return web.json_response(obj or {}, status=200 if obj else 404)

    async def _list_or_watch(self, request: web.Request) -> web.StreamResponse:
        plural = request.match_info["plural"]
        if self.away:
            return web.Response(status=503)
        if "watch" not in request.query:
            items = list(self.objects[plural].values())
            return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items})
        response = web.StreamResponse()
        await response.prepare(request)
        seen = int(request.query["resourceVersion"])
        while not self.away:
            for version, kind, event, obj in self._log:
                if version > seen and kind == plural:
                    await response.write(json.dumps({"type": event, "object": obj}).encode() + b"\n")
            seen = self._version
            async with self._changed:
                await self._changed.wait()
        return response


@dataclass
class Upstream:
    """One model server; `behaviour` answers a request."""

    name: str
    port: int
    behaviour: Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]
    seen: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Counts and answers."""
        self.seen += 1
        return await self.behaviour(request, await request.read())


def answering(name: str, status: int = 200) -> Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]:
    """A server that predicts 0.5 and says who it is."""

    async def behaviour(_request: web.Request, _body: bytes) -> web.StreamResponse:
        outputs = [{"name": "p", "shape": [1], "datatype": "FP64", "data": [0.5]}]
        return web.json_response({"who": name, "outputs": outputs}, status=status)

    return behaviour


async def grpc_server(*, port: int = 0, **methods: Any) -> tuple[Any, int]:
    """A gRPC server of the service test.Echo with these methods (handlers of bytes): itself, and its port."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server, port


@dataclass
class Router:
    """Handles on everything that runs."""

    directory: Path
    layout: Layout
    agent_port: int
    api: SmallApi
    session: aiohttp.ClientSession
    environ: dict[str, str]
    kubeconfig: Path
    envoy: asyncio.subprocess.Process | None = None
    agent: asyncio.Task[None] | None = None
    upstreams: dict[str, Upstream] = field(default_factory=dict)
    runners: list[web.AppRunner] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where clients go."""
        return f"http://127.0.0.1:{self.layout.port}"

    async def start_envoy(self) -> None:
        """Starts Envoy as its container does."""
        command = envoy_command(self.environ, time.time())
        log = self.directory.joinpath("envoy.log").open("a")
        self.envoy = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)

    async def envoy_ready(self) -> None:
        """Waits for Envoy to answer its readiness probe."""

        async def check() -> bool:
            try:
                async with self.session.get(self.url + READY_PATH) as response:
                    return response.status == 200
            except aiohttp.ClientError:
                return False

        await eventually(check, "Envoy is ready")

    async def stop_envoy(self) -> None:
        """Kills Envoy."""
        if self.envoy is not None and self.envoy.returncode is None:
            self.envoy.kill()
            await self.envoy.wait()

    def start_agent(self) -> None:
        """Starts an agent."""
        settings = AgentSettings(
            namespace=NAMESPACE,
            pod="router-0",
            pod_uid="uid-0",
            layout=self.layout,
            token=Token(TOKEN),
            host="127.0.0.1",
            port=self.agent_port,
            kubeconfig=str(self.kubeconfig),
        )
        self.agent = asyncio.create_task(Agent(settings).run())

    async def stop_agent(self) -> None:
        """Ends the agent at once."""
        if self.agent is not None:
            self.agent.cancel()
            await asyncio.gather(self.agent, return_exceptions=True)
            self.agent = None

    async def serve(self, name: str, behaviour: Callable[..., Any] | None = None) -> Upstream:
        """Starts a model server."""
        (port,) = free_ports(1)
        upstream = Upstream(name, port, behaviour or answering(name))
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", upstream.answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        self.runners.append(runner)
        self.upstreams[name] = upstream
        return upstream

    async def ready(
        self,
        deployment: str,
        revision: str,
        *upstreams: Upstream,
        ready: bool = True,
        served_name: str | None = None,
        grpc_port: int | None = None,
    ) -> None:
        """Publishes one EndpointSlice for each upstream. grpc_port: where it takes gRPC, if not on its only port."""
        named = {"perennial.dev/served-name": served_name} if served_name else {}
        second = [{"name": "grpc", "port": grpc_port}] if grpc_port else []
        for upstream in upstreams:
            service = f"{deployment}-rev-{revision}"
            await self.api.put(
                "endpointslices",
                {
                    "metadata": {
                        "name": f"{service}-{upstream.name}",
                        "labels": {
                            "kubernetes.io/service-name": service,
                            "app.kubernetes.io/managed-by": "perennial",
                            **named,
                        },
                    },
                    "addressType": "IPv4",
                    "ports": [{"name": "http", "port": upstream.port}, *second],
                    "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": ready}}],
                },
            )

    async def split(
        self, deployment: str, version: int, weights: dict[str, int], *, rolling: str | None = None, **spec: Any
    ) -> None:
        """Writes a ModelDeployment; the first revision is stable, and its ModelVersion is `<name>-v1`. rolling: the
        state of the rollout, which is that of the last revision.
        """
        stable = next(iter(weights))
        status = {
            "stable": {"revision": stable, "version": f"{deployment}-v1"},
            "traffic": [{"revision": revision, "weight": weight} for revision, weight in weights.items()],
            "trafficVersion": version,
        }
        if rolling is not None:
            status["rollout"] = {"targetRevision": list(weights)[-1], "state": rolling}
        await self.api.put("modeldeployments", {"metadata": {"name": deployment}, "spec": spec, "status": status})

    async def page(self, path: str) -> dict[str, Any]:
        """One of the agent's pages."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        try:
            async with self.session.get(f"http://127.0.0.1:{self.agent_port}{path}", headers=headers) as response:
                return await response.json() if response.status == 200 else {}
        except aiohttp.ClientError:
            return {}

    async def confirmed(self, deployment: str, version: int) -> dict[str, Any]:
        """The deployment's status once Envoy has that trafficVersion."""

        async def check() -> dict[str, Any]:
            state = (await self.page("/v1/status")).get("deployments", {}).get(deployment, {})
            return state if state.get("trafficVersion") == version and state["confirmed"] else {}

        return await eventually(check, f"{deployment} confirmed at {version}")

    async def post(
        self, deployment: str = "rain", body: bytes = b"{}", path: str = "", **headers: str
    ) -> tuple[int, bytes]:
        """One inference request: (status, body)."""
        sent = {"Host": f"{deployment}.{NAMESPACE}", "Content-Type": "application/json"}
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        path = path or f"/v2/models/{deployment}/infer"
        async with self.session.post(self.url + path, data=body, headers=sent) as response:
            return response.status, await response.read()

    async def who(self, count: int, deployment: str = "rain") -> Counter[str]:
        """Who answered `count` requests, sent by eight clients at once."""
        answers: Counter[str] = Counter()

        async def client(share: int) -> None:
            for _ in range(share):
                status, body = await self.post(deployment)
                answers[json.loads(body)["who"] if status == 200 else str(status)] += 1

        await asyncio.gather(*(client(count // 8) for _ in range(8)))
        return answers


@asynccontextmanager
async def router(directory: Path) -> AsyncIterator[Router]:
    """A running router without deployments."""
    port, admin, agent_port, api_port = free_ports(4)
    layout = Layout(str(directory), "127.0.0.1", port, admin)
    environ = {
        "PERENNIAL_ROUTER_DIR": str(directory),
        "PERENNIAL_ROUTER_HOST": "127.0.0.1",
        "PERENNIAL_ROUTER_PORT": str(port),
        "PERENNIAL_ENVOY_ADMIN_PORT": str(admin),
        "PERENNIAL_ENVOY_CONCURRENCY": "1",
        "PERENNIAL_NAMESPACE": NAMESPACE,
    }
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "one",
                "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
                "clusters": [{"name": "one", "cluster": {"server": f"http://127.0.0.1:{api_port}"}}],
                "users": [{"name": "one", "user": {}}],
            }
        )
    )
    api = SmallApi()
    api_runner = web.AppRunner(api.application(), access_log=None, shutdown_timeout=0.1)
    await api_runner.setup()
    await web.TCPSite(api_runner, "127.0.0.1", api_port).start()
    session = aiohttp.ClientSession()
    running = Router(directory, layout, agent_port, api, session, environ, kubeconfig)
    try:
        assert run_router_init(environ) == 0
        await running.start_envoy()
        running.start_agent()
        await running.envoy_ready()
        yield running
    finally:
        await running.stop_agent()
        await running.stop_envoy()
        await session.close()
        for runner in (*running.runners, api_runner):
            await runner.cleanup()
