// Figures are drawn when they come near the window, and again in the other colours when the mode changes.

const INK = {
  light: { text: "#1c2126", dim: "#5b636d", grid: "#e6e8eb", zero: "#c9cdd2", page: "#ffffff" },
  dark: { text: "#e4e7ea", dim: "#a0a8b1", grid: "#2c3138", zero: "#4a515a", page: "#1d2126" },
};
const COARSE = window.matchMedia("(pointer: coarse)").matches;

function template() {
  const ink = INK[document.documentElement.dataset.mode];
  const axis = {
    gridcolor: ink.grid, linecolor: ink.zero, zerolinecolor: ink.zero, tickcolor: ink.zero, ticks: "",
    tickfont: { color: ink.dim }, title: { font: { color: ink.dim, size: 12 } }, zerolinewidth: 1,
  };
  return {
    layout: {
      font: { color: ink.text, family: 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif' },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", xaxis: axis, yaxis: axis,
      hoverlabel: { bgcolor: ink.page, bordercolor: ink.zero, font: { color: ink.text } },
      annotationdefaults: { font: { color: ink.dim } }, colorway: ["#1F78B4", "#D55E00", "#009E73", "#C0649B", "#A87900"],
      modebar: { bgcolor: "rgba(0,0,0,0)", color: ink.dim, activecolor: ink.text },
    },
  };
}

const plots = {
  // Fingers scroll the page, they do not zoom a figure.
  config: {
    responsive: true, displaylogo: false, displayModeBar: COARSE ? false : "hover", scrollZoom: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  },
  drawn: new Set(),
  draw(div, spec) {
    if (plots.drawn.has(div)) return;
    plots.drawn.add(div);
    const layout = { ...spec.layout, template: template(), autosize: true };
    if (COARSE) layout.dragmode = false;
    Plotly.newPlot(div, spec.data, layout, plots.config);
    div.on("plotly_click", (event) => {
      const told = event.points[0].customdata;
      const id = Array.isArray(told) ? told[0] : told;
      const run = div.closest("[data-run]");
      if (run && typeof id === "string") document.dispatchEvent(new CustomEvent("trial", { detail: { run: run.id, id } }));
    });
  },
  drawStored(div) {
    plots.draw(div, stored(div.dataset.figure));
  },
  drop(div) {
    plots.drawn.delete(div);
    Plotly.purge(div);
  },
  recolour() {
    for (const div of plots.drawn) Plotly.relayout(div, { template: template() });
  },
};

const nearWindow = new IntersectionObserver(
  (entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      nearWindow.unobserve(entry.target);
      plots.drawStored(entry.target);
    }
  },
  { rootMargin: "400px" },
);
