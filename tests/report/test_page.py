"""The page in a browser: it asks nothing of the outside, the map answers, tables sort, hostile names are only names."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import dynamo.report.content
from dynamo.report.content import gather
from dynamo.report.maps import MapRun
from dynamo.report.page import finite, marked, render
from dynamo.report.source import find
from dynamo.runs import RunFolder

Reported = Callable[..., str]
HOSTILE = (
    "</script><script>window.harm = 1</script>",
    "<img src=x onerror='window.harm = 1'>",
    '"><svg onload="window.harm = 1">',
    'O\'Brien & "Söhne" \u2028 {{ 7 * 7 }}',
    "https://example.org/x.js",
)


def css(browser: Any, selector: str) -> list[Any]:  # noqa: ANN401
    found: list[Any] = browser.find_elements("css selector", selector)
    return found


def text(browser: Any, selector: str) -> str:  # noqa: ANN401
    return str(browser.execute_script("return document.querySelector(arguments[0]).textContent", selector))


def complaints(browser: Any) -> list[Any]:  # noqa: ANN401
    """What the console said, and what was asked for besides the page itself."""
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    return [*browser.get_log("browser"), *asked]


def hover(browser: Any, element: Any) -> None:  # noqa: ANN401
    from selenium.webdriver import ActionChains

    ActionChains(browser).move_to_element(element).perform()


def courses(browser: Any) -> tuple[str, str]:  # noqa: ANN401
    """Whose trajectories are shown, and the path of the first."""
    script = "const g = document.querySelector('#courses'), line = g.querySelector('.emulator');"
    member, path = browser.execute_script(f"{script} return [g.dataset.member, line.getAttribute('d')]")
    return member, path


def test_the_map_answers(attractors: RunFolder, reported: Reported, browser: Any) -> None:  # noqa: ANN401
    reported(str(attractors.root))
    browser.get((attractors.root / "report.html").as_uri())
    assert complaints(browser) == []
    members = attractors.read_result("fidelity_test")["members"]
    points = css(browser, "#plane .point[data-member]")
    assert sorted(int(point.get_attribute("data-member")) for point in points) == list(range(len(members)))

    top = points[-1]  # the last that was drawn lies above all others
    row = members[int(top.get_attribute("data-member"))]
    assert not css(browser, "#tooltip")[0].is_displayed()
    hover(browser, top)
    said = css(browser, "#tooltip")[0].text
    assert said.splitlines()[0] == row["name"]
    assert f"group {row['name'].rpartition('-')[0]}" in said
    assert f"agreement {row['agreement']:.3f}" in said
    assert f"variance explained {row['variance_explained']:.3f}" in said

    top.click()
    chosen, path = courses(browser)
    assert (chosen, text(browser, "#panel h3")) == (top.get_attribute("data-member"), row["name"])
    other = str((int(chosen) + 2) % len(members))
    browser.execute_script(f"document.querySelector('a[data-member=\"{other}\"]').click()")  # from the table
    assert text(browser, "#panel h3") == members[int(other)]["name"]
    assert courses(browser)[0] == other
    assert courses(browser)[1] != path
    assert not css(browser, "#attractor")
    assert not css(browser, "#rest")[0].is_displayed()

    browser.execute_script("document.querySelector('a[data-member=\"1\"]').click()")
    assert len(css(browser, "#attractor circle")) == 3 + 2
    assert "75 % of the searches converged, dimension 1.25, length 3.5" in text(browser, "#rest")
    assert len(css(browser, "#plane .place")) == 1
    assert complaints(browser) == []


def test_keys_tables_and_seeds(run: RunFolder, reported: Reported, browser: Any) -> None:  # noqa: ANN401
    from selenium.webdriver.common.keys import Keys

    shutil.copytree(run.root, run.root.parent / "seed=1")
    reported(str(run.root.parent))
    browser.get((run.root.parent / "report.html").as_uri())
    members = [row["name"] for row in run.read_result("fidelity_test")["members"]]
    assert text(browser, "#panel h3") == members[0]
    browser.execute_script("document.querySelector('#plane .point.chosen').focus()")
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    focused = browser.switch_to.active_element
    name = members[int(focused.get_attribute("data-member"))]
    assert name != members[0]
    assert css(browser, "#tooltip")[0].text.splitlines()[0] == name
    focused.send_keys(Keys.ENTER)
    assert text(browser, "#panel h3") == name
    focused.send_keys(Keys.ESCAPE)
    assert not css(browser, "#tooltip")[0].is_displayed()

    headings = [cell.text.split(" ")[0] for cell in css(browser, "#networks thead th")]
    column = headings.index("seed")
    rows = "[...document.querySelectorAll('#networks tbody tr')]"
    read = f"return {rows}.map(row => Number(row.cells[{column}].textContent))"
    before = browser.execute_script(read)
    for way, order in (("ascending", sorted(before)), ("descending", sorted(before, reverse=True))):
        heading = css(browser, "#networks thead th")[column]
        heading.find_element("css selector", "button").click()
        assert heading.get_attribute("aria-sort") == way
        assert browser.execute_script(read) == order

    browser.execute_script(
        "const seed = document.querySelector('#seed'); seed.value = '1'; seed.dispatchEvent(new Event('change'))"
    )
    assert "seed 1" in text(browser, "#plane figcaption")
    assert text(browser, "#panel h3") == name
    assert complaints(browser) == []


def test_hostile_names_are_only_names(
    attractors: RunFolder,
    map_run: MapRun,
    browser: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members = tuple(
        replace(member, name=f"{HOSTILE[i % 5]}-{i}", group=HOSTILE[i % 3], task=HOSTILE[3])
        for i, member in enumerate(map_run.members)
    )
    content = {"options": {HOSTILE[0]: HOSTILE[2]}, HOSTILE[0]: 1.0, "texts": {"word": HOSTILE[1]}}
    attractors.write_result("similarity", content)
    hostile = replace(
        map_run,
        folder=attractors,
        members=members,
        analyses={"similarity": content},
        courses=HOSTILE[0],
        population={"a": HOSTILE[2]},
    )
    monkeypatch.setattr(dynamo.report.content, "load_all", lambda folders: [hostile])
    page = render(replace(gather(find(attractors.root)), title=HOSTILE[0], commands=list(HOSTILE)))
    (attractors.root / "page.html").write_text(page, encoding="utf-8")
    browser.get((attractors.root / "page.html").as_uri())
    assert complaints(browser) == []
    assert browser.execute_script("return window.harm") is None
    assert not css(browser, "img:not([src^='data:image/png'])")
    assert len(css(browser, "script")) == 2  # the data and our own
    assert text(browser, "h1") == HOSTILE[0]
    names = [row.text for row in css(browser, "#networks tbody th")]
    assert names[:3] == [member.name for member in members[:3]]
    assert "49" not in text(browser, "#members + * + *")
    points = css(browser, "#plane .point[data-member]")
    hover(browser, points[-1])
    assert css(browser, "#tooltip strong")[0].text == " ".join(
        members[int(points[-1].get_attribute("data-member"))].name.split()
    )
    points[-1].click()
    assert HOSTILE[0] in text(browser, "#no-courses")
    assert complaints(browser) == []


def test_nothing_in_the_page_points_outside(map_run: MapRun, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamo.report.content, "load_all", lambda folders: [map_run])
    page = render(gather(find(run.root)))
    addresses = re.findall(r"""(?:src|href|action|srcset)\s*=\s*["']?([^"'\s>]+)""", page)
    assert {address.partition(":")[0].partition("#")[0] for address in addresses} == {"data", ""}
    assert re.findall(r"https?://[^\s\"'<]+", page) == ["http://www.w3.org/2000/svg"]  # a name, never fetched
    assert "url(" not in page
    assert "@import" not in page
    assert json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)[0])["runs"]


def test_text_between_backticks_is_code() -> None:
    assert str(marked("a `<b>` c & d")) == "a <code>&lt;b&gt;</code> c &amp; d"
    assert str(marked("no code")) == "no code"


def test_what_json_does_not_know_is_null() -> None:
    assert finite({"a": [1.0, float("nan")], "b": float("-inf"), "c": "x"}) == {"a": [1.0, None], "b": None, "c": "x"}
