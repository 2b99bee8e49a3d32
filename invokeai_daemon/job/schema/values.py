"""The keys of a job that have defaults: of the job's model, or of the settings."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from invokeai_daemon.job.schema.words import Fraction, Guidance, Name, SchedulerName, Seed, Size, Steps, Table, Text


class Values(Table):
    """The keys of a job that have defaults: in a job, a model's default settings, or `[defaults]` of the settings."""

    #: What other programs call these keys.
    synonyms: ClassVar[dict[str, str]] = {
        "negative": "negative_prompt",
        "cfg": "cfg_scale",
        "guidance_scale": "cfg_scale",
        "sampler": "scheduler",
        "sampler_name": "scheduler",
        "count": "iterations",
        "images": "iterations",
        "n": "iterations",
        "n_iter": "iterations",
        "batch_size": "iterations",
        "num_inference_steps": "steps",
        "checkpoint": "model",
        "w": "width",
        "h": "height",
        "guidance_rescale": "cfg_rescale_multiplier",
        "cfg_rescale": "cfg_rescale_multiplier",
        "seamless": "seamless_x",
        "tiling": "seamless_x",
        "variation_amount": "variation",
        "with_variations": "variation",
    }

    model: Name | None = Field(None, description="a name in models.yaml, a unique prefix of one, or a content hash")
    negative_prompt: Text | None = Field(None, description="what the picture should not show")
    prompt_syntax: Literal["invokeai", "a1111", "plain"] | None = Field(
        None, description="how the prompts are read: invokeai unless given; plain for words and nothing else"
    )
    log_tokenization: bool | None = Field(None, description="result.json says how the prompts were split into tokens")
    width: Size | None = Field(None, description="pixels, a multiple of 8")
    height: Size | None = Field(None, description="pixels, a multiple of 8")
    steps: Steps | None = Field(None, description="denoising steps")
    cfg_scale: Guidance | None = Field(None, description="how closely to follow the prompt; 1 for freely")
    scheduler: SchedulerName | None = Field(None, description="InvokeAI's name, or a 2.3 sampler name")
    seed: Seed | None = Field(None, description="0 to 4294967295; drawn when the job starts if it is not given")
    iterations: int | None = Field(None, ge=1, le=1_000_000, description="images, with the seeds seed, seed+1, …")
    priority: int | None = Field(None, ge=-1000, le=1000, description="higher runs first; 0 when it is not given")
    vae: Name | None = Field(None, description="a VAE in models.yaml instead of the model's own")
    guidance: float | None = Field(
        None, ge=0, le=100, description="of FLUX models that were distilled for it; cfg_scale is then 1"
    )
    perlin: Fraction | None = Field(None, description="share of Perlin noise in the noise, 0 to 1")
    threshold: float | None = Field(None, ge=0, description="latents beyond it are drawn anew; 0 for none")
    h_symmetry_time_pct: Fraction | None = Field(
        None, description="where in the run the left half is mirrored to the right, 0 to 1; 0 for nowhere"
    )
    v_symmetry_time_pct: Fraction | None = Field(
        None, description="where in the run the upper half is mirrored downwards, 0 to 1; 0 for nowhere"
    )
    seamless_x: bool | None = Field(None, description="left and right edges meet, as of a tile")
    seamless_y: bool | None = Field(None, description="upper and lower edges meet, as of a tile")
    cfg_rescale_multiplier: Fraction | None = Field(
        None, description="how far guidance is brought back to the prompt's own contrast, 0 to 1"
    )
    clip_skip: int | None = Field(None, ge=0, le=23, description="last layers of the text encoder that are left out")
    denoising_start: Fraction | None = Field(None, description="where the run begins, 0 to 1")
    denoising_end: Fraction | None = Field(None, description="where the run ends, 0 to 1")
    save_intermediates: int | None = Field(
        None, ge=0, le=1000, description="a picture of every so many steps, beside the result; 0 for none"
    )
