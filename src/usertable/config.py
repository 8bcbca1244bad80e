"""The configuration: one frozen object. Flags override the environment, which overrides the file, which overrides defaults.

An unknown key, an invalid value or an incomplete security setting prevents the start, because a setting that is silently
ignored is noticed at the worst time.
"""

from __future__ import annotations

import codecs
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PREFIX = "USERTABLE_"
TOKENS = ("admin_token", "admin_token_previous", "metrics_token")
"""Settings that are usertable's own tokens: a caller must send the same text."""
SECRETS = (*TOKENS, "oidc_client_secret")
"""Settings whose whole value is a secret."""
FILE_SUFFIX = "_file"
FROM_FILES = (*SECRETS, "store")
"""Settings that can be read from a file of their own: `admin_token_file`, `USERTABLE_ADMIN_TOKEN_FILE`."""
SECRET = "USERTABLE_SECRET"
"""Not a setting: the project's secret, for a command that calls a server."""
SECRET_FILE = SECRET + FILE_SUFFIX.upper()
PROJECT = "USERTABLE_PROJECT"
"""Not a setting: the ID of the project that a command works on."""
_NO_SETTINGS = (PREFIX + "CONFIG", PROJECT, SECRET, SECRET_FILE)
_PART = r"PORT_\d+_(?:TCP|UDP|SCTP)"
_SERVICE_LINKS = {
    re.compile(rf"(?:\w+_)?(?:{_PART}|PORT)"): re.compile(r"(?:tcp|udp|sctp)://\S+:\d+"),
    re.compile(rf"(?:\w+_)?(?:{_PART}_ADDR|SERVICE_HOST)"): re.compile(r"[\d.]+|[\da-f:]*:[\da-f:.]*"),
    re.compile(rf"(?:\w+_)?(?:{_PART}_PORT|SERVICE_PORT(?:_\w+)?)"): re.compile(r"\d+"),
    re.compile(rf"(?:\w+_)?{_PART}_PROTO"): re.compile("tcp|udp|sctp"),
}
"""The variables that Kubernetes sets in a pod for each Service, by the form of their name (after `USERTABLE_`) and value:
PORT=tcp://10.96.12.7:8000, SERVICE_HOST=10.96.12.7, SERVICE_PORT_HTTP=8000, PORT_8000_TCP_PROTO=tcp."""
_PUBLIC_URL = re.compile(r"https?://[^/\s?#@]+(?!/(?:api|console)(?:/|$))(/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*")
"""A path that begins like one of the server's own is not allowed: it would be unclear whether a proxy has removed it."""
_GRANT = re.compile(r"admin|(?:\*|[A-Za-z0-9._-]{1,64})=(?:owner|editor|viewer)")
_GRANT_HELP = "where PROJECT is a project's ID or *, and ROLE is owner, editor or viewer"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class ConfigError(Exception):
    """The configuration is invalid. The message names the setting, its source, and a correct value."""


def default_store() -> str:
    """Return the URL of a SQLite file in the user's data folder, `$XDG_DATA_HOME/usertable` or `~/.local/share/usertable`.

    Raises:
        ConfigError: the user has no home folder.
    """
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    try:
        folder = Path(base).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            "no store is named, and there is no home folder for the default one (HOME is not set);"
            " name one with --store URL or USERTABLE_STORE"
        ) from error
    return f"sqlite:///{folder / 'usertable' / 'usertable.db'}"


def _setting(default: Any, help_text: str, *, minimum: int = 0, maximum: int = 2**53) -> Any:
    metadata = {"help": help_text, "minimum": minimum, "maximum": maximum}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of the server. The names are the keys in the file; in the environment, upper case after `USERTABLE_`."""

    store: str = _setting(
        default_store, "URL of the store: sqlite:///file.db, postgresql://…, or memory: (keeps nothing on disk)"
    )
    host: str = _setting("127.0.0.1", "address to listen on; 0.0.0.0 for all interfaces")
    port: int = _setting(8000, "port to listen on; 0 for any free port", maximum=65535)
    uds: str = _setting("", "path of a Unix socket to listen on, instead of host and port")
    trusted_proxies: str = _setting(
        "", "addresses and networks of proxies whose X-Forwarded-For is used, separated by commas"
    )
    cors_origins: str = _setting(
        "", "origins whose pages may call the APIs from a browser, separated by commas: https://app.example.com"
    )
    public_url: str = _setting(
        "", "URL of the server as its users see it, if a proxy serves it elsewhere: https://example.com/usertable"
    )
    workers: int = _setting(1, "number of server processes; more than one needs PostgreSQL", minimum=1, maximum=256)
    admin_token: str = _setting(
        "", "bearer token for the native API's admin and the console, at least 16 characters; empty: no admin access"
    )
    admin_token_previous: str = _setting("", "the admin token before this one, also valid during a rotation")
    always_200: bool = _setting(False, "answer business errors of the platform's endpoints with HTTP 200")
    body_limit: int = _setting(1_048_576, "maximum bytes of a request body", minimum=1024, maximum=2**30)
    batch_body_limit: int = _setting(
        16_777_216, "maximum bytes of a batch's body, compressed and decompressed", minimum=1024, maximum=2**30
    )
    body_seconds: int = _setting(30, "maximum seconds for a request to arrive completely", minimum=1, maximum=3600)
    keep_alive_seconds: int = _setting(75, "seconds after which an idle connection is closed", minimum=1, maximum=3600)
    max_connections: int = _setting(10_000, "maximum number of open connections; further ones get 503", minimum=1)
    queue_capacity: int = _setting(10_000, "maximum number of waiting writes; further ones get 503", minimum=1)
    max_batch: int = _setting(256, "maximum number of writes per commit", minimum=1, maximum=10_000)
    receipt_hours: int = _setting(24, "hours for which an Idempotency-Key is remembered", minimum=24, maximum=24 * 365)
    row_limit: int = _setting(1_048_576, "maximum bytes of a user's attributes, as JSON", minimum=1024, maximum=2**30)
    max_attributes: int = _setting(2000, "maximum number of attributes per project", minimum=1, maximum=10_000)
    console: bool = _setting(True, "serve the console at /console")
    console_minutes: int = _setting(
        480, "minutes without a request after which a console session ends", minimum=1, maximum=43_200
    )
    oidc_issuer: str = _setting(
        "", "issuer URL of the OpenID Connect provider to sign in with: https://sso.example.com/realms/staff; empty: none"
    )
    oidc_client_id: str = _setting("", "client ID that the OpenID Connect provider knows the console by")
    oidc_client_secret: str = _setting("", "client secret for the OpenID Connect provider; empty: a public client")
    oidc_label: str = _setting("", "name of the OpenID Connect provider on the sign-in page: Example SSO")
    oidc_scopes: str = _setting("openid email profile", "OpenID Connect scopes to request, separated by spaces")
    oidc_email_domains: str = _setting(
        "", "domains of the e-mail addresses that may sign in by OpenID Connect, separated by commas; empty: all"
    )
    oidc_email_claim: str = _setting("email", "claim that has the e-mail address: email, or enterprise_email")
    oidc_trust_email: bool = _setting(
        False, "accept e-mail addresses that the OpenID Connect provider does not mark as verified"
    )
    oidc_roles_claim: str = _setting(
        "", "claim that decides the roles: groups, or realm_access.roles; empty: roles are edited in the console"
    )
    oidc_roles: str = _setting(
        "", "roles by value of that claim, separated by commas: staff:*=viewer, shop:100102=editor, operations:admin"
    )
    oidc_default_roles: str = _setting(
        "", "roles of whoever gets none by that claim, separated by commas: *=viewer; empty: they may not sign in"
    )
    arrival_payloads: bool = _setting(True, "keep excerpts of sampled requests' values for an hour, for the console")
    drain_seconds: int = _setting(
        30, "maximum seconds to finish requests in progress when the server stops", minimum=1, maximum=3600
    )
    shutdown_delay: int = _setting(
        0, "seconds for which a stopping server still answers requests, while /readyz returns 503", maximum=3600
    )
    metrics_address: str = _setting(
        "", "address of /metrics, host:port or unix:/path; empty: the server's own address, if metrics_token is set"
    )
    metrics_token: str = _setting(
        "",
        "bearer token for /metrics, at least 16 characters; empty: only metrics_address serves /metrics, without a token",
    )
    log_level: str = _setting("info", "debug, info, warning or error")
    log_format: str = _setting("text", "text, or json for one object per line")
    access_log: bool = _setting(False, "log a line for each answered request")

    @property
    def is_local(self) -> bool:
        """Whether the server is reachable from this machine only."""
        return bool(self.uds) or is_loopback(self.host)

    @property
    def public_path(self) -> str:
        """The path of `public_url`, below which everything is served: `/usertable`. Empty without one."""
        return urlsplit(self.public_url).path

    @property
    def browser_url(self) -> str:
        """The server's URL for browsers: `public_url`, or its address on this machine. A phrase instead, for a Unix
        socket."""
        if self.public_url:
            return self.public_url
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        if self.uds:
            return "(address of your proxy)"
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def admin_tokens(self) -> tuple[str, ...]:
        """The valid admin tokens, newest first; empty without `admin_token`."""
        return tuple(filter(None, (self.admin_token, self.admin_token_previous)))


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration and the source of each setting: `flag`, `environment`, `file` or `default`."""

    config: Config
    sources: Mapping[str, str]
    service_links: Sequence[str] = ()
    """Variables that were ignored, because Kubernetes sets them for a Service whose name begins with `usertable`."""
    file: str = ""
    """Path of the configuration file; empty if there is none."""
    secret_files: Sequence[str] = ()
    """Paths of the files that secrets were read from."""


def load(flags: Mapping[str, Any], environment: Mapping[str, str] | None = None, file: str | None = None) -> LoadedConfig:
    """Load the configuration from all its sources.

    Args:
        flags: settings from the command line; None means not given.
        environment: defaults to the process environment. `USERTABLE_CONFIG` names the file if `file` does not.
        file: path of a TOML file with settings at its top level.

    Raises:
        ConfigError: an unknown key, an invalid value, an unreadable file, or an incomplete security setting.
    """
    environment = os.environ if environment is None else environment
    known = {f.name: f for f in fields(Config)}
    file = file or environment.get(PREFIX + "CONFIG", "").rstrip("\r\n")
    service_links = [variable for variable, text in environment.items() if _is_service_link(variable, text)]
    given = {
        "file": _given_in_file(file, known),
        "environment": _given_in_environment(environment, known, service_links),
        "flag": _given_by_flags(flags),
    }
    values: dict[str, Any] = {}
    secret_files = []
    sources = dict.fromkeys(known, "default")
    for source, settings in given.items():
        names: dict[str, str] = {}
        for setting in settings:
            if (other := names.setdefault(setting.key, setting.name)) != setting.name:
                raise ConfigError(f"{other} and {setting.name} are both set; set one of them")
            values[setting.key] = _checked(known[setting.key], setting.value, setting.name)
            sources[setting.key] = source
            if setting.path:
                secret_files.append(setting.path)
    config = Config(**values)
    for name in TOKENS:
        if sources[name] != "default" and len(getattr(config, name)) < 16:
            raise ConfigError(f"{name} is set but has fewer than 16 characters; make one with: openssl rand -hex 32")
    if config.admin_token_previous and not config.admin_token:
        raise ConfigError("admin_token_previous is set, but admin_token is not; set admin_token to the new token")
    _check_metrics(config)
    _check_network(config, sources)
    _check_oidc(config, sources)
    if config.log_level not in ("debug", "info", "warning", "error"):
        raise ConfigError(f"log_level is {config.log_level!r}; expected debug, info, warning or error")
    if config.log_format not in ("text", "json"):
        raise ConfigError(f"log_format is {config.log_format!r}; expected text or json")
    return LoadedConfig(config, sources, service_links, file, secret_files)


@dataclass(frozen=True, slots=True)
class _Given:
    """A setting from one source, and its name there: `USERTABLE_PORT`, `--port`."""

    key: str
    value: Any
    name: str
    path: str = ""
    """The path of the setting's own file, if it was read from one."""


def _given_in_file(file: str, known: Mapping[str, Any]) -> Iterator[_Given]:
    for key, value in (_read(file) if file else {}).items():
        if key not in known and _secret_of(key) is None:
            raise ConfigError(f"{file}: unknown setting {key!r}; known: {', '.join(_with_files(known))}")
        yield _given(key, value, f"{file}: {key}")


def _given_in_environment(
    environment: Mapping[str, str], known: Mapping[str, Any], service_links: Sequence[str]
) -> Iterator[_Given]:
    for variable, text in environment.items():
        if not _is_setting(variable) or variable in service_links:
            continue
        key = variable.removeprefix(PREFIX).lower()
        if (key not in known and _secret_of(key) is None) or variable != variable.upper():
            variables = [*_NO_SETTINGS, *(PREFIX + key.upper() for key in _with_files(known))]
            raise ConfigError(f"unknown environment variable {variable}; known: {', '.join(variables)}")
        yield _given(key, text, variable)


def _given(key: str, value: Any, name: str) -> _Given:
    """Return a setting from the file or the environment, reading its own file if it names one."""
    secret = _secret_of(key)
    return _Given(key, value, name) if secret is None else _Given(secret, read_secret(value, name), name, value)


def _secret_of(key: str) -> str | None:
    """Return the setting whose file `key` names: `admin_token` for `admin_token_file`."""
    name = key.removesuffix(FILE_SUFFIX)
    return name if name != key and name in FROM_FILES else None


def _with_files(known: Mapping[str, Any]) -> list[str]:
    return [*known, *(key + FILE_SUFFIX for key in FROM_FILES)]


def read_secret(path: Any, name: str) -> str:
    """Return the content of the file that the setting `name` names, without a trailing line end.

    Raises:
        ConfigError: the file cannot be read, is empty, or is not text.
    """
    if not isinstance(path, str) or not path:
        raise ConfigError(f"{name} is {path!r}; expected the path of a file")
    try:
        content = Path(path).read_bytes().decode("utf-8-sig").rstrip("\r\n")
    except (OSError, ValueError) as error:
        # Its content must not be shown.
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{name}: the file {path} cannot be read: {reason}") from error
    if not content.strip():
        raise ConfigError(f"{name}: the file {path} is empty")
    return content


def _given_by_flags(flags: Mapping[str, Any]) -> Iterator[_Given]:
    for key, value in flags.items():
        if value is not None:
            yield _Given(key, value, f"--{key.replace('_', '-')}")


def _is_setting(variable: str) -> bool:
    """Return whether a variable is meant for usertable, whether or not a setting of this name exists."""
    return variable.startswith(PREFIX) and not variable.startswith(PREFIX + "TEST_") and variable not in _NO_SETTINGS


def _check_metrics(config: Config) -> None:
    if config.metrics_token and config.metrics_token in config.admin_tokens:
        raise ConfigError("metrics_token is the admin token, which may do everything; give /metrics a token of its own")
    address = config.metrics_address
    if not address:
        return
    host, colon, port = address.rpartition(":")
    is_path = address.startswith("unix:/")
    is_pair = bool(host) and bool(colon) and port.isascii() and port.isdigit() and int(port) <= 65535
    if not is_path and (not is_pair or (":" in host and not (host.startswith("[") and host.endswith("]")))):
        raise ConfigError(
            f"metrics_address is {address!r}; expected host:port, such as 127.0.0.1:9464 or [::1]:9464, or unix:/path"
        )
    if not is_path and (host.strip("[]"), int(port)) == (config.host, config.port) and config.port:
        raise ConfigError(
            "metrics_address is the server's own; to serve /metrics there, set metrics_token and leave the address out"
        )


def _check_oidc(config: Config, sources: Mapping[str, str]) -> None:
    given = [name for name in sources if name.startswith("oidc_") and getattr(config, name) and sources[name] != "default"]
    needed = ("oidc_issuer", "oidc_client_id")
    if not given:
        return
    if missing := [name for name in needed if not getattr(config, name)]:
        raise ConfigError(
            f"{given[0]} is set, but {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not;"
            " OpenID Connect needs oidc_issuer and oidc_client_id, and usually oidc_client_secret"
        )
    for one, other in (("oidc_roles_claim", "oidc_roles"), ("oidc_roles", "oidc_roles_claim")):
        if getattr(config, one) and not getattr(config, other):
            raise ConfigError(f"{one} is set, but {other} is not; set both, or neither")
    issuer = urlsplit(config.oidc_issuer)
    is_secure = issuer.scheme == "https" or (issuer.scheme == "http" and is_loopback(issuer.hostname or ""))
    if not is_secure or not issuer.hostname or issuer.query or issuer.fragment or issuer.username is not None:
        raise ConfigError(
            f"oidc_issuer is {config.oidc_issuer!r}; expected the provider's issuer, an https URL without a query:"
            " https://sso.example.com/realms/staff (http only for an address of this machine)"
        )
    if not config.oidc_email_claim:
        raise ConfigError("oidc_email_claim is empty; leave it out for the claim email")
    if config.oidc_email_claim != "email" and not config.oidc_trust_email:
        raise ConfigError(
            f"oidc_email_claim is {config.oidc_email_claim!r}, of which no claim says that it is verified;"
            " set oidc_trust_email to accept its addresses"
        )
    if "openid" not in config.oidc_scopes.split():
        raise ConfigError(f"oidc_scopes is {config.oidc_scopes!r}; it must contain openid")
    for domain in items(config.oidc_email_domains):
        if not re.fullmatch(r"[^@\s.]+(\.[^@\s.]+)*", domain):
            raise ConfigError(f"oidc_email_domains has {domain!r}; expected domains, without an @: example.com")
    for mapped in items(config.oidc_roles):
        value, colon, grant = mapped.rpartition(":")
        if not value or not colon or not _GRANT.fullmatch(grant):
            raise ConfigError(f"oidc_roles has {mapped!r}; expected VALUE:admin or VALUE:PROJECT=ROLE, {_GRANT_HELP}")
    for grant in items(config.oidc_default_roles):
        if not _GRANT.fullmatch(grant):
            raise ConfigError(f"oidc_default_roles has {grant!r}; expected admin or PROJECT=ROLE, {_GRANT_HELP}")


def items(text: str) -> list[str]:
    """Return the members of a comma-separated setting."""
    return [item.strip() for item in text.split(",") if item.strip()]


def is_loopback(host: str) -> bool:
    """Return whether an address is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_network(config: Config, sources: Mapping[str, str]) -> None:
    if config.uds and (ignored := [name for name in ("host", "port") if sources[name] != "default"]):
        raise ConfigError(f"uds is set, so {' and '.join(ignored)} would be ignored; set one or the other")
    if config.uds and not config.uds.startswith("/"):
        raise ConfigError(f"uds is {config.uds!r}; expected an absolute path, such as /run/usertable/usertable.sock")
    if config.public_url and not _PUBLIC_URL.fullmatch(config.public_url):
        raise ConfigError(
            f"public_url is {config.public_url!r}; expected a URL such as https://example.com/usertable, without a slash at"
            " its end and without a query. Its path cannot begin with /api or /console"
        )
    for proxy in items(config.trusted_proxies):
        try:
            ipaddress.ip_network(proxy)
        except ValueError as error:
            raise ConfigError(
                f"trusted_proxies has {proxy!r} ({error}); expected addresses and networks: 10.0.0.7, 10.0.0.0/8"
            ) from error
    for origin in items(config.cors_origins):
        if not re.fullmatch(r"https?://[^/\s*]+", origin):
            raise ConfigError(
                f"cors_origins has {origin!r}; expected origins as a browser sends them, without a path: https://app.example.com"
            )


def _is_service_link(variable: str, text: str) -> bool:
    name = variable.removeprefix(PREFIX)
    return _is_setting(variable) and any(n.fullmatch(name) and t.fullmatch(text) for n, t in _SERVICE_LINKS.items())


def _read(file: str) -> dict[str, Any]:
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"the configuration file {file} cannot be read: {error.strerror}") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content:
        raise ConfigError(f"the configuration file {file} is in UTF-16, or not a text file; save it as UTF-8")
    try:
        # Editors on Windows begin a file with a byte order mark.
        return tomllib.loads(content.decode("utf-8-sig").replace("\r\n", "\n"))
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the configuration file {file} is not UTF-8 (byte {error.start + 1}); save it as UTF-8"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the configuration file {file} is not valid TOML: {error}") from error


def _checked(setting: Any, value: Any, name: str) -> Any:
    """Return `value` in the setting's type. A text is parsed, because the environment contains only texts."""
    # The only default_factory is the store's, which returns a text.
    default = setting.default if setting.default is not MISSING else ""
    if isinstance(value, str):
        # A file written by `echo`, or a secret read from one, ends like this.
        value = value.rstrip("\r\n")
    if isinstance(default, bool):
        return _checked_boolean(value, name)
    if isinstance(default, int):
        return _checked_integer(value, name, setting.metadata["minimum"], setting.metadata["maximum"])
    text = _checked_text(value, name)
    # HTTP strips blanks around a header, so a token with blanks would never match.
    return text.strip() if setting.name in SECRETS else text


def _checked_boolean(value: Any, name: str) -> bool:
    spelled = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    value = spelled.get(value.lower(), value) if isinstance(value, str) else value
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}; expected true or false")
    return value


def _checked_integer(value: Any, name: str, minimum: int, maximum: int) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise ConfigError(f"{name} is {value!r}; expected an integer from {minimum} to {maximum}")
    return value


def _checked_text(value: Any, name: str) -> str:
    # The value is not shown: it may be a token.
    if not isinstance(value, str):
        raise ConfigError(f"{name} is not a string; write it in quotes")
    if _CONTROL.search(value):
        raise ConfigError(f"{name} has a line break or another control character in it")
    return value
