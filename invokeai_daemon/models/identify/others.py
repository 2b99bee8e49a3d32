"""Others: what is named so that its owner knows what it is: motion modules, hypernetworks, preprocessors, trainings.

Nothing here is used to make pictures; each row says so and what to do. Preprocessors make control pictures and belong
to the tools that do that.
"""

from __future__ import annotations

from invokeai_daemon.models.identify.rules import most_of_it, scalar
from invokeai_daemon.models.identify.table import Answer, Choice, Family, Rule, axis, either, has, lacks
from invokeai_daemon.models.identify.weights import Weights

_MOTION = "it is for videos, and this program makes pictures. You may delete it or leave it where it is"
_PREPARES = (
    "it makes control pictures, which this program takes ready-made. Keep it for the tool that makes them; "
    "give a job the finished picture"
)
_NEEDS_ITS_FOLDER = "masks from words need its tokenizer, too. Drop the whole folder that the file came in"
_NOT_NEEDED = "no job uses it. You may delete it or leave it where it is"
_TRAINING = "it is not a model but the state of a training. Drop the model that the training saved"

_MODULES = (
    "down_blocks.0.motion_modules.0.temporal_transformer.*",
    "down_blocks.0.motion_modules.0.transformer_blocks.*",
    "down_blocks.1.motion_modules.0.*",
    "up_blocks.0.motion_modules.0.*",
    "up_blocks.1.motion_modules.0.*",
    "mid_block.motion_modules.0.*",
)
_MOTION_LORA = (
    "down_blocks.0.motion_modules.*lora*",
    "up_blocks.1.motion_modules.*lora*",
    "unet.down_blocks.0.motion_modules.*lora*",
)
#: The last motion block of SD-1's UNet; SDXL's has one block less.
_FOURTH = ("down_blocks.3.motion_modules.*", "up_blocks.3.motion_modules.*")


def _other(name: str, *marks: Rule, base: str | Choice = "any", under: tuple[str, ...] = ("module.", "")) -> Family:
    return Family("other", base, name, marks, under=under, unusable=_PREPARES)


def _unused(name: str, *marks: Rule, why: str = _NOT_NEEDED, base: str | Choice = "any") -> Family:
    return Family("other", base, name, marks, under=("module.", ""), unusable=why)


_VIDEOS: tuple[Family, ...] = (
    Family(
        "motion_adapter",
        Choice(
            (
                ("sd-1", has(*_FOURTH, called="motion modules in four blocks")),
                ("sdxl", lacks(*_FOURTH, called="motion modules in a fourth block")),
            )
        ),
        "a motion module of AnimateDiff",
        marks=(
            has(*_MODULES, called="motion modules"),
            lacks(*_MOTION_LORA, called="low-rank matrices"),
            lacks("controlnet_down_blocks.*", "conv_in.weight", called="a network of its own"),
        ),
        under=("module.", "model.", ""),
        unusable=_MOTION,
    ),
    Family(
        "motion_adapter",
        "sdxl",
        "a motion module of HotShot-XL",
        marks=(has("down_blocks.*.temporal_attentions.0.*", called="attention over time"),),
        under=("module.", ""),
        unusable=_MOTION,
    ),
    _unused(
        "a camera encoder of AnimateDiff (CameraCtrl)",
        has("encoder_down_conv_blocks.*", "pose_encoder.*", called="the layers of a camera encoder"),
        why=_MOTION,
    ),
)

_SMALL_LINEAR = axis(("layers.0.weight", "mlp.0.weight"), 1, 512, 768, 1024, called="width of what CLIP gives")


def _hypernetwork(weights: Weights) -> Answer:
    """Pairs of small networks by the width that they change: 320, 640, 768, … (A rule.)"""
    widths = ("320", "640", "768", "1024", "1280", "2048")
    found = next((width for width in widths if weights.begins(f"{width}.")), None)
    linear = weights.find(f"{found}.0.linear.0.weight", f"{found}.0.linear1.weight") if found else None
    named = "layer_structure" in weights.scalars or "activation_func" in weights.scalars
    return Answer(
        bool(linear) or named, "it has pairs of layers by width, as a hypernetwork has" if linear or named else ""
    )


_LEARNED: tuple[Family, ...] = (
    Family(
        "hypernetwork",
        Choice(
            (
                ("sd-1", lambda weights: Answer(weights.begins("768."), "it changes the width 768")),
                ("sd-2", lambda weights: Answer(weights.begins("1024."), "it changes the width 1024")),
            ),
            default="sd-1",
        ),
        "a hypernetwork",
        marks=(_hypernetwork,),
        unusable="hypernetworks are not supported. Use a LoRA for the same subject or style",
    ),
    _unused(
        "an aesthetic embedding or predictor",
        either(
            _SMALL_LINEAR,
            axis("linear.weight", 1, 512, 768, 1024, called="width of what CLIP gives"),
        ),
        has("layers.0.bias", "mlp.0.bias", "linear.bias", called="a small network over CLIP"),
        lambda weights: Answer(len(weights) <= 16, f"it has {len(weights):,} tensors"),
        why="this program does not score pictures",
    ),
    _unused(
        "a decoder of previews (VAE-approx)",
        axis("conv1.weight", 1, 4, 16, called="latent channels"),
        has("conv8.weight", called="eight convolutions"),
        lambda weights: Answer(len(weights) <= 20, f"it has {len(weights):,} tensors"),
        why="this program makes its previews without it",
    ),
    _unused(
        "a safety checker",
        has("concept_embeds", called="the concepts of a safety checker"),
        has("special_care_embeds", called="the concepts of a safety checker"),
        why="this program has no safety checker",
    ),
    _unused(
        "the discriminator of a training",
        has("conv1.weight_orig", "main.0.weight", "discriminator.*", called="the layers of a discriminator"),
        has("conv9.weight", "main.11.weight", "discriminator.main.*", "main.8.weight", called="its last layer"),
        why="a discriminator is needed only to train an upscaler. Drop the generator (net_g)",
    ),
    _unused(
        "the state of a training",
        either(
            has("optimizer_states.*", "optimizer.*", "exp_avg*", "state.*.exp_avg", called="the state of an optimizer"),
            has("loss_scaler.*", "grad_scaler.*", "lr_scheduler.*", called="the state of a training"),
            scalar("lr_schedulers", "optimizer_states", "param_groups"),
        ),
        lambda weights: Answer(len(weights) == 0 or _mostly_training(weights), "it holds the weights of a model"),
        why=_TRAINING,
    ),
)


def _mostly_training(weights: Weights) -> bool:
    of_training = sum(
        name.startswith(("optimizer", "exp_avg", "state.", "loss_scaler", "lr_")) for name in weights.names
    )
    return of_training * 2 > len(weights)


_DEPTH: tuple[Family, ...] = (
    _other(
        "a Depth Anything model",
        has(
            "pretrained.blocks.0.attn.qkv.weight", "pretrained.blocks.0.0.attn.qkv.weight", called="its DINOv2 encoder"
        ),
        has("depth_head.scratch.layer1_rn.weight", "depth_head.*", called="its depth head"),
    ),
    _other(
        "a MiDaS depth model",
        has("pretrained.*", called="its encoder"),
        has("scratch.layer1_rn.weight", "scratch.refinenet1.*", called="its depth head"),
        lacks("depth_head.*", "core.*", called="the head of another depth model"),
    ),
    _other(
        "a ZoeDepth model", has("conditional_log_binomial.*", called="its bins"), has("core.*", called="MiDaS in it")
    ),
    _other(
        "a DPT depth model",
        has("neck.fusion_stage.layers.0.*", "neck.fusion_stage.*", called="its fusion of layers"),
        has("dpt.*", "backbone.*", called="its encoder"),
    ),
    Family(
        "other",
        "any",
        "a LeReS depth model",
        (has("encoder_modules.*", called="its encoder"), has("decoder_modules.*", called="its decoder")),
        under=("depth_model.", "module.depth_model.", "depth_model.module.", "module.", ""),
        unusable=_PREPARES,
    ),
    _other(
        "a NormalBae model",
        has("encoder.original_model.conv_stem.weight", called="its EfficientNet"),
        has("decoder.conv2.*", called="its decoder"),
    ),
)

_LINES: tuple[Family, ...] = (
    _other(
        "a HED edge detector",
        has("block1.projection.weight", "moduleVggOne.0.weight", "netVggOne.0.weight", called="its first block"),
        has("block5.projection.weight", "moduleVggFiv.*", "netVggFiv.*", called="its last block"),
    ),
    _other(
        "a PiDiNet edge detector",
        has("init_block.weight", "init_block.conv.weight", called="its first layer"),
        has("block1_1.conv1.weight", called="its blocks"),
    ),
    _other(
        "a TEED edge detector", has("block_1.conv1.weight", called="its blocks"), has("up_block_1.*", called="heads")
    ),
    _other(
        "an M-LSD line detector",
        has("backbone.features.0.0.weight", called="its MobileNet"),
        has("block15.conv1.0.weight", "block15.*", called="its decoder"),
    ),
    _other(
        "a line-art model",
        has("model0.1.weight", called="its first layer"),
        has("model2.0.conv_block.1.weight", called="its blocks"),
        has("model4.1.weight", called="its last layer"),
    ),
    _other(
        "an anime line-art model",
        has("model.model.0.weight", "netG.model.model.0.weight", called="its first layer"),
        has("model.model.1.model.*", "netG.model.model.1.model.*", called="its nested blocks"),
    ),
)

_POSES: tuple[Family, ...] = (
    _other(
        "an OpenPose model",
        has("conv1_1.weight", "model0.conv1_1.weight", called="its first layer"),
        has(
            "Mconv1_stage2_L1.weight",
            "Mconv1_stage2.weight",
            "model2_1.Mconv1_stage2_L1.weight",
            "model2.Mconv1_stage2.weight",
            "conv6_1_CPM.weight",
            called="its stages",
        ),
    ),
    _other(
        "a RetinaFace detector",
        has("ClassHead.0.conv1x1.weight", called="its heads"),
        has("LandmarkHead.0.conv1x1.weight", called="its heads"),
    ),
    _unused(
        "a face parser (ParseNet or BiSeNet)",
        has("out_mask_conv.conv2d.weight", "cp.resnet.conv1.weight", called="the layers of a face parser"),
        why="it is a part of face restorers, which this program brings itself",
    ),
    _unused(
        "a face recogniser (ArcFace)",
        has("output_layer.*", "bn2.weight", "features.weight", called="its output"),
        has("layer1.0.prelu.weight", "body.0.res_layer.0.weight", called="its blocks"),
        why="this program does not recognise faces",
    ),
)

_SEGMENTS: tuple[Family, ...] = (
    _other(
        "a Segment Anything model",
        has("mask_decoder.iou_token.weight", "sam_mask_decoder.iou_token.weight", called="its mask decoder"),
        has("image_encoder.*", "vision_encoder.*", called="its encoder"),
        under=("model.", "module.", ""),
    ),
    Family(
        "other",
        "any",
        "a CLIPSeg model",
        marks=(has("decoder.film_mul.weight", "film_mul.weight", called="its modulated decoder"),),
        under=("module.", ""),
        unusable=_NEEDS_ITS_FOLDER,
    ),
    _other(
        "a GroundingDINO detector",
        has("bert.*", "model.text_backbone.*", called="its text encoder"),
        has("transformer.encoder.text_layers.*", "model.encoder.layers.0.text_enhancer_layer.*", called="its layers"),
    ),
    _other(
        "a U²-Net or IS-Net cut-out model",
        has("stage1.rebnconvin.conv_s1.weight", called="its first stage"),
    ),
    _other(
        "a BiRefNet cut-out model",
        has("bb.layers.0.blocks.0.attn.qkv.weight", "bb.layers.0.*", called="its Swin encoder"),
        has("decoder.decoder_block4.*", "squeeze_module.*", called="its decoder"),
    ),
    _other(
        "a OneFormer or UniFormer segmentation model",
        has("decode_head.conv_seg.weight", "sem_seg_head.*", "model.pixel_level_module.*", called="its head"),
        has("backbone.*", "model.pixel_level_module.encoder.*", called="its encoder"),
    ),
    _unused(
        "a YOLO detector",
        has("model.0.conv.weight", called="its first layer"),
        has(
            "model.22.cv2.0.0.conv.weight",
            "model.22.dfl.conv.weight",
            "model.23.cv2.*",
            "model.24.*",
            called="its head",
        ),
        why="this program does not detect things in pictures",
    ),
)

_DESCRIBES: tuple[Family, ...] = (
    _unused(
        "a BLIP model that describes pictures",
        has(
            "visual_encoder.blocks.0.attn.qkv.weight",
            "vision_model.encoder.layers.0.self_attn.qkv.weight",
            called="ViT",
        ),
        has("text_decoder.*", "text_encoder.encoder.*", "qformer.*", called="its text layers"),
        why="this program does not describe pictures",
    ),
    _unused(
        "a Florence-2 model that describes pictures",
        has("vision_tower.blocks.0.*", "vision_tower.convs.0.*", called="its DaViT"),
        has("language_model.model.decoder.*", "language_model.model.encoder.*", called="its text layers"),
        why="this program does not describe pictures",
    ),
    _unused(
        "a tagger of pictures",
        has("head.fc.weight", "head.weight", "attn_pool.*", called="a head over classes"),
        either(
            has("blocks.0.attn.qkv.weight", called="a vision transformer"),
            has("layers.0.blocks.0.attn.qkv.weight", called="a Swin transformer"),
            has("stages.0.blocks.0.conv_dw.weight", called="a ConvNeXt"),
        ),
        has("patch_embed.proj.weight", "stem.0.weight", called="its patches"),
        most_of_it,
        why="this program does not describe pictures",
    ),
)

FAMILIES: tuple[Family, ...] = (*_VIDEOS, *_LEARNED, *_DEPTH, *_LINES, *_POSES, *_SEGMENTS, *_DESCRIBES)
