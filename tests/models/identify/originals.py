"""Headers of main models in the layouts of their authors, written down as the naming rules of their architectures.

Each function gives names and shapes of a published model, whole or, for families that are only known by name, of its
telling parts; there are no weights. The layouts of diffusers are built from its own classes by `denoisers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Shapes = dict[str, Sequence[int]]


def _linear(name: str, rows: int, columns: int, *, bias: bool = True) -> Shapes:
    shapes: Shapes = {f"{name}.weight": (rows, columns)}
    return shapes | ({f"{name}.bias": (rows,)} if bias else {})


def _conv(name: str, rows: int, columns: int, size: int = 3) -> Shapes:
    return {f"{name}.weight": (rows, columns, size, size), f"{name}.bias": (rows,)}


def _norm(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


# The UNet of Stable Diffusion


def unet(
    context: int,
    *,
    channels: int = 4,
    width: int = 320,
    mults: Sequence[int] = (1, 2, 4, 4),
    depths: Sequence[int] = (1, 1, 1, 0),
    middle: int = 1,
    linear: bool = False,
    sizes: int | None = None,
) -> Shapes:
    """The names of CompVis' UNet: input_blocks, middle_block, output_blocks."""
    time = 4 * width
    shapes = _conv("input_blocks.0.0", width, channels)
    shapes |= _linear("time_embed.0", time, width) | _linear("time_embed.2", time, time)
    if sizes:
        shapes |= _linear("label_emb.0.0", time, sizes) | _linear("label_emb.0.2", time, time)
    kept, now, block = [width], width, 0
    for level, mult in enumerate(mults):
        for _ in range(2):
            block += 1
            shapes |= _resnet(f"input_blocks.{block}.0", now, mult * width, time)
            now = mult * width
            shapes |= _transformer(f"input_blocks.{block}.1", now, context, depths[level], linear)
            kept.append(now)
        if level < len(mults) - 1:
            block += 1
            shapes |= _conv(f"input_blocks.{block}.0.op", now, now)
            kept.append(now)
    shapes |= _resnet("middle_block.0", now, now, time) | _resnet("middle_block.2", now, now, time)
    shapes |= _transformer("middle_block.1", now, context, middle, linear)
    block = -1
    for level, mult in reversed(list(enumerate(mults))):
        for number in range(3):
            block += 1
            shapes |= _resnet(f"output_blocks.{block}.0", now + kept.pop(), mult * width, time)
            now = mult * width
            shapes |= _transformer(f"output_blocks.{block}.1", now, context, depths[level], linear)
            if level and number == 2:
                shapes |= _conv(f"output_blocks.{block}.{2 if depths[level] else 1}.conv", now, now)
    return shapes | _norm("out.0", width) | _conv("out.2", 4, width)


def _resnet(name: str, before: int, after: int, time: int) -> Shapes:
    shapes = _norm(f"{name}.in_layers.0", before) | _conv(f"{name}.in_layers.2", after, before)
    shapes |= _linear(f"{name}.emb_layers.1", after, time)
    shapes |= _norm(f"{name}.out_layers.0", after) | _conv(f"{name}.out_layers.3", after, after)
    return shapes | (_conv(f"{name}.skip_connection", after, before, 1) if before != after else {})


def _transformer(name: str, width: int, context: int, depth: int, linear: bool) -> Shapes:
    if not depth:
        return {}
    shapes = _norm(f"{name}.norm", width)
    for side in ("proj_in", "proj_out"):
        shapes |= _linear(f"{name}.{side}", width, width) if linear else _conv(f"{name}.{side}", width, width, 1)
    for number in range(depth):
        block = f"{name}.transformer_blocks.{number}"
        for attention, keys in (("attn1", width), ("attn2", context)):
            shapes |= _linear(f"{block}.{attention}.to_q", width, width, bias=False)
            shapes |= _linear(f"{block}.{attention}.to_k", width, keys, bias=False)
            shapes |= _linear(f"{block}.{attention}.to_v", width, keys, bias=False)
            shapes |= _linear(f"{block}.{attention}.to_out.0", width, width)
        shapes |= _linear(f"{block}.ff.net.0.proj", 8 * width, width) | _linear(f"{block}.ff.net.2", width, 4 * width)
        for norm in ("norm1", "norm2", "norm3"):
            shapes |= _norm(f"{block}.{norm}", width)
    return shapes


def sd_1_unet(channels: int = 4) -> Shapes:
    return unet(768, channels=channels)


def sd_2_unet(channels: int = 4) -> Shapes:
    return unet(1024, channels=channels, linear=True)


def sdxl_unet(channels: int = 4) -> Shapes:
    return unet(2048, channels=channels, mults=(1, 2, 4), depths=(0, 2, 10), middle=10, linear=True, sizes=2816)


def refiner_unet() -> Shapes:
    return unet(1280, width=384, mults=(1, 2, 4, 4), depths=(0, 4, 4, 0), middle=4, linear=True, sizes=2560)


# What lies beside a denoiser


def clip(width: int = 768, layers: int = 12) -> Shapes:
    """The names of transformers' CLIP text model, below text_model."""
    shapes: Shapes = {
        "text_model.embeddings.token_embedding.weight": (49408, width),
        "text_model.embeddings.position_embedding.weight": (77, width),
        "text_model.embeddings.position_ids": (1, 77),
    }
    for number in range(layers):
        layer = f"text_model.encoder.layers.{number}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{layer}.self_attn.{part}", width, width)
        shapes |= _linear(f"{layer}.mlp.fc1", 4 * width, width) | _linear(f"{layer}.mlp.fc2", width, 4 * width)
        shapes |= _norm(f"{layer}.layer_norm1", width) | _norm(f"{layer}.layer_norm2", width)
    return shapes | _norm("text_model.final_layer_norm", width)


def open_clip(width: int = 1024, layers: int = 24) -> Shapes:
    """The names of OpenCLIP's text tower."""
    shapes: Shapes = {
        "token_embedding.weight": (49408, width),
        "positional_embedding": (77, width),
        "text_projection": (width, width),
        "logit_scale": (),
    }
    for number in range(layers):
        layer = f"transformer.resblocks.{number}"
        shapes |= {f"{layer}.attn.in_proj_weight": (3 * width, width), f"{layer}.attn.in_proj_bias": (3 * width,)}
        shapes |= _linear(f"{layer}.attn.out_proj", width, width)
        shapes |= _linear(f"{layer}.mlp.c_fc", 4 * width, width) | _linear(f"{layer}.mlp.c_proj", width, 4 * width)
        shapes |= _norm(f"{layer}.ln_1", width) | _norm(f"{layer}.ln_2", width)
    return shapes | _norm("ln_final", width)


def t5(layers: int = 24) -> Shapes:
    """The names of transformers' T5-XXL encoder."""
    shapes: Shapes = {"shared.weight": (32128, 4096), "encoder.final_layer_norm.weight": (4096,)}
    for number in range(layers):
        attention, dense = (f"encoder.block.{number}.layer.{place}" for place in (0, 1))
        for part in "qkvo":
            shapes |= _linear(f"{attention}.SelfAttention.{part}", 4096, 4096, bias=False)
        for part in ("wi_0", "wi_1"):
            shapes |= _linear(f"{dense}.DenseReluDense.{part}", 10240, 4096, bias=False)
        shapes |= _linear(f"{dense}.DenseReluDense.wo", 4096, 10240, bias=False)
        shapes |= {f"{attention}.layer_norm.weight": (4096,), f"{dense}.layer_norm.weight": (4096,)}
    return shapes


def vae(channels: int = 4) -> Shapes:
    """The names of CompVis' VAE: encoder.down, decoder.up."""
    shapes = _conv("encoder.conv_in", 128, 3) | _conv("encoder.conv_out", 2 * channels, 512)
    shapes |= _conv("decoder.conv_in", 512, channels) | _conv("decoder.conv_out", 3, 128)
    for level, width in enumerate((128, 256, 512, 512)):
        for half, blocks in (("encoder.down", 2), ("decoder.up", 3)):
            for block in range(blocks):
                for conv in ("conv1", "conv2"):
                    shapes |= _conv(f"{half}.{level}.block.{block}.{conv}", width, width)
                    shapes |= _norm(f"{half}.{level}.block.{block}.norm{conv[-1]}", width)
    for half in ("encoder", "decoder"):
        shapes |= _conv(f"{half}.mid.block_1.conv1", 512, 512) | _conv(f"{half}.mid.attn_1.q", 512, 512, 1)
    if channels == 4:
        shapes |= _conv("quant_conv", 8, 8, 1) | _conv("post_quant_conv", 4, 4, 1)
    return shapes


def below(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def whole(denoiser: Shapes, *parts: Shapes) -> Shapes:
    """A file of several parts, the denoiser below model.diffusion_model."""
    shapes = below("model.diffusion_model.", denoiser)
    for part in parts:
        shapes |= part
    return shapes


FIRST_STAGE = "first_stage_model."
CLIP_L = "cond_stage_model.transformer."


def sd_1(channels: int = 4) -> Shapes:
    return whole(sd_1_unet(channels), below(CLIP_L, clip()), below(FIRST_STAGE, vae()))


def sd_2(channels: int = 4) -> Shapes:
    return whole(sd_2_unet(channels), below("cond_stage_model.model.", open_clip()), below(FIRST_STAGE, vae()))


def sdxl(channels: int = 4) -> Shapes:
    texts = below("conditioner.embedders.0.transformer.", clip())
    texts |= below("conditioner.embedders.1.model.", open_clip(1280, 32))
    return whole(sdxl_unet(channels), texts, below(FIRST_STAGE, vae()))


def refiner() -> Shapes:
    texts = below("conditioner.embedders.0.model.", open_clip(1280, 32))
    return whole(refiner_unet(), texts, below(FIRST_STAGE, vae()))


# Transformers


def _each(stem: str, count: int, block: Shapes) -> Iterator[tuple[str, Sequence[int]]]:
    for number in range(count):
        for name, shape in block.items():
            yield f"{stem}.{number}.{name}", shape


def sd_3(hidden: int = 1536, depth: int = 24, *, normed: bool = False, second: int = 0) -> Shapes:
    """The names of SD 3's MMDiT; `second`: blocks with a second attention, as in 3.5 medium."""
    shapes = _conv("x_embedder.proj", hidden, 16, 2) | _linear("context_embedder", hidden, 4096)
    for name, width in (("t_embedder", 256), ("y_embedder", 2048)):
        shapes |= _linear(f"{name}.mlp.0", hidden, width) | _linear(f"{name}.mlp.2", hidden, hidden)
    shapes |= {"pos_embed": (1, 36864, hidden)}
    for number in range(depth):
        for side in ("context_block", "x_block"):
            block = f"joint_blocks.{number}.{side}"
            attentions = ("attn", "attn2") if side == "x_block" and number < second else ("attn",)
            for attention in attentions:
                shapes |= _linear(f"{block}.{attention}.qkv", 3 * hidden, hidden)
                if normed:
                    shapes |= {f"{block}.{attention}.ln_{which}.weight": (64,) for which in "qk"}
            is_last = number == depth - 1 and side == "context_block"
            modulation = (2 if is_last else 9 if len(attentions) > 1 else 6) * hidden
            shapes |= _linear(f"{block}.adaLN_modulation.1", modulation, hidden)
            if not is_last:
                for attention in attentions:
                    shapes |= _linear(f"{block}.{attention}.proj", hidden, hidden)
                shapes |= _linear(f"{block}.mlp.fc1", 4 * hidden, hidden)
                shapes |= _linear(f"{block}.mlp.fc2", hidden, 4 * hidden)
    shapes |= _linear("final_layer.adaLN_modulation.1", 2 * hidden, hidden)
    return shapes | _linear("final_layer.linear", 64, hidden)


def _embedder(name: str, hidden: int, width: int, *, bias: bool = True) -> Shapes:
    shapes = _linear(f"{name}.in_layer", hidden, width, bias=bias)
    return shapes | _linear(f"{name}.out_layer", hidden, hidden, bias=bias)


def _double(hidden: int, *, modulated: bool = True, bias: bool = True, gated: bool = False) -> Shapes:
    block: Shapes = {}
    for side in ("img", "txt"):
        block |= _linear(f"{side}_mod.lin", 6 * hidden, hidden) if modulated else {}
        block |= _linear(f"{side}_attn.qkv", 3 * hidden, hidden, bias=bias)
        block |= {f"{side}_attn.norm.{which}_norm.scale": (128,) for which in ("query", "key")}
        block |= _linear(f"{side}_attn.proj", hidden, hidden, bias=bias)
        block |= _linear(f"{side}_mlp.0", (6 if gated else 4) * hidden, hidden, bias=bias)
        block |= _linear(f"{side}_mlp.2", hidden, (3 if gated else 4) * hidden, bias=bias)
    return block


def _single(hidden: int, *, modulated: bool = True, bias: bool = True, gated: bool = False) -> Shapes:
    block = _linear("modulation.lin", 3 * hidden, hidden) if modulated else {}
    block |= {f"norm.{which}_norm.scale": (128,) for which in ("query", "key")}
    block |= _linear("linear1", (9 if gated else 7) * hidden, hidden, bias=bias)
    return block | _linear("linear2", hidden, (4 if gated else 5) * hidden, bias=bias)


def flux(channels: int = 64, *, guided: bool = True, doubles: int = 19, singles: int = 38) -> Shapes:
    """The names of FLUX.1."""
    shapes = _linear("img_in", 3072, channels) | _linear("txt_in", 3072, 4096)
    shapes |= _embedder("time_in", 3072, 256) | _embedder("vector_in", 3072, 768)
    shapes |= _embedder("guidance_in", 3072, 256) if guided else {}
    shapes |= dict(_each("double_blocks", doubles, _double(3072)))
    shapes |= dict(_each("single_blocks", singles, _single(3072)))
    shapes |= _linear("final_layer.adaLN_modulation.1", 6144, 3072)
    return shapes | _linear("final_layer.linear", 64, 3072)


def chroma() -> Shapes:
    """FLUX without modulations in the blocks: one network makes them all."""
    shapes = _linear("img_in", 3072, 64) | _linear("txt_in", 3072, 4096)
    shapes |= _linear("distilled_guidance_layer.in_proj", 5120, 64)
    shapes |= _linear("distilled_guidance_layer.out_proj", 3072, 5120)
    layer = _linear("in_layer", 5120, 5120) | _linear("out_layer", 5120, 5120)
    shapes |= dict(_each("distilled_guidance_layer.layers", 5, layer))
    shapes |= {f"distilled_guidance_layer.norms.{number}.scale": (5120,) for number in range(5)}
    shapes |= dict(_each("double_blocks", 19, _double(3072, modulated=False)))
    shapes |= dict(_each("single_blocks", 38, _single(3072, modulated=False)))
    return shapes | _linear("final_layer.linear", 64, 3072)


def flux_2(hidden: int, text: int, doubles: int, singles: int, *, guided: bool = False) -> Shapes:
    """FLUX.2: no biases, no pooled text, one modulation for all blocks of a kind."""
    shapes = _linear("img_in", hidden, 128, bias=False) | _linear("txt_in", hidden, text, bias=False)
    shapes |= _embedder("time_in", hidden, 256, bias=False)
    shapes |= _embedder("guidance_in", hidden, 256, bias=False) if guided else {}
    for stream in ("img", "txt"):
        shapes |= _linear(f"double_stream_modulation_{stream}.lin", 6 * hidden, hidden, bias=False)
    shapes |= _linear("single_stream_modulation.lin", 3 * hidden, hidden, bias=False)
    shapes |= dict(_each("double_blocks", doubles, _double(hidden, modulated=False, bias=False, gated=True)))
    shapes |= dict(_each("single_blocks", singles, _single(hidden, modulated=False, bias=False, gated=True)))
    shapes |= _linear("final_layer.adaLN_modulation.1", 2 * hidden, hidden, bias=False)
    return shapes | _linear("final_layer.linear", 128, hidden, bias=False)


def lumina_2(*, z_image: bool = False) -> Shapes:
    """The names of Lumina 2 and of Z-Image, which descends from it."""
    hidden, text, time = (3840, 2560, 256) if z_image else (2304, 2304, 1024)
    modulation = "adaLN_modulation.0" if z_image else "adaLN_modulation.1"
    block: Shapes = {f"attention_norm{number}.weight": (hidden,) for number in (1, 2)}
    block |= {f"ffn_norm{number}.weight": (hidden,) for number in (1, 2)}
    block |= _linear("attention.qkv", 3 * hidden if z_image else 3840, hidden, bias=False)
    block |= _linear("attention.out", hidden, hidden, bias=False)
    block |= {f"attention.{which}_norm.weight": (128 if z_image else 96,) for which in "qk"}
    for name in ("w1", "w3"):
        block |= _linear(f"feed_forward.{name}", 10240, hidden, bias=False)
    block |= _linear("feed_forward.w2", hidden, 10240, bias=False)
    modulated = block | _linear(modulation, 4 * hidden, time)
    shapes = _linear("x_embedder", hidden, 64) | {"cap_embedder.0.weight": (text,)}
    shapes |= _linear("cap_embedder.1", hidden, text)
    shapes |= _linear("t_embedder.mlp.0", 1024, 256) | _linear("t_embedder.mlp.2", time, 1024)
    shapes |= dict(_each("noise_refiner", 2, modulated)) | dict(_each("context_refiner", 2, block))
    shapes |= dict(_each("layers", 30 if z_image else 26, modulated))
    shapes |= (
        {"cap_pad_token": (1, hidden), "x_pad_token": (1, hidden)} if z_image else {"norm_final.weight": (hidden,)}
    )
    return shapes | _linear("final_layer.linear", 64, hidden) | _linear("final_layer.adaLN_modulation.1", hidden, time)


def auraflow() -> Shapes:
    shapes: Shapes = {"positional_encoding": (1, 4096, 3072), "register_tokens": (1, 8, 3072)}
    shapes |= _linear("init_x_linear", 3072, 16) | _linear("cond_seq_linear", 3072, 2048, bias=False)
    shapes |= _linear("t_embedder.mlp.0", 3072, 256) | _linear("t_embedder.mlp.2", 3072, 3072)
    double: Shapes = {}
    for name in ("w1q", "w1k", "w1v", "w1o", "w2q", "w2k", "w2v", "w2o"):
        double |= _linear(f"attn.{name}", 3072, 3072, bias=False)
    for name in ("modC", "modX"):
        double |= _linear(f"{name}.1", 18432, 3072, bias=False)
    shapes |= dict(_each("double_layers", 4, double))
    single = {name: shape for name, shape in double.items() if "w2" not in name and "modX" not in name}
    return shapes | dict(_each("single_layers", 32, single)) | _linear("final_linear", 16, 3072, bias=False)


def pixart() -> Shapes:
    hidden = 1152
    shapes = _conv("x_embedder.proj", hidden, 4, 2) | {"pos_embed": (1, 4096, hidden)}
    shapes |= _linear("t_block.1", 6 * hidden, hidden) | _linear("t_embedder.mlp.0", hidden, 256)
    shapes |= _linear("y_embedder.y_proj.fc1", hidden, 4096) | {"y_embedder.y_embedding": (120, 4096)}
    block: Shapes = {"scale_shift_table": (6, hidden)}
    block |= _linear("attn.qkv", 3 * hidden, hidden) | _linear("attn.proj", hidden, hidden)
    block |= _linear("cross_attn.q_linear", hidden, hidden) | _linear("cross_attn.kv_linear", 2 * hidden, hidden)
    block |= _linear("mlp.fc1", 4 * hidden, hidden) | _linear("mlp.fc2", hidden, 4 * hidden)
    return shapes | dict(_each("blocks", 28, block)) | _linear("final_layer.linear", 32, hidden)


def sana() -> Shapes:
    hidden = 2240
    shapes = _conv("x_embedder.proj", hidden, 32, 1) | {"attention_y_norm.weight": (hidden,)}
    shapes |= _linear("t_block.1", 6 * hidden, hidden) | _linear("y_embedder.y_proj.fc1", hidden, 2304)
    block: Shapes = {"scale_shift_table": (6, hidden)}
    block |= _linear("attn.qkv", 3 * hidden, hidden, bias=False) | _linear("attn.proj", hidden, hidden)
    block |= _linear("cross_attn.q_linear", hidden, hidden) | _linear("cross_attn.kv_linear", 2 * hidden, hidden)
    block |= _conv("mlp.depth_conv.conv", 11200, 1) | _conv("mlp.inverted_conv.conv", 11200, hidden, 1)
    return shapes | dict(_each("blocks", 20, block)) | _linear("final_layer.linear", 32, hidden)


def wan(channels: int = 16, hidden: int = 5120, depth: int = 40, *, pictures: bool = False) -> Shapes:
    shapes: Shapes = {"patch_embedding.weight": (hidden, channels, 1, 2, 2), "patch_embedding.bias": (hidden,)}
    shapes |= _linear("text_embedding.0", hidden, 4096) | _linear("text_embedding.2", hidden, hidden)
    shapes |= _linear("time_embedding.0", hidden, 256) | _linear("time_projection.1", 6 * hidden, hidden)
    block: Shapes = {"modulation": (1, 6, hidden)} | _norm("norm3", hidden)
    for attention in ("self_attn", "cross_attn"):
        for part in "qkvo":
            block |= _linear(f"{attention}.{part}", hidden, hidden)
        block |= {f"{attention}.norm_{part}.weight": (hidden,) for part in "qk"}
    block |= _linear("ffn.0", 13824, hidden) | _linear("ffn.2", hidden, 13824)
    shapes |= dict(_each("blocks", depth, block)) | {"head.modulation": (1, 2, hidden)}
    if pictures:
        shapes |= _norm("img_emb.proj.0", 1280) | _linear("img_emb.proj.1", 1280, 1280)
    return shapes | _linear("head.head", 64, hidden)


def hunyuan(*, pictures: bool = False) -> Shapes:
    """Hunyuan-Video in ComfyUI's names, or Hunyuan-Image 2.1."""
    hidden = 3584 if pictures else 3072
    first = (hidden, 64, 1, 1) if pictures else (hidden, 16, 1, 2, 2)
    shapes: Shapes = {"img_in.proj.weight": first, "img_in.proj.bias": (hidden,)}
    shapes |= _embedder("time_in", hidden, 256)
    shapes |= {} if pictures else _embedder("vector_in", hidden, 768)
    token = _linear("adaLN_modulation.1", 2 * hidden, hidden) | _linear("self_attn.qkv", 3 * hidden, hidden)
    shapes |= dict(_each("txt_in.individual_token_refiner.blocks", 2, token))
    shapes |= _linear("txt_in.input_embedder", hidden, 3584 if pictures else 4096)
    shapes |= dict(_each("double_blocks", 20, _double(hidden))) | dict(_each("single_blocks", 40, _single(hidden)))
    return shapes | _linear("final_layer.linear", 64, hidden)


def hidream() -> Shapes:
    shapes = _linear("x_embedder.proj", 2560, 64) | dict(_each("caption_projection", 49, _linear("linear", 2560, 4096)))
    block = _linear("block.adaLN_modulation.1", 12 * 2560, 2560)
    for name in ("to_q", "to_k", "to_v", "to_q_t", "to_k_t", "to_v_t"):
        block |= _linear(f"block.attn1.{name}", 2560, 2560)
    return shapes | dict(_each("double_stream_blocks", 16, block)) | dict(_each("single_stream_blocks", 32, block))


def cosmos_2(*, anima: bool = False) -> Shapes:
    hidden = 2048
    shapes = _linear("x_embedder.proj.1", hidden, 68, bias=False)
    block: Shapes = {}
    for part in ("self_attn", "cross_attn", "mlp"):
        block |= _linear(f"adaln_modulation_{part}.1", 256, hidden, bias=False)
        block |= _linear(f"adaln_modulation_{part}.2", 3 * hidden, 256, bias=False)
    for part in ("q_proj", "k_proj", "v_proj", "output_proj"):
        block |= _linear(f"self_attn.{part}", hidden, hidden, bias=False)
    shapes |= dict(_each("blocks", 28, block))
    if anima:
        shapes |= dict(_each("llm_adapter.blocks", 6, _linear("cross_attn.q_proj", 1024, 1024, bias=False)))
    return shapes | _linear("final_layer.linear", 64, hidden, bias=False)


def krea_2() -> Shapes:
    shapes = _linear("first", 6144, 64) | _linear("tmlp.0", 6144, 256) | _linear("tproj.1", 36864, 6144)
    shapes |= {"txtfusion.projector.weight": (1, 12), "txtmlp.0.scale": (2560,)}
    block: Shapes = {"prenorm.scale": (6144,), "postnorm.scale": (6144,), "mod.lin": (36864,)}
    for part, rows in (("wq", 6144), ("wk", 1536), ("wv", 1536), ("wo", 6144), ("gate", 6144)):
        block |= _linear(f"attn.{part}", rows, 6144, bias=False)
    return shapes | dict(_each("blocks", 28, block)) | _linear("last.linear", 64, 6144)


def ltx() -> Shapes:
    shapes = _linear("patchify_proj", 2048, 128) | {"scale_shift_table": (2, 2048)}
    shapes |= _linear("adaln_single.linear", 12288, 2048)
    shapes |= _linear("adaln_single.emb.timestep_embedder.linear_1", 2048, 256)
    shapes |= _linear("caption_projection.linear_1", 2048, 4096)
    block: Shapes = {"scale_shift_table": (6, 2048), "attn1.q_norm.weight": (2048,)}
    for part in ("to_q", "to_k", "to_v", "to_out.0"):
        block |= _linear(f"attn1.{part}", 2048, 2048) | _linear(f"attn2.{part}", 2048, 2048)
    return shapes | dict(_each("transformer_blocks", 28, block)) | _linear("proj_out", 128, 2048)


def mochi() -> Shapes:
    shapes: Shapes = {"pos_frequencies": (3, 24, 64)} | _conv("x_embedder.proj", 3072, 12, 2)
    block = _linear("attn.qkv_x", 9216, 3072, bias=False) | _linear("attn.qkv_y", 9216, 1536, bias=False)
    block |= _linear("mod_x", 12288, 3072) | _linear("mod_y", 6144, 3072)
    return shapes | dict(_each("blocks", 48, block)) | _linear("final_layer.linear", 48, 3072)


def hunyuan_dit() -> Shapes:
    shapes: Shapes = {"text_embedding_padding": (333, 1024), "style_embedder.weight": (1, 1408)}
    shapes |= _conv("x_embedder.proj", 1408, 4, 2) | _linear("mlp_t5.0", 8192, 2048)
    block = (
        _linear("attn1.Wqkv", 4224, 1408) | _linear("attn2.q_proj", 1408, 1408) | _linear("attn2.kv_proj", 2816, 1024)
    )
    return shapes | dict(_each("blocks", 40, block)) | _linear("final_layer.linear", 32, 1408)


def cascade(stage: str) -> Shapes:
    shapes: Shapes = {}
    if stage == "c":
        shapes |= _linear("clip_txt_mapper", 2048, 1280) | _linear("clip_txt_pooled_mapper", 8192, 1280)
    else:
        shapes |= _conv("effnet_mapper.0", 1280, 16, 1) | _linear("clip_mapper", 5120, 1280)
    for level in range(2):
        for number in range(0, 24, 3):
            block = f"down_blocks.{level}.{number}"
            shapes |= _conv(f"{block}.depthwise", 2048, 1) | _linear(
                f"{block}.channelwise.0", 8192, 2048 if stage == "c" else 640
            )
    return shapes
