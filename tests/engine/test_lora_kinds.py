"""Layers that wear a LoRA of any kind answer as those of the library that trains it: LyCORIS and PEFT."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn

from invokeai_daemon.engine.loras import Wardrobe, Worn
from invokeai_daemon.engine.loras.modules import spots_of
from invokeai_daemon.engine.loras.patches import _Overwritten
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.models.identify.lora import unets
from invokeai_daemon.models.identify.lora.modules import Architecture
from tests.engine.build import new_unet

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(1)
    return new_unet().requires_grad_(False)


class Few(nn.Module):
    """A few layers of every sort, under names of a UNet. Each is called by itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.mid_block = nn.Module()
        self.mid_block.attentions = nn.ModuleList([nn.Module()])
        attention = self.mid_block.attentions[0]
        attention.proj_in, attention.norm = nn.Conv2d(16, 32, 1), nn.GroupNorm(4, 16)
        attention.transformer_blocks = nn.ModuleList([nn.Module()])
        block = attention.transformer_blocks[0]
        block.norm1, block.attn1, block.attn2 = nn.LayerNorm(32), nn.Module(), nn.Module()
        block.attn1.to_q, block.attn1.to_k = nn.Linear(32, 32, bias=False), nn.Linear(32, 32)
        block.attn2.to_v, block.attn2.to_out = nn.Linear(24, 32, bias=False), nn.ModuleList([nn.Linear(32, 24)])
        self.mid_block.resnets = nn.ModuleList([nn.Module()])
        self.mid_block.resnets[0].conv1 = nn.Conv2d(16, 32, 3, padding=1)
        # Random norms, so that their change is seen.
        for parameter in self.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape)
        self.requires_grad_(False)

    def answers(self) -> State:
        """What each layer makes of numbers of its own."""
        layers = {name: each for name, each in self.named_modules() if isinstance(each, LAYERS)}
        return {name: layer(_numbers(layer)) for name, layer in layers.items()}


LAYERS = (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)


def _numbers(layer: nn.Module) -> Tensor:
    drawn = torch.Generator().manual_seed(4)
    if isinstance(layer, nn.Linear):
        return torch.randn(2, 3, layer.in_features, generator=drawn)
    if isinstance(layer, nn.LayerNorm):
        return torch.randn(2, 3, 32, generator=drawn)
    return torch.randn(2, 16, 5, 5, generator=drawn)


@contextmanager
def quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def worn_by(
    model: nn.Module, path: Path, weight: float = 1.0, base: str = "none", folder: str = "unet"
) -> Iterator[nn.Module]:
    """The model while it wears the file; afterwards it is to the bit as before."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wardrobe = Wardrobe(ModelRef("tiny", "", base), {folder: model})
    outfit = (Worn(ModelRef("ink", str(path), base, "lora"), weight, weight),)
    assert wardrobe.fit(outfit) == []
    wardrobe.dress_denoiser(outfit)
    yield model
    wardrobe.dress_denoiser(())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def assert_equal(ours: State, theirs: State, plain: State, least: int = 3) -> None:
    for name, answer in theirs.items():
        torch.testing.assert_close(
            ours[name], answer, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert sum(not torch.allclose(answer, plain[name], atol=1e-2) for name, answer in theirs.items()) >= least


def drawn_anew(parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Trained factors are not zero; magnitudes stay near what they are."""
    drawn = torch.Generator().manual_seed(2)
    for name, parameter in parameters:
        noise = 0.3 * torch.randn(parameter.shape, generator=drawn)
        parameter.data = parameter.data * (1 + noise) if "dora" in name or "magnitude" in name else noise


LYCORIS: dict[str, dict[str, Any]] = {
    "LoCon": {"algo": "locon"},
    "LoCon, Tucker": {"algo": "locon", "use_tucker": True},
    "DoRA": {"algo": "locon", "dora_wd": True, "wd_on_output": False},
    "DoRA of rows": {"algo": "locon", "dora_wd": True, "wd_on_output": True},
    "LoHa": {"algo": "loha"},
    "LoHa, Tucker": {"algo": "loha", "use_tucker": True},
    "LoHa, DoRA": {"algo": "loha", "dora_wd": True, "wd_on_output": False},
    "LoKr": {"algo": "lokr", "factor": 4},
    "LoKr of two products": {"algo": "lokr", "factor": 4, "decompose_both": True, "linear_dim": 1, "conv_dim": 1},
    "LoKr, Tucker": {"algo": "lokr", "factor": 4, "use_tucker": True},
    "LoKr of whole factors": {"algo": "lokr", "factor": -1, "full_matrix": True},
    "Full": {"algo": "full"},
    "IA3": {"algo": "ia3"},
    "IA3 of inputs": {"algo": "ia3", "train_on_input": True},
    "Norm": {"algo": "locon", "train_norm": True},
}


@pytest.mark.parametrize("kind", LYCORIS)
def test_layers_answer_as_those_that_lycoris_trains(tmp_path: Path, kind: str) -> None:
    from lycoris import LycorisNetwork, create_lycoris

    trained = Few()
    with quietly():
        options = {"linear_dim": 4, "linear_alpha": 1.0, "conv_dim": 2, "conv_alpha": 1.0, **LYCORIS[kind]}
        LycorisNetwork.apply_preset({"target_module": ["Linear", "Conv2d", "GroupNorm", "LayerNorm"]})
        network = create_lycoris(trained, 1.0, **options)
        network.apply_to()
        drawn_anew(network.named_parameters())
        state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        expected = trained.answers()
    save_file(state, tmp_path / "ink.safetensors")
    with worn_by(Few(), tmp_path / "ink.safetensors") as model:
        assert_equal(model.answers(), expected, Few().answers())


def peft_configs() -> dict[str, Any]:
    from peft import IA3Config, LoHaConfig, LoKrConfig, LoraConfig

    layers = ["to_q", "to_k", "to_v", "conv1"]
    return {
        "LoRA": LoraConfig(r=4, lora_alpha=2, target_modules=layers),
        "LoRA of a stable rank": LoraConfig(r=4, lora_alpha=2, use_rslora=True, target_modules=layers),
        "LoRA of several alphas": LoraConfig(r=4, lora_alpha=2, alpha_pattern={"to_q": 8}, target_modules=layers),
        "LoRA with biases": LoraConfig(r=4, lora_alpha=2, lora_bias=True, target_modules=["to_k", "to_out.0"]),
        "DoRA": LoraConfig(r=4, lora_alpha=2, use_dora=True, target_modules=layers),
        "LoHa": LoHaConfig(r=4, alpha=2, target_modules=layers),
        "LoKr": LoKrConfig(r=2, alpha=1, target_modules=layers),
        "IA3": IA3Config(target_modules=["to_k", "to_v", "to_out.0"], feedforward_modules=["to_out.0"]),
    }


@pytest.mark.parametrize("kind", peft_configs())
def test_layers_answer_as_those_that_peft_merges(tmp_path: Path, kind: str) -> None:
    from peft import get_peft_model

    with quietly():
        trained = get_peft_model(Few(), peft_configs()[kind])
        drawn_anew((name, each) for name, each in trained.named_parameters() if each.requires_grad)
        trained.save_pretrained(tmp_path)
        merged = trained.merge_and_unload()
    with worn_by(Few(), tmp_path) as model:
        assert_equal(model.answers(), merged.answers(), Few().answers(), least=2)


def test_what_diffusers_says_of_alpha_in_the_metadata_counts(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    state = {f"unet.{name}.lora_A.weight": torch.ones(4, 64), f"unet.{name}.lora_B.weight": torch.ones(64, 4)}
    said = json.dumps({"unet.r": 4, "unet.lora_alpha": 1, "text_encoder.lora_alpha": 64})
    save_file(state, tmp_path / "ink.safetensors", metadata={"lora_adapter_metadata": said})
    expected = unet.get_parameter(f"{name}.weight") + 0.5 * 0.25 * 4
    with worn_by(unet, tmp_path / "ink.safetensors", 0.5):
        torch.testing.assert_close(unet.get_parameter(f"{name}.weight").data, expected)


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("ran",)


def test_pickles_are_read_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_k.weight"
    stem = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_k"
    state = {f"{stem}.lora_down.weight": torch.ones(2, 32), f"{stem}.lora_up.weight": torch.ones(32, 2)}
    torch.save({**state, f"{stem}.alpha": torch.tensor(1.0)}, tmp_path / "ink.pt")
    with worn_by(Few(), tmp_path / "ink.pt") as model:
        torch.testing.assert_close(model.get_parameter(name).data, Few().get_parameter(name) + 2 * 0.5)
    torch.save({**state, "more": Attack()}, tmp_path / "ink.pt")
    with pytest.raises(RenderError, match=r'LoRA "ink" cannot be used: .*print'), worn_by(Few(), tmp_path / "ink.pt"):
        pass
    assert capsys.readouterr().out == ""


def test_a_factor_of_a_fused_layer_meets_every_part_of_the_other(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    down, up = torch.randn(12, 64), torch.randn(64, 4)
    stem = f"lora_unet_{name.replace('.', '_')}"
    save_file({f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}, tmp_path / "ink.safetensors")
    expected = unet.get_parameter(f"{name}.weight") + sum(up @ part for part in down.chunk(3))
    with worn_by(unet, tmp_path / "ink.safetensors"):
        torch.testing.assert_close(unet.get_parameter(f"{name}.weight").data, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_are_overwritten_and_restored_where_an_accelerator_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    state: State = {}
    for name, layer in Few().named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            rows, columns, *kernel = layer.weight.shape
            stem = f"lora_unet_{name.replace('.', '_')}"
            state[f"{stem}.lora_down.weight"] = torch.randn(4, columns, *kernel)
            state[f"{stem}.lora_up.weight"] = torch.randn(rows, 4, *[1] * len(kernel))
    save_file(state, tmp_path / "ink.safetensors")
    with worn_by(Few().to(dtype), tmp_path / "ink.safetensors") as model:
        expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    monkeypatch.setattr("invokeai_daemon.engine.loras.patches.parameters_of", _Overwritten)
    plain = Few().to(dtype=dtype, memory_format=torch.channels_last)
    storages = [parameter.data_ptr() for parameter in plain.parameters()]
    with worn_by(plain, tmp_path / "ink.safetensors") as model:
        assert [parameter.data_ptr() for parameter in model.parameters()] == storages
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-3)
        assert not torch.equal(expected["mid_block.resnets.0.conv1.weight"], Few().mid_block.resnets[0].conv1.weight)


def test_original_names_of_the_layers_mean_the_same_layers(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    names = {
        "input_blocks_1_1_transformer_blocks_0_ff_net_2": "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2",
        "middle_block_1_proj_in": "mid_block.attentions.0.proj_in",
        "output_blocks_1_0_skip_connection": "up_blocks.0.resnets.1.conv_shortcut",
        "output_blocks_3_1_transformer_blocks_0_attn2_to_out_0": (
            "up_blocks.1.attentions.1.transformer_blocks.0.attn2.to_out.0"
        ),
        "input_blocks_2_0_op": "down_blocks.0.downsamplers.0.conv",
    }
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    state = {
        f"lora_unet_{original}.diff": torch.ones_like(before[f"{name}.weight"]) for original, name in names.items()
    }
    save_file(state, tmp_path / "ink.safetensors")
    meant = {f"{name}.weight" for name in names.values()}
    with worn_by(unet, tmp_path / "ink.safetensors", base="sd-1"):
        changed = {name for name, tensor in unet.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == meant


_XL: dict[str, Any] = {
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "sd-1": {"cross_attention_dim": 768},
    "sd-2": {"cross_attention_dim": 1024, "use_linear_projection": True},
    "sdxl": {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": [1, 2, 10],
        "cross_attention_dim": 2048,
        "projection_class_embeddings_input_dim": 2816,
        **_XL,
    },
    "sdxl-refiner": {
        "block_out_channels": (384, 768, 1536, 1536),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": 4,
        "cross_attention_dim": 1280,
        "projection_class_embeddings_input_dim": 2560,
        **_XL,
    },
}


@pytest.mark.parametrize("architecture", unets.ARCHITECTURES, ids=lambda each: each.base)
def test_every_name_that_identification_knows_has_its_place_in_the_true_model(architecture: Architecture) -> None:
    with torch.device("meta"):
        model = UNet2DConditionModel(**CONFIGS[architecture.base])
    spots = spots_of(model, architecture.base, "unet")
    known: dict[str, set[tuple[int, ...]]] = {}
    for name, shape in architecture.layers:
        known.setdefault(name.replace(".", "_"), set()).add(shape)
    assert [name for name, shapes in known.items() if name not in spots or spots[name][0].shape not in shapes] == []


def test_layers_that_are_fused_in_a_file_change_each_of_theirs(tmp_path: Path) -> None:
    flux = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 6, 6),
    ).requires_grad_(False)
    meant = {
        "double_blocks_0_img_attn_qkv": [f"transformer_blocks.0.attn.to_{name}" for name in "qkv"],
        "single_blocks_0_linear1": [
            *(f"single_transformer_blocks.0.attn.to_{name}" for name in "qkv"),
            "single_transformer_blocks.0.proj_mlp",
        ],
        "double_blocks_0_txt_mlp_0": ["transformer_blocks.0.ff_context.net.0.proj"],
    }
    before = {name: tensor.clone() for name, tensor in flux.state_dict().items()}
    state, expected = {}, dict(before)
    for stem, names in meant.items():
        rows = sum(len(before[f"{name}.weight"]) for name in names)
        down, up = torch.randn(4, 32), torch.randn(rows, 4)
        state |= {f"lora_unet_{stem}.lora_down.weight": down, f"lora_unet_{stem}.lora_up.weight": up}
        for name, delta in zip(
            names, (up @ down).split([len(before[f"{name}.weight"]) for name in names]), strict=True
        ):
            expected[f"{name}.weight"] = before[f"{name}.weight"] + delta
    # Diffusers has scale and shift the other way round.
    state["lora_unet_final_layer_adaLN_modulation_1.diff"] = torch.arange(64.0)[:, None].expand(64, 32).contiguous()
    swapped = torch.cat([torch.arange(32.0, 64.0), torch.arange(32.0)])
    expected["norm_out.linear.weight"] = before["norm_out.linear.weight"] + swapped[:, None]
    save_file(state, tmp_path / "ink.safetensors")
    with worn_by(flux, tmp_path / "ink.safetensors", base="flux", folder="transformer"):
        for name, tensor in flux.state_dict().items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-4)


def test_old_names_of_attention_processors_mean_the_same_layers(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    stem = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora"
    save_file(
        {f"{stem}.down.weight": torch.ones(2, 64), f"{stem}.up.weight": torch.ones(64, 2)}, tmp_path / "a.safetensors"
    )
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.weight"
    expected = unet.get_parameter(name) + 2
    with worn_by(unet, tmp_path / "a.safetensors"):
        torch.testing.assert_close(unet.get_parameter(name).data, expected)
