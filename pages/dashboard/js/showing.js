// When a page must be drawn again although nothing new has come: it changed its size, or is looked at again.

/**
 * @param {HTMLElement} root
 * @param {() => void} draw
 * @returns {() => void} stops it
 */
export function watchShowing(root, draw) {
  const resizing = new ResizeObserver(draw);
  resizing.observe(root);
  document.addEventListener("visibilitychange", draw);
  return () => {
    resizing.disconnect();
    document.removeEventListener("visibilitychange", draw);
  };
}
