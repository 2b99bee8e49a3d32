"""submit and check: InvokeAI's options become a job file; what cannot run is refused with every reason."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from invokeai_daemon.cli.asking import Asked, asked
from invokeai_daemon.cli.submit import _ids, drop, drop_folder, name_of
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root
from tests.conftest import Program


def test_invokeais_options_become_the_keys_of_a_job(program: Program, root: Root) -> None:
    done = program(
        "submit", "waterfall and rainbow", "-W640", "-H", "480", "-s30", "-S42", "-C6.5", "-A", "k_euler_a", "-n4",
        "-m", "demo", "--negative", "people",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    job = tomllib.loads((root.inbox / "waterfall-and-rainbow.toml").read_text())
    assert job == {
        "prompt": "waterfall and rainbow",
        "negative_prompt": "people",
        "model": "demo",
        "width": 640,
        "height": 480,
        "steps": 30,
        "seed": 42,
        "cfg_scale": 6.5,
        "scheduler": "k_euler_a",
        "iterations": 4,
    }


def test_options_of_pictures_and_models_become_tables() -> None:
    here = Path(__file__)
    found = asked(
        "a cat",
        {
            "init_img": here, "strength": 0.6, "fit": False, "init_mask": here, "invert_mask": True,
            "outpaint": "left=128, top=25%", "loras": ("ink:0.8", "oil"), "controlnets": (f"canny:{here}:0.5",),
            "vae": "kl", "refiner": "xl-refiner:0.7", "with_variations": "42:0.3", "variation_amount": 0.1,
            "seamless": True, "seamless_axes": "y", "perlin": 0.2, "threshold": None,
        },
    )  # fmt: skip
    assert found.pictures == {"test_submit.py": here}
    assert found.job == {
        "prompt": "a cat",
        "init": {"image": "test_submit.py", "strength": 0.6, "fit": False},
        "mask": {"image": "test_submit.py", "invert": True},
        "outpaint": {"left": 128, "top": "25%"},
        "loras": [{"name": "ink", "weight": 0.8}, {"name": "oil"}],
        "controlnets": [{"name": "canny", "image": "test_submit.py", "weight": 0.5}],
        "vae": "kl",
        "refiner": {"model": "xl-refiner", "start": 0.7},
        "variation": {"amount": 0.1, "with": [[42, 0.3]]},
        "seamless_y": True,
        "perlin": 0.2,
    }
    assert asked("a cat", {"hires_fix": True, "strength": 0.5}).job["hires"] == {"strength": 0.5}


def test_pictures_of_one_name_lie_beside_the_job_under_two(tmp_path: Path) -> None:
    found = Asked({})
    for folder in ("a", "b", "a"):
        found.beside(tmp_path / folder / "photo.png")
    assert found.pictures == {"photo.png": tmp_path / "a/photo.png", "photo-2.png": tmp_path / "b/photo.png"}


def test_a_job_and_its_pictures_arrive_together_in_a_folder_of_its_name(root: Root, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"a picture")
    (root.outputs / "cat").mkdir()
    made = drop_folder(root, "cat", b'prompt = ""', {"photo.png": tmp_path / "photo.png"})
    assert made == root.inbox / "cat-2" / "cat-2.toml"
    assert sorted(path.name for path in made.parent.iterdir()) == ["cat-2.toml", "photo.png"]
    assert [path for path in root.inbox.iterdir() if path.name.startswith(".")] == []


def test_the_jobs_of_a_list_are_followed_by_the_numbers_that_they_get() -> None:
    assert _ids(Path("inbox/list.txt"), 2) == ["list-0001", "list-0002"]
    assert _ids(Path("inbox/one.txt"), 1) == ["one"]


def test_a_strength_of_nothing_and_a_picture_that_is_not_there_are_refused(program: Program) -> None:
    assert "name it with -I" in program("submit", "a cat", "-f", "0.5").stderr
    assert "'gone.png' does not exist" in program("submit", "a cat", "-I", "gone.png").stderr


def test_a_prompt_may_be_several_words_without_quotes(program: Program, root: Root) -> None:
    assert program("submit", "waterfall", "and", "rainbow", "-s5").returncode == 0
    assert tomllib.loads((root.inbox / "waterfall-and-rainbow.toml").read_text())["prompt"] == "waterfall and rainbow"


def test_what_is_not_asked_is_not_written(program: Program, root: Root) -> None:
    program("submit", 'a "quoted" ü\\n')
    assert tomllib.loads(next(root.inbox.glob("*.toml")).read_text()) == {"prompt": 'a "quoted" ü\\n'}


def test_it_tells_when_no_daemon_will_take_the_job(program: Program) -> None:
    assert "The daemon is not running" in program("submit", "a cat").stderr


def test_an_impossible_job_is_refused_with_all_its_problems_and_nothing_is_written(
    program: Program, root: Root
) -> None:
    refused = program("submit", "a cat", "-W", "65", "-A", "k_eular", "-s", "0")
    assert refused.returncode == 1
    for hint in ("65 is not a multiple of 8. Use 64 or 72.", 'Did you mean "k_euler"?', "steps"):
        assert hint in refused.stderr
    assert [path for path in root.inbox.iterdir() if path.is_file()] == []


def test_files_are_copied_into_the_inbox(program: Program, root: Root, tmp_path: Path) -> None:
    job = tmp_path / "cat.toml"
    job.write_text('prompt = "a cat" # mine\n')
    (tmp_path / "many.txt").write_text("a dog -S1\na fish -S2\n")
    assert program("submit", job, "many.txt").returncode == 0
    assert (root.inbox / "cat.toml").read_text() == 'prompt = "a cat" # mine\n'
    assert (root.inbox / "many.txt").read_text() == "a dog -S1\na fish -S2\n"
    assert job.exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "Say what to draw"),
        (["nowhere.toml"], 1, "nowhere.toml cannot be read: No such file"),
        (["good.toml", "-s", "5"], 2, "steps goes with a prompt"),
        (["good.toml", "a cat"], 2, "'a cat' is no file"),
        (["bad.toml"], 1, "line 1: promt"),
        (["bad.txt"], 1, "line 2"),
        (["bad.png"], 1, "no sound PNG"),
    ],
)
def test_what_makes_no_sense_is_refused(
    program: Program, root: Root, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    (tmp_path / "good.toml").write_text('prompt = "a cat"')
    (tmp_path / "bad.toml").write_text('promt = "a cat"')
    (tmp_path / "bad.txt").write_text("a cat\na dog -W65x\n")
    (tmp_path / "bad.png").write_bytes(b"GIF89a")
    refused = program("submit", *words)
    assert refused.returncode == code
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert [path for path in root.inbox.iterdir() if path.is_file()] == []


def test_a_name_that_a_job_has_or_had_is_numbered(root: Root) -> None:
    (root.outputs / "cat").mkdir()
    (root.state_folder("done") / "cat-2.toml").write_text("")
    (root.state_folder("queued") / "1000-00000001-cat-3.toml").write_text("")
    assert drop(root, "cat", ".toml", b"").name == "cat-4.toml"
    assert drop(root, "cat", ".txt", b"").name == "cat-5.txt"


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A red circle, on BLUE!", "a-red-circle-on-blue"),
        ("…", "job"),
        ("word " * 30, "word-word-word-word-word-word-word-word"),
    ],
)
def test_a_job_is_named_after_its_prompt(prompt: str, name: str) -> None:
    assert name_of(prompt) == name


def test_check_says_what_would_run_and_runs_nothing(program: Program, root: Root, tmp_path: Path) -> None:
    Registry(root).add(Entry("demo", str(root.models), type="main", base="sd-1", default_settings={"steps": 12}))
    (tmp_path / "cat.toml").write_text('model = "dem"\nprompt = "a cat"\nseed = 5\niterations = 3\nwidth = 256\n')
    told = program("check", "cat.toml")
    assert told.returncode == 0, told.stderr
    assert "cat.toml is valid. It would make 3 images of 256 × 512 with demo: 12 steps of euler" in told.stdout
    assert "Seeds 5 … 7" in told.stdout
    assert list(root.outputs.iterdir()) == []
    assert [path for path in root.inbox.iterdir() if path.is_file()] == []


def test_check_says_what_a_job_would_wait_for(program: Program, tmp_path: Path) -> None:
    (tmp_path / "cat.toml").write_text('model = "foo"\nprompt = "a cat"\n')
    told = program("check", "cat.toml")
    assert told.returncode == 0
    assert 'It would wait: No model is called "foo".' in told.stdout


def test_check_names_every_problem_with_its_line(program: Program, tmp_path: Path) -> None:
    (tmp_path / "cat.toml").write_text('prompt = "a cat"\nstep = 30\nwidth = "wide"\n')
    told = program("check", "cat.toml")
    assert told.returncode == 1
    assert "cat.toml: line 2: step" in told.stderr
    assert '"steps"' in told.stderr
    assert "cat.toml: line 3: width" in told.stderr


def test_check_knows_every_prompt_of_a_list(program: Program, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("a dog -S1 # model_id=foo\n\na fish -S2 # model_id=foo\n")
    told = program("check", "two.txt")
    assert told.returncode == 0
    assert told.stdout.count("is valid") == 2
