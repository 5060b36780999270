// The MRI viewer: NiiVue in three planes and 3-D; mounted by dashboard/viewers/mri.py.
import { DRAG_MODE, MULTIPLANAR_TYPE, NVImage, Niivue, SHOW_RENDER } from "@niivue/niivue";
import { HOME, LINK, element, keys, number, pressed, root, rows, states } from "./panel.js";

const mounted = new WeakMap();
// One image a layer: layers of equal content have one address, but each its own look.
const keyOf = ({ name, url }) => `${name} ${url}`;

export default async function (component) {
  let view = mounted.get(component.parentElement);
  if (!view) {
    view = new View(component.parentElement);
    mounted.set(component.parentElement, view);
  }
  view.send = component.setStateValue;
  await view.update(component.data);
  return () => { mounted.delete(component.parentElement); view.close(); };
}

class View {
  constructor(parent) {
    this.box = root(parent);
    this.head = element("div", { class: "bar" });
    this.canvas = element("canvas", { "aria-label": "MRI in three planes and 3-D" });
    this.holder = element("div", { class: "fill" }, this.canvas);
    this.scale = element("div", { class: "tag scale" });
    this.stage = element("div", { class: "stage", tabindex: 0, role: "application" }, this.holder, this.scale);
    this.said = element("div", { class: "said", "aria-live": "off" });
    this.below = element("div");
    this.hint = element(
      "div", { class: "keys" },
      "Click in the picture first. Drag: crosshair. Right button or Shift + drag: window. ↑ ↓ or wheel: slice. " +
        "+ −: zoom. 1–5: window presets. Space: reset. R L A P S I: patient's right, left, front, back, head, feet.",
    );
    this.box.append(this.head, this.stage, this.said, this.below, this.hint);
    this.images = new Map();
    this.three = true;
    this.drag = "crosshair";
    this.plane = null;
    this.onPlace = (event) => {
      if (event.detail.link === this.data?.link && event.detail.mm) this.goTo(event.detail.mm);
    };
    window.addEventListener(LINK, this.onPlace);
    this.listen();
    this.queue = Promise.resolve();
  }

  close() {
    window.removeEventListener(LINK, this.onPlace);
    this.closed = true;
    this.nv?.cleanup();
    this.nv?.gl?.getExtension("WEBGL_lose_context")?.loseContext();
    this.box.remove();
  }

  // One update after the other: a rerun may come while the volumes of the last are still on their way.
  update(data) {
    this.queue = this.queue.then(() => this.apply(data)).catch((fault) => this.fail(fault));
    return this.queue;
  }

  async apply(data) {
    if (this.closed) return;
    const before = this.data;
    this.data = data;
    this.stage.style.height = `${data.height}px`;
    this.stage.setAttribute("aria-label", data.alt);
    if (!this.nv) await this.open();
    if (!before || !data.contrasts.some((each) => each.name === this.contrast)) this.contrast = data.contrast;
    if (before && before.contrast !== data.contrast) this.contrast = data.contrast;
    this.layers = states(data.overlays, this.layers);
    await this.load();
    if (this.closed) return;
    this.draw();
    const asked = JSON.stringify(data.at);
    if (data.at && asked !== this.asked) this.goTo(data.at);
    this.asked = asked;
    this.stage.dataset.ready = String(Number(this.stage.dataset.ready ?? 0) + 1);
  }

  async open() {
    this.nv = new Niivue({
      isRadiologicalConvention: true,
      sagittalNoseLeft: true,
      showAllOrientationMarkers: true,
      isOrientationTextVisible: true,
      crosshairColor: [1, 0.78, 0.2, 0.9],
      crosshairWidth: 1,
      fontColor: [0.93, 0.94, 0.96, 1],
      fontMinPx: 14,
      fontSizeScaling: 0.3,
      backColor: [0.043, 0.051, 0.063, 1],
      multiplanarLayout: MULTIPLANAR_TYPE.GRID,
      multiplanarShowRender: SHOW_RENDER.ALWAYS,
      multiplanarPadPixels: 4,
      show3Dcrosshair: true,
      dragAndDropEnabled: false,
      isColorbar: false,
      loadingText: "loading the MRI",
      logLevel: "error",
    });
    this.setDrag(this.drag);
    await this.nv.attachToCanvas(this.canvas, false);
    // The 3-D view is cut open from the front, so that what lies inside is seen; the cut itself is not painted.
    this.nv.opts.clipPlaneColor = [0, 0, 0, 0];
    this.nv.setClipPlane([0, 180, 0]);
    this.nv.setRenderAzimuthElevation(200, 12);
    new ResizeObserver(() => requestAnimationFrame(() => this.measure())).observe(this.stage);
    this.nv.onLocationChange = () => this.tell();
    this.nv.onIntensityChange = () => { this.own = this.nv.volumes[0] && [this.nv.volumes[0].cal_min, this.nv.volumes[0].cal_max]; this.tell(); };
  }

  setDrag(name) {
    this.drag = name;
    const primary = { crosshair: DRAG_MODE.crosshair, window: DRAG_MODE.windowing, pan: DRAG_MODE.pan }[name];
    this.nv.opts.mouseEventConfig = {
      leftButton: { primary, withShift: DRAG_MODE.windowing, withCtrl: DRAG_MODE.pan },
      rightButton: DRAG_MODE.windowing,
      centerButton: DRAG_MODE.pan,
    };
    this.nv.opts.dragMode = DRAG_MODE.windowing;
  }

  base() { return this.data.contrasts.find((each) => each.name === this.contrast); }

  async image(layer, file) {
    const key = keyOf(layer);
    if (!this.images.has(key)) {
      const wanted = NVImage.loadFromUrl({ url: HOME + layer.url, name: `${file}.nii` });
      this.images.set(key, wanted);
      wanted.catch(() => this.images.delete(key));
    }
    return this.images.get(key);
  }

  async load() {
    const base = await this.image(this.base(), "contrast");
    const shown = this.data.overlays.filter((layer) => this.layers.get(layer.name).shown);
    const overlays = await Promise.all(shown.map((layer) => this.image(layer, "map")));
    if (this.closed) return;
    const chosen = this.base().windows[this.preset ?? 0] ?? this.base().windows[0];
    // NiiVue finds a window of its own whenever a colormap is set: ours comes after it, and only once.
    if (base.colormap !== "gray") base.colormap = "gray";
    if (this.windowOf !== this.base().url) {
      [base.cal_min, base.cal_max] = [chosen.low, chosen.high];
      this.windowOf = this.base().url;
    }
    base.opacity = 1;
    shown.forEach((layer, index) => this.dress(overlays[index], layer));
    const first = !this.nv.volumes.length;
    if (first) this.nv.addVolume(base);
    this.nv.volumes = [base, ...overlays];
    this.nv.back = base;
    this.nv.overlays = overlays;
    this.nv.updateGLVolume();
    const kept = new Set([...this.data.contrasts, ...this.data.overlays].map(keyOf));
    for (const key of this.images.keys()) if (!kept.has(key)) this.images.delete(key);
    if (first) this.tell();
  }

  dress(image, layer) {
    const state = this.layers.get(layer.name);
    // NiiVue hides what is below cal_min but paints an exact 0, unless the first of the 256 colours lets through.
    const table = (colours, hidden) => {
      let all = colours.length > 1 ? colours : [colours[0], colours[0]];
      let places = all.map((_, index) => Math.round((index * 255) / (all.length - 1)));
      if (hidden) [all, places] = [[all[0], ...all], [0, 1, ...places.slice(1)]];
      return {
        R: all.map((each) => each[0]), G: all.map((each) => each[1]), B: all.map((each) => each[2]),
        A: all.map((_, index) => (hidden && index === 0 ? 0 : 255)), I: places,
      };
    };
    const name = `cmssd ${layer.name}`;
    this.nv.addColormap(name, table(layer.colours, layer.mask || layer.negative || state.from > 0));
    image.colormap = name;
    image.colormapNegative = "";
    if (layer.negative) {
      this.nv.addColormap(`${name} negative`, table(layer.negative, true));
      image.colormapNegative = `${name} negative`;
    }
    // 2: colours run from 0, what is below cal_min is hidden; 0: they run from cal_min. (1, in spite of its name in NiiVue,
    // multiplies the opacity by (value / cal_min) squared, so that nearly everything is opaque.)
    image.colormapType = layer.low === 0 || layer.negative ? 2 : 0;
    image.cal_min = layer.mask ? 0.5 : image.colormapType === 2 ? Math.max(state.from, 1e-9) : Math.max(state.from, layer.low);
    image.cal_max = layer.mask ? 1 : state.to;
    image.opacity = state.opacity;
  }

  draw() {
    const contrasts = this.data.contrasts.map((each) => {
      const button = element("button", {
        type: "button", title: `show ${each.name.toUpperCase()}`,
        onclick: () => { this.contrast = each.name; this.update(this.data); },
      }, each.name.toUpperCase());
      pressed(button, each.name === this.contrast);
      return button;
    });
    const presets = element("select", {
      "aria-label": "window preset", onchange: (event) => this.window(Number(event.target.value)),
    }, ...this.base().windows.map((each, index) => element("option", { value: index }, `${index + 1} ${each.name}`)));
    presets.value = String(this.preset ?? 0);
    const drags = element("select", { "aria-label": "what dragging does", onchange: (event) => this.setDrag(event.target.value) },
      ...["crosshair", "window", "pan"].map((each) => element("option", { value: each }, each)));
    drags.value = this.drag;
    const three = element("button", { type: "button", title: "show or hide the 3-D view", onclick: () => this.showThree(!this.three) }, "3-D");
    pressed(three, this.three);
    const smooth = element("button", { type: "button", title: "voxels as they are, not smoothed", onclick: () => {
      this.raw = !this.raw;
      this.nv.setInterpolation(this.raw);
      pressed(smooth, this.raw);
    } }, "Voxels");
    pressed(smooth, Boolean(this.raw));
    this.head.replaceChildren(
      element("span", { class: "group", role: "group", "aria-label": "contrast" }, ...contrasts),
      element("label", {}, "Window", presets),
      element("label", {}, "Drag", drags),
      element("span", { class: "gap" }),
      smooth, three,
      element("button", { type: "button", title: "whole picture, first window", onclick: () => this.reset() }, "Reset"),
    );
    this.below.replaceChildren(rows(this.data.overlays, this.layers, async (layer, state) => {
      const image = this.images.get(keyOf(layer));
      if (this.nv.volumes.includes(await image) !== state.shown) { await this.load(); this.tell(); return; }
      if (!state.shown) return;
      this.dress(await image, layer);
      this.nv.updateGLVolume();
    }));
    this.tell();
  }

  showThree(on) {
    this.three = on;
    this.nv.opts.multiplanarShowRender = on ? SHOW_RENDER.ALWAYS : SHOW_RENDER.NEVER;
    this.nv.drawScene();
    this.draw();
  }

  window(index) {
    const chosen = this.base().windows[index];
    if (!chosen || !this.nv.volumes.length) return;
    this.preset = index;
    const image = this.nv.volumes[0];
    [image.cal_min, image.cal_max] = [chosen.low, chosen.high];
    this.nv.updateGLVolume();
    this.draw();
  }

  reset() {
    this.nv.setPan2Dxyzmm([0, 0, 0, 1]);
    this.nv.setScale(1);
    this.window(0);
  }

  goTo(mm) {
    if (!this.nv?.volumes.length) return;
    this.nv.scene.crosshairPos = this.nv.mm2frac(mm, 0, true);
    this.nv.drawScene();
    this.tell();
  }

  place() { return [...this.nv.frac2mm(this.nv.scene.crosshairPos, 0, true)].slice(0, 3); }

  // What lies at a place: the contrast's value, and each drawn map's.
  values(mm) {
    const value = (image) => {
      const voxel = image.mm2vox([...mm]);
      const inside = [0, 1, 2].every((axis) => voxel[axis] >= 0 && voxel[axis] < image.dimsRAS[axis + 1]);
      return inside ? image.getValue(voxel[0], voxel[1], voxel[2]) : null;
    };
    const shown = this.data.overlays.filter((layer) => this.layers.get(layer.name).shown);
    return [
      [this.contrast.toUpperCase(), value(this.nv.volumes[0]), ""],
      ...shown.slice(0, this.nv.volumes.length - 1).map((layer, index) => {
        const found = value(this.nv.volumes[index + 1]);
        return [layer.name, layer.mask ? (found > 0.5 ? "yes" : "no") : found, layer.unit];
      }),
    ];
  }

  tell(pointed = null) {
    if (!this.nv?.volumes.length) return;
    const mm = pointed ?? this.place();
    const [r, a, s] = mm;
    const side = (value, letters) => `${Math.abs(value).toFixed(1)} ${letters[value < 0 ? 0 : 1]}`;
    const where = `${side(r, "LR")}, ${side(a, "PA")}, ${side(s, "IS")} mm`;
    const words = this.values(mm).flatMap(([name, value, unit]) => [
      ` · ${name} `, element("b", {}, typeof value === "string" ? value : number(value)), unit ? ` ${unit}` : "",
    ]);
    const image = this.nv.volumes[0];
    this.said.replaceChildren(
      pointed ? "Under the cursor: " : "Crosshair: ", where, ...words,
      ` · window ${number(image.cal_min)} to ${number(image.cal_max)}`,
    );
    const at = this.place();
    this.stage.dataset.mm = at.map((each) => each.toFixed(2)).join(",");
    this.stage.dataset.window = `${image.cal_min},${image.cal_max}`;
    this.measure();
  }

  // A scale bar, from the mm that lie between two points of the largest plane: all planes share one scale.
  measure() {
    const planes = this.nv?.volumes.length ? this.nv.screenSlices.filter((each) => each.axCorSag <= 2) : [];
    if (!planes.length) return;
    const wide = planes.reduce((one, other) => (other.leftTopWidthHeight[2] > one.leftTopWidthHeight[2] ? other : one));
    const [left, top, width, height] = wide.leftTopWidthHeight;
    const tile = this.nv.screenSlices.indexOf(wide);
    const [one, other] = [0.3, 0.7].map((share) => {
      const frac = this.nv.screenXY2TextureFrac(left + share * width, top + height / 2, tile, false);
      return [...this.nv.frac2mm(frac, 0, true)].slice(0, 3);
    });
    const mm = Math.hypot(...one.map((each, axis) => each - other[axis]));
    const px = (0.4 * width) / (this.nv.uiData.dpr ?? 1);
    if (!(mm > 0) || !(px > 0)) return;
    const longest = (90 * mm) / px;
    const power = 10 ** Math.floor(Math.log10(longest));
    const length = [5, 2, 1].find((each) => each * power <= longest) * power;
    this.scale.replaceChildren(`${length} mm`, element("i", { style: `width:${(length * px) / mm}px` }));
    this.stage.dataset.pxPerMm = (px / mm).toFixed(3);
  }

  under(event) {
    const box = this.canvas.getBoundingClientRect();
    const dpr = this.nv.uiData.dpr ?? 1;
    const [x, y] = [(event.clientX - box.left) * dpr, (event.clientY - box.top) * dpr];
    const tile = this.nv.tileIndex(x, y);
    const plane = tile < 0 ? null : this.nv.screenSlices[tile].axCorSag;
    if (plane === null || plane > 2) return null;
    const frac = this.nv.screenXY2TextureFrac(x, y, tile);
    return frac[0] < 0 ? null : { plane, mm: [...this.nv.frac2mm(frac, 0, true)].slice(0, 3) };
  }

  listen() {
    let down = null;
    this.stage.addEventListener("pointerdown", (event) => { this.stage.focus({ preventScroll: true }); down = event; }, true);
    this.stage.addEventListener("pointerup", (event) => {
      const still = down && Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) < 4;
      const plain = event.button === 0 && !event.shiftKey && !event.ctrlKey;
      if (!still || !plain || !this.nv?.volumes.length || !this.under(event)) return;
      // NiiVue moves the crosshair on the mouse event that follows this pointer event.
      setTimeout(() => this.send?.("click", { mm: this.place(), contrast: this.contrast }), 0);
    }, true);
    this.stage.addEventListener("pointermove", (event) => {
      if (!this.nv?.volumes.length || event.buttons) return;
      const found = this.under(event);
      if (found) this.plane = found.plane;
      this.tell(found?.mm);
    });
    this.stage.addEventListener("pointerleave", () => this.tell());
    // Unfocused, the wheel scrolls the page.
    this.stage.addEventListener("wheel", (event) => {
      if (this.stage.getRootNode().activeElement !== this.stage) event.stopImmediatePropagation();
      else requestAnimationFrame(() => this.tell());
    }, { capture: true, passive: true });
    this.stage.addEventListener("contextmenu", (event) => event.preventDefault());
    keys(this.stage, (event) => {
      if (!this.nv?.volumes.length) return false;
      if ("12345".includes(event.key)) this.window(Number(event.key) - 1);
      else if (["ArrowUp", "PageUp"].includes(event.key)) this.step(1);
      else if (["ArrowDown", "PageDown"].includes(event.key)) this.step(-1);
      else if (["+", "="].includes(event.key)) this.zoom(1.25);
      else if (event.key === "-") this.zoom(0.8);
      else if (event.key === " ") this.reset();
      else return false;
      return true;
    });
  }

  step(by) {
    const spacing = [...this.nv.volumes[0].pixDimsRAS].slice(1, 4);
    const across = spacing.indexOf(Math.max(...spacing));
    const axis = this.plane === null ? across : [2, 1, 0][this.plane];
    const move = [0, 0, 0];
    move[axis] = by;
    this.nv.moveCrosshairInVox(...move);
    this.tell();
  }

  zoom(by) {
    const [x, y, z, now] = this.nv.scene.pan2Dxyzmm;
    this.nv.setPan2Dxyzmm([x, y, z, Math.min(20, Math.max(0.5, now * by))]);
    this.measure();
  }

  fail(fault) {
    this.said.replaceChildren(
      element("b", {}, "The MRI could not be drawn here. "),
      this.nv?.gl ? `The images did not come (${fault.message}); reload the page.` :
        "This browser gives no WebGL 2; turn on hardware acceleration, or take another browser.",
    );
    this.stage.dataset.fault = String(fault);
  }
}
