"""What a job says about its noise, and what the daemon notes about the models that it was planned with."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from invokeai_daemon.job.schema.words import Fraction, Seed, Table, Weighted
from invokeai_daemon.strict_toml import Mistake


class Variation(Table):
    """Noises of other seeds that are mixed into the picture's own."""

    synonyms: ClassVar[dict[str, str]] = {
        "variation_amount": "amount",
        "strength": "amount",
        "variations": "with",
        "with_variations": "with",
    }

    amount: Fraction = Field(0.0, description="how much of another seed is mixed into each image, 0 to 1")
    seed: Seed | None = Field(None, description="that other seed, for further images seed + 1, …; drawn if not given")
    listed: list[Weighted] = Field(
        default_factory=list, alias="with", max_length=1000, description="seeds and weights, mixed in one after another"
    )

    @model_validator(mode="after")
    def _seed_has_an_amount(self) -> Variation:
        if self.seed is not None and not self.amount:
            raise Mistake("seed stands without an amount.", "Add amount, or list it: with = [[seed, weight]].")
        return self


class RecordedModel(Table):
    """The model that a resolved job was planned with."""

    name: str
    path: str
    base: str
    type: str = "main"
    hash: str = ""
    variant: str | None = None
    prediction_type: str | None = None
    format: str = "diffusers"
    dialect: str | None = None
    asked: str = ""


class RecordedInput(Table):
    """A picture that a resolved job was planned with."""

    #: The path that the job gives.
    asked: str
    #: Its copy, relative to the folder of the results.
    file: str
    #: "sha256:…" of its bytes.
    hash: str


class Resolved(Table):
    """What the daemon notes in the job.toml beside the images. A job may carry it; it asks nothing."""

    job: str
    file_name: str
    model: RecordedModel
    #: The other models that were planned with: adapters, VAEs, …
    references: list[RecordedModel] = Field(default_factory=list)
    #: The pictures that were planned with.
    inputs: list[RecordedInput] = Field(default_factory=list)
    #: What was not as the user may have expected.
    warnings: list[str] = Field(default_factory=list)
