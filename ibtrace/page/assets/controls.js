/* Toggles: what is shown. Each is a checkbox of its own, in a group with a name. */

function changed() {
  state.changes += 1;
  redraw();
}

function swatch(layer) {
  const space = "http://www.w3.org/2000/svg";
  const image = document.createElementNS(space, "svg");
  image.setAttribute("viewBox", "0 0 10 10");
  image.setAttribute("aria-hidden", "true");
  image.classList.add("swatch");
  const mark = document.createElementNS(space, "path");
  mark.setAttribute("d", SWATCHES[look(layer, "light").symbol]);
  image.append(mark);
  image.dataset.layer = layer;
  return image;
}

const SWATCHES = {
  circle: "M5 1a4 4 0 1 0 .01 0z",
  square: "M1.5 1.5h7v7h-7z",
  "triangle-up": "M5 1l4.3 7.5H.7z",
  diamond: "M5 .5L9.5 5 5 9.5.5 5z",
  "triangle-down": "M5 9L.7 1.5h8.6z",
  cross: "M3.5 1h3v2.5H9v3H6.5V9h-3V6.5H1v-3h2.5z",
  x: "M2.5 1L5 3.5 7.5 1 9 2.5 6.5 5 9 7.5 7.5 9 5 6.5 2.5 9 1 7.5 3.5 5 1 2.5z",
  "triangle-left": "M1 5l7.5-4.3v8.6z",
  "triangle-right": "M9 5L1.5.7v8.6z",
  star: "M5 .5l1.2 3h3.3L6.9 5.5l1 3.5L5 7 2.1 9l1-3.5L.5 3.5h3.3z",
  hexagon: "M5 .7l3.8 2.2v4.2L5 9.3 1.2 7.1V2.9z",
  pentagon: "M5 .8l4.2 3.1-1.6 5H2.4L.8 3.9z",
};

function paintSwatches(within = document) {
  for (const image of within.querySelectorAll(".swatch")) {
    image.firstChild.setAttribute("fill", look(image.dataset.layer, themeNow()).colour);
  }
}

/** A group of checkboxes. */
function group(title, items, { isOn, turn, mark }) {
  if (items.length < 2) return;
  const boxes = items.map((name, at) => {
    const box = element("input", { type: "checkbox", checked: isOn(at) });
    box.addEventListener("change", () => {
      turn(at, box.checked);
      changed();
    });
    return [box, element("label", { class: "chip" }, box, ...(mark ? [swatch(name)] : []),
      element("span", {}, name))];
  });
  const all = (on) => {
    boxes.forEach(([box], at) => {
      box.checked = on;
      turn(at, on);
    });
    changed();
  };
  const buttons = element("span", { class: "buttons" },
    button("all", `All ${title.toLowerCase()}`, () => all(true)),
    button("none", `No ${title.toLowerCase()}`, () => all(false)));
  document.querySelector("#filters .groups").append(
    element("fieldset", {}, element("legend", {}, title, " ", buttons),
      element("div", { class: "chips" }, ...boxes.map(([, label]) => label))));
}

/** A group whose hidden members are kept in the state. */
function hiding(title, key, items, mark) {
  const hidden = state.hidden[key];
  group(title, items, {
    isOn: (at) => !hidden.has(at),
    turn: (at, on) => (on ? hidden.delete(at) : hidden.add(at)),
    mark,
  });
}

/** A choice of one. */
function choice(title, key, options) {
  const list = element("select", {},
    ...options.map(([value, name]) => element("option", { value }, name)));
  list.addEventListener("change", () => {
    state[key] = typeof state[key] === "number" ? Number(list.value) : list.value;
    if (key === "theme") dressed();
    changed();
  });
  return element("label", { class: "choice" }, title, " ", list);
}

/** The page in the colours that were chosen. */
function dressed() {
  if (state.theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = state.theme;
  paintSwatches();
}

function addControls() {
  const first = DATA.estimators.findIndex(hasPlane);
  state.estimators.add(Math.max(first, 0));
  hiding("Runs", "runs", DATA.runs.map((run) => run.name));
  group("Estimators", DATA.estimators, {
    isOn: (at) => state.estimators.has(at),
    turn: (at, on) => (on ? state.estimators.add(at) : state.estimators.delete(at)),
  });
  hiding("Layers", "layers", DATA.layers, true);
  hiding("Modules", "modules", MODULES, true);
  hiding("Seeds", "seeds", SEEDS.map(String));
  document.querySelector("#filters .groups").append(
    element("div", { class: "choices" },
      ...(DATA.planes.length > 1 ? [choice("Variables", "plane", DATA.planes.map(([across, upward], at) =>
        [at, `${upward} against ${across}`]))] : []),
      choice("Bands", "band", [
        ["interval", `${100 * DATA.confidence} % interval of the mean`],
        ["spread", "80 % of the seeds"],
        ["none", "none"],
      ]),
      choice(`${CLOCK[0].toUpperCase()}${CLOCK.slice(1)}s`, "axis", [
        ["log", "logarithmic"],
        ["linear", "linear"],
      ]),
      choice("Colours", "theme", [["auto", "as the system"], ["light", "light"], ["dark", "dark"]])));
  paintSwatches();
}
