"""Secrets that a form generates. They are not stored: the page that shows one derives it from the form's name."""

from __future__ import annotations

from starlette.responses import Response

from usertable.app.secrets import ID_BYTES, RANDOM_BYTES, secret_of
from usertable.console.context import PageContext
from usertable.console.results import KEPT_SECONDS

COOKIE = "usertable_secret"


def secret_of_form(context: PageContext, sending: str = "") -> str:
    """Return the secret that a form generates: the same if it is sent again with the same content, on any host.

    Args:
        sending: the form's name, see :attr:`PageContext.sending`; empty for the form being sent now.
    """
    name = sending or context.sending
    public, random = (bytes.fromhex(context.derive(purpose, name)) for purpose in ("public id", "secret"))
    return secret_of(public[:ID_BYTES], random[:RANDOM_BYTES])


def lead_to_secret(context: PageContext, address: str, made: str) -> Response:
    """Redirect to the page with the secret. Reloading it shows the secret again; no other browser can see it.

    Args:
        made: what was done: `created` or `rotated`.
    """
    response = context.redirect(address)
    context.remember(response, COOKIE, f"{context.sending}.{made}", int(KEPT_SECONDS))
    return response


def remembered_secret(context: PageContext) -> tuple[str, str]:
    """Return the secret that this browser's form generated, and what was done."""
    sending, _, made = context.request.cookies.get(COOKIE, "").partition(".")
    return secret_of_form(context, sending or "none"), made
