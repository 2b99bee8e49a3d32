"""Intake: what is dropped in autoimport/ becomes models of the registry, or gets a verdict.

tree → settle → orders → importer → records → notes
what is one drop · is it complete · who works on it · what it is · write it down · do not look again
"""

from invokeai_daemon.daemon.intake.intake import Intake

__all__ = ["Intake"]
