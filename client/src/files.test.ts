import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../../test/keystores.ts';
import { readJson, readOrWrite, withLock, writeJson } from './files.ts';

const MODULE = join(import.meta.dirname, 'files.ts');

/** Runs a module in a process of its own, with `readJson`, `writeJson`, `withLock` and the path of a file. */
function inProcess(path: string, body: string) {
  const source = `
    import { readJson, withLock, writeJson } from ${JSON.stringify(MODULE)};
    const path = ${JSON.stringify(path)};
    ${body}`;
  return spawn(process.execPath, ['--input-type=module', '-e', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

it('files are for their user only, and so is a new folder', async () => {
  const folder = join(temporaryFolder(), 'a', 'b');
  const path = join(folder, 'x.json');
  await writeJson(path, { a: 1 });
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(statSync(folder).mode & 0o777).toBe(0o700);
  expect(await readJson(path)).toEqual({ a: 1 });
  expect(await readJson(join(folder, 'none.json'))).toBeUndefined();
});

it('several processes that change a file at once lose nothing, and whoever reads finds a whole one', async () => {
  const path = join(temporaryFolder(), 'count.json');
  await writeJson(path, { count: 0, filler: '' });
  const writers = [1, 2, 3].map((n) =>
    inProcess(
      path,
      `for (let i = 0; i < 40; i++) await withLock(path, async () => {
         const { count } = await readJson(path);
         await writeJson(path, { count: count + 1, filler: 'x'.repeat(${n} * 10000) });
       });`,
    ),
  );
  let running = true;
  const ended = Promise.all(writers.map((each) => once(each, 'close'))).then(() => {
    running = false;
  });
  let reads = 0;
  while (running) {
    const { count, filler } = (await readJson(path)) as { count: number; filler: string };
    expect(Number.isInteger(count) && filler.length % 10_000 === 0).toBe(true);
    reads += 1;
  }
  await ended;
  expect(reads).toBeGreaterThan(10);
  expect(await readJson(path)).toMatchObject({ count: 120 });
  expect(readdirSync(join(path, '..'))).toEqual(['count.json']);
});

it('a process that is killed while it writes leaves a whole file, and its lock holds nobody up', async () => {
  const path = join(temporaryFolder(), 'x.json');
  await writeJson(path, { n: -1 });
  for (let round = 0; round < 5; round++) {
    const writer = inProcess(
      path,
      `console.log('go'); for (let n = 0; ; n++) await withLock(path, () => writeJson(path, { n, filler: 'y'.repeat(100000) }));`,
    );
    await once(writer.stdout, 'data');
    while (((await readJson(path)) as { n: number }).n < 0) await withLock(path, async () => undefined);
    writer.kill('SIGKILL');
    await once(writer, 'close');
    const { n } = (await readJson(path)) as { n: number };
    expect(n).toBeGreaterThanOrEqual(0);
    await withLock(path, () => writeJson(path, { n: -1 }));
  }
});

it('the lock of a process that is gone is taken over, that of another machine after a while', async () => {
  const path = join(temporaryFolder(), 'x.json');
  writeFileSync(`${path}.lock`, `999999999 ${hostname()} abc\n`);
  expect(await withLock(path, async () => 'done')).toBe('done');
  writeFileSync(`${path}.lock`, `1 another-machine abc\n`);
  expect(await withLock(path, async () => 'done')).toBe('done');
  expect(readdirSync(join(path, '..'))).toEqual([]);
});

it('of two that write what is to be written once, both get the same', async () => {
  const path = join(temporaryFolder(), 'id');
  const got = await Promise.all(['a', 'b', 'c', 'd'].map((each) => readOrWrite(path, each)));
  expect(new Set(got).size).toBe(1);
  expect(readFileSync(path, 'utf8')).toBe(got[0]);
});

it('a folder that cannot be written is told with its path and a remedy', async () => {
  const file = join(temporaryFolder(), 'file');
  writeFileSync(file, '');
  await expect(writeJson(join(file, 'x.json'), {})).rejects.toMatchObject({
    code: 'storage_unavailable',
    message: expect.stringContaining(file),
    remedy: expect.stringContaining('disk has room'),
  });
});
