"""The scopes of roles."""

from __future__ import annotations

import itertools

from usertable.domain.permissions import ALL_SCOPES, PROJECT_SCOPES, Role, Scope, ordered, scopes_of


def test_every_role_may_do_what_the_one_below_it_may() -> None:
    roles = [scopes_of(role) for role in (Role.VIEWER, Role.EDITOR, Role.OWNER, Role.ADMIN)]
    assert all(lower < higher for lower, higher in itertools.pairwise(roles))


def test_only_an_admin_may_do_what_belongs_to_no_project() -> None:
    assert [role for role in Role if Scope.INSTALLATION in scopes_of(role)] == [Role.ADMIN]
    assert scopes_of(Role.ADMIN) == ALL_SCOPES
    assert scopes_of(Role.OWNER) == PROJECT_SCOPES


def test_a_viewer_only_reads_and_an_editor_can_lose_no_user() -> None:
    assert scopes_of(Role.VIEWER) == {Scope.READ}
    assert scopes_of(Role.EDITOR) == {Scope.SCHEMA, Scope.READ, Scope.WRITE, Scope.REGISTER, Scope.IMPORT}


def test_scopes_are_shown_in_one_order() -> None:
    assert ordered({Scope.KEYS, Scope.READ, Scope.WRITE}) == (Scope.WRITE, Scope.READ, Scope.KEYS)
