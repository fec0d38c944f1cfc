// Pointer, wheel, touch and keys, as moves of the chart. A finger that goes up or down scrolls the page.

const STEP = 1.25;
const MOST_OF_A_CLICK = 5;

export function listen(element, chart) {
  const pointers = new Map();
  let pressed = null;
  let apart = 0;

  const place = (event) => {
    const box = element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const distance = () => {
    const [a, b] = [...pointers.values()];
    return { apart: Math.max(20, Math.abs(a.x - b.x)), middle: (a.x + b.x) / 2 };
  };

  element.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { x } = place(event);
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) chart.moveBy(event.deltaX);
    else if (event.deltaY) {
      // A wheel sends large steps, a touch pad many small ones.
      const lines = event.deltaMode === 1 ? event.deltaY * 40 : event.deltaY;
      chart.zoomBy(STEP ** Math.max(-2, Math.min(2, lines / 100)), x);
    }
  }, { passive: false });

  element.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    pointers.set(event.pointerId, place(event));
    element.setPointerCapture(event.pointerId);
    pressed = { ...place(event), moved: 0 };
    if (pointers.size === 2) ({ apart } = distance());
  });
  element.addEventListener("pointermove", (event) => {
    const now = place(event);
    const before = pointers.get(event.pointerId);
    if (!before) return chart.pointAt(now.x, now.y);
    pointers.set(event.pointerId, now);
    if (pressed) pressed.moved = Math.max(pressed.moved, Math.abs(now.x - pressed.x) + Math.abs(now.y - pressed.y));
    if (pointers.size === 2) {
      const next = distance();
      chart.zoomBy(apart / next.apart, next.middle);
      ({ apart } = next);
    } else if (pressed && pressed.moved > MOST_OF_A_CLICK) {
      element.dataset.drag = "";
      chart.moveBy(before.x - now.x);
    }
  });
  const release = (event) => {
    const wasOne = pointers.size === 1;
    pointers.delete(event.pointerId);
    delete element.dataset.drag;
    if (event.type === "pointerup" && wasOne && pressed && pressed.moved <= MOST_OF_A_CLICK) chart.keepAt(pressed.x, pressed.y);
    if (!pointers.size) pressed = null;
  };
  element.addEventListener("pointerup", release);
  element.addEventListener("pointercancel", release);
  element.addEventListener("pointerleave", (event) => pointers.size || event.pointerType === "touch" || chart.pointAway());
  element.addEventListener("dblclick", (event) => chart.zoomBy(1 / (STEP * STEP), place(event).x));

  const keys = {
    ArrowLeft: (event) => (event.shiftKey ? chart.moveBy(-chart.width / 2) : chart.stepBy(-1)),
    ArrowRight: (event) => (event.shiftKey ? chart.moveBy(chart.width / 2) : chart.stepBy(1)),
    PageUp: () => chart.moveBy(-chart.width),
    PageDown: () => chart.moveBy(chart.width),
    Home: () => chart.goToOldest(),
    End: () => chart.goToNewest(),
    Enter: () => chart.keep(),
    Escape: () => chart.letGo(),
    "+": () => chart.zoomBy(1 / STEP),
    "=": () => chart.zoomBy(1 / STEP),
    "-": () => chart.zoomBy(STEP),
  };
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key](event);
  });
}

export { STEP };
