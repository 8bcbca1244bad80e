"""Where a command's operations are carried out: in a store, or by a server, through its native API."""

from __future__ import annotations

import base64
import contextlib
import itertools
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
import msgspec

from usertable.cli.context import actor, load_settings, opened_service
from usertable.cli.errors import Failure, store_place
from usertable.cli.options import common_option, environment_secret
from usertable.config import PROJECT, SECRET
from usertable.domain.errors import ProblemKind, Unavailable
from usertable.wire.native import decoding, documents, problem_details

if TYPE_CHECKING:
    from usertable.app.service import Service
    from usertable.client.core import Lost, Reply, Send
    from usertable.domain.schema import Project

PROJECTS_SHOWN = 10
"""Maximum number of projects that a message names."""
ANSWER_SECONDS = 60.0
"""Seconds to wait for a piece of a server's answer."""
_TOKEN = "USERTABLE_ADMIN_TOKEN"


def only_project(projects: Sequence[Project] | Sequence[documents.ProjectDocument], place: str) -> str:
    """The id of the only project of a place; see :meth:`Backend.default_project`."""
    if len(projects) == 1:
        return projects[0].id
    if not projects:
        raise Failure(f"there is no project in {place}; make one: usertable project create NAME")
    shown = ", ".join(f"{project.id} ({project.name})" for project in projects[:PROJECTS_SHOWN])
    more = ", …" if len(projects) > PROJECTS_SHOWN else ""
    raise click.UsageError(f"{place} has {len(projects)} projects: {shown}{more}; name one with --project ID or {PROJECT}")


class Backend(ABC):
    """Carries out operations of the native API. Its answers have one form, wherever that is."""

    place: str
    """For messages: `the store sqlite:///users.db`, or `the server at https://usertable.example.com`."""

    @abstractmethod
    def ask(
        self,
        operation: str,
        *,
        query: msgspec.Struct | None = None,
        body: msgspec.Struct | None = None,
        **path: str,
    ) -> Any:
        """Carry out an operation of :mod:`usertable.http.operations`.

        Args:
            operation: its id, such as `declare_attribute`.
            path: the parameters of its path: `project`, `name`, `cuid`.

        Returns:
            What the operation answers, a document of :mod:`usertable.wire.native`, or None.

        Raises:
            Refused, Failure: it was refused.
            Unavailable: it cannot be done at the moment.
        """

    def default_project(self) -> str:
        """The only project that there is.

        Raises:
            UsageError: there are several.
            Failure: there is none.
        """
        return only_project(self.ask("list_projects").projects, self.place)


class StoreBackend(Backend):
    """Operations on a store, in this process."""

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
        return declared.handle(Call(self._service, actor(), True, path, query or declared.query(), body)).document


class ServerBackend(Backend):
    """Operations through the native API of a server. Close it.

    Args:
        token: the server's admin token; empty if there is none, and `secret` is the project's.

    Raises:
        UsageError: the URL is none.
        Failure: an environment variable for connections is of no use.
    """

    def __init__(self, url: str, token: str, secret: str) -> None:
        # It loads httpx, which is slow.
        from usertable.client.connections import Connections, settings_for
        from usertable.client.errors import ClientError

        self.place = f"the server at {url}"
        self._token = token
        self._secret = secret
        try:
            self._connections = Connections(settings_for(url, ANSWER_SECONDS, {}))
        except ValueError as error:
            raise click.UsageError(f"--url is {url!r}; expected something like https://usertable.example.com") from error
        except ClientError as error:
            raise Failure(str(error)) from error

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def default_project(self) -> str:
        if not self._token:
            raise click.UsageError(f"--project is needed: the secret in {SECRET} is that of one project; name it")
        return super().default_project()

    def ask(
        self,
        operation: str,
        *,
        query: msgspec.Struct | None = None,
        body: msgspec.Struct | None = None,
        **path: str,
    ) -> Any:
        from usertable.client.core import Send
        from usertable.http.operations import BY_ID

        declared = BY_ID[operation]
        if declared.access == "admin" and not self._token:
            raise click.UsageError(f"this command needs the server's admin token; put it into {_TOKEN}")
        target = declared.path.format_map({name: quote(value, safe="") for name, value in path.items()})
        parameters = decoding.encode_query(query) if query else ""
        headers = {"authorization": self._authorization(path.get("project", "")), "accept-language": "en"}
        if body is not None:
            headers["content-type"] = "application/json"
        content = None if body is None else documents.encode(body)
        send = Send(declared.method, f"{target}?{parameters}" if parameters else target, content, headers)
        reply = self._reply(send, safe=declared.method == "GET")
        if reply.status >= 400:
            raise self._failure(reply, path.get("project", ""))
        if declared.answer is None:
            return None
        try:
            return decoding.decode_document(reply.content, declared.answer)
        except ValueError as error:
            raise self._other_program(reply, str(error)) from error

    def _authorization(self, project: str) -> str:
        if self._token:
            return f"Bearer {self._token}"
        return f"Basic {base64.b64encode(f'{project}:{self._secret}'.encode()).decode()}"

    def _reply(self, send: Send, *, safe: bool) -> Reply:
        """The answer to a request.

        Args:
            safe: whether it may be sent again when nobody knows if it was done.
        """
        from usertable.client.core import Reply, Retry

        retry, chance = Retry(attempts=3), random.Random()
        for attempt in itertools.count(1):
            came = self._connections.request(send)
            if isinstance(came, Reply) and came.status not in (429, 503):
                return came
            if attempt == retry.attempts or not (safe or _is_undone(came)):
                break
            time.sleep(retry.delay(attempt, chance))
        if isinstance(came, Reply):
            return came
        said = f"{self.place} cannot be reached: {came.error or type(came.error).__name__}"
        if came.sent and not safe:
            raise Failure(f"{said}. It may have been done all the same; look before you try again")
        raise Unavailable(said)

    def _failure(self, reply: Reply, project: str) -> Exception:
        try:
            details = decoding.decode_document(reply.content, problem_details.ProblemDetails)
        except ValueError:
            return self._other_program(reply, f"it answered HTTP {reply.status}")
        if reply.status in (429, 503):
            return Unavailable(f"{self.place} answered: {details.detail}")
        if details.code == ProblemKind.CREDENTIALS:
            return Failure(f"{self.place} does not know project {project} with the secret in {SECRET}")
        if details.code == ProblemKind.ADMIN_ONLY and self._token:
            return Failure(f"{self.place} does not accept the admin token; correct {_TOKEN}")
        if details.code == ProblemKind.PROJECT_UNKNOWN:
            return Failure(f"{details.detail} on {self.place}")
        if details.code in (ProblemKind.NO_ROUTE, ProblemKind.NO_METHOD):
            return Failure(f"{self.place} answered: {details.detail}; is the URL right, and the server of this version?")
        return Failure("\n".join(problem.detail for problem in details.problems))

    def _other_program(self, reply: Reply, why: str) -> Failure:
        start = reply.content[:80].decode("utf-8", "replace")
        return Failure(f"{self.place} is no server of usertable, or of another version; is the URL right? {why}: {start!r}")


def _is_undone(came: Reply | Lost) -> bool:
    """Whether it is certain that the server did not do what was asked."""
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
    """The server that `--url` names, or a store.

    Args:
        create: create the store if there is none.
    """
    url = common_option("url")
    if url is None:
        with opened_service(create=create) as service:
            yield StoreBackend(service)
        return
    token, secret = server_credentials()
    with contextlib.closing(ServerBackend(url.rstrip("/"), token, secret)) as server:
        yield server


def server_credentials() -> tuple[str, str]:
    """The admin token and the project's secret for the server that `--url` names; one of them may be empty.

    Raises:
        UsageError: there are none, or a store is named too.
    """
    if common_option("store"):
        raise click.UsageError("--store names a store and --url a server; give one of them")
    # No store is opened, so none need be found.
    token, secret = load_settings(store="memory:").config.admin_token, environment_secret()
    if not token and not secret:
        raise click.UsageError(
            f"a server needs credentials; put its admin token into {_TOKEN}, or the project's secret into {SECRET}"
        )
    return token, secret


@contextlib.contextmanager
def opened_project(project_id: str | None) -> Iterator[ProjectBackend]:
    """A project of the server that `--url` names, or of a store.

    Args:
        project_id: None for the only one that there is.
    """
    with opened_backend() as backend:
        yield ProjectBackend(project_id or backend.default_project(), backend)
