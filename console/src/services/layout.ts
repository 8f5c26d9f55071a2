/** A node of a map, with its place. */
export interface Place {
  name: string;
  x: number;
  y: number;
}

export interface Layout {
  places: Map<string, Place>;
  width: number;
  height: number;
}

export const NODE_WIDTH = 148;
export const NODE_HEIGHT = 44;
const GAP_X = 84;
const GAP_Y = 20;

/**
 * Places services in columns: whoever calls stands left of whom it calls. Calls that lead back
 * are left out of account. Within a column, services stand near those that call them.
 */
export function layout(calls: { caller: string; callee: string }[]): Layout {
  const names = [...new Set(calls.flatMap(({ caller, callee }) => [caller, callee]))].sort();
  const callees = new Map(names.map((name) => [name, [] as string[]]));
  for (const { caller, callee } of calls) if (caller !== callee) callees.get(caller)?.push(callee);

  const column = new Map(names.map((name) => [name, 0]));
  const isCalled = new Set(calls.filter(({ caller, callee }) => caller !== callee).map(({ callee }) => callee));
  const visit = (name: string, depth: number, path: Set<string>) => {
    if (path.has(name)) return;
    column.set(name, Math.max(column.get(name) ?? 0, depth));
    path.add(name);
    for (const callee of callees.get(name) ?? []) {
      if ((column.get(callee) ?? 0) < depth + 1) visit(callee, depth + 1, path);
    }
    path.delete(name);
  };
  const roots = names.filter((name) => !isCalled.has(name));
  for (const root of roots.length > 0 ? roots : names.slice(0, 1)) visit(root, 0, new Set());

  const columns: string[][] = [];
  for (const name of names) (columns[column.get(name) ?? 0] ??= []).push(name);
  const filled = columns.filter((names) => names.length > 0);
  const tallest = Math.max(1, ...filled.map((names) => names.length));
  const height = tallest * (NODE_HEIGHT + GAP_Y) - GAP_Y;
  const places = new Map<string, Place>();
  filled.forEach((names, index) => {
    const wish = (name: string) => {
      const callers = calls.filter(({ callee, caller }) => callee === name && places.has(caller));
      const ys = callers.map(({ caller }) => places.get(caller)?.y ?? 0);
      return ys.length > 0 ? ys.reduce((sum, y) => sum + y, 0) / ys.length : 0;
    };
    const sorted = names.map((name) => ({ name, y: wish(name) })).sort((a, b) => a.y - b.y);
    const top = (height - sorted.length * (NODE_HEIGHT + GAP_Y) + GAP_Y) / 2;
    sorted.forEach(({ name }, row) => {
      places.set(name, { name, x: index * (NODE_WIDTH + GAP_X), y: top + row * (NODE_HEIGHT + GAP_Y) });
    });
  });
  return { places, width: Math.max(1, filled.length) * (NODE_WIDTH + GAP_X) - GAP_X, height };
}
