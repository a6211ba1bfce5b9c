// Small buttons beside a chart's name: log axis, and the chart as a picture.

import { element } from "./dom.js";

/** @import { Plot } from "./plots.js" */

/**
 * @param {Plot} plot
 * @param {string} title
 */
export function chartTools(plot, title) {
  const tools = element("span", { class: "tools" });
  if (plot.onLog) {
    plot.logButton = element("button", { type: "button", "aria-label": `Log axis of ${title}` }, "log");
    plot.logButton.onclick = () => {
      plot.setLog(!plot.log);
      plot.onLog?.(plot.log);
    };
    tools.append(plot.logButton);
    plot.setLog(plot.log);
  }
  for (const format of plot.slideUrl ? ["svg", "png"] : []) {
    const label = format.toUpperCase();
    const button = element("button", { type: "button", "aria-label": `${title} as ${label}` }, label);
    button.onclick = () => plot.download(format);
    tools.append(button);
  }
  return tools;
}
