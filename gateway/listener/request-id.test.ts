import { describe, expect, it } from 'vitest';
import { requestIdOf } from './request-id.ts';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

describe('requestIdOf', () => {
  it('makes random UUIDs, no two the same', () => {
    const ids = Array.from({ length: 10_000 }, () => requestIdOf('', false));
    for (const id of ids) expect(id).toMatch(UUID);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('uses every bit that is not the version or the variant', () => {
    const ids = Array.from({ length: 2000 }, () => BigInt(`0x${requestIdOf('', false).replaceAll('-', '')}`));
    const fixed = ids.reduce((same, id) => same & ~(id ^ (ids[0] as bigint)), (1n << 128n) - 1n);
    expect(fixed.toString(16)).toBe('f000c000000000000000');
  });

  it('keeps the one that a trusted proxy gave, if it is a sane one', () => {
    expect(requestIdOf('from-the-proxy', true)).toBe('from-the-proxy');
    expect(requestIdOf('from-anybody', false)).toMatch(UUID);
    expect(requestIdOf('with spaces', true)).toMatch(UUID);
    expect(requestIdOf('x'.repeat(129), true)).toMatch(UUID);
  });
});
