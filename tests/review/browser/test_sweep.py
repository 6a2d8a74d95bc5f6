"""The page of ``sweep`` in headless Chromium: it says how many refs stand how, sorts, filters, and runs nothing."""

import pytest

from migrator.review.output import write
from migrator.sweep.page import as_html
from migrator.sweep.row import Planned, Row, State

pytestmark = pytest.mark.browser

EVIL = (
    "<script>window.pwned=1</script>\"'><img src=https://evil.example onerror=pwned=2>"
)
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


def row(
    ref: str, state: State, files: int = 0, home: str = "forks/a.git", **said: object
) -> Row:
    paths = tuple(f"m/{n}.py" for n in range(files))
    planned = Planned(state, "0.2.2", "1d", paths, **said)
    return Row(home, f"refs/heads/{ref}", "c" * 40, 1_780_000_000, "e" * 40, planned)


LEFT = "m/plan.py:{}: this call of x.{} is left for a person"
ROWS = [
    row("main", "ready", 11, findings={"TM101": 3}, hazards={"loud": 2}),
    row("b-2", "ready", 2, findings={"TM101": 1}),
    row("b-10", "ready", 10),
    row("old", "done", reasons=("Nothing to do.",), codes=("",)),
    row(
        "x",
        "person",
        reasons=(LEFT.format(3, "f"), LEFT.format(4, "g")),
        codes=("TM102",) * 2,
    ),
    row(
        "y",
        "person",
        reasons=(LEFT.format(5, "h"),),
        codes=("TM102",),
        home="forks/b.git",
    ),
    row(EVIL, "failed", reasons=(EVIL,), codes=("",), home=EVIL),
    row("gh-pages", "other", reasons=("no Python",), codes=("",)),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("html") / "sweep.html"
    write(as_html(ROWS, ["This is part 1 of 2."]), path)
    return path.as_uri()


@pytest.fixture
def opened(browser, address):
    """Opens the page; afterwards nothing was said, asked of the network, or run."""
    contexts, trouble = [], []

    def open_(viewport=WIDE, **options):
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()

        def asked(route):
            if route.request.url.split("#")[0] != address:
                trouble.append(route.request.url)
            route.continue_()

        page.route("**/*", asked)
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.goto(address)
        return page

    yield open_
    for context in contexts:
        for page in context.pages:
            if page.evaluate("window.pwned") is not None:
                trouble.append("pwned")
        context.close()
    assert trouble == []


def refs(page) -> list[str]:
    cells = page.locator(".row:visible td:nth-child(2)")
    return cells.all_text_contents()


def test_it_says_how_many_refs_stand_how_and_why(opened):
    page = opened()
    cards = page.locator(".card").all_text_contents()
    assert cards == [
        *(
            "1done",
            "3can be migrated now",
            "2needs a person",
            "1no torchtitan",
            "1failed",
        )
    ]
    first, second = page.locator(".reason").all()
    assert first.locator("td").first.text_content() == "2"
    assert (
        "TM102" in first.text_content() and LEFT.format(3, "f") in first.text_content()
    )
    assert EVIL in second.text_content()
    assert "This is part 1 of 2." in page.locator(".lead").text_content()


def test_states_repositories_and_words_filter(opened):
    page = opened()
    assert len(refs(page)) == len(ROWS)
    page.get_by_label("needs a person").check()
    assert refs(page) == ["x", "y"]
    assert page.locator("#shown").text_content() == f"2 of {len(ROWS)} refs"
    page.get_by_label("Repository").select_option(label="forks/b.git")
    assert refs(page) == ["y"]
    page.get_by_label("Text").fill("none such")
    assert refs(page) == [] and page.locator("#none").is_visible()
    page.get_by_role("button", name="Show all").click()
    assert len(refs(page)) == len(ROWS)
    page.get_by_label("Text").fill("TM101 B-2")
    assert refs(page) == ["b-2"]


def test_a_card_shows_its_refs(opened):
    page = opened()
    page.locator(".card", has_text="can be migrated now").click()
    assert refs(page) == ["main", "b-2", "b-10"]


def test_columns_sort_both_ways_numbers_as_numbers_and_nothing_last(opened):
    page = opened()
    page.get_by_role("button", name="Files").click()
    assert refs(page)[:3] == ["b-2", "b-10", "main"]
    assert (
        page.locator("th", has_text="Files").get_attribute("aria-sort") == "ascending"
    )
    page.get_by_role("button", name="Files").click()
    assert refs(page)[:3] == ["main", "b-10", "b-2"]
    page.get_by_role("button", name="Ref", exact=True).click()
    assert refs(page).index("b-2") < refs(page).index("b-10") < refs(page).index("main")


@pytest.mark.parametrize("viewport", [WIDE, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(opened, viewport, scheme):
    page = opened(viewport, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_without_scripts_all_of_it_is_there(opened):
    page = opened(java_script_enabled=False)
    assert page.locator(".row").count() == len(ROWS)
    assert not page.locator(".bar").is_visible()
