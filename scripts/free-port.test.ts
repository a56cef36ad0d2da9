import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { freePort } from './free-port.ts';

/** Keeps 400 ports until its standard input ends. */
const KEEPER = `
  import { freePort } from ${JSON.stringify(resolve('scripts/free-port.ts'))};
  const ports = [];
  while (ports.length < 400) ports.push(await freePort());
  console.log(ports.join());
  process.stdin.resume();
`;

test('a port belongs to one process while that lives, although nothing listens on it', async () => {
  const keepers = [1, 2].map(() =>
    spawn(process.execPath, ['--input-type=module', '-e', KEEPER], { stdio: ['pipe', 'pipe', 'inherit'] }),
  );
  // Two that knew nothing of each other would meet about ten times.
  const kept = await Promise.all(
    keepers.map(async (keeper) => {
      const ended = once(keeper, 'exit').then(([code]) => Promise.reject(new Error(`It ended with ${code}`)));
      return String((await Promise.race([once(keeper.stdout, 'data'), ended]))[0]);
    }),
  );
  const own = await Promise.all(Array.from({ length: 400 }, freePort));
  const ports = [...kept.flatMap((line) => line.split(',').map(Number)), ...own];
  expect(ports.every((port) => Number.isInteger(port) && port > 1024)).toBe(true);
  expect(new Set(ports).size).toBe(1200);
  for (const { stdin } of keepers) stdin.end();
  for (const keeper of keepers) if (keeper.exitCode === null) await once(keeper, 'exit');
});
