import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Recent } from './recent.ts';

it('keeps what is in use, and never more than its capacity', () => {
  const recent = new Recent<number, number>(100);
  for (let i = 0; i < 10_000; i++) {
    recent.set(i, i);
    expect(recent.get(0), 'in use').toBe(0);
    expect(recent.size).toBeLessThanOrEqual(101);
  }
  expect([recent.get(9999), recent.get(5000)]).toEqual([9999, undefined]);
});

it('has what is used again once, and not what it replaced beside it', () => {
  const recent = new Recent<number, number>(10);
  for (let i = 0; i < 6; i++) recent.set(i, i);
  expect(recent.turns).toBe(1);
  for (let i = 0; i < 4; i++) expect(recent.get(i)).toBe(i);
  expect(recent.size).toBe(6);
});

it('never answers with what was replaced or removed', () => {
  const step = fc.tuple(fc.constantFrom('set', 'get', 'delete', 'clear'), fc.integer({ min: 0, max: 9 }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 12 }), (steps, capacity) => {
      const recent = new Recent<number, number>(capacity);
      const model = new Map<number, number>();
      for (const [i, [what, key]] of steps.entries()) {
        if (what === 'set') {
          recent.set(key, i);
          model.set(key, i);
          expect(recent.get(key)).toBe(i);
        } else if (what === 'delete') {
          recent.delete(key);
          model.delete(key);
        } else if (what === 'clear') {
          recent.clear();
          model.clear();
        }
        const found = recent.get(key);
        if (found !== undefined) expect(found).toBe(model.get(key));
      }
    }),
  );
});
