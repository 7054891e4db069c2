// Draws the charts of a report with the console's own chart code. The page's data is in the element #data (see charts.go).
import { html, render } from "lib/html.js";
import { applyTheme } from "lib/colour.js";
import { RunCharts } from "lib/runcharts.js";

const data = JSON.parse(document.getElementById("data").textContent);
const draw = () => render(html`<${RunCharts} data=${data} />`, document.getElementById("charts"));
applyTheme();
addEventListener("themechange", draw);
draw();
