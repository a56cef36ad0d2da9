import type { ChildProcess } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../scripts/free-port.ts';
import { debianVersion, filledIn, programFile } from './contenders/contender.ts';
import { nginxValues, startNginx } from './contenders/nginx.ts';
import { startServer } from './processes.ts';

/** What the API answers: 200 bytes of JSON. */
export const ANSWER = JSON.stringify({ id: 'item_1', name: 'An answer of 200 bytes', filler: '' }).replace(
  '""}',
  `"${'x'.repeat(145)}"}`,
);
/** Where it answers with {@link LARGE_BYTES} of zeros instead. */
export const LARGE_PATH = '/body';
/** Where it answers once it has read a body. */
export const UPLOAD_PATH = '/upload';
export const LARGE_BYTES = 256 * 1024;

/** The API behind every contender: nginx where it is installed, since it must never be what limits, else node:http. */
export async function startOrigin(
  folder: string,
  core: number,
  started: ChildProcess[],
): Promise<{ address: string; madeOf: string; child: ChildProcess }> {
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  const own = join(folder, 'origin');
  mkdirSync(own);
  writeFileSync(join(own, 'large'), Buffer.alloc(LARGE_BYTES));
  if (programFile('nginx')) {
    const file = join(import.meta.dirname, 'origin.conf');
    const config = filledIn(file, { ...nginxValues(own, port), answer: ANSWER });
    return {
      address,
      madeOf: `nginx ${debianVersion('nginx')}`,
      child: await startNginx(config, own, port, core, started),
    };
  }
  const script = join(import.meta.dirname, 'origin-server.ts');
  const child = await startServer(['node', script, String(port)], port, core, started);
  return { address, madeOf: 'node:http (nginx is not installed)', child };
}
