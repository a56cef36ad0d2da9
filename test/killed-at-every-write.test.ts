import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { beforeAll, describe, expect, it } from 'vitest';
import { sessionHash } from '../keystore/session-hash.ts';
import { sqlitePath } from '../shared/keystore-url.ts';
import { type BillingUnderTest, startBillingUnderTest } from './billing.ts';
import { bundled } from './bundled.ts';
import { temporaryFolder } from './keystores.ts';
import { type Arm, type Counted, killedAt } from './kill-at-write.ts';

/** In CI every write is one to be killed at. */
const EVERY = process.env.CI ? 1 : 6;

/** Billing is started anew for every write, which is most of what this test does. */
let billing: string;
beforeAll(async () => {
  billing = await bundled('billing/main.ts');
});

/** One purchase: what is done about it, in this order, and each again after a kill. Every write on that way is a point to be killed at. */
type Life = {
  steps: Record<string, () => Promise<void>>;
  sessionId(): string;
  /** The steps whose answers had a key. */
  shown: string[];
};

/** The lives that are lived, and the steps of each that show a key. */
const LIVES: Record<
  string,
  { begin: (test: BillingUnderTest, victim: Victim) => Promise<Life>; shows: string[] }
> = {
  'a purchase, its claim, replacement and refund': { begin: boughtByLink, shows: ['claim', 'replacement'] },
  'a purchase that a program begins, and its claim': { begin: begunByProgram, shows: ['claim'] },
};

/** What must never be in a keystore, not even between a kill and the restart. */
const NEVER: Record<string, string> = {
  'a key without a purchase': `select id from keys where root_id = id and not exists (select 1 from purchases where key_id = keys.id)`,
  'a key and a purchase of different subscriptions or customers': `select keys.id from keys join purchases on key_id = keys.root_id where keys.subscription_id is not purchases.subscription_id or keys.customer_id is not purchases.customer_id`,
  'a provisioned purchase without a key, a reveal, a customer': `select id from purchases where status = 'provisioned' and (key_id is null or customer_id is null or not exists (select 1 from reveals where purchase_id = purchases.id))`,
  'a key on a purchase that is not provisioned': `select id from purchases where status != 'provisioned' and key_id is not null`,
  'a reveal without a key or a purchase': `select key_id from reveals where not exists (select 1 from purchases where id = purchase_id and status = 'provisioned') or not exists (select 1 from keys where id = reveals.key_id)`,
  'a seal of a key that was claimed or revoked': `select key_id from reveals join keys on keys.id = key_id where sealed is not null and (claimed_at is not null or revoked_at is not null)`,
  'a sealed session id of what is not to be claimed (any more)': `select purchases.id from purchases left join reveals on purchase_id = purchases.id where session_sealed is not null and (claim_hash is null or status = 'canceled' or (purchase_id is not null and sealed is null))`,
  'a claim token that opens nothing while there is something to claim': `select purchases.id from purchases left join reveals on purchase_id = purchases.id where claim_hash is not null and session_sealed is null and status != 'canceled' and (purchase_id is null or sealed is not null)`,
  'a seal that went with nobody claiming it': `select key_id from reveals join keys on keys.id = key_id where sealed is null and claimed_at is null and revoked_at is null`,
  'a subscription without a customer or a key': `select id from subscriptions where not exists (select 1 from customers where id = customer_id) or not exists (select 1 from keys where subscription_id = subscriptions.id)`,
  'a customer without a purchase': `select id from customers where not exists (select 1 from purchases where customer_id = customers.id)`,
  'a key that no audit entry, or more than one, tells the making of': `select id from keys where 1 != (select count(*) from audit where key_id = keys.id and (action = 'key.provisioned' or (action = 'key.replaced' and details like '%"new_key":"' || id || '"%')))`,
  'a key that no gateway is told of': `select id from keys where not exists (select 1 from changes where key_id = keys.id)`,
  'a claim without its audit entry, or the reverse': `select key_id from reveals where (claimed_at is not null) != (select count(*) from audit where purchase_id = reveals.purchase_id and action = 'key.claimed')`,
  'a revocation without its audit entry, or the reverse': `select id from keys where (revoked_at is not null) != (select count(*) from audit where key_id = keys.id and action = 'key.revoked')`,
  'half a replacement': `select id from keys where (replaced_by is null) != (revoked_reason is not 'replaced') or (root_id != id and not exists (select 1 from keys as old where old.replaced_by = keys.id)) or (replaced_by is not null and replaced_by not in (select id from keys))`,
  'a reveal that shows a replaced key': `select key_id from reveals join keys on keys.id = key_id where replaced_by is not null`,
  'two living keys of one purchase': `select root_id from keys where revoked_at is null group by root_id having count(*) > 1`,
  'a revocation without its payment': `select id from keys where revoked_reason = 'refunded' and not exists (select 1 from payments where subscription_id = keys.subscription_id and refunded_at is not null)`,
  'an audit entry or a change of a key that is not there': `select key_id from audit where key_id not in (select id from keys) union select key_id from changes where key_id not in (select id from keys)`,
  'a row that points nowhere': 'select "table" from pragma_foreign_key_check',
  'a damaged page': `select * from pragma_integrity_check where integrity_check != 'ok'`,
};

/** What must not be there either once all is worked off. */
const NEVER_IN_THE_END: Record<string, string> = {
  'an event that is stuck': `select id, type, status, outcome from events where status != 'processed'`,
  'a lease': 'select id from events where leased_by is not null or leased_until is not null',
};

describe.each(Object.entries(LIVES))('%s', (name, { begin, shows }) => {
  it.concurrent.each(['before', 'after'] as const)(
    'killed just %s every write: one key, shown once, nothing done twice, nothing orphaned',
    async (when) => {
      const test = await startBillingUnderTest();
      // Recovery is the inbox's and Stripe's redelivery, not that of a look at everything.
      const turn = { task: 'reconcile', owner: 'nobody', holdMs: 86_400_000, restMs: 0 };
      await test.keystore.takeTurn(turn);
      await test.stopBilling();
      // With no other process on the file, it is the restarted one that finds it as the killed one left it.
      await test.keystore.close();
      await test.control('/delivery', { mode: 'paused' });
      const victim = new Victim(test);
      try {
        await victim.start();
        // Nothing of what came before may arrive while writes are counted.
        expect(await test.control('/delivery/flush')).toMatchObject({ failed: 0 });
        await victim.workOff();
        const undisturbed = await live(test, victim, begin, null);
        const counted = undisturbed.writes;
        expect(countOf(counted, 'commit')).toBe(countOf(counted, 'begin'));
        for (const table of ['events', 'customers', 'subscriptions', 'keys', 'purchases', 'reveals'])
          expect(counted).toContain(`insert ${table}`);
        for (const table of ['events', 'reveals', 'purchases']) expect(counted).toContain(`update ${table}`);
        expect(undisturbed.shown).toEqual(shows);

        const visited: string[] = [];
        let lostAnswers = 0;
        for (let write = 1; write <= counted.length; write += EVERY) {
          const life = await live(test, victim, begin, { write, when });
          expect(life.killed).toBe(killedAt(when, write, counted[write - 1]!));
          visited.push(counted[write - 1]!);
          expect({ write, ...life.end }).toEqual({ write, ...undisturbed.end });
          // Only a kill between a commit and the answer keeps the claimed key, or the one in its place, from its buyer.
          const lost = when === 'after' && counted[write - 1] === 'commit' ? life.killedIn : undefined;
          expect({ write, shown: life.shown }).toEqual({
            write,
            shown: shows.filter((step) => step !== lost),
          });
          if (lost !== undefined && shows.includes(lost)) lostAnswers += 1;
        }
        expect(visited).toEqual(counted.filter((_, index) => index % EVERY === 0));
        const lostAtMost = when === 'after' ? shows.length : 0;
        if (EVERY === 1) expect(lostAnswers).toBe(lostAtMost);
        else expect(lostAnswers).toBeLessThanOrEqual(lostAtMost);
        console.log(
          `Killed just ${when} ${visited.length} of ${counted.length} writes of ${name}: ${undisturbed.upTo.map(([step, count], index) => `${count - (undisturbed.upTo[index - 1]?.[1] ?? 0)} of the ${step}`).join(', ')}.`,
        );
      } finally {
        await victim.end();
        await test.close();
      }
    },
    600_000,
  );
});

type Kill = NonNullable<Arm['kill']>;

/** Lives one of the lives, with Stripe, the buyer and the program trying again after the kill. */
async function live(
  test: BillingUnderTest,
  victim: Victim,
  begin: (test: BillingUnderTest, victim: Victim) => Promise<Life>,
  kill: Kill | null,
) {
  const { steps, shown, sessionId } = await begin(test, victim);
  await victim.arm({ kill });
  let killedIn: string | undefined;
  const upTo: [step: string, writes: number][] = [];
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step();
    } catch (error) {
      if (!(await victim.isDead())) throw error;
      killedIn = name;
      await victim.expectSound(NEVER);
      await test.expireLeases();
      await victim.start();
      // Stripe sends again what was not acknowledged, and all the rest of the purchase by now.
      expect(await test.control('/delivery/flush')).toMatchObject({ failed: 0 });
      await victim.workOff();
      await step();
    }
    if (!kill) upTo.push([name, (await victim.writes()).length]);
  }
  const writes = kill ? [] : await victim.writes();
  expect(await test.control('/delivery/flush')).toMatchObject({ failed: 0 });
  await victim.workOff();
  await victim.expectSound({ ...NEVER, ...NEVER_IN_THE_END });
  return {
    shown,
    killedIn,
    killed: victim.lastWords,
    writes,
    upTo,
    end: victim.endOf(sessionId()),
  };
}

/**
 * Paid through a payment link. Its webhook is received, committed to the inbox, leased, worked on, completed; its key is claimed,
 * and replaced because its buyer says that it never arrived; its payment is given back in full.
 */
async function boughtByLink(test: BillingUnderTest, victim: Victim): Promise<Life> {
  const { id: sessionId } = await test.stripe.checkout.sessions.create({
    mode: 'subscription',
    line_items: [{ price: test.prices.pro!, quantity: 1 }],
    success_url: `${test.url}/billing/success?session_id={CHECKOUT_SESSION_ID}`,
  });
  await test.pay(sessionId);
  const shown: string[] = [];
  let claimed = '';
  const ask = async (path: string, body: object) => {
    const answer = await fetch(`${test.url}/billing/success/${path}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ session_id: sessionId, ...body }),
    });
    return { status: answer.status, body: (await answer.json()) as Record<string, string> };
  };
  /** Whether the buyer of a key that never arrived can have another. */
  const replaceable = async () => {
    const answer = await fetch(`${test.url}/billing/success?session_id=${sessionId}`);
    const { status, replaceable_until } = (await answer.json()) as Record<string, string>;
    return status === 'claimed' && Date.parse(replaceable_until!) > Date.now();
  };
  const steps = {
    async webhook() {
      await deliver(test, 'checkout.session.completed', sessionId);
      await victim.workOff();
    },
    async claim() {
      const { status, body } = await ask('claim', {});
      if (status === 200) shown.push('claim');
      else expect({ status, code: body.code }).toEqual({ status: 410, code: 'already_claimed' });
      claimed = body.key_id!;
      expect(await ask('claim', {})).toMatchObject({ status: 410, body: { code: 'already_claimed' } });
      expect(await replaceable()).toBe(true);
    },
    async replacement() {
      const { status, body } = await ask('replace', { key_id: claimed });
      if (status === 200) shown.push('replacement');
      else expect({ status, code: body.code }).toEqual({ status: 409, code: 'already_replaced' });
      expect(await replaceable()).toBe(true);
    },
    async refund() {
      const { customer } = await test.stripe.checkout.sessions.retrieve(sessionId);
      const [charge] = (await test.stripe.charges.list({ customer: customer as string })).data;
      if (!charge!.refunded) await test.stripe.refunds.create({ charge: charge!.id });
      await deliver(test, 'charge.refunded', charge!.id);
      await victim.workOff();
    },
  };
  return { steps, shown, sessionId: () => sessionId };
}

/** Begun by a program, which repeats what was not answered; paid, its webhook worked on; its key claimed by the program. */
async function begunByProgram(test: BillingUnderTest, victim: Victim): Promise<Life> {
  const shown: string[] = [];
  const idempotencyKey = crypto.randomUUID();
  let begun: Record<string, string> = {};
  let sessionId = '';
  const ask = async (method: string, path: string) => {
    const answer = await fetch(`${test.url}/billing/purchases/${begun.purchase_id}${path}`, {
      method,
      headers: { Authorization: `Bearer ${begun.claim_token}` },
    });
    return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
  };
  const steps = {
    async opening() {
      const answer = await fetch(`${test.url}/billing/purchases`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', 'Idempotency-Key': idempotencyKey },
        body: JSON.stringify({ plan: 'pro' }),
      });
      expect(answer.status).toBe(201);
      begun = (await answer.json()) as Record<string, string>;
      sessionId = /cs_test_[0-9A-Za-z]+/.exec(begun.checkout_url!)![0];
      const { data } = await test.stripe.checkout.sessions.list({ limit: 5 });
      const opened = data.filter(({ metadata }) => metadata?.tollgate_purchase_id === begun.purchase_id);
      expect(opened.map(({ id }) => id)).toEqual([sessionId]);
      expect(await ask('GET', '')).toMatchObject({
        status: 200,
        body: { status: 'pending', claimed: false },
      });
    },
    async webhook() {
      const { status } = await test.stripe.checkout.sessions.retrieve(sessionId);
      if (status === 'open') await test.pay(sessionId);
      await deliver(test, 'checkout.session.completed', sessionId);
      await victim.workOff();
    },
    async claim() {
      const { status, body } = await ask('POST', '/claim');
      if (status === 200) shown.push('claim');
      else expect({ status, code: body.code }).toEqual({ status: 410, code: 'already_claimed' });
      expect(await ask('POST', '/claim')).toMatchObject({ status: 410, body: { code: 'already_claimed' } });
      expect(await ask('GET', '')).toMatchObject({ body: { status: 'provisioned', claimed: true } });
    },
  };
  return { steps, shown, sessionId: () => sessionId };
}

async function deliver(test: BillingUnderTest, type: string, objectId: string): Promise<void> {
  const { data } = await test.stripe.events.list({ type, limit: 10 });
  const event = data.find((each) => (each.data.object as { id: string }).id === objectId)!;
  const { attempts } = await test.control(`/events/${event.id}/deliver`);
  expect(attempts).toMatchObject([{ status: 200 }]);
}

function countOf(writes: readonly string[], what: string): number {
  return writes.filter((write) => write === what).length;
}

/** The billing process that is killed and started again, and the keystore it leaves. */
class Victim {
  readonly #test: BillingUnderTest;
  readonly #path: string;
  #child: ChildProcess | undefined;
  #output = '';
  #ended: Promise<unknown> = Promise.resolve();

  constructor(test: BillingUnderTest) {
    this.#test = test;
    this.#path = sqlitePath(test.keystoreUrl);
  }

  async start(): Promise<void> {
    const preload = join(import.meta.dirname, 'kill-at-write.ts');
    const child = spawn(process.execPath, ['--import', preload, billing], {
      cwd: temporaryFolder(),
      env: {
        PATH: process.env.PATH,
        NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
        LOG_LEVEL: 'warn',
        KILL_AT_WRITE: 'yes',
        ...this.#test.environment,
      },
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    });
    this.#child = child;
    this.#output = '';
    this.#ended = once(child, 'close');
    child.stdout!.on('data', (chunk) => {
      this.#output += chunk;
    });
    while (!this.#output.includes('Billing listens')) {
      if (child.exitCode !== null) throw new Error(`Billing did not start:\n${this.#output}`);
      await Promise.race([once(child.stdout!, 'data'), this.#ended]);
    }
  }

  /** Counts from now on, and kills where it is told to. */
  async arm(arm: Arm): Promise<void> {
    await this.#ask(arm);
  }

  async writes(): Promise<string[]> {
    return (await this.#ask('counted')).writes;
  }

  /** @throws when it is dead, or dies */
  async #ask(message: Arm | 'counted'): Promise<Counted> {
    const child = this.#child!;
    const answer = new Promise((resolve) => child.once('message', resolve));
    if (child.connected) child.send(message, () => {});
    const counted = await Promise.race([answer, this.#ended.then(() => null)]);
    if (!counted) throw new Error('Billing was killed');
    return counted as Counted;
  }

  /** What it printed before it was killed. */
  lastWords: string | undefined;

  /** Whether it was killed, as far as can be told after a request to it failed. */
  async isDead(): Promise<boolean> {
    // A machine that stands still for a while tells of the end late.
    await Promise.race([this.#ended, pause(15_000, undefined, { ref: false })]);
    if (this.#child!.signalCode !== 'SIGKILL') return false;
    this.lastWords = /^killed .*$/m.exec(this.#output)?.[0];
    return true;
  }

  /** Waits until the inbox is empty. @throws when it is killed before */
  async workOff(): Promise<void> {
    const giveUp = performance.now() + 20_000;
    while (this.#rows(`select id from events where status = 'pending'`).length > 0) {
      if (this.#child!.signalCode !== null || performance.now() > giveUp)
        throw new Error('The inbox is not empty');
      await pause(5);
    }
    // Its answer comes after all that the last event still makes it write.
    await this.writes();
  }

  /** Nothing is there that must not be, and no event is missing that was acknowledged. */
  async expectSound(never: Record<string, string>): Promise<void> {
    const found = Object.entries(never).map(([what, sql]) => [what, this.#rows(sql)]);
    expect(found.filter(([, rows]) => rows!.length > 0)).toEqual([]);
    const answer = await fetch(`${this.#test.sandbox.url}/_sandbox/deliveries`);
    const { deliveries } = (await answer.json()) as { deliveries: { event: string; state: string }[] };
    const kept = new Set((this.#rows('select id from events') as { id: string }[]).map(({ id }) => id));
    const acknowledged = deliveries.filter(({ state }) => state === 'delivered');
    expect(acknowledged.filter(({ event }) => !kept.has(event))).toEqual([]);
  }

  /** What a purchase has come to: how many rows of each kind, and what is told of them. */
  endOf(sessionId: string) {
    const one = <Row>(sql: string) => this.#rows(sql) as Row[];
    const hash = sessionHash(sessionId);
    const purchases = one<{
      id: string;
      key_id: string;
      customer_id: string;
      subscription_id: string;
      status: string;
      program: number;
      opens: number;
    }>(
      `select id, key_id, customer_id, subscription_id, status, claim_hash is not null as program, session_sealed is not null as opens from purchases where session_hash = '${hash}'`,
    );
    const { id, key_id, customer_id, subscription_id } = purchases[0]!;
    return {
      purchases: purchases.map(({ status, program, opens }) => ({ status, program, opens })),
      keys: one(
        `select revoked_reason from keys where subscription_id = '${subscription_id}' or customer_id = '${customer_id}'`,
      ),
      reveals: one(
        `select sealed, claimed_at is not null as claimed from reveals where purchase_id = '${id}' or key_id = '${key_id}'`,
      ),
      customers: one(`select mode, email from customers where id = '${customer_id}'`),
      subscriptions: one(`select plan_id, status from subscriptions where customer_id = '${customer_id}'`),
      payments: one(
        `select refunded_at is not null as refunded, dispute from payments where subscription_id = '${subscription_id}'`,
      ),
      told: one(
        `select action, count(*) as times from audit where key_id = '${key_id}' or customer_id = '${customer_id}' or purchase_id = '${id}' group by action order by action`,
      ),
      changes: one(
        `select count(*) as times from changes join keys on keys.id = key_id where root_id = '${key_id}'`,
      ),
    };
  }

  #rows(sql: string): unknown[] {
    const raw = new Database(this.#path, { readonly: true, timeout: 5000 });
    try {
      return raw.prepare(sql).all();
    } finally {
      raw.close();
    }
  }

  async end(): Promise<void> {
    this.#child?.kill('SIGKILL');
    await this.#ended;
  }
}
