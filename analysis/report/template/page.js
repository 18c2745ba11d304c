// Modes, tabs, and what is remembered when a page that follows a search loads itself anew.

const memory = {
  get(key) { try { return JSON.parse(sessionStorage.getItem(key)); } catch { return null; } },
  set(key, value) { try { sessionStorage.setItem(key, JSON.stringify(value)); } catch { /* a file of its own has none in some browsers */ } },
};
const place = `visionsweep:${location.pathname}`;

const mode = {
  set(name) {
    document.documentElement.dataset.mode = name;
    document.getElementById("mode").textContent = name === "dark" ? "Light" : "Dark";
    plots.recolour();
  },
  start() {
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    let chosen = memory.get("visionsweep:mode");
    mode.set(chosen || (dark.matches ? "dark" : "light"));
    dark.addEventListener("change", () => { if (!chosen) mode.set(dark.matches ? "dark" : "light"); });
    document.getElementById("mode").addEventListener("click", () => {
      chosen = document.documentElement.dataset.mode === "dark" ? "light" : "dark";
      memory.set("visionsweep:mode", chosen);
      mode.set(chosen);
    });
  },
};

// The command is selected first: where a browser does not let a page write to the clipboard, the reader can.
async function copy(button) {
  const code = button.previousElementSibling;
  getSelection().selectAllChildren(code);
  let done = false;
  try { await navigator.clipboard.writeText(code.textContent); done = true; } catch { done = document.execCommand("copy"); }
  button.textContent = done ? "copied" : "selected";
  setTimeout(() => { button.textContent = "copy"; }, 1500);
}

function start() {
  mode.start();
  const runs = [...document.querySelectorAll(".run")];
  const rankings = new Map();
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const select = (key) => {
    for (const tab of tabs) tab.ariaSelected = String(tab.getAttribute("aria-controls") === key);
    for (const run of runs) run.hidden = run.id !== key;
    const run = document.getElementById(key);
    if (!rankings.has(key)) rankings.set(key, new Ranking(run));
  };
  tabs.forEach((tab, number) => {
    tab.addEventListener("click", () => select(tab.getAttribute("aria-controls")));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(number + step + tabs.length) % tabs.length];
      next.focus();
      select(next.getAttribute("aria-controls"));
    });
  });
  const before = memory.get(place);
  const known = before && runs.some((run) => run.id === before.tab) ? before.tab : runs[0].id;
  select(known);
  if (before && document.querySelector("meta[name=visionsweep-reload]")) {
    for (const [key, state] of Object.entries(before.rankings)) {
      if (!document.getElementById(key)) continue;
      if (!rankings.has(key)) rankings.set(key, new Ranking(document.getElementById(key)));
      rankings.get(key).restore(state);
    }
  }
  document.addEventListener("trial", (event) => rankings.get(event.detail.run).show(event.detail.id));
  document.querySelectorAll("[data-figure]").forEach((div) => nearWindow.observe(div));
  window.addEventListener("beforeprint", () => document.querySelectorAll("[data-figure]").forEach((div) => plots.drawStored(div)));

  document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", () => copy(button)));

  const reload = document.querySelector("meta[name=visionsweep-reload]");
  if (!reload) return;
  let touched = 0;
  for (const kind of ["pointerdown", "keydown", "wheel", "touchstart"]) window.addEventListener(kind, () => { touched = Date.now(); }, { passive: true });
  setInterval(() => {
    // Not under the reader's hands, and not where nobody looks.
    if (document.hidden || Date.now() - touched < 8000) return;
    const states = [...rankings].map(([key, ranking]) => [key, ranking.state()]);
    memory.set(place, { tab: runs.find((run) => !run.hidden).id, rankings: Object.fromEntries(states) });
    location.reload();
  }, 1000 * Number(reload.content));
}

start();
