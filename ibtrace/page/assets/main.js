/* The page comes to life. */

function addContents() {
  const nav = document.getElementById("contents");
  for (const section of document.querySelectorAll("main section")) {
    if (section.hidden || section.closest("[hidden]")) continue;
    nav.append(element("a", { href: `#${section.id}` }, section.querySelector("h2").textContent));
  }
}

function start() {
  const analysed = DATA.runs.some((run) => run.analyses.length);
  if (!LOOKS.length && !analysed) return addContents(); // no number is finite: nothing to draw
  document.getElementById("drawn").hidden = false;
  document.querySelector("main").classList.toggle("single", DATA.runs.length === 1);
  addControls();
  addPlanes();
  addCurves();
  addMaps();
  addSpecifications();
  for (const section of document.querySelectorAll("#drawn section")) {
    if (section.querySelector(".panels") && !section.querySelector("figure")) section.hidden = true;
  }
  if (LOOKS.length) addPlayer();
  else document.querySelector(".player").hidden = true;
  addContents();
  if (matchMedia("(max-width: 700px)").matches) document.getElementById("filters").open = false;
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    paintSwatches();
    redraw();
  });
  new ResizeObserver(redraw).observe(document.querySelector("main"));
}

start();
