// Image, heat map and regions move as one: the wheel zooms at the pointer, dragging moves, Escape goes back.
const SCALE_MAX = 16;

export const zoomable = (stage, picture) => {
  let scale = 1, x = 0, y = 0, held = null;
  const apply = () => {
    picture.style.transform = scale === 1 ? "" : `translate(${x}px, ${y}px) scale(${scale})`;
    stage.classList.toggle("zoomed", scale > 1);
  };
  const reset = () => {
    [scale, x, y] = [1, 0, 0];
    apply();
  };
  const zoomAt = (clientX, clientY, to) => {
    const frame = picture.getBoundingClientRect();
    const next = Math.max(1, Math.min(SCALE_MAX, to));
    if (next === 1) return reset();
    const [dx, dy] = [(clientX - frame.left) / scale, (clientY - frame.top) / scale];
    x += dx * (scale - next);
    y += dy * (scale - next);
    scale = next;
    apply();
  };
  /** Show a part of the picture, in fractions of its width and height. */
  const zoomTo = (left, top, width, height) => {
    reset();
    const frame = picture.getBoundingClientRect();
    const area = stage.getBoundingClientRect();
    const to = Math.max(1.5, Math.min(SCALE_MAX, 0.5 / Math.max(width, height, 0.01)));
    x = area.left + area.width / 2 - frame.left - (left + width / 2) * frame.width * to;
    y = area.top + area.height / 2 - frame.top - (top + height / 2) * frame.height * to;
    scale = to;
    apply();
  };
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomAt(event.clientX, event.clientY, scale * Math.exp(-event.deltaY / 400));
  }, { passive: false });
  stage.addEventListener("pointerdown", (event) => {
    if (scale === 1) return;
    held = [event.clientX - x, event.clientY - y];
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!held) return;
    [x, y] = [event.clientX - held[0], event.clientY - held[1]];
    apply();
  });
  stage.addEventListener("pointerup", () => { held = null; });
  stage.addEventListener("dblclick", (event) => (scale > 1 ? reset() : zoomAt(event.clientX, event.clientY, 3)));
  return { reset, zoomTo };
};
