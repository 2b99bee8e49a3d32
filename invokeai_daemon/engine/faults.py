"""Faults: what went wrong on a device, and what it means for the image and for the process. Called by the renderer."""

from __future__ import annotations

import torch

from invokeai_daemon.errors import DaemonError, ModelMissing, RenderError

DEVICE_ERRORS = ("CUDA error", "cuDNN error", "CUDNN_STATUS", "CUBLAS_STATUS", "HIP error")


#: What libraries without an exception of their own say when memory ran out; oneDNN says nothing but that it failed.
NO_MEMORY = (
    "can't allocate memory",
    "Cannot allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "could not create a primitive",
    "could not create a memory",
)


class PoisonedDeviceError(RenderError):
    """The accelerator reported an error after which nothing it computes can be trusted; the process must end."""


def is_out_of_memory(error: Exception) -> bool:
    # The CPU allocator and cuBLAS have no exception classes of their own.
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(words in str(error) for words in NO_MEMORY)


def shortage_behind(error: BaseException | None) -> Exception | None:
    """That memory ran out, where that led to an error; libraries take it for a broken file. None where it did not."""
    while error is not None:
        if isinstance(error, Exception) and is_out_of_memory(error):
            return error
        error = error.__cause__ or error.__context__
    return None


def raise_if_poisoned(error: Exception) -> None:
    # Its libraries raise plain RuntimeErrors that only their text tells from harmless ones.
    is_device_error = isinstance(error, torch.AcceleratorError) or any(word in str(error) for word in DEVICE_ERRORS)
    if is_device_error and not is_out_of_memory(error):
        raise PoisonedDeviceError(f"the device failed and the renderer starts anew: {error}") from error


def explained(error: Exception) -> tuple[str, bool]:
    """The error as a sentence for the user, and whether trying again may help."""
    if is_out_of_memory(error):
        said = str(error).partition("\n")[0] or type(error).__name__
        return (
            "The device has too little memory for this image, also in parts. Ask for a smaller size, raise [render] "
            f"memory_gb if it is set, or close other programs that use the device. ({said})",
            True,
        )
    if isinstance(error, OSError):
        return f"The picture could not be written: {error}", True
    if isinstance(error, DaemonError):
        return str(error), isinstance(error, ModelMissing)
    return f"The image could not be rendered: {type(error).__name__}: {error}", False
