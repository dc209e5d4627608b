/* The information plane: one panel for each estimator, a subplot for each run. */

/** The plane that is drawn, as a run has it; nothing where it lacks one of the variables. */
function planeOf(run) {
  return run.planes.find((plane) => String(plane.quantities) === String(axesNow()));
}

function factsOf(run, estimator) {
  return planeOf(run)?.estimators.find((known) => known.estimator === estimator);
}

/** The numbers of an estimator across and upward. */
function axesBlocks(run, estimator) {
  return axesNow().map((quantity) => blockOf(run, quantity, estimator));
}

/** The looks of a layer at which both coordinates are known, as pairs of points; made once. */
function pairs(run, estimator, layer) {
  const [across, upward] = axesBlocks(run, estimator);
  if (!across?.layers.includes(layer) || !upward?.layers.includes(layer)) return [];
  across.pairs ??= new Map();
  const held = across.pairs.get(layer);
  if (held && held.changes === state.changes) return held.all;
  const known = new Map(curve(upward, layer).map((point) => [point.look, point]));
  const all = curve(across, layer)
    .filter((point) => known.has(point.look))
    .map((x) => ({ x, y: known.get(x.look), across, upward, layer }));
  across.pairs.set(layer, { changes: state.changes, all });
  return all;
}

function planeRuns(estimator) {
  return shownRuns().filter((run) =>
    DATA.layers.some((layer) => isShown(layer) && pairs(run, estimator, layer).length)
  );
}

function hoverOf(pair) {
  pair.hover ??= pairHover(pair);
  return pair.hover;
}

function pairHover(pair) {
  const { x, y, across, upward, layer } = pair;
  const lines = [
    `<b>${plain(layer)}</b> · ${CLOCK} ${x.look.toLocaleString("en")}`,
    `${plain(across.quantity)} ${told(across, x)}`,
    `${plain(upward.quantity)} ${told(upward, y)}`,
  ];
  if (x.n > 1) lines.push(`mean of ${x.n} seeds [${100 * DATA.confidence} % interval]`);
  for (const [block, point] of [[across, x], [upward, y]]) {
    const name = plain(block.quantity);
    const own = ownError(block, layer, point.place);
    const flags = flagsAt(block, layer, point.place);
    if (own) lines.push(`${name}: ${own}`);
    if (flags) lines.push(`${name} flagged ${plain(flags)}`);
  }
  const fails = failsAt(across, layer, x.place);
  if (fails) lines.push(`fails: ${plain(fails)}`);
  return lines.join("<br>");
}

/** Where each seed of a layer stands at a pair's look. */
function seedDots(pair) {
  const { x, y, across, upward, layer } = pair;
  const dots = { x: [], y: [], text: [], hollow: [] };
  for (const seed of shownSeeds(across)) {
    const other = upward.seeds.indexOf(across.seeds[seed]);
    if (other < 0) continue;
    const [bits, label] = [single(across, layer, seed, x.place), single(upward, layer, other, y.place)];
    if (!Number.isFinite(bits.value) || !Number.isFinite(label.value)) continue;
    dots.x.push(bits.value);
    dots.y.push(label.value);
    const flags = [...new Set([...bits.flags.split(","), ...label.flags.split(",")])].filter(Boolean);
    dots.text.push(
      `<b>${plain(layer)}</b> · seed ${across.seeds[seed]} · ${CLOCK} ${x.look}` +
        `<br>${plain(across.quantity)} ${short(bits.value)} bits` +
        `<br>${plain(upward.quantity)} ${short(label.value)} bits` +
        (flags.length ? `<br>flagged ${plain(flags.join(", "))}` : "") +
        (bits.fails ? `<br>fails: ${plain(bits.fails.replaceAll(",", ", "))}` : "")
    );
    dots.hollow.push(Boolean(bits.fails));
  }
  return dots;
}

/** What Plotly draws of one layer. */
function layerTraces(all, layer, axes, { theme, legend }) {
  const now = LOOKS[state.at];
  const past = all.filter((pair) => pair.x.look <= now);
  const { colour, symbol } = look(layer, theme);
  const line = (some) => ({
    type: "scatter", mode: "lines", ...axes,
    x: some.map((pair) => pair.x.mean), y: some.map((pair) => pair.y.mean),
  });
  const group = { legendgroup: groupOf(layer), showlegend: false };
  const ghost = { ...line(all), ...group, hoverinfo: "skip", line: { color: colour, width: 1 }, opacity: 0.25 };
  const trail = {
    ...line(past), ...group, line: { color: colour, width: 2 }, opacity: 0.75,
    hoverinfo: "text", hovertext: past.map(hoverOf),
  };
  const here = past.slice(-1);
  const start = all.slice(0, 1).filter((pair) => pair.x.look <= now);
  const dots = here.length ? seedDots(here[0]) : { x: [], y: [], text: [], hollow: [] };
  const seeds = {
    type: "scatter", mode: "markers", ...axes, ...group, x: dots.x, y: dots.y,
    hoverinfo: "text", hovertext: dots.text,
    marker: {
      color: dots.hollow.map((hollow) => (hollow ? THEMES[theme].soft : colour)), size: 5,
      symbol: dots.hollow.map((hollow) => (hollow ? `${symbol}-open` : symbol)),
      opacity: dots.x.length > 1 ? 0.45 : 0,
    },
  };
  const mark = (some, look, more) => ({
    ...line(some), ...group, ...more, mode: "markers", hoverinfo: "text", hovertext: some.map(hoverOf), marker: look,
  });
  const ring = { color: THEMES[theme].paper, size: 7, symbol: "circle", line: { color: colour, width: 1.5 } };
  const solid = { color: colour, size: 12, symbol, line: { color: THEMES[theme].paper, width: 1.5 } };
  const hollow = {
    color: THEMES[theme].paper, size: 11, symbol, line: { color: THEMES[theme].soft, width: 2 },
  };
  const failing = here.length > 0 && isHollow(here[0].across, layer, here[0].x.place);
  return [
    ghost, trail, seeds, mark(start, ring, {}),
    mark(here, failing ? hollow : solid, { name: plain(layer), showlegend: legend }),
  ];
}

function planeSpec(estimator, options) {
  const { theme, width, legend } = options;
  const runs = planeRuns(estimator);
  const [across, upward] = axesNow();
  const layout = gridOf(runs.map((run) => run.name), {
    theme, width, height: width < 560 ? 300 : 380,
    x: { title: { text: `${plain(across)} (bits)`, standoff: 6 }, range: endsOf(runs, estimator, 0) },
    y: { title: { text: `${plain(upward)} (bits)`, standoff: 6 }, range: endsOf(runs, estimator, 1) },
  });
  const data = [];
  runs.forEach((run, at) => {
    const axes = { xaxis: at ? `x${at + 1}` : "x", yaxis: at ? `y${at + 1}` : "y" };
    const most = factsOf(run, estimator)?.most ?? {};
    if (most[across]) ceilingLine(layout, most[across], at, theme, false);
    if (most[upward]) ceilingLine(layout, most[upward], at, theme, true);
    const bound = planeOf(run).bound;
    if (bound) boundLine(layout, bound, at, theme);
    const known = DATA.layers
      .filter(isShown)
      .map((layer) => [layer, pairs(run, estimator, layer)])
      .filter(([, all]) => all.length);
    const stand = known
      .map(([, all]) => all.filter((pair) => pair.x.look <= LOOKS[state.at]).pop())
      .filter(Boolean);
    data.push({
      type: "scatter", mode: "lines", ...axes, hoverinfo: "skip", showlegend: false,
      x: stand.map((pair) => pair.x.mean), y: stand.map((pair) => pair.y.mean),
      line: { color: THEMES[theme].soft, width: 1 }, opacity: 0.7,
    });
    for (const [layer, all] of known) {
      data.push(...layerTraces(all, layer, axes, { theme, legend: legend && at === 0 }));
    }
  });
  if (legend) layout.annotations.push({
    text: `${CLOCK} ${LOOKS[state.at].toLocaleString("en")}`, showarrow: false, xref: "paper",
    yref: "paper", x: 1, y: 1, xanchor: "right", yanchor: "bottom", yshift: 6,
  });
  return { data, layout };
}

const FAR = 1e3; // bits: beyond all axes

/** The bottleneck curve and the shade above it. */
function boundLine(layout, bound, at, theme) {
  const key = at ? at + 1 : "";
  const [last] = bound.x.slice(-1);
  const line = bound.x.map((x, place) => `${place ? "L" : "M"}${x},${bound.y[place]}`).join("");
  const square = `M${-FAR},${-FAR}L${FAR},${-FAR}L${FAR},${FAR}L${-FAR},${FAR}Z`;
  const shared = { type: "path", xref: `x${key}`, yref: `y${key}`, layer: "below" };
  layout.shapes ??= [];
  layout.shapes.push(
    { ...shared, path: `${square}${line}L${last},0L0,0Z`, fillcolor: BEYOND, fillrule: "evenodd", line: { width: 0 } },
    { ...shared, path: line, line: { color: THEMES[theme].ink, width: 1.2 } });
}

/**
 * The ends of an axis of planes with a bound: the drawing library would make room for the shade.
 * All points have room at all looks, seeds' too, and the corner of the curve.
 */
function endsOf(runs, estimator, axis) {
  const corners = runs.flatMap((run) => planeOf(run).bound?.corner[axis] ?? []);
  if (!corners.length) return undefined;
  const points = runs.flatMap((run) => {
    const block = axesBlocks(run, estimator)[axis];
    const seeds = shownSeeds(block);
    return block.layers.filter(isShown).flatMap((layer) => curve(block, layer).flatMap((point) =>
      seeds.map((seed) => single(block, layer, seed, point.place).value).filter(Number.isFinite)));
  });
  const [least, most] = [0, ...corners, ...points].reduce(
    ([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  const room = 0.06 * (most - least || 1);
  return [least - room, most + room];
}

const BEYOND = "rgba(200,85,61,0.13)";

/** What is said of the curves that are drawn, each once. */
function boundsTold(estimator) {
  return [...new Set(planeRuns(estimator).map((run) => planeOf(run).bound?.told).filter(Boolean))];
}

function planePeek(estimator) {
  const rows = planeRuns(estimator).flatMap((run) =>
    DATA.layers.filter(isShown).flatMap((layer) => {
      const here = pairs(run, estimator, layer).filter((p) => p.x.look <= LOOKS[state.at]).pop();
      if (!here) return [];
      const flags = [flagsAt(here.across, layer, here.x.place), flagsAt(here.upward, layer, here.y.place)];
      return [[layer, run.name || "–", String(here.x.look), told(here.across, here.x),
        told(here.upward, here.y), String(here.x.n), flags.filter(Boolean).join("; ") || "–",
        failsAt(here.across, layer, here.x.place) || "–"]];
    })
  );
  return { head: ["layer", "run", CLOCK, ...axesNow(), "seeds", "flags", "fails"], rows };
}

/** Whether an estimator has both numbers of any plane, in any run. */
function hasPlane(estimator) {
  const has = (run, axes) => axes.every((quantity) => blockOf(run, quantity, estimator));
  return DATA.runs.some((run) => DATA.planes.some((axes) => has(run, axes)));
}

function addPlanes() {
  DATA.estimators.forEach((estimator, at) => {
    if (!hasPlane(estimator)) return;
    addPanel({
      id: `plane-${at}`,
      section: "plane",
      title: `Information plane by ${estimator}`,
      note: () => [estimandOf(estimator), ...boundsTold(estimator)].filter(Boolean).join(". "),
      moves: true,
      shown: () => state.estimators.has(at) && planeRuns(estimator).length > 0,
      spec: (options) => planeSpec(estimator, options),
      layers: () => DATA.layers.filter((layer) => isShown(layer) &&
        planeRuns(estimator).some((run) => pairs(run, estimator, layer).length)),
      rows: () => planeRuns(estimator).flatMap((run) =>
        axesBlocks(run, estimator).flatMap((block) => rowsOf(run, block))),
      peek: () => planePeek(estimator),
    });
  });
}

function estimandOf(estimator) {
  const told = DATA.runs.map((run) => factsOf(run, estimator)?.estimand).filter(Boolean);
  return [...new Set(told)].join("; ");
}
