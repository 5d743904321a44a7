"use strict";
// The page: an image goes to the server, labels come back, everything else happens here.
// Names and messages become text (textContent), never markup.
(async () => {
  const STATES = { waiting: "waiting", compiling: "compiling for this size", predicting: "labelling" };

  const find = (selector) => document.querySelector(selector);
  const cards = find(".cards");
  const work = find(".work");
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const seconds = (time) => (time < 1 ? `${Math.round(1000 * time)} ms` : `${time.toFixed(1)} s`);

  let about = null; // what the server serves, see /about.json
  let shown = null; // {file, name, width, height}
  let panes = []; // one per run: {card, canvas, img, ..., result, request}
  let rows = []; // one per class: {row, button, shares}
  const alone = new Set(); // classes that are shown; none means all
  const off = new Set(); // runs that are hidden
  let compared = { runs: [], mask: null }; // for every pixel whether `runs` differ
  let request = null; // AbortController of what is being answered
  let pointed = null; // {x, y} in 0..1

  const view = createView(cards, {
    width: () => shown?.width ?? 0,
    onZoom: (zoom) => (find(".zoom").textContent = `${zoom.toFixed(zoom < 10 ? 1 : 0)}×`),
    onPoint: point,
  });

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function swatch(color) {
    const square = element("i", "swatch");
    square.style.background = `rgb(${color.join()})`;
    return square;
  }

  function complain(message) {
    find(".error span").textContent = message;
    find(".error").hidden = !message;
  }

  // ---- asking the server -----------------------------------------------------------

  async function* linesOf(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) yield JSON.parse(line);
    }
  }

  const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

  const shownRuns = () => panes.map((_, run) => run).filter((run) => !off.has(run));

  // Labels `file` with `runs`; `again`: it is the image that is here already.
  async function label(file, { again = false, runs = shownRuns() } = {}) {
    if (!runs.length) return;
    request?.abort();
    const own = (request = new AbortController());
    complain("");
    if (file.size > about.max_bytes) {
      settle();
      complain(`${file.name}: more than ${about.max_bytes / 1e6} MB, the limit of this page`);
      return;
    }
    const query = new URLSearchParams(runs.map((run) => ["run", run]));
    if (find(".seen select").value) query.set("native_size", "1");
    document.body.classList.add("busy");
    try {
      const response = await fetch(`/predict?${query}`, { method: "POST", body: file, signal: own.signal });
      if (!response.ok) {
        const { error } = await response.json().catch(() => ({ error: `status ${response.status}` }));
        throw new Error(error);
      }
      for await (const event of linesOf(response)) {
        if (own !== request) return;
        if ("run" in event) await take(event, own);
        else await begin(file, event, runs, own, again);
      }
      if (own !== request) return;
      if (panes.some(({ pending }) => pending)) throw new Error("the server stopped in between");
    } catch (error) {
      if (own !== request) return; // another image was asked for meanwhile
      const lost = error instanceof TypeError;
      const reason = lost ? "the server does not answer; is it still running?" : error.message;
      complain(`${file.name}: ${reason.replace(/^image: /, "")}`);
    }
    settle();
  }

  function settle() {
    request = null;
    document.body.classList.remove("busy");
    for (const pane of panes) {
      pane.pending = false;
      if (!pane.failed) say(pane, "");
    }
  }

  // The image is good: from here on it is the one that the page shows.
  async function begin(file, { width, height, picture }, runs, own, again) {
    const blob = picture ? new Blob([bytesOf(picture)], { type: "image/png" }) : file;
    const address = URL.createObjectURL(blob);
    const loaded = new Image();
    loaded.src = address;
    await loaded.decode();
    if (own !== request) return;
    if (shown) URL.revokeObjectURL(shown.address);
    shown = { file, name: file.name, width, height, address, picture: loaded };
    find(".drop").hidden = true;
    work.hidden = false;
    find(".counter .name").textContent = find(".counter .name").title = file.name;
    find(".counter .extent").textContent = `${height} × ${width}`;
    cards.style.setProperty("--ratio", width / height);
    panes.forEach((pane, run) => {
      pane.img.src = address;
      pane.frame.style.aspectRatio = `${width} / ${height}`;
      pane.pending = runs.includes(run);
      if (again && !pane.pending) return;
      pane.failed = false;
      if (!again) clear(pane);
      if (pane.pending) say(pane, "waiting");
    });
    if (!again) view.fit();
    refresh();
  }

  function clear(pane) {
    pane.result = null;
    pane.time.textContent = "";
    Object.assign(pane.canvas, { width: 1, height: 1 });
  }

  async function take(event, own) {
    const pane = panes[event.run];
    if (event.state === "failed") {
      pane.pending = false;
      pane.failed = true;
      clear(pane);
      say(pane, event.error);
    } else if (event.state === "done") {
      const bytes = bytesOf(event.label);
      const { values } = await decodeIndexedPng(bytes);
      if (own !== request) return;
      const counts = about.classes.map(() => 0);
      for (const value of values) counts[value]++;
      pane.pending = false;
      pane.result = { bytes, values, shares: counts.map((count) => count / values.length) };
      pane.time.textContent = seconds(event.seconds) + (event.compiled ? " with compiling" : "");
      say(pane, "");
    } else {
      say(pane, STATES[event.state]);
      return;
    }
    refresh();
  }

  function say(pane, message) {
    pane.state.textContent = message;
    pane.state.hidden = !message;
    pane.card.classList.toggle("pending", pane.pending && Boolean(message));
    pane.card.classList.toggle("failed", pane.failed);
  }

  // ---- what is shown ---------------------------------------------------------------

  const visible = () => panes.filter((pane, run) => pane.result && !off.has(run));

  function refresh() {
    compare();
    cards.dataset.count = panes.length - off.size;
    panes.forEach((pane, run) => {
      pane.card.hidden = off.has(run);
      for (const save of pane.saves) save.disabled = !pane.result;
      if (pane.result && !off.has(run)) paintPane(pane);
    });
    showShares();
    view.apply();
    point(pointed);
  }

  function compare() {
    const results = visible().map(({ result }) => result);
    const button = find(".differ");
    button.disabled = results.length < 2;
    if (results.length === compared.runs.length && results.every((one, i) => one === compared.runs[i])) return;
    compared = { runs: results, mask: null };
    button.lastElementChild.textContent = "";
    if (results.length < 2) return;
    const [{ values: first }, ...others] = results;
    const mask = new Uint8Array(first.length);
    let count = 0;
    for (const { values } of others) {
      for (let i = 0; i < mask.length; i++) if (values[i] !== first[i]) mask[i] = 1;
    }
    for (const one of mask) count += one;
    compared.mask = mask;
    button.lastElementChild.textContent = percent(count / mask.length);
  }

  function paintPane({ canvas, result }) {
    const only = find(".differ").getAttribute("aria-pressed") === "true" ? compared.mask : null;
    const palette = new Uint32Array(256); // transparent, void too
    about.classes.forEach(({ color }, id) => {
      if (!alone.size || alone.has(id)) palette[id] = pack(color);
    });
    const values = only ? result.values.map((id, i) => (only[i] ? id : VOID)) : result.values;
    paint(canvas, shown, values, palette);
  }

  function showShares() {
    const head = find(".classes thead tr");
    head.replaceChildren(element("th", "", "Class"));
    head.firstChild.scope = "col";
    const columns = panes.filter((_, run) => !off.has(run));
    for (const pane of columns) {
      const cell = element("th");
      cell.scope = "col";
      cell.title = pane.title;
      cell.append(element("span", "number", pane.number));
      head.append(cell);
    }
    rows.forEach(({ row, button }, id) => {
      row.replaceChildren(row.firstChild);
      const shares = columns.map(({ result }) => result?.shares[id]);
      for (const share of shares) {
        const cell = element("td", "num", share === undefined ? "–" : percent(share));
        cell.style.setProperty("--share", share ?? 0);
        row.append(cell);
      }
      row.classList.toggle("absent", shares.every((share) => !share));
      button.setAttribute("aria-pressed", alone.has(id));
      row.classList.toggle("faded", alone.size > 0 && !alone.has(id));
    });
    find("[data-do=all]").disabled = !alone.size;
  }

  function isolate(id, more) {
    const only = alone.has(id) && alone.size === 1;
    if (more) {
      if (!alone.delete(id)) alone.add(id);
    } else {
      alone.clear();
      if (!only) alone.add(id);
    }
    refresh();
  }

  function toggleRun(run) {
    if (!panes[run] || panes.length === 1) return;
    if (!off.delete(run)) off.add(run);
    // The last one that is shown stays.
    if (off.size === panes.length) off.delete(run);
    find(".decoders").children[run].setAttribute("aria-pressed", !off.has(run));
    refresh();
    const lacking = (one) => !panes[one].result && !panes[one].failed;
    if (!shown || off.has(run) || !lacking(run) || panes[run].pending) return;
    label(shown.file, { again: true, runs: shownRuns().filter((one) => lacking(one) || panes[one].pending) });
  }

  function setOpacity(value) {
    find(".opacity").value = value;
    cards.style.setProperty("--opacity", value / 100);
    find(".percent").textContent = `${Math.round(value)} %`;
  }

  // ---- what lies under the cursor --------------------------------------------------

  function point(place) {
    const inside = place && place.x >= 0 && place.x < 1 && place.y >= 0 && place.y < 1;
    pointed = inside ? place : null;
    cards.classList.toggle("pointed", Boolean(inside && shown));
    for (const { row } of rows) row.classList.remove("under");
    for (const { readout } of panes) readout.replaceChildren();
    if (!inside || !shown) return;
    const column = Math.floor(place.x * shown.width);
    const row = Math.floor(place.y * shown.height);
    cards.style.setProperty("--cx", (column + 0.5) / shown.width);
    cards.style.setProperty("--cy", (row + 0.5) / shown.height);
    for (const { readout, result } of visible()) {
      const id = result.values[row * shown.width + column];
      readout.append(swatch(about.classes[id].color), about.classes[id].name);
      rows[id].row.classList.add("under");
    }
  }

  // ---- saving ----------------------------------------------------------------------

  function save(blob, name) {
    const link = element("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  function savePane(pane, kind) {
    const stem = shown.name.replace(/\.[^.]*$/, "") || "image";
    const name = `${stem}.${pane.title}`.replace(/[^\p{L}\p{N}._ ()-]/gu, "_");
    if (kind === "label") {
      save(new Blob([pane.result.bytes], { type: "image/png" }), `${name}.png`);
      return;
    }
    const { width, height } = shown;
    const canvas = Object.assign(element("canvas"), { width, height });
    const context = canvas.getContext("2d");
    context.drawImage(shown.picture, 0, 0, width, height);
    context.globalAlpha = cards.classList.contains("bare") ? 0 : find(".opacity").value / 100;
    context.drawImage(pane.canvas, 0, 0);
    canvas.toBlob((blob) => save(blob, `${name}.overlay.png`), "image/png");
  }

  // ---- taking images ---------------------------------------------------------------

  function takeFiles(files) {
    const images = [...files];
    if (!images.length) return false;
    label(images[0]);
    if (images.length > 1) complain(`${images.length} files: the first one, ${images[0].name}, is shown`);
    return true;
  }

  function dragged(event) {
    if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
    event.preventDefault();
    document.body.classList.toggle("dragging", event.type === "dragover");
    if (event.type !== "drop") return;
    if (!takeFiles(event.dataTransfer.files)) complain("a folder or nothing was dropped; expected an image file");
  }

  const actions = {
    open: () => find(".file").click(),
    in: () => view.zoomAt(1.5),
    out: () => view.zoomAt(1 / 1.5),
    fit: () => view.fit(),
    again: () => shown && label(shown.file, { again: true }),
    all: () => {
      alone.clear();
      refresh();
    },
    differ: () => {
      const button = find(".differ");
      if (button.disabled) return;
      button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
      refresh();
    },
    bare: () => cards.classList.toggle("bare"),
  };
  const step = (by) => () => setOpacity(Math.min(100, Math.max(0, Number(find(".opacity").value) + by)));
  const keys = {
    o: actions.open,
    "+": actions.in,
    "=": actions.in,
    "-": actions.out,
    0: actions.fit,
    r: actions.again,
    d: actions.differ,
    h: actions.bare,
    "[": step(-10),
    "]": step(10),
    Escape: actions.all,
    ArrowLeft: () => view.pan(0.1, 0),
    ArrowRight: () => view.pan(-0.1, 0),
    ArrowUp: () => view.pan(0, 0.1),
    ArrowDown: () => view.pan(0, -0.1),
  };

  function keyDown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select")) return;
    if (!shown && event.key !== "o") return;
    // Arrow keys move the slider, and scroll the page where nothing is magnified.
    const zoomed = cards.classList.contains("zoomed") && !event.target.closest("input");
    if (event.key.startsWith("Arrow") && !zoomed) return;
    const digit = /^[1-9]$/.test(event.key) ? () => toggleRun(event.key - 1) : undefined;
    const action = keys[event.key] ?? digit;
    if (!action) return;
    event.preventDefault();
    action();
  }

  // ---- start -----------------------------------------------------------------------

  function addRun({ title, folder, step: steps }, run) {
    const card = find("#card").content.firstElementChild.cloneNode(true);
    const part = (selector) => card.querySelector(selector);
    part(".number").textContent = run + 1;
    part(".title").textContent = title;
    part("figcaption").title = `${folder}, step ${steps}`;
    part("canvas").setAttribute("aria-label", `Classes by ${title}`);
    const pane = { card, title, number: run + 1, result: null, pending: false, failed: false };
    for (const name of ["frame", "canvas", "img", "state", "time", "readout"]) {
      pane[name] = part(name === "canvas" || name === "img" ? name : `.${name}`);
    }
    pane.saves = [...card.querySelectorAll("[data-save]")];
    for (const button of pane.saves) {
      button.disabled = true;
      button.setAttribute("aria-label", `${button.textContent} of ${title}`);
      button.addEventListener("click", () => savePane(pane, button.dataset.save));
    }
    panes.push(pane);
    cards.append(card);
    const toggle = element("button");
    toggle.type = "button";
    toggle.title = `${folder}, step ${steps} (${run + 1})`;
    toggle.setAttribute("aria-pressed", "true");
    toggle.append(element("span", "number", run + 1), ` ${title}`);
    toggle.addEventListener("click", () => toggleRun(run));
    find(".decoders").append(toggle);
  }

  function addClass({ name, color }, id) {
    const row = element("tr");
    const head = element("th");
    head.scope = "row";
    const button = element("button");
    button.type = "button";
    button.append(swatch(color), name);
    button.addEventListener("click", (event) => isolate(id, event.ctrlKey || event.metaKey || event.shiftKey));
    head.append(button);
    row.append(head);
    rows.push({ row, button });
    find(".classes tbody").append(row);
  }

  function addNotes() {
    const { runs, classes, max_bytes, max_pixels } = about;
    const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;
    find(".about").textContent =
      `${count(runs.length, "decoder", "decoders")}, ${count(classes.length, "class", "classes")}`;
    find(".limits").textContent =
      `PNG, JPEG, WebP, AVIF, GIF, BMP, TIFF or PPM of at most ${max_bytes / 1e6} MB and ` +
      `${max_pixels / 1e6} million pixels. It stays in memory and is not stored.`;
    find(".decoders").hidden = find(".differ").hidden = runs.length === 1;
    const sizes = new Set(runs.map(({ size }) => String(size)));
    find(".seen").hidden = runs.every(({ size }) => size === null);
    const [size] = runs.map((run) => run.size);
    if (sizes.size === 1 && size) {
      find(".seen option").textContent = `as trained, ${size.join(" × ")}`;
    }
  }

  complain("");
  try {
    about = await (await fetch("/about.json")).json();
  } catch {
    complain("the server does not answer; is it still running?");
    return;
  }
  about.runs.forEach(addRun);
  about.classes.forEach(addClass);
  addNotes();
  for (const button of document.querySelectorAll("[data-do]")) {
    button.addEventListener("click", () => actions[button.dataset.do]());
  }
  find(".differ").addEventListener("click", actions.differ);
  find(".opacity").addEventListener("input", (event) => setOpacity(event.target.value));
  find(".seen select").addEventListener("change", actions.again);
  find(".error button").addEventListener("click", () => complain(""));
  find(".file").addEventListener("change", (event) => {
    takeFiles(event.target.files);
    event.target.value = ""; // the same file again is a change, too
  });
  for (const type of ["dragenter", "dragover", "dragleave", "drop"]) addEventListener(type, dragged);
  document.addEventListener("paste", (event) => {
    if (takeFiles(event.clipboardData?.files ?? [])) event.preventDefault();
    else if (!event.target.closest("input")) complain("the clipboard holds no image");
  });
  document.addEventListener("keydown", keyDown);
  setOpacity(find(".opacity").value);
  find(".drop").hidden = false;
  document.body.dataset.ready = "";
})();
