"""Settings: file, then environment, then options; each mistake is one sentence that names what is allowed."""

from pathlib import Path

import pytest

from perennial.app.settings import SettingsError, identity, load
from perennial.app.wiring import prometheus, router_settings, runtime_table


def file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return str(path)


def test_no_file_gives_the_defaults() -> None:
    settings = load(None, {})
    assert settings.namespaces == []
    assert settings.http.port == 8080
    formats = {name: row.formats for name, row in settings.runtimes.items()}
    assert formats == {name: [name] for name in ("sklearn", "xgboost", "lightgbm", "onnx")}


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load(str(tmp_path / "none.yaml"), {})
    with pytest.raises(SettingsError, match="does not exist"):
        load(None, {"PERENNIAL_CONFIG": str(tmp_path / "none.yaml")})


def test_options_win_over_environment_and_environment_over_file(tmp_path: Path) -> None:
    path = file(tmp_path, "image: from-file\nlogLevel: ERROR\nresyncSeconds: 60\n")
    environ = {"PERENNIAL_IMAGE": "from-env", "PERENNIAL_LOG_LEVEL": "WARNING", "PERENNIAL_STEP": "not a setting"}
    settings = load(path, environ, {"log_level": "DEBUG", "namespaces": None})
    assert (settings.image, settings.log_level, settings.resync_seconds) == ("from-env", "DEBUG", 60)


def test_lists_and_tables_come_from_the_environment_too() -> None:
    environ = {"PERENNIAL_NAMESPACES": "a, b", "PERENNIAL_GIT": '{"allowInsecure": true}'}
    settings = load(None, environ)
    assert settings.namespaces == ["a", "b"]
    assert settings.git.allow_insecure is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("imge: x", "imge is not a known setting; allowed here: .*image.*runtimes"),
        ("git: {cache: x}", "git.cache is not a known setting; allowed here: allowInsecure, cacheDirectory, workers"),
        ("runtimes: {a: {formats: [x], image: i, prt: 1}}", "runtimes.a.prt is not a known setting; allowed.*port"),
        ("workers: 0", "workers: Input should be greater than or equal to 1"),
        ("http: {port: x}", "http.port: Input should be a valid integer"),
        ("prometheus: {a: {url: 'file:///x'}}", "prometheus.a.url: String should match"),
        ("lease: {durationSeconds: 5}", "lease: Value error, retrySeconds must be below renewDeadlineSeconds"),
        ("runtimes: {a: {formats: [a], image: b, port: 80, grpcPort: 80}}", "grpcPort must differ from port"),
        ("- a", "must hold a map, not list"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        load(file(tmp_path, text), {})
    assert "\n" not in str(caught.value)


def test_an_empty_file_is_fine(tmp_path: Path) -> None:
    assert load(file(tmp_path, "# nothing\n"), {}).workers == 4


def test_a_pod_keeps_its_identity_and_two_processes_never_share_one() -> None:
    assert identity({"POD_UID": "u"}) == "u"
    assert identity({}) != identity({})


def test_the_runtime_table_is_written_as_manifests_write_it() -> None:
    table = '{"own": {"formats": ["own"], "image": "own:1"}}'
    assert "grpcPort" not in runtime_table(load(None, {"PERENNIAL_RUNTIMES": table}))["own"]
    row = runtime_table(load(None, {}))["onnx"]
    assert row == {
        "formats": ["onnx"],
        "image": "perennial-runtime:latest",
        "pullPolicy": "IfNotPresent",
        "args": ["--format=onnx"],
        "port": 8080,
        "grpcPort": 8081,
        "probePath": "/v2/health/ready",
    }


def test_routers_run_from_the_image_that_was_found_and_only_the_operator_may_ask_them() -> None:
    routers = router_settings(load(None, {"PERENNIAL_ROUTERS": '{"replicas": 3}'}), "p:1", "system")
    assert (routers.image, routers.replicas, routers.operator_namespace) == ("p:1", 3, "system")


def test_watching_some_namespaces_changes_no_roles() -> None:
    """ClusterRoles of a cluster-wide installation serve there too; Roles exist only with manifests/namespaced."""
    some = {"PERENNIAL_NAMESPACES": "a"}
    assert router_settings(load(None, some), "p:1", "system").namespaced is False
    narrow = load(None, {**some, "PERENNIAL_NAMESPACED_ROLES": "true"})
    assert router_settings(narrow, "p:1", "system").namespaced is True


async def test_a_missing_authorization_file_is_one_sentence(tmp_path: Path) -> None:
    import aiohttp

    table = '{"main": {"url": "http://prometheus", "authorizationFile": "%s"}}' % (tmp_path / "none")
    async with aiohttp.ClientSession() as session:
        with pytest.raises(SettingsError, match=r"prometheus.main.authorizationFile cannot be read"):
            prometheus(load(None, {"PERENNIAL_PROMETHEUS": table}), session)
