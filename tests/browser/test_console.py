"""The console as people meet it, in a real browser."""

from __future__ import annotations

import re
import time
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

import usertable.console
from support.browser import PATIENCE_MS, check_accessible, sign_in
from support.form_browser import FormBrowser
from support.sample_server import AT, CUID, SCRIPT, TOKEN, page_paths
from support.server_process import ATTRIBUTE, PROJECT, SECRET, ServerProcess
from usertable.console.session import COOKIE
from usertable.console.shared_state import FREE_ATTEMPTS


def errors(page: Page, count: int = 1) -> dict[str, str]:
    """Assert that this many errors are shown, each linked to its field for screen readers."""
    expect(page.locator("p.error")).to_have_count(count)
    found = {}
    for error in page.locator("p.error").all():
        name = (error.get_attribute("id") or "").removesuffix("-error")
        assert page.locator(f"[aria-describedby~='{name}-error']").count() == 1
        found[name] = error.inner_text().removeprefix("Error:").strip()
    return found


# signing in


def test_a_wrong_token_then_the_right_one_and_out_again(context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(f"{AT}/identifiers")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("Admin token").fill("not the admin token")
    page.get_by_role("button", name="Sign in").click()
    assert errors(page) == {"token": "This is not the admin token."}
    expect(page.get_by_label("Admin token")).to_be_focused()
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Identifiers")).to_be_visible()
    page.get_by_text("Preferences").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("status")).to_have_text("You are signed out.")
    page.goto(AT)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_too_many_wrong_tokens_must_wait(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("slow")
    server = ServerProcess("memory:", folder, admin_token=TOKEN)
    try:
        page = browser.new_page(base_url=server.url, locale="en-GB")
        page.goto("/console/sign-in")
        # On a busy machine a wait may be over before the next attempt; each is twice as long as the one before.
        attempts = 0
        while attempts <= FREE_ATTEMPTS or "Too many" not in page.locator("#token-error").inner_text():
            page.goto("/console/sign-in")
            page.fill("#token", "wrong")
            page.keyboard.press("Enter")
            expect(page.locator("#token-error")).to_be_visible()
            attempts += 1
            if attempts <= FREE_ATTEMPTS:
                expect(page.locator("#token-error")).to_contain_text("not the admin token")
        deadline = time.monotonic() + 90
        while not page.url.endswith("/console/projects"):
            assert time.monotonic() < deadline
            time.sleep(1.1)
            page.fill("#token", TOKEN)
            with page.expect_navigation():
                page.keyboard.press("Enter")
        page.wait_for_url("**/console/projects")
        page.close()
    finally:
        server.stop()


def test_a_session_that_is_over_leads_to_the_sign_in(context: BrowserContext, server: ServerProcess) -> None:
    with FormBrowser(base_url=server.url) as earlier:
        earlier.sign_in()
        over = earlier.cookies[COOKIE]
        earlier.submit("/console/sign-out")
    context.add_cookies([{"name": COOKIE, "value": over, "url": f"{server.url}/console"}])
    page = context.new_page()
    page.goto(AT)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_form_that_is_sent_after_the_session_is_kept_over_the_sign_in(page: Page) -> None:
    page.goto(f"{AT}/new-attribute")
    page.locator("#name").fill("kept_over")
    page.locator("#description").fill("One line\n\nand another")
    page.locator("[name=type][value=LIST]").check()
    page.locator("[name=rule][value=append]").check()
    page.locator("#elements").fill("77")
    page.context.clear_cookies(name=COOKIE)
    page.get_by_role("button", name="Create attribute").click()
    expect(page.get_by_role("status")).to_contain_text("What you entered is kept")
    expect(page.get_by_label("Admin token")).to_be_focused()
    # A link to another language would discard what was typed.
    expect(page.get_by_text("Preferences")).to_have_count(0)
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#token-error")).to_be_visible()
    page.get_by_label("Admin token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("You are signed in")
    expect(page.locator("#name")).to_have_value("kept_over")
    expect(page.locator("#description")).to_have_value("One line\n\nand another")
    expect(page.locator("#elements")).to_have_value("77")
    expect(page.get_by_role("radio", name="Append")).to_be_checked()
    page.get_by_role("button", name="Create attribute").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("kept_over")
    page.goto(f"{AT}/attributes/kept_over/delete")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status")).to_contain_text("Attribute deleted")


def test_a_form_with_another_token_changes_nothing(page: Page) -> None:
    page.goto(f"{AT}/settings")
    page.evaluate("document.querySelectorAll('[name=form_token]').forEach((field) => (field.value = '0'.repeat(64)))")
    page.get_by_label("Name").fill("Taken over")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("Nothing was changed")
    expect(page.get_by_label("Name")).to_have_value("Taken over")
    page.goto("/console/projects")
    expect(page.get_by_role("link", name="Taken over")).to_have_count(0)


# from the first project to the first request


def test_from_a_new_project_to_a_put_that_took_effect(page: Page, server: ServerProcess) -> None:
    page.get_by_role("link", name="New project").click()
    page.get_by_label("Name").fill("Shop")
    page.get_by_role("button", name="Create project").click()
    expect(page.get_by_text("Copy the secret now")).to_be_visible()
    secret = page.locator("#secret-value").inner_text()
    project = page.url.split("/")[-2]
    assert re.fullmatch(r"\d{6}", project)
    assert f'-u "{project}:{secret}"' in page.locator("#snippet-curl").inner_text()
    expect(page.get_by_text("“level” is only an example")).to_be_visible()
    # A reload shows it again and does not create another project.
    page.reload()
    expect(page.locator("#secret-value")).to_have_text(secret)
    page.get_by_role("link", name="I have saved it").click()
    expect(page.get_by_role("heading", name="Shop")).to_be_visible()
    assert secret not in page.content()

    page.get_by_role("link", name="New attribute").click()
    page.get_by_label("Name", exact=True).fill("total_spent")
    page.get_by_label("Display name").fill("Total spent")
    page.get_by_label("NUMBER").first.check()
    expect(page.get_by_role("radio", name="Append")).to_be_disabled()
    page.get_by_role("radio", name="Accumulate").check()
    expect(page.locator("[data-example]:visible")).to_have_text("NUMBER · Accumulate Stored 3, new 5 → 8")
    page.get_by_role("button", name="Create attribute").click()
    expect(page.get_by_role("status")).to_contain_text("Attribute created")

    page.get_by_role("link", name="Identifiers").click()
    page.get_by_role("link", name="New identifier").click()
    page.get_by_label("Name", exact=True).fill("phone")
    page.get_by_role("button", name="Create identifier").click()
    expect(page.get_by_text("Get CUID uses the primary identifier (priority 1): phone.")).to_be_visible()

    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_text("Next step")).to_have_count(0)
    assert '{"identityName": "phone", "identityValues": [' in page.locator("#snippet-register").inner_text()
    assert "client.set(" in page.locator("#snippet-python").inner_text()

    with httpx.Client(base_url=server.url, auth=(project, secret)) as client:
        register = {"identityName": "phone", "identityValues": ["18000000000"]}
        cuid = client.post("/smartop/api/v1/user/register", json=register).json()["data"][0]["cuid"]

        page.get_by_role("link", name="Try it").click()
        page.get_by_label("Find by").select_option("phone")
        page.get_by_label("Value").fill("18000000000")
        page.get_by_label("Attributes (data)").fill('{"total_spent": 0.1}')
        page.get_by_role("button", name="Dry run").click()
        expect(page.get_by_text("Dry run: nothing was written")).to_be_visible()
        for total in ("0.1", "0.2", "0.3"):
            page.get_by_role("button", name="Send for real").click()
            row = page.get_by_role("row", name="total_spent")
            expect(row.locator("ins")).to_have_text(total)
        expect(row.locator("del")).to_have_text("0.2")
        expect(page.get_by_role("heading", name=f"User {cuid}, before and after")).to_be_visible()
        answer = client.put(
            ATTRIBUTE, json={"cuid": cuid, "data": {"total_spent": 0}}, headers={"Prefer": "return=representation"}
        )
        assert answer.json()["data"]["user"]["attributes"] == {"total_spent": 0.3}

    page.get_by_role("link", name="Attributes").click()
    page.get_by_role("link", name="total_spent").click()
    expect(page.get_by_role("button", name="Delete")).to_be_disabled()
    expect(page.get_by_role("button", name="Delete")).to_have_accessible_description(
        "Has data, so it can't be deleted. Hide it instead."
    )
    page.get_by_role("link", name="Audit log").click()
    expect(page.get_by_role("row", name="Created attribute total_spent").first).to_contain_text("admin-token")


def test_a_rotated_secret_works_and_the_old_one_does_not(page: Page, server: ServerProcess) -> None:
    page.get_by_role("link", name="New project").click()
    page.get_by_label("Name").fill("Rotated")
    page.get_by_label("Project ID").fill("rotated")
    page.get_by_role("button", name="Create project").click()
    old = page.locator("#secret-value").inner_text()
    page.get_by_role("link", name="I have saved it").click()
    page.get_by_role("link", name="Settings").click()
    page.get_by_role("link", name="Rotate secret").click()
    page.get_by_role("button", name="Rotate secret").click()
    assert errors(page) == {"confirm": "Tick the box to confirm."}
    page.get_by_label("I understand").check()
    page.get_by_role("button", name="Rotate secret").click()
    new = page.locator("#secret-value").inner_text()
    body = {"cuid": 1, "data": {"a": 1}}
    codes = [httpx.put(server.url + ATTRIBUTE, json=body, auth=("rotated", s)).json()["code"] for s in (old, new)]
    assert codes == [4009, 40003]
    # With an overlap, callers have time to change to the new secret.
    page.goto("/console/projects/rotated/secret")
    page.get_by_label("Works for one more hour").check()
    page.get_by_label("I understand").check()
    page.get_by_role("button", name="Rotate secret").click()
    newest = page.locator("#secret-value").inner_text()
    answers = [httpx.put(server.url + ATTRIBUTE, json=body, auth=("rotated", s)) for s in (old, new, newest)]
    assert [answer.json()["code"] for answer in answers] == [4009, 40003, 40003]


def test_settings_filters_editing_hiding_and_deleting(page: Page) -> None:
    page.goto(f"{AT}/settings")
    page.get_by_label("Time zone").fill("Europe/Berlin")
    page.get_by_label("No limit").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("Saved.")
    expect(page.get_by_label("Time zone")).to_have_value("Europe/Berlin")
    expect(page.get_by_label("No limit")).to_be_checked()

    page.goto(f"{AT}/attributes")
    page.get_by_label("Search").fill("会员")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_label("Data type").select_option("BOOL")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody th")).to_have_text(["is_member"])
    page.get_by_label("Rule").select_option("once")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("heading", name="No matching attributes")).to_be_visible()
    page.get_by_role("link", name="Clear filters").click()
    page.get_by_label("Status").select_option("hidden")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody th")).to_have_text(["referrer"])

    page.get_by_role("link", name="referrer").click()
    page.get_by_role("button", name="Unhide").click()
    expect(page.get_by_role("status")).to_contain_text("visible again")
    page.get_by_role("button", name="Hide").click()
    expect(page.get_by_role("status")).to_contain_text("hidden")
    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Display name").fill("Where from")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Where from")).to_be_visible()
    expect(page.get_by_role("row", name="Edited attribute referrer").first).to_be_visible()
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status")).to_have_text("Attribute deleted.")
    page.goto(f"{AT}/attributes/referrer")
    expect(page.get_by_text("does not exist")).to_be_visible()


def test_identifiers_are_ordered_edited_and_deleted(page: Page) -> None:
    page.goto(f"{AT}/identifiers")
    page.get_by_role("link", name="Move login_id up").click()
    expect(page.get_by_text("Get CUID rejects every request, because login_id is not unique")).to_be_visible()
    expect(page.locator("tbody th").first).to_contain_text("login_id")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Move login_id down")).to_be_focused()
    # The draft is in the URL: a reload keeps it, and another browser shows that nothing was saved.
    page.reload()
    expect(page.get_by_role("heading", name="This order is not saved yet")).to_be_visible()
    page.get_by_role("link", name="Discard").click()
    expect(page.locator("tbody th").first).to_contain_text("phone")
    page.get_by_role("link", name="Move login_id up").click()
    page.get_by_role("button", name="Save order").click()
    expect(page.get_by_role("status")).to_have_text("Priority order changed.")
    expect(page.get_by_text("is not unique, so Get CUID rejects it")).to_be_visible()
    page.get_by_role("link", name="Move login_id down").click()
    page.get_by_role("button", name="Save order").click()
    expect(page.locator("tbody th").first).to_contain_text("phone")
    page.get_by_role("row", name="login_id").get_by_role("link", name="Edit").click()
    page.get_by_label("Display name").fill("Account")
    page.get_by_label("Masked").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("row", name="login_id")).to_contain_text("Account")
    page.get_by_role("row", name="login_id").get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("row", name="login_id")).to_have_count(0)
    phone = page.get_by_role("row", name="phone")
    expect(phone.get_by_role("button", name="Delete")).to_be_disabled()
    # On a phone, every action is visible.
    page.set_viewport_size({"width": 390, "height": 844})
    for action in phone.locator(".row-actions > *").all():
        box = action.bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= 390
    page.goto(f"{AT}/identifiers/phone/delete")
    expect(page.get_by_role("alert")).to_contain_text("Users have values of “phone”, so it can't be deleted.")
    page.goto(f"{AT}/identifiers/jg_UnionID/delete")
    expect(page.get_by_role("alert")).to_contain_text("is a preset")


# invalid input in forms


@pytest.mark.parametrize(
    ("path", "button", "typed", "wrong"),
    [
        ("/console/new-project", "Create project", {"name": " "}, {"name": "printable characters"}),
        ("/console/new-project", "Create project", {"name": "x", "id": "a b"}, {"id": "“a b” is not a project ID"}),
        ("/console/new-project", "Create project", {"name": "x", "id": PROJECT}, {"id": "is taken"}),
        ("/console/new-project", "Create project", {"name": "x", "timezone": "Mars/Base"}, {"timezone": "“Mars/Base”"}),
        ("/console/new-project", "Create project", {"name": "x", "qps": "many"}, {"qps": "“many”"}),
        (f"{AT}/settings", "Save", {"name": ""}, {"name": "printable characters"}),
        (f"{AT}/settings", "Save", {"qps": "0"}, {"qps": "“0”"}),
        (f"{AT}/settings", "Save", {"timezone": SCRIPT}, {"timezone": "<script>document.title"}),
        (f"{AT}/new-attribute", "Create attribute", {"name": ""}, {"name": "Enter a name."}),
        (f"{AT}/new-attribute", "Create attribute", {"name": "Level"}, {"name": "“Level” is not a valid name"}),
        (f"{AT}/new-attribute", "Create attribute", {"name": "jg_x"}, {"name": "reserved for presets"}),
        (f"{AT}/new-attribute", "Create attribute", {"name": "level"}, {"name": "is taken"}),
        (f"{AT}/new-attribute", "Create attribute", {"name": SCRIPT}, {"name": "<script>document.title"}),
        (f"{AT}/new-attribute", "Create attribute", {"name": "a", "description": "x" * 1001}, {"description": "1000"}),
        (f"{AT}/attributes/tags/edit", "Save", {"display_name": "x" * 1001}, {"display_name": "1000"}),
        (f"{AT}/new-identifier", "Create identifier", {"name": "phone"}, {"name": "is taken"}),
        (f"{AT}/new-identifier", "Create identifier", {"name": "x", "display_name": "x" * 1001}, {"display_name": "1000"}),
        (f"{AT}/identifiers/phone/edit", "Save", {"display_name": "x" * 1001}, {"display_name": "1000"}),
        (f"{AT}/try", "Dry run", {"value": ""}, {"value": "Enter a CUID"}),
        (f"{AT}/try", "Dry run", {"value": "7"}, {"value": "does not exist"}),
        (f"{AT}/try", "Dry run", {"value": "1e3"}, {"value": "a whole number from 1 to"}),
        (f"{AT}/try", "Dry run", {"value": str(CUID), "data": ""}, {"data": "at least one attribute"}),
        (f"{AT}/try", "Dry run", {"value": str(CUID), "data": "{"}, {"data": "not valid JSON"}),
        (f"{AT}/try", "Send for real", {"value": str(CUID), "data": '{"a":1,"a":2}'}, {"data": "more than once"}),
    ],
)
def test_what_is_wrong_stands_beside_its_field_and_what_was_typed_stays(
    page: Page, path: str, button: str, typed: dict[str, str], wrong: dict[str, str]
) -> None:
    page.goto(path)
    for name, value in typed.items():
        if name == "qps" and page.get_by_label("No limit").is_checked():
            page.get_by_label("No limit").uncheck()
        page.locator(f"#{name}").fill(value)
    page.get_by_role("button", name=button).click()
    found = errors(page, len(wrong))
    assert set(found) == set(wrong)
    for name, part in wrong.items():
        assert part in found[name]
        expect(page.locator(f"#{name}")).to_be_focused()
    for name, value in typed.items():
        expect(page.locator(f"#{name}")).to_have_value(value)
    assert page.title() != "taken"


def test_a_pair_that_is_not_legal_is_refused_by_the_server_too(page: Page) -> None:
    page.goto(f"{AT}/new-attribute")
    page.locator("#name").fill("odd")
    page.evaluate("""() => {
        const rule = document.querySelector('[name=rule][value=append]');
        rule.disabled = false;
        rule.checked = true;
        rule.form.submit();
    }""")
    assert "This rule is not available for STRING. Choose one of: Overwrite, Once only." in errors(page)["rule"]
    page.get_by_label("LIST").first.check()
    page.get_by_label("Max items").fill("0")
    page.get_by_role("button", name="Create attribute").click()
    expect(page.locator("#elements-error")).to_be_visible()
    assert "1 to 100000" in errors(page)["elements"]


def test_the_first_field_that_is_wrong_has_the_focus(page: Page) -> None:
    page.goto(f"{AT}/new-attribute")
    page.get_by_label("LIST").first.check()
    page.get_by_label("Max items").fill("none")
    page.evaluate("document.querySelectorAll('[name=rule]').forEach((rule) => (rule.checked = false))")
    page.get_by_role("button", name="Create attribute").click()
    assert list(errors(page, 3)) == ["name", "rule", "elements"]
    expect(page.locator("#name")).to_be_focused()
    page.locator("#name").fill("later_ones")
    page.get_by_role("button", name="Create attribute").click()
    assert list(errors(page, 2)) == ["rule", "elements"]
    expect(page.get_by_role("radio", name="Overwrite")).to_be_focused()
    expect(page.get_by_role("radiogroup", name="Rule")).to_have_attribute("aria-invalid", "true")


def test_a_refused_put_names_every_problem(page: Page) -> None:
    page.goto(f"{AT}/try?cuid={CUID}")
    page.get_by_label("Attributes (data)").fill('{"nope": 1, "level": "", "total_spent": "much"}')
    page.get_by_role("button", name="Send for real").click()
    expect(page.get_by_text("Rejected: nothing was written")).to_be_visible()
    expect(page.locator(".problems li")).to_have_text(
        [
            "The attribute “nope” does not exist.",
            "The value of “level” is empty.",
            "“much” is not a NUMBER for “total_spent”. Expected a number, or a string that is a plain number.",
        ]
    )


def test_values_are_text_wherever_they_are_shown(page: Page, server: ServerProcess) -> None:
    name = f"{SCRIPT}\"'&"
    page.goto(f"{AT}/attributes/city/edit")
    page.get_by_label("Display name").fill(name)
    page.get_by_label("Description").fill(name)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    page.goto(f"{AT}/identifiers/phone/edit")
    page.get_by_label("Display name").fill(name)
    page.get_by_role("button", name="Save").click()
    body = {"cuid": CUID, "data": {"city": name, "tags": [name]}}
    assert httpx.put(server.url + ATTRIBUTE, json=body, auth=(PROJECT, SECRET)).status_code == 200
    page.goto(f"{AT}/try?cuid={CUID}")
    page.get_by_role("button", name="Dry run").click()
    expect(page.get_by_role("row", name="city")).to_contain_text("<script>")
    for path in page_paths():
        page.goto(path)
        assert page.title() != "taken", path
        assert page.locator("script:not([src])").count() == 0, path


# every page, in every language, theme and size


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_every_page_is_accessible_in_both_themes_and_fits_a_phone(
    browser: Browser, server: ServerProcess, locale: str
) -> None:
    # The content security policy would block axe too.
    context = browser.new_context(base_url=server.url, locale=locale, bypass_csp=True, reduced_motion="reduce")
    page = context.new_page()
    page.goto("/console/sign-in")
    check_accessible(page, colors=locale == "en-GB")
    page.close()
    page = sign_in(context)
    for path in page_paths():
        page.goto(path)
        if path.endswith("/try"):
            page.fill("#value", str(CUID))
            page.click("button[value=dry]")
            page.wait_for_selector("#result")
        assert page.locator("html").get_attribute("lang") == locale.replace("en-GB", "en")
        check_accessible(page, colors=locale == "en-GB")
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        page.set_viewport_size({"width": 1280, "height": 800})
    context.close()


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_what_is_refused_is_told_accessibly_and_fits_a_phone(browser: Browser, server: ServerProcess, locale: str) -> None:
    context = browser.new_context(base_url=server.url, locale=locale, bypass_csp=True, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    page = sign_in(context)
    long = "n" * 100

    def checked(shows: str) -> None:
        page.wait_for_selector(shows)
        check_accessible(page, colors=locale == "en-GB")
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, page.url
        page.set_viewport_size({"width": 1280, "height": 800})

    def sent(path: str, fields: dict[str, str], shows: str = "p.error") -> None:
        page.goto(path)
        for name, value in fields.items():
            page.locator(f"#{name}").fill(value)
        page.locator("main form:not([role=search]) button").first.click()
        checked(shows)

    # The assertion shows the elements that are too wide.
    sent("/console/new-project", {"name": " ", "id": long + "!", "timezone": long, "qps": long})
    sent(f"{AT}/new-attribute", {"name": long + "!"})
    sent(f"{AT}/new-identifier", {"name": long + "!"})
    sent(f"{AT}/secret", {})
    sent(f"{AT}/users/{CUID}/erase", {"confirm": long})
    sent(f"{AT}/try", {"value": long, "data": "{"})
    sent(f"{AT}/try", {"value": str(CUID), "data": f'{{"{long}": 1}}'}, "#result")
    for path, shows in (
        (f"{AT}/users/find?identifier=phone&value={long}", "#sought-error"),
        (f"{AT}/users?add_attribute=total_spent&add_operator=eq&add_value={long}", "#value-error"),
        (f"{AT}/users?where=city:eq:{long}&where=total_spent:between:1,2&where=level:in:a,{long}", ".chip"),
        (f"{AT}/attributes/{long}", "h1"),
        (f"{AT}/attributes?search={long}", "h2"),
        (f"/console/projects/{long}", "h1"),
        (f"{AT}/users/7", "h1"),
        (f"{AT}/arrivals?show=accepted", "h1"),
        (f"/console/sign-in?next={AT}", "h1"),
    ):
        page.goto(path)
        checked(shows)
    page.goto(f"{AT}/attributes/tags/edit")
    context.clear_cookies(name=COOKIE)
    page.locator("main form button").first.click()
    checked("#token")
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    checked("#token-error")
    context.close()


def test_no_color_depends_on_the_language() -> None:
    """Contrasts do not depend on the language, so one is enough."""
    console = Path(usertable.console.__file__).parent
    assert "lang" not in (console / "static/console.css").read_text()
    pages = {page.name for page in (console / "templates").rglob("*.html") if re.search(r"\blanguage\b", page.read_text())}
    # The page's own language, and the names of the others.
    assert pages == {"base.html", "preferences.html"}


def test_language_and_theme_are_chosen_and_remembered(page: Page) -> None:
    page.goto(f"{AT}/attributes?type=LIST")
    page.get_by_text("Preferences").click()
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("用户属性")
    assert page.url.endswith("?type=LIST")
    page.get_by_text("偏好设置").click()
    page.get_by_role("button", name="深色").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.goto("/console/projects")
    expect(page.get_by_role("heading", level=1)).to_have_text("项目")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_the_keyboard_reaches_everything(page: Page) -> None:
    page.goto(f"{AT}/attributes")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.get_by_text("Preferences").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    expect(page.locator(".side [aria-current=page]")).to_have_text("Attributes")


def test_no_page_asks_another_host(page: Page, server: ServerProcess) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for path in page_paths():
        page.goto(path)
    assert asked
    assert all(url.startswith(f"{server.url}/console") for url in asked)


def test_the_forms_work_without_script(browser: Browser, server: ServerProcess) -> None:
    context = browser.new_context(base_url=server.url, locale="en-GB", java_script_enabled=False)
    page = sign_in(context)
    page.goto(f"{AT}/new-attribute")
    page.locator("#name").fill("without_script")
    page.locator("[name=type][value=LIST]").check()
    page.locator("[name=rule][value=append]").check()
    page.get_by_role("button", name="Create attribute").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("without_script")
    context.close()
