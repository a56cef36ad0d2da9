import { crc32 } from 'node:zlib';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { postgresAddress } from '../shared/keystore-url.ts';
import {
  closeKeystores,
  event,
  keystore,
  purchase,
  SESSION,
  subscription,
} from '../test/keystore-fixtures.ts';
import { newSqliteUrl, openTestKeystore } from '../test/keystores.ts';
import { rawQuery } from '../test/raw-sql.ts';
import { needsPostgres, newPostgresUrl, POSTGRES_SERVER } from '../test/services.ts';
import { type Change, copyKeystore } from './keystore.ts';

beforeEach(needsPostgres);
const clients: pg.Client[] = [];
const drops: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  await closeKeystores();
  for (const drop of drops.splice(0)) await drop();
  await Promise.all(clients.splice(0).map((client) => client.end()));
});

/** A connection past the keystore. */
async function connection(url: string): Promise<pg.Client> {
  const { connectionString, schema } = postgresAddress(url);
  const client = new pg.Client({ connectionString, options: `-c search_path=${schema}` });
  client.on('error', () => {});
  await client.connect();
  clients.push(client);
  return client;
}

/** The address of a keystore in a database that nobody else uses; it is dropped after the test. */
async function newDatabase(): Promise<string> {
  const url = new URL(newPostgresUrl());
  const shared = await connection(url.href);
  const name = `${url.pathname.slice(1)}_${url.searchParams.get('schema')}`;
  await shared.query(`create database ${name}`);
  drops.push(() => shared.query(`drop database ${name} with (force)`));
  url.pathname = `/${name}`;
  return url.href;
}

const session = (i: number) => `cs_test_${String(i).padStart(4, '0').repeat(14)}`;
const NEW_KEY = { mode: 'test', prefix: 'tg', planId: 'p', name: null, expiresAt: null, actor: 't' } as const;

describe('several processes on one PostgreSQL', () => {
  it('provision the same twenty sessions at the same moment: one key each, and each is shown once', async () => {
    const url = newPostgresUrl();
    const stores = await Promise.all([1, 2, 3, 4].map(() => keystore({ url })));
    const made = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        stores.flatMap((store) => [
          store.provisionPurchase(
            purchase({ sessionId: session(i), subscription: subscription({ id: `sub_${i % 7}` }) }),
          ),
        ]),
      ).flat(),
    );
    expect(made.filter(({ outcome }) => outcome === 'provisioned')).toHaveLength(20);
    const keys = await rawQuery(url, 'select id from keys');
    expect(keys).toHaveLength(20);
    const claims = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        stores.map((store) => store.claimReveal({ sessionId: session(i), actor: 't' })),
      ).flat(),
    );
    expect(claims.filter(({ outcome }) => outcome === 'claimed')).toHaveLength(20);
  });

  it('lease events: none twice, and those of one customer to one process', async () => {
    const url = newPostgresUrl();
    const stores = await Promise.all([1, 2, 3, 4].map(() => keystore({ url })));
    const events = Array.from({ length: 60 }, (_, i) => event(`evt_${i}`, { customer: `cus_${i % 12}` }));
    await Promise.all(events.map((each, i) => stores[i % 4]!.receiveEvent(each)));
    const leased = await Promise.all(
      stores.map(async (store, i) => {
        const groups = await store.leaseEvents({ owner: `worker ${i}`, limit: 5, leaseMs: 60_000 });
        return groups.flat().map(({ id }) => ({ id, worker: i }));
      }),
    );
    const all = leased.flat();
    expect(new Set(all.map(({ id }) => id)).size).toBe(all.length);
    expect(all.length).toBe(60);
    const workersOf = Map.groupBy(all, ({ id }) => Number(id.slice(4)) % 12);
    for (const taken of workersOf.values()) expect(new Set(taken.map(({ worker }) => worker)).size).toBe(1);
  });

  it('write usage of the same keys, in opposite orders, without a deadlock and without losing any', async () => {
    const url = newPostgresUrl();
    const stores = await Promise.all([1, 2, 3].map(() => keystore({ url })));
    const rows = Array.from({ length: 200 }, (_, i) => ({
      keyId: `key${i}`,
      hour: i % 2,
      requests: 1,
      refused: 1,
    }));
    for (let round = 0; round < 10; round++) {
      await Promise.all(
        stores.map((store, i) => store.recordUsage(i % 2 ? rows : rows.toReversed(), () => {})),
      );
    }
    expect(await rawQuery(url, 'select distinct requests, refused from usage')).toEqual([
      { requests: '30', refused: '30' },
    ]);
  });

  it('never both replace a key as unused and let it be used', async () => {
    const url = newPostgresUrl();
    const [billing, gateway] = [await keystore({ url }), await keystore({ url })];
    for (let i = 0; i < 15; i++) {
      const sessionId = session(i);
      const { purchase: made } = await billing.provisionPurchase(
        purchase({ sessionId, subscription: subscription({ id: `sub_${i}` }) }),
      );
      await billing.claimReveal({ sessionId, actor: 't' });
      const keyId = made.keyId as string;
      const [replacement, usable] = await Promise.all([
        billing.replaceUnused({ sessionId, keyId, actor: 't' }),
        // What the gateway does at a first use: note it, then look again.
        gateway
          .markKeysUsed([keyId])
          .then(async () => (await gateway.findKeyFacts(keyId))?.revokedAt === null),
      ]);
      expect(replacement.outcome === 'replaced' && usable).toBe(false);
    }
  });
});

describe('a PostgreSQL that misbehaves', () => {
  it('cuts all connections: the next call works, and the feed tells of what was changed meanwhile', async () => {
    // In a database of its own, as the others in the shared one are of tests that run at the same time.
    const url = await newDatabase();
    const store = await keystore({ url });
    const seen: Change[] = [];
    await store.changes.subscribe((change) => seen.push(change));
    const other = await connection(url);
    const first = await store.createKey(NEW_KEY);
    await vi.waitFor(() => expect(seen).toEqual([[first.id]]));
    await other.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tollgate' and datname = current_database()",
    );
    await rawQuery(url, "insert into changes (key_id, at) values ('meanwhile', 1)");
    await vi.waitFor(() => expect(seen.at(-1)).toEqual(['meanwhile']));
    await vi.waitFor(async () => expect((await store.findKey(first.id))?.id).toBe(first.id));
    const second = await store.createKey(NEW_KEY);
    await vi.waitFor(() => expect(seen.at(-1)).toEqual([second.id]));
    expect(store.changes.healthy).toBe(true);
  });

  it('loses a notification: it costs less than a second', async () => {
    const url = newPostgresUrl();
    const store = await openTestKeystore({ url, pollMs: undefined as unknown as number });
    const seen: Change[] = [];
    await store.changes.subscribe((change) => seen.push(change));
    const begun = performance.now();
    await rawQuery(url, "insert into changes (key_id, at) values ('quiet', 1)");
    await vi.waitFor(() => expect(seen).toEqual([['quiet']]), { interval: 5 });
    const took = performance.now() - begun;
    await store.close();
    // Polling is twice a second; the rest is for a machine with other things to do.
    expect(took).toBeLessThan(5000);
  });

  it('has a process that stops in the middle of a step: others wait for it, but not for ever', async () => {
    const url = newPostgresUrl();
    const store = await keystore({ url });
    const stopped = await connection(url);
    await stopped.query('set idle_in_transaction_session_timeout = 1500');
    await stopped.query('begin');
    // As a step takes the lock.
    await stopped.query('select pg_advisory_xact_lock($1::int, $2::int)', [0x544c4754, lockOf(url)]);
    const made = await store.provisionPurchase(purchase());
    expect(made.outcome).toBe('provisioned');
  });

  it('does not answer within the limit: an error of the keystore, and the connection is not used again', async () => {
    const url = newPostgresUrl();
    const store = await keystore({ url });
    const other = await connection(url);
    await other.query('begin');
    await other.query('lock table purchases in access exclusive mode');
    await expect(store.findPurchase(SESSION)).rejects.toMatchObject({ name: 'KeystoreError', code: '55P03' });
    await other.query('rollback');
    expect(await store.findPurchase(SESSION)).toBeUndefined();
  });
});

describe('opening PostgreSQL', () => {
  it.each([
    ['no server', { port: '1' }, 'ECONNREFUSED', /Check the host and port/],
    ['no such database', { pathname: '/no_such_database' }, '3D000', /createdb/],
  ])('%s: says what to do, and no password', async (_name, change, code, message) => {
    const url = Object.assign(new URL(POSTGRES_SERVER), change, { password: 'hunter2hunter2' });
    const error = await openTestKeystore({ url: url.href }).catch((thrown) => thrown);
    expect(error).toMatchObject({ name: 'KeystoreOpenError', code });
    expect(error.message).toMatch(message);
    expect(`${error.message} ${error.stack}`).not.toContain('hunter2');
  });

  it('a user without rights: says which are missing', async () => {
    const url = newPostgresUrl();
    const name = `poor_${postgresAddress(url).schema.slice(2, 10)}`;
    const owner = await connection(url);
    await owner.query(`create role ${name} login`);
    const poor = new URL(url);
    poor.username = name;
    const error = await openTestKeystore({ url: poor.href }).catch((thrown) => thrown);
    await owner.query(`drop role ${name}`);
    expect(error).toMatchObject({ name: 'KeystoreOpenError', code: '42501' });
    expect(error.message).toMatch(/Grant it CREATE/);
  });

  it('keeps to its own schema, beside tables of the same names that are somebody else’s', async () => {
    // In a database of its own: what looks through all tables of the shared one would find it, and then find it gone.
    const url = await newDatabase();
    const other = await connection(url);
    await other.query('create table public.keys (theirs text)');
    const store = await keystore({ url });
    await store.createKey(NEW_KEY);
    expect(await rawQuery(url, 'select * from public.keys')).toEqual([]);
    expect(await rawQuery(url, 'select id from keys')).toHaveLength(1);
  });
});

function lockOf(url: string): number {
  return crc32(postgresAddress(url).schema) | 0;
}

it('being copied, stands still for as long as the other keystore takes', async () => {
  const from = newPostgresUrl();
  await (await keystore({ url: from })).createKey(NEW_KEY);
  await closeKeystores();
  let stoodStill = false;
  const { written } = await copyKeystore(from, newSqliteUrl(), ({ phase, table }) => {
    if (phase !== 'copying' || table !== 'keys' || stoodStill) return;
    stoodStill = true;
    // As many rows that have to be written, for longer than a transaction may be idle.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5500);
  });
  expect(stoodStill).toBe(true);
  expect(written).toBeGreaterThan(0);
});
