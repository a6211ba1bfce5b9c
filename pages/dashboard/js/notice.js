// The line under the toolbar that says what is not as usual.

import { find, setText } from "./dom.js";

/** @import { Board } from "./board.js" */

/** @param {Board<any, any>} board */
export function drawNotice({ root, catchingUp, store, fed, stream, chartsFailing }) {
  const words = [];
  const again = catchingUp?.steps ?? store?.latest?.recomputed ?? null;
  if (again !== null) {
    const lost = catchingUp ? "The connection was lost." : "A worker process of the server was lost.";
    words.push(`${lost} The run is being computed again: step ${again} of ${store?.steps ?? 0} so far.`);
  } else if (fed && stream) words.push("Live stream not reachable: updates come through the page instead.");
  if (chartsFailing) words.push("The charts could not be loaded; trying again …");
  const notice = find(root, ".notice");
  notice.hidden = !words.length;
  setText(notice, words.join(" "));
}
