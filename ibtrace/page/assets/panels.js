/*
 * Panels: a figure with its table and its downloads. A further one is one function:
 *
 *   addPanel({ id, section, title, note, spec, rows, peek, moves, cursors, shown })
 *
 * section  the id of the section that it stands in
 * note     () => what is said beneath the title, of what is drawn
 * within   the element that it stands in there, if not the section's own
 * spec     ({theme, width, legend}) => {data, layout}: what Plotly draws
 * rows     () => rows of the CSV, as rowsOf gives them
 * peek     () => {head, rows}: the table for those who do not see the figure
 * moves    whether what is drawn follows the slider
 * cursors  () => the number of its axes of looks, on which the slider draws a line
 * shown    () => whether it is there at all, as the toggles are
 * layers   () => the names of the layers drawn, for the legend
 */
const PANELS = [];
const FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif";
const CONFIG = { displayModeBar: false, displaylogo: false, responsive: false, doubleClick: "reset" };
const TOUCH = matchMedia("(pointer: coarse)").matches;

function addPanel(panel) {
  const label = `${panel.title}. The numbers are in the table below.`;
  const draw = element("div", { class: "draw", id: `${panel.id}-draw`, role: "img", "aria-label": label });
  const table = element("details", { class: "numbers" }, element("summary", {}, "Numbers"));
  table.addEventListener("toggle", () => fill(panel));
  panel.draw = draw;
  panel.noted = element("p", { class: "note" });
  panel.legend = element("ul", { class: "legend" });
  panel.table = table;
  panel.figure = element(
    "figure",
    { class: "panel", id: panel.id },
    element(
      "figcaption",
      {},
      element("h3", {}, panel.title),
      panel.noted,
      element(
        "span",
        { class: "buttons" },
        button(`SVG`, `${panel.title} as SVG`, () => saveSvg(panel)),
        button(`CSV`, `The data of ${panel.title} as CSV`, () => saveCsv(panel))
      )
    ),
    panel.legend,
    draw,
    table
  );
  (panel.within ?? document.querySelector(`#${panel.section} > .panels`)).append(panel.figure);
  PANELS.push(panel);
  tell(panel);
  watcher.observe(panel.figure);
}

function button(word, label, onclick) {
  return element("button", { type: "button", "aria-label": label, title: label, onclick }, word);
}

/* --- drawing: when a panel comes near, and when what it shows has changed ------------------- */

const watcher = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const panel = PANELS.find((each) => each.figure === entry.target);
      panel.near = entry.isIntersecting;
      if (panel.near) refresh(panel);
    }
  },
  { rootMargin: "300px 0px" }
);

/** Draw a panel if it is near, and if it is not drawn as it is to be. */
function refresh(panel) {
  const shown = panel.shown();
  panel.figure.hidden = !shown;
  if (!shown || !panel.near) return;
  const theme = themeNow();
  const width = Math.floor(panel.draw.clientWidth);
  const drawn = [state.changes, theme, width].join();
  if (panel.drawn === drawn && panel.at === state.at) return;
  if (panel.drawn === drawn && !panel.moves) {
    const cursors = cursorLines(panel, theme);
    if (cursors.length) Plotly.relayout(panel.draw, { shapes: [...panel.shapes, ...cursors] });
  } else {
    const { data, layout } = panel.spec({ theme, width, legend: false });
    panel.shapes = layout.shapes ?? [];
    layout.shapes = [...panel.shapes, ...cursorLines(panel, theme)];
    Plotly.react(panel.draw, data, layout, CONFIG);
    if (panel.drawn !== drawn) {
      legendOf(panel);
      tell(panel);
    }
  }
  panel.drawn = drawn;
  panel.at = state.at;
  // the library measures texts in a drawing of its own, which nobody is to be told of
  document.getElementById("js-plotly-tester")?.setAttribute("aria-hidden", "true");
  if (panel.table.open) fill(panel);
}

function tell(panel) {
  panel.noted.textContent = panel.note();
  panel.noted.hidden = !panel.noted.textContent;
}

function legendOf(panel) {
  const names = panel.layers().filter((name) => name !== "");
  panel.legend.replaceChildren(
    ...names.map((name) => element("li", {}, swatch(name), element("span", {}, name))));
  paintSwatches(panel.legend);
}

function refreshAll() {
  for (const panel of PANELS) refresh(panel);
}

let asked = false;
/** Draw anew before the next frame, once, however often it is asked for. */
function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    refreshAll();
  });
}

function cursorLines(panel, theme) {
  const place = placeOnAxis(LOOKS[state.at]);
  return Array.from({ length: panel.cursors ? panel.cursors() : 0 }, (_, at) => ({
    type: "line",
    xref: at ? `x${at + 1}` : "x",
    yref: at ? `y${at + 1} domain` : "y domain",
    x0: place,
    x1: place,
    y0: 0,
    y1: 1,
    line: { color: THEMES[theme].soft, width: 1, dash: "dot" },
  }));
}

/* --- axes ----------------------------------------------------------------------------------- */

/** Where a look lies on its axis: log(1 + look), which has a place for 0, or the look itself. */
function placeOnAxis(at) {
  return state.axis === "log" ? Math.log10(1 + at) : at;
}

function lookAxis() {
  const last = LOOKS[LOOKS.length - 1];
  const shared = { title: { text: CLOCK[0].toUpperCase() + CLOCK.slice(1), standoff: 6 } };
  if (state.axis !== "log") return { ...shared, tickformat: ",d", nticks: 6 };
  const ticks = [0];
  for (let power = 1; power <= last; power *= 10) ticks.push(power);
  if (last >= 3 * ticks[ticks.length - 1]) ticks.push(last);
  return {
    ...shared,
    tickvals: ticks.map((tick) => Math.log10(1 + tick)),
    ticktext: ticks.map((tick) => tick.toLocaleString("en")),
    range: [-0.04 * Math.log10(1 + last) - 0.02, 1.03 * Math.log10(1 + last) + 0.02],
  };
}

/** A layout with a subplot for each run: side by side where there is room, one scale for all. */
function gridOf(names, { theme, width, height, x, y, left = 54 }) {
  const colours = THEMES[theme];
  const columns = Math.max(1, Math.min(names.length, width >= 900 ? 3 : width >= 480 ? 2 : 1));
  const rows = Math.max(1, Math.ceil(names.length / columns));
  const titled = names.length > 1 || names[0];
  const [right, top, bottom] = [12, titled ? 30 : 12, 44];
  const [apart, under] = [46, 74];
  const each = (width - left - right - apart * (columns - 1)) / columns;
  const total = rows * height + (rows - 1) * under;
  const axis = {
    color: colours.soft, gridcolor: colours.grid, zeroline: false, linecolor: colours.grid,
    automargin: false, fixedrange: TOUCH,
    autorange: true, // said, or axes that match one with a range of its own get the default's
  };
  const layout = {
    width,
    height: total + top + bottom,
    margin: { l: left, r: right, t: top, b: bottom },
    font: { family: FONT, size: 12, color: colours.ink },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    showlegend: false,
    hovermode: "closest",
    hoverlabel: { align: "left", font: { family: FONT, size: 12 } },
    dragmode: TOUCH ? false : "zoom",
    uirevision: `kept ${state.plane}`, // a zoom survives the slider and the toggles
    annotations: [],
  };
  names.forEach((name, at) => {
    const key = at ? at + 1 : "";
    const [column, row] = [at % columns, Math.floor(at / columns)];
    const from = (column * (each + apart)) / (width - left - right);
    const to = from + each / (width - left - right);
    const high = 1 - (row * (height + under)) / total;
    layout[`xaxis${key}`] = {
      ...axis, ...x, ...(x.range ? { autorange: false } : {}), domain: [from, Math.min(to, 1)], anchor: `y${key}`,
      ...(at ? { matches: "x" } : {}),
    };
    layout[`yaxis${key}`] = {
      ...axis, ...y, ...(y.range ? { autorange: false } : {}), domain: [Math.max(high - height / total, 0), high], anchor: `x${key}`,
      ...(at ? { matches: "y" } : {}), ...(column ? { title: undefined } : {}),
    };
    if (!titled) return;
    layout.annotations.push({
      text: `<b>${plain(name)}</b>`, showarrow: false, xref: "paper", yref: "paper",
      x: from, y: high, xanchor: "left", yanchor: "bottom", yshift: 4,
    });
  });
  return layout;
}

/** A dashed line at a ceiling, with its label. */
function ceilingLine(layout, most, at, theme, across) {
  const key = at ? at + 1 : "";
  const [bits, text] = most;
  const line = { color: THEMES[theme].soft, width: 1, dash: "dash" };
  const font = { size: 11, color: THEMES[theme].soft };
  layout.shapes ??= [];
  layout.shapes.push({
    type: "line", layer: "below", line,
    ...(across
      ? { xref: `x${key} domain`, yref: `y${key}`, x0: 0, x1: 1, y0: bits, y1: bits }
      : { xref: `x${key}`, yref: `y${key} domain`, x0: bits, x1: bits, y0: 0, y1: 1 }),
  });
  layout.annotations.push({
    text: plain(text), showarrow: false, font,
    ...(across
      ? { xref: `x${key} domain`, yref: `y${key}`, x: 0, y: bits, xanchor: "left", yanchor: "bottom" }
      : { xref: `x${key}`, yref: `y${key} domain`, x: bits, y: 0.02, textangle: -90,
          xanchor: "right", yanchor: "bottom" }),
  });
}

/* --- what leaves the page -------------------------------------------------------------------- */

function save(name, content, type) {
  const place = URL.createObjectURL(new Blob([content], { type }));
  const link = element("a", { href: place, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(place), 10000);
}

function fileName(panel, ending) {
  return `${slug(document.querySelector("h1").textContent)}-${slug(panel.title)}.${ending}`;
}

/** A text in lines of at most so many letters, parted at spaces. */
function wrapped(text, most) {
  const lines = [];
  for (const word of text.split(" ").filter(Boolean)) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && longer.length <= most) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

/** On white and with a legend, whatever the page looks like: it is for a paper. */
async function saveSvg(panel) {
  const { data, layout } = panel.spec({ theme: "light", width: 960, legend: true });
  const lines = wrapped(panel.note(), 130);
  const note = lines.map((line) => `<br><sub>${plain(line)}</sub>`).join("");
  const under = 16 * Math.max(0, lines.length - 1);
  const whole = {
    ...layout,
    paper_bgcolor: "#ffffff",
    showlegend: true,
    legend: { orientation: "h", x: 0, xanchor: "left", yref: "container", y: 0, yanchor: "bottom" },
    title: { text: `${plain(panel.title)}${note}`, x: 0.01, xanchor: "left", y: 1, yanchor: "top", pad: { t: 14 },
      yref: "container", font: { size: 15 } },
    margin: { ...layout.margin, t: layout.margin.t + 50 + under, b: layout.margin.b + 46 },
    height: layout.height + 96 + under,
  };
  const size = { format: "svg", width: whole.width, height: whole.height, imageDataOnly: true };
  const image = await Plotly.toImage({ data, layout: whole, config: CONFIG }, size);
  save(fileName(panel, "svg"), image, "image/svg+xml");
}

function saveCsv(panel) {
  save(fileName(panel, "csv"), csv(panel.rows()), "text/csv");
}

/* --- tables, for whoever does not see the figure ---------------------------------------------- */

function fill(panel) {
  panel.table.querySelector(".scroll")?.remove();
  if (!panel.table.open) return;
  const { head, rows } = panel.peek();
  const cells = (row) =>
    row.map((value, at) =>
      at === 0 ? element("th", { scope: "row" }, value) : element("td", {}, value)
    );
  const body = rows.map((row) => element("tr", {}, ...cells(row)));
  const heads = head.map((name) => element("th", { scope: "col" }, name));
  const caption = element("caption", {}, panel.title);
  panel.table.append(
    element(
      "div",
      { class: "scroll", role: "region", tabindex: 0, "aria-label": `${panel.title}, numbers` },
      element("table", {}, caption, element("thead", {}, element("tr", {}, ...heads)),
        element("tbody", {}, ...body))
    )
  );
}
