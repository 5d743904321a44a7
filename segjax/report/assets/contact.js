"use strict";
// The contact sheet: labels painted over images, one class alone, what a pixel is.
(async () => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const cards = [...document.querySelectorAll(".card")];
  const section = document.querySelector("section.cards");
  const picks = [...document.querySelectorAll(".pick")];
  const colors = data.classes.map(({ color }) => pack(color));
  const stripes = data.stripes.map(pack);
  let alone = null;

  // What is not the class to be seen alone is left transparent.
  function draw({ canvas, size, values }) {
    const { width, height, stripe } = size;
    const pixels = new ImageData(width, height);
    const words = new Uint32Array(pixels.data.buffer);
    for (let i = 0; i < words.length; i++) {
      const id = values[i];
      if (alone !== null && id !== alone) continue;
      const across = (i % width) + Math.floor(i / width);
      words[i] = id === VOID ? stripes[Math.floor(across / stripe) % 2] : colors[id];
    }
    Object.assign(canvas, { width, height });
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  const pictures = await Promise.all(
    cards.map(async (card, i) => {
      const size = data.images[i];
      for (const picture of card.querySelectorAll("img")) picture.src = size.image;
      const canvas = card.querySelector('[data-kind="label"] canvas');
      const values = await decodeClasses(size.label, size, data.step, data.classes.length);
      return { card, canvas, size, values };
    }),
  );
  const nameOf = (id) => (id === VOID ? "void" : data.classes[id].name);

  function show(id) {
    alone = id;
    section.classList.toggle("alone", id !== null);
    for (const pick of picks) {
      pick.setAttribute("aria-pressed", String(Number(pick.dataset.class) === id));
    }
    pictures.forEach(draw);
  }
  for (const pick of picks) {
    pick.addEventListener("click", () => {
      const id = Number(pick.dataset.class);
      show(alone === id ? null : id);
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") show(null);
  });

  for (const { card, size, values } of pictures) {
    const readout = card.querySelector(".readout");
    const frames = [...card.querySelectorAll(".frame")];
    for (const frame of frames) {
      frame.addEventListener("pointermove", (event) => {
        const box = frame.getBoundingClientRect();
        const x = Math.floor(((event.clientX - box.left) / box.width) * size.width);
        const y = Math.floor(((event.clientY - box.top) / box.height) * size.height);
        if (x < 0 || y < 0 || x >= size.width || y >= size.height) return;
        readout.textContent = nameOf(values[y * size.width + x]);
      });
      frame.addEventListener("pointerleave", () => (readout.textContent = "\u00a0"));
    }
  }

  const views = [...document.querySelectorAll("[data-view]")];
  for (const view of views) {
    view.addEventListener("click", () => {
      section.classList.toggle("over", view.dataset.view === "over");
      for (const other of views) {
        other.setAttribute("aria-pressed", String(other === view));
      }
    });
  }
  const opacity = document.getElementById("opacity");
  const fade = () => section.style.setProperty("--opacity", opacity.value / 100);
  opacity.addEventListener("input", () => {
    fade();
    views.find((view) => view.dataset.view === "over").click();
  });
  fade();
  show(null);
  document.documentElement.dataset.ready = "";
})();
