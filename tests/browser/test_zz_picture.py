
from playwright.sync_api import expect
from .lab import Notebook
CODE = """
import os, time
import durably_nb as dn
d = dn.open("jobs.duckdb")

@d.job
def punctuality(step, airline: str, month: int = 1):
    if airline == "OO":
        step.progress(1, 12)
        raise ValueError("max() arg is an empty sequence: airline OO has no flight in month 2")
    stop = {"EV": 4, "UA": 5}.get(airline, 12) if month == 1 else 12
    for n in range(1, stop + 1):
        step.progress(n, 12)
    if stop < 12:
        gate = os.open("gate", os.O_RDONLY)
        step.run("w", lambda: os.read(gate, 1).decode())
        step.progress(12, 12)

def go(airline, month=1):
    return punctuality.options(labels={"source": "nycflights"}).trigger(airline, month)

go("UA", 2).wait()
run = go("EV")
while run.progress is None or run.progress.current < 4: time.sleep(0.05)
run.cancel()
for a in ("AA", "B6", "DL", "OO"): go(a).wait()
go("UA"); go("EV"); last = go("B6")
time.sleep(18)
d.dashboard()
"""

def test_picture(browser, server, folder, gate):
    context = browser.new_context(viewport={"width": 1111, "height": 1000}, device_scale_factor=2, reduced_motion="reduce")
    context.set_default_timeout(60000)
    page = context.new_page()
    lab = Notebook(page, server, folder / "n.ipynb", [CODE], "doc/tree").open()
    lab.theme("JupyterLab Light")
    output = lab.run(0)
    expect(output.locator("tr[data-run]")).to_have_count(9)
    expect(output.locator("tr[data-run]").nth(2)).to_contain_text("41 %")
    output.locator(".dn-dashboard").screenshot(path="/tmp/dashboard.png", animations="disabled")
    server.shut_down_kernels()
    context.close()
