// The front end of the dashboard. The kernel sends all that is shown, the cells of a run as HTML that is escaped there;
// this keeps rows by their run, so that focus, choice and scroll survive, and sends what is asked for and commanded.

const COLUMNS = { // in the order of a run's cells
  run: "Run", input: "Input", state: "State", progress: "Progress", created: "Created", took: "Duration", labels: "Labels",
  error: "Error",
};
const NAMES = Object.keys(COLUMNS);
const COMMANDS = { cancel: "Cancel", resume: "Resume", again: "Run again", delete: "Delete" };
const TYPING_MS = 250;
const PATIENCE_MS = 1500;
const OPENING_MS = 1500; // so long, a panel that was opened is kept in view while it grows

function render({ model, el }) {
  const chosen = new Set(); // of the runs on this page, by id
  const rows = new Map();
  let state = model.get("state");
  let behind = 0; // the kernel's clock behind this one's, in ms
  let waitsFor = null; // the number of the answer to the command that was sent
  let patience = null;
  let typing = null;
  let revealing = null;
  let opening = null; // the run whose panel was asked for

  // --- what there is ---

  const all = stateButton("", "All");
  const states = new Map(state.states.map(([status, icon, word]) => [status, stateButton(status, word, icon)]));
  const job = make("select", { "aria-label": "Job" });
  const label = field({ type: "text", placeholder: "key=value", "aria-label": "Label" });
  const search = field({ type: "search", placeholder: "id, job, input, error", "aria-label": "Search" });
  const commands = new Map(Object.entries(COMMANDS).map(([name, text]) => [name, button(text, () => pressed(name))]));
  const count = make("span", { class: "dn-paging" });
  const actions = make("div", { class: "dn-group", role: "group", "aria-label": "Chosen runs" }, ...commands.values(), count);
  const question = make("span");
  const really = button("Delete", () => settle(() => command("delete")));
  const keep = button("Keep", () => settle());
  really.className = "dn-danger";
  const confirmation = make("div", { class: "dn-group", role: "group" }, question, really, keep);
  const range = make("span");
  const previous = button("‹", () => ask({ page: state.question.page - 1 }), { "aria-label": "Previous page" });
  const next = button("›", () => ask({ page: state.question.page + 1 }), { "aria-label": "Next page" });
  const everything = make("input", { type: "checkbox", "aria-label": "Choose all runs on this page" });
  const head = make("tr", {}, make("th", { class: "dn-check", scope: "col" }, make("label", {}, everything)),
    make("th", { scope: "col", "data-column": "job" }, "Job"),
    ...NAMES.map((name) => make("th", { scope: "col", "data-column": name }, COLUMNS[name])));
  const body = make("tbody");
  const table = make("table", { "aria-label": "Runs" }, make("thead", {}, head), body);
  const nothing = make("p", { class: "dn-empty" });
  const clear = button("Show all runs", () => {
    job.value = label.value = search.value = "";
    search.focus();
    ask({ status: [] });
  });
  const worker = make("p");
  const waiting = make("p");
  const problem = make("p", { class: "dn-error" });
  const answer = make("p", { class: "dn-answer", role: "status" });
  const reveal = new ResizeObserver(([{ target: whole }]) => {
    const panel = whole.lastElementChild;
    if (!panel.contains(root)) panel.scrollIntoView({ block: "nearest" });
  });
  const opened = make("span");
  const open = make("div", { class: "dn-opened" }, opened, button("Close", () => model.send({ open: null }), { "aria-label": "Close the panel" }));
  const controls = make("fieldset", { "aria-label": "Runs" },
    make("div", { class: "dn-row" },
      make("div", { class: "dn-group dn-states", role: "group", "aria-label": "State" }, all, ...states.values()),
      make("div", { class: "dn-group dn-paging" }, range, previous, next)),
    make("div", { class: "dn-row" },
      make("div", { class: "dn-group dn-commands" }, actions, confirmation, answer),
      make("div", { class: "dn-group" }, make("label", {}, "Job", job), make("label", {}, "Label", label), make("label", {}, "Search", search))),
    make("div", { class: "dn-scroll" }, table), nothing,
    make("div", { class: "dn-status" }, worker, waiting, problem), open);
  const root = make("div", { class: "dn-tables dn-dashboard" }, controls);
  confirmation.hidden = true;

  function stateButton(status, word, icon = "") {
    const number = make("span", { class: "dn-count" });
    const made = button("", () => ask({ status: isOnly(status) || !status ? [] : [status], page: 0 }), { "aria-pressed": "false" });
    if (icon) made.append(make("span", { "aria-hidden": "true" }, icon), " ");
    made.append(make("span", {}, word), " ", number);
    made.number = number;
    return made;
  }

  const isOnly = (status) => state.question.status.length === 1 && state.question.status[0] === status;

  // --- showing ---

  function show(isLive) {
    state = model.get("state");
    if (isLive) behind = Date.now() - state.now;
    controls.disabled = state.closed;
    controls.setAttribute("aria-label", `Runs of ${state.name}`);
    showFilters();
    showRows();
    showPaging();
    put(worker, state.worker[1]);
    worker.dataset.worker = state.worker[0];
    put(waiting, state.waiting);
    put(problem, [state.problem, state.hint].filter(Boolean).join(" "));
    if (waitsFor === null || state.answered >= waitsFor) {
      waitsFor = null;
      clearTimeout(patience);
      say(state.answer);
    }
    showActions();
    tick();
  }

  function showFilters() {
    const { status, job: name, label: written, search: sought } = state.question;
    all.setAttribute("aria-pressed", String(status.length === 0));
    put(all.number, state.states.reduce((sum, one) => sum + one[3], 0).toLocaleString("en"));
    for (const [one, , , runs] of state.states) {
      states.get(one).setAttribute("aria-pressed", String(status.includes(one)));
      put(states.get(one).number, runs.toLocaleString("en"));
    }
    const names = ["", ...state.jobs];
    if (names.join("\n") !== job.names) {
      job.replaceChildren(...names.map((each) => make("option", { value: each }, each || "all")));
      job.names = names.join("\n");
      job.value = name;
    }
    for (const [field, value] of [[job, name], [label, written], [search, sought]]) {
      // What somebody types is ahead of what the kernel says.
      if (field !== focused() && !typing) field.value = value;
    }
    label.setAttribute("aria-invalid", String(Boolean(state.hint)));
  }

  function showRows() {
    const wanted = new Set(state.rows.map((row) => row.id));
    NAMES.forEach((name, i) => { head.children[i + 2].hidden = !state.columns.includes(name); });
    table.dataset.columns = state.columns.join(" ");
    const lost = focused()?.closest?.("tr[data-run]");
    const index = lost ? [...body.children].indexOf(lost) : -1;
    for (const [id, row] of rows) if (!wanted.has(id)) forget(id, row);
    let at = body.firstChild;
    for (const run of state.rows) {
      const row = rows.get(run.id) ?? newRow(run);
      if (row !== at) body.insertBefore(row, at);
      else at = at.nextSibling;
      fill(row, run);
    }
    if (lost && !lost.isConnected) (body.children[Math.min(index, body.children.length - 1)]?.querySelector("button") ?? search).focus();
    table.hidden = state.rows.length === 0;
    nothing.hidden = !table.hidden;
    nothing.replaceChildren(...(state.runs ? ["No run matches. ", clear] : ["No run yet. Trigger a job, and its run is listed here."]));
  }

  function forget(id, row) {
    rows.delete(id);
    chosen.delete(id);
    row.remove();
  }

  function newRow(run) {
    const check = make("input", { type: "checkbox", "aria-label": `Choose run ${run.id} of ${run.job}` });
    const name = button(run.job, null, { class: "dn-open", title: run.job });
    const row = make("tr", { "data-run": run.id }, make("td", { class: "dn-check" }, make("label", {}, check)), make("td", {}, name));
    row.check = check;
    row.name = name;
    row.places = NAMES.map((name) => make("td", { "data-column": name }));
    row.append(...row.places);
    rows.set(run.id, row);
    return row;
  }

  function fill(row, run) {
    row.places.forEach((cell, i) => {
      cell.hidden = !state.columns.includes(NAMES[i]);
      if (cell.html === run.cells[i]) return;
      cell.html = run.cells[i];
      cell.innerHTML = cell.html;
      for (const time of cell.querySelectorAll("time")) localize(time);
    });
    const isOpen = run.id === state.opened;
    row.toggleAttribute("data-opened", isOpen);
    row.name.setAttribute("aria-expanded", String(isOpen));
    row.check.checked = chosen.has(run.id);
    row.toggleAttribute("data-chosen", row.check.checked);
  }

  function showPaging() {
    const { first, total, rows: page } = state;
    put(range, total ? `${(first + 1).toLocaleString("en")}–${(first + page.length).toLocaleString("en")} of ${total.toLocaleString("en")}` : "");
    previous.disabled = first === 0;
    next.disabled = first + page.length >= total;
    const row = state.rows.find((run) => run.id === state.opened);
    put(opened, state.opened ? `Run ${state.opened}${row ? ` of ${row.job}` : ""}` : "");
    open.hidden = !state.opened;
    if (opening && opening === state.opened) watchOpening();
  }

  function watchOpening() {
    opening = null;
    const whole = el.parentElement?.closest(".dn-dashboard-whole");
    if (!whole) return;
    reveal.disconnect(); // an observer tells the size of what it did not observe before
    reveal.observe(whole);
    clearTimeout(revealing);
    revealing = setTimeout(() => reveal.disconnect(), OPENING_MS);
  }

  function showActions() {
    for (const [name, each] of commands) each.disabled = waitsFor !== null || meant(name).length === 0;
    put(count, chosen.size ? `${chosen.size.toLocaleString("en")} chosen` : "");
    everything.checked = state.rows.length > 0 && state.rows.every((run) => chosen.has(run.id));
    if (!confirmation.hidden) showConfirmation();
    everything.indeterminate = !everything.checked && chosen.size > 0;
  }

  /** Ask anew what is to be deleted, which may have changed since. */
  function showConfirmation() {
    const [runs, all] = [meant("delete").length, chosen.size];
    const some = runs === 0 ? "None of the chosen runs has ended, so that none can be deleted."
      : `Delete the ${runs} of ${all} that ${runs === 1 ? "has" : "have"} ended, for good?`;
    put(question, runs < all ? some : `Delete ${runs === 1 ? "this run" : `${runs} runs`} for good?`);
    confirmation.setAttribute("aria-label", question.textContent);
    really.disabled = runs === 0;
  }

  function tick() {
    for (const each of body.querySelectorAll("[data-since]")) {
      put(each, duration((Date.now() - behind - Number(each.dataset.since)) / 1000));
    }
  }

  // --- what people press and type ---

  // A text that was hidden before is not read out by every screen reader.
  const say = (text) => { if (answer.textContent !== text) answer.textContent = text; };
  const focused = () => root.getRootNode().activeElement;
  const meant = (name) => state.rows.filter((run) => chosen.has(run.id) && run.commands.includes(name));

  function ask(changes) {
    clearTimeout(typing);
    typing = null;
    chosen.clear();
    const { status } = state.question;
    model.send({ question: { status, job: job.value, label: label.value, search: search.value, page: 0, ...changes } });
  }

  function choose(row, is) {
    if (is) chosen.add(row.dataset.run);
    else chosen.delete(row.dataset.run);
    row.check.checked = is;
    row.toggleAttribute("data-chosen", is);
  }

  function pressed(name) {
    if (name !== "delete") return command(name);
    showConfirmation();
    actions.hidden = true;
    confirmation.hidden = false;
    keep.focus();
  }

  function settle(then) {
    confirmation.hidden = true;
    actions.hidden = false;
    then?.();
    (commands.get("delete").disabled ? everything : commands.get("delete")).focus();
  }

  function command(name) {
    const runs = meant(name);
    waitsFor = state.answered + 1;
    model.send({ command: name, attempts: Object.fromEntries(runs.map((run) => [run.id, run.attempt])) });
    say("");
    patience = setTimeout(say, PATIENCE_MS, "Sent. The kernel takes it as soon as the cell that runs lets it.");
    showActions();
  }

  job.addEventListener("change", () => ask({}));
  for (const field of [label, search]) {
    field.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(ask, TYPING_MS, {});
    });
    field.addEventListener("keydown", (event) => event.key === "Enter" && ask({}));
  }
  confirmation.addEventListener("keydown", (event) => event.key === "Escape" && settle());
  everything.addEventListener("change", () => {
    for (const row of body.children) choose(row, everything.checked);
    showActions();
  });
  body.addEventListener("change", (event) => {
    choose(event.target.closest("tr"), event.target.checked);
    showActions();
  });
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (controls.disabled || !row || event.target.closest(".dn-check") || String(getSelection())) return;
    opening = row.dataset.run === state.opened ? null : row.dataset.run;
    model.send({ open: opening });
  });
  body.addEventListener("pointerover", (event) => {
    const time = event.target.closest("time");
    if (time) time.title = `${time.full}, ${ago((Date.now() - new Date(time.dateTime)) / 1000)}`;
  });
  // A notebook has shortcuts for plain letters.
  root.addEventListener("keydown", (event) => event.stopPropagation());

  model.on("change:state", () => show(true));
  model.on("comm_live_update", () => {
    controls.disabled = true;
    worker.dataset.worker = "closed";
    put(worker, "Disconnected: the kernel of this table is gone, and this is the last it showed. d.dashboard() shows the runs again.");
    for (const each of [waiting, problem]) put(each, "");
    say("");
  });
  el.append(root);
  show(false);
  const clock = setInterval(() => controls.disabled || tick(), 1000);
  return () => {
    clearInterval(clock);
    clearTimeout(patience);
    clearTimeout(typing);
    clearTimeout(revealing);
    reveal.disconnect();
  };
}

// --- small things ---

function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function field(attributes) {
  return make("input", { class: "dn-field", spellcheck: "false", autocomplete: "off", ...attributes });
}

function button(text, pressed, attributes = {}) {
  const made = make("button", { type: "button", ...attributes }, text);
  if (pressed) made.addEventListener("click", pressed);
  return made;
}

function put(place, text) {
  if (place.textContent !== text) place.textContent = text;
  place.hidden = !text;
}

/** Show a time as it is here, today's without the date. */
function localize(time) {
  const moment = new Date(time.dateTime);
  const [now, two] = [new Date(), (value) => String(value).padStart(2, "0")];
  const clock = `${two(moment.getHours())}:${two(moment.getMinutes())}:${two(moment.getSeconds())}`;
  const day = `${moment.getDate()} ${moment.toLocaleString("en", { month: "short" })}`;
  time.full = `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())} ${clock}`;
  if (moment.toDateString() === now.toDateString()) time.textContent = clock;
  else if (moment.getFullYear() === now.getFullYear()) time.textContent = `${day} ${clock.slice(0, 5)}`;
  else time.textContent = `${day} ${moment.getFullYear()}`;
}

function ago(seconds) {
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const [unit, size] = units.find(([, each]) => seconds >= each) ?? units.at(-1);
  return new Intl.RelativeTimeFormat("en").format(-Math.floor(seconds / size), unit);
}

function duration(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  const [hours, minutes, rest] = [seconds / 3600, (seconds / 60) % 60, seconds % 60].map(Math.floor);
  const two = (value) => String(value).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

export default { render };
