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

it('a name in the midst of a text is read in any case, and only where it is of interest', () => {
  const names = new HeaderNames(NAMES, 'x');
  const anyCase = (name: fc.Arbitrary<string>) =>
    name.chain((text) => fc.mixedCase(fc.constant(text), { untoggleAll: (each) => each.toLowerCase() }));
  const character = fc.constantFrom(..."abchostexnci0189!#$%&'*+-.^`|~");
  const any = fc.array(character, { minLength: 1, maxLength: 100 }).map((all) => all.join(''));
  const oneOff = fc.tuple(fc.constantFrom(...NAMES), fc.nat(89), character).map(([name, at, other]) => {
    const place = at % name.length;
    return name.slice(0, place) + other + name.slice(place + 1);
  });
  const seen = new Set<boolean>();
  fc.assert(
    fc.property(anyCase(fc.oneof(fc.constantFrom(...NAMES), any, oneOff)), fc.nat(20), (name, before) => {
      const text = `${'-'.repeat(before)}${name}: value`;
      const lower = name.toLowerCase();
      const mayBe = names.has(lower) || (lower.charCodeAt(0) & 31) === ('x'.charCodeAt(0) & 31);
      const read = names.nameAt(Buffer.from(text, 'latin1'), text, before, before + name.length);
      expect(read).toBe(mayBe ? lower : null);
      seen.add(read !== null);
    }),
    { numRuns: 2000 },
  );
  expect(seen.size).toBe(2);
});
