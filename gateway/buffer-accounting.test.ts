import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it, vi } from 'vitest';

/** Reads 2 GiB into buffers beside a heap with something in it; prints how often all garbage was collected. */
const PROGRAM = `
import { constants, PerformanceObserver } from 'node:perf_hooks';
import { weighBuffersWithHeap } from '${join(import.meta.dirname, 'buffer-accounting.ts')}';
if (process.argv[1] === 'with') weighBuffersWithHeap();
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

async function majorCollections(how: 'with' | 'without'): Promise<number> {
  const args = ['--input-type=module', '--eval', PROGRAM, how];
  return Number((await promisify(execFile)(process.execPath, args)).stdout);
}

it('what is read into buffers does not have the whole heap searched for garbage again and again', async () => {
  // Mostly a quarter of them; a machine that is busy with other things has been seen to make it as many, once.
  await vi.waitFor(async () => {
    const without = await majorCollections('without');
    expect(without).toBeGreaterThan(1);
    expect(await majorCollections('with')).toBeLessThanOrEqual(without / 2);
  });
});
