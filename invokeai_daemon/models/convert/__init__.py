"""Conversion: a single-file checkpoint becomes a diffusers folder without passing through tensors.

`plan_conversion` looks at a header and says which byte range becomes which tensor; `Conversion.execute` copies;
`convert_model` does both and puts the folder into the store. Called by the importer. Never imports torch.
"""

from invokeai_daemon.models.convert.plan import Conversion, Progress, plan_conversion
from invokeai_daemon.models.convert.store import convert_model, folder_name, is_complete, read_marker

__all__ = ["Conversion", "Progress", "convert_model", "folder_name", "is_complete", "plan_conversion", "read_marker"]
