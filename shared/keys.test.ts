import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeBase62, randomBase62 } from './base62.ts';
import { mintKey, parseKey } from './keys.ts';

describe('key format', () => {
  it('has the documented shape and survives a double click', () => {
    const key = mintKey('tg', 'test');
    expect(key.plaintext).toMatch(/^tg_test_[0-9A-Za-z]{50}$/);
    expect(key.plaintext).toMatch(/^\w+$/);
    expect(key.lastFour).toBe(key.plaintext.slice(-4));
  });

  it('parses what it mints, for every prefix and mode', () => {
    fc.assert(
      fc.property(
        fc.stringMatching(/^[a-z][a-z0-9]{0,9}$/),
        fc.constantFrom('live' as const, 'test' as const),
        (prefix, mode) => {
          const { plaintext, id, secret } = mintKey(prefix, mode);
          expect(parseKey(plaintext)).toEqual({ prefix, mode, id, secret });
        },
      ),
    );
  });

  it('refuses every key with one character changed, dropped or added', () => {
    const { plaintext } = mintKey('tg', 'live');
    for (let i = 0; i < plaintext.length; i++) {
      const other = plaintext[i] === 'x' ? 'y' : 'x';
      expect(
        parseKey(plaintext.slice(0, i) + other + plaintext.slice(i + 1)),
        `changed at ${i}`,
      ).toBeUndefined();
      expect(parseKey(plaintext.slice(0, i) + plaintext.slice(i + 1)), `dropped at ${i}`).toBeUndefined();
      expect(parseKey(`${plaintext.slice(0, i)}x${plaintext.slice(i)}`), `added at ${i}`).toBeUndefined();
    }
  });

  it('refuses anything else without throwing', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => parseKey(text) === undefined));
    expect(parseKey('x'.repeat(10_000_000))).toBeUndefined();
    const { plaintext } = mintKey('tg', 'test');
    expect(parseKey(`${plaintext}\n`)).toBeUndefined();
  });

  it('never repeats and uses all 62 characters evenly', () => {
    const counts = new Map<string, number>();
    for (const character of randomBase62(62_000)) counts.set(character, (counts.get(character) ?? 0) + 1);
    expect(counts.size).toBe(62);
    for (const [character, count] of counts)
      expect(count, character).toSatisfy((n: number) => n > 750 && n < 1250);
    expect(new Set(Array.from({ length: 1000 }, () => mintKey('tg', 'test').id)).size).toBe(1000);
  });

  it('writes a CRC-32 in six characters, padded', () => {
    expect(encodeBase62(0, 6)).toBe('000000');
    expect(encodeBase62(0xffffffff, 6)).toBe('4gfFC3');
    expect(() => encodeBase62(62 ** 6, 6)).toThrow(RangeError);
  });
});
