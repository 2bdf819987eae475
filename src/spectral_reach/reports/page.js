// What the report's page does: draws its charts, shows and hides their curves, sorts tables, changes between light and
// dark. Plain script, no network; all data are in the page.
(() => {
  "use strict";
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("chart-data").textContent);
  const isDarkSystem = matchMedia("(prefers-color-scheme: dark)");
  const isTouched = matchMedia("(pointer: coarse)").matches;

  // Colours come as "$light|dark".
  const isDark = () => (root.dataset.theme || (isDarkSystem.matches ? "dark" : "light")) === "dark";
  const resolved = (value, dark) => {
    if (typeof value === "string") return value.startsWith("$#") ? value.slice(1).split("|")[Number(dark)] : value;
    if (Array.isArray(value)) return value.map((each) => resolved(each, dark));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, resolved(each, dark)]));
  };
  const colourOf = (name) => {
    // The browser resolves light-dark(); a property of its own would be returned unresolved.
    const probe = document.createElement("span");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const colour = getComputedStyle(probe).color;
    probe.remove();
    return colour;
  };

  // Which items of a chart's legends are switched on, by the name of the legend.
  const shown = (chart) => {
    const on = {};
    for (const legend of document.querySelectorAll(`#chart-${CSS.escape(chart.key)} .legend`)) {
      const pressed = legend.querySelectorAll('.item[aria-pressed="true"]');
      on[legend.dataset.legend] = new Set([...pressed].map((button) => button.dataset.key));
    }
    return on;
  };
  const isVisible = (trace, on) => Object.entries(trace.meta).every(([name, key]) => !(name in on) || on[name].has(key));

  const axis = (given, ink, grid) => ({
    automargin: true, gridcolor: grid, linecolor: ink, tickcolor: ink, ticks: "outside", ticklen: 4, showline: true,
    zeroline: false, ...given, title: { ...given.title, font: { size: 13 }, standoff: 8 },
  });
  const draw = (chart, i) => {
    const dark = isDark();
    const [ground, ink, grid] = ["--ground", "--ink", "--line"].map(colourOf);
    const { data, layout } = resolved(chart.panels[i], dark);
    const on = shown(chart);
    for (const trace of data) trace.visible = isVisible(trace, on);
    return Plotly.react(
      `plot-${chart.key}-${i}`,
      data,
      {
        ...layout, showlegend: false, paper_bgcolor: ground, plot_bgcolor: ground, hovermode: "closest",
        font: { color: ink, size: 12, family: getComputedStyle(document.body).fontFamily },
        hoverlabel: { align: "left", bgcolor: ground, bordercolor: ink, font: { color: ink, size: 12 } },
        margin: { l: 48, r: 12, t: 26, b: 40 }, dragmode: isTouched ? false : "zoom", uirevision: "kept",
        xaxis: axis(layout.xaxis, ink, grid), yaxis: axis(layout.yaxis, ink, grid),
      },
      {
        responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
        toImageButtonOptions: { format: "svg", filename: `${chart.key}-${i}` },
      },
    );
  };
  const drawOrTell = async (chart, i) => {
    try {
      await draw(chart, i);
    } catch (error) {
      const note = document.createElement("p");
      note.className = "failed";
      note.textContent = `This chart could not be drawn: ${error.message}`;
      document.getElementById(`plot-${chart.key}-${i}`).replaceChildren(note);
      console.error(error);
    }
  };
  // One panel after another, with a breath between them, so that the page answers meanwhile. A later call takes over.
  let calls = 0;
  const drawAll = async () => {
    const call = ++calls;
    root.dataset.drawn = "no";
    for (const chart of charts) {
      for (let i = 0; i < chart.panels.length; i++) {
        await drawOrTell(chart, i);
        await new Promise((done) => setTimeout(done));
        if (call !== calls) return;
      }
    }
    root.dataset.drawn = "yes";
  };

  const press = (button, on) => button.setAttribute("aria-pressed", String(on));
  for (const chart of charts) {
    const section = document.getElementById(`chart-${chart.key}`);
    const again = () => chart.panels.forEach((_, i) => drawOrTell(chart, i));
    section.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      const legend = button && button.closest(".legend");
      if (!legend) return;
      if (button.matches(".item")) press(button, button.getAttribute("aria-pressed") !== "true");
      else for (const each of legend.querySelectorAll(".item")) press(each, button.matches(".all"));
      again();
    });
  }

  // Sorting: numbers by data-order, texts as a reader would; what is not known stays last.
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    return "order" in cell.dataset ? cell.dataset.order : cell.textContent;
  };
  const compare = (a, b, sign) => {
    const [x, y] = [Number(a), Number(b)];
    const isNumeric = (text, value) => text === "nan" || (text !== "" && !Number.isNaN(value));
    if (!isNumeric(a, x) || !isNumeric(b, y)) return sign * a.localeCompare(b, undefined, { numeric: true });
    if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y));
    return sign * (x - y);
  };
  for (const button of document.querySelectorAll("table.sortable .sort")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const body = head.closest("table").tBodies[0];
      const rising = head.getAttribute("aria-sort") !== "ascending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const rows = [...body.rows];
      rows.sort((a, b) => compare(keyOf(a, head.cellIndex), keyOf(b, head.cellIndex), rising ? 1 : -1));
      body.append(...rows);
    });
  }

  // Light, dark, or what the system says.
  const themes = ["", "light", "dark"];
  const theme = document.getElementById("theme");
  const tellTheme = () => {
    const name = root.dataset.theme || "system";
    theme.textContent = `◐ ${name}`;
    theme.setAttribute("aria-label", `Theme: ${name}`);
  };
  theme.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme || "") + 1) % themes.length];
    if (next) root.dataset.theme = next;
    else delete root.dataset.theme;
    tellTheme();
    drawAll();
  });
  isDarkSystem.addEventListener("change", () => root.dataset.theme || drawAll());
  tellTheme();
  drawAll();
})();
