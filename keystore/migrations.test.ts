import Database from 'better-sqlite3';
import { Kysely, SqliteDialect } from 'kysely';
import { Migrator } from 'kysely/migration';
import { afterEach, expect, it } from 'vitest';
import { sqlitePath } from '../shared/keystore-url.ts';
import { closeKeystores, event, keystore, SESSION } from '../test/keystore-fixtures.ts';
import { newSqliteUrl } from '../test/keystores.ts';
import { migrations, SQLITE_SQL } from './migrations.ts';
import { sessionHash } from './session-hash.ts';

afterEach(closeKeystores);

/** A keystore as a version that knew only the first so many migrations left it. */
async function keystoreOfVersion(count: number): Promise<{ url: string; raw: Database.Database }> {
  const url = newSqliteUrl();
  const raw = new Database(sqlitePath(url));
  raw.pragma('application_id = 0x544c4754');
  const db = new Kysely<unknown>({ dialect: new SqliteDialect({ database: raw }) });
  const known = Object.entries(migrations(SQLITE_SQL));
  const getMigrations = async () => Object.fromEntries(known.slice(0, count));
  const { error } = await new Migrator({ db, provider: { getMigrations } }).migrateToLatest();
  if (error) throw error;
  return { url, raw };
}

it('a keystore of the first version is brought up to date: its keys work, its waiting events are worked on', async () => {
  const { url, raw } = await keystoreOfVersion(1);
  raw.exec(`
    insert into customers values ('cust_1', 'test', 'cus_1', 'a@example.com', 1, 1);
    insert into subscriptions values ('sub_1', 'test', 'cust_1', 'pro', 'price_1', 'past_due', 9, 0, 5, 1, 1, 1);
    insert into keys values ('abcdefghijkl', 'abcdefghijkl', 'test', 'tg', 'hash', 1, 'last', 'pro', 'cust_1', 'sub_1', null, 1, null, null, null, null);
    insert into purchases values ('pur_1', '${sessionHash(SESSION)}', 'test', 'pro', 'price_1', 'provisioned', null, 'cust_1', 'sub_1', 'abcdefghijkl', null, null, 1, 1, 1);
    insert into reveals values ('pur_1', 'abcdefghijkl', null, 1, 9, 5);
    insert into usage values ('abcdefghijkl', 1, 5, 0);
  `);
  const insert = raw.prepare(
    `insert into events values (?, ?, 'test', null, ?, '{}', 'pending', null, 0, 0, null, null, null, 1, 1, null)`,
  );
  insert.run('evt_session', 'checkout.session.completed', 'session:abc');
  insert.run('evt_subscription', 'customer.subscription.updated', 'sub_1');
  insert.run('evt_other', 'invoice.created', null);
  raw.close();

  const store = await keystore({ url });
  expect(await store.findKeyFacts('abcdefghijkl')).toMatchObject({
    planId: 'pro',
    quantity: 1,
    disputedSince: null,
    firstUsedAt: null,
    entitlements: [],
    subscription: { status: 'past_due', pastDueSince: 5, cancelAt: null },
  });
  const leased = (await store.leaseEvents({ owner: 'a', limit: 9, leaseMs: 500 })).flat();
  expect(Object.fromEntries(leased.map(({ id, object }) => [id, object]))).toEqual({
    evt_session: { kind: 'session', id: null },
    evt_subscription: { kind: 'subscription', id: 'sub_1' },
    evt_other: null,
  });
  expect(await store.receiveEvent(event('evt_new'))).toBe('received');
  expect(await store.findReveal(SESSION)).toMatchObject({
    purchase: { id: 'pur_1', byProgram: false },
    reveal: { state: 'claimed', claimedBy: null },
  });
});

it('every migration comes after those before it, and is known by its number', () => {
  const names = Object.keys(migrations(SQLITE_SQL));
  expect(names).toEqual([...names].sort());
  expect(names.map((name) => Number(name.slice(0, 4)))).toEqual(names.map((_, i) => i + 1));
});
