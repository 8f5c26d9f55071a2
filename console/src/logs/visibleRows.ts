/** Height of a row that is not opened, in pixels: the same for all, so that places are known. */
export const ROW_PX = 26;
/** Rows beyond the edges that are there already when they are scrolled to. */
const OVERSCAN = 12;

/** Heights, in pixels, of what is shown below the rows that are opened, by their index. */
export type Opened = ReadonlyMap<number, number>;

/** Where a row begins. */
export function topOf(index: number, opened: Opened): number {
  let top = index * ROW_PX;
  for (const [row, height] of opened) if (row < index) top += height;
  return top;
}

/** The rows to be drawn: those that a window onto the list shows, and a few more. */
export function visibleRows(
  rows: number,
  opened: Opened,
  scrollTop: number,
  windowHeight: number,
): { first: number; end: number } {
  let [low, high] = [0, rows];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (topOf(middle + 1, opened) <= scrollTop) low = middle + 1;
    else high = middle;
  }
  const end = low + Math.ceil(windowHeight / ROW_PX) + OVERSCAN;
  return { first: Math.max(0, low - OVERSCAN), end: Math.min(rows, end) };
}
