import fc from 'fast-check';
import { expect, it } from 'vitest';
import { plainNumber } from './characters.ts';

it('reads whole numbers that are written in the one way there is', () => {
  fc.assert(
    fc.property(fc.nat(999_999_999), (n) => {
      expect(plainNumber(`${n}`, 9)).toBe(n);
    }),
  );
  expect(plainNumber('999999999999999', 15)).toBe(999_999_999_999_999);
  for (const text of ['', '00', '01', '-1', '+1', '1 ', ' 1', '1,1', '0x1', '1e3', '1.0', '1_0', '１'])
    expect(plainNumber(text, 9), text).toBe(-1);
  expect(plainNumber('1000000000', 9), 'one digit too many').toBe(-1);
});
