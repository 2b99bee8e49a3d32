"""InvokeAI 2.3 prompt commands: `waterfall and rainbow -W640 -H480 -S42` as job keys, and job keys as a command.

Called for `*.txt` drops, for `Dream` records, and by `metadata --command`. Switches that are not served are problems.
"""

from __future__ import annotations

from invokeai_daemon.job.commands.reading import jobs_of_text, join_subprompts, parse_command
from invokeai_daemon.job.commands.switches import SWITCHES
from invokeai_daemon.job.commands.writing import to_command, unsaid

__all__ = ["SWITCHES", "jobs_of_text", "join_subprompts", "parse_command", "to_command", "unsaid"]
