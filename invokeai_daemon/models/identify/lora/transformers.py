"""Transformers: the layers of the picture models after Stable Diffusion, under diffusers' names and the original ones.

Trainers for FLUX, SD-3, FLUX.2, Z-Image, … write one or the other. Where one set of layers comes in several widths, a
function makes the table for a width. The form is that of `modules`.
"""

from __future__ import annotations

from invokeai_daemon.models.identify.lora.modules import Architecture


def _sd_3(w: int, n: int, dual: int = 0) -> str:
    """Stable Diffusion 3 and 3.5: `n` joint blocks, the first `dual` of them with a second attention."""
    modulation = f"{6 * w}x{w} {9 * w}x{w}" if dual else f"{6 * w}x{w}"
    return f"""
    (pos_embed.proj|x_embedder.proj) {w}x16x2x2
    time_text_embed.(timestep_embedder|text_embedder).linear_2 {w}x{w}
    time_text_embed.timestep_embedder.linear_1 {w}x256
    time_text_embed.text_embedder.linear_1 {w}x2048
    (t_embedder|y_embedder).mlp.2 {w}x{w}
    t_embedder.mlp.0 {w}x256
    y_embedder.mlp.0 {w}x2048
    context_embedder {w}x4096
    transformer_blocks.[{n}].norm1.linear {modulation}
    transformer_blocks.[{n}].norm1_context.linear {6 * w}x{w} {2 * w}x{w}
    transformer_blocks.[{n}].attn.(to_q|to_k|to_v|to_out.0|add_q_proj|add_k_proj|add_v_proj|to_add_out) {w}x{w}
    transformer_blocks.[{dual}].attn2.(to_q|to_k|to_v|to_out.0) {w}x{w}
    transformer_blocks.[{n}].(ff|ff_context).net.0.proj {4 * w}x{w}
    transformer_blocks.[{n}].(ff|ff_context).net.2 {w}x{4 * w}
    (norm_out.linear|final_layer.adaLN_modulation.1) {2 * w}x{w}
    (proj_out|final_layer.linear) 64x{w}
    joint_blocks.[{n}].(x_block|context_block).attn.qkv {3 * w}x{w}
    joint_blocks.[{n}].(x_block|context_block).attn.proj {w}x{w}
    joint_blocks.[{n}].(x_block|context_block).mlp.fc1 {4 * w}x{w}
    joint_blocks.[{n}].(x_block|context_block).mlp.fc2 {w}x{4 * w}
    joint_blocks.[{n}].x_block.adaLN_modulation.1 {modulation}
    joint_blocks.[{n}].context_block.adaLN_modulation.1 {6 * w}x{w} {2 * w}x{w}
    joint_blocks.[{dual}].x_block.attn2.qkv {3 * w}x{w}
    joint_blocks.[{dual}].x_block.attn2.proj {w}x{w}
    """


#: What FLUX.1 and Chroma share. Fused projections also split (`qkv.0`), as OneTrainer writes them; XLabs numbers the
#: streams (1 image, 2 text), DiffSynth calls them a and b.
_FLUX_BLOCKS = """
    (context_embedder|txt_in) 3072x4096
    (x_embedder|img_in) 3072x64 3072x128 3072x384
    (proj_out|final_layer.linear) 64x3072
    transformer_blocks.[19].attn.(to_q|to_k|to_v|to_out.0|add_q_proj|add_k_proj|add_v_proj|to_add_out) 3072x3072
    transformer_blocks.[19].(ff|ff_context).net.0.proj 12288x3072
    transformer_blocks.[19].(ff|ff_context).net.2 3072x12288
    single_transformer_blocks.[38].attn.(to_q|to_k|to_v) 3072x3072
    single_transformer_blocks.[38].proj_mlp 12288x3072
    single_transformer_blocks.[38].proj_out 3072x15360
    double_blocks.[19].(img_attn|txt_attn).qkv 9216x3072
    double_blocks.[19].(img_attn|txt_attn).qkv.[3] 3072x3072
    double_blocks.[19].(img_attn|txt_attn).proj 3072x3072
    double_blocks.[19].(img_mlp|txt_mlp).0 12288x3072
    double_blocks.[19].(img_mlp|txt_mlp).2 3072x12288
    single_blocks.[38].linear1 21504x3072
    single_blocks.[38].linear1.[3] 3072x3072
    single_blocks.[38].linear1.3 12288x3072
    single_blocks.[38].linear2 3072x15360
    single_blocks.[38].linear1_qkv 9216x3072
    blocks.[19].attn.(a_to_qkv|b_to_qkv) 9216x3072
    blocks.[19].attn.(a_to_out|b_to_out) 3072x3072
    blocks.[19].(ff_a|ff_b).0 12288x3072
    blocks.[19].(ff_a|ff_b).2 3072x12288
    single_blocks.[38].to_qkv_mlp 21504x3072
    single_blocks.[38].proj_out 3072x15360
"""

_FLUX = f"""{_FLUX_BLOCKS}
    time_text_embed.(timestep_embedder|guidance_embedder|text_embedder).linear_2 3072x3072
    time_text_embed.(timestep_embedder|guidance_embedder).linear_1 3072x256
    time_text_embed.text_embedder.linear_1 3072x768
    transformer_blocks.[19].(norm1|norm1_context).linear 18432x3072
    single_transformer_blocks.[38].norm.linear 9216x3072
    (norm_out.linear|final_layer.adaLN_modulation.1) 6144x3072
    (time_in|guidance_in|vector_in).out_layer 3072x3072
    (time_in|guidance_in).in_layer 3072x256
    vector_in.in_layer 3072x768
    double_blocks.[19].(img_mod|txt_mod).lin 18432x3072
    single_blocks.[38].modulation.lin 9216x3072
    blocks.[19].(norm1_a|norm1_b).linear 18432x3072
    single_blocks.[38].norm.linear 9216x3072
    double_blocks.[19].(qkv1|qkv2) 9216x3072
    double_blocks.[19].(proj1|proj2) 3072x3072
    single_blocks.[38].qkv 9216x3072
    single_blocks.[38].proj 3072x3072
    double_blocks.[19].(img_attn|txt_attn).norm.(query_norm|key_norm) 128
    single_blocks.[38].norm.(query_norm|key_norm) 128
    transformer_blocks.[19].attn.(norm_q|norm_k|norm_added_q|norm_added_k) 128
    single_transformer_blocks.[38].attn.(norm_q|norm_k) 128
"""

_CHROMA = f"""{_FLUX_BLOCKS}
    distilled_guidance_layer.in_proj 5120x64
    distilled_guidance_layer.layers.[5].(linear_1|linear_2|in_layer|out_layer) 5120x5120
    distilled_guidance_layer.out_proj 3072x5120
    final_layer.adaLN_modulation.1 6144x3072
"""


def _flux_2(w: int, double: int, single: int, context: int) -> str:
    """FLUX.2: gated feed-forwards, one modulation for all blocks."""
    return f"""
    time_guidance_embed.(timestep_embedder|guidance_embedder).linear_1 {w}x256
    time_guidance_embed.(timestep_embedder|guidance_embedder).linear_2 {w}x{w}
    (double_stream_modulation_img|double_stream_modulation_txt).(linear|lin) {6 * w}x{w}
    single_stream_modulation.(linear|lin) {3 * w}x{w}
    (x_embedder|img_in) {w}x128
    (context_embedder|txt_in) {w}x{context}
    transformer_blocks.[{double}].attn.(to_q|to_k|to_v|to_out.0|add_q_proj|add_k_proj|add_v_proj|to_add_out) {w}x{w}
    transformer_blocks.[{double}].(ff|ff_context).linear_in {6 * w}x{w}
    transformer_blocks.[{double}].(ff|ff_context).linear_out {w}x{3 * w}
    single_transformer_blocks.[{single}].attn.to_qkv_mlp_proj {9 * w}x{w}
    single_transformer_blocks.[{single}].attn.to_out {w}x{4 * w}
    (norm_out.linear|final_layer.adaLN_modulation.1) {2 * w}x{w}
    (proj_out|final_layer.linear) 128x{w}
    (time_in|guidance_in).in_layer {w}x256
    (time_in|guidance_in).out_layer {w}x{w}
    double_blocks.[{double}].(img_attn|txt_attn).qkv {3 * w}x{w}
    double_blocks.[{double}].(img_attn|txt_attn).qkv.[3] {w}x{w}
    double_blocks.[{double}].(img_attn|txt_attn).proj {w}x{w}
    double_blocks.[{double}].(img_mlp|txt_mlp).0 {6 * w}x{w}
    double_blocks.[{double}].(img_mlp|txt_mlp).2 {w}x{3 * w}
    single_blocks.[{single}].linear1 {9 * w}x{w}
    single_blocks.[{single}].linear2 {w}x{4 * w}
    """


def _z_image() -> str:
    lines = ["all_x_embedder.2-1 3840x64", "all_final_layer.2-1.linear 64x3840", "cap_embedder.1 3840x2560"]
    lines += ["(x_embedder|all_x_embedder_2-1) 3840x64", "final_layer.linear 64x3840"]
    lines += ["(all_final_layer.2-1|final_layer).adaLN_modulation.1 3840x256"]
    lines += ["(t_embedder|t_embedder_2).mlp.0 1024x256", "(t_embedder|t_embedder_2).mlp.2 256x1024"]
    for stem, count in (("noise_refiner", 2), ("context_refiner", 2), ("layers", 30)):
        block = f"{stem}.[{count}]"
        lines += [
            f"{block}.attention.(to_q|to_k|to_v|to.q|to.k|to.v|to_out.0|out) 3840x3840",
            f"{block}.attention.qkv 11520x3840",
            f"{block}.feed_forward.(w1|w3) 10240x3840",
            f"{block}.feed_forward.w2 3840x10240",
        ]
        lines += [] if stem == "context_refiner" else [f"{block}.adaLN_modulation.0 15360x256"]
    return "\n".join(lines)


_QWEN_IMAGE = """
    time_text_embed.timestep_embedder.linear_1 3072x256
    time_text_embed.timestep_embedder.linear_2 3072x3072
    img_in 3072x64
    txt_in 3072x3584
    transformer_blocks.[60].(img_mod|txt_mod).1 18432x3072
    transformer_blocks.[60].attn.(to_q|to_k|to_v|to_out.0|add_q_proj|add_k_proj|add_v_proj|to_add_out) 3072x3072
    transformer_blocks.[60].(img_mlp|txt_mlp).net.0.proj 12288x3072
    transformer_blocks.[60].(img_mlp|txt_mlp).net.2 3072x12288
    norm_out.linear 6144x3072
    proj_out 64x3072
"""

#: Qwen-Image 2: one stream, gated feed-forwards.
_QWEN_IMAGE_2 = """
    time_text_embed.timestep_embedder.linear_1 4096x256
    time_text_embed.timestep_embedder.linear_2 4096x4096
    txt_in.(in_layer|out_layer) 4096x4096
    norm_out.linear 4096x4096
    img_in 4096x64
    modulation.1 16384x4096
    transformer_blocks.[32].attn.(to_q|to_k|to_v|to_out.0) 4096x4096
    transformer_blocks.[32].img_mlp.(proj|gate_layer) 12288x4096
    transformer_blocks.[32].img_mlp.gate_up 24576x4096
    transformer_blocks.[32].img_mlp.out 4096x12288
    proj_out 64x4096
"""

_KREA_2 = """
    (img_in|first) 6144x64
    (time_embed.linear_1|tmlp.0) 6144x256
    (time_embed.linear_2|tmlp.2) 6144x6144
    (txt_in.linear_1|txtmlp.1) 6144x2560
    (txt_in.linear_2|txtmlp.3) 6144x6144
    (time_mod_proj|tproj.1) 36864x6144
    (text_fusion|txtfusion).projector 1x12
    (text_fusion|txtfusion).(layerwise_blocks|refiner_blocks).[2].attn.(to_q|to_k|to_v|to_gate|to_out.0) 2560x2560
    (text_fusion|txtfusion).(layerwise_blocks|refiner_blocks).[2].attn.(wq|wk|wv|wo|gate) 2560x2560
    (text_fusion|txtfusion).(layerwise_blocks|refiner_blocks).[2].(ff|mlp).(gate|up) 6912x2560
    (text_fusion|txtfusion).(layerwise_blocks|refiner_blocks).[2].(ff|mlp).down 2560x6912
    transformer_blocks.[28].attn.(to_q|to_gate|to_out.0) 6144x6144
    transformer_blocks.[28].attn.(to_k|to_v) 1536x6144
    transformer_blocks.[28].ff.(gate|up) 16384x6144
    transformer_blocks.[28].ff.down 6144x16384
    blocks.[28].attn.(wq|wo|gate) 6144x6144
    blocks.[28].attn.(wk|wv) 1536x6144
    blocks.[28].mlp.(gate|up) 16384x6144
    blocks.[28].mlp.down 6144x16384
    (final_layer|last).linear 64x6144
"""

_ERNIE_IMAGE = """
    x_embedder.proj 4096x128x1x1
    text_proj 4096x3072
    time_embedding.(linear_1|linear_2) 4096x4096
    adaLN_modulation.1 24576x4096
    layers.[36].self_attention.(to_q|to_k|to_v|to_out.0) 4096x4096
    layers.[36].mlp.(gate_proj|up_proj) 12288x4096
    layers.[36].mlp.linear_fc2 4096x12288
    final_norm.linear 8192x4096
    final_linear 128x4096
"""

_IDEOGRAM_4 = """
    input_proj 4608x128
    llm_cond_proj 4608x53248
    t_embedding.(mlp_in|mlp_out) 4608x4608
    adaln_proj 512x4608
    layers.[34].attention.(to_q|to_k|to_v|to_out.0|o) 4608x4608
    layers.[34].attention.qkv 13824x4608
    layers.[34].feed_forward.(w1|w3) 12288x4608
    layers.[34].feed_forward.w2 4608x12288
    layers.[34].adaln_modulation 18432x512
    final_layer.linear 128x4608
    final_layer.adaln_modulation 4608x512
"""

_COGVIEW_4 = """
    patch_embed.proj 4096x64
    patch_embed.text_proj 4096x4096
    time_condition_embed.timestep_embedder.linear_1 512x4096
    time_condition_embed.(timestep_embedder|condition_embedder).linear_2 512x512
    time_condition_embed.condition_embedder.linear_1 512x1536
    transformer_blocks.[28].norm1.linear 49152x512
    transformer_blocks.[28].attn1.(to_q|to_k|to_v|to_out.0) 4096x4096
    transformer_blocks.[28].ff.net.0.proj 16384x4096
    transformer_blocks.[28].ff.net.2 4096x16384
    norm_out.linear 8192x512
    proj_out 64x4096
"""

ARCHITECTURES = (
    Architecture("sd-3", _sd_3(1536, 24, dual=13), "medium", "Stable Diffusion 3 medium"),
    Architecture("sd-3", _sd_3(2432, 38), "large", "Stable Diffusion 3.5 large"),
    Architecture("flux", _FLUX, name="FLUX.1"),
    Architecture("chroma", _CHROMA, name="Chroma"),
    Architecture("flux2", _flux_2(3072, 5, 20, 7680), "klein_4b", "FLUX.2 klein 4B"),
    Architecture("flux2", _flux_2(4096, 8, 24, 12288), "klein_9b", "FLUX.2 klein 9B"),
    Architecture("flux2", _flux_2(6144, 8, 48, 15360), "dev", "FLUX.2 dev"),
    Architecture("z-image", _z_image(), name="Z-Image"),
    Architecture("qwen-image", _QWEN_IMAGE, name="Qwen-Image"),
    Architecture("qwen-image", _QWEN_IMAGE_2, name="Qwen-Image 2"),
    Architecture("krea-2", _KREA_2, name="Krea 2"),
    Architecture("ernie-image", _ERNIE_IMAGE, name="ERNIE-Image"),
    Architecture("ideogram-4", _IDEOGRAM_4, name="Ideogram 4"),
    Architecture("cogview4", _COGVIEW_4, name="CogView4"),
)
