"""Run a command's operations on a store, or on a server through its native API."""

from __future__ import annotations

import base64
import contextlib
import itertools
import random
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
import msgspec

from usertable.cli.context import actor, load_settings, opened_service
from usertable.cli.errors import Failure, in_terms_of, store_place
from usertable.cli.options import common_option, environment_secret
from usertable.config import PROJECT, SECRET
from usertable.domain.errors import ProblemKind, Unavailable
from usertable.domain.permissions import ALL_SCOPES
from usertable.wire.native import decoding, documents, problem_details

if TYPE_CHECKING:
    from usertable.app.service import Service
    from usertable.client.core import Lost, Reply, Send
    from usertable.domain.schema import Project
    from usertable.http.openapi import Operation

PROJECTS_SHOWN = 10
"""Maximum number of projects that a message names."""
ANSWER_SECONDS = 60.0
"""Seconds to wait for each part of a server's response."""
FILE_SECONDS = 3600.0
"""Seconds to wait for a file, which the server completes before it sends the first part."""
_TOKEN = "USERTABLE_ADMIN_TOKEN"


def only_project(projects: Sequence[Project] | Sequence[documents.ProjectDocument], place: str) -> str:
    """Return the id of the only project of a store or server; see :meth:`Backend.default_project`."""
    if len(projects) == 1:
        return projects[0].id
    if not projects:
        raise Failure(f"there is no project in {place}; create one: usertable project create NAME")
    shown = ", ".join(f"{project.id} ({project.name})" for project in projects[:PROJECTS_SHOWN])
    more = ", …" if len(projects) > PROJECTS_SHOWN else ""
    raise click.UsageError(f"{place} has {len(projects)} projects: {shown}{more}; name one with --project ID or {PROJECT}")


class Backend(ABC):
    """Runs operations of the native API. The results are the same for a store and a server."""

    place: str
    """The store or server, for messages: `the store sqlite:///users.db`, `the server at https://usertable.example.com`."""

    @abstractmethod
    def ask(
        self,
        operation: str,
        *,
        query: msgspec.Struct | None = None,
        body: msgspec.Struct | None = None,
        **path: str,
    ) -> Any:
        """Run an operation of :mod:`usertable.http.operations`.

        Args:
            operation: id of the operation, such as `declare_attribute`.
            path: parameters of its path: `project`, `name`, `cuid`.

        Returns:
            The operation's result, a document of :mod:`usertable.wire.native`, or None.

        Raises:
            Refused, Failure: the operation was rejected.
            Unavailable: the operation cannot be done at the moment.
        """

    def default_project(self) -> str:
        """Return the id of the only project.

        Raises:
            UsageError: there are several projects.
            Failure: there is no project.
        """
        return only_project(self.ask("list_projects").projects, self.place)


class StoreBackend(Backend):
    """Runs operations on a store, in this process."""

    def __init__(self, service: Service) -> None:
        self.place = store_place()
        self._service = service

    def ask(
        self,
        operation: str,
        *,
        query: msgspec.Struct | None = None,
        body: msgspec.Struct | None = None,
        **path: str,
    ) -> Any:
        from usertable.http.operations import BY_ID, Call

        declared = BY_ID[operation]
        return declared.handle(Call(self._service, actor(), ALL_SCOPES, path, query or declared.query(), body)).document


class ServerBackend(Backend):
    """Runs operations on a server, through its native API. Must be closed.

    Args:
        token: the server's admin token; empty to use the project's `secret`.

    Raises:
        UsageError: the URL is invalid.
        Failure: an environment variable for connections is invalid.
    """

    def __init__(self, url: str, token: str, secret: str) -> None:
        # Importing it loads httpx, which is slow.
        from usertable.client.connections import Connections, settings_for
        from usertable.client.errors import ClientError

        self.place = f"the server at {url}"
        self._token = token
        self._secret = secret
        try:
            self._connections = Connections(settings_for(url, ANSWER_SECONDS, {}))
        except ValueError as error:
            raise click.UsageError(f"--url is {url!r}; expected a URL such as https://usertable.example.com") from error
        except ClientError as error:
            raise Failure(str(error)) from error

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def default_project(self) -> str:
        if not self._token:
            raise click.UsageError(f"--project is required: the secret in {SECRET} belongs to one project")
        return super().default_project()

    def ask(
        self,
        operation: str,
        *,
        query: msgspec.Struct | None = None,
        body: msgspec.Struct | None = None,
        **path: str,
    ) -> Any:
        declared, send = self._request(operation, query, body, path)
        reply = self._reply(lambda: self._connections.request(send), safe=declared.method == "GET")
        if reply.status >= 400:
            raise self._failure(reply, path.get("project", ""))
        if declared.answer is None:
            return None
        try:
            return decoding.decode_document(reply.content, declared.answer)
        except ValueError as error:
            raise self._other_program(reply, str(error)) from error

    def download(
        self, operation: str, keep: Callable[[bytes, int], object], *, query: msgspec.Struct | None = None, **path: str
    ) -> Mapping[str, str]:
        """Run an operation whose result is a file.

        Args:
            keep: called with each part of the file and the total number of bytes, 0 if unknown.

        Returns:
            The response's headers, with names in lower case.

        Raises:
            Refused, Failure, Unavailable: as for `ask`. The file is incomplete.
        """
        from usertable.client.core import Lost

        _, send = self._request(operation, query, None, path)
        # A proxy that compresses the response would remove its length.
        send.headers["accept-encoding"] = "identity"
        done = 0

        def count(piece: bytes, size: int) -> None:
            nonlocal done
            done += len(piece)
            keep(piece, size)

        def request() -> Reply | Lost:
            came = self._connections.download(send, count, FILE_SECONDS)
            if done and isinstance(came, Lost):
                raise Failure(
                    f"the download from {self.place} ended after {done:,} bytes; the file is incomplete, retry: {came.error}"
                )
            return came

        reply = self._reply(request, safe=True)
        if reply.status >= 400:
            raise self._failure(reply, path.get("project", ""))
        return reply.headers

    def _request(
        self, operation: str, query: msgspec.Struct | None, body: msgspec.Struct | None, path: Mapping[str, str]
    ) -> tuple[Operation, Send]:
        from usertable.client.core import Send
        from usertable.http.operations import BY_ID

        declared = BY_ID[operation]
        if declared.access == "admin" and not self._token:
            raise click.UsageError(f"this command needs the server's admin token; set {_TOKEN}")
        target = declared.path.format_map({name: quote(value, safe="") for name, value in path.items()})
        parameters = decoding.encode_query(query) if query else ""
        headers = {"authorization": self._authorization(path.get("project", "")), "accept-language": "en"}
        if body is not None:
            headers["content-type"] = "application/json"
        content = None if body is None else documents.encode(body)
        return declared, Send(declared.method, f"{target}?{parameters}" if parameters else target, content, headers)

    def _authorization(self, project: str) -> str:
        if self._token:
            return f"Bearer {self._token}"
        return f"Basic {base64.b64encode(f'{project}:{self._secret}'.encode()).decode()}"

    def _reply(self, request: Callable[[], Reply | Lost], *, safe: bool) -> Reply:
        """Send a request, with retries, and return the response.

        Args:
            request: sends the request.
            safe: whether to retry when it is unknown if the request was processed.
        """
        from usertable.client.core import Lost, Reply, Retry

        retry, chance = Retry(attempts=3), random.Random()
        for attempt in itertools.count(1):
            came = request()
            if isinstance(came, Reply) and came.status not in (429, 503):
                return came
            if isinstance(came, Lost) and (untrusted := _untrusted_certificate(came.error)):
                raise Failure(
                    f"the certificate of {self.place} is not trusted: {untrusted.verify_message}; set SSL_CERT_FILE to a"
                    " PEM file with that certificate or the one of its authority"
                )
            if attempt == retry.attempts or not (safe or _is_undone(came)):
                break
            time.sleep(retry.delay(attempt, chance))
        if isinstance(came, Reply):
            return came
        said = f"{self.place} cannot be reached: {came.error or type(came.error).__name__}"
        if came.sent and not safe:
            raise Failure(f"{said}. The server may have applied the change; check before you retry")
        raise Unavailable(said)

    def _failure(self, reply: Reply, project: str) -> Exception:
        try:
            details = decoding.decode_document(reply.content, problem_details.ProblemDetails)
        except ValueError:
            return self._other_program(reply, f"it answered HTTP {reply.status}")
        if reply.status in (429, 503):
            return Unavailable(f"{self.place} answered: {details.detail}")
        if details.code == ProblemKind.CREDENTIALS:
            return Failure(f"{self.place} rejected project {project} with the secret in {SECRET}; correct one of them")
        if details.code == ProblemKind.ADMIN_ONLY and self._token:
            return Failure(f"{self.place} does not accept the admin token; correct {_TOKEN}")
        if details.code == ProblemKind.PROJECT_UNKNOWN:
            return Failure(f"{details.detail} on {self.place}")
        if details.code in (ProblemKind.NO_ROUTE, ProblemKind.NO_METHOD):
            return Failure(f"{self.place} answered: {details.detail}; check the URL and the server's version")
        command = click.get_current_context().command
        return Failure("\n".join(in_terms_of(command, problem.detail) for problem in details.problems))

    def _other_program(self, reply: Reply, why: str) -> Failure:
        start = reply.content[:80].decode("utf-8", "replace")
        return Failure(f"{self.place} is not a usertable server, or runs another version; check the URL: {why}: {start!r}")


def _untrusted_certificate(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return the certificate error that caused a connection to fail; None if it failed for another reason."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def _is_undone(came: Reply | Lost) -> bool:
    """Return whether the server certainly did not process the request."""
    from usertable.client.core import Reply

    return came.status == 429 if isinstance(came, Reply) else not came.sent


@dataclass(frozen=True, slots=True)
class ProjectBackend:
    """The operations on one project."""

    id: str
    _backend: Backend

    @property
    def place(self) -> str:
        """See :attr:`Backend.place`."""
        return self._backend.place

    def ask(
        self,
        operation: str,
        *,
        query: msgspec.Struct | None = None,
        body: msgspec.Struct | None = None,
        **path: str,
    ) -> Any:
        """See :meth:`Backend.ask`."""
        return self._backend.ask(operation, query=query, body=body, project=self.id, **path)


@contextlib.contextmanager
def opened_backend(*, create: bool = False) -> Iterator[Backend]:
    """Yield the server that `--url` names, or a store.

    Args:
        create: create the store if it does not exist.
    """
    if common_option("url") is None:
        with opened_service(create=create) as service:
            yield StoreBackend(service)
        return
    with opened_server() as server:
        yield server


@contextlib.contextmanager
def opened_server() -> Iterator[ServerBackend]:
    """Yield the server that `--url` names."""
    token, secret = server_credentials()
    with contextlib.closing(ServerBackend(common_option("url").rstrip("/"), token, secret)) as server:
        yield server


def server_credentials() -> tuple[str, str]:
    """Return the admin token and the project's secret for the server that `--url` names. One of them may be empty.

    Raises:
        UsageError: both are missing, or a store is named too.
    """
    if common_option("store"):
        raise click.UsageError("--store and --url exclude each other; give one of them")
    # No store is opened, so none has to exist.
    token, secret = load_settings(store="memory:").config.admin_token, environment_secret()
    if not token and not secret:
        raise click.UsageError(
            f"--url needs credentials; set {_TOKEN} to the server's admin token, or {SECRET} to the project's secret"
        )
    return token, secret


@contextlib.contextmanager
def opened_project(project_id: str | None) -> Iterator[ProjectBackend]:
    """Yield a project of the server that `--url` names, or of a store.

    Args:
        project_id: None for the only project.
    """
    with opened_backend() as backend:
        yield ProjectBackend(project_id or backend.default_project(), backend)
