"""Whether Markdown and pages hold nothing that acts, whatever the checkout says."""

import re

import html5lib
from markdown_it import MarkdownIt

from migrator.review import markdown

from hostile import escapes_nothing

ALLOWED = {
    "details",
    "/details",
    "summary",
    "/summary",
    "b",
    "/b",
    "code",
    "/code",
    "br",
}


def parsed(text: str) -> list:
    """The tokens of Markdown as GitHub reads it, nested ones too."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    return [t for token in tokens for t in (token, *(token.children or []))]


def assert_inert_markdown(text: str) -> None:
    tokens = parsed(text)
    for token in tokens:
        if token.type in ("html_block", "html_inline"):
            tags = set(re.findall(r"<(/?[A-Za-z!?][^\s>/]*)", token.content))
            assert tags <= ALLOWED, token.content
            assert not re.search(r"<\w+\s+\w", token.content), token.content
        if token.type == "image":
            assert re.fullmatch(r"plots/[\w.+-]+\.png", token.attrs["src"])
        assert token.type != "link_open", token
        if token.type in ("text", "html_block", "html_inline"):
            assert not re.search(r"(?<!&)[@#]\w", token.content), token.content
            assert (
                "https://evil" not in token.content.replace("&#58;", ":")
                or "&#58;" in text
            )
    assert len(text) < markdown.LIMIT and escapes_nothing(text)
    opened = [t.content for t in tokens if t.type == "html_block"]
    assert sum(c.count("<details>") for c in opened) == sum(
        c.count("</details>") for c in opened
    )


ELEMENTS = set(
    "html head meta title link style body a header p h1 h2 h3 dl dt dd div main section b span form fieldset legend "
    "label input small select option button output details summary table thead tbody tr th td colgroup col article "
    "code ins del wbr ul ol li pre figure img footer dialog kbd script".split()
)
ATTRIBUTES = set(
    "lang charset http-equiv content name rel href class id aria-label tabindex hidden type value title aria-pressed "
    "disabled role aria-live scope data-folders data-rules data-n data-s src alt aria-labelledby".split()
)


def elements(page: str) -> list:
    parser = html5lib.HTMLParser(strict=False, namespaceHTMLElements=False)
    tree = parser.parse(page)
    problems = list(parser.errors)
    assert not problems, problems[:3]
    return list(tree.iter())


def assert_inert_page(page: str) -> list:
    found = elements(page)
    for element in found:
        if not isinstance(element.tag, str):
            continue  # a comment
        assert element.tag in ELEMENTS, element.tag
        assert set(element.attrib) <= ATTRIBUTES, element.attrib
        assert re.fullmatch(r"|#[\w-]+|data:,", element.get("href", "")), element.attrib
        assert re.fullmatch(
            r"|data:image/(svg\+xml|png);base64,[\w+/=]+", element.get("src", "")
        )
    tags = [element.tag for element in found]
    assert (
        tags.count("script") == tags.count("style") == tags.count("form") == 1
        or "form" not in tags
    )
    ids = [element.get("id") for element in found if element.get("id")]
    assert len(ids) == len(set(ids))
    return found
