import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type PlainRequest, readPlainRequest } from './request-grammar.ts';

const LINES = [
  'Host: api.example.com\r\n',
  'X-API-Key: tg_test_someone_elses\r\n',
  'Connection: keep-alive\r\n',
  'Content-Length: 5\r\n',
  'Accept: */*\r\n',
  'X-Odd: \r\n',
  'no line\r\n',
  '\r\n',
  '\r',
  'hello',
];

const WHOLE = 'POST /v1/items HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 5\r\n\r\nhello';

/** Requests, their beginnings, and what is none. */
const made = fc
  .record({
    first: fc.constantFrom(
      'GET /v1/items HTTP/1.1\r\n',
      'POST /v1/items HTTP/1.1\r\n',
      'GET /',
      'GET ',
      'DELETE /x HTTP/1.1\r\n',
      'GET  / HTTP/1.1\r\n',
      '',
    ),
    lines: fc.array(fc.constantFrom(...LINES), { maxLength: 6 }),
    end: fc.constantFrom('\r\n', '\r\nhello', '', '\r'),
  })
  .map(({ first, lines, end }) => first + lines.join('') + end);
const text = fc.oneof(made, fc.constant(WHOLE));
const part = fc.oneof(fc.constant(1), fc.double({ min: 0, max: 1, noNaN: true }));

it('reads nothing of what stood in the buffer before, which may be somebody else’s', () => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(text, text, part, (now, before, part) => {
      const length = Math.ceil(part * now.length);
      const alone = Buffer.from(now.slice(0, length), 'latin1');
      const expected = readPlainRequest(alone, length);
      seen.add(typeof expected === 'string' ? expected : 'plain');
      // The rest of the same request, or of another one, is where a reader that goes too far would find what it looks for.
      for (const rest of [now.slice(length), before, before.slice(length), 'a'.repeat(50)]) {
        const buffer = Buffer.concat([alone, Buffer.from(rest, 'latin1')]);
        const read: PlainRequest | string = readPlainRequest(buffer, length);
        expect(read).toEqual(expected);
      }
    }),
    { numRuns: 5000 },
  );
  expect([...seen].sort()).toEqual(['incomplete', 'pipelined', 'plain', 'unfinished', 'unusual']);
});
