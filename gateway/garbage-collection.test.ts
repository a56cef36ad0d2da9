import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it, vi } from 'vitest';

const SUIT = `
import { suitGarbageCollection } from '${join(import.meta.dirname, 'garbage-collection.ts')}';
if (process.argv[1] === 'with') suitGarbageCollection();
`;

/** Reads 2 GiB into buffers beside a heap with something in it; prints how often all garbage was collected. */
const READING = `
import { constants, PerformanceObserver } from 'node:perf_hooks';
${SUIT}
const heap = Array.from({ length: 200_000 }, (_, i) => ({ i, text: 'x' + i }));
let major = 0;
new PerformanceObserver((list) => {
  for (const { detail } of list.getEntries()) if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) major++;
}).observe({ entryTypes: ['gc'] });
for (let i = 0; i < 32_768; i++) {
  Buffer.allocUnsafeSlow(65_536)[0] = 1;
  if (i % 50 === 0) await new Promise(setImmediate);
}
await new Promise((resolve) => setTimeout(resolve, 50));
console.log(heap.length > 0 ? major : 0);
`;

/** Makes a million objects of which many wait, as requests do while keys are used for the first time; then short-lived ones. */
const SERVING = `
${SUIT}
function request(i) {
  return { at: i / 3, head: { host: 'host ' + i, lines: [i, i + 1] }, answer: null };
}
const waiting = new Array(100_000).fill(null);
for (let i = 0; i < 1_000_000; i++) waiting[i % waiting.length] = request(i);
waiting.fill(null);
console.log('Nothing waits any more');
const underWay = new Array(64).fill(null);
for (let i = 0; i < 2_000_000; i++) underWay[i % 64] = request(i);
console.log(underWay.length);
`;

async function printed(program: string, how: 'with' | 'without', options: string[] = []): Promise<string> {
  const args = [...options, '--input-type=module', '--eval', program, how];
  return (await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 24 })).stdout;
}

/**
 * The share of what short-lived objects took that outlived a collection. With one thread, as it depends otherwise on when the
 * compiler's is done.
 */
async function survived(how: 'with' | 'without'): Promise<number> {
  const all = await printed(SERVING, how, ['--single-threaded', '--trace-gc', '--trace-gc-nvp']);
  const trace = all.slice(all.indexOf('Nothing waits'));
  const sumOf = (what: string) =>
    [...trace.matchAll(new RegExp(`"gc":"s".*"${what}":(\\d+)`, 'g'))].reduce(
      (sum, [, n]) => sum + Number(n),
      0,
    );
  return sumOf('new_space_survived') / sumOf('allocated');
}

it('what is read into buffers does not have the whole heap searched for garbage again and again', async () => {
  // Mostly a quarter of them; a machine that is busy with other things has been seen to make it as many, once.
  await vi.waitFor(async () => {
    const without = Number(await printed(READING, 'without'));
    expect(without).toBeGreaterThan(1);
    expect(Number(await printed(READING, 'with'))).toBeLessThanOrEqual(without / 2);
  });
});

it('short-lived objects are collected early, also where those made by the same code lived long before', async () => {
  const kept = await survived('with');
  expect(kept).toBeLessThan(0.02);
  expect(await survived('without')).toBeGreaterThan(2 * kept);
});
