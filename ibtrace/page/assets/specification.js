/* Specification curves: every analysis of a layer, and the choices that made it. */

const CALLS = {
  compresses: ["#c8553d", "circle"],
  inconclusive: ["#8a8f9a", "square"],
  "does not compress": ["#2f7fbd", "diamond"],
};

/** 3 before 10, and 10 before 100. */
function inNumbers(one, two) {
  return one.localeCompare(two, "en", { numeric: true });
}

/** The choices of a layer's analyses as rows of dots, the first on top. */
function levelsOf(layer) {
  return layer.choices.flatMap(({ name, levels }) =>
    [...new Set(levels)].filter(Boolean).sort(inNumbers).map((level) => ({
      text: `${name}: ${level}`,
      ranks: levels.flatMap((each, at) => (each === level ? [at] : [])),
    })));
}

function analysisHover(layer, at) {
  const made = layer.choices.map(({ name, levels }) => levels[at] && `${name}: ${levels[at]}`);
  const ends = layer.lower[at] === null ? "" : ` [${short(layer.lower[at])}, ${short(layer.upper[at])}]`;
  const fall = layer.fall[at] === null ? "no held-out fall" : `held-out fall ${short(layer.fall[at])} bits${ends}`;
  return [`<b>${plain(layer.call[at])}</b> · ${fall}`, ...made.filter(Boolean).map(plain)].join("<br>");
}

function specificationSpec(layer, { theme, width, legend }) {
  const rows = levelsOf(layer);
  const high = width < 560 ? 200 : 240;
  const each = 15;
  const left = Math.min(width * 0.42, 40 + 6.2 * Math.max(8, ...rows.map((row) => row.text.length)));
  const layout = gridOf([""], {
    theme, width, height: high + each * rows.length + 20, left,
    x: { range: [-1, layer.fall.length], showticklabels: false,
      title: { text: `${layer.fall.length} analyses, by their fall`, standoff: 4 } },
    y: { title: { text: "Held-out fall (bits)", standoff: 6 } },
  });
  const share = (each * rows.length) / (high + each * rows.length + 20);
  const letters = Math.floor((left - 16) / 6.2);
  const cut = (text) => (text.length > letters ? `${text.slice(0, letters - 1)}…` : text);
  layout.yaxis2 = {
    ...layout.yaxis, title: undefined, domain: [0, share], anchor: "x", autorange: false,
    range: [rows.length - 0.5, -0.5], tickvals: rows.map((_, at) => at), fixedrange: true,
    ticktext: rows.map((row) => plain(cut(row.text))), tickfont: { size: 11 },
  };
  layout.yaxis.domain = [Math.min(share + 0.05, 0.95), 1];
  layout.xaxis.anchor = "y2";
  layout.shapes = [{ type: "line", xref: "x domain", yref: "y", x0: 0, x1: 1, y0: 0, y1: 0,
    layer: "below", line: { color: THEMES[theme].soft, width: 1 } }];
  const data = Object.entries(CALLS).map(([call, [color, symbol]]) => {
    const ranks = layer.call.flatMap((made, at) => (made === call ? [at] : []));
    const fall = (at) => layer.fall[at] ?? NaN;
    return {
      type: "scatter", mode: "markers", name: call, showlegend: legend, x: ranks, y: ranks.map(fall),
      marker: { color, symbol, size: 6 }, hoverinfo: "text",
      hovertext: ranks.map((at) => analysisHover(layer, at)),
      error_y: { type: "data", symmetric: false, color, thickness: 0.8, width: 0,
        array: ranks.map((at) => (layer.upper[at] ?? NaN) - fall(at)),
        arrayminus: ranks.map((at) => fall(at) - (layer.lower[at] ?? NaN)) },
    };
  });
  data.push({
    type: "scatter", mode: "markers", yaxis: "y2", hoverinfo: "text", showlegend: false,
    x: rows.flatMap((row) => row.ranks), y: rows.flatMap((row, at) => row.ranks.map(() => at)),
    hovertext: rows.flatMap((row) => row.ranks.map((at) => analysisHover(layer, at))),
    marker: { size: 4, color: rows.flatMap((row) => row.ranks.map((at) => CALLS[layer.call[at]][0])) },
  });
  return { data, layout };
}

function specificationPeek(layer) {
  const names = layer.choices.map((choice) => choice.name);
  const rows = layer.fall.map((fall, at) => [
    String(at + 1), layer.call[at], short(fall ?? NaN),
    layer.lower[at] === null ? "–" : `[${short(layer.lower[at])}, ${short(layer.upper[at])}]`,
    ...layer.choices.map(({ levels }) => levels[at] || "–"),
  ]);
  return { head: ["place", "call", "held-out fall", "interval", ...names], rows };
}

/** The analyses in the columns of every figure's CSV: what made each is its instrument. */
function specificationRows(run, layer) {
  return layer.fall.map((fall, at) => {
    const made = layer.choices.filter(({ levels }) => levels[at]);
    const text = made.map(({ name, levels }) => `${name}=${levels[at]}`).join("; ");
    return [run.name, text, "held-out fall of I(X;T)", "bits", layer.layer, "", NaN,
      fall ?? NaN, layer.lower[at] ?? NaN, layer.upper[at] ?? NaN, layer.call[at]];
  });
}

function addSpecifications() {
  DATA.runs.forEach((run, which) => run.analyses.forEach((layer, at) => addPanel({
    id: `specification-${which}-${at}`,
    section: "specifications",
    title: `${[run.name, layer.layer].filter(Boolean).join(" · ")}: ${layer.fall.length} analyses`,
    note: () => layer.sentence,
    moves: false,
    shown: () => shownRuns().includes(run) && isShown(layer.layer),
    layers: () => [],
    spec: (options) => specificationSpec(layer, options),
    rows: () => specificationRows(run, layer),
    peek: () => specificationPeek(layer),
  })));
}
