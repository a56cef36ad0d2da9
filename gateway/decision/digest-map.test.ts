import { hash } from 'node:crypto';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { DigestMap } from './digest-map.ts';

const digestOf = (text: string) => hash('sha256', text, 'latin1');

it('finds each of many, and none that is not there', () => {
  const map = new DigestMap<number>();
  for (let i = 0; i < 20_000; i++) map.set(digestOf(`key ${i}`), i);
  expect(map.size).toBe(20_000);
  for (let i = 0; i < 20_000; i++) {
    expect(map.get(digestOf(`key ${i}`))).toBe(i);
    expect(map.get(digestOf(`other ${i}`))).toBeUndefined();
  }
});

it('tells digests apart that differ in one bit of their first 128, but for the one that is set', () => {
  const zeros = Buffer.alloc(32);
  const map = new DigestMap<number>();
  const digests = new Map<string, number>([[zeros.toString('latin1'), -1]]);
  for (let bit = 0; bit < 128; bit++) {
    if (bit === 24) continue;
    const bytes = Buffer.from(zeros);
    bytes[bit >> 3] = 1 << (bit & 7);
    digests.set(bytes.toString('latin1'), bit);
  }
  for (const [digest, bit] of digests) map.set(digest, bit);
  expect(map.size).toBe(128);
  for (const [digest, bit] of digests) expect(map.get(digest)).toBe(bit);
});

it('does what a Map does, whatever is put in, taken out and put in again', () => {
  // Few places for many: all of these begin their search at the same one.
  const crowded = Array.from({ length: 300 }, (_, i) => {
    const bytes = Buffer.from(digestOf(`${i}`), 'latin1');
    bytes.writeInt32BE(i % 3 === 0 ? 0 : 0x40000000, 4);
    return bytes.toString('latin1');
  });
  const step = fc.tuple(
    fc.constantFrom('set', 'set', 'set', 'delete'),
    fc.integer({ min: 0, max: crowded.length - 1 }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400, size: 'max' }), (steps) => {
      const map = new DigestMap<number>();
      const model = new Map<string, number>();
      for (const [i, [what, which]] of steps.entries()) {
        const digest = crowded[which] as string;
        if (what === 'set') {
          map.set(digest, i);
          model.set(digest, i);
        } else {
          map.delete(digest);
          model.delete(digest);
        }
        expect(map.size).toBe(model.size);
      }
      for (const digest of crowded) expect(map.get(digest)).toBe(model.get(digest));
    }),
  );
});
