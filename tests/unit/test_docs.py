"""The library's reference: every name is explained, and every link leads somewhere, offline."""

import re
import runpy
from html.parser import HTMLParser
from inspect import isclass
from pathlib import Path
from pkgutil import resolve_name
from urllib.parse import unquote, urljoin, urlsplit

import pytest

MAKE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "workflow/reference/make.py"))
# What pdoc writes. A formula such as <t, p> would become a tag that no browser shows.
TAGS = (
    "html head meta title link style script body nav main section footer div span p a img svg path "
    "blockquote h1 h2 h3 h5 h6 ul ol li dl dt dd pre code em strong label input wbr br"
)


class Page(HTMLParser):
    """The tags, anchors, links and code of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: set[str] = set()
        self.anchors: set[str] = set()
        self.links: set[str] = set()  # that a reader follows
        self.loaded: set[str] = set()  # by the browser
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        named = {name: value or "" for name, value in attrs}
        self.anchors |= {named["id"]} if "id" in named else set()
        if "href" in named:
            (self.links if tag == "a" else self.loaded).add(named["href"])
        self.loaded |= {named["src"]} if "src" in named else set()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, tuple[str, Page]]:
    """The text and the content of every page by its address."""
    folder = tmp_path_factory.mktemp("docs")
    MAKE["make"](folder)
    texts = {path.as_uri(): path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}
    return {address: (text, Page(text)) for address, text in texts.items()}


def test_every_link_leads_somewhere(pages):
    addresses = [*pages]
    assert len(addresses) > len(MAKE["MODULES"])
    for address, (_, page) in pages.items():
        for link in page.links - {"https://pdoc.dev"}:
            target, _, anchor = urljoin(address, link).partition("#")
            assert target in pages, (address, link)
            assert not anchor or unquote(anchor) in pages[target][1].anchors, (address, link)


def test_a_page_loads_nothing_from_elsewhere(pages):
    for address, (text, page) in pages.items():
        styles = re.findall(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)", text)
        loaded = page.loaded | {one or other for one, other in styles}
        assert {urlsplit(each).scheme for each in loaded} <= {"", "data"}, address
        assert page.tags <= {*TAGS.split()}, address


def test_every_module_that_a_page_names_is_there(pages):
    for text, _ in pages.values():
        for name in re.findall(r"<code>(?:<a [^>]*>)?(imcl(?:\.\w+)+)(?:</a>)?</code>", text):
            resolve_name(name)


def test_every_public_name_has_words_of_its_own(pages):
    from pdoc import doc, extract  # ready once the pages are made

    for name in extract.walk_specs(MAKE["MODULES"][1:]):
        module = doc.Module.from_name(name)
        assert module.docstring, name
        for member in module.flattened_own_members:
            methods = member.own_members if isinstance(member, doc.Class) else []
            for each in [member, *methods]:
                if each.name.startswith("_") or each.kind not in ("class", "function"):
                    continue
                assert vars(each.obj).get("__doc__") if isclass(each.obj) else each.docstring, each
