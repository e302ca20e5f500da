"""`python -m mineru_daemon` is the console script `mineru-daemon`."""

from mineru_daemon.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
