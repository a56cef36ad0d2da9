import fc from 'fast-check';
import { expect, it } from 'vitest';
import { HeaderNames } from './header-names.ts';

const NAMES = ['te', 'host', 'connection', 'a-name-of-exactly-thirty-two-chars', 'x'.repeat(90)];

it('a name that is in the set is always looked up, in any case', () => {
  const names = new HeaderNames(NAMES);
  for (const name of NAMES) {
    for (const spelt of [name, name.toUpperCase()])
      expect(names.mayHave(spelt.length, spelt.charCodeAt(0))).toBe(true);
    expect(names.has(name)).toBe(true);
  }
});

it('a name that is not looked up is not in the set', () => {
  const names = new HeaderNames(NAMES, 'x');
  fc.assert(
    fc.property(fc.oneof(fc.constantFrom(...NAMES), fc.string({ minLength: 1, maxLength: 40 })), (name) => {
      if (names.mayHave(name.length, name.charCodeAt(0))) return;
      expect(names.has(name.toLowerCase())).toBe(false);
      expect(name.startsWith('x')).toBe(false);
    }),
  );
});

it('common names of no interest are told by length and first letter', () => {
  const names = new HeaderNames(NAMES, 'x');
  for (const name of ['accept', 'user-agent', 'content-type', 'cookie', 'accept-encoding'])
    expect(names.mayHave(name.length, name.charCodeAt(0))).toBe(false);
  expect(names.mayHave('X-Anything'.length, 'X'.charCodeAt(0))).toBe(true);
});
