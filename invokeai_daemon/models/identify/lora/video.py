"""Video: the layers of models that make films, under diffusers' names and the original ones.

Nothing here renders them; their LoRAs are told so that nobody takes them for LoRAs of picture models. The form of the
tables is that of `modules`.
"""

from __future__ import annotations

from invokeai_daemon.models.identify.lora.modules import Architecture


def _wan(w: int, n: int, inner: int, channels: str) -> str:
    patches = " ".join(f"{w}x{number}x1x2x2" for number in channels.split())
    return f"""
    patch_embedding {patches}
    (condition_embedder.time_embedder.linear_1|time_embedding.0) {w}x256
    (condition_embedder.time_embedder.linear_2|time_embedding.2) {w}x{w}
    (condition_embedder.text_embedder.linear_1|text_embedding.0) {w}x4096
    (condition_embedder.text_embedder.linear_2|text_embedding.2) {w}x{w}
    (condition_embedder.time_proj|time_projection.1) {6 * w}x{w}
    (condition_embedder.image_embedder.ff.net.0.proj|img_emb.proj.1) 1280x1280
    (condition_embedder.image_embedder.ff.net.2|img_emb.proj.3) {w}x1280
    blocks.[{n}].(attn1|attn2).(to_q|to_k|to_v|to_out.0|add_k_proj|add_v_proj) {w}x{w}
    blocks.[{n}].(ffn.net.0.proj|ffn.0) {inner}x{w}
    blocks.[{n}].(ffn.net.2|ffn.2) {w}x{inner}
    blocks.[{n}].(self_attn|cross_attn).(q|k|v|o|k_img|v_img) {w}x{w}
    (proj_out|head.head) 64x{w} 192x{w}
    """


_HUNYUAN_VIDEO = """
    (context_embedder.time_text_embed|time_text_embed).(timestep_embedder|text_embedder).linear_2 3072x3072
    time_text_embed.guidance_embedder.linear_2 3072x3072
    (context_embedder.time_text_embed|time_text_embed).timestep_embedder.linear_1 3072x256
    time_text_embed.guidance_embedder.linear_1 3072x256
    context_embedder.time_text_embed.text_embedder.linear_1 3072x4096
    context_embedder.token_refiner.refiner_blocks.[2].norm_out.linear 6144x3072
    (proj_out|final_layer.linear) 64x3072
    x_embedder.proj 3072x16x1x2x2
    context_embedder.proj_in 3072x4096
    time_text_embed.text_embedder.linear_1 3072x768
    context_embedder.token_refiner.refiner_blocks.[2].attn.(to_q|to_k|to_v|to_out.0) 3072x3072
    context_embedder.token_refiner.refiner_blocks.[2].ff.net.0.proj 12288x3072
    context_embedder.token_refiner.refiner_blocks.[2].ff.net.2 3072x12288
    transformer_blocks.[20].(norm1|norm1_context).linear 18432x3072
    transformer_blocks.[20].attn.(to_q|to_k|to_v|to_out.0|add_q_proj|add_k_proj|add_v_proj|to_add_out) 3072x3072
    transformer_blocks.[20].(ff|ff_context).net.0.proj 12288x3072
    transformer_blocks.[20].(ff|ff_context).net.2 3072x12288
    single_transformer_blocks.[40].attn.(to_q|to_k|to_v) 3072x3072
    single_transformer_blocks.[40].norm.linear 9216x3072
    single_transformer_blocks.[40].proj_mlp 12288x3072
    single_transformer_blocks.[40].proj_out 3072x15360
    norm_out.linear 6144x3072
    txt_in.individual_token_refiner.blocks.[2].self_attn_qkv 9216x3072
    txt_in.individual_token_refiner.blocks.[2].self_attn_proj 3072x3072
    txt_in.individual_token_refiner.blocks.[2].mlp.fc1 12288x3072
    txt_in.individual_token_refiner.blocks.[2].mlp.fc2 3072x12288
    double_blocks.[20].(img_attn_qkv|txt_attn_qkv) 9216x3072
    double_blocks.[20].(img_attn_proj|txt_attn_proj) 3072x3072
    double_blocks.[20].(img_mlp|txt_mlp).fc1 12288x3072
    double_blocks.[20].(img_mlp|txt_mlp).fc2 3072x12288
    double_blocks.[20].(img_mod|txt_mod).linear 18432x3072
    single_blocks.[40].linear1 21504x3072
    single_blocks.[40].linear2 3072x15360
    single_blocks.[40].modulation.linear 9216x3072
"""

_HUNYUAN_VIDEO_15 = """
    proj_out 32x2048
    time_embed.timestep_embedder.linear_1 2048x256
    time_embed.timestep_embedder.linear_2 2048x2048
    image_embedder.linear_2 2048x1152
    context_embedder.proj_in 2048x3584
    transformer_blocks.[54].(norm1|norm1_context).linear 12288x2048
    transformer_blocks.[54].attn.(to_q|to_k|to_v|to_out.0|add_q_proj|add_k_proj|add_v_proj|to_add_out) 2048x2048
    transformer_blocks.[54].(ff|ff_context).net.0.proj 8192x2048
    transformer_blocks.[54].(ff|ff_context).net.2 2048x8192
    norm_out.linear 4096x2048
    double_blocks.[54].(img_attn_q|img_attn_k|img_attn_v|txt_attn_q|txt_attn_k|txt_attn_v) 2048x2048
    double_blocks.[54].(img_attn_qkv|txt_attn_qkv) 6144x2048
    double_blocks.[54].(img_attn_proj|txt_attn_proj) 2048x2048
    double_blocks.[54].(img_mlp|txt_mlp).fc1 8192x2048
    double_blocks.[54].(img_mlp|txt_mlp).fc2 2048x8192
    double_blocks.[54].(img_mod|txt_mod).linear 12288x2048
"""


def _ltx(w: int, n: int) -> str:
    return f"""
    (proj_in|patchify_proj) {w}x128
    (caption_projection.linear_1) {w}x4096
    (caption_projection.linear_2) {w}x{w}
    (time_embed|adaln_single).linear {6 * w}x{w}
    (time_embed|adaln_single).emb.timestep_embedder.linear_1 {w}x256
    (time_embed|adaln_single).emb.timestep_embedder.linear_2 {w}x{w}
    transformer_blocks.[{n}].(attn1|attn2).(to_q|to_k|to_v|to_out.0) {w}x{w}
    transformer_blocks.[{n}].ff.net.0.proj {4 * w}x{w}
    transformer_blocks.[{n}].ff.net.2 {w}x{4 * w}
    proj_out 128x{w}
    """


_LTX_2 = f"""{_ltx(4096, 48)}
    transformer_blocks.[48].(audio_attn1|audio_attn2).(to_q|to_k|to_v|to_out.0) 2048x2048
    transformer_blocks.[48].audio_to_video_attn.to_q 2048x4096
    transformer_blocks.[48].audio_to_video_attn.(to_k|to_v) 2048x2048
    transformer_blocks.[48].audio_to_video_attn.to_out.0 4096x2048
    transformer_blocks.[48].video_to_audio_attn.(to_q|to_out.0) 2048x2048
    transformer_blocks.[48].video_to_audio_attn.(to_k|to_v) 2048x4096
    transformer_blocks.[48].audio_ff.net.0.proj 8192x2048
    transformer_blocks.[48].audio_ff.net.2 2048x8192
"""

_MOCHI = """
    blocks.[48].attn.qkv_x 9216x3072
    blocks.[48].attn.qkv_y 9216x1536
    blocks.[48].attn.proj_x 3072x3072
    blocks.[48].attn.proj_y 1536x3072
    blocks.[48].(mlp_x|mlp_y).w1 16384x3072 8192x1536
    blocks.[48].(mlp_x|mlp_y).w2 3072x8192 1536x4096
    patch_embed.proj 3072x12x2x2
    time_embed.timestep_embedder.linear_1 3072x256
    time_embed.timestep_embedder.linear_2 3072x3072
    time_embed.pooler.to_kv 8192x4096
    time_embed.pooler.to_q 4096x4096
    time_embed.pooler.to_out 3072x4096
    time_embed.caption_proj 1536x4096
    transformer_blocks.[48].norm1.linear 12288x3072
    transformer_blocks.[48].norm1_context.linear 6144x3072
    transformer_blocks.[48].norm1_context.linear_1 1536x3072
    norm_out.linear 6144x3072
    proj_out 48x3072
    transformer_blocks.[48].attn1.(to_q|to_k|to_v|to_out.0) 3072x3072
    transformer_blocks.[48].attn1.(add_q_proj|add_k_proj|add_v_proj) 3072x1536
    transformer_blocks.[48].attn1.to_add_out 1536x3072
    transformer_blocks.[48].ff.net.0.proj 16384x3072
    transformer_blocks.[48].ff.net.2 3072x8192
    transformer_blocks.[48].ff_context.net.0.proj 8192x1536
    transformer_blocks.[48].ff_context.net.2 1536x4096
"""

_KANDINSKY_5 = """
    time_embeddings.in_layer 512x2048
    time_embeddings.out_layer 512x512
    text_embeddings.in_layer 2048x3584
    pooled_text_embeddings.in_layer 512x768
    visual_embeddings.in_layer 2048x16 2048x132 2048x64
    text_transformer_blocks.[2].text_modulation.out_layer 12288x512
    text_transformer_blocks.[2].feed_forward.in_layer 5120x2048
    text_transformer_blocks.[2].feed_forward.out_layer 2048x5120
    visual_transformer_blocks.[32].visual_modulation.out_layer 18432x512
    out_layer.modulation.out_layer 4096x512
    out_layer.out_layer 16x2048 64x2048
    text_transformer_blocks.[2].self_attention.(to_query|to_key|to_value|out_layer) 2048x2048
    visual_transformer_blocks.[32].(self_attention|cross_attention).(to_query|to_key|to_value|out_layer) 2048x2048
    visual_transformer_blocks.[32].feed_forward.in_layer 5120x2048
    visual_transformer_blocks.[32].feed_forward.out_layer 2048x5120
"""


def _cogvideox(w: int, n: int) -> str:
    return f"""
    patch_embed.text_proj {w}x4096
    patch_embed.proj {w}x16x2x2 {w}x32x2x2
    time_embedding.linear_1 512x{w}
    time_embedding.linear_2 512x512
    norm_out.linear {2 * w}x512
    proj_out 64x{w}
    transformer_blocks.[{n}].(norm1|norm2).linear {6 * w}x512
    transformer_blocks.[{n}].attn1.(to_q|to_k|to_v|to_out.0) {w}x{w}
    transformer_blocks.[{n}].ff.net.0.proj {4 * w}x{w}
    transformer_blocks.[{n}].ff.net.2 {w}x{4 * w}
    """


ARCHITECTURES = (
    Architecture("wan", _wan(5120, 40, 13824, "16 36"), "a14b", "Wan 14B"),
    Architecture("wan", _wan(3072, 30, 14336, "48"), "5b", "Wan 2.2 5B"),
    Architecture("wan", _wan(1536, 30, 8960, "16 36"), None, "Wan 2.1 1.3B"),
    Architecture("hunyuan-video", _HUNYUAN_VIDEO, name="HunyuanVideo"),
    Architecture("hunyuan-video", _HUNYUAN_VIDEO_15, name="HunyuanVideo 1.5"),
    Architecture("ltx-video", _ltx(2048, 28), name="LTX-Video 2B"),
    Architecture("ltx-video", _ltx(4096, 48), name="LTX-Video 13B"),
    Architecture("ltx-video", _LTX_2, name="LTX-2"),
    Architecture("mochi", _MOCHI, name="Mochi"),
    Architecture("kandinsky", _KANDINSKY_5, name="Kandinsky 5"),
    Architecture("cogvideox", _cogvideox(1920, 30), name="CogVideoX 2B"),
    Architecture("cogvideox", _cogvideox(3072, 42), name="CogVideoX 5B"),
)
