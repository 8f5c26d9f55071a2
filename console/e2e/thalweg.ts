import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Longest start, in a debug build on a busy machine, in milliseconds. */
const START_TIMEOUT_MS = 60_000;

/** An optimised binary to test in place of the one that `make test` built: only its speed is judged. */
const OPTIMISED = process.env.THALWEG_OPTIMISED;

export const IS_OPTIMISED = OPTIMISED !== undefined;

/** The binary under test. */
export const BINARY = OPTIMISED ?? join(process.env.CARGO_TARGET_DIR ?? '../target', 'debug', 'thalweg');

/** A running thalweg on ports of its own, with a data directory of its own. */
export class Thalweg {
  private constructor(
    readonly url: string,
    private readonly process: ChildProcess,
    private readonly directory: string,
  ) {}

  /** Runs `thalweg demo`: the simulated shop, with its incident. */
  static demo(...args: string[]): Promise<Thalweg> {
    return Thalweg.start('demo', directory(), args, /HTTP (http:\/\/\S+)/);
  }

  /** Runs `thalweg serve` over a data directory that was prepared. */
  static serve(dataDirectory: string): Promise<Thalweg> {
    const ready = /"http":"([^"]+)"/;
    return Thalweg.start('serve', dataDirectory, ['--set', 'logging.json=true'], ready);
  }

  private static async start(command: string, dataDirectory: string, args: string[], ready: RegExp): Promise<Thalweg> {
    const ports = ['http', 'otlp_grpc', 'syslog', 'postgres'].flatMap((name) => ['--set', `listen.${name}=127.0.0.1:0`]);
    const child = spawn(BINARY, [command, '--data-dir', dataDirectory, ...ports, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: withoutSettings(),
    });
    const address = await new Promise<string>((resolve, reject) => {
      let said = '';
      const timer = setTimeout(() => reject(new Error(`${BINARY} ${command} is not ready: ${said}`)), START_TIMEOUT_MS);
      const read = (chunk: Buffer) => {
        said = (said + chunk.toString()).slice(-20_000);
        const found = ready.exec(said)?.[1];
        if (!found) return;
        clearTimeout(timer);
        resolve(found);
      };
      child.stdout.on('data', read);
      child.stderr.on('data', read);
      child.on('error', reject);
      child.on('exit', (code) => reject(new Error(`${BINARY} ${command} ended with ${code}: ${said}`)));
    });
    return new Thalweg(address.startsWith('http') ? address : `http://${address}`, child, dataDirectory);
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.process.once('exit', resolve));
    this.process.kill('SIGTERM');
    await ended;
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Sends lines of JSON, and waits until they are durable. */
  async send(lines: object[], token?: string): Promise<void> {
    const response = await fetch(`${this.url}/api/v1/logs?format=ndjson`, {
      method: 'POST',
      headers: token ? { authorization: `Bearer ${token}` } : {},
      body: lines.map((line) => JSON.stringify(line)).join('\n'),
    });
    if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  }
}

/** An empty data directory. */
export function directory(): string {
  return mkdtempSync(join(tmpdir(), 'thalweg-console-'));
}

/** What a command prints. */
export function run(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(BINARY, args, {
    encoding: 'utf8',
    env: withoutSettings(),
    maxBuffer: 64 << 20,
  });
  if (status !== 0) throw new Error(`${BINARY} ${args.join(' ')}: ${stderr}`);
  return stdout;
}

/** The environment without the caller's configuration. */
function withoutSettings(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('THALWEG_')));
}
