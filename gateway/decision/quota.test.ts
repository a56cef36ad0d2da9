import { expect, it } from 'vitest';
import { hourOf } from '../../keystore/keystore.ts';
import { type Key, newChain } from './key.ts';
import { Quotas } from './quota.ts';

const NOW = Date.UTC(2026, 10, 12, 9, 59, 59);
const NEXT_HOUR = NOW + 2000;
const monthly = { quota: 10_000, quotaPer: 'month' } as const;

/** As it was read in the hour of a moment. */
const keyWith = (usedThisMonth: number, usedThisHour = 0, at = NOW) =>
  ({
    id: 'key',
    usedThisMonth,
    monthStartHour: hourOf(Date.UTC(2026, 10, 1)),
    usedInAll: 0,
    readInHour: hourOf(at),
    usedThisHour,
    chain: newChain('key'),
  }) as unknown as Key;

/** Counts requests of this process and writes them, to a ledger that then has so many in the hour. */
function write(quotas: Quotas, key: Key, at: number, requests: number, totalOfHour: number): void {
  quotas.spend(key, monthly, at, requests);
  quotas.written(key.chain, { keyId: key.id, hour: hourOf(at), requests, refused: 0 }, totalOfHour);
}
const used = (quotas: Quotas, key: Key, at: number) => quotas.look(key, monthly, at)?.used;

it('what others wrote in an hour that has begun is known with the first row of it', () => {
  const quotas = new Quotas();
  const key = keyWith(0);
  write(quotas, key, NOW, 10, 10);
  write(quotas, key, NEXT_HOUR, 5, 8000);
  expect(used(quotas, key, NEXT_HOUR)).toBe(8010);
  write(quotas, key, NEXT_HOUR, 5, 8105);
  expect(used(quotas, key, NEXT_HOUR)).toBe(8115);
});

it('of the hour in which the ledger was read, only what came since then is', () => {
  const quotas = new Quotas();
  const key = keyWith(3000, 400);
  write(quotas, key, NOW, 10, 430);
  expect(used(quotas, key, NOW)).toBe(3030);
  quotas.learn({ ...key, ...keyWith(7000, 3980, NEXT_HOUR), chain: key.chain }, true);
  write(quotas, key, NEXT_HOUR, 10, 3990);
  expect(used(quotas, key, NEXT_HOUR)).toBe(7010);
  write(quotas, key, NEXT_HOUR, 10, 4050);
  expect(used(quotas, key, NEXT_HOUR)).toBe(7070);
});

it('of another key of the rotation chain, what came since its own last row is', () => {
  const quotas = new Quotas();
  const key = keyWith(3000, 400);
  const newer = { ...key, id: 'newer' };
  write(quotas, key, NOW, 10, 410);
  write(quotas, newer, NOW, 10, 600);
  expect(used(quotas, key, NOW)).toBe(3020);
  write(quotas, newer, NOW, 10, 615);
  write(quotas, key, NOW, 10, 421);
  expect(used(quotas, key, NOW)).toBe(3046);
});

it('with the first row of an hour, the key is to be read again: nobody told what others wrote at the end of the one before', () => {
  const outdated: string[] = [];
  const quotas = new Quotas((keyId) => outdated.push(keyId));
  const key = keyWith(0);
  write(quotas, key, NOW, 10, 10);
  write(quotas, key, NOW, 10, 20);
  expect(outdated).toEqual([]);
  write(quotas, key, NEXT_HOUR, 10, 10);
  write(quotas, key, NEXT_HOUR, 10, 20);
  expect(outdated).toEqual(['key']);
});

it('so it is when it gets a quota long after it was read', () => {
  const outdated: string[] = [];
  const quotas = new Quotas((keyId) => outdated.push(keyId));
  quotas.look(keyWith(0), monthly, NOW);
  expect(outdated).toEqual([]);
  quotas.look(keyWith(0), monthly, NEXT_HOUR);
  expect(outdated).toEqual(['key']);
});

it('a late row of an hour that is over tells nothing new of others, and forgets nothing', () => {
  const quotas = new Quotas();
  const key = keyWith(0);
  write(quotas, key, NOW, 10, 10);
  write(quotas, key, NEXT_HOUR, 10, 100);
  write(quotas, key, NOW, 5, 500);
  expect(used(quotas, key, NEXT_HOUR)).toBe(115);
  write(quotas, key, NEXT_HOUR, 10, 130);
  expect(used(quotas, key, NEXT_HOUR)).toBe(145);
});
