"""`usertable config`."""

from __future__ import annotations

from dataclasses import fields

import click

from usertable.cli.context import load_settings, warn_of_service_links
from usertable.cli.options import common_options
from usertable.cli.output import print_result, print_table
from usertable.config import TOKENS, Config
from usertable.store.urls import redacted_url

MASK = "********"


@click.command("config")
@common_options
def show_config() -> None:
    """Show every setting: its value, where that came from, and what it is for.

    A flag goes before an environment variable (upper case after USERTABLE_, such as USERTABLE_PORT), which goes before
    the file that --config or USERTABLE_CONFIG names, which goes before the default.

    \b
    Example:
      usertable config --config usertable.toml
    """
    loaded = load_settings()
    warn_of_service_links(loaded)
    settings = {}
    for setting in fields(Config):
        value = getattr(loaded.config, setting.name)
        if setting.name in TOKENS and value:
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
