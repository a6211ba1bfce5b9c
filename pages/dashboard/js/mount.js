// How Streamlit mounts a board.

/** @import { Board } from "./board.js" */
/** @import { BoardData, Component } from "./types.js" */

const CLOSE_DELAY = 2000; // ms for which a board that lost its element is kept for the next one

/**
 * The function that Streamlit calls at the first mount and whenever Python sends new data. Each element has one board,
 * but Streamlit may replace the element: then the board moves to the new one, with its zoom and its pending commands.
 * @template {BoardData} Data
 * @param {new (root: HTMLElement) => Board<Data, any>} BoardClass
 */
export function mounted(BoardClass) {
  /** @type {Map<HTMLElement, Board<Data, any>>} */
  const boards = new Map();
  /** @type {Map<Board<Data, any>, ReturnType<typeof setTimeout>>} */
  const closing = new Map();

  /** @param {HTMLElement} parent */
  function boardFor(parent) {
    const place = /** @type {HTMLElement} */ (parent.querySelector(".ecl"));
    const [before, orphan] = [...boards].find(([, { root }]) => !root.isConnected) ?? [];
    if (!before || !orphan) return new BoardClass(place);
    boards.delete(before);
    place.replaceWith(orphan.root);
    return orphan;
  }

  return (/** @type {Component<Data>} */ component) => {
    const { parentElement, data: [data] } = component;
    const board = boards.get(parentElement) ?? boardFor(parentElement);
    boards.set(parentElement, board);
    clearTimeout(closing.get(board));
    board.receive(component, data);
    return () => {
      if (boards.get(parentElement) !== board) return; // it has moved on
      const close = () => {
        board.close();
        boards.delete(parentElement);
        closing.delete(board);
      };
      closing.set(board, setTimeout(close, CLOSE_DELAY));
    };
  };
}
