import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeKeystores, keystore, purchase, subscription } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl } from '../test/keystores.ts';
import type { Change } from './keystore.ts';

afterEach(closeKeystores);

describe('change feed', () => {
  it('tells this process and another connection of every change, and nobody of usage', async () => {
    const url = newKeystoreUrl();
    const writer = await keystore({ url });
    const reader = await keystore({ url });
    const seen: { here: Change[]; there: Change[] } = { here: [], there: [] };
    await writer.changes.subscribe((change) => seen.here.push(change));
    await reader.changes.subscribe((change) => seen.there.push(change));
    const { purchase: made } = await writer.provisionPurchase(purchase());
    await vi.waitFor(() => expect([seen.here, seen.there]).toEqual([[[made.keyId]], [[made.keyId]]]));
    await writer.recordUsage([{ keyId: made.keyId!, hour: 1, requests: 1, refused: 0 }], () => {});
    await writer.syncSubscription({
      mode: 'test',
      buyer: { stripeCustomerId: 'cus_1', email: null },
      subscription: subscription({ status: 'past_due', fetchedAt: 9000 }),
      actor: 't',
    });
    await writer.revokeKey({ id: made.keyId!, reason: 'operator', actor: 't' });
    await vi.waitFor(() =>
      expect(seen.there.flat()).toEqual([made.keyId, made.keyId, made.keyId].slice(0, seen.there.length)),
    );
    await vi.waitFor(() => expect(seen.there.length).toBeGreaterThanOrEqual(2));
  });

  it('goes on after a listener that throws', async () => {
    const store = await keystore();
    const seen: Change[] = [];
    await store.changes.subscribe(() => {
      throw new Error('a bug of somebody');
    });
    await store.changes.subscribe((change) => seen.push(change));
    const made = await store.createKey({
      mode: 'test',
      prefix: 'tg',
      planId: 'p',
      name: null,
      expiresAt: null,
      actor: 't',
    });
    await vi.waitFor(() => expect(seen).toEqual([[made.id]]));
  });

  it('says "everything" to one that slept through a pruning', async () => {
    let time = 1_000_000;
    const url = newKeystoreUrl();
    const writer = await keystore({ url, now: () => time });
    const reader = await keystore({ url, pollMs: 3_600_000 });
    const seen: Change[] = [];
    await reader.changes.subscribe((change) => seen.push(change));
    const create = () =>
      writer.createKey({ mode: 'test', prefix: 'tg', planId: 'p', name: null, expiresAt: null, actor: 't' });
    await create();
    await create();
    time += 3_600_001;
    await create();
    await writer.sweep();
    reader.changes.wake();
    await vi.waitFor(() => expect(seen).toEqual(['everything']));
  });
});
