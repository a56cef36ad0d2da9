import { join } from 'node:path';
import { programFile } from './contenders/contender.ts';
import { output, run } from './processes.ts';

/** What a load generator is to do. */
export type Load = {
  url: string;
  /** Goes round these keys, a key each line. */
  keyFile: string;
  connections: number;
  seconds: number;
  /** Where the requests go; `/v1/items` when absent. */
  path?: string;
  /** Sends a body of so many bytes with each request, as POST. */
  bodyBytes?: number;
};

/** What came of it. */
export type LoadResult = {
  perSecond: number;
  /** Milliseconds. */
  p50: number;
  p99: number;
  /** Milliseconds the load lasted. */
  lasted: number;
  requests: number;
};

/** What one generator prints. */
type Printed = {
  requests: number;
  microseconds: number;
  p50: number;
  p99: number;
  unexpected: number;
  broken: number;
};

/** The core that load generators and the API share. */
export const LOAD_CORE = 1;
const PATH = '/v1/items';
/** With a body each request is held ready in full, so there are only some. */
const KEYS_WITH_BODY = 32;

/** What generates load here: wrk, or autocannon where it is not installed. */
export const GENERATOR = programFile('wrk')
  ? 'wrk'
  : 'autocannon (wrk is not installed: apt-get install -y wrk)';

/**
 * Puts a server under as much load as it takes over some connections.
 *
 * @throws Error when any answer had another status than 200, or a connection broke
 */
export async function load({ url, keyFile, connections, seconds, path = PATH, bodyBytes = 0 }: Load) {
  const most = String(bodyBytes > 0 ? KEYS_WITH_BODY : 1_000_000);
  const wrk = programFile('wrk');
  let printed: Printed;
  if (wrk) {
    const script = join(import.meta.dirname, 'load.lua');
    const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '10s', '-s', script, url, '--'];
    const { host } = new URL(url);
    const text = await output([wrk, ...args, keyFile, host, path, most, String(bodyBytes)], LOAD_CORE);
    printed = JSON.parse(text.trim().split('\n').at(-1) as string) as Printed;
  } else {
    const script = join(import.meta.dirname, 'load-autocannon.ts');
    const args = [url, keyFile, path, most, String(bodyBytes), String(connections), String(seconds)];
    printed = await run<Printed>([script, ...args], LOAD_CORE);
  }
  const { requests, microseconds, p50, p99, unexpected, broken } = printed;
  if (unexpected > 0) throw new Error(`${unexpected} of ${requests} requests were not answered 200`);
  if (broken > 0) throw new Error(`${broken} connections broke or waited too long`);
  if (requests === 0) throw new Error('Nothing was answered');
  return {
    perSecond: requests / (microseconds / 1e6),
    p50: p50 / 1000,
    p99: p99 / 1000,
    lasted: microseconds / 1000,
    requests,
  } satisfies LoadResult;
}
