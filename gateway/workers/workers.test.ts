import { expect, it } from 'vitest';
import { pauseAfter } from './workers.ts';

it('a worker that dies is replaced at once, and ever later while its successors die at their start', () => {
  expect([0, 1, 2, 3, 4, 9, 20].map(pauseAfter)).toEqual([0, 0, 250, 500, 1000, 30_000, 30_000]);
});
