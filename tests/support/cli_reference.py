"""The generated part of `docs/reference/cli.md`: the output of the commands' `--help`, as Markdown.

`make reference` writes it. The text before :data:`_BEGIN` and after :data:`_END` is written by hand, and left unchanged.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from usertable.cli import cli

PAGE = Path(__file__).parents[2] / "docs/reference/cli.md"
_BEGIN = "<!-- Written from the commands by `make reference`: change their help texts, not this part. -->\n"
_END = "<!-- End of the part written by `make reference`. -->\n"
_COMMON = ("store", "config", "url", "json")
"""Options of many commands, described once."""
_CODE = re.compile(r"(?<![\w-])--?[a-z][\w-]*(?: [A-Z]{2,}\b)?|\bUSERTABLE_[A-Z_]+|(?<!\w)@[a-z_]+")


def page(current: str) -> str:
    """Return the content that the page must have.

    Args:
        current: its current content.

    Raises:
        ValueError: it does not have both markers.
    """
    before, begin, rest = current.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{PAGE} needs the lines {_BEGIN!r} and {_END!r}")
    root = click.Context(cli, info_name="usertable", **cli.context_settings)
    sections = ["## Common options\n", *_table(root, _common_options()), *_commands(root)]
    return before + begin + "\n" + "\n".join(sections) + "\n" + end + after


def _common_options() -> list[click.Parameter]:
    found: dict[str, click.Parameter] = {}
    for command in [cli, *cli.commands.values()]:
        found |= {p.name: p for p in command.params if p.name in _COMMON}
    return [found[name] for name in _COMMON]


def _commands(parent: click.Context) -> Iterator[str]:
    assert isinstance(parent.command, click.Group)
    level = "##" if parent.parent is None else "###"
    for name, command in parent.command.commands.items():
        ctx = click.Context(command, info_name=name, parent=parent)
        paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
        if isinstance(command, click.Group):
            yield f"{level} {name}\n"
            yield from _prose(paragraphs)
            yield from _commands(ctx)
        else:
            yield f"{level} `{ctx.command_path}`\n"
            examples = [text for text in paragraphs if text.startswith("\b\nExample")]
            yield from _prose(text for text in paragraphs if text not in examples)
            usage = " ".join(command.collect_usage_pieces(ctx))
            yield f"```text\n{ctx.command_path} {usage}\n```\n"
            yield from _table(ctx, [p for p in command.params if p.name not in _COMMON])
            common = [f"`--{name}`" for name in _COMMON if any(p.name == name for p in command.params)]
            yield f"[Common options](#common-options): {', '.join(common)}.\n"
            for example in examples:
                yield f"```sh\n{_block(example)}\n```\n"


def _prose(paragraphs: Iterable[str]) -> Iterator[str]:
    for text in paragraphs:
        if text.startswith("\b\n"):
            lead = text.splitlines()[1]
            yield f"{_markdown(lead)}\n\n```text\n{_block(text)}\n```\n"
        else:
            yield f"{_markdown(' '.join(text.split()))}\n"


def _block(text: str) -> str:
    """Return the lines after the first one of a paragraph that keeps its line breaks."""
    return inspect.cleandoc("\n" + "\n".join(text.splitlines()[2:]))


def _table(ctx: click.Context, params: Iterable[click.Parameter]) -> Iterator[str]:
    rows = [_row(ctx, param) for param in params]
    if rows:
        yield "\n".join(["| Name | Meaning |", "|---|---|", *rows, ""])


def _row(ctx: click.Context, param: click.Parameter) -> str:
    name, _ = param.get_help_record(ctx) or ("", "")
    parts = [_markdown(getattr(param, "help", None) or "")]
    if isinstance(param, click.Option):
        extra = param.get_help_extra(ctx)
        parts += [f"Environment variable: `{variable}`." for variable in extra.get("envvars", ())]
        if default := extra.get("default"):
            parts.append(f"Default: {_markdown(default[1:-1]) if default[0] == '(' else f'`{default}`'}.")
        if numbers := extra.get("range"):
            parts.append(f"Range: `{numbers}`.")
        if extra.get("required"):
            parts.append("Required.")
    cells = (f"`{name}`", " ".join(filter(None, parts)))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _markdown(text: str) -> str:
    """Return plain text as Markdown: options and variables as code, everything else escaped."""
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [_CODE.sub(lambda found: f"`{found[0]}`", re.sub(r"([*<\[])", r"\\\1", part)) for part in parts[::2]]
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
