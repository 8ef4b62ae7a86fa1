"""Which repository addresses and names may be given to git: checked as text before any process starts.

git accepts transports that run commands and names that it takes for options; nothing of that sort passes here. Must not
resolve names or open connections.
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

SAFE_SCHEMES = ("https", "ssh")
INSECURE_SCHEMES = ("http", "git")

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\Z")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\Z")
_PATH = re.compile(r"[A-Za-z0-9_./~+@%=,-]+\Z")
_SCP = re.compile(r"(?P<user>[^@/:]+)@(?P<host>[^:/@]+):(?P<path>[^:].*)\Z")
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./@+-]*\Z")
_COMMIT = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})\Z")


@dataclass(frozen=True, slots=True)
class Address:
    """A checked address. `url` is what git gets; `origin` is scheme://host[:port] for per-host settings."""

    url: str
    scheme: str
    host: str
    port: int

    @property
    def origin(self) -> str:
        """`scheme://host[:port]` as git matches it in `http.<url>.*`."""
        netloc = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{netloc}:{self.port}"


def parse_address(url: str, *, allow_insecure: bool = False) -> Address | str:
    """The address, or one sentence that says why it is refused."""
    allowed = SAFE_SCHEMES + (INSECURE_SCHEMES if allow_insecure else ())
    if any(ord(char) <= 32 or ord(char) >= 127 for char in url) or url.startswith("-") or "::" in url.split("[")[0]:
        return "the repository address has characters that are not allowed: write https://host/path or ssh://user@host/path"
    scp = _SCP.match(url)
    if scp is not None and "://" not in url:
        url = f"ssh://{scp['user']}@{scp['host']}/{scp['path'].lstrip('/')}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"the repository address {url[:200]} is not a URL: write https://host/path or ssh://user@host/path"
    scheme = parts.scheme.lower()
    if scheme not in allowed or not url.startswith(f"{scheme}://"):
        extra = "" if scheme not in INSECURE_SCHEMES else "; http and git only when the operator's settings allow them"
        return (
            f"the transport {parts.scheme or 'of the address'} is not allowed: use {' or '.join(SAFE_SCHEMES)}{extra}"
        )
    if parts.password is not None or (scheme != "ssh" and parts.username is not None):
        return "the repository address may not contain a user or password: put them into the Secret of secretRef"
    if parts.username is not None and not _USER.match(parts.username):
        return "the user in the repository address has characters that are not allowed"
    host = parts.hostname or ""
    if not _HOST.match(host) and not _is_ip6(host):
        return f"the host {host[:100]!r} of the repository address is not a host name"
    if not _PATH.match(parts.path) or parts.query or parts.fragment or "/-" in parts.path or parts.path == "/":
        return "the path of the repository address is empty or has characters that are not allowed"
    defaults = {"https": 443, "http": 80, "ssh": 22, "git": 9418}
    return Address(url, scheme, host, port or defaults[scheme])


def _is_ip6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def refused_ip(text: str) -> bool:
    """Whether no repository may have this IP address: loopback, link-local (metadata), unspecified, multicast."""
    ip = ipaddress.ip_address(text)
    mapped = getattr(ip, "ipv4_mapped", None)
    ip = mapped if mapped is not None else ip
    return ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast


def is_ref_name(name: str) -> bool:
    """Whether git takes it for a ref name and for nothing else (see git-check-ref-format)."""
    return (
        _REF.match(name) is not None
        and len(name) <= 250
        and ".." not in name
        and "@{" not in name
        and "//" not in name
        and not name.endswith(("/", ".", ".lock"))
        and not any(part.startswith((".", "-")) or part.endswith(".lock") for part in name.split("/"))
    )


def is_commit_id(text: str) -> bool:
    """Whether it is a full object id."""
    return _COMMIT.match(text) is not None


def is_repository_path(path: str) -> bool:
    """Whether it is `.` or a plain relative path below the root."""
    if path == ".":
        return True
    parts = path.split("/")
    return (
        len(path) <= 1024
        and not any(ord(char) < 32 or char in '\x7f\\:"' for char in path)
        and all(part not in ("", ".", "..") and part.lower() != ".git" for part in parts)
        and not path.startswith("-")
    )
