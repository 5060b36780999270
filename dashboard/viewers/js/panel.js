// What both viewers share: elements, numbers, rows of layers with opacity and range, and the word between viewers.
import css from "./viewer.css";

// Where the program is served: this very script lies at <home>/viewers/<name>.js, and a proxy may have put a path in front.
export const HOME = new URL("..", import.meta.url).href.replace(/\/$/, "");

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") made.style.cssText = value;
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

export function root(parent) {
  const made = element("div", { class: "viewer" });
  parent.append(element("style", {}, css), made);
  return made;
}

// Four digits that mean something, whatever the size of the number.
export function number(value) {
  if (value == null || !Number.isFinite(value)) return "not known";
  const size = Math.abs(value);
  if (size >= 1000) return value.toFixed(0);
  if (size !== 0 && size < 0.001) return value.toExponential(1);
  return String(Number(value.toPrecision(4)));
}

export function colour([r, g, b], alpha = 1) {
  return `rgba(${r},${g},${b},${alpha})`;
}

// The colour of a value: from the layer's table, or its two tables where it is signed. null = nothing to show.
export function coloured(layer, state, value) {
  if (value == null || !Number.isFinite(value)) return null;
  if (layer.negative) {
    const table = value < 0 ? layer.negative : layer.colours;
    return at(table, Math.abs(value) / (state.to || 1));
  }
  return at(layer.colours, (value - layer.low) / (state.to - layer.low || 1));
}

function at(table, share) {
  return table[Math.round(Math.min(1, Math.max(0, share)) * (table.length - 1))];
}

export function ramp(layer) {
  const stops = layer.negative ? [...layer.negative].reverse().concat(layer.colours) : layer.colours;
  const list = stops.length > 1 ? stops : [stops[0], stops[0]];
  return `linear-gradient(90deg, ${list.map((each) => colour(each)).join(",")})`;
}

// A reader's own choices outlive a rerun as long as Python asks for the same as before.
export function states(layers, before) {
  const made = new Map();
  for (const layer of layers) {
    const asked = JSON.stringify([layer.shown, layer.opacity, layer.from, layer.low, layer.high]);
    const known = before?.get(layer.name);
    made.set(
      layer.name,
      known?.asked === asked
        ? known
        : { asked, shown: layer.shown, opacity: layer.opacity, from: layer.from, to: layer.high },
    );
  }
  return made;
}

export function rows(layers, known, changed) {
  const made = layers.map((layer) => {
    const state = known.get(layer.name);
    const tick = element("input", {
      type: "checkbox",
      onchange: (event) => {
        state.shown = event.target.checked;
        event.target.closest(".row").classList.toggle("off", !state.shown);
        changed(layer, state);
      },
    });
    tick.checked = state.shown;
    const much = element("input", {
      type: "range", min: 0, max: 1, step: 0.05, value: state.opacity, "aria-label": `opacity of ${layer.name}`,
      oninput: (event) => {
        state.opacity = Number(event.target.value);
        event.target.nextElementSibling.textContent = `${Math.round(state.opacity * 100)} %`;
        changed(layer, state);
      },
    });
    const end = (field, label) => {
      const input = element("input", {
        type: "number", step: "any", value: Number(state[field].toPrecision(4)), "aria-label": `${label} of ${layer.name}`,
        title: label,
        onchange: (event) => {
          const value = Number(event.target.value);
          const good = event.target.value !== "" && Number.isFinite(value) &&
            (field === "to" ? value > Math.max(state.from, layer.negative ? 0 : layer.low) : value < state.to);
          if (good) { state[field] = value; changed(layer, state); }
          else event.target.value = Number(state[field].toPrecision(4));
        },
      });
      return input;
    };
    const bar = element("div", { class: "ramp", style: `background:${ramp(layer)}`, "aria-hidden": true });
    let ends;
    if (layer.mask) ends = element("div", { class: "ends" }, bar);
    else if (layer.fixedFrom) {
      const low = element("span", {}, number(layer.negative ? -state.to : layer.low));
      ends = element("div", { class: "ends" }, low, bar, end("to", "value of the last colour"));
      ends.addEventListener("change", () => { low.textContent = number(layer.negative ? -state.to : layer.low); });
    } else ends = element("div", { class: "ends" }, end("from", "hidden below"), bar, end("to", "value of the last colour"));
    return element(
      "div", { class: state.shown ? "row" : "row off", "data-layer": layer.name },
      element("label", { class: "name" }, tick, layer.name + (layer.unit ? ` (${layer.unit})` : "")),
      ends,
      element("div", { class: "much" }, much, element("span", {}, `${Math.round(state.opacity * 100)} %`)),
      layer.meaning ? element("div", { class: "meaning" }, layer.meaning) : null,
    );
  });
  return element("div", { class: "rows" }, ...made);
}

// Viewers of one page that share a link move together, without asking Python.
export const LINK = "cmssd:place";
export function tell(link, detail) {
  if (link) window.dispatchEvent(new CustomEvent(LINK, { detail: { link, ...detail } }));
}

// Keys act in the focused viewer only, and Streamlit's own (r, c) never hear them.
export function keys(stage, act) {
  const quiet = (event) => event.stopPropagation();
  stage.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.key === "Tab" || event.key === "Escape") return;
    if (act(event)) event.preventDefault();
    event.stopImmediatePropagation();
  }, true);
  stage.addEventListener("keyup", quiet, true);
  stage.addEventListener("keypress", quiet, true);
}

export function pressed(button, on) {
  button.setAttribute("aria-pressed", on ? "true" : "false");
}
