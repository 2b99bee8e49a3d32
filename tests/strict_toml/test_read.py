"""TOML in: what people write wrong is explained on its line, what attackers write is refused at once."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invokeai_daemon.errors import JobError
from invokeai_daemon.strict_toml import read_toml


def refusal(text: str | bytes) -> str:
    raw = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(JobError) as caught:
        read_toml(raw, "cat.toml", JobError)
    assert len(caught.value.problems) == 1
    return str(caught.value)


def test_a_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    document = read_toml(b'\xef\xbb\xbfprompt = "a"\r\nsteps = 3\r\n', "cat.toml", JobError)
    assert document.data == {"prompt": "a", "steps": 3}
    assert document.line("steps") == 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings_are_named(encoding: str) -> None:
    assert "UTF-16" in refusal('prompt = "a"'.encode(encoding))


def test_a_byte_that_is_not_utf8_is_shown_with_its_line() -> None:
    assert "line 2: The byte 0xe9 is not UTF-8." in refusal('steps = 1\nprompt = "café"'.encode("latin-1"))


@pytest.mark.parametrize(
    ("text", "line", "advice"),
    [
        ("prompt = a red circle", 1, "Text needs quotes"),
        ("prompt = 'it's a circle'", 1, "goes in double quotes"),
        ("steps = 3\nprompt = “x”", 2, "straight quotes"),
        ('prompt = "C:\\pictures\\x"', 1, "double each backslash"),
        ('prompt = "C:\\users"', 1, "double each backslash"),
        ("fit = True", 1, "Write true or false"),
        ("seed = None", 1, "remove its line"),
        ("seed =", 1, "remove its line"),
        ("steps: 30", 1, "Write key = value"),
        ("just words", 1, "Write key = value"),
        ("cfg_scale = 7,5", 1, "7.5"),
        ("seed = 007", 1, "leading zeros"),
        ('prompt = "abc', 1, "closing quote"),
    ],
)
def test_a_slip_of_the_pen_gets_its_line_and_advice(text: str, line: int, advice: str) -> None:
    message = refusal(text)
    assert message.startswith(f"cat.toml: line {line}: This is not TOML: ")
    assert advice in message


@pytest.mark.parametrize(
    ("text", "line", "key", "first"),
    [
        ("a = 1\n\na = 2", 3, "a", 1),
        ("[t]\nb = 1\n[t]\nc = 2", 3, "t", 1),
        ('[[l]]\nname = "a"\n[[l]]\nname = "b"\nname = "c"', 5, "l[1].name", 4),
    ],
)
def test_a_key_set_twice_names_both_lines(text: str, line: int, key: str, first: int) -> None:
    assert refusal(text) == f"cat.toml: line {line}: {key}: set twice, on line {first} and here. Remove one of them."


HOSTILE = {
    "one key of many parts": "a" + ".a" * 32_000 + " = 1",
    "many keys of many parts": "\n".join(f"k{n}" + ".a" * 15 + " = 1" for n in range(1_700)),
    "many keys of few parts": "\n".join(f"k{n}.a.a.a = 1" for n in range(4_500)),
    "many headers": "\n".join(f"[k{n}.a.a.a.a.a.a]" for n in range(3_000)),
    "a header of many parts": "[a" + ".a" * 32_000 + "]",
    "parts with blanks between": "a" + " . a" * 16_000 + " = 1",
    "quoted parts": '"a"' + '."a"' * 16_000 + " = 1",
    "nested arrays": "a = " + "[" * 60_000,
    "closed nested arrays": "a = " + "[" * 30_000 + "]" * 30_000,
    "nested tables": "a = " + "{a = " * 13_000,
    "a number of many digits": "a = " + "1" * 60_000,
    "quotes without end": '"""\n' * 16_000,
    "escapes without end": 'a = "' + "\\" * 60_001,
    "single quotes without end": "'''\n" * 16_000,
    "a bad byte at the end": "a = 1\n" * 10_000 + "=",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_of_64_kb_is_refused_in_no_time(text: str) -> None:
    raw = text[: 64 * 1024].encode()
    start = time.thread_time()
    refusal(raw)
    # About 10 ms of this thread; tomllib alone takes seconds over the first ones.
    assert time.thread_time() - start < 0.1


@pytest.mark.parametrize(
    "text", ["a = [" + '"x.y.z", ' * 400 + "]", 'a = "' + "[[." * 500 + '"', "# " + "[.{" * 500 + "\na = 1"]
)
def test_dots_and_brackets_in_text_and_comments_are_no_nesting(text: str) -> None:
    assert "a" in read_toml(text.encode(), "cat.toml", JobError).data


def test_ordinary_nesting_passes() -> None:
    text = "a = " + "[" * 16 + "]" * 16 + "\n[b.c.d.e.f.g.h]\ni = 1\n"
    assert read_toml(text.encode(), "cat.toml", JobError).data["b"]["c"]["d"]["e"]["f"]["g"]["h"] == {"i": 1}


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    _read_or_refuse(raw)


@given(st.text("ab.=[]{}\"'\\#\n, 1_-:x", max_size=80))
@settings(deadline=None, max_examples=400)
def test_any_text_of_toml_signs_is_read_or_refused(text: str) -> None:
    _read_or_refuse(text.encode())


def _read_or_refuse(raw: bytes) -> None:
    try:
        document = read_toml(raw, "cat.toml", JobError)
    except JobError as error:
        assert str(error).startswith("cat.toml: ")
    else:
        assert all(line >= 1 for line in document.lines.values())
