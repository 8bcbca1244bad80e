"""Tests for Citus only run if there is a cluster."""

from support.engines import CITUS

collect_ignore = [] if CITUS else ["test_citus.py", "test_citus_history.py"]
