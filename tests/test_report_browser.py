"""The pages in headless Chromium: nothing is complained of or asked for, tables sort, nothing sticks out."""

from __future__ import annotations

import pytest
from browser import Browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("chromium")) as one:
        yield one


def column(browser, table, place):
    script = f"Array.from(document.getElementById('{table}').tBodies[0].rows).map(r => r.cells[{place}].firstChild.textContent)"
    return browser.run(script)


def header(browser, table, place):
    return f"document.getElementById('{table}').tHead.rows[0].cells[{place}]"


def numbers(texts):
    return [float(text.replace("−", "-").replace(",", "").removesuffix(" %")) for text in texts if text != "–"]


def test_it_opens_at_once_without_errors_or_requests(browser, report_page):
    seconds = browser.open(report_page)
    assert browser.complaints() == []
    assert browser.requests() == [report_page.resolve().as_uri()]
    assert browser.run("Array.from(document.images).every(i => i.complete && i.naturalWidth === i.width || i.naturalWidth > 0)")
    assert seconds < 5, "0.3 s on an idle core"


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_the_window(browser, report_page, tmp_path, width):
    browser.resize(width)
    browser.open(report_page)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.picture(tmp_path / "page.png", "section.verdict").stat().st_size > 5_000
    browser.resize(1280)


def test_a_click_on_a_header_sorts_up_then_down(browser, report_page):
    browser.open(report_page)
    table = browser.run("document.querySelector('#outside table').id")
    before = column(browser, table, 1)
    browser.run(f"{header(browser, table, 1)}.querySelector('button').click()")
    rising = numbers(column(browser, table, 1))
    assert rising == sorted(numbers(before)) and len(rising) == len(before) == 6
    assert browser.run(f"{header(browser, table, 1)}.getAttribute('aria-sort')") == "ascending"
    browser.run(f"{header(browser, table, 1)}.querySelector('button').click()")
    assert numbers(column(browser, table, 1)) == rising[::-1]
    assert browser.run(f"{header(browser, table, 1)}.getAttribute('aria-sort')") == "descending"
    assert browser.run(f"{header(browser, table, 0)}.getAttribute('aria-sort')") == "none"
    assert browser.complaints() == []


def test_dashes_go_last_whichever_way(browser, report_page):
    browser.open(report_page)
    table = browser.run("document.querySelectorAll('#trust table')[1].id")
    for _ in range(2):
        browser.run(f"{header(browser, table, 1)}.querySelector('button').click()")
        texts = column(browser, table, 1)
        assert texts[-2:] == ["–", "–"] and "–" not in texts[:-2]


def test_words_sort_as_words(browser, report_page):
    browser.open(report_page)
    table = browser.run("document.querySelector('#runs table').id")
    browser.run(f"{header(browser, table, 0)}.querySelector('button').click()")
    names = column(browser, table, 0)
    assert names == sorted(names) and len(names) == 4


def test_an_address_can_name_the_order_and_opens_a_folded_table(browser, report_page):
    browser.open(report_page)
    table = browser.run("document.querySelector('#extremes details table').id")
    assert browser.run(f"document.getElementById('{table}').closest('details').open") is False
    browser.open(report_page, f"#sort={table}:1:desc")
    assert browser.run(f"document.getElementById('{table}').closest('details').open") is True
    assert numbers(column(browser, table, 1)) == sorted(numbers(column(browser, table, 1)), reverse=True)
    browser.open(report_page, "#sort=no-such-table:1")
    assert browser.complaints() == []


def test_dark_and_print_styles_apply(browser, report_page):
    browser.resize(1280, dark=True)
    browser.open(report_page)
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(18, 24, 31)"
    browser.resize(1280)
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    browser.call("Emulation.setEmulatedMedia", media="")
