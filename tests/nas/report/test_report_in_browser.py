"""report.html as a browser shows it: the slider moves cells and weights, nothing is loaded, nothing overflows."""

import re
import shutil

import pytest

from nas.commands.report import make_report
from report_runs import search_run, table_runs, training_run

pytestmark = pytest.mark.slow

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install -e '.[test]')")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Pages of a finished search, a running one, a training, a Table 9, and of several runs."""
    folder = tmp_path_factory.mktemp("reports")
    folders = {
        "search": search_run(folder / "search", epochs=4).path,
        "running": search_run(folder / "running", finished=False).path,
        "training": training_run(folder / "training").path,
        "table9": table_runs(folder / "table9"),
    }
    pages = {name: path / "report.html" for name, path in folders.items()}
    pages["several"] = folder / "a folder named so that it would not fit a phone.html"
    for path in folders.values():
        assert make_report([str(path)]) == 0
    both = [str(folders["search"]), str(folders["training"])]
    assert make_report([*both, "--out", str(pages["several"])]) == 0
    return pages


@pytest.fixture
def opened(browser, reports):
    """Opens a report; at the end of the test, no page has asked for anything else, or complained."""
    contexts, seen = [], []

    def opened(name, width=1280, scheme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme))
        page = contexts[-1].new_page()
        url = reports[name].as_uri()
        page.on("request", lambda request: seen.append(request.url) if request.url.split("#")[0] != url else None)
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert seen == []


def shown(page, kind):
    """(the visible picture, its words, the weights, the places of those that the cell keeps) of a kind of cell."""
    section = page.locator(f"[data-kind={kind}]")
    pictures = section.locator("[data-picture]:visible")
    assert pictures.count() == 1
    cells = section.locator("[data-weight]")
    kept = cells.evaluate_all("cells => cells.flatMap((cell, i) => cell.classList.contains('kept') ? [i] : [])")
    words = pictures.locator("svg").get_attribute("aria-label")
    return pictures.get_attribute("data-picture"), words, cells.all_text_contents(), kept


def test_the_slider_changes_the_cells_the_weights_and_the_numbers(opened):
    page = opened("search")
    slider = page.get_by_label("Epoch", exact=True)
    seen = {}
    for epoch in (4, 3, 2):
        _, words, _, kept = seen[epoch] = shown(page, "normal")
        operator = {2: "skip_connect", 3: "dil_conv_3x3", 4: "skip_connect"}[epoch]
        assert operator in words and len(kept) == 4
        assert page.locator("[data-epoch]").text_content() == str(epoch)
        assert f"{61.5 - epoch:.1f} %" in page.locator(".readouts").text_content()
        slider.press("ArrowLeft")
    assert seen[4][0] == seen[2][0] != seen[3][0] and seen[3][3] != seen[2][3]
    assert seen[2][2][5:10] == ["57.6"] * 5 and seen[3][2][5:10] == ["21.2"] * 5
    assert shown(page, "reduce")[2] == shown(page, "normal")[2]
    assert page.get_by_label("Epoch", exact=True).get_attribute("aria-valuetext") == "epoch 1 of 4"


def test_the_colour_of_a_weight_follows_the_slider(opened):
    page = opened("search")
    colour = "cell => getComputedStyle(cell).backgroundColor"
    weight = page.locator("[data-kind=normal] [data-weight]").nth(5)  # of skip_connect, the strongest at epoch 2
    before = weight.evaluate(colour)
    page.get_by_label("Epoch", exact=True).fill("1")
    assert weight.evaluate(colour) != before


def test_a_watched_page_stays_at_the_chosen_epoch_when_it_reloads_and_can_be_told_not_to(opened):
    page = opened("running")
    assert page.get_by_label("reload every 20 s").is_checked()
    page.get_by_label("Epoch", exact=True).fill("0")
    page.get_by_label("reload every 20 s").uncheck()
    page.reload()
    assert page.locator("[data-epoch]").text_content() == "1"
    assert not page.get_by_label("reload every 20 s").is_checked()
    assert opened("search").get_by_label(re.compile("reload")).count() == 0


@pytest.mark.parametrize("name", ["search", "training", "table9", "several"])
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_a_page_fits_a_phone_and_a_desk_in_light_and_dark(opened, name, width, scheme):
    page = opened(name, width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(element => { element.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg:visible").count() >= 4
    lightness = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    ink = page.evaluate("getComputedStyle(document.body).color.match(/\\d+/g).map(Number)")
    assert (sum(lightness) < sum(ink)) == (scheme == "dark")
    text = page.locator(".chart svg text").first
    assert text.evaluate("text => getComputedStyle(text).fill.match(/\\d+/g).map(Number)") == ink


def test_without_scripts_the_last_epoch_is_shown_as_with_them(browser, reports):
    looks = []
    for scripts in (True, False):
        context = browser.new_context(java_script_enabled=scripts)
        page = context.new_page()
        page.goto(reports["search"].as_uri())
        looks.append(page.screenshot(full_page=True))
        context.close()
    assert looks[0] == looks[1]
