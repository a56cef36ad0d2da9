import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeKeystores, keystore, purchase, subscription } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl } from '../test/keystores.ts';
import { rawQuery } from '../test/raw-sql.ts';
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
    const url = newKeystoreUrl();
    const writer = await keystore({ url, now: () => 4_000_000 });
    const reader = await keystore({ url, pollMs: 3_600_000 });
    const seen: Change[] = [];
    await reader.changes.subscribe((change) => seen.push(change));
    await rawQuery(url, "insert into changes (key_id, at) values ('a', 1), ('b', 2), ('c', 3)");
    await writer.sweep();
    reader.changes.wake();
    await vi.waitFor(() => expect(seen).toEqual(['everything']));
  });

  it('says "everything" to one whose database gave way to one that lacks the last changes', async () => {
    const url = newKeystoreUrl();
    await keystore({ url });
    const seen: Change[] = [];
    await rawQuery(url, "insert into changes (key_id, at) values ('a', 1), ('b', 2), ('c', 3)");
    const reader = await keystore({ url });
    await reader.changes.subscribe((change) => seen.push(change));
    await rawQuery(url, "delete from changes where key_id = 'c'");
    await vi.waitFor(() => expect(seen).toEqual(['everything']));
  });
});
