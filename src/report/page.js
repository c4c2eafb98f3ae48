// The values under the pointer, and all that is folded on paper.
for (const plot of document.querySelectorAll(".plot[data-from]")) {
  const [from, to] = [plot.dataset.from, plot.dataset.to].map(pair => pair.split(" ").map(Number));
  const svg = plot.querySelector("svg"), output = document.createElement("output");
  const logarithmic = plot.dataset.log !== undefined;
  const shown = value => Math.abs(value) >= 1e-3 && Math.abs(value) < 1e7 || value === 0
    ? value.toLocaleString("en", { maximumSignificantDigits: 4 }) : value.toExponential(2);
  output.hidden = true;
  plot.append(output);
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect();
    const right = (event.clientX - box.left) / box.width, up = 1 - (event.clientY - box.top) / box.height;
    const step = from[0] + right * (to[0] - from[0]);
    const value = logarithmic ? from[1] * (to[1] / from[1]) ** up : from[1] + up * (to[1] - from[1]);
    output.textContent = `step ${Math.round(step).toLocaleString("en")}, ${shown(value)}`;
    output.hidden = false;
  });
  svg.addEventListener("pointerleave", () => { output.hidden = true; });
}
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
