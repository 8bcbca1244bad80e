"""`python -m usertable` is the command `usertable`."""

from usertable.cli import main

main()
