"""Settings: every key has a default, later sources win, and mistakes are told all at once with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from invokeai_daemon.errors import SettingsError
from invokeai_daemon.settings import Settings, load_settings


def load(tmp_path: Path, text: str, environ: dict[str, str] | None = None, **flags: dict[str, object]) -> Settings:
    path = tmp_path / "daemon.toml"
    path.write_text(text)
    return load_settings(path, environ or {}, flags)


def test_no_file_and_an_empty_file_are_all_defaults(tmp_path: Path) -> None:
    assert load_settings(tmp_path / "absent.toml", {}) == load(tmp_path, "") == Settings()


def test_a_file_sets_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    settings = load(tmp_path, '[render]\ndevice = "cuda:1"\n[import]\nafter_import = "delete"\n')
    assert (settings.render.device, settings.render.max_lanes) == ("cuda:1", 16)
    assert settings.import_.after_import == "delete"


def test_the_environment_wins_over_the_file_and_flags_over_both(tmp_path: Path) -> None:
    text = "[render]\nmax_lanes = 1\nthreads = 1\ncache_gb = 1.0\n"
    environ = {"INVOKEAI_DAEMON_RENDER_MAX_LANES": "2", "INVOKEAI_DAEMON_RENDER_THREADS": "2", "HOME": "/root"}
    settings = load(tmp_path, text, environ, render={"threads": 3})
    assert (settings.render.cache_gb, settings.render.max_lanes, settings.render.threads) == (1.0, 2, 3)


def test_text_in_the_environment_needs_no_quotes(tmp_path: Path) -> None:
    assert load(tmp_path, "", {"INVOKEAI_DAEMON_RENDER_DEVICE": "cpu"}).render.device == "cpu"


def test_the_variable_that_names_the_root_is_no_setting(tmp_path: Path) -> None:
    assert load(tmp_path, "", {"INVOKEAI_DAEMON_ROOT": "/srv/pictures"}) == Settings()


def test_every_mistake_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = '[render]\ndevice = "gpu"\nprecison = "auto"\nmax_lanes = "4"\n[redner]\n[import]\nafter_import = "delet"\n'
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    assert [str(problem) for problem in caught.value.problems] == [
        'line 2: render.device: "gpu" is not valid. Use auto, cpu, cuda, cuda:N or mps.',
        'line 3: render.precison: There is no such key. Did you mean "precision"?',
        'line 4: render.max_lanes: "4" is not a whole number. Write it without quotes and without a point.',
        'line 5: redner: There is no such key. Did you mean "render"?',
        'line 7: import.after_import: "delet" is not known. Did you mean "delete"? Use "keep", "delete".',
    ]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("INVOKEAI_DAEMON_RENDER", "INVOKEAI_DAEMON_RENDER names no setting"),
        ("INVOKEAI_DAEMON_RENDER_LANES", "render.lanes: There is no such key."),
        ("INVOKEAI_DAEMON_REDNER_LANES", 'redner: There is no such key. Did you mean "render"?'),
    ],
)
def test_a_variable_that_sets_nothing_is_told(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, "", {name: "4"})
    assert told in str(caught.value)


def test_a_file_that_is_not_toml_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"daemon\.toml: line 2: This is not TOML: .* Text needs quotes"):
        load(tmp_path, "[render]\ndevice = cpu\n")


def test_defaults_hold_any_key_until_the_job_rules_check_them(tmp_path: Path) -> None:
    assert load(tmp_path, '[defaults]\nsteps = 20\nmodel = "demo"\n').defaults == {"steps": 20, "model": "demo"}


def test_a_value_in_the_place_of_a_table_is_told_even_when_the_environment_sets_a_key_of_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="render"):
        load(tmp_path, "render = 3\n", {"INVOKEAI_DAEMON_RENDER_MAX_LANES": "4"})
