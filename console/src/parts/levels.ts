/** Levels from the least to the most severe, as bars are stacked. */
export const LEVELS = ['NONE', 'TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'] as const;

/** The custom property with the colour of a level's bars. */
export function fillOf(level: string): string {
  return `--${level.toLowerCase()}-fill`;
}
