import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { mintKey } from '../../shared/keys.ts';
import { responseHeaders } from '../answers/client-headers.ts';
import { routeTo } from '../routes/route-spec.ts';
import { readRequestHead } from './headers.ts';

const KEY = mintKey('tg', 'test').plaintext;
const sent = (...lines: [string, string][]) => readRequestHead(lines.flat());

/** The same name as a client may spell it: any case, dashes or underscores. */
const spellings = (name: string) =>
  fc
    .array(fc.tuple(fc.boolean(), fc.boolean()), { minLength: name.length, maxLength: name.length })
    .map((choices) =>
      [...name]
        .map((character, i) => {
          const [upper, underscore] = choices[i]!;
          if (character === '-') return underscore ? '_' : '-';
          return upper ? character.toUpperCase() : character.toLowerCase();
        })
        .join(''),
    );

describe('the key', () => {
  it('is stripped in every spelling, however often it is sent', () => {
    const line = fc.oneof(
      fc.tuple(spellings('x-api-key'), fc.constant(KEY)),
      fc.tuple(
        spellings('authorization'),
        fc.constantFrom(`Bearer ${KEY}`, `bearer\t${KEY}`, `BEARER   ${KEY}`, `Token ${KEY}`, KEY),
      ),
    );
    fc.assert(
      fc.property(fc.array(line, { minLength: 1, maxLength: 5 }), (lines) => {
        const head = sent(...(lines as [string, string][]), ['X-API-Key', KEY], ['Accept', 'text/plain']);
        expect(head.credential).toEqual({ kind: 'key', text: KEY });
        expect(head.endToEnd).toEqual(['Accept', 'text/plain']);
      }),
    );
  });

  it('is read with either header, surrounding blanks and an empty second header do not matter', () => {
    for (const lines of [
      [['x-api-key', ` ${KEY} `]],
      [['AUTHORIZATION', `bEaReR ${KEY}`]],
      [
        ['X-API-Key', ''],
        ['Authorization', `Bearer ${KEY}`],
      ],
      [
        ['Authorization', 'Bearer'],
        ['X-API-Key', KEY],
      ],
    ] as [string, string][][]) {
      expect(sent(...lines).credential).toEqual({ kind: 'key', text: KEY });
    }
  });

  it.each([
    [
      'in two headers',
      [
        ['X-API-Key', KEY],
        ['Authorization', 'Bearer other'],
      ],
    ],
    [
      'in two lines of one header',
      [
        ['X-API-Key', KEY],
        ['x-api-key', 'other'],
      ],
    ],
    [
      'as two bearers',
      [
        ['Authorization', `Bearer ${KEY}`],
        ['Authorization', 'Bearer other'],
      ],
    ],
  ] as [string, [string, string][]][])('two different ones %s conflict', (_name, lines) => {
    expect(sent(...lines).credential).toEqual({ kind: 'conflict' });
  });

  it('a scheme other than Bearer is the upstream’s own business', () => {
    const head = sent(['X-API-Key', KEY], ['authorization', 'Basic dXNlcjpwYXNz']);
    expect(head.credential).toEqual({ kind: 'key', text: KEY });
    expect(head.endToEnd).toEqual(['Authorization', 'Basic dXNlcjpwYXNz']);
    expect(sent(['Authorization', 'Basic dXNlcjpwYXNz']).credential).toEqual({ kind: 'none' });
  });
});

describe('forged identity', () => {
  it('no spelling of an identity header gets through', () => {
    const names = [
      'x-consumer-id',
      'x-consumer-plan',
      'x-consumer-username',
      'x-credential-identifier',
      'x-request-id',
      'x-forwarded-for',
      'x-forwarded-proto',
      'x-forwarded-host',
      'x-forwarded-port',
      'x-forwarded-user',
      'x-real-ip',
      'forwarded',
    ];
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom(...names).chain(spellings), fc.string({ unit: 'grapheme-ascii' }))),
        (lines) => {
          expect(sent(...lines, ['X-Consume', '1'], ['X-Forward', '2']).endToEnd).toEqual([
            'X-Consume',
            '1',
            'X-Forward',
            '2',
          ]);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('an underscored Content-Length or Transfer-Encoding is dropped and means nothing', () => {
    const head = sent(['Content_Length', '5'], ['Transfer_Encoding', 'chunked']);
    expect(head).toMatchObject({ endToEnd: [], hasBody: false, contentLength: null });
  });
});

describe('hop-by-hop headers', () => {
  it('of a request end here, with those that Connection names', () => {
    const head = sent(
      ['Connection', 'close, X-Secret-Hop'],
      ['connection', 'Keep-Alive,x-other'],
      ['Keep-Alive', 'timeout=5'],
      ['TE', 'trailers'],
      ['Trailer', 'X-T'],
      ['Transfer-Encoding', 'chunked'],
      ['Upgrade', 'h2c'],
      ['Proxy-Connection', 'x'],
      ['Proxy-Authorization', 'x'],
      ['X-Secret-Hop', '1'],
      ['X-OTHER', '2'],
      ['Host', 'api.example.com'],
      ['Accept', 'a'],
      ['Accept', 'b'],
    );
    expect(head.endToEnd).toEqual(['Accept', 'a', 'Accept', 'b']);
    expect(head).toMatchObject({ hasBody: true, host: 'api.example.com' });
  });

  it('of a response end here, with limits and ids, which are ours; the rest keeps order, spelling and repetition', () => {
    const raw = [
      ['Set-Cookie', 'a=1'],
      ['SET-COOKIE', 'b=2'],
      ['Connection', 'keep-alive, X-Hop'],
      ['X-Hop', '1'],
      ['Transfer-Encoding', 'chunked'],
      ['RateLimit', '"x";r=1'],
      ['ratelimit-policy', 'x'],
      ['X-RateLimit-Remaining', '7'],
      ['X-Request-ID', 'theirs'],
      ['Retry-After', '3'],
      ['X-Latin', '\xe9'],
    ].flatMap(([name, value]) => [Buffer.from(name!), Buffer.from(value!, 'latin1')]);
    expect(responseHeaders(raw, routeTo('http://upstream', 1000))).toEqual([
      'Set-Cookie',
      'a=1',
      'SET-COOKIE',
      'b=2',
      'Retry-After',
      '3',
      'X-Latin',
      '\xe9',
    ]);
  });
});
