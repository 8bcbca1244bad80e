"""A browser without scripts, for tests of the console over HTTP."""

from __future__ import annotations

import html
import re

import httpx

TOKEN = "a-token-for-the-tests-only"


class FormBrowser(httpx.Client):
    """A client that sends forms like a page of the server, but runs no scripts."""

    def page(self, path: str) -> httpx.Response:
        self.shown = self.get(path)
        return self.shown

    def submit(self, path: str, headers: dict[str, str] | None = None, /, **fields: str) -> httpx.Response:
        token = re.search(r'name="form_token" value="(\w+)"', self.shown.text)
        assert token is not None, self.shown.text
        headers = {"Sec-Fetch-Site": "same-origin", **(headers or {})}
        return self.post(path, data={"form_token": token[1], **fields}, headers=headers)

    def fill_in(self, path: str, headers: dict[str, str] | None = None, /, **typed: str | None) -> httpx.Response:
        """Send the form of the current page, unchanged except for what was typed. None removes a check mark."""
        filled = {**form_fields(self.shown), **typed}
        sent = {name: value for name, value in filled.items() if value is not None}
        return self.post(path, data=sent, headers={"Sec-Fetch-Site": "same-origin", **(headers or {})})

    def sign_in(self) -> None:
        self.page("/console/sign-in")
        assert self.submit("/console/sign-in", token=TOKEN).headers["location"] == "/console/projects"
        self.page("/console/projects")

    def sign_in_as(self, email: str, password: str) -> httpx.Response:
        """Send the sign-in form with an email address and a password, and follow the redirect."""
        self.page("/console/sign-in")
        answer = self.submit("/console/sign-in", sign_in_email=email, sign_in_password=password)
        if answer.status_code == 303:
            self.page(answer.headers["location"])
        return answer


def form_fields(answer: httpx.Response) -> dict[str, str]:
    """Return the fields of the page's main form, as a browser would send them."""
    form = answer.text[answer.text.index("<main") :]
    found = {}
    for tag in re.findall(r"<input[^>]*>", form):
        if not (names := re.findall(r'\bname="([^"]*)"', tag)):
            # It tells a password manager whose password it is, and is not sent.
            continue
        (name,) = names
        kind = (re.findall(r'\btype="([^"]*)"', tag) or ["text"])[0]
        if kind not in ("checkbox", "radio") or " checked" in tag:
            found[name] = html.unescape((re.findall(r'\bvalue="([^"]*)"', tag) or ["on"])[0])
    for name, value in re.findall(r'<textarea[^>]* name="([^"]*)"[^>]*>\n?(.*?)</textarea>', form, re.DOTALL):
        found[name] = html.unescape(value)
    return found
