"""The files of the pages, without a browser: what they load, what they say, how readable their colours are."""

import re
from hashlib import sha256
from importlib import resources
from pathlib import Path

import pytest

PAGES = Path(str(resources.files("baihua.serve") / "pages"))
HTML = sorted(PAGES.glob("*.html"))
SCRIPTS = sorted(PAGES.glob("*.js"))
STYLES = sorted(PAGES.glob("*.css"))
# What is read in front of what; 4.5 is what WCAG 2.2 asks of text at level AA, 3 of the edges of fields.
PAIRS = [(ink, ground, 4.5) for ink in ("ink", "quiet") for ground in ("paper", "side", "raised", "soft")]
PAIRS += [("accent", "paper", 4.5), ("accent", "accent-soft", 4.5), ("ink", "accent-soft", 4.5)]
PAIRS += [("on-accent", "accent", 4.5), ("warm", "warm-soft", 4.5), ("warm", "paper", 4.5)]
PAIRS += [("field-line", "paper", 3.0), ("field-line", "raised", 3.0)]


def test_the_code_of_others_is_as_it_was_published() -> None:
    rows = re.findall(r"^\| (\S+\.js) \|.*\| ([0-9a-f]{64}) \|$", (PAGES / "vendor/VERSIONS.md").read_text(), re.M)
    assert {name for name, _ in rows} == {file.name for file in (PAGES / "vendor").glob("*.js")}
    for name, digest in rows:
        assert sha256((PAGES / "vendor" / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("file", HTML, ids=lambda file: file.name)
def test_a_page_loads_its_own_files_alone_and_holds_no_code(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for address in re.findall(r'(?:src|href)="([^"#]+)', text):
        assert (PAGES / address.removeprefix("/pages/")).is_file()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script>", text)


@pytest.mark.parametrize("file", [*SCRIPTS, *STYLES], ids=lambda file: file.name)
def test_a_script_or_style_knows_no_other_address(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert set(re.findall(r"\w+://[^\s\"'`]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)
    assert text.count("\n") <= 250


def test_every_word_is_there_in_both_languages_and_used() -> None:
    words = read_words()
    assert len(words) > 100
    # Words that are the same in both languages: a name that nobody translates.
    assert [name for name, (chinese, english) in words.items() if chinese == english] == ["top_p"]
    for chinese, english in words.values():
        assert set(re.findall(r"\{\w+\}", chinese)) == set(re.findall(r"\{\w+\}", english))
    used = read_all([file for file in [*HTML, *SCRIPTS] if not file.name.startswith("words")])
    made = ("scheme_", "error_", "note_", "vote_", "voted_")  # said with the end of the name put in
    assert [name for name in words if not name.startswith(made) and f'"{name}"' not in used] == []


def test_every_word_that_is_said_is_there() -> None:
    scripts, pages = read_all(SCRIPTS), read_all(HTML)
    said = set(re.findall(r"\bsay\(\"(\w+)\"", scripts))
    marked = set(re.findall(r'data-(?:say|label|hint)="(\w+)"', pages))
    drawings = set(re.findall(r"\bicon(?:Button)?\(\"(\w+)\"", scripts) + re.findall(r"icons\.svg#(\w+)", pages))
    assert said | marked <= set(read_words())
    assert drawings <= set(re.findall(r'<symbol id="(\w+)"', (PAGES / "icons.svg").read_text("utf-8")))


@pytest.mark.parametrize(("ink", "ground", "least"), PAIRS)
def test_colours_can_be_read_in_both_schemes(ink: str, ground: str, least: float) -> None:
    style = (PAGES / "style.css").read_text("utf-8")
    colours = {name: both for name, *both in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", style)}
    for front, back in zip(colours[ink], colours[ground], strict=True):
        light, dark = sorted((luminance(front), luminance(back)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= least


def read_all(files: list[Path]) -> str:
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def read_words() -> dict[str, tuple[str, str]]:
    """Every word of the pages, Chinese and English."""
    pair = re.compile(r'^  (\w+): \[\s*"((?:[^"\\]|\\.)*)",\s*"((?:[^"\\]|\\.)*)",?\s*\],$', re.M)
    return {
        name: (chinese, english) for name, chinese, english in pair.findall(read_all(sorted(PAGES.glob("words*.js"))))
    }


def luminance(colour: str) -> float:
    """WCAG's relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
