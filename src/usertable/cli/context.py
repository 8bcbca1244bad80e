"""The context of a command: the settings, the store, the service, and the actor."""

from __future__ import annotations

import contextlib
import getpass
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usertable.cli.errors import COMMAND, HOW_TO_NAME_A_STORE, STORE_LOOKED_IN, Failure
from usertable.cli.options import common_option
from usertable.config import LoadedConfig, load
from usertable.domain.actor import Actor
from usertable.domain.errors import StoreMissing

if TYPE_CHECKING:
    from usertable.app.service import Service
    from usertable.store import Store


def load_settings(**flags: Any) -> LoadedConfig:
    """Load the settings from these flags, `--store`, the environment, and the file that `--config` names."""
    return load({"store": common_option("store"), **flags}, file=common_option("config"))


def make_default_folder(loaded: LoadedConfig) -> None:
    """Create the data directory of the default store. The directory of a named store must exist."""
    if loaded.sources["store"] == "default":
        from usertable.folders import make_folder

        make_folder(Path(loaded.config.store.removeprefix("sqlite:///")).parent, 0o700)


def warn_of_service_links(loaded: LoadedConfig) -> None:
    """Warn on stderr about environment variables that are ignored because Kubernetes sets them."""
    if loaded.service_links:
        click.echo(
            "Ignored environment variables that Kubernetes sets for a Service named usertable:"
            f" {', '.join(sorted(loaded.service_links))}. To prevent this, add enableServiceLinks: false to the pod's spec.",
            err=True,
        )


def refuse_memory(loaded: LoadedConfig) -> None:
    """Reject an in-memory store, which no command can reach."""
    if loaded.config.store.startswith("memory:"):
        raise click.UsageError(
            "a memory: store exists only inside its server, so no other command can open it;"
            " name a file, such as --store sqlite:///users.db"
        )


@contextlib.contextmanager
def opened_store(*, create: bool = False) -> Iterator[Store]:
    """Open and yield the named store, or the default one.

    Args:
        create: create the store if it does not exist. Few commands do: one that only reads would find nothing in it.
    """
    loaded = load_settings()
    refuse_memory(loaded)
    if create:
        make_default_folder(loaded)
    from usertable.store import open_store
    from usertable.store.urls import redacted_url

    try:
        opened = open_store(loaded.config.store, create=create, migrate=False)
    except StoreMissing as missing:
        by_default = ", the default" if loaded.sources["store"] == "default" else ""
        raise Failure(
            f"{missing}{by_default}; {HOW_TO_NAME_A_STORE}, or create one: usertable project create NAME"
        ) from missing
    ctx = click.get_current_context()
    ctx.meta[STORE_LOOKED_IN], ctx.meta[COMMAND] = redacted_url(loaded.config.store), ctx.command
    with contextlib.closing(opened) as store:
        yield store


@contextlib.contextmanager
def opened_service(*, create: bool = False) -> Iterator[Service]:
    """Yield the use cases on the store that :func:`opened_store` opens."""
    with opened_store(create=create) as store:
        from usertable.app.service import Service
        from usertable.domain.merge import Rules

        config = load_settings().config
        yield Service(store, max_attributes=config.max_attributes, rules=Rules(config.row_limit))


def actor() -> Actor:
    """Return the actor of this command: the operating system's user."""
    try:
        return Actor.cli(getpass.getuser())
    except (OSError, KeyError):
        return Actor.cli(f"uid {os.getuid()}")
