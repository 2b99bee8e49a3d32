"""Prompts at planning: the LoRAs and embeddings that they name, the usual VAE, and what of it is recorded."""

from __future__ import annotations

import tomllib

import pytest

from invokeai_daemon.daemon.planning import Planner
from invokeai_daemon.job.parse import parse_job
from invokeai_daemon.job.plan import Plan
from invokeai_daemon.job.plan_job import from_resolved, to_toml
from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings
from tests.daemon.desk import Desk


@pytest.fixture
def desk(root: Root) -> Desk:
    desk = Desk(root)
    desk.register()
    desk.register("Ink Style", type="embedding", format="embedding_file", trigger_phrases=["<ink>"])
    desk.register("bad-hands-5", type="embedding", format="embedding_file")
    desk.register("large", type="embedding", format="embedding_file", base="sdxl")
    desk.register("scenery", type="lora", format="lycoris")
    desk.register("paper", type="lora", format="lycoris", default_settings={"weight": 0.6})
    desk.register("clear", type="vae")
    return desk


def planner(desk: Desk) -> Planner:
    return Planner(desk.root, Settings(), {}, desk.registry)


def planned(desk: Desk, text: str) -> Plan:
    return planner(desk).plan(parse_job(("seed = 1\n" + text).encode(), "job.toml"), "job")


def embeddings(plan: Plan) -> dict[str, str]:
    return {each.asked: each.name for each in plan.references if each.type == "embedding"}


def test_prompts_name_embeddings_with_and_without_brackets(desk: Desk) -> None:
    plan = planned(desk, 'prompt = "a cat by <Ink Style>, (<INK>)1.2"\nnegative_prompt = "(Bad-Hands-5)++"')
    assert embeddings(plan) == {"<Ink Style>": "Ink Style", "<INK>": "Ink Style", "Bad-Hands-5": "bad-hands-5"}
    assert plan.warnings == ()
    assert plan.reference("embedding", "<INK>").path.endswith("Ink Style")


def test_words_that_only_look_like_an_embedding_mean_nothing(desk: Desk) -> None:
    prompt = "bad-hands-5-8, inks, ink.5, <lora:ink:1> withLora(scenery) state-of-ink"
    desk.register("ink", type="lora", format="lycoris")
    assert embeddings(planned(desk, f'prompt = "{prompt}"')) == {}
    assert embeddings(planned(desk, 'prompt = "<ink>"\nprompt_syntax = "plain"')) == {}


def test_a_name_that_no_embedding_has_is_said_and_read_as_words(desk: Desk) -> None:
    plan = planned(desk, 'prompt = "<inkstyle> <large> <nothing>"\nnegative_prompt = "<Large>"')
    assert plan.warnings == (
        'prompt: "<inkstyle>" names no embedding; it was read as words. Did you mean "<Ink Style>"?',
        'prompt: "<large>" is an embedding for sdxl models, and this one is sd-1; it was read as words',
        'prompt: "<nothing>" names no embedding; it was read as words',
        'negative_prompt: "<Large>" is an embedding for sdxl models, and this one is sd-1; it was read as words',
    )
    assert from_resolved(to_toml(plan).encode(), "job.toml") == plan


def test_the_models_usual_negative_prompt_names_embeddings_too(desk: Desk) -> None:
    desk.register("other", default_settings={"negative_prompt": "bad-hands-5", "vae": "clear"})
    plan = planned(desk, 'prompt = "a cat"\nmodel = "other"')
    assert embeddings(plan) == {"bad-hands-5": "bad-hands-5"}
    assert (plan.images[0].vae, plan.reference("vae", "clear").base) == ("clear", "sd-1")
    assert planned(desk, 'prompt = "a cat"\nmodel = "other"\nnegative_prompt = ""').references[-1].type == "vae"


def test_loras_of_the_prompt_stand_beside_those_of_the_job_and_are_recorded_once(desk: Desk) -> None:
    prompt = 'prompt = "a cat withLora(scenery, 0.5) <lora:paper>"\n'
    plan = planned(desk, prompt)
    assert [(lora.name, lora.weight) for lora in plan.images[0].loras] == [("paper", 0.6), ("scenery", 0.5)]
    written = to_toml(plan)
    assert "withLora" in tomllib.loads(written)["prompt"]
    again = planner(desk).plan(parse_job(written.encode(), "job.toml"), "again")
    assert again.images == plan.images
    listed = planned(desk, prompt + '[[loras]]\nname = "scenery"\nweight = 0.9')
    assert [(lora.name, lora.weight) for lora in listed.images[0].loras] == [("scenery", 0.9), ("paper", 0.6)]


def test_a_usual_vae_that_is_not_here_keeps_no_job_from_being_rendered(desk: Desk) -> None:
    desk.register("other", vae="/gone/x.vae.pt")
    plan = planned(desk, 'prompt = "a cat"\nmodel = "other"')
    assert plan.images[0].vae is None
    assert plan.warnings[0].startswith('other was rendered with its own VAE: No VAE is called "/gone/x.vae.pt"')
    assert planned(desk, 'prompt = "a cat"\nmodel = "other"\nvae = "clear"').images[0].vae == "clear"
