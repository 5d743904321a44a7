"use strict";
// The viewer: every pane shows the same place of the same image (panzoom.js). Canvases
// hold one pixel per pixel of the label.
(() => {
  const LAYERS = { i: "image", l: "label", p: "prediction", e: "errors", o: "overlay" };

  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const root = document.getElementById("viewer-root");
  const cards = root.querySelector(".cards");
  const find = (selector) => root.querySelector(selector);
  const classOf = (id) => data.classes[id] ?? { name: "void", color: [0, 0, 0] };
  const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(1)} %`);

  const layers = new Set(["image", "label", "prediction", "errors"]);
  const panes = []; // {kind, strategy, element, frame, img, canvas, readout}
  let order = data.images.map((_, index) => index);
  let position = 0;
  let shown = null; // {image, label, predictions}: what is painted, decoded
  const view = createView(cards, {
    width: () => shown?.image.width ?? 0,
    onZoom: (zoom) => (find(".zoom").textContent = `${zoom.toFixed(zoom < 10 ? 1 : 0)}×`),
    onPoint: point,
    onSwipe: (direction) => show(position + direction),
  });
  let spots = null; // places where the chosen strategies differ at a boundary
  let spot = -1;

  function paintPane({ kind, canvas, strategy }) {
    if (kind === "image") return;
    const { image, label, predictions } = shown;
    if (kind === "errors") {
      const palette = VERDICTS.map(({ color }) => pack(color));
      // Over the image, only what is wrong is of interest.
      if (layers.has("overlay")) palette[0] = 0;
      paint(canvas, image, judge(predictions[strategy], label), palette);
    } else {
      const palette = Array.from({ length: 256 }, (_, id) => pack(classOf(id).color));
      paint(canvas, image, kind === "label" ? label : predictions[strategy], palette);
    }
  }

  // ---- panes -----------------------------------------------------------------------

  function clone(id) {
    return document.getElementById(id).content.firstElementChild.cloneNode(true);
  }

  function addCard(title, kinds, strategy) {
    const card = clone("card-template");
    card.querySelector("figcaption").append(title);
    for (const kind of kinds) {
      const element = clone("pane-template");
      element.dataset.kind = kind;
      element.querySelector(".kind").textContent = kind;
      card.querySelector(".panes").append(element);
      panes.push({
        kind,
        strategy,
        card,
        element,
        frame: element.querySelector(".frame"),
        img: element.querySelector("img"),
        canvas: element.querySelector("canvas"),
        readout: element.querySelector(".readout"),
      });
    }
    if (strategy !== undefined) card.dataset.strategy = strategy;
    cards.append(card);
    return card;
  }

  function strategyTitle(index) {
    const title = document.createElement("span");
    const number = document.createElement("span");
    number.className = "number";
    number.textContent = index + 1;
    title.append(number, ` ${data.strategies[index]}`);
    return title;
  }

  const chosen = () =>
    data.strategies.map((_, i) => i).filter((i) => find(`#choice-${i}`).checked);

  function showLayers() {
    for (const button of root.querySelectorAll("[data-layer]")) {
      button.setAttribute("aria-pressed", layers.has(button.dataset.layer));
    }
    const strategies = new Set(chosen());
    for (const pane of panes) {
      pane.element.hidden = !layers.has(pane.kind);
      const leftOut = pane.strategy !== undefined && !strategies.has(pane.strategy);
      pane.card.hidden =
        leftOut || panes.every((p) => p.card !== pane.card || !layers.has(p.kind));
    }
    root.classList.toggle("overlay", layers.has("overlay"));
    find(".opacity").disabled = !layers.has("overlay");
    view.apply();
  }

  function toggleLayer(name) {
    if (!layers.delete(name)) layers.add(name);
    if (name === "overlay" && shown) {
      for (const pane of panes) if (pane.kind === "errors") paintPane(pane);
    }
    showLayers();
  }

  // ---- images ----------------------------------------------------------------------

  async function show(next) {
    position = (next + order.length) % order.length;
    const index = order[position];
    const image = data.images[index];
    root.removeAttribute("data-shown");
    find(".counter").textContent = `${position + 1} / ${order.length} · ${image.name}`;
    for (const thumb of root.querySelectorAll(".thumbs button")) {
      const current = Number(thumb.dataset.index) === index;
      thumb.setAttribute("aria-pressed", current);
      if (current) {
        const strip = find(".thumbs");
        strip.scrollLeft = thumb.offsetLeft - (strip.clientWidth - thumb.clientWidth) / 2;
      }
    }
    const [label, ...predictions] = await Promise.all(
      [image.label, ...image.predictions].map((uri) =>
        decodeClasses(uri, image, data.step, data.classes.length),
      ),
    );
    if (order[position] !== index) return; // another was asked for meanwhile
    shown = { image, label, predictions };
    spots = null;
    find(".spot").textContent = "";
    for (const pane of panes) {
      const error = pane.strategy === undefined ? "" : percent(image.errors[pane.strategy]);
      pane.img.src = image.image;
      pane.frame.style.aspectRatio = `${image.width} / ${image.height}`;
      const whose = pane.strategy === undefined ? "" : ` of ${data.strategies[pane.strategy]}`;
      pane.canvas.setAttribute("aria-label", `${pane.kind}${whose}, ${image.name}`);
      pane.element.querySelector(".kind").textContent =
        pane.kind === "errors" ? `errors ${error}` : pane.kind;
      paintPane(pane);
    }
    view.fit();
    point(null);
    root.dataset.shown = image.name;
  }

  function sortImages(key) {
    const value = (image) => (key === "disagreement" ? image.disagreement : image.errors[key]);
    const collator = new Intl.Collator("en", { numeric: true });
    order = data.images.map((_, index) => index);
    order.sort((a, b) => {
      const [first, second] = [data.images[a], data.images[b]];
      if (key === "name") return collator.compare(first.name, second.name);
      return (value(second) ?? -1) - (value(first) ?? -1);
    });
    find(".thumbs").replaceChildren(
      ...order.map((index) => {
        const image = data.images[index];
        const thumb = document.createElement("button");
        thumb.type = "button";
        thumb.dataset.index = index;
        thumb.title = image.name;
        const picture = document.createElement("img");
        picture.src = image.image;
        picture.alt = image.name;
        const share = key === "name" ? image.disagreement : value(image);
        thumb.append(picture, percent(share));
        thumb.addEventListener("click", () => show(order.indexOf(index)));
        return thumb;
      }),
    );
  }

  // ---- boundaries ------------------------------------------------------------------

  function nextBoundary() {
    if (!shown) return;
    if (!spots) {
      const maps = chosen().map((index) => shown.predictions[index]);
      [spots, spot] = [findSpots(shown.label, maps, shown.image), -1];
    }
    if (!spots.length) {
      find(".spot").textContent = "no difference at a boundary";
      return;
    }
    spot = (spot + 1) % spots.length;
    const { x, y, zoom } = spots[spot];
    view.set({ zoom, x: 0.5 - zoom * x, y: 0.5 - zoom * y });
    find(".spot").textContent = `${spot + 1} of ${spots.length}`;
    point({ x, y });
  }

  // ---- what lies under the cursor --------------------------------------------------

  function point(place) {
    const inside = place && place.x >= 0 && place.x < 1 && place.y >= 0 && place.y < 1;
    cards.classList.toggle("pointed", Boolean(inside && shown));
    if (!inside || !shown) {
      for (const pane of panes) pane.readout.replaceChildren();
      return;
    }
    const { image, label, predictions } = shown;
    const column = Math.floor(place.x * image.width);
    const row = Math.floor(place.y * image.height);
    const i = row * image.width + column;
    cards.style.setProperty("--cx", (column + 0.5) / image.width);
    cards.style.setProperty("--cy", (row + 0.5) / image.height);
    for (const pane of panes) {
      const id = pane.kind === "label" ? label[i] : predictions[pane.strategy]?.[i];
      if (pane.kind === "image") {
        pane.readout.textContent = `column ${column}, row ${row}`;
      } else if (pane.kind === "errors") {
        pane.readout.textContent = VERDICTS[judge([id], [label[i]])[0]].name;
      } else {
        const square = document.createElement("i");
        square.className = "swatch";
        square.style.background = `rgb(${classOf(id).color.join()})`;
        pane.readout.replaceChildren(square, classOf(id).name);
      }
    }
  }

  // ---- keys -------------------------------------------------------------------------

  const actions = {
    previous: () => show(position - 1),
    next: () => show(position + 1),
    in: () => view.zoomAt(1.5),
    out: () => view.zoomAt(1 / 1.5),
    fit: () => view.fit(),
    boundary: nextBoundary,
  };
  const keys = {
    ArrowLeft: actions.previous,
    ArrowRight: actions.next,
    "+": actions.in,
    "=": actions.in,
    "-": actions.out,
    0: actions.fit,
    b: actions.boundary,
  };

  function keyDown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, .scroll, pre")) return;
    const action = keys[event.key] ?? (LAYERS[event.key] && (() => toggleLayer(LAYERS[event.key])));
    if (!action) return;
    event.preventDefault();
    action();
  }

  // ---- start -----------------------------------------------------------------------

  addCard("Reference", ["image", "label"]);
  data.strategies.forEach((name, index) => {
    addCard(strategyTitle(index), ["prediction", "errors"], index);
    const choice = document.createElement("label");
    const box = document.createElement("input");
    Object.assign(box, { type: "checkbox", id: `choice-${index}`, checked: true });
    box.addEventListener("change", () => {
      spots = null;
      showLayers();
    });
    choice.append(box, strategyTitle(index));
    find(".choices").append(choice);
    find(".sort").append(new Option(`error of ${index + 1} ${name}`, index));
  });

  for (const button of root.querySelectorAll("[data-do]")) {
    button.addEventListener("click", () => actions[button.dataset.do]());
  }
  for (const button of root.querySelectorAll("[data-layer]")) {
    button.addEventListener("click", () => toggleLayer(button.dataset.layer));
  }
  const onInput = (selector, apply) => {
    find(selector).addEventListener("input", (event) => apply(event.target.value));
    apply(find(selector).value);
  };
  onInput(".opacity", (value) => cards.style.setProperty("--opacity", value / 100));
  onInput(".size", (value) => {
    cards.style.setProperty("--size", `${value}rem`);
    view.apply();
  });
  find(".sort").addEventListener("change", (event) => {
    sortImages(event.target.value);
    show(0);
  });
  document.addEventListener("keydown", keyDown);

  root.hidden = false;
  sortImages(find(".sort").value);
  showLayers();
  show(0);
})();
