"""What is tested on a Citus cluster only is there only where there is one."""

from support.engines import CITUS

collect_ignore = [] if CITUS else ["test_citus.py"]
