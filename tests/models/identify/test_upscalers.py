"""Every network that spandrel loads is known by its keys: the same architecture, the same scale, and no tie."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from invokeai_daemon.models.identify import identify
from tests.models.build import header_of

#: module, class, arguments; on the meta device where the network can be made there.
NETWORKS: list[tuple[str, str, dict[str, Any]]] = [
    ("Compact", "Compact", {}),
    ("Compact", "Compact", {"upscale": 2, "num_conv": 32}),
    ("Compact", "Compact", {"upscale": 1, "num_in_ch": 1, "num_out_ch": 1}),
    ("SwiftSRGAN", "SwiftSRGAN", {}),
    ("SwiftSRGAN", "SwiftSRGAN", {"upscale_factor": 2}),
    ("HAT", "HAT", {"img_size": 16, "window_size": 4, "upscale": 4, "depths": (1, 1), "num_heads": (6, 6)}),
    ("HAT", "HAT", {"img_size": 16, "window_size": 4, "upscale": 2, "depths": (1, 1), "num_heads": (6, 6)}),
    (
        "GRL",
        "GRL",
        {
            "img_size": 16,
            "upscale": 4,
            "upsampler": "pixelshuffle",
            "depths": [2],
            "num_heads_window": [3],
            "num_heads_stripe": [3],
        },
    ),
    (
        "GRL",
        "GRL",
        {
            "img_size": 16,
            "upscale": 2,
            "upsampler": "pixelshuffledirect",
            "depths": [2],
            "num_heads_window": [3],
            "num_heads_stripe": [3],
        },
    ),
    ("GRL", "GRL", {"img_size": 16, "depths": [2], "num_heads_window": [3], "num_heads_stripe": [3]}),
    (
        "Swin2SR",
        "Swin2SR",
        {"img_size": 16, "window_size": 4, "upscale": 4, "upsampler": "pixelshuffle", "depths": [2], "num_heads": [6]},
    ),
    (
        "Swin2SR",
        "Swin2SR",
        {
            "img_size": 16,
            "window_size": 4,
            "upscale": 2,
            "upsampler": "pixelshuffledirect",
            "depths": [2],
            "num_heads": [6],
        },
    ),
    (
        "SwinIR",
        "SwinIR",
        {"img_size": 16, "window_size": 4, "upscale": 4, "upsampler": "nearest+conv", "depths": [2], "num_heads": [6]},
    ),
    (
        "SwinIR",
        "SwinIR",
        {"img_size": 16, "window_size": 4, "upscale": 3, "upsampler": "pixelshuffle", "depths": [2], "num_heads": [6]},
    ),
    (
        "SwinIR",
        "SwinIR",
        {
            "img_size": 16,
            "window_size": 4,
            "upscale": 2,
            "upsampler": "pixelshuffledirect",
            "depths": [2],
            "num_heads": [6],
        },
    ),
    ("SwinIR", "SwinIR", {"img_size": 16, "window_size": 4, "depths": [2], "num_heads": [6]}),
    ("GFPGAN", "GFPGAN", {}),
    ("RestoreFormer", "RestoreFormer", {}),
    ("LaMa", "LaMa", {}),
    ("OmniSR", "OmniSR", {}),
    ("OmniSR", "OmniSR", {"up_scale": 2}),
    ("SCUNet", "SCUNet", {"config": [2] * 7, "dim": 32}),
    ("FBCNN", "FBCNN", {}),
    ("Uformer", "Uformer", {"embed_dim": 16, "depths": [1] * 9}),
    ("RGT", "RGT", {"embed_dim": 20, "depth": [2], "num_heads": [2], "upscale": 4, "img_size": 16}),
    ("RGT", "RGT", {"embed_dim": 20, "depth": [2], "num_heads": [2], "upscale": 3, "img_size": 16}),
    ("DAT", "DAT", {"embed_dim": 20, "depth": [2], "num_heads": [2], "upscale": 4, "img_size": 16}),
    (
        "DAT",
        "DAT",
        {
            "embed_dim": 20,
            "depth": [2],
            "num_heads": [2],
            "upscale": 2,
            "img_size": 16,
            "upsampler": "pixelshuffledirect",
        },
    ),
    ("CRAFT", "CRAFT", {}),
    ("CRAFT", "CRAFT", {"upscale": 2}),
    ("KBNet", "KBNet_l", {}),
    ("KBNet", "KBNet_s", {}),
    ("DITN", "DITN", {}),
    ("DITN", "DITN", {"upscale": 2}),
    ("MMRealSR", "MMRealSR", {"num_in_ch": 3, "num_out_ch": 3}),
    ("MMRealSR", "MMRealSR", {"num_in_ch": 3, "num_out_ch": 3, "scale": 2}),
    ("SPAN", "SPAN", {"num_in_ch": 3, "num_out_ch": 3}),
    ("SPAN", "SPAN", {"num_in_ch": 3, "num_out_ch": 3, "upscale": 2}),
    ("RealCUGAN", "UpCunet2x", {}),
    ("RealCUGAN", "UpCunet2x_fast", {}),
    ("RealCUGAN", "UpCunet3x", {}),
    ("RealCUGAN", "UpCunet4x", {}),
    ("SAFMN", "SAFMN", {"dim": 36}),
    ("SAFMN", "SAFMN", {"dim": 36, "upscaling_factor": 2}),
    ("SAFMNBCIE", "SAFMNBCIE", {"dim": 36}),
    ("DCTLSA", "DCTLSA", {}),
    ("FFTformer", "FFTformer", {}),
    ("NAFNet", "NAFNet", {"middle_blk_num": 1, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]}),
    ("ATD", "ATD", {}),
    ("ATD", "ATD", {"upscale": 4, "upsampler": "pixelshuffle"}),
    ("ATD", "ATD", {"upscale": 2, "upsampler": "pixelshuffledirect"}),
    ("MixDehazeNet", "MixDehazeNet", {}),
    ("DRUNet", "DRUNet", {}),
    ("DnCNN", "DnCNN", {}),
    ("DnCNN", "DnCNN", {"act_mode": "R", "in_nc": 3, "out_nc": 3}),
    ("IPT", "IPT", {"n_feats": 8, "patch_size": 12, "num_layers": 1, "num_heads": 2, "scale": [2, 3, 4]}),
    (
        "DRCT",
        "DRCT",
        {
            "img_size": 16,
            "embed_dim": 24,
            "depths": (1, 1),
            "num_heads": (2, 2),
            "upscale": 4,
            "upsampler": "pixelshuffle",
        },
    ),
    ("ESRGAN", "ESRGAN", {}),
    ("ESRGAN", "ESRGAN", {"scale": 1}),
    ("ESRGAN", "ESRGAN", {"scale": 2}),
    ("ESRGAN", "ESRGAN", {"scale": 8, "num_blocks": 6}),
    ("ESRGAN", "ESRGAN", {"scale": 16}),
    ("ESRGAN", "ESRGAN", {"plus": True}),
    ("PLKSR", "PLKSR", {}),
    ("PLKSR", "RealPLKSR", {}),
    ("PLKSR", "RealPLKSR", {"upscaling_factor": 2}),
    ("RetinexFormer", "RetinexFormer", {}),
    ("HVICIDNet", "HVICIDNet", {}),
    ("SeemoRe", "SeemoRe", {}),
    ("SeemoRe", "SeemoRe", {"scale": 2}),
    ("MoSR", "MoSR", {"n_block": 2}),
    ("MoSR", "MoSR", {"n_block": 2, "upscale": 2, "upsampler": "dys"}),
    ("MoSR", "MoSR", {"n_block": 2, "upscale": 2, "upsampler": "gps"}),
    ("MoESR", "MoESR", {"n_blocks": 1, "n_block": 1}),
    ("RCAN", "RCAN", {"n_resgroups": 2, "n_resblocks": 2}),
    ("RCAN", "RCAN", {"n_resgroups": 2, "n_resblocks": 2, "scale": 2}),
    ("FDAT", "FDAT", {"num_groups": 1, "depth_per_group": 1}),
    (
        "AuraSR",
        "AuraSR",
        {
            "dim": 8,
            "image_size": 256,
            "input_image_size": 64,
            "style_network": {"dim_in": 16, "dim_out": 64, "depth": 2},
        },
    ),
    (
        "SRFormer",
        "SRFormer",
        {
            "img_size": 24,
            "window_size": 12,
            "depths": (2,),
            "num_heads": (6,),
            "upscale": 2,
            "upsampler": "pixelshuffle",
        },
    ),
    ("CodeFormer", "CodeFormer", {}),
    ("AdaCode", "AdaCode", {}),
    ("AdaCode", "AdaCode", {"LQ_stage": True, "scale_factor": 2}),
    ("FeMaSR", "FeMaSR", {}),
    ("FeMaSR", "FeMaSR", {"LQ_stage": True, "scale_factor": 4}),
    ("M3SNet", "M3SNet", {}),
    ("Restormer", "Restormer", {}),
    ("MPRNet", "MPRNet", {}),
    ("MIRNet2", "MIRNet2", {}),
]

#: Networks whose scale is the value of a tensor, which a header does not have.
SCALE_UNSAID = {"MoESR", "FDAT"}


@cache
def architectures() -> dict[str, Any]:
    """Spandrel's own judges, by the names of their architectures."""
    from spandrel import MAIN_REGISTRY
    from spandrel_extra_arches import EXTRA_REGISTRY

    return {support.architecture.id: support for registry in (MAIN_REGISTRY, EXTRA_REGISTRY) for support in registry}


def build(module: str, name: str, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The state of a network as spandrel makes it, and the scale that spandrel reads from it."""
    import torch

    architecture = architectures()[module].architecture
    network = vars(importlib.import_module(type(architecture).__module__))[name]
    try:
        with torch.device("meta"):
            state = network(**arguments).state_dict()
            return state, architecture.load(dict(state)).scale
    except (RuntimeError, NotImplementedError):
        # Some compute numbers while they are made, which the meta device cannot.
        state = network(**arguments).state_dict()
        return state, architecture.load(dict(state)).scale


def shapes_of(state: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[int, ...]]:
    return {prefix + name: tuple(tensor.shape) for name, tensor in state.items()}


def says(evidence: tuple[str, ...]) -> str:
    return next(sentence for sentence in evidence if sentence.startswith("its architecture is"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("module", "name", "arguments"), NETWORKS)
def test_the_table_names_what_spandrel_loads(module: str, name: str, arguments: dict[str, Any]) -> None:
    state, scale = build(module, name, arguments)
    assert architectures()[module].detect(state)
    identity = identify(header_of(shapes_of(state)))
    assert (identity.type, identity.base, identity.format) == ("spandrel_image_to_image", "any", "checkpoint")
    sentence = says(identity.evidence)
    assert sentence.startswith(f"its architecture is {module}: ")
    if module in SCALE_UNSAID:
        assert "do not say how much" in sentence
    elif scale == 1:
        assert "times" not in sentence
    else:
        assert f"enlarges pictures {scale} times" in sentence


def test_every_architecture_of_spandrel_has_a_row_and_a_case() -> None:
    from invokeai_daemon.models.identify.upscalers import ARCHITECTURES

    rows = {architecture.name for architecture in ARCHITECTURES}
    assert rows == set(architectures())
    assert rows - {module for module, _, _ in NETWORKS} == {"DDColor", "MAT"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prefix", ["params_ema.", "params.", "module.", "params_ema.module.", "model.", "net_g."])
@pytest.mark.parametrize(
    ("module", "arguments"), [("Compact", {}), ("OmniSR", {}), ("SPAN", {"num_in_ch": 3, "num_out_ch": 3})]
)
def test_what_a_trainer_wraps_around_is_taken_off(module: str, arguments: dict[str, Any], prefix: str) -> None:
    state, _ = build(module, module, arguments)
    assert f" {module}: it enlarges pictures 4 times" in says(identify(header_of(shapes_of(state, prefix))).evidence)


@pytest.mark.filterwarnings("ignore")
def test_a_file_with_its_averaged_weights_beside_is_one_network() -> None:
    state, _ = build("Compact", "Compact", {})
    both = shapes_of(state, "params.") | shapes_of(state, "params_ema.")
    assert " Compact: it enlarges pictures 4 times" in says(identify(header_of(both)).evidence)


def _rrdb(blocks: str, block: str, trunk: str, ups: str, taken: int, steps: int) -> dict[str, tuple[int, ...]]:
    """ESRGAN under the names of its later trainers (xinntao's BasicSR, and BSRGAN)."""
    shapes: dict[str, tuple[int, ...]] = {"conv_first.weight": (64, taken, 3, 3), f"{trunk}.weight": (64, 64, 3, 3)}
    for number in range(23):
        for dense in (1, 2, 3):
            for convolution in range(1, 6):
                rows = 64 if convolution == 5 else 32
                name = f"{blocks}.{number}.{block}{dense}.conv{convolution}.weight"
                shapes[name] = (rows, 64 + 32 * (convolution - 1), 3, 3)
    for step in range(1, steps + 1):
        shapes[f"{ups}{step}.weight"] = (64, 64, 3, 3)
    return shapes | {"conv_last.weight": (3, 64, 3, 3)}


@pytest.mark.parametrize(
    ("shapes", "scale"),
    [
        (_rrdb("body", "rdb", "conv_body", "conv_up", 3, 2), 4),
        (_rrdb("body", "rdb", "conv_body", "conv_up", 12, 2), 2),
        (_rrdb("body", "rdb", "conv_body", "conv_up", 48, 2), 1),
        (_rrdb("RRDB_trunk", "RDB", "trunk_conv", "upconv", 3, 2), 4),
        (_rrdb("RRDB_trunk", "RDB", "trunk_conv", "upconv", 3, 1), 2),
    ],
)
def test_esrgan_is_known_under_the_names_of_all_its_trainers(shapes: dict[str, tuple[int, ...]], scale: int) -> None:
    assert architectures()["ESRGAN"].detect(shapes)
    sentence = says(identify(header_of(shapes)).evidence)
    assert " ESRGAN: " in sentence
    assert f" {scale} times" in sentence if scale > 1 else "restores pictures" in sentence


def test_ddcolor_is_known_by_its_encoder_and_its_refining_layer() -> None:
    shapes = {
        "mean": (1, 3, 1, 1),
        "std": (1, 3, 1, 1),
        "refine_net.0.0.weight_orig": (2, 103, 1, 1),
        "encoder.arch.downsample_layers.0.0.weight": (192, 3, 4, 4),
    }
    assert " DDColor: it gives colours" in says(identify(header_of(shapes)).evidence)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_mat_is_known_by_its_first_stage(prefix: str) -> None:
    shapes = {
        f"{prefix}synthesis.first_stage.conv_first.conv.resample_filter": (4, 4),
        f"{prefix}synthesis.first_stage.conv_first.conv.weight": (180, 4, 3, 3),
    }
    assert architectures()["MAT"].detect(shapes)
    assert " MAT: it fills in what is masked" in says(identify(header_of(shapes)).evidence)


def test_three_convolutions_named_model_are_no_upscaler_when_other_layers_lie_beside() -> None:
    shapes = {f"model.{number}.{part}": (8, 8, 3, 3) for number in (0, 2) for part in ("weight", "bias")}
    with pytest.raises(Exception, match="no known family"):
        identify(header_of(shapes | {"head.proj.weight": (8, 8)}))
