// The browser's Back and Forward buttons.

/** @import { Send } from "./types.js" */

const AFTER_BACK = 400; // ms in which Streamlit's own script run ends; it may take the address for a replaced one

/**
 * Tells Python when the visitor goes back or forward on this page.
 * @param {Send} send
 * @returns {() => void} stops it
 */
export function watchBack(send) {
  const page = location.pathname;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const onBack = () => {
    clearTimeout(timer);
    const query = location.search; // Streamlit's script run may overwrite it
    if (location.pathname === page) timer = setTimeout(() => send({ name: "back", query }), AFTER_BACK);
  };
  addEventListener("popstate", onBack);
  return () => {
    clearTimeout(timer);
    removeEventListener("popstate", onBack);
  };
}
