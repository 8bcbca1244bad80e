"""The use cases of all topics in one object, over one store."""

from __future__ import annotations

from usertable.app.activity import Activity
from usertable.app.imports import Imports
from usertable.app.projects import Projects
from usertable.app.schema import SchemaEdits
from usertable.app.users import Users


class Service(Projects, SchemaEdits, Users, Imports, Activity):
    """All use cases that may block; setting attributes is in :mod:`usertable.app.writes`."""
