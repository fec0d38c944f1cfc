// The course of two days as one line.

const NAMESPACE = "http://www.w3.org/2000/svg";
const WIDTH = 96;
const HEIGHT = 24;

export function sparkline() {
  const svg = document.createElementNS(NAMESPACE, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "spark");
  svg.setAttribute("role", "img");
  const end = document.createElementNS(NAMESPACE, "path");
  end.setAttribute("class", "end");
  svg.append(document.createElementNS(NAMESPACE, "path"), end);
  return svg;
}

// `values`: prices in order of time; null where there is none, and then the line breaks.
export function drawSparkline(svg, values) {
  const [path, end] = svg.children;
  const known = values.filter((value) => value !== null);
  if (known.length < 2) {
    path.setAttribute("d", "");
    end.setAttribute("d", "");
    svg.setAttribute("aria-label", "no prices of two days");
    svg.dataset.way = "none";
    return;
  }
  const low = Math.min(...known);
  const span = Math.max(...known) - low;
  const x = (at) => ((at * WIDTH) / (values.length - 1)).toFixed(1);
  const y = (value) => (span ? HEIGHT - 2 - ((value - low) / span) * (HEIGHT - 4) : HEIGHT / 2).toFixed(1);
  let command = "M";
  let line = "";
  values.forEach((value, at) => {
    if (value !== null) line += `${command}${x(at)} ${y(value)}`;
    command = value === null ? "M" : "L";
  });
  path.setAttribute("d", line);
  // A line without length is a dot, round on a picture that is stretched, too.
  const last = values.findLastIndex((value) => value !== null);
  end.setAttribute("d", `M${x(last)} ${y(values[last])}h0`);
  const change = (known.at(-1) / known[0] - 1) * 100;
  svg.dataset.way = change < 0 ? "down" : "up";
  svg.setAttribute("aria-label", `${change < 0 ? "down" : "up"} ${Math.abs(change).toFixed(1)} % in two days`);
}
