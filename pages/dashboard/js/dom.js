// The few operations on elements that the scripts share.

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string>} attributes
 * @param {string} text
 */
export function element(tag, attributes = {}, text = "") {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
}

/**
 * The first descendant that fits; an error if there is none.
 * @param {Element} root
 * @param {string} selector
 */
export function find(root, selector) {
  const node = /** @type {HTMLElement | null} */ (root.querySelector(selector));
  if (!node) throw new Error(`${selector} is missing`);
  return node;
}

/**
 * @param {Node} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * @param {string[]} head
 * @param {string[][]} rows
 */
export function table(head, rows) {
  const node = element("table");
  /** @type {(cells: string[], tag: "th" | "td") => HTMLElement} */
  const line = (cells, tag) => {
    const row = element("tr");
    row.append(...cells.map((cell) => element(cell ? tag : "td", {}, cell)));
    return row;
  };
  node.append(line(head, "th"), ...rows.map((cells) => line(cells, "td")));
  return node;
}

/**
 * Replaces content node by node, so that only what differs changes and the focus stays where it is.
 * @param {Node} parent
 * @param {Node[]} nodes
 */
export function refill(parent, nodes) {
  nodes.forEach((node, i) => {
    const old = /** @type {HTMLElement | CharacterData | undefined} */ (parent.childNodes[i]);
    const fresh = /** @type {HTMLElement | CharacterData} */ (node);
    if (!old) parent.appendChild(fresh);
    else if (old instanceof HTMLElement && fresh instanceof HTMLElement && isSameKind(old, fresh))
      refill(old, [...fresh.childNodes]);
    else if (old instanceof CharacterData && fresh instanceof CharacterData) {
      if (old.data !== fresh.data) old.data = fresh.data;
    } else old.replaceWith(fresh);
  });
  while (parent.childNodes.length > nodes.length) parent.lastChild?.remove();
}

/** @type {(one: HTMLElement, other: HTMLElement) => boolean} */
const isSameKind = (one, other) => one.nodeName === other.nodeName && one.dataset.short === other.dataset.short;

/** Whether the visitor's system asks for little motion. */
export function prefersReducedMotion() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
