"""What a command works with: the settings, the store, the service, and who runs it."""

from __future__ import annotations

import contextlib
import getpass
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usertable.cli.errors import HOW_TO_NAME_A_STORE, STORE_LOOKED_IN, Failure
from usertable.cli.options import common_option
from usertable.config import LoadedConfig, load
from usertable.domain.errors import StoreMissing
from usertable.domain.merge import Rules
from usertable.store.urls import redacted_url

if TYPE_CHECKING:
    from usertable.app.service import Service
    from usertable.store import Store


def load_settings(**flags: Any) -> LoadedConfig:
    """The settings from the flags given here, `--store`, the environment, and the file that `--config` names."""
    return load({"store": common_option("store"), **flags}, file=common_option("config"))


def make_default_folder(loaded: LoadedConfig) -> None:
    """Make the data folder of the default store. The folder of a store that someone named is theirs to create."""
    if loaded.sources["store"] == "default":
        from usertable.folders import make_folder

        make_folder(Path(loaded.config.store.removeprefix("sqlite:///")).parent, 0o700)


def warn_of_service_links(loaded: LoadedConfig) -> None:
    """Say on stderr which environment variables were ignored, because Kubernetes sets them."""
    if loaded.service_links:
        click.echo(
            "Ignored, because Kubernetes sets them for a Service named usertable:"
            f" {', '.join(sorted(loaded.service_links))}. With enableServiceLinks: false in the pod's spec it sets none.",
            err=True,
        )


def refuse_memory(loaded: LoadedConfig) -> None:
    """Refuse a store that no command can reach."""
    if loaded.config.store.startswith("memory:"):
        raise click.UsageError(
            "a memory: store lives and dies with the server that holds it, so no other command can reach it;"
            " name a file: --store sqlite:///users.db"
        )


@contextlib.contextmanager
def opened_store(*, create: bool = False) -> Iterator[Store]:
    """The store that is named, or the default one.

    Args:
        create: create the store if there is none. Few commands do: one that only reads would find nothing in it.
    """
    loaded = load_settings()
    refuse_memory(loaded)
    if create:
        make_default_folder(loaded)
    from usertable.store import open_store

    try:
        opened = open_store(loaded.config.store, create=create, migrate=False)
    except StoreMissing as missing:
        by_default = ", the default" if loaded.sources["store"] == "default" else ""
        raise Failure(
            f"{missing}{by_default}; {HOW_TO_NAME_A_STORE}, or make one there: usertable project create NAME"
        ) from missing
    click.get_current_context().meta[STORE_LOOKED_IN] = redacted_url(loaded.config.store)
    with contextlib.closing(opened) as store:
        yield store


@contextlib.contextmanager
def opened_service(*, create: bool = False) -> Iterator[Service]:
    """The use cases, over the store that :func:`opened_store` gives."""
    with opened_store(create=create) as store:
        from usertable.app.service import Service

        config = load_settings().config
        yield Service(store, max_attributes=config.max_attributes, rules=Rules(config.row_limit))


def actor() -> str:
    """Who made a change, as the record of changes names them: `cli:` and the name of the system's user."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):
        return f"cli:uid {os.getuid()}"
