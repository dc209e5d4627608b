/* Means over the seeds that are shown, with their intervals; tested against Python's. */

/** Student's quantile for a mean of some seeds. */
function student(seeds) {
  return DATA.student[Math.min(seeds - 2, DATA.student.length - 1)];
}

/** A quantile of ascending values, as NumPy's default. */
function quantile(sorted, share) {
  const place = share * (sorted.length - 1);
  const first = Math.floor(place);
  const next = Math.min(first + 1, sorted.length - 1);
  return sorted[first] + (place - first) * (sorted[next] - sorted[first]);
}

/** Mean, its interval and the band of 80 % of some numbers. */
function summary(values) {
  const n = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  if (n < 2) return { mean, lower: NaN, upper: NaN, low: NaN, high: NaN, n };
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1);
  const half = student(n) * Math.sqrt(variance / n);
  const sorted = [...values].sort((a, b) => a - b);
  const [low, high] = [quantile(sorted, 0.1), quantile(sorted, 0.9)];
  return { mean, lower: mean - half, upper: mean + half, low, high, n };
}

/**
 * The curve of one layer over the seeds that are shown, ``[{look, mean, …}]``.
 *
 * A look that fewer seeds reached than any other is left out: a mean over other seeds is another
 * quantity, and the curve would jump.
 */
function curve(block, layer) {
  block.curves ??= new Map();
  const held = block.curves.get(layer);
  if (held && held.changes === state.changes) return held.points;
  const at = block.layers.indexOf(layer);
  const seeds = shownSeeds(block);
  const { values } = numbersOf(block);
  const looks = block.looks.length;
  let points = [];
  for (let place = 0; place < looks; place++) {
    const each = seeds.map((seed) => values[(at * block.seeds.length + seed) * looks + place]);
    const finite = each.filter(Number.isFinite);
    if (finite.length) points.push({ look: block.looks[place], place, ...summary(finite) });
  }
  const most = Math.max(0, ...points.map((point) => point.n));
  points = points.filter((point) => point.n === most);
  block.curves.set(layer, { changes: state.changes, points });
  return points;
}

/** One seed's number, with its flags and the checks that its point of the plane drawn fails. */
function single(block, layer, seed, place) {
  const { values, flags, fails } = numbersOf(block);
  const looks = block.looks.length;
  const at = (block.layers.indexOf(layer) * block.seeds.length + seed) * looks + place;
  return {
    value: values[at],
    flags: flags ? DATA.flags[flags[at]] : "",
    fails: state.plane in fails ? DATA.fails[fails[state.plane][at]] : "",
  };
}

/** What the seeds shown have of a kind at a look, ``"near_ceiling (3 of 5 seeds)"``. */
function raisedAt(kind, block, layer, place) {
  const seeds = shownSeeds(block);
  const counts = new Map();
  for (const seed of seeds) {
    for (const name of single(block, layer, seed, place)[kind].split(",").filter(Boolean)) {
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  }
  return [...counts]
    .map(([name, n]) => (seeds.length > 1 ? `${name} (${n} of ${seeds.length} seeds)` : name))
    .join(", ");
}

const flagsAt = (block, layer, place) => raisedAt("flags", block, layer, place);
const failsAt = (block, layer, place) => raisedAt("fails", block, layer, place);

/** Whether the points of most of the seeds shown fail a check: then their mean is drawn hollow. */
function isHollow(block, layer, place) {
  if (!(state.plane in numbersOf(block).fails)) return false;
  const seeds = shownSeeds(block);
  const failing = seeds.filter((seed) => single(block, layer, seed, place).fails);
  return 2 * failing.length > seeds.length;
}

/** The instrument's own error of a number, mean over all seeds of the run. */
function ownError(block, layer, place) {
  const { stderr, lower, upper } = numbersOf(block);
  const at = block.layers.indexOf(layer) * block.looks.length + place;
  const parts = [];
  if (stderr && Number.isFinite(stderr[at])) parts.push(`own standard error ${short(stderr[at])}`);
  if (lower && Number.isFinite(lower[at]) && Number.isFinite(upper[at])) {
    parts.push(`own interval [${short(lower[at])}, ${short(upper[at])}]`);
  }
  return parts.join(", ");
}

function unitOf(block) {
  return block.unit === "1" || block.unit === "" ? "" : ` ${block.unit}`;
}

/** A point in words: number, unit, interval over seeds. */
function told(block, point) {
  const ends = Number.isFinite(point.lower)
    ? ` [${short(point.lower)}, ${short(point.upper)}]`
    : "";
  return `${short(point.mean)}${unitOf(block)}${ends}`;
}

/** The head and rows of the table of a block: one row for each layer and look that is shown. */
const COLUMNS = ["run", "instrument", "quantity", "unit", "layer", CLOCK, "seeds", "mean", "lower",
  "upper", "flags", "fails"];

function rowsOf(run, block) {
  const seeds = shownSeeds(block);
  const rows = [];
  for (const layer of block.layers.filter(isShown)) {
    for (const point of curve(block, layer)) {
      const each = SEEDS.map((seed, at) => {
        const own = block.seeds.indexOf(seed);
        return own >= 0 && seeds.includes(own) ? single(block, layer, own, point.place).value : NaN;
      });
      rows.push([
        run.name, block.instrument, block.quantity, block.unit, layer || NETWORK, point.look,
        point.n, point.mean, point.lower, point.upper, flagsAt(block, layer, point.place),
        failsAt(block, layer, point.place), ...each,
      ]);
    }
  }
  return rows;
}

/** Rows as CSV (RFC 4180), numbers with seven digits. */
function csv(rows) {
  const cell = (value) => {
    if (typeof value === "number") {
      return Number.isFinite(value) ? String(Number(value.toPrecision(7))) : "";
    }
    return /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
  };
  const head = [...COLUMNS, ...SEEDS.map((seed) => `seed ${seed}`)];
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}
