import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { clock, day } from '../time/format';

/** The colour of a custom property as it is now, for canvases, which know none. */
export function colour(property: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(property).trim();
}

/** Axes, fonts and lines as all charts have them. */
export function axes(format: (value: number) => string): uPlot.Axis[] {
  const shared = {
    stroke: colour('--muted'),
    font: '11px system-ui, sans-serif',
    grid: { stroke: colour('--line'), width: 1 },
    ticks: { show: false },
  };
  return [
    { ...shared, grid: { show: false }, size: 24, gap: 4, space: 72, values: (_plot, values) => values.map(moments(values)) },
    { ...shared, size: 52, gap: 4, space: 28, values: (_plot, values) => values.map((value) => format(value)) },
  ];
}

/** Times as short as they can be told apart. */
function moments(secs: number[]): (secs: number) => string {
  const step = (secs[1] ?? 0) - (secs[0] ?? 0);
  if (step >= 86_400) return (at) => day(at * 1000).slice(5);
  return (at) => clock(at * 1000).slice(0, step < 60 ? 8 : 5);
}

/** Reports what was selected by dragging, in seconds since 1970, and takes the selection away. */
export function brush(select: (fromSecs: number, toSecs: number) => void): (plot: uPlot) => void {
  return (plot) => {
    const { left, width } = plot.select;
    if (width < 3) return;
    select(plot.posToVal(left, 'x'), plot.posToVal(left + width, 'x'));
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  };
}

/** Draws a chart in an element and keeps it as wide as that, until the returned function is called. */
export function draw(
  element: HTMLElement,
  options: Omit<uPlot.Options, 'width'>,
  data: uPlot.AlignedData,
): { plot: uPlot; remove: () => void } {
  const plot = new uPlot({ ...options, width: Math.max(element.clientWidth, 100) }, data, element);
  const observer = new ResizeObserver(() => {
    const width = element.clientWidth;
    if (width > 0 && width !== plot.width) plot.setSize({ width, height: options.height });
  });
  observer.observe(element);
  return {
    plot,
    remove: () => {
      observer.disconnect();
      plot.destroy();
    },
  };
}
