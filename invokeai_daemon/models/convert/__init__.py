"""Conversion: a single-file checkpoint becomes a diffusers folder without passing through tensors.

`plan_conversion` looks at a header and says which byte range becomes which tensor; `Conversion.execute` copies;
`convert_model` does both and puts the folder into the store. `ConvertOptions` says what may be chosen. Called by the
importer. Never imports torch.

What a kind of model consists of is a table: `family` has the words, `sd` and its neighbours the tables, `families` the
list of them, and the parts (`unet`, `vae`, `clip`, …) name their tensors.
"""

from invokeai_daemon.models.convert.conversion import Conversion, Progress
from invokeai_daemon.models.convert.families import family_of, is_convertible
from invokeai_daemon.models.convert.options import ConvertOptions
from invokeai_daemon.models.convert.plan import plan_conversion
from invokeai_daemon.models.convert.store import convert_model, folder_name, is_complete, read_marker

__all__ = [
    "Conversion",
    "ConvertOptions",
    "Progress",
    "convert_model",
    "family_of",
    "folder_name",
    "is_complete",
    "is_convertible",
    "plan_conversion",
    "read_marker",
]
