"use strict";
// One view of several pictures: zooming and panning is one CSS transform (--zoom, --x,
// --y on `cards`) that all frames in `cards` share, so they cannot get out of step.

// `width` gives the pictures' width in pixels, 0 without a picture. Told are:
// `onZoom(zoom)`; `onPoint(place)`: where the mouse or the last finger is, in 0..1 of the
// picture or beyond, null when the mouse leaves; and `onSwipe(direction)`: one finger,
// nothing magnified.
function createView(cards, { width, onZoom, onPoint, onSwipe = () => {} }) {
  const MAX_ZOOM = 40;
  let view = { zoom: 1, x: 0, y: 0 }; // a point p of 0..1 appears at x + zoom * p
  const pointers = new Map(); // pointerId -> last place in its frame
  let gesture = null; // {frame, startX, startY}: of the first finger
  let lastScroll = 0;

  function apply() {
    for (const [name, value] of Object.entries(view)) cards.style.setProperty(`--${name}`, value);
    cards.classList.toggle("zoomed", view.zoom > 1);
    onZoom(view.zoom);
    // Pixels become squares when magnified; a shrunk map is averaged, lest poles vanish.
    const frame = [...cards.querySelectorAll(".frame")].find((one) => one.clientWidth);
    const pixel = width() && frame ? (frame.clientWidth * view.zoom) / width() : 1;
    cards.classList.toggle("magnified", pixel * devicePixelRatio >= 1);
  }

  function set({ zoom, x, y }) {
    const clamped = Math.min(MAX_ZOOM, Math.max(1, zoom));
    const inside = (offset) => Math.min(0, Math.max(1 - clamped, offset));
    view = { zoom: clamped, x: inside(x), y: inside(y) };
    apply();
  }

  function zoomAt(factor, px = 0.5, py = 0.5) {
    const zoom = Math.min(MAX_ZOOM, Math.max(1, view.zoom * factor));
    const ratio = zoom / view.zoom;
    set({ zoom, x: px - (px - view.x) * ratio, y: py - (py - view.y) * ratio });
  }

  const pan = (dx, dy) => set({ ...view, x: view.x + dx, y: view.y + dy });
  const fit = () => set({ zoom: 1, x: 0, y: 0 });

  function placeIn(frame, event) {
    const box = frame.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  }

  const toImage = ({ x, y }) => ({ x: (x - view.x) / view.zoom, y: (y - view.y) / view.zoom });

  function pointerDown(event) {
    const frame = event.target.closest(".frame");
    if (!frame || event.button !== 0) return;
    onPoint(toImage(placeIn(frame, event)));
    if (!pointers.size) gesture = { frame, startX: event.clientX, startY: event.clientY };
    if (event.pointerType === "mouse") frame.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, placeIn(gesture.frame, event));
  }

  function pointerMove(event) {
    const frame = event.target.closest(".frame");
    if (frame) onPoint(toImage(placeIn(frame, event)));
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = placeIn(gesture.frame, event);
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    pointers.set(event.pointerId, now);
    if (!other) {
      pan(now.x - before.x, now.y - before.y);
      return;
    }
    const box = gesture.frame.getBoundingClientRect();
    const apart = (p) => Math.hypot((p.x - other.x) * box.width, (p.y - other.y) * box.height);
    gesture.pinched = true;
    pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    zoomAt(apart(now) / Math.max(1, apart(before)), (now.x + other.x) / 2, (now.y + other.y) / 2);
  }

  function pointerEnd(event) {
    if (!pointers.delete(event.pointerId) || pointers.size) return;
    const dx = event.clientX - gesture.startX;
    const swiped = Math.abs(dx) > 50 && Math.abs(dx) > 2 * Math.abs(event.clientY - gesture.startY);
    const single = event.type === "pointerup" && event.pointerType === "touch";
    if (single && swiped && view.zoom === 1 && !gesture.pinched) onSwipe(-Math.sign(dx));
  }

  function wheel(event) {
    const frame = event.target.closest(".frame");
    // A page that is being scrolled goes on scrolling, and scrolls where there is
    // nothing left to zoom out of.
    if (!frame || (view.zoom === 1 && event.deltaY > 0)) return;
    if (!event.ctrlKey && event.timeStamp - lastScroll < 300) return;
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
    const place = placeIn(frame, event);
    zoomAt(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), place.x, place.y);
    onPoint(toImage(place));
  }

  cards.addEventListener("pointerdown", pointerDown);
  cards.addEventListener("pointermove", pointerMove);
  cards.addEventListener("pointerup", pointerEnd);
  cards.addEventListener("pointercancel", pointerEnd);
  cards.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") onPoint(null);
  });
  cards.addEventListener("wheel", wheel, { passive: false });
  addEventListener("scroll", (event) => (lastScroll = event.timeStamp));
  addEventListener("resize", apply);

  return { apply, set, zoomAt, pan, fit };
}
