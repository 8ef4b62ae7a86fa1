"""Addresses and names that git must never see."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.domain.sync.address import (
    Address,
    is_commit_id,
    is_ref_name,
    is_repository_path,
    parse_address,
    refused_ip,
)
from perennial.domain.sync.semver import newest


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port"),
    [
        ("https://github.com/o/r.git", "https", "github.com", 443),
        ("https://git.example.org:8443/o/r", "https", "git.example.org", 8443),
        ("ssh://git@github.com/o/r.git", "ssh", "github.com", 22),
        ("git@github.com:o/r.git", "ssh", "github.com", 22),
        ("https://[2001:db8::1]/r", "https", "2001:db8::1", 443),
    ],
)
def test_good_addresses(url: str, scheme: str, host: str, port: int) -> None:
    address = parse_address(url)
    assert isinstance(address, Address)
    assert (address.scheme, address.host, address.port) == (scheme, host, port)


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c id", "EXT::sh", "http::ext::sh", "fd::17", "file:///etc", "/etc/passwd", "./x", "../x",
        "--upload-pack=x",
        "-c", "https://u:p@host/x", "https://u@host/x", "ssh://-oProxyCommand=x/x", "ssh://git@-oProxyCommand=x/x",
        "-oProxyCommand=x@host:path", "git@host:-x/../y\n", "https://host/-x", "https:///x", "https://host", "https://host/",
        "https://ho st/x", "https://host/x y", "https://host/x\x00", "https://höst/x", "https://ho%2fst/x", "HTTPS://host/x",
        "https://host:99999/x", "https://host:x/x", "https://host/x?y=1", "https://host/x#y", "http://host/x", "git://host/x",
        "ftp://host/x", "javascript:x", "", "https://.host/x", "https://host-/x", "ssh://git:pw@host/x",
        "ssh://a b@host/x",
        "ssh://$(id)@host/x", "ssh://git@host/$(id)", "https://host/`id`", "https://host/x;y", "https://host\\@evil/x",
    ],
)  # fmt: skip
def test_bad_addresses_are_refused_in_words(url: str) -> None:
    assert isinstance(parse_address(url), str)


def test_insecure_transports_only_when_allowed() -> None:
    assert "operator's settings" in str(parse_address("http://host/x"))
    assert isinstance(parse_address("http://host:8080/x", allow_insecure=True), Address)
    assert isinstance(parse_address("ext::sh", allow_insecure=True), str)


@pytest.mark.parametrize(
    "ip", ["127.0.0.1", "::1", "169.254.169.254", "0.0.0.0", "::ffff:127.0.0.1", "fe80::1", "224.0.0.1"]
)
def test_addresses_that_no_repository_has(ip: str) -> None:
    assert refused_ip(ip)
    assert not refused_ip("10.0.0.1") and not refused_ip("140.82.121.4")


@pytest.mark.parametrize("name", ["main", "feature/x", "v1.2.3", "refs/heads/main", "a@b", "release-1"])
def test_good_refs(name: str) -> None:
    assert is_ref_name(name)


@pytest.mark.parametrize(
    "name", ["-x", "--upload-pack=x", "a..b", "a//b", "a/", ".a", "a/.b", "a.lock", "a@{1}", "a b", "a\nb", "a\x00", "",
             "a~1",
             "a^", "a:b", "a?", "a*", "a[", "a\\b", "x/-y"]
)  # fmt: skip
def test_bad_refs(name: str) -> None:
    assert not is_ref_name(name)


@pytest.mark.parametrize(
    "path", ["..", "a/../b", "/a", "a//b", "-a", ".git/x", "a/.GIT/x", "a\nb", "a\\b", "a:b", "", "a/./b"]
)
def test_bad_paths(path: str) -> None:
    assert not is_repository_path(path)
    assert is_repository_path("app/versions/v1.yaml") and is_repository_path(".")


@given(st.text(max_size=40))
def test_whatever_passes_is_harmless(text: str) -> None:
    if is_ref_name(text):
        assert not text.startswith("-") and not set(text) & set(" \n\0:~^?*[\\")
    if is_commit_id(text):
        assert set(text) <= set("0123456789abcdef")
    address = parse_address(text)
    if isinstance(address, Address):
        assert address.scheme in ("https", "ssh") and not address.host.startswith("-")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (">=1.0.0 <2.0.0", "v1.10.0"), ("^1.2", "v1.10.0"), ("~1.2.3", "1.2.9"), ("1.x", "v1.10.0"), ("*", "v2.0.0"),
        ("1.2.3", "1.2.3"), ("^0.1.0", None), ("nonsense", None), ("", None), (">=3.0.0-0", "3.0.0-rc.2"),
        ("^1.2 || 2.x", "v2.0.0"),
        ("<=1.2", "1.2.9"), (">1.2", "v2.0.0"), (">1.10", "v2.0.0"), ("= 1.2.3", "1.2.3"),
    ],
)  # fmt: skip
def test_the_newest_tag_in_a_range(wanted: str, found: str | None) -> None:
    tags = ["1.2.3", "1.2.9", "v1.10.0", "v2.0.0", "3.0.0-rc.1", "3.0.0-rc.2", "latest", "v1"]
    assert newest(tags, wanted) == found
