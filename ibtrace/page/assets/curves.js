/* Quantities against the look: one panel for each quantity of each instrument. */

function blockRuns(quantity, instrument) {
  return shownRuns().filter((run) => {
    const block = blockOf(run, quantity, instrument);
    return block && block.layers.some((layer) => isShown(layer) && curve(block, layer).length);
  });
}

function bandOf(points) {
  if (state.band === "none") return null;
  const [low, high] = state.band === "interval" ? ["lower", "upper"] : ["low", "high"];
  return points.every((point) => Number.isFinite(point[low])) && points.length > 1
    ? { low: points.map((point) => point[low]), high: points.map((point) => point[high]) }
    : null;
}

function curveHover(block, layer, point) {
  const lines = [
    `<b>${plain(layer || NETWORK)}</b> · ${CLOCK} ${point.look.toLocaleString("en")}`,
    `${plain(block.quantity)} ${plain(told(block, point))}`,
  ];
  if (point.n > 1) lines.push(`mean of ${point.n} seeds [${100 * DATA.confidence} % interval]`);
  const own = ownError(block, layer, point.place);
  const flags = flagsAt(block, layer, point.place);
  if (own) lines.push(own);
  const fails = failsAt(block, layer, point.place);
  if (flags) lines.push(`flagged ${plain(flags)}`);
  if (fails) lines.push(`fails: ${plain(fails)}`);
  return lines.join("<br>");
}

/** Marks at even distances tell curves apart without their colours. */
function marked(count) {
  const apart = Math.max(1, Math.ceil(count / 8));
  return Array.from({ length: count }, (_, at) => (count < 10 || at % apart === 0 ? 7 : 0));
}

function curveTraces(block, layer, axes, { theme, legend }) {
  const points = curve(block, layer);
  const { colour, symbol } = look(layer, theme);
  const x = points.map((point) => placeOnAxis(point.look));
  const shared = { type: "scatter", ...axes, legendgroup: groupOf(layer), showlegend: false };
  const band = bandOf(points);
  const hollow = points.map((point) => isHollow(block, layer, point.place));
  const traces = [];
  if (band) {
    traces.push({
      ...shared, mode: "lines", hoverinfo: "skip", line: { width: 0 }, fill: "toself",
      fillcolor: look(layer, theme, 0.2).colour,
      x: [...x, ...[...x].reverse()], y: [...band.high, ...[...band.low].reverse()],
    });
  }
  traces.push({
    ...shared, mode: "lines+markers", x, y: points.map((point) => point.mean),
    name: plain(layer || NETWORK), showlegend: legend,
    line: { color: colour, width: 1.8 },
    marker: {
      color: hollow.map((fails) => (fails ? THEMES[theme].paper : colour)), symbol,
      size: marked(points.length),
      line: { color: THEMES[theme].soft, width: hollow.map((fails) => (fails ? 1.5 : 0)) },
    },
    hoverinfo: "text", hovertext: points.map((point) => curveHover(block, layer, point)),
    customdata: points.map((point) => point.look),
  });
  return traces;
}

/** Whether an axis is to be logarithmic: all positive, and over more than three decades. */
function isWide(blocks) {
  const means = blocks.flatMap((block) =>
    block.layers.filter(isShown).flatMap((layer) => curve(block, layer).map((point) => point.mean)));
  const [least, most] = means.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, 0]);
  return least > 0 && most / least > 1000;
}

function curveSpec(quantity, instrument, options) {
  const { theme, width, legend } = options;
  const runs = blockRuns(quantity, instrument);
  const blocks = runs.map((run) => blockOf(run, quantity, instrument));
  const log = !isInformation(quantity) && isWide(blocks);
  const unit = unitOf(blocks[0]).trim();
  const layout = gridOf(runs.map((run) => run.name), {
    theme, width, height: width < 560 ? 220 : 260, x: lookAxis(),
    y: {
      title: { text: plain(unit ? `${quantity} (${unit})` : quantity), standoff: 6 },
      ...(log ? { type: "log", exponentformat: "power", dtick: 1 } : {}),
    },
  });
  const data = [];
  runs.forEach((run, at) => {
    const axes = { xaxis: at ? `x${at + 1}` : "x", yaxis: at ? `y${at + 1}` : "y" };
    const most = factsOf(run, instrument)?.most ?? {};
    if (most[quantity]) ceilingLine(layout, most[quantity], at, theme, true);
    for (const layer of blocks[at].layers.filter(isShown)) {
      data.push(...curveTraces(blocks[at], layer, axes, { theme, legend: legend && at === 0 }));
    }
  });
  return { data, layout };
}

const PEEKED = 25; // looks in the table; the CSV has all

function curvePeek(quantity, instrument) {
  const rows = blockRuns(quantity, instrument).flatMap((run) => {
    const block = blockOf(run, quantity, instrument);
    return block.layers.filter(isShown).flatMap((layer) => {
      const points = curve(block, layer);
      const step = Math.max(1, Math.ceil(points.length / PEEKED));
      return points
        .filter((_, at) => (points.length - 1 - at) % step === 0)
        .map((point) => [layer || NETWORK, run.name || "–", String(point.look), told(block, point),
          String(point.n), flagsAt(block, layer, point.place) || "–",
          failsAt(block, layer, point.place) || "–"]);
    });
  });
  return { head: ["layer", "run", CLOCK, quantity, "seeds", "flags", "fails"], rows };
}

function addCurve(section, id, quantity, instrument, title, note, shown, within) {
  addPanel({
    id, section, title, note, within,
    moves: false,
    cursors: () => blockRuns(quantity, instrument).length,
    shown: () => shown() && blockRuns(quantity, instrument).length > 0,
    spec: (options) => curveSpec(quantity, instrument, options),
    layers: () => [...new Set(blockRuns(quantity, instrument).flatMap((run) =>
      blockOf(run, quantity, instrument).layers.filter(isShown)))],
    rows: () => blockRuns(quantity, instrument).flatMap((run) =>
      rowsOf(run, blockOf(run, quantity, instrument))),
    peek: () => curvePeek(quantity, instrument),
  });
}

function addCurves() {
  DATA.estimators.forEach((estimator, at) => {
    [...new Set(DATA.planes.flat())].forEach((quantity, which) => {
      if (!DATA.runs.some((run) => blockOf(run, quantity, estimator))) return;
      addCurve("curves", `curve-${at}-${which}`, quantity, estimator,
        `${quantity} by ${estimator}`, () => (axesNow()[0] === quantity ? estimandOf(estimator) : ""),
        () => state.estimators.has(at) && axesNow().includes(quantity));
    });
  });
  const others = new Map();
  // what the training logged before what lenses read
  const logged = (block) => block.instrument === "" && block.layers.includes("");
  for (const run of DATA.runs) {
    const first = run.blocks.filter(logged);
    for (const { quantity, instrument } of [...first, ...run.blocks]) {
      if (!isInformation(quantity)) {
        others.set(JSON.stringify([quantity, instrument]), [quantity, instrument]);
      }
    }
  }
  const groups = new Map(); // by what read them
  [...others.values()].forEach(([quantity, instrument], at) => {
    if (!groups.has(instrument)) groups.set(instrument, []);
    groups.get(instrument).push([at, quantity]);
  });
  for (const [instrument, panels] of groups) {
    const note = instrument ? `read by ${instrument}` : "logged by the training, or counted";
    const names = panels.map(([, quantity]) => quantity);
    const within = others.size > FEW ? folded("quantities", note, names) : null;
    for (const [at, quantity] of panels) {
      addCurve("quantities", `quantity-${at}`, quantity, instrument, quantity, () => note, () => true, within);
    }
  }
}

const FEW = 12; // figures that stand open, whichever lens they are of

/** A place for figures that is opened by who wants to see them; they are drawn then. */
function folded(section, title, names) {
  const panels = element("div", { class: "panels halves" });
  const told = element("span", { class: "note" }, names.join(", "));
  document.querySelector(`#${section} > .panels`).before(
    element("details", { class: "folded" }, element("summary", {}, `${title}: `, told), panels));
  return panels;
}
