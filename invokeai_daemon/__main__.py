"""`python -m invokeai_daemon`."""

from invokeai_daemon.cli.main import main

if __name__ == "__main__":
    main()
