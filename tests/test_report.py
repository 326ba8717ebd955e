"""The report of a run: one file that links to nothing, whose figures are those of the results, in which no text of a user is markup."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flaxft import figures, report
from flaxft.errors import USER_ERROR
from flaxft.main import main
from flaxft.tasks.base import Matrix, Passage, Passages, Reliability, Scatter, Span, Table
from flaxft.train.loop import run
from tests import tiny

EVIL = "<script>document.title='x'</script>"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    """A run of 24 steps on sentences that hold markup, a control character, and a type with characters that the font of the pictures lacks."""
    folder = tmp_path_factory.mktemp("report")
    cfg = tiny.config(folder, **{"num_steps": 24, "log.report": True, "log.baseline": True, "log.tensorboard": False})
    for split in ("train", "validation", "test"):
        file = folder / f"{split}.conll"
        text = file.read_text().replace("PER", "人<b>$x_$").replace("rome\t", f"{EVIL}\t").replace("\nred\t", "\nr\x02ed\t")
        assert EVIL in text and "\x02" in text
        file.write_text(text)
    cfg.evals["validation"].every = 8
    run(cfg, folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def page(workdir) -> str:
    return (workdir / "report/index.html").read_text(encoding="utf-8")


def test_it_is_one_file_that_links_to_nothing(workdir, page):
    images = re.findall(r'(?:src|srcset)="([^"]*)"', page)
    assert len(images) >= 20 and all(one.startswith("data:image/png;base64,") for one in images)
    assert all(one.startswith("#") for one in re.findall(r'href="([^"]*)"', page))
    assert "url(" not in page and "@import" not in page and "<link" not in page and "<script" not in page
    names = {file.name for file in (workdir / "report").glob("*.png")}
    assert {f"{name}{dark}.png" for name in ("loss", "learning_rate", "lengths", "padding", "test-1", "test-2") for dark in ("", "-dark")} <= names
    embedded = {base64.b64decode(one.partition(",")[2]) for one in images}
    assert embedded == {(workdir / "report" / name).read_bytes() for name in names}, "the pictures beside the page are those in it"
    assert len(page) < 3_000_000


def test_text_of_users_is_no_markup(page):
    assert EVIL not in page and "<script" not in page
    assert "&lt;script&gt;document.title=&#39;x&#39;&lt;/script&gt;" in page
    assert "人&lt;b&gt;$x_$" in page and "人<b>" not in page
    assert "\x02" not in page and "r\ufffded" in page


def test_it_is_valid_html(page):
    html5lib = pytest.importorskip("html5lib", reason="html5lib is not installed: pip install flaxft[test]")
    parser = html5lib.HTMLParser(strict=True)  # raises for what a browser would mend
    document = parser.parse(page)
    assert document.find(".//{http://www.w3.org/1999/xhtml}h1").text == "run"
    assert document.findall(".//{http://www.w3.org/1999/xhtml}script") == []


def test_its_figures_are_those_of_the_results(workdir, page):
    results = json.loads((workdir / "results.json").read_text())
    for scores in results["evals"].values():
        for name in ("entity_f1", "accuracy", "loss", "ORG/precision", "LOC/f1"):
            assert f">{scores[name]:.4f}<" in page
        assert f"{scores['entity_f1/low']:.4f} to {scores['entity_f1/high']:.4f}" in page
    assert f"{results['padding_fraction']:.1%}" in page
    assert f"{results['useful_tokens_per_second']:,.0f}" in page
    content = json.loads((workdir / "report/content.json").read_text())
    assert content["versions"]["jax"] in page and content["machine"]["devices"] in page
    assert f"(20 of {results['evals']['test']['num_entities']})" not in page  # sentences are counted, not entities
    assert "(20 of 20)" in page


def test_it_says_what_it_is_and_how_good(workdir, page):
    """The head, then the verdict, then the main score beside its baselines."""
    results, content = (json.loads((workdir / name).read_text()) for name in ("results.json", "report/content.json"))
    head = page[page.index("<header>") : page.index("</header>")]
    for text in (content["model"], content["sources"]["train"], content["date"], "24 steps in ", "<dt>seed</dt><dd dir=\"auto\">0</dd>", "<dt>flaxft</dt>"):
        assert text in head, text
    places = [page.index(part) for part in ("</header>", 'id="verdict"', 'id="scores"', 'id="curves"')]
    assert places == sorted(places)
    verdict = page[places[1] : places[2]]
    assert results["verdict"], "24 steps of a random encoder are not enough, or its rate is odd"
    for one in results["verdict"]:
        assert html.escape(one["line"], quote=False).replace("'", "&#39;") in verdict and one["flag"] in verdict
    best = results["baselines"]["test"]["most frequent tag of each word"]["entity_f1"]
    assert f"<b>{best:.4f}</b> most frequent tag of each word" in page[places[2] : places[3]]


def test_it_is_content_with_a_good_run(workdir, tmp_path):
    """And the page of a run that older code left is made all the same."""
    shutil.copytree(workdir, tmp_path / "run")
    results = json.loads((workdir / "results.json").read_text())
    (tmp_path / "run/results.json").write_text(json.dumps(results | {"verdict": []}))
    assert '<p class="plain">Nothing to mend: test entity_f1' in report.write(tmp_path / "run").read_text()
    old = {name: value for name, value in results.items() if name not in ("verdict", "baselines")}
    (tmp_path / "run/results.json").write_text(json.dumps(old))
    assert 'id="verdict"' not in report.write(tmp_path / "run").read_text()


@pytest.mark.parametrize(("seconds", "shown"), [(0.5, "0.5 s"), (63.2, "63 s"), (754, "12 min 34 s"), (11100, "3 h 05 min")])
def test_shown_seconds(seconds, shown):
    assert report.shown_seconds(seconds) == shown


def test_it_can_be_made_again(workdir, page, capsys):
    before = {file.name: file.read_bytes() for file in (workdir / "report").glob("*.png")}
    (workdir / "report/index.html").unlink()
    assert main(["--mode=report", f"--workdir={workdir}"]) == 0
    assert capsys.readouterr().out == f"{workdir / 'report/index.html'}\n"
    assert (workdir / "report/index.html").read_text(encoding="utf-8") == page
    assert {file.name: file.read_bytes() for file in (workdir / "report").glob("*.png")} == before


def test_what_is_no_finished_run_is_one_line(workdir, tmp_path, capsys):
    assert main(["--mode=report", f"--workdir={tmp_path}"]) == USER_ERROR
    shutil.copytree(workdir, tmp_path / "run")
    (tmp_path / "run/results.json").write_text('{"evals"')
    assert main(["--mode=report", f"--workdir={tmp_path / 'run'}"]) == USER_ERROR
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and "a report is of a finished run" in errors[0] and "results.json: cannot be read" in errors[1]


def test_without_training_or_evaluations(tmp_path):
    """A run of no steps has no curves, and one without a validation split has no metrics by step."""
    run(tiny.config(tmp_path, **{"num_steps": 0, "log.report": True, "task.test": ""}), tmp_path / "none")
    run(tiny.config(tmp_path, **{"num_steps": 2, "log.report": True, "task.validation": "", "task.test": ""}), tmp_path / "train")
    pages = [(tmp_path / name / "report/index.html").read_text() for name in ("none", "train")]
    assert [page.count('id="curves"') for page in pages] == [0, 1]
    assert ["label by label" in page for page in pages] == [True, False]


def test_nothing_of_it_is_imported_on_the_way_to_the_first_step():
    code = "import sys, flaxft.train.loop; print(sorted({'matplotlib', 'jinja2', 'PIL', 'tensorboard', 'wandb', 'mlflow', 'trackio'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ---- in a browser ---------------------------------------------------------------------------------------------------------------------------------


def test_in_a_browser(workdir, tmp_path):
    """Phone, tablet and desk, on light and on dark: nothing is loaded, nothing fails, nothing sticks out, every picture is there."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install flaxft[browser]")
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    if binary is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    seen = set()
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        for appearance in ("light", "dark"):
            context = browser.new_context(color_scheme=appearance, viewport={"width": 390, "height": 844})
            window = context.new_page()
            messages: list[str] = []
            window.on("console", lambda message, messages=messages: messages.append(message.text))
            window.on("pageerror", lambda error, messages=messages: messages.append(str(error)))
            window.on("request", lambda request, messages=messages: None if request.url.startswith(("data:", "file:")) else messages.append(request.url))
            window.goto((workdir / "report/index.html").as_uri())
            for width in (390, 768, 1440):
                window.set_viewport_size({"width": width, "height": 900})
                out = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && e.getBoundingClientRect().right > innerWidth + 1).length"
                assert window.evaluate("document.documentElement.scrollWidth") <= width
                assert window.evaluate(out) == 0
                window.screenshot(path=tmp_path / f"{appearance}-{width}.png")
                assert (tmp_path / f"{appearance}-{width}.png").stat().st_size > 20_000
            loaded = window.evaluate("Promise.all([...document.images].map(i => i.decode().then(() => [i.naturalWidth, i.currentSrc.length])))")
            assert len(loaded) >= 10 and all(width > 400 for width, _ in loaded)
            seen.add(window.evaluate("document.images[0].currentSrc"))
            assert window.title() == "run: flaxft report"
            assert messages == []
            context.close()
        browser.close()
    assert len(seen) == 2, "a dark page has dark pictures"


# ---- parts ----------------------------------------------------------------------------------------------------------------------------------------


def test_spans_may_overlap():
    shown = report._passage(Passage("", "New York City sleeps", (Span(0, 8, "LOC", "wrong"), Span(0, 13, "LOC", "gold"), Span(14, 20, "X", "right"))))
    assert [(one["text"], one["roles"], one["labels"]) for one in shown["pieces"]] == [
        ("New York", ["gold", "wrong"], [("LOC", "wrong")]),
        (" City", ["gold"], [("LOC", "gold")]),
        (" ", [], []),
        ("sleeps", ["right"], [("X", "right")]),
    ]
    assert not shown["before"] and not shown["behind"]


def test_a_long_text_is_shown_around_its_first_error():
    text = "a" * 5000 + "wrong" + "b" * 5000
    shown = report._passage(Passage("", text, (Span(0, 3, "T", "right"), Span(5000, 5005, "T", "wrong"))))
    assert "".join(one["text"] for one in shown["pieces"]) == text[4600:5800]
    assert shown["before"] and shown["behind"]
    assert [one["labels"] for one in shown["pieces"]] == [[], [("T", "wrong")], []]


def test_every_block_is_drawn(tmp_path):
    """Of 80 labels, of none that is right, of one number: what is small or empty must not fail either."""
    labels = tuple(f"label {i} of many" for i in range(80))
    blocks = [
        Table("t", ("a", "b"), ()),
        Matrix("m", labels, tuple(tuple(int(i == j) for j in range(80)) for i in range(80))),
        Matrix("one", ("是",), ((0,),)),
        Reliability("r", {"score": (), "confidence": ((3.0, 0.5, 1.0),)}),
        Reliability("none", {}),
        Scatter("s", (1.0,), (1.0,)),
        Passages("p", (), 0),
    ]
    shown = report._blocks(tmp_path, "x", blocks)
    assert [one["kind"] for one in shown] == ["table", "matrix", "matrix", "picture", "picture", "picture", "passages"]
    assert [one.get("picture") is None for one in shown] == [True, False, False, False, True, False, True]
    assert len(list(tmp_path.glob("*.png"))) == 8
    assert shown[1]["rows"] == [] and shown[2]["rows"] == []


def test_gaps_and_names_in_curves(tmp_path):
    """A skipped step's loss is null; a metric's name may hold what matplotlib reads as a formula, or has no glyph for."""
    points = [(step, None if step % 7 == 0 else 1 / step) for step in range(1, 300)]
    figure = figures.curves("c", "$\\frac{", {"train": points, "$x_{": [(1, 0.5)], "标签": [(1, None)]}, smoothed="train")
    figures.save(figure, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_moving_mean():
    found = figures._moving_mean(np.asarray([1.0, 3.0, np.nan, 5.0, np.nan, np.nan]), 2)
    np.testing.assert_array_equal(found, [1.0, 2.0, 3.0, 5.0, 5.0, np.nan])


@pytest.mark.parametrize(("value", "shown"), [(3, "3"), (12345, "12,345"), (0.5, "0.5000"), (1.0, "1.0000"), (0.00001, "1.00e-05"), ("x", "x")])
def test_shown_number(value, shown):
    assert report.shown_number(value) == shown
