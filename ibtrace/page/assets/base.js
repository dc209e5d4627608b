"use strict";
/* The page's data, its state, and the few things that all scripts use. */

const DATA = JSON.parse(document.getElementById("data").textContent);
const CLOCK = DATA.clock;
const NETWORK = "network";

/** An element with attributes and children; texts become text nodes, never HTML. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  made.append(...children);
  return made;
}

/** Numbers that Python packed as base64, read once. */
function unpacked(text, type) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = binary.charCodeAt(at);
  return new type(bytes.buffer);
}

/** A block's arrays, decoded when they are first asked for. */
function numbersOf(block) {
  if (!block.numbers) {
    const read = (name, type) => (block[name] === null ? null : unpacked(block[name], type));
    const index = (names) => (names.length > 255 ? Uint16Array : Uint8Array);
    const failing = Object.entries(block.fails);
    block.numbers = {
      values: read("values", Float32Array),
      flags: read("flags", index(DATA.flags)),
      fails: Object.fromEntries(failing.map(([at, text]) => [at, unpacked(text, index(DATA.fails))])),
      stderr: read("stderr", Float32Array),
      lower: read("lower", Float32Array),
      upper: read("upper", Float32Array),
    };
  }
  return block.numbers;
}

/** The looks of all runs, ascending. */
const LOOKS = [
  ...new Set(DATA.runs.flatMap((run) => [...run.blocks, ...run.maps].flatMap((part) => part.looks))),
].sort((a, b) => a - b);

const state = {
  at: LOOKS.length - 1,
  plane: 0, // which two variables are drawn
  hidden: { runs: new Set(), layers: new Set(), modules: new Set(), seeds: new Set() },
  estimators: new Set(),
  band: "interval",
  axis: "log",
  theme: "auto",
  changes: 0, // counts changes of what is shown, so that means are made once for each
};

const MODULES = [
  ...new Set(DATA.runs.flatMap((run) => run.blocks.flatMap((block) => block.layers))),
].filter((name) => name !== "" && !DATA.layers.includes(name));
const SEEDS = [...new Set(DATA.runs.flatMap((run) => run.seeds))].sort((a, b) => a - b);

function shownRuns() {
  return DATA.runs.filter((run, at) => !state.hidden.runs.has(at));
}

function isShown(layer) {
  if (layer === "") return true;
  const at = DATA.layers.indexOf(layer);
  if (at >= 0) return !state.hidden.layers.has(at);
  return !state.hidden.modules.has(MODULES.indexOf(layer));
}

function shownSeeds(block) {
  return block.seeds.map((seed, at) => at).filter((at) => {
    return !state.hidden.seeds.has(SEEDS.indexOf(block.seeds[at]));
  });
}

/** The two quantities of the plane that is drawn, across and upward. */
function axesNow() {
  return DATA.planes[state.plane];
}

function isInformation(quantity) {
  return DATA.planes.some((axes) => axes.includes(quantity));
}

function blockOf(run, quantity, instrument) {
  return run.blocks.find((b) => b.quantity === quantity && b.instrument === instrument);
}

/** The place of a look among ascending ones: the last that is not after it; -1 if all are. */
function placeOf(looks, look) {
  let low = 0;
  let high = looks.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (looks[middle] <= look) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function short(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(size < 1 ? 3 : 4)));
}

/** Text for the drawing library, which reads a small HTML of its own: names are no markup. */
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

/** A layer's group in legends: by its place, as the drawing library takes names for keys. */
function groupOf(layer) {
  return `layer ${[...DATA.layers, ...MODULES].indexOf(layer)}`;
}

function slug(text) {
  return text.replace(/[^\p{L}\p{N}.-]+/gu, "-").replace(/^[-.]+|[-.]+$/g, "").toLowerCase();
}

/* --- colours ------------------------------------------------------------------------------ */

// viridis without its palest, or in the dark without its darkest, tenth
const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779",
  "#6ece58", "#b5de2b", "#fde725"];
const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x",
  "triangle-left", "triangle-right", "star", "hexagon", "pentagon"];
const THEMES = {
  light: { ink: "#1d2330", soft: "#5b6475", grid: "#e4e7ee", paper: "#ffffff", span: [0, 0.85] },
  dark: { ink: "#e8ebf2", soft: "#a3abbd", grid: "#2c3342", paper: "#171b24", span: [0.3, 1] },
};

function mixed(at) {
  const place = Math.min(Math.max(at, 0), 1) * (VIRIDIS.length - 1);
  const first = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const share = place - first;
  const part = (hex, from) => parseInt(hex.slice(from, from + 2), 16);
  const channel = (from) =>
    Math.round(part(VIRIDIS[first], from) * (1 - share) + part(VIRIDIS[first + 1], from) * share);
  return [channel(1), channel(3), channel(5)];
}

/** Colour of the place-th of some in order, from dark to light as they lie in the network. */
function shade(place, count, theme, alpha = 1) {
  const [from, to] = THEMES[theme].span;
  const at = count < 2 ? 0.35 : place / (count - 1);
  return `rgba(${mixed(from + (to - from) * at).join(",")},${alpha})`;
}

function look(layer, theme, alpha = 1) {
  const known = DATA.layers.indexOf(layer);
  if (known >= 0) {
    const colour = shade(known, DATA.layers.length, theme, alpha);
    return { colour, symbol: SYMBOLS[known % SYMBOLS.length] };
  }
  const at = MODULES.indexOf(layer);
  if (at >= 0) {
    return { colour: shade(at, MODULES.length, theme, alpha), symbol: SYMBOLS[at % SYMBOLS.length] };
  }
  const grey = theme === "dark" ? "225,230,240" : "40,46,60";
  return { colour: `rgba(${grey},${alpha})`, symbol: "circle" };
}

function themeNow() {
  if (state.theme !== "auto") return state.theme;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}
