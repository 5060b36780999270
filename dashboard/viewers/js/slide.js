// The slide viewer: OpenSeadragon over Deep Zoom tiles, layers over patches; mounted by dashboard/viewers/slide.py.
import OpenSeadragon from "openseadragon";
import { HOME, colour, coloured, element, keys, number, pressed, root, rows, states, tell } from "./panel.js";

const mounted = new WeakMap();

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
    this.stage = element("div", { class: "stage", tabindex: 0, role: "application" });
    this.said = element("div", { class: "said" });
    this.below = element("div");
    this.hint = element(
      "div", { class: "keys" },
      "Drag: move. Wheel over the focused picture, or + −: zoom. Arrows: move. Space: whole slide. Click: choose the patch.",
    );
    this.box.append(this.head, this.stage, this.said, this.below, this.hint);
    this.windows = element("div", { class: "windows" });
    this.stage.append(this.windows);
    this.panes = [];
    this.beside = false;
    this.listen();
  }

  close() {
    for (const pane of this.panes) pane.osd.destroy();
    this.box.remove();
  }

  async update(data) {
    const before = this.data;
    this.data = data;
    this.stage.style.height = `${data.stage}px`;
    this.stage.setAttribute("aria-label", data.alt);
    this.layers = states(data.layers, this.layers);
    this.drawn = states(data.outlines.map((each) => ({ ...each, opacity: 1, from: 0, low: 0, high: 1 })), this.drawn);
    if (!before || before.tiles !== data.tiles) this.reopen();
    else if (before.stained !== data.stained && this.beside) this.setBeside(Boolean(data.stained));
    await this.fetchOutlines();
    this.draw();
    this.say(null);
  }

  reopen() {
    for (const pane of this.panes) pane.osd.destroy();
    this.panes = [];
    this.windows.replaceChildren();
    this.hovered = null;
    this.pane(this.data.tiles, "as scanned");
    if (this.beside && this.data.stained) this.pane(this.data.stained, "stain-normalised");
  }

  pane(tiles, name) {
    const holder = element("div");
    const layer = element("canvas", { class: "layer", "aria-hidden": true });
    this.windows.append(holder);
    const { width, height_px: height, tile, overlap, levels } = this.data;
    const osd = OpenSeadragon({
      element: holder,
      drawer: "canvas",
      crossOriginPolicy: false,
      tileSources: {
        width, height, tileSize: tile, tileOverlap: overlap, minLevel: 0, maxLevel: levels - 1,
        getTileUrl: (level, x, y) => `${HOME}${tiles}/${level}/${x}_${y}.jpg`,
      },
      showNavigationControl: false,
      showNavigator: this.panes.length === 0,
      navigatorPosition: "TOP_RIGHT",
      navigatorAutoFade: false,
      navigatorBackground: "#222",
      navigatorDisplayRegionColor: "#ffc733",
      navigatorSizeRatio: 0.18,
      animationTime: 0.4,
      maxZoomPixelRatio: 4,
      visibilityRatio: 0.3,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      imageLoaderLimit: 6,
      timeout: 60000,
    });
    const made = {
      osd, holder, layer, name,
      scale: element("div", { class: "tag scale" }),
      power: element("div", { class: "tag power" }),
    };
    // OpenSeadragon empties its element when it starts.
    holder.append(layer, element("div", { class: "tag top" }, name), made.scale, made.power);
    this.panes.push(made);
    osd.innerTracker.keyHandler = null;
    osd.innerTracker.keyDownHandler = null;
    const paint = () => { this.paint(made); this.measure(made); };
    for (const event of ["open", "update-viewport", "resize", "animation"]) osd.addHandler(event, paint);
    for (const event of ["zoom", "pan"]) osd.addHandler(event, () => this.follow(made));
    osd.addHandler("tile-drawn", () => { this.stage.dataset.tiles = String(Number(this.stage.dataset.tiles ?? 0) + 1); });
    osd.addHandler("tile-load-failed", () => {
      this.stage.dataset.fault = "tiles";
      this.failed = true;
      this.say(null);
    });
    osd.addHandler("canvas-scroll", (event) => {
      if (this.stage.getRootNode().activeElement !== this.stage) { event.preventDefaultAction = true; event.preventDefault = false; }
    });
    osd.addHandler("canvas-click", (event) => { if (event.quick) this.clicked(made, event.position); });
    holder.addEventListener("pointermove", (event) => {
      const box = holder.getBoundingClientRect();
      if (!event.buttons) this.hover(made, new OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top));
    });
    holder.addEventListener("pointerleave", () => this.leave());
    return made;
  }

  setBeside(on) {
    this.beside = on;
    this.stage.dataset.beside = String(on);
    const view = this.panes[0]?.osd.viewport.getBounds(true);
    while (this.panes.length > 1) {
      const last = this.panes.pop();
      last.osd.destroy();
      last.holder.remove();
    }
    if (on && this.data.stained) {
      const made = this.pane(this.data.stained, "stain-normalised");
      made.osd.addOnceHandler("open", () => { if (view) made.osd.viewport.fitBounds(view, true); });
    }
    this.draw();
  }

  // Both windows show the same place; the one being moved leads.
  follow(from) {
    if (this.following) return;
    this.following = true;
    for (const pane of this.panes) {
      if (pane === from || !pane.osd.isOpen()) continue;
      pane.osd.viewport.zoomTo(from.osd.viewport.getZoom(), null, true);
      pane.osd.viewport.panTo(from.osd.viewport.getCenter(), true);
    }
    this.following = false;
  }

  // Level-0 px -> px of the window, as a scale and a shift.
  frame(pane) {
    const image = pane.osd.world.getItemAt(0);
    if (!image) return null;
    const origin = image.imageToViewerElementCoordinates(new OpenSeadragon.Point(0, 0));
    const along = image.imageToViewerElementCoordinates(new OpenSeadragon.Point(this.data.width, 0));
    return { x: origin.x, y: origin.y, scale: (along.x - origin.x) / this.data.width };
  }

  paint(pane) {
    const place = this.frame(pane);
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [pane.holder.clientWidth, pane.holder.clientHeight];
    if (pane.layer.width !== Math.round(width * ratio)) pane.layer.width = Math.round(width * ratio);
    if (pane.layer.height !== Math.round(height * ratio)) pane.layer.height = Math.round(height * ratio);
    const pen = pane.layer.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!place) return;
    const patches = this.data.patches;
    const spot = (index) => {
      const [x, y] = patches.xy[index];
      const left = Math.round(place.x + x * place.scale), top = Math.round(place.y + y * place.scale);
      const right = Math.round(place.x + (x + patches.size) * place.scale);
      const bottom = Math.round(place.y + (y + patches.size) * place.scale);
      return [left, top, right - left, bottom - top];
    };
    for (const layer of this.data.layers) {
      const state = this.layers.get(layer.name);
      if (!state.shown) continue;
      layer.values.forEach((value, index) => {
        const found = coloured(layer, state, value);
        if (!found) return;
        pen.fillStyle = colour(found, state.opacity);
        pen.fillRect(...spot(index));
      });
    }
    if (patches) {
      pen.lineWidth = 1;
      pen.strokeStyle = "rgba(20,20,20,0.55)";
      patches.xy.forEach((_, index) => pen.strokeRect(...spot(index).map((each, side) => (side < 2 ? each + 0.5 : each - 1))));
      const mark = (index, tone, thick) => {
        if (index == null || index >= patches.xy.length) return;
        pen.strokeStyle = "rgba(0,0,0,0.9)"; pen.lineWidth = thick + 2; pen.strokeRect(...spot(index));
        pen.strokeStyle = tone; pen.lineWidth = thick; pen.strokeRect(...spot(index));
      };
      mark(this.chosen, "#ffffff", 2);
      mark(this.hovered, "#ffc733", 3);
    }
    for (const each of this.data.outlines) this.outline(pen, place, each);
  }

  outline(pen, place, each) {
    const state = this.drawn.get(each.name);
    const features = this.shapes?.get(each.url);
    if (!state?.shown || !features) return;
    pen.strokeStyle = colour(each.colours[0], state.opacity);
    pen.fillStyle = colour(each.colours[0], state.opacity);
    pen.lineWidth = 2;
    for (const feature of features) {
      const shape = feature.geometry;
      const point = ([x, y]) => [place.x + x * place.scale, place.y + y * place.scale];
      const ring = (corners) => corners.forEach((corner, index) => (index ? pen.lineTo(...point(corner)) : pen.moveTo(...point(corner))));
      const lines = { Polygon: [shape.coordinates], MultiPolygon: shape.coordinates, LineString: [[shape.coordinates]], MultiLineString: [shape.coordinates] }[shape.type];
      if (lines) {
        pen.beginPath();
        lines.forEach((rings) => rings.forEach(ring));
        pen.stroke();
      } else for (const corner of shape.type === "MultiPoint" ? shape.coordinates : [shape.coordinates]) {
        pen.beginPath(); pen.arc(...point(corner), 4, 0, 7); pen.fill();
      }
    }
  }

  async fetchOutlines() {
    this.shapes ??= new Map();
    await Promise.all(this.data.outlines.map(async ({ url }) => {
      if (this.shapes.has(url)) return;
      const answer = await fetch(HOME + url);
      if (answer.ok) this.shapes.set(url, (await answer.json()).features.filter((each) => each.geometry));
    }));
  }

  // Scale bar and magnification, from microns per pixel; without them none, and said so.
  measure(pane) {
    const place = this.frame(pane);
    if (!place || !(place.scale > 0)) return;
    const mpp = this.data.mpp;
    if (mpp == null) {
      pane.scale.replaceChildren("no scale: microns per pixel unknown");
      pane.power.replaceChildren(`${number(place.scale * 100)} % of level 0`);
      return;
    }
    const longest = (pane.holder.clientWidth / 4 / place.scale) * mpp;
    const power = 10 ** Math.floor(Math.log10(longest));
    const length = [5, 2, 1].find((each) => each * power <= longest) * power;
    pane.scale.replaceChildren(
      length >= 1000 ? `${length / 1000} mm` : `${length} µm`,
      element("i", { style: `width:${(length / mpp) * place.scale}px` }),
    );
    // By the usual word for it: 40x is 0.25 microns per pixel.
    pane.power.replaceChildren(`≈ ${number(Number(((10 / mpp) * place.scale).toPrecision(2)))}×`);
  }

  at(pane, point) {
    const place = this.frame(pane);
    if (!place) return null;
    const [x, y] = [(point.x - place.x) / place.scale, (point.y - place.y) / place.scale];
    const patches = this.data.patches;
    const index = patches ? patches.xy.findIndex(([left, top]) => x >= left && x < left + patches.size && y >= top && y < top + patches.size) : -1;
    return { x, y, index: index < 0 ? null : index };
  }

  hover(pane, point) {
    const found = this.at(pane, point);
    if (!found) return;
    if (found.index !== this.hovered) {
      this.hovered = found.index;
      if (found.index !== null) {
        const mm = this.data.patches.places?.[found.index];
        if (mm) tell(this.data.link, { mm, patch: found.index });
      }
      for (const each of this.panes) this.paint(each);
      this.stage.dataset.patch = found.index === null ? "" : String(found.index);
    }
    this.say(found);
  }

  leave() {
    this.hovered = null;
    for (const each of this.panes) this.paint(each);
    this.say(null);
  }

  clicked(pane, point) {
    const found = this.at(pane, point);
    if (!found) return;
    this.chosen = found.index;
    for (const each of this.panes) this.paint(each);
    this.send?.("click", { x: found.x, y: found.y, patch: found.index });
  }

  say(found) {
    if (this.failed) {
      this.said.replaceChildren(element("b", {}, "Some tiles of the slide did not come. "), "Reload the page.");
      return;
    }
    const patches = this.data.patches;
    if (!found) {
      const count = patches ? `${patches.xy.length} patches were read from this slide. ` : "No patch was read from this slide. ";
      this.said.replaceChildren(count, patches && !patches.places ? element("b", {}, "Unregistered: ") : "",
        patches && !patches.places ? "its place on the MRI is not known." : patches ? "Point at one to see its place on the MRI." : "");
      return;
    }
    const mpp = this.data.mpp;
    const where = mpp == null ? `${found.x.toFixed(0)}, ${found.y.toFixed(0)} px` : `${number(Number(((found.x * mpp) / 1000).toFixed(2)))}, ${number(Number(((found.y * mpp) / 1000).toFixed(2)))} mm on the slide`;
    const words = [];
    if (found.index !== null) {
      words.push(" · ", element("b", {}, `patch ${found.index + 1}`));
      for (const layer of this.data.layers) {
        const value = layer.values[found.index];
        words.push(` · ${layer.name} `, element("b", {}, number(value)), layer.unit ? ` ${layer.unit}` : "");
      }
      const mm = patches.places?.[found.index];
      words.push(" · ", mm ? `on the MRI at ${mm.map((each, axis) => `${number(Math.abs(Number(each.toFixed(1))))} ${each < 0 ? "LPI"[axis] : "RAS"[axis]}`).join(", ")} mm` : element("b", {}, "unregistered"));
    }
    this.said.replaceChildren(where, ...words);
  }

  draw() {
    const beside = element("button", {
      type: "button", disabled: !this.data.stained, title: this.data.stained ? "the slide in the reference's colours, beside" : "no stain could be fitted on this slide",
      onclick: () => this.setBeside(!this.beside),
    }, "Stain-normalised beside");
    pressed(beside, this.beside);
    const zoom = (by) => () => { this.panes[0].osd.viewport.zoomBy(by); this.panes[0].osd.viewport.applyConstraints(); };
    this.head.replaceChildren(
      beside,
      element("span", { class: "gap" }),
      element("span", { class: "group" },
        element("button", { type: "button", title: "closer", "aria-label": "zoom in", onclick: zoom(1.5) }, "+"),
        element("button", { type: "button", title: "farther", "aria-label": "zoom out", onclick: zoom(1 / 1.5) }, "−")),
      element("button", { type: "button", title: "the whole slide", onclick: () => this.panes[0].osd.viewport.goHome() }, "Reset"),
    );
    const repaint = () => { for (const pane of this.panes) this.paint(pane); };
    const marks = this.data.outlines.map((each) => ({ ...each, mask: true, negative: null, high: 1 }));
    this.below.replaceChildren(
      rows(this.data.layers.map((layer) => ({ ...layer, fixedFrom: true })), this.layers, repaint),
      rows(marks, this.drawn, repaint),
    );
    repaint();
  }

  listen() {
    this.stage.addEventListener("pointerdown", () => this.stage.focus({ preventScroll: true }), true);
    keys(this.stage, (event) => {
      const port = this.panes[0]?.osd.viewport;
      if (!port) return false;
      const step = port.getBounds().width / 8;
      const moves = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
      if (moves[event.key]) port.panBy(new OpenSeadragon.Point(...moves[event.key].map((each) => each * step)));
      else if (["+", "="].includes(event.key)) port.zoomBy(1.5);
      else if (event.key === "-") port.zoomBy(1 / 1.5);
      else if (event.key === " ") port.goHome();
      else return false;
      port.applyConstraints();
      return true;
    });
  }
}
