// The front end of a panel. The kernel sends HTML, escaped there, region by region; this puts it in place
// without disturbing what the reader has opened, scrolled or focused, counts the seconds, and sends commands.

const PATIENCE_MS = 1500;

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "dn-panel";
  root.setAttribute("role", "group");
  const status = document.createElement("p");
  status.className = "dn-note";
  status.setAttribute("role", "status");
  const regions = new Map();
  let turn = "";
  let watch = "";
  let received = performance.now();
  let connected = true;
  let patience = null;

  function region(name) {
    if (!regions.has(name)) {
      const place = document.createElement("div");
      place.dataset.region = name;
      if (name === "actions") place.className = "dn-actions";
      regions.set(name, place);
      root.insertBefore(place, status);
    }
    return regions.get(name);
  }

  function show(state) {
    if (state.label) root.setAttribute("aria-label", state.label);
    ({ turn = turn, watch = watch } = state);
    for (const [name, html] of Object.entries(state.regions ?? {})) {
      const fresh = document.createElement("template");
      fresh.innerHTML = html;
      const place = region(name);
      const followed = isFollowed(place);
      morphChildren(place, fresh.content);
      if (followed) toEnd(place);
      for (const ticking of place.querySelectorAll("[data-ticking]")) ticking.receivedAt = performance.now();
    }
    received = performance.now();
    setConnected(true);
    say("");
    tick();
  }

  function tick() {
    if (!connected) return;
    for (const ticking of root.querySelectorAll("[data-ticking]")) {
      const since = ticking.receivedAt ?? received;
      ticking.textContent = duration(Number(ticking.dataset.ticking) + (performance.now() - since) / 1000);
    }
  }

  function say(text) {
    clearTimeout(patience);
    status.textContent = text;
    status.hidden = !text;
  }

  function setConnected(is) {
    connected = is;
    root.toggleAttribute("data-disconnected", !is);
    for (const button of root.querySelectorAll("button")) {
      if (!is) button.disabled = true;
    }
    if (!is) say(`Disconnected: its kernel is gone, and this is the last it showed. ${watch} shows the run again.`);
  }

  root.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-command]");
    if (!button || button.disabled || !confirmed(button)) return;
    for (const other of root.querySelectorAll("button[data-command]")) other.disabled = true;
    model.send({ command: button.dataset.command, turn });
    say("");
    patience = setTimeout(() => say("Sent. The kernel takes it as soon as the cell that runs lets it."), PATIENCE_MS);
  });

  model.on("msg:custom", show);
  model.on("change:state", () => show(model.get("state")));
  model.on("comm_live_update", () => setConnected(false));
  root.append(status);
  el.append(root);
  show(model.get("state"));
  const seen = new IntersectionObserver(([entry]) => {
    if (!entry.isIntersecting) return; // before it is seen, nothing scrolls
    regions.forEach(toEnd);
    seen.disconnect();
  });
  seen.observe(root);
  model.send({ hello: true }); // deltas may have gone by before this view was there
  const clock = setInterval(tick, 1000);
  return () => {
    seen.disconnect();
    clearInterval(clock);
    clearTimeout(patience);
  };
}

/** Whether a command that cannot be undone was pressed twice: the first press asks, until the focus goes elsewhere. */
function confirmed(button) {
  if (button.dataset.command !== "delete" || button.hasAttribute("data-asked")) return true;
  const [label, name] = [button.textContent, button.getAttribute("aria-label")];
  const ask = (asked, text, spoken) => {
    button.toggleAttribute("data-asked", asked);
    button.textContent = text;
    button.setAttribute("aria-label", spoken);
  };
  ask(true, "Delete for good?", `${name} for good?`);
  button.addEventListener("blur", () => ask(false, label, name), { once: true });
  return false;
}

/** Whether the reader is at the end of what scrolls here, and wants to stay there. */
function isFollowed(place) {
  const scroller = place.querySelector(".dn-scroll");
  return !scroller || scroller.scrollTop + scroller.clientHeight >= scroller.scrollHeight - 8;
}

function toEnd(place) {
  const scroller = place.querySelector(".dn-scroll");
  if (scroller) scroller.scrollTop = scroller.scrollHeight;
}

/** Make a place's children those of `fresh`, touching only what differs; what a reader opened stays open. */
function morphChildren(place, fresh) {
  const keyed = new Map();
  for (const child of place.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  let at = place.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const known = wanted.dataset?.key && keyed.get(wanted.dataset.key);
    if (known && known !== at) {
      // Everything before it in the old order that is not wanted any more goes; a move would lose its scroll.
      while (at && at !== known) at = removed(at);
    }
    if (!at) place.append(wanted);
    else at = morphed(at, wanted);
  }
  while (at) at = removed(at);
}

function removed(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

/** Make `old` like `wanted`, in place where it can be, and as open as its reader has it; give the node after it. */
function morphed(old, wanted) {
  const next = old.nextSibling;
  if (old.nodeName !== wanted.nodeName || old.dataset?.key !== wanted.dataset?.key) {
    old.replaceWith(wanted);
  } else if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== wanted.data) old.data = wanted.data;
  } else if (!old.isEqualNode(wanted)) {
    for (const { name } of [...old.attributes]) {
      if (name !== "open" && !wanted.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const { name, value } of [...wanted.attributes]) {
      if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    morphChildren(old, wanted);
  }
  return next;
}

function duration(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const [hours, minutes, rest] = [seconds / 3600, (seconds / 60) % 60, seconds % 60].map(Math.floor);
  const two = (value) => String(value).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

export default { render };
