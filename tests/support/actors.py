"""The actors in the tests."""

from __future__ import annotations

from usertable.domain.actor import Actor

TESTER = Actor.cli("test")
ADMIN = Actor.admin_token()
