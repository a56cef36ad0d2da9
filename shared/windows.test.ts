import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { toWindows, typedWindows, typedWindowsSchema } from './windows.ts';

describe('limits that are typed in', () => {
  const read = (text: string) => typedWindowsSchema.safeParse(text);

  it('are read by commas and lines, shortest first', () => {
    expect(read(' 600  per minute,10 per second\r\n5 per 90s\n').data).toEqual([
      { name: 'second', requests: 10, seconds: 1 },
      { name: 'minute', requests: 600, seconds: 60 },
      { name: '90s', requests: 5, seconds: 90 },
    ]);
    for (const nothing of ['', ' \n , ']) expect(read(nothing).data).toBeNull();
  });

  it.each([
    ['600', 'have "600" in them, and not something like "600 per minute"'],
    ['0 per minute', 'have "0 per minute" in them'],
    ['1000000001 per minute', 'have "1000000001 per minute" in them'],
    ['-5 per minute', 'have "-5 per minute" in them'],
    ['5 per fortnight', 'have "fortnight" in them: what follows "per" is second, minute, hour, day'],
    ['5 per 25d', 'longer than 24 days'],
    ['5 per minute, 9 per 60s', 'have two per minute; keep one'],
    [Array.from({ length: 9 }, (_, i) => `1 per ${i + 2}s`).join(), 'are at most 8'],
  ])('%s is refused', (text, words) => {
    expect(read(text).error?.issues[0]?.message).toContain(words);
  });

  it('are read as they are written', () => {
    const written = fc.array(
      fc.record({
        requests: fc.integer({ min: 1, max: 1_000_000_000 }),
        per: fc.constantFrom('second', 'minute', 'hour', 'day', '10s', '90m', '36h', '24d'),
      }),
      { minLength: 1, maxLength: 8 },
    );
    fc.assert(
      fc.property(written, (list) => {
        const windows = toWindows([...new Map(list.map((each) => [each.per, each])).values()]);
        expect(typedWindowsSchema.parse(typedWindows(windows).join('\n'))).toEqual(windows);
      }),
    );
  });
});
