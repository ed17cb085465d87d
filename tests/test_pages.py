"""The pages in a real browser: they load, sort, filter, switch to dark, and the console stays empty."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from artificial import dialogues
from runs import items_file, made_up, noisy, write_run
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from test_leaderboard import scores

from eicap_tasks import leaderboard, report, results
from eicap_tasks.audit import audit
from eicap_tasks.audit import report as audit_report

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER) and not os.environ.get("EICAP_NEED_BROWSER"),
    reason="chromium and chromedriver are not installed (EICAP_NEED_BROWSER=1 makes this an error)",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    assert CHROMIUM, "chromium is not installed"
    assert DRIVER, "chromedriver is not installed"
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-quic", "no-first-run",
                 "disable-background-networking", "disable-component-update", "disable-sync", "window-size=1200,900",
                 f"user-data-dir={tmp_path_factory.mktemp('profile')}"):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def show(browser: webdriver.Chrome, page: str, folder: Path) -> None:
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    browser.get(file.as_uri())


def console(browser: webdriver.Chrome) -> list[Any]:
    return list(browser.get_log("browser"))  # type: ignore[no-untyped-call]


def column(browser: webdriver.Chrome, number: int, table: int = 0) -> list[str]:
    rows = browser.find_elements(By.CSS_SELECTOR, "table")[table].find_elements(By.CSS_SELECTOR, "tbody tr")
    return [row.find_elements(By.CSS_SELECTOR, "td, th")[number].text for row in rows if row.is_displayed()]


def background(browser: webdriver.Chrome) -> str:
    return str(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))


def switches_to_dark(browser: webdriver.Chrome) -> None:
    before = background(browser)
    browser.find_element(By.ID, "theme").click()
    assert {before, background(browser)} == {"rgb(255, 255, 255)", "rgb(18, 23, 30)"}


def sorts(browser: webdriver.Chrome, name: str) -> None:
    """Click the heading of a column of numbers in the first table twice: it is sorted down, then up."""
    heads = browser.find_elements(By.CSS_SELECTOR, "table:first-of-type th button")
    number = [head.text for head in heads].index(name)
    script = """return [...document.querySelector("table").tBodies[0].rows].map(
        (row) => [Number(row.children[arguments[0]].dataset.value), row.textContent])"""
    before = browser.execute_script(script, number)
    assert len({value for value, _ in before}) > 1
    for reverse in (True, False):
        heads[number].click()
        after = browser.execute_script(script, number)
        assert [value for value, _ in after] == sorted((value for value, _ in before), reverse=reverse)
        assert sorted(after) == sorted(before)  # rows stay whole


def test_the_leaderboard(browser: webdriver.Chrome, tmp_path: Path) -> None:
    names = ["org/beta", "org/alpha", "نموذج-عربي", "<script>alert(1)</script>", "a-very-long-name/" + "x" * 150]
    runs = [made_up(name, scores(0.3 + 0.1 * i, i)) for i, name in enumerate(names)]
    found = leaderboard.standings([leaderboard.entry(run) for run in runs])
    show(browser, leaderboard.as_page(found), tmp_path)
    assert column(browser, 1) == [row.name for row in found]
    heads = browser.find_elements(By.CSS_SELECTOR, "th button")
    assert [head.text for head in heads][:3] == ["rank", "model", "overall"]
    heads[2].click()
    assert [float(text) for text in column(browser, 2)] == sorted((float(t) for t in column(browser, 2)), reverse=True)
    heads[2].send_keys(Keys.ENTER)  # by keyboard, the other way round
    assert [float(text) for text in column(browser, 2)] == sorted(float(text) for text in column(browser, 2))
    assert heads[2].find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"
    search = browser.find_element(By.CSS_SELECTOR, "input[data-filter=text]")
    search.send_keys("ORG/")
    assert sorted(column(browser, 1)) == ["org/alpha", "org/beta"]
    assert browser.find_element(By.ID, "shown").text == "2"
    search.clear()
    search.send_keys("عربي")
    assert column(browser, 1) == ["نموذج-عربي"]
    switches_to_dark(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert console(browser) == []


def test_the_report(browser: webdriver.Chrome, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "out", noisy(4, 1.0), data=items_file(tmp_path, dialogues(6)))
    run = results.one(folder, documents=True)
    show(browser, report.as_page(run, report.sections(run)), tmp_path)
    assert len(browser.find_elements(By.CSS_SELECTOR, "figure svg")) == 3
    sorts(browser, "accuracy")
    Select(browser.find_element(By.CSS_SELECTOR, "select[data-filter=lang]")).select_by_value("ar")
    Select(browser.find_element(By.CSS_SELECTOR, "select[data-filter=layer]")).select_by_visible_text("cause")
    shown = [entry for entry in browser.find_elements(By.CSS_SELECTOR, "details") if entry.is_displayed()]
    assert len(shown) == 6
    shown[0].find_element(By.CSS_SELECTOR, "summary").click()
    body = shown[0].find_element(By.CSS_SELECTOR, "div[lang]")
    assert (body.get_attribute("dir"), body.get_attribute("lang")) == ("rtl", "ar")
    assert browser.execute_script("return getComputedStyle(arguments[0]).textAlign", body) == "right"
    assert "✓" in body.text
    Select(browser.find_element(By.CSS_SELECTOR, "select[data-filter=right]")).select_by_visible_text("wrong")
    wrong = [entry for entry in browser.find_elements(By.CSS_SELECTOR, "details") if entry.is_displayed()]
    expected = run.probes.query("lang == 'ar' and layer == 'cause' and acc == 0")
    assert len(wrong) == len(expected)
    switches_to_dark(browser)
    assert console(browser) == []


def test_the_audit(browser: webdriver.Chrome, tmp_path: Path) -> None:
    checks = audit(dialogues(8))
    show(browser, audit_report.page(checks, "items", "8 dialogues"), tmp_path)
    sorts(browser, "found")
    Select(browser.find_element(By.CSS_SELECTOR, "select[data-filter=result]")).select_by_visible_text("failed")
    assert len(column(browser, 0)) == sum(check.passed is False for check in checks)
    switches_to_dark(browser)
    assert console(browser) == []
