"""The names that a pickle may ask for: what each is taken for. Called by the interpreter of `pickles`.

Nothing that a pickle names is ever imported or called, so this is not what keeps code from running. It decides which
files are refused although their tensors could be had:

- "tensor": storages, dtypes, rebuilding functions and dictionaries. Their meaning is known to the interpreter.
- "plain": data types of Python and numpy that do nothing but hold values.
- "leftover": any other class or function of a program that trained or saved the model: callbacks, configurations,
  optimisers. It becomes a value that can do nothing, and the file is read as long as no tensor is made from it.
- "code": what nobody leaves in a file by accident, because its only use in a pickle is to do something. The file is
  refused, even if its tensors do not depend on it: whoever made it wanted to attack, and it may hold more.

Code is everything of Python's own library but the data types listed here; names with a dot or double underscores in
them, which reach into objects; a name with such a module inside (`package.os.system`); and of the large packages that
everybody has installed, each function that is called, but those that rebuild values. A class of theirs, or a function
that is only mentioned (an activation in a configuration), is a leftover.
"""

from __future__ import annotations

import re
import sys
from typing import Literal

Kind = Literal["tensor", "plain", "leftover", "code"]

#: Storage classes of torch and the safetensors name of what they hold; empty where the tensor says it.
STORAGES = {
    "torch.DoubleStorage": "F64",
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
    "torch.ComplexFloatStorage": "C64",
    "torch.storage.UntypedStorage": "",
    "torch.UntypedStorage": "",
}
#: The same where the tensors were on a GPU when they were saved, by old versions of torch.
STORAGES |= {name.replace("torch.", "torch.cuda."): dtype for name, dtype in STORAGES.items() if dtype}
DTYPES = {
    "torch.float64": "F64",
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.int64": "I64",
    "torch.int32": "I32",
    "torch.int16": "I16",
    "torch.int8": "I8",
    "torch.uint8": "U8",
    "torch.uint16": "U16",
    "torch.uint32": "U32",
    "torch.uint64": "U64",
    "torch.bool": "BOOL",
    "torch.complex64": "C64",
    "torch.float8_e4m3fn": "F8_E4M3",
    "torch.float8_e5m2": "F8_E5M2",
    "torch.float8_e4m3fnuz": "F8_E4M3FNUZ",
    "torch.float8_e5m2fnuz": "F8_E5M2FNUZ",
    "torch.float8_e8m0fnu": "F8_E8M0",
}
#: Functions that make a tensor; their meaning is known here, they are not called.
REBUILDERS = {
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._tensor._rebuild_from_type_v2",
}
DICTIONARIES = {"collections.OrderedDict", "builtins.dict", "__builtin__.dict", "collections.defaultdict"}

#: Classes that only hold values, also Python's own.
_PLAIN = re.compile(
    r"""
      _codecs\.encode
    | collections\.(?:deque|Counter|ChainMap|UserDict|UserList)
    | (?:builtins|__builtin__)\.
      (?:set|frozenset|list|tuple|int|float|bool|str|bytes|bytearray|complex|slice|range|object|unicode|long|xrange
        |NoneType|Ellipsis|NotImplemented)
    | (?:copyreg|copy_reg)\._reconstructor
    | typing\.[A-Z]\w*
    | types\.(?:SimpleNamespace|NoneType|MappingProxyType)
    | pathlib(?:\._local)?\.(?:Pure)?(?:Posix|Windows)?Path
    | argparse\.Namespace
    | datetime\.(?:datetime|date|time|timedelta|timezone)
    | (?:decimal\.Decimal|fractions\.Fraction|uuid\.UUID|time\.struct_time)
    | numpy\.(?:core|_core)\.multiarray\.(?:scalar|_reconstruct)
    | numpy\.(?:core|_core)\.numeric\._frombuffer
    | numpy\.(?:ndarray|dtype|bool_|(?:u?int|float|complex)\d+)
    | numpy\.dtypes\.\w+DType
    | numpy\.random\._pickle\.__\w+_ctor
    | torch\.(?:Size|device|Tensor|Generator|strided|sparse_coo|contiguous_format|preserve_format)
    | torch\.serialization\._get_layout
    | torch\.nn\.parameter\.(?:Parameter|Buffer)
    | torch\.nn\.modules\.container\.ParameterDict
    | (?:pytorch_lightning|lightning(?:\.pytorch|\.fabric)?)\.utilities\.parsing\.AttributeDict
    | easydict\.EasyDict
    """,
    re.VERBOSE,
)
#: Modules of Python 2 and of tools that come with Python; the rest of its library Python itself can list.
_LIBRARY = sys.stdlib_module_names | {
    *("__builtin__", "copy_reg", "commands", "popen2", "os2", "cPickle", "cStringIO", "StringIO", "urllib2", "httplib"),
    *("imp", "asyncore", "asynchat", "distutils", "smtpd", "pipes", "telnetlib", "nntplib", "ftplib", "crypt", "test"),
    *(
        "annotationlib",
        "compression",
        "pathlib",
        "pip",
        "setuptools",
        "pkg_resources",
        "wheel",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "turtledemo",
        "tkinter",
    ),
}
#: Modules that no package has inside, unless to reach through it.
_REACHED = {"os", "posix", "nt", "sys", "subprocess", "builtins", "__builtin__", "importlib", "ctypes", "shutil"}
_REACHED |= {"socket", "runpy", "pty", "pickle", "marshal"}
#: Packages that are there when a model is loaded, so that their functions are worth naming to an attacker.
_LARGE = {"torch", "torchvision", "numpy", "scipy", "pandas", "sklearn", "joblib", "dill", "cloudpickle", "cffi"}
_LARGE |= {"IPython", "jinja2", "yaml", "ruamel", "numba", "sympy", "fsspec", "transformers", "diffusers", "click"}
_LARGE |= {"huggingface_hub", "accelerate", "safetensors", "PIL", "cv2", "matplotlib", "tensorflow", "keras", "psutil"}
#: Packages that reach out of the program, or run what they are given: no training leaves a value of theirs in a file.
_ACTING = {"requests", "aiohttp", "httpx", "httplib2", "urllib3", "websocket", "websockets", "paramiko", "boto3"}
_ACTING |= {"fabric", "invoke", "sh", "plumbum", "pexpect", "ptyprocess", "psutil", "docker", "execnet", "pwn"}
_ACTING |= {"jinja2", "mako", "bottle", "flask", "django", "tornado", "twisted", "werkzeug", "uvicorn", "gunicorn"}
_ACTING |= {"numexpr", "asteval", "cffi", "nltk", "IPython", "cloudpickle", "dill"}
#: Functions that rebuild a value from its parts.
_REBUILDING = re.compile(r"_*(?:rebuild|reconstruct|unpickle)(?:_\w+)?|\w*_ctor|scalar|__pyx_unpickle_\w+")


def kind_of(module: str, name: str) -> Kind:
    """What a global is taken for where it is named."""
    full = f"{module}.{name}"
    if full in STORAGES or full in REBUILDERS or full in DTYPES or full in DICTIONARIES:
        return "tensor"
    if _PLAIN.fullmatch(full):
        return "plain"
    parts = full.split(".")
    # A private module of Python, of whatever version; the training script itself is `__main__`.
    is_private = parts[0].startswith("_") and parts[0] != "__main__"
    if "." in name or parts[0] in _LIBRARY | _ACTING or is_private or _REACHED & set(parts):
        return "code"
    if not all(part.isidentifier() for part in parts) or any(re.fullmatch(r"__\w+__", part) for part in parts[1:]):
        return "code"
    return "leftover"


def is_code_when_called(full: str) -> bool:
    """Whether a leftover can only be an attack because it is called: a function of a package that everybody has."""
    package, _, rest = full.partition(".")
    *_, name = rest.split(".")
    return package in _LARGE and not name.lstrip("_")[:1].isupper() and not _REBUILDING.fullmatch(name)
