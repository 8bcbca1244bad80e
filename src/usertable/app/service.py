"""The use cases of all topics in one object, for one store."""

from __future__ import annotations

from usertable.app.activity import Activity
from usertable.app.audit import AuditLog
from usertable.app.history import History
from usertable.app.imports import Imports
from usertable.app.keys import Keys
from usertable.app.openid_people import OpenIdPeople
from usertable.app.projects import Projects
from usertable.app.schema import SchemaEdits
from usertable.app.users import Users


class Service(Projects, Keys, AuditLog, SchemaEdits, Users, History, Imports, Activity, OpenIdPeople):
    """All use cases that may block. Setting attributes is in :mod:`usertable.app.writes`."""
