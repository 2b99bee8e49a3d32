"""Pickles of weight files, read without running them: an interpreter that builds plain values and tensor references.

Called by the readers of torch's formats. It imports nothing and calls nothing that the file names: what a global is
taken for, `globals` says. One that can only be an attack is `UnsafeModel`; one that training left there becomes an
`Opaque`, and no tensor may be made from it. Work and memory are bounded by the size of the pickle. Never imports torch.
"""

from __future__ import annotations

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.formats.pickle_machine import MAX_OPCODES, Machine
from invokeai_daemon.models.formats.pickle_opcodes import OPCODES
from invokeai_daemon.models.formats.pickle_values import CutOffPickle, Global, Opaque, Reading, Storage, Tensor

__all__ = ["MAX_OPCODES", "CutOffPickle", "Global", "Opaque", "Reading", "Storage", "Tensor", "read_pickle"]


def read_pickle(raw: bytes, where: str, *, whole: bool = True) -> Reading:
    """What one pickle says.

    `where` names the file in messages; with `whole`, bytes after the end are an error.
    Raises UnsafeModel when it names what only an attack needs or makes a tensor from a leftover, UnreadableModel when
    it is malformed, and of those CutOffPickle when it goes on after `raw`.
    """
    machine = Machine(raw, where)
    value = machine.run(OPCODES)
    if whole and machine.at != len(raw):
        raise UnreadableModel(f"{where}: {len(raw) - machine.at} bytes follow the end of its pickle.")
    return Reading(value, tuple(machine.names), tuple(machine.leftovers), machine.storages, machine.at)
