"""The starter list is the users' own once it is written, and one mistake in it hides no other model."""

from __future__ import annotations

from invokeai_daemon.models.install.sources import HubModel, WebFile
from invokeai_daemon.models.install.starters import FILE, read_starters, recommended, shipped_text, write_starters
from invokeai_daemon.root import Root


def test_the_shipped_list_is_sound_and_has_the_models_of_invokeai_2_3(root: Root) -> None:
    starters, problems = read_starters(root)
    assert problems == ()
    assert len(starters) == 14
    assert [starter.name for starter in starters.values() if starter.default] == ["stable-diffusion-1.5"]
    assert {one.name for one in recommended(starters.values())} == {
        "stable-diffusion-1.5",
        "sd-inpainting-1.5",
        "stable-diffusion-2.1",
    }
    assert starters["deliberate-1.0"].sources == (HubModel("XpucT/Deliberate"),)
    assert all(one.description and one.size_gb and isinstance(one.sources[0], HubModel) for one in starters.values())


def test_a_list_that_is_there_is_left_alone(root: Root) -> None:
    write_starters(root)
    assert (root.configs / FILE).read_text() == shipped_text()
    (root.configs / FILE).write_text("mine:\n  repo_id: a/b\n")
    write_starters(root)
    assert list(read_starters(root)[0]) == ["mine"]


def test_all_that_a_stanza_can_say_is_read(root: Root) -> None:
    digest = "ab" * 32
    first = "a:\n  repo_id: me/a\n  revision: v2\n  subfolder: x/y\n"
    (root.configs / FILE).write_text(f"{first}b:\n  url: https://example.org/b.ckpt\n  hash: {digest}\n")
    starters, _ = read_starters(root)
    assert starters["a"].sources == (HubModel("me/a", "v2", path="x/y"),)
    assert starters["b"].sources == (WebFile("https://example.org/b.ckpt"),)
    assert str(starters["b"].checksum) == f"sha256:{digest}"


def test_a_bad_stanza_is_named_with_its_line_and_the_others_work(root: Root) -> None:
    text = "a:\n  repo_id: me/a\nb:\n  description: nothing\nc:\n  url: file:///etc/passwd\n"
    (root.configs / FILE).write_text(f"{text}d:\n  repo_id: me/d\n")
    starters, problems = read_starters(root)
    assert list(starters) == ["a", "d"]
    told = [str(problem) for problem in problems]
    assert any(one.startswith("line 3: b: a starter names a repo_id") for one in told)
    assert any("file:// is not fetched" in one for one in told)
