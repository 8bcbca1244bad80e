"""The configuration: one frozen object; flag over environment over file over default.

An unknown key, a value of the wrong form or a half-set security setting refuses to start, because a setting that is silently
ignored is found out at the worst time.
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

PREFIX = "USERTABLE_"
TOKENS = ("admin_token", "admin_token_previous", "metrics_token")
"""Settings that are secrets as a whole."""
FILE_SUFFIX = "_file"
FROM_FILES = (*TOKENS, "store")
"""Settings that may be read from a file of their own: `admin_token_file`, `USERTABLE_ADMIN_TOKEN_FILE`."""
SECRET = "USERTABLE_SECRET"
"""Not a setting, but the project's secret for a command that calls a server."""
SECRET_FILE = SECRET + FILE_SUFFIX.upper()
PROJECT = "USERTABLE_PROJECT"
"""Not a setting, but the id of the project that a command works on."""
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
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class ConfigError(Exception):
    """The configuration cannot be used: the message names the setting, its source, and what would be right."""


def default_store() -> str:
    """A SQLite file in the user's data folder (`$XDG_DATA_HOME/usertable`, or `~/.local/share/usertable`).

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
    """Every setting of the server. Names are the keys of the file; in the environment, upper case after `USERTABLE_`."""

    store: str = _setting(default_store, "URL of the store: sqlite:///file.db, postgresql://…, or memory: (keeps nothing)")
    host: str = _setting("127.0.0.1", "address to listen on; 0.0.0.0 for every interface")
    port: int = _setting(8000, "port to listen on; 0 for any free one", maximum=65535)
    uds: str = _setting("", "path of a Unix socket to listen on, in place of host and port")
    trusted_proxies: str = _setting(
        "", "addresses and networks of proxies whose X-Forwarded-For is believed, separated by commas"
    )
    cors_origins: str = _setting(
        "", "origins whose pages may call the APIs from a browser, separated by commas: https://app.example.com"
    )
    workers: int = _setting(1, "server processes; more than one needs postgresql", minimum=1, maximum=256)
    admin_token: str = _setting("", "bearer token of the native API's admin, 16 characters or more; empty: no admin access")
    admin_token_previous: str = _setting("", "the admin token before this one, which is valid too during a rotation")
    always_200: bool = _setting(False, "answer HTTP 200 to every business error of the platform's endpoints")
    body_limit: int = _setting(1_048_576, "largest request body, in bytes", minimum=1024, maximum=2**30)
    batch_body_limit: int = _setting(
        16_777_216, "largest body of a batch, in bytes, compressed or not", minimum=1024, maximum=2**30
    )
    body_seconds: int = _setting(30, "a request must have arrived whole within so many seconds", minimum=1, maximum=3600)
    keep_alive_seconds: int = _setting(75, "an idle connection is closed after so many seconds", minimum=1, maximum=3600)
    max_connections: int = _setting(10_000, "connections open at once; one more gets 503", minimum=1)
    queue_capacity: int = _setting(10_000, "writes waiting at most; one more gets 503", minimum=1)
    max_batch: int = _setting(256, "writes committed together at most", minimum=1, maximum=10_000)
    receipt_hours: int = _setting(24, "how long an Idempotency-Key is remembered, in hours", minimum=24, maximum=24 * 365)
    row_limit: int = _setting(
        1_048_576, "maximum bytes of a user's row, its attributes as JSON", minimum=1024, maximum=2**30
    )
    max_attributes: int = _setting(2000, "attributes per project", minimum=1, maximum=10_000)
    console: bool = _setting(True, "serve the console, the Data Center in a browser, at /console")
    console_minutes: int = _setting(
        480, "a console session ends after so many minutes without a request", minimum=1, maximum=43_200
    )
    arrival_payloads: bool = _setting(True, "keep excerpts of sampled requests' values for an hour, for the console")
    drain_seconds: int = _setting(30, "time for requests under way when the server is told to stop", minimum=1, maximum=3600)
    shutdown_delay: int = _setting(
        0, "seconds for which a server that is told to stop still answers requests, while /readyz returns 503", maximum=3600
    )
    metrics_address: str = _setting(
        "", "address of /metrics, host:port or unix:/path; empty: on the server's own address, if metrics_token is set"
    )
    metrics_token: str = _setting(
        "",
        "bearer token of /metrics, 16 characters or more; empty: only metrics_address serves metrics,"
        " to everyone who reaches it",
    )
    log_level: str = _setting("info", "debug, info, warning or error")
    log_format: str = _setting("text", "text, or json: an object a line")
    access_log: bool = _setting(False, "log a line for each answered request")

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the server."""
        return bool(self.uds) or is_loopback(self.host)

    @property
    def admin_tokens(self) -> tuple[str, ...]:
        """The valid ones, the newest first; none without `admin_token`."""
        return tuple(filter(None, (self.admin_token, self.admin_token_previous)))


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration, and where each setting came from: `flag`, `environment`, `file` or `default`."""

    config: Config
    sources: Mapping[str, str]
    service_links: Sequence[str] = ()
    """Variables that were ignored: Kubernetes makes them for a Service whose name begins with `usertable`."""
    file: str = ""
    """The configuration file; empty if there is none."""
    secret_files: Sequence[str] = ()
    """Files that a secret was read from, one each."""


def load(flags: Mapping[str, Any], environment: Mapping[str, str] | None = None, file: str | None = None) -> LoadedConfig:
    """Put the configuration together.

    Args:
        flags: settings given on the command line; None counts as not given.
        environment: the process environment by default. `USERTABLE_CONFIG` names the file if `file` does not.
        file: a TOML file with settings at its top level.

    Raises:
        ConfigError: an unknown key, a value of the wrong form, an unreadable file, or a half-set security setting.
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
    if config.log_level not in ("debug", "info", "warning", "error"):
        raise ConfigError(f"log_level is {config.log_level!r}; expected debug, info, warning or error")
    if config.log_format not in ("text", "json"):
        raise ConfigError(f"log_format is {config.log_format!r}; expected text or json")
    return LoadedConfig(config, sources, service_links, file, secret_files)


@dataclass(frozen=True, slots=True)
class _Given:
    """A setting as a source gives it, and the name that it has there: `USERTABLE_PORT`, `--port`."""

    key: str
    value: Any
    name: str
    path: str = ""
    """The file of its own that it was read from."""


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
    """A setting from the file or the environment, which may be in a file of its own."""
    secret = _secret_of(key)
    return _Given(key, value, name) if secret is None else _Given(secret, read_secret(value, name), name, value)


def _secret_of(key: str) -> str | None:
    """The setting whose file `key` names, such as `admin_token` for `admin_token_file`."""
    name = key.removesuffix(FILE_SUFFIX)
    return name if name != key and name in FROM_FILES else None


def _with_files(known: Mapping[str, Any]) -> list[str]:
    return [*known, *(key + FILE_SUFFIX for key in FROM_FILES)]


def read_secret(path: Any, name: str) -> str:
    """What is in the file that the setting `name` names, without the line end that it may have.

    Raises:
        ConfigError: it cannot be read, is empty, or is no text.
    """
    if not isinstance(path, str) or not path:
        raise ConfigError(f"{name} is {path!r}; expected the path of a file")
    try:
        content = Path(path).read_bytes().decode("utf-8-sig").rstrip("\r\n")
    except (OSError, ValueError) as error:
        # Of what is in it nothing is shown.
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
    """Whether a variable is meant for us, as a setting of a known name or not."""
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


def items(text: str) -> list[str]:
    """The members of a setting that is a list separated by commas."""
    return [item.strip() for item in text.split(",") if item.strip()]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_network(config: Config, sources: Mapping[str, str]) -> None:
    if config.uds and (ignored := [name for name in ("host", "port") if sources[name] != "default"]):
        raise ConfigError(f"uds is set, so {' and '.join(ignored)} would be ignored; set one or the other")
    if config.uds and not config.uds.startswith("/"):
        raise ConfigError(f"uds is {config.uds!r}; expected an absolute path, such as /run/usertable/usertable.sock")
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
        raise ConfigError(f"the configuration file {file} is in UTF-16, or is no text; save it as UTF-8")
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
    """`value` as the setting's type; texts are read as what they spell, since the environment has nothing else."""
    # The store's default, the only one that is made, is a text.
    default = setting.default if setting.default is not MISSING else ""
    if isinstance(value, str):
        # As a file that was written by `echo`, or a secret from one, ends.
        value = value.rstrip("\r\n")
    if isinstance(default, bool):
        return _checked_boolean(value, name)
    if isinstance(default, int):
        return _checked_integer(value, name, setting.metadata["minimum"], setting.metadata["maximum"])
    text = _checked_text(value, name)
    # A header loses the blanks around it, so a token with some would never be met.
    return text.strip() if setting.name in TOKENS else text


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
        raise ConfigError(f"{name} is not a text; write it in quotes")
    if _CONTROL.search(value):
        raise ConfigError(f"{name} has a line break or another control character in it")
    return value
