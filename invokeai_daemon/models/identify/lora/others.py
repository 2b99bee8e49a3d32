"""Others: the layers of picture models that InvokeAI has no word for, or that are rare, so that LoRAs are named.

The form of the tables is that of `modules`.
"""

from __future__ import annotations

from invokeai_daemon.models.identify.lora.modules import Architecture


def _cosmos(w: int, n: int) -> str:
    """Cosmos-Predict 2, which Anima is made from."""
    return f"""
    (patch_embed.proj|x_embedder.proj.1) {w}x68 {w}x72
    (time_embed.t_embedder|t_embedder.1).linear_1 {w}x{w}
    (time_embed.t_embedder|t_embedder.1).linear_2 {3 * w}x{w}
    transformer_blocks.[{n}].(norm1|norm2|norm3).linear_1 256x{w}
    transformer_blocks.[{n}].(norm1|norm2|norm3).linear_2 {3 * w}x256
    transformer_blocks.[{n}].attn1.(to_q|to_k|to_v|to_out.0) {w}x{w}
    transformer_blocks.[{n}].attn2.(to_q|to_out.0) {w}x{w}
    transformer_blocks.[{n}].attn2.(to_k|to_v) {w}x1024
    transformer_blocks.[{n}].ff.net.0.proj {4 * w}x{w}
    transformer_blocks.[{n}].ff.net.2 {w}x{4 * w}
    blocks.[{n}].(adaln_modulation_self_attn|adaln_modulation_cross_attn|adaln_modulation_mlp).1 256x{w}
    blocks.[{n}].(adaln_modulation_self_attn|adaln_modulation_cross_attn|adaln_modulation_mlp).2 {3 * w}x256
    blocks.[{n}].self_attn.(q_proj|k_proj|v_proj|output_proj) {w}x{w}
    blocks.[{n}].cross_attn.(q_proj|output_proj) {w}x{w}
    blocks.[{n}].cross_attn.(k_proj|v_proj) {w}x1024
    blocks.[{n}].mlp.layer1 {4 * w}x{w}
    blocks.[{n}].mlp.layer2 {w}x{4 * w}
    (norm_out.linear_1|final_layer.adaln_modulation.1) 256x{w}
    (norm_out.linear_2|final_layer.adaln_modulation.2) {2 * w}x256
    (proj_out|final_layer.linear) 64x{w}
    """


_ANIMA = f"""{_cosmos(2048, 28)}
    (llm_adapter.|)blocks.[6].cross_attn.(q_proj|k_proj|v_proj|o_proj) 1024x1024
    (llm_adapter.|)blocks.[6].self_attn.(q_proj|k_proj|v_proj|o_proj) 1024x1024
    (llm_adapter.|)blocks.[6].mlp.0 4096x1024
    (llm_adapter.|)blocks.[6].mlp.2 1024x4096
    (llm_adapter.|)(in_proj|out_proj) 1024x1024
    llm_adapter.embed 32128x1024
"""

_HUNYUAN_IMAGE = """
    x_embedder.proj 3584x64x1x1
    (time_guidance_embed|context_embedder.time_text_embed).timestep_embedder.linear_1 3584x256
    (time_guidance_embed|context_embedder.time_text_embed).timestep_embedder.linear_2 3584x3584
    context_embedder.time_text_embed.text_embedder.(linear_1|linear_2) 3584x3584
    context_embedder.token_refiner.refiner_blocks.[2].attn.(to_q|to_k|to_v|to_out.0) 3584x3584
    context_embedder.token_refiner.refiner_blocks.[2].ff.net.0.proj 14336x3584
    context_embedder.token_refiner.refiner_blocks.[2].ff.net.2 3584x14336
    context_embedder.token_refiner.refiner_blocks.[2].norm_out.linear 7168x3584
    (proj_out|final_layer.linear) 64x3584
    context_embedder.proj_in 3584x3584
    transformer_blocks.[20].(norm1|norm1_context).linear 21504x3584
    transformer_blocks.[20].attn.(to_q|to_k|to_v|to_out.0|add_q_proj|add_k_proj|add_v_proj|to_add_out) 3584x3584
    transformer_blocks.[20].(ff|ff_context).net.0.proj 14336x3584
    transformer_blocks.[20].(ff|ff_context).net.2 3584x14336
    single_transformer_blocks.[40].attn.(to_q|to_k|to_v) 3584x3584
    single_transformer_blocks.[40].norm.linear 10752x3584
    single_transformer_blocks.[40].proj_mlp 14336x3584
    single_transformer_blocks.[40].proj_out 3584x17920
    norm_out.linear 7168x3584
    double_blocks.[20].(img_attn_qkv|txt_attn_qkv|img_attn.qkv|txt_attn.qkv) 10752x3584
    double_blocks.[20].(img_attn_q|img_attn_k|img_attn_v|txt_attn_q|txt_attn_k|txt_attn_v) 3584x3584
    double_blocks.[20].(img_attn_proj|txt_attn_proj|img_attn.proj|txt_attn.proj) 3584x3584
    double_blocks.[20].(img_mlp|txt_mlp).(fc1|0) 14336x3584
    double_blocks.[20].(img_mlp|txt_mlp).(fc2|2) 3584x14336
    double_blocks.[20].(img_mod|txt_mod).(linear|lin) 21504x3584
    single_blocks.[40].linear1 25088x3584
    single_blocks.[40].linear2 3584x17920
    single_blocks.[40].modulation.(linear|lin) 10752x3584
"""

_LUMINA_2 = (
    "\n".join(
        f"""
    {stem}.(attn.to_q|attn.to_out.0|attention.out) 2304x2304
    {stem}.attn.(to_k|to_v) 768x2304
    {stem}.attention.qkv 3840x2304
    {stem}.(feed_forward.linear_1|feed_forward.linear_3|feed_forward.w1|feed_forward.w3) 9216x2304
    {stem}.(feed_forward.linear_2|feed_forward.w2) 2304x9216
    {stem}.(norm1.linear|adaLN_modulation.1) 9216x1024
    """
        for stem in ("layers.[26]", "noise_refiner.[2]", "context_refiner.[2]")
    )
    + """
    x_embedder 2304x64
    norm_out.linear_1 2304x1024
    norm_out.linear_2 64x2304
    (time_caption_embed.caption_embedder.1|cap_embedder.1) 2304x2304
    (time_caption_embed.timestep_embedder.linear_1|t_embedder.mlp.0) 1024x256
    (time_caption_embed.timestep_embedder.linear_2|t_embedder.mlp.2) 1024x1024
"""
)

_PIXART = """
    pos_embed.proj 1152x4x2x2
    adaln_single.emb.(resolution_embedder|aspect_ratio_embedder).linear_1 384x256
    adaln_single.emb.(resolution_embedder|aspect_ratio_embedder).linear_2 384x384
    transformer_blocks.[28].(attn1|attn2).(to_q|to_k|to_v|to_out.0) 1152x1152
    transformer_blocks.[28].ff.net.0.proj 4608x1152
    transformer_blocks.[28].ff.net.2 1152x4608
    proj_out 32x1152
    adaln_single.linear 6912x1152
    adaln_single.emb.timestep_embedder.linear_1 1152x256
    adaln_single.emb.timestep_embedder.linear_2 1152x1152
    (caption_projection.linear_1|y_embedder.y_proj.fc1) 1152x4096
    (caption_projection.linear_2|y_embedder.y_proj.fc2) 1152x1152
    blocks.[28].attn.qkv 3456x1152
    blocks.[28].(attn.proj|cross_attn.proj|cross_attn.q_linear) 1152x1152
    blocks.[28].cross_attn.kv_linear 2304x1152
    blocks.[28].mlp.fc1 4608x1152
    blocks.[28].mlp.fc2 1152x4608
"""

_AURAFLOW = """
    pos_embed.proj 3072x16
    time_step_proj.linear_1 3072x256
    time_step_proj.linear_2 3072x3072
    norm_out.linear 6144x3072
    proj_out 16x3072
    (context_embedder|cond_seq_linear) 3072x2048
    joint_transformer_blocks.[4].(norm1|norm1_context).linear 18432x3072
    joint_transformer_blocks.[4].attn.(to_q|to_k|to_v|to_out.0|add_q_proj|add_k_proj|add_v_proj|to_add_out) 3072x3072
    joint_transformer_blocks.[4].(ff|ff_context).(linear_1|linear_2) 8192x3072
    joint_transformer_blocks.[4].(ff|ff_context).out_projection 3072x8192
    single_transformer_blocks.[32].norm1.linear 18432x3072
    single_transformer_blocks.[32].attn.(to_q|to_k|to_v|to_out.0) 3072x3072
    single_transformer_blocks.[32].ff.(linear_1|linear_2) 8192x3072
    single_transformer_blocks.[32].ff.out_projection 3072x8192
    double_layers.[4].attn.(w1q|w1k|w1v|w1o|w2q|w2k|w2v|w2o) 3072x3072
    double_layers.[4].(mlpC|mlpX).(c_fc1|c_fc2) 8192x3072
    double_layers.[4].(mlpC|mlpX).c_proj 3072x8192
    double_layers.[4].(modC|modX).1 18432x3072
    single_layers.[32].attn.(w1q|w1k|w1v|w1o) 3072x3072
    single_layers.[32].mlp.(c_fc1|c_fc2) 8192x3072
    single_layers.[32].mlp.c_proj 3072x8192
    single_layers.[32].modCX.1 18432x3072
"""

_HIDREAM = (
    "\n".join(
        f"""
    {stem}.attn1.(to_q|to_k|to_v|to_out|to_q_t|to_k_t|to_v_t|to_out_t) 2560x2560
    {stem}.ff_i.shared_experts.(w1|w3) 3584x2560
    {stem}.ff_i.shared_experts.w2 2560x3584
    {stem}.(ff_i.experts.[4]|ff_t).(w1|w3) 6912x2560
    {stem}.(ff_i.experts.[4]|ff_t).w2 2560x6912
    {stem}.ff_i.gate 4x2560
    {stem}.adaLN_modulation.1 30720x2560 15360x2560
    """
        for stem in ("double_stream_blocks.[16].block", "single_stream_blocks.[32].block")
    ).replace("(ff_i.experts.[4]|ff_t)", "(ff_i.experts.0|ff_i.experts.1|ff_i.experts.2|ff_i.experts.3|ff_t)")
    + """
    caption_projection.[49].linear 2560x4096
    p_embedder.pooled_embedder.linear_1 2560x2048
    (p_embedder.pooled_embedder|t_embedder.timestep_embedder).linear_2 2560x2560
    t_embedder.timestep_embedder.linear_1 2560x256
    final_layer.adaLN_modulation.1 5120x2560
    x_embedder.proj 2560x64
    final_layer.linear 64x2560
"""
)

_HUNYUAN_DIT = """
    blocks.[40].(attn1.to_q|attn1.to_k|attn1.to_v|attn1.to_out.0|attn2.to_q|attn2.to_out.0|norm1.linear) 1408x1408
    blocks.[40].attn2.(to_k|to_v) 1408x1024
    blocks.[40].ff.net.0.proj 6144x1408
    blocks.[40].ff.net.2 1408x6144
    blocks.[40].skip_linear 1408x2816
    blocks.[40].attn1.Wqkv 4224x1408
    blocks.[40].(attn1.out_proj|attn2.q_proj|attn2.out_proj|default_modulation.1) 1408x1408
    blocks.[40].attn2.kv_proj 2816x1024
    blocks.[40].mlp.fc1 6144x1408
    blocks.[40].mlp.fc2 1408x6144
"""

_SANA = """
    patch_embed.proj 2240x32x1x1
    time_embed.emb.timestep_embedder.linear_1 2240x256
    (time_embed.emb.timestep_embedder|caption_projection).linear_2 2240x2240
    time_embed.linear 13440x2240
    proj_out 32x2240
    transformer_blocks.[20].(attn1|attn2).(to_q|to_k|to_v|to_out.0) 2240x2240
    transformer_blocks.[20].ff.conv_inverted 11200x2240x1x1
    transformer_blocks.[20].ff.conv_point 2240x5600x1x1
    caption_projection.linear_1 2240x2304
"""

_SANA_SMALL = """
    patch_embed.proj 1152x32x1x1
    time_embed.emb.timestep_embedder.linear_1 1152x256
    (time_embed.emb.timestep_embedder|caption_projection).linear_2 1152x1152
    time_embed.linear 6912x1152
    proj_out 32x1152
    transformer_blocks.[28].(attn1|attn2).(to_q|to_k|to_v|to_out.0) 1152x1152
    transformer_blocks.[28].ff.conv_inverted 5760x1152x1x1
    transformer_blocks.[28].ff.conv_point 1152x2880x1x1
    caption_projection.linear_1 1152x2304
"""


def _cascade() -> str:
    """Stage C of Stable Cascade: residual, time and attention blocks in turn."""
    lines = ["clip_txt_pooled_mapper 8192x1280", "embedding.1 2048x16x1x1", "clf.1 16x2048x1x1"]
    lines += ["down_downscalers.1.1 2048x2048x2x2", "up_upscalers.0.1 2048x2048x2x2"]
    for stem, counts in (("down_blocks", (8, 24)), ("up_blocks", (24, 8))):
        for level, count in enumerate(counts):
            for place in range(0, 3 * count, 3):
                block = f"{stem}.{level}"
                attention = f"{block}.{place + 2}"
                lines += [
                    f"{block}.{place}.channelwise.0 8192x2048 8192x4096",
                    f"{block}.{place}.channelwise.4 2048x8192",
                    f"{block}.{place + 1}.(mapper|mapper_sca|mapper_crp) 4096x64",
                    f"{attention}.attention.(to_q|to_k|to_v|to_out.0|attn.out_proj) 2048x2048",
                    f"{attention}.kv_mapper.1 2048x2048",
                    f"{attention}.attention.attn.in_proj 6144x2048",
                ]
    return "\n".join(lines)


ARCHITECTURES = (
    Architecture("anima", _ANIMA, name="Anima"),
    Architecture("cosmos", _cosmos(2048, 28), name="Cosmos-Predict 2 2B"),
    Architecture("cosmos", _cosmos(5120, 36), name="Cosmos-Predict 2 14B"),
    Architecture("hunyuan-image", _HUNYUAN_IMAGE, name="HunyuanImage 2.1"),
    Architecture("hunyuan-dit", _HUNYUAN_DIT, name="Hunyuan-DiT"),
    Architecture("lumina2", _LUMINA_2, name="Lumina Image 2"),
    Architecture("pixart", _PIXART, name="PixArt"),
    Architecture("auraflow", _AURAFLOW, name="AuraFlow"),
    Architecture("hidream", _HIDREAM, name="HiDream"),
    Architecture("sana", _SANA, name="Sana 1.6B"),
    Architecture("sana", _SANA_SMALL, name="Sana 0.6B"),
    Architecture("stable-cascade", _cascade(), name="Stable Cascade"),
)
