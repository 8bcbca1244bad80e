"""`usertable config`."""

from __future__ import annotations

from dataclasses import fields

import click

from usertable.cli.context import load_settings, warn_of_service_links
from usertable.cli.options import common_options
from usertable.cli.output import print_result, print_table
from usertable.config import SECRETS, Config

MASK = "********"


@click.command("config")
@common_options
def show_config() -> None:
    """Show every setting with its value, source and meaning.

    Sources, highest precedence first: command-line option; environment variable, USERTABLE_ and the setting's name in
    upper case, such as USERTABLE_PORT; the file that --config or USERTABLE_CONFIG names; default. Secrets are masked.

    \b
    Example:
      usertable config --config usertable.toml
    """
    from usertable.store.urls import redacted_url

    loaded = load_settings()
    warn_of_service_links(loaded)
    settings = {}
    for setting in fields(Config):
        value = getattr(loaded.config, setting.name)
        if setting.name in SECRETS and value:
            value = MASK
        elif setting.name == "store":
            value = redacted_url(value)
        settings[setting.name] = {
            "value": value,
            "source": loaded.sources[setting.name],
            "help": setting.metadata["help"],
        }
    print_result(
        settings,
        lambda: print_table(
            ("setting", "value", "source", "help"),
            ((name, s["value"], s["source"], s["help"]) for name, s in settings.items()),
        ),
    )
