"""Of a repository the files of one model are taken, once each; where names leave it open, the user is asked."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invokeai_daemon.errors import InstallError
from invokeai_daemon.models.install.choose import Choice, RepoFile, choose, components_of, index_of


def words(text: str) -> list[str]:
    return text.split()


#: A pipeline as repositories have it, with everything that is not wanted.
PIPELINE = [
    "model_index.json",
    "README.md",
    "LICENSE.md",
    ".gitattributes",
    "picture.png",
    "v1-5-pruned.ckpt",
    "v1-5-pruned.safetensors",
    "v1-5-pruned-emaonly.safetensors",
    "v1-inference.yaml",
    "feature_extractor/preprocessor_config.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/pytorch_model.bin",
    "text_encoder/pytorch_model.fp16.bin",
    "text_encoder/flax_model.msgpack",
    "text_encoder/model.onnx",
    "text_encoder/openvino_model.bin",
    "text_encoder/tf_model.h5",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/special_tokens_map.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_flax_model.msgpack",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.bin",
    "vae_decoder/model.onnx",
    "vae_encoder/config.json",
    "onnx/model.onnx",
    "images/cat.png",
]
COMPONENTS = {"feature_extractor", "scheduler", "text_encoder", "tokenizer", "unet", "vae"}
SMALL = [
    "model_index.json",
    "LICENSE.md",
    "feature_extractor/preprocessor_config.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.fp16.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/special_tokens_map.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
]


def repo(names: str | list[str]) -> list[RepoFile]:
    return [RepoFile(name, 10) for name in (names.split() if isinstance(names, str) else names)]


def paths(choice: Choice) -> list[str]:
    return [file.path for file in choice.files]


def test_of_a_pipeline_one_set_of_weights_of_each_part_is_taken() -> None:
    choice = choose("a/dog", repo(PIPELINE), components=COMPONENTS)
    assert sorted(paths(choice)) == sorted(SMALL)
    assert (choice.name, choice.top, choice.kind) == ("dog", "", "main")


@pytest.mark.parametrize("variant", ["fp32", "fp16"])
def test_the_variant_that_is_asked_for_goes_first(variant: str) -> None:
    chosen = paths(choose("a/dog", repo(PIPELINE), variant=variant, components=COMPONENTS))
    wanted = "unet/diffusion_pytorch_model.safetensors" if variant == "fp32" else SMALL[11]
    assert [path for path in chosen if path.startswith("unet/diff")] == [wanted]


def test_a_variant_can_be_written_like_a_folder() -> None:
    assert choose("a/dog", repo(PIPELINE), "fp16", components=COMPONENTS) == choose(
        "a/dog", repo(PIPELINE), variant="fp16", components=COMPONENTS
    )


def test_pickles_are_taken_only_where_there_is_nothing_else() -> None:
    files = repo(
        "model_index.json unet/config.json unet/diffusion_pytorch_model.bin unet/diffusion_pytorch_model.fp16.bin"
    )
    assert paths(choose("a/dog", files)) == [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.bin",
    ]
    files += repo("unet/diffusion_pytorch_model.safetensors")
    assert paths(choose("a/dog", files))[-1] == "unet/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    "parts",
    [
        "unet/model-00001-of-00002.safetensors unet/model-00002-of-00002.safetensors unet/model.safetensors.index.json",
        "unet/model.fp16-00001-of-00002.safetensors unet/model.fp16-00002-of-00002.safetensors "
        "unet/model.safetensors.index.fp16.json",
        "unet/model-00001-of-00002.fp16.safetensors unet/model-00002-of-00002.fp16.safetensors "
        "unet/model.safetensors.index.fp16.json",
    ],
)
def test_weights_in_parts_come_with_all_parts_and_their_list(parts: str) -> None:
    others = "model_index.json unet/pytorch_model-00001-of-00001.bin unet/pytorch_model.bin.index.json"
    chosen = paths(choose("a/dog", repo(f"{others} {parts}")))
    assert chosen == ["model_index.json", *parts.split()]


def test_a_pipeline_in_a_subfolder_becomes_a_folder_without_the_path() -> None:
    files = repo([f"diffusers/v2/{name}" for name in PIPELINE])
    choice = choose("a/dog", files, "diffusers/v2", components=COMPONENTS)
    assert (choice.name, choice.top) == ("dog-diffusers-v2", "diffusers/v2")
    assert len(choice.files) == len(SMALL)
    assert choose("a/dog", files).top == "diffusers/v2"


def test_the_only_component_of_a_repository_is_a_folder() -> None:
    files = repo("README.md config.json diffusion_pytorch_model.bin diffusion_pytorch_model.safetensors old.ckpt")
    choice = choose("stabilityai/sd-vae-ft-mse", files)
    assert paths(choice) == ["config.json", "diffusion_pytorch_model.safetensors"]
    assert (choice.name, choice.top) == ("sd-vae-ft-mse", "")
    unet = choose("a/dog", repo(PIPELINE), "unet")
    assert paths(unet) == ["unet/config.json", "unet/diffusion_pytorch_model.fp16.safetensors"]
    assert unet.name == "dog-unet"


@pytest.mark.parametrize(
    ("names", "path", "name", "kind"),
    [
        ("README.md cat.safetensors", "cat.safetensors", "cat.safetensors", None),
        ("cat.ckpt cat.safetensors cat.pt", "cat.safetensors", "cat.safetensors", None),
        ("README.md x/y/cat.safetensors", "x/y/cat.safetensors", "cat.safetensors", None),
        ("pytorch_lora_weights.safetensors README.md", "pytorch_lora_weights.safetensors", "dog.safetensors", "lora"),
        (
            "pytorch_lora_weights.safetensors pytorch_lora_weights.bin comfy.safetensors optimizer.bin",
            "pytorch_lora_weights.safetensors",
            "dog.safetensors",
            "lora",
        ),
        ("adapter_config.json adapter_model.safetensors", "adapter_model.safetensors", "dog.safetensors", "lora"),
        ("learned_embeds.bin token_identifier.txt concept_images/1.jpeg", "learned_embeds.bin", "dog.bin", "embedding"),
    ],
)
def test_the_only_model_file_is_taken(names: str, path: str, name: str, kind: str | None) -> None:
    choice = choose("a/dog", repo(names))
    assert (paths(choice), choice.name, choice.top, choice.kind) == ([path], name, None, kind)


def test_of_several_models_the_user_says_which() -> None:
    files = repo("flux1-dev.safetensors ae.safetensors")
    with pytest.raises(InstallError) as caught:
        choose("a/dog", files)
    assert str(caught.value).splitlines() == [
        "a/dog holds several models. Say which:",
        "  a/dog:ae.safetensors   (0.00 GB)",
        "  a/dog:flux1-dev.safetensors   (0.00 GB)",
    ]
    assert paths(choose("a/dog", files, "ae.safetensors")) == ["ae.safetensors"]


def test_several_pipelines_are_listed_too() -> None:
    with pytest.raises(InstallError, match="a/dog:v1\n  a/dog:v2"):
        choose("a/dog", repo("v1/model_index.json v1/unet/model.safetensors v2/model_index.json"))


def test_a_long_list_is_cut() -> None:
    with pytest.raises(InstallError, match="and 30 more"):
        choose("a/dog", repo([f"{number}.ckpt" for number in range(50)]))


@pytest.mark.parametrize(
    ("names", "path", "why"),
    [
        ("README.md model.onnx flax_model.msgpack", "", "known here. Its files end in .md, .msgpack, .onnx"),
        ("LICENSE", "", "It is empty"),
        ("cat.safetensors", "dog.safetensors", "has no folder or file dog.safetensors. It has cat.safetensors"),
    ],
)  # fmt: skip
def test_a_repository_without_a_model_says_what_it_has(names: str, path: str, why: str) -> None:
    with pytest.raises(InstallError, match=re.escape(why)):
        choose("a/dog", repo(names), path)


def test_the_index_names_the_parts() -> None:
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "safety_checker": [None, None],
        "requires_safety_checker": True,
    }
    assert components_of(index) == {"unet"}
    assert components_of("text") == frozenset()
    assert index_of(repo(PIPELINE), "") == RepoFile("model_index.json", 10)
    assert index_of(repo(PIPELINE), "fp16") == RepoFile("model_index.json", 10)
    assert index_of(repo(PIPELINE), "unet") is None


NAMES = st.sampled_from(sorted({name for path in PIPELINE for name in path.split("/")}))


def can_be(names: list[str]) -> bool:
    """Whether a repository can hold these: nothing is a file and a folder."""
    return not any(other.startswith(f"{name}/") for name in names for other in names)


@given(st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), max_size=12, unique=True).filter(can_be))
def test_whatever_a_repository_holds_a_choice_is_of_its_files_each_once(names: list[str]) -> None:
    files = repo(names)
    try:
        choice = choose("a/dog", files)
    except InstallError:
        return
    assert choice.files and len(set(choice.files)) == len(choice.files)
    assert set(choice.files) <= set(files)
    assert not any(file.path.endswith((".msgpack", ".onnx", ".h5", ".png", ".yaml")) for file in choice.files)
