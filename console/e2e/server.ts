import type { TestProject } from 'vitest/node';
import { Thalweg } from './thalweg';

declare module 'vitest' {
  interface ProvidedContext {
    /** Where the demonstration listens. */
    url: string;
  }
}

/** Shop requests a second: enough to look at, few enough for a debug build beside a browser. */
const RATE = '12';

/** Plays the demonstration for as long as tests run. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const demo = await Thalweg.demo('--rate', RATE);
  project.provide('url', demo.url);
  return () => demo.stop();
}
