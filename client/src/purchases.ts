import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { TollgateError } from './error.ts';
import { corrupt, readJson, withLock, writeJson } from './files.ts';
import { productFolder } from './folder.ts';
import { productOf } from './key.ts';
import { LicenceFile, NO_LICENCE } from './licence-file.ts';
import { understood } from './published.ts';
import type { Server } from './server.ts';
import {
  count,
  countOrNull,
  list,
  MODES,
  type Mode,
  oneOf,
  type Shape,
  ShapeError,
  shape,
  text,
  textOrNull,
} from './shape.ts';

/** What is to be bought. `mode` only where it has to be the one that the server is in. */
export type Order = { plan: string; email?: string; mode?: Mode };

/** A purchase that was begun here and whose key was not taken yet. Whoever has its claim token can take it. */
export type PendingPurchase = {
  server: string;
  purchaseId: string;
  claimToken: string;
  checkoutUrl: string;
  plan: string;
  email: string | null;
  mode: Mode | null;
  /** Milliseconds since the epoch. */
  createdAt: number;
};

/** The key that was bought. This is the only time that it is told. */
export type BoughtKey = { key: string; keyId: string; lastFour: string; mode: Mode; plan: string | null };

const STATUSES = ['pending', 'paid', 'provisioned', 'failed', 'canceled'] as const;
type Looked = {
  status: (typeof STATUSES)[number];
  /** A code that says why it does not go the way it should. */
  failure: string | null;
  pollAfterMs: number | null;
};

/** The server says how often to ask, within these, milliseconds. */
const FASTEST_MS = 200;
const SLOWEST_MS = 60_000;
/** Where it does not say, or does not answer. */
const USUAL_MS = 2000;

/** Answers after which there is nothing to be had of a purchase. */
const OVER = ['purchase_canceled', 'payment_failed', 'already_claimed', 'reveal_expired', 'reveal_revoked'];
/** A server that does not know a purchase may have been restored from a backup, and learn of it again from Stripe. */
const UNKNOWN = 'purchase_not_found';
const KEPT_UNKNOWN_MS = 30 * 86_400_000;
/** What has to be seen to by somebody before the key comes: there is no use in waiting. */
const STUCK: Record<string, string> = {
  unknown_price: 'The payment arrived, and the seller has not finished the set-up of this product.',
  trial_used: 'The trial was used before, so the key comes when the subscription is paid.',
};

/**
 * Buying, in a way that loses no money: a purchase is written down before anybody can pay for it, and until its key is
 * written down somewhere else. Whatever ends the program in between, the next one can go on.
 */
export class Purchases {
  readonly #server: Server;
  readonly #path: string;

  /** @param folder of all products: before the key is there, nobody knows whose it will be */
  constructor(server: Server, folder: string) {
    this.#server = server;
    this.#path = join(folder, 'purchases.json');
  }

  /** Those of this server, oldest first. @throws TollgateError `storage_corrupt`, `storage_unavailable` */
  async pending(): Promise<PendingPurchase[]> {
    return (await this.#read()).filter(({ server }) => server === this.#server.url);
  }

  /**
   * The purchase to go on with for an order: one that was paid already, whatever it was for; else one of the same thing whose
   * checkout is still open; else a new one.
   *
   * @param beforeNew throws when there is not to be a new one
   * @throws TollgateError
   */
  async open(
    order: Order,
    beforeNew: () => Promise<void> = async () => {},
  ): Promise<{ purchase: PendingPurchase; resumed: boolean; paid: boolean }> {
    let same: PendingPurchase | undefined;
    for (const purchase of await this.pending()) {
      const state = await this.stateOf(purchase);
      if (state === 'paid') return { purchase, resumed: true, paid: true };
      const { plan, email, mode } = purchase;
      const equal = plan === order.plan && email === (order.email ?? null) && mode === (order.mode ?? null);
      if (state === 'open' && equal) same = purchase;
    }
    if (same) return { purchase: same, resumed: true, paid: false };
    await beforeNew();
    return { purchase: await this.begin(order), resumed: false, paid: false };
  }

  /**
   * Whether a purchase is paid, can still be, or has come to nothing. One whose key was taken elsewhere counts as paid: whoever
   * claims it is told, rather than left to pay again.
   *
   * @throws TollgateError
   */
  async stateOf(purchase: PendingPurchase): Promise<'paid' | 'open' | 'gone'> {
    try {
      const { status } = await this.#orForget(purchase, () => this.#status(purchase));
      return status === 'pending' ? 'open' : 'paid';
    } catch (error) {
      if (error instanceof TollgateError && [UNKNOWN, ...OVER].includes(error.code)) return 'gone';
      throw error;
    }
  }

  /** Creates a purchase. @throws TollgateError */
  async begin({ plan, email, mode }: Order): Promise<PendingPurchase> {
    // What cannot be kept is not to be begun.
    await this.#read();
    const { body } = await this.#server.ask('POST', '/billing/purchases', {
      body: { plan, ...(email === undefined ? {} : { email }), ...(mode === undefined ? {} : { mode }) },
    });
    const purchase = understood(() => ({
      server: this.#server.url,
      purchaseId: text(body, 'purchase_id'),
      claimToken: text(body, 'claim_token'),
      checkoutUrl: webAddress(body, 'checkout_url'),
      plan,
      email: email ?? null,
      mode: mode ?? null,
      createdAt: Date.now(),
    }));
    await this.#change((all) => [...all, purchase]);
    return purchase;
  }

  /**
   * Waits until the key can be taken. While the server cannot be reached it goes on waiting.
   *
   * @param timeoutMs how long at most; 0: looks once
   * @throws TollgateError `timed_out`, `aborted`, `unknown_price`, `trial_used`, `purchase_not_found`: the purchase is kept;
   *   `payment_failed`, `purchase_canceled`: it is over, and forgotten
   */
  async wait(purchase: PendingPurchase, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    const until = performance.now() + timeoutMs;
    for (;;) {
      const afterMs = await this.#look(purchase, signal);
      if (afterMs === null) return;
      const left = until - performance.now();
      if (left <= 0) {
        throw new TollgateError(
          'timed_out',
          'The payment was not confirmed in time.',
          'Nothing is lost: finish the checkout if you have not, then run the same command again.',
        );
      }
      await pause(Math.min(afterMs, left), undefined, signal ? { signal } : {}).catch(() => {
        throw stoppedWaiting();
      });
    }
  }

  /**
   * Takes the key, once.
   *
   * @param keep writes it down; the purchase is forgotten once that is done
   * @throws TollgateError `already_claimed`, `reveal_expired`, `reveal_revoked`: it is over, and forgotten
   */
  async claim(purchase: PendingPurchase, keep: (bought: BoughtKey) => Promise<void>): Promise<BoughtKey> {
    const { purchaseId, claimToken } = purchase;
    // A disk that takes no writes is to be found out before the key is told its only time.
    await this.#change((all) => all);
    const { body } = await this.#orForget(purchase, () =>
      this.#server.ask('POST', `/billing/purchases/${encodeURIComponent(purchaseId)}/claim`, {
        bearer: claimToken,
        body: {},
      }),
    );
    const bought = understood(() => ({
      key: text(body, 'key'),
      keyId: text(body, 'key_id'),
      lastFour: text(body, 'last_four'),
      mode: oneOf(body, 'mode', MODES),
      plan: textOrNull(body, 'plan'),
    }));
    await keep(bought);
    await this.forget(purchase);
    return bought;
  }

  async forget({ purchaseId }: PendingPurchase): Promise<void> {
    await this.#change((all) => all.filter((each) => each.purchaseId !== purchaseId));
  }

  /** In how many milliseconds to look again; `null`: the key is ready. */
  async #look(purchase: PendingPurchase, signal?: AbortSignal): Promise<number | null> {
    let looked: Looked;
    try {
      looked = await this.#orForget(purchase, () => this.#status(purchase, signal));
    } catch (error) {
      if (!(error instanceof TollgateError)) throw error;
      if (error.code === 'aborted') throw stoppedWaiting();
      if (!error.isServerTrouble) throw error;
      return Math.min(SLOWEST_MS, Math.max(USUAL_MS, (error.retryAfterSeconds ?? 0) * 1000));
    }
    if (looked.status === 'provisioned') return null;
    const stuck = looked.failure === null ? undefined : STUCK[looked.failure];
    if (looked.failure !== null && stuck !== undefined) {
      throw new TollgateError(
        looked.failure,
        stuck,
        'You need not pay again: the purchase is kept. Run the same command again later to take the key.',
      );
    }
    return Math.min(SLOWEST_MS, Math.max(FASTEST_MS, looked.pollAfterMs ?? USUAL_MS));
  }

  async #status({ purchaseId, claimToken }: PendingPurchase, signal?: AbortSignal): Promise<Looked> {
    const { body } = await this.#server.ask('GET', `/billing/purchases/${encodeURIComponent(purchaseId)}`, {
      bearer: claimToken,
      signal,
    });
    const looked = understood(() => ({
      status: oneOf(body, 'status', STATUSES),
      failure: textOrNull(body, 'failure'),
      pollAfterMs: countOrNull(body, 'poll_after_ms'),
    }));
    if (looked.status === 'failed') {
      throw new TollgateError(
        'payment_failed',
        'The payment failed.',
        'Buy again with another payment method.',
      );
    }
    if (looked.status === 'canceled') {
      throw new TollgateError('purchase_canceled', 'The checkout was canceled or has expired.', 'Buy again.');
    }
    return looked;
  }

  async #orForget<T>(purchase: PendingPurchase, ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      if (error instanceof TollgateError && this.#isOver(error.code, purchase)) await this.forget(purchase);
      throw error;
    }
  }

  #isOver(code: string, { createdAt }: PendingPurchase): boolean {
    return OVER.includes(code) || (code === UNKNOWN && Date.now() - createdAt > KEPT_UNKNOWN_MS);
  }

  async #read(): Promise<PendingPurchase[]> {
    const content = await readJson(this.#path);
    if (content === undefined) return [];
    try {
      const file = shape(content, 'the file');
      if (file.version !== 1) throw new ShapeError('its version is not 1');
      return list(file, 'purchases').map((each) => readPurchase(shape(each, 'purchases')));
    } catch (error) {
      if (error instanceof ShapeError) throw corrupt(this.#path, error.message);
      throw error;
    }
  }

  async #change(change: (all: PendingPurchase[]) => PendingPurchase[]): Promise<void> {
    await withLock(this.#path, async () => {
      const purchases = change(await this.#read()).map((each) => ({
        server: each.server,
        purchase_id: each.purchaseId,
        claim_token: each.claimToken,
        checkout_url: each.checkoutUrl,
        plan: each.plan,
        email: each.email,
        mode: each.mode,
        created_at: each.createdAt,
      }));
      await writeJson(this.#path, { version: 1, purchases });
    });
  }
}

function stoppedWaiting(): TollgateError {
  return new TollgateError(
    'aborted',
    'Stopped waiting. The purchase is kept.',
    'Run the same command again to go on: if it is paid by then, the key is taken. Nothing is lost.',
  );
}

/**
 * Writes down a key that was bought, in the place of what was there, under the product that it says it is for. Nothing but
 * a disk that takes no writes keeps it from that: the key is not told a second time.
 *
 * @param folder of all products
 */
export async function keepBought(
  { key, mode, plan }: BoughtKey,
  server: Server,
  folder: string,
): Promise<void> {
  const file = new LicenceFile(productFolder(folder, server.url, productOf(key)));
  await file.replace({ ...NO_LICENCE, key, keyFrom: 'purchase', plan, mode });
}

function readPurchase(kept: Shape): PendingPurchase {
  return {
    server: text(kept, 'server'),
    purchaseId: text(kept, 'purchase_id'),
    claimToken: text(kept, 'claim_token'),
    checkoutUrl: webAddress(kept, 'checkout_url'),
    plan: text(kept, 'plan'),
    email: textOrNull(kept, 'email'),
    mode: textOrNull(kept, 'mode') === null ? null : oneOf(kept, 'mode', MODES),
    createdAt: count(kept, 'created_at'),
  };
}

/** An address that a browser may be sent to; anything else could be a command to the system that opens it. */
export function webAddress(from: Shape, name: string): string {
  const address = text(from, name);
  const protocol = URL.canParse(address) ? new URL(address).protocol : '';
  if (protocol !== 'https:' && protocol !== 'http:') throw new ShapeError(`${name} is not a web address`);
  return new URL(address).href;
}
