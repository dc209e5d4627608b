/* Resolution maps: bits in colour over looks and scales, one panel for each layer and quantity. */

const PEAK = "rgba(255,255,255,0.95)";
const SURE = "rgb(200,85,61)";

/** A run's map of a layer; nothing where it has none. */
function mapOf(run, layer) {
  return run.maps.find((map) => map.layer === layer);
}

function mapRuns(layer) {
  return isShown(layer) ? shownRuns().filter((run) => mapOf(run, layer)) : [];
}

/** The bits of a map, a row for each scale; nothing where it was not measured. */
function gridBits(map, quantity) {
  if (!(quantity in map.bits)) return null;
  map.rows ??= {};
  map.rows[quantity] ??= (() => {
    const flat = unpacked(map.bits[quantity], Float32Array);
    const across = map.looks.length;
    return map.scales.map((_, at) => Array.from(flat.subarray(at * across, (at + 1) * across)));
  })();
  return map.rows[quantity];
}

/** A scale as people write it: whole, or one over a whole number. */
function scaleText(scale) {
  return scale >= 1 ? String(Number(scale.toPrecision(3))) : `1/${short(1 / scale)}`;
}

function scaleAxis(maps) {
  const powers = maps.flatMap((map) => map.scales.map((scale) => Math.ceil(Math.log2(scale) - 1e-9)));
  const [low, high] = [Math.min(...powers), Math.max(...powers)];
  const step = Math.max(1, Math.ceil((high - low) / 6));
  const ticks = [];
  for (let power = high; power >= low; power -= step) ticks.push(power);
  const word = maps[0].reader === "bins" ? "Width of the bins" : "Deviation of the noise";
  const half = halfStep(maps[0]);
  const ends = maps.flatMap((map) => [map.scales[0], map.scales.at(-1)]).map(Math.log2);
  return {
    title: { text: word, standoff: 4 },
    range: [Math.min(...ends) - half, Math.max(...ends) + half],
    tickvals: ticks,
    ticktext: ticks.map((power) => scaleText(2 ** power)),
  };
}

function halfStep(map) {
  return Math.log2(map.scales[1] / map.scales[0]) / 2;
}

/** Where a fall is sure, as shapes across the subplot, and the peaks of I(X;T) there. */
function sureFalls(map, at) {
  const key = at ? at + 1 : "";
  const half = halfStep(map);
  return map.bands.map(([low, high]) => ({
    type: "rect", xref: `x${key} domain`, yref: `y${key}`, x0: 1.005, x1: 1.03,
    y0: Math.log2(low) - half, y1: Math.log2(high) + half, line: { width: 0 }, fillcolor: SURE,
  }));
}

function mapSpec(layer, quantity, { theme, width }) {
  const runs = mapRuns(layer);
  const maps = runs.map((run) => mapOf(run, layer));
  const layout = gridOf(runs.map((run) => run.name), {
    theme, width: width - 70, height: width < 560 ? 230 : 270, x: lookAxis(), y: scaleAxis(maps),
    left: 72,
  });
  layout.width = width;
  layout.margin.r += 70;
  layout.shapes = [];
  const most = Math.max(...maps.map((map) => map.most[quantity]));
  const data = [];
  maps.forEach((map, at) => {
    const axes = { xaxis: at ? `x${at + 1}` : "x", yaxis: at ? `y${at + 1}` : "y" };
    const bits = gridBits(map, quantity);
    const heights = map.scales.map(Math.log2);
    data.push({
      type: "heatmap", ...axes, x: map.looks.map(placeOnAxis), y: heights, z: bits,
      zmin: 0, zmax: most, colorscale: "Viridis", zsmooth: false, showscale: at === 0,
      colorbar: { thickness: 10, len: 1, outlinewidth: 0, x: 1.04, xanchor: "left",
        title: { text: "bits", side: "top" }, tickfont: { size: 11 } },
      hoverinfo: "text",
      text: bits.map((row, place) => row.map((value, when) =>
        `<b>${plain(layer)}</b> · ${CLOCK} ${map.looks[when].toLocaleString("en")}` +
        `<br>scale ${scaleText(map.scales[place])}<br>${plain(quantity)} ${short(value)} bits`)),
    });
    if (quantity !== map.quantities[0]) return;
    const sure = map.scales.map((scale) => map.bands.some(([a, b]) => a <= scale && scale <= b));
    data.push({
      type: "scatter", ...axes, mode: "lines+markers", hoverinfo: "skip", showlegend: false,
      x: map.peaks.map((look, place) => (sure[place] ? placeOnAxis(look) : null)), y: heights,
      line: { color: PEAK, width: 1.2 },
      marker: { color: PEAK, size: 5, line: { color: "#1d2330", width: 0.8 } },
    });
    layout.shapes.push(...sureFalls(map, at));
  });
  return { data, layout };
}

function mapRows(layer, quantity) {
  return mapRuns(layer).flatMap((run) => {
    const map = mapOf(run, layer);
    return (gridBits(map, quantity) ?? []).flatMap((row, place) => row.map((bits, when) => [run.name,
      `${map.reader} ${map.scales[place]}`, quantity, "bits", layer, map.looks[when], map.seeds, bits, NaN, NaN, "", ""]));
  });
}

function mapPeek(layer) {
  const [aboutX, aboutY] = mapOf(mapRuns(layer)[0], layer).quantities;
  const rows = mapRuns(layer).flatMap((run) => {
    const map = mapOf(run, layer);
    const [across, upward] = map.quantities.map((quantity) => gridBits(map, quantity));
    const last = map.looks.length - 1;
    return map.scales.map((scale, place) => {
      const [mean, lower, upper] = map.fall.map((ends) => ends[place]);
      const ends = lower === null ? "" : ` [${short(lower)}, ${short(upper)}]`;
      return [scaleText(scale), run.name || "–", String(map.peaks[place]), short(across[place][last]),
        mean === null ? "–" : `${short(mean)}${ends}`, upward ? short(upward[place][last]) : "–"];
    });
  });
  return { head: ["scale", "run", "peak", `${aboutX} at the end`, "held-out fall", `${aboutY} at the end`], rows };
}

function addMaps() {
  DATA.layers.forEach((layer, at) => {
    [...new Set(DATA.planes.flat())].forEach((quantity, which) => {
      if (!DATA.runs.some((run) => mapOf(run, layer)?.bits[quantity])) return;
      addPanel({
        id: `map-${at}-${which}`,
        section: "maps",
        title: `${layer}: ${quantity} at every resolution`,
        note: () => "",
        moves: false,
        cursors: () => mapRuns(layer).length,
        shown: () => mapRuns(layer).length > 0,
        layers: () => [],
        spec: (options) => mapSpec(layer, quantity, options),
        rows: () => mapRows(layer, quantity),
        peek: () => mapPeek(layer),
      });
    });
  });
}
