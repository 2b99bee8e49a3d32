"""Strict TOML: files that people write, read with every mistake named at once: line, value, rule, nearest valid name.

Called for jobs, settings and sidecars. The caller caps the size; hostile input then costs milliseconds. Opens no files.
"""

from invokeai_daemon.strict_toml.read import Document, read_toml
from invokeai_daemon.strict_toml.rules import Mistake, nearest, show, validate
from invokeai_daemon.strict_toml.write import dump_toml

__all__ = ["Document", "Mistake", "dump_toml", "nearest", "read_toml", "show", "validate"]
