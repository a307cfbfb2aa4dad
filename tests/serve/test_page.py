"""The page in a headless Chromium."""

import pytest
from browser import Browser
from server_process import FILMS, PICTURES, ROOT

CONTROL = "\ue009"
ENTER = "\ue007"
STATUS = "document.querySelector('#status').textContent"
DONE = f"/s: .*profile/.test({STATUS})"


@pytest.fixture(scope="module")
def browser():
    browser = Browser()
    yield browser
    browser.close()


def open_page(browser, server):
    browser.go(f"http://127.0.0.1:{server.port}/")
    browser.wait("document.querySelector('#model').options.length > 0")
    small(browser)
    browser.messages()


@pytest.fixture
def page(browser, server):
    """The page of the common server, set to something quick; its console must have stayed silent."""
    open_page(browser, server)
    yield browser
    assert browser.messages() == []


def small(browser, steps=3, size=64):
    for field, value in {"#width": size, "#height": size, "#steps": steps, "#seed": 7}.items():
        browser.set(field, value)


def cells(kind: str) -> str:
    return f"document.querySelectorAll('.strip i.{kind}').length"


def forget(server):
    """Ends and removes all jobs, so that a test sees its own only."""
    for job in server.get("/v1/jobs?limit=100").json()["data"]:
        if job["status"] in ("queued", "in_progress"):
            server.ask("DELETE", f"/v1/jobs/{job['id']}")
            server.wait(job["id"])
        server.ask("DELETE", f"/v1/jobs/{job['id']}")


def test_generate_and_compare(page, server):
    forget(server)
    open_page(page, server)
    page.set("#dial", 1)
    assert "demo: of 50 steps" in page.text("#dial-note")
    page.click("#generate")
    page.wait(DONE)
    page.wait("document.querySelector('#media img').naturalWidth === 64")
    assert page.value(cells("f")) + page.value(cells("s")) + page.value(cells("k")) == 3
    assert "profile demo, seed 7" in page.value(STATUS)
    assert "--sparsity demo --output" in page.text("#command")
    assert not page.value("document.querySelector('#twin').hidden") and page.value(
        "document.querySelector('#compare').hidden"
    )
    page.click("#twin")
    page.wait("!document.querySelector('#compare').hidden")
    assert page.text("#left-name") == "dense" and page.text("#right-name") == "demo"
    page.wait("[...document.querySelectorAll('#over img')].every((image) => image.naturalWidth === 64)")
    page.set("#split", 20)
    assert "80%" not in page.value("getComputedStyle(document.querySelector('#over > :last-child')).clipPath")
    assert "20%" in page.value("getComputedStyle(document.querySelector('#over > :last-child')).clipPath")
    assert page.value("document.querySelectorAll('#history li').length") == 2


def test_by_keyboard_and_cancelled(page):
    small(page, steps=200, size=128)
    page.set("#dial", 0)
    page.type("#prompt", CONTROL + ENTER)
    page.wait(f"/^step [0-9]+ of 200, full/.test({STATUS})")
    page.click("#cancel")
    page.wait(f"{STATUS} === 'the job was cancelled'")
    page.click("#remove")
    page.wait(f"{STATUS} === 'deleted'")


def test_a_reload_and_a_second_tab_go_on_watching(page, server):
    small(page, steps=200, size=128)
    page.set("#dial", 0)
    page.click("#generate")
    page.wait(f"/^step [0-9]+ of 200, full/.test({STATUS})")
    seen = page.value(cells("f"))
    page.ask("POST", "/refresh")
    page.wait(f"{cells('f')} > {seen}")
    first = page.ask("GET", "/window")
    second = page.ask("POST", "/window/new", {"type": "tab"})["handle"]
    page.ask("POST", "/window", {"handle": second})
    page.go(f"http://127.0.0.1:{server.port}/")
    page.wait(f"{cells('f')} > {seen}")
    page.click("#cancel")
    for handle in (second, first):
        page.ask("POST", "/window", {"handle": handle})
        page.wait(f"{STATUS} === 'the job was cancelled'")
    page.ask("POST", "/window", {"handle": second})
    page.ask("DELETE", "/window")
    page.ask("POST", "/window", {"handle": first})


def test_a_film_plays(page):
    page.set("#model", FILMS.name)
    small(page, size=32)
    page.set("#frames", 5)
    page.click("#generate")
    page.wait(DONE)
    page.wait("document.querySelector('#media video')?.currentTime > 0")


def test_a_film_of_a_picture(browser, serve, picture_films):
    server = serve(models=(picture_films, FILMS))
    open_page(browser, server)
    assert not browser.value("document.querySelector('#picture-row').hidden")
    browser.set("#frames", 5)
    browser.set("#dial", 0)
    browser.click("#generate")
    browser.wait("document.querySelector('#error').textContent.includes('input_reference')")
    browser.type("#picture", str(ROOT / "tests/data/pipeline/tiny-wan-image/picture.png"))
    browser.wait("document.querySelector('#picture-shown').naturalWidth === 70")
    browser.click("#generate")
    browser.wait(DONE)
    assert "--image input_reference" in browser.text("#command")
    # The comparison is made of the same picture.
    browser.click("#twin")
    browser.wait("!document.querySelector('#compare').hidden")
    settings = [job["settings"] for job in server.get("/v1/jobs").json()["data"]]
    assert len({one["picture_sha256"] for one in settings}) == 1 and len(settings) == 2
    # After a reload the page has the picture no more.
    browser.ask("POST", "/refresh")
    browser.wait("document.querySelectorAll('#history li').length === 2")
    assert browser.value("document.querySelector('#twin').hidden")
    browser.set("#model", FILMS.name)
    assert browser.value("document.querySelector('#picture-row').hidden")


def test_what_is_refused_is_said(page):
    page.set("#width", 65)
    page.run("document.querySelector('#form').noValidate = true")
    page.click("#generate")
    page.wait("document.querySelector('#error').textContent.includes('width')")
    assert any("400" in message for message in page.messages())


def test_a_phone_in_the_dark(page, server):
    page.devtools(
        "Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True
    )
    page.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert page.value("document.documentElement.scrollWidth <= innerWidth")
    red, green, blue = page.value(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert max(red, green, blue) < 64
    unnamed = """[...document.querySelectorAll('input, textarea, select, button')]
        .filter((one) => !one.labels?.[0]?.textContent.trim() && !one.ariaLabel && !one.textContent.trim())
        .map((one) => one.id)"""
    assert set(page.value(unnamed)) <= {"twin"}  # named when it is shown
    page.devtools("Emulation.clearDeviceMetricsOverride")
    page.devtools("Emulation.setEmulatedMedia", features=[])


def test_a_key_is_asked_for(browser, serve, tmp_path):
    key = "a-key-of-the-page-0123"
    (tmp_path / "keys").write_text(key)
    server = serve("--api-key-file", tmp_path / "keys", models=(PICTURES,), key=key)
    browser.go(f"http://127.0.0.1:{server.port}/")
    browser.wait("!document.querySelector('#key-label').hidden")
    assert "Authorization" in browser.text("#error")
    browser.set("#key", key)
    browser.wait("document.querySelector('#model').options.length > 0")
    small(browser)
    browser.click("#generate")
    browser.wait(DONE)
    browser.wait("document.querySelector('#media img').naturalWidth === 64")
