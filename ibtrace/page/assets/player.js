/* The slider of looks and the button that moves it. */

const STILL = matchMedia("(prefers-reduced-motion: reduce)");
const WHOLE = 15000; // milliseconds that all looks take
const STILLS = 12; // looks that are shown, a second each, to whoever wants no motion
let timer = null;

function goTo(at) {
  state.at = Math.min(Math.max(at, 0), LOOKS.length - 1);
  const slider = document.getElementById("look");
  const told = `${CLOCK} ${LOOKS[state.at].toLocaleString("en")}`;
  slider.value = state.at;
  slider.setAttribute("aria-valuetext", told);
  document.getElementById("now").textContent = told;
  redraw();
}

function playing(on) {
  const play = document.getElementById("play");
  clearTimeout(timer);
  timer = null;
  play.setAttribute("aria-pressed", String(on));
  play.firstElementChild.textContent = on ? "❚❚" : "▶";
  play.querySelector(".word").textContent = on ? " Pause" : " Play";
  // a reader of the screen is told where it stopped, not every look on the way
  document.getElementById("now").setAttribute("aria-live", on ? "off" : "polite");
  if (!on) return;
  if (state.at === LOOKS.length - 1) goTo(0);
  const stride = STILL.matches ? Math.max(1, Math.ceil(LOOKS.length / STILLS)) : 1;
  const pause = STILL.matches ? 1000 : Math.min(400, Math.max(40, WHOLE / LOOKS.length));
  const step = () => {
    goTo(state.at + stride);
    if (state.at >= LOOKS.length - 1) playing(false);
    else timer = setTimeout(step, pause);
  };
  timer = setTimeout(step, pause);
}

function addPlayer() {
  const slider = document.getElementById("look");
  slider.max = LOOKS.length - 1;
  slider.setAttribute("aria-label", `${CLOCK} that is shown`);
  slider.addEventListener("input", () => {
    if (timer !== null) playing(false);
    goTo(Number(slider.value));
  });
  document.getElementById("play").addEventListener("click", () => playing(timer === null));
  document.querySelector(".player").hidden = LOOKS.length < 2;
  goTo(state.at);
}
