import { writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { type Gateway, type GatewayOptions, startGateway } from '../gateway/server.ts';
import type { Keystore, PaymentSnapshot, SubscriptionSnapshot } from '../keystore/keystore.ts';
import { loadConfig } from '../shared/config.ts';
import { createLogger } from '../shared/log.ts';
import { purchase, SESSION, subscription } from './keystore-fixtures.ts';
import { newKeystoreUrl, openTestKeystore, SERVER_SECRET, TEST_KEY, temporaryFolder } from './keystores.ts';

/** Plans with limits that a test reaches quickly, and one without any. */
export const TEST_PLANS = `plans:
  open: { name: Open }
  small: { name: Small, limits: [{ requests: 5, per: hour }, { requests: 8, per: day }], features: [a] }
  large: { name: Large, limits: [{ requests: 50, per: hour }, { requests: 80, per: day }] }
  monthly: { name: Monthly, quota: 10 }
  both: { name: Both, limits: [{ requests: 5, per: hour }], quota: 3 }
  seats: { name: Seats, per_unit: true, limits: [{ requests: 2, per: hour }], quota: 10 }
  pack: { name: Pack, quota: { requests: 5, per: purchase }, limits: [{ requests: 50, per: hour }] }
  units: { name: Units, per_unit: true, quota: { requests: 2, per: purchase } }
`;

type Closable = { close(): Promise<void> };
const opened: Closable[] = [];

/** Closes all that was started here, newest first. For `afterEach`. */
export async function closeAll(): Promise<void> {
  for (const thing of opened.splice(0).reverse()) await thing.close();
}

/** Closes it with the rest. */
export function closeLater<T extends Closable>(thing: T): T {
  opened.push(thing);
  return thing;
}

export type TestUpstream = {
  url: string;
  port: number;
  /** Every request received, newest last. */
  requests: { method: string; url: string; rawHeaders: string[]; headers: IncomingMessage['headers'] }[];
};

/** A real upstream. Answers 200 with `{}` unless told otherwise. */
export async function startUpstream(
  listener: RequestListener = (_req, res) => res.end('{}'),
): Promise<TestUpstream> {
  const requests: TestUpstream['requests'] = [];
  const server = createServer((req, res) => {
    const { method = '', url = '', rawHeaders, headers } = req;
    requests.push({ method, url, rawHeaders, headers });
    listener(req, res);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closeLater({
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, port, requests };
}

export type TestGateway = Gateway & {
  keystore: Keystore;
  keystoreUrl: string;
  /** Every log line written, at level trace. */
  lines: string[];
  /** Makes a key and returns its plaintext and id. */
  key(planId?: string, more?: { expiresAt?: number }): Promise<{ plaintext: string; id: string }>;
  /** A request with a key. */
  get(path: string, key?: string, init?: RequestInit): Promise<Response>;
};

/** A gateway on free ports, on a real keystore file and the upstream given. */
export async function startTestGateway(
  options: {
    upstreamUrl?: string;
    plans?: string;
    env?: Record<string, string>;
    keystoreUrl?: string;
    keystore?: Keystore;
  } & Partial<Omit<GatewayOptions, 'config' | 'keystore'>> = {},
): Promise<TestGateway> {
  const { plans = TEST_PLANS, env = {}, keystoreUrl = newKeystoreUrl(), ...rest } = options;
  const plansFile = join(temporaryFolder(), 'plans.yaml');
  writeFileSync(plansFile, plans);
  const upstreamUrl = options.upstreamUrl ?? (await startUpstream()).url;
  const config = loadConfig(
    {
      KEYSTORE_URL: keystoreUrl,
      TOLLGATE_SECRET: SERVER_SECRET,
      GATEWAY_PORT: '0',
      INTERNAL_PORT: '0',
      UPSTREAM_URL: upstreamUrl,
      // Whatever lies in the folder that the tests are run in.
      ROUTES_FILE: 'off',
      PLANS_FILE: plansFile,
      PUBLIC_BILLING_URL: 'https://buy.example.com',
      // Every situation is tested on both ways through the gateway.
      FAST_LANE: process.env.TEST_FAST_LANE ?? 'off',
      ...env,
    },
    'gateway',
  );
  const lines: string[] = [];
  const log = createLogger({ level: 'trace', destination: { write: (line) => void lines.push(line) } });
  const keystore =
    options.keystore ??
    closeLater(
      await openTestKeystore({
        url: keystoreUrl,
        keyHash: config.keyHash,
        log,
        ...(options.now ? { now: options.now } : {}),
      }),
    );
  const gateway = closeLater(await startGateway({ log, ...rest, config, keystore }));
  return {
    ...gateway,
    keystore,
    keystoreUrl,
    lines,
    async key(planId = 'open', { expiresAt } = {}) {
      return keystore.createKey({ ...TEST_KEY, planId, expiresAt: expiresAt ?? null });
    },
    get: (path, key, init = {}) =>
      fetch(gateway.url + path, {
        ...init,
        headers: { ...(key === undefined ? {} : { 'X-API-Key': key }), ...(init.headers as object) },
      }),
  };
}

/** A key that was bought and claimed; `once`: without a subscription. `sync` sets the state of the subscription. */
export async function boughtKey(
  { keystore }: Pick<TestGateway, 'keystore'>,
  { planId = 'open', quantity = 1, once = false } = {},
) {
  const buyer = { stripeCustomerId: 'cus_1', email: 'buyer@example.com' };
  const bought = subscription({
    planId,
    priceId: 'price_1',
    quantity,
    currentPeriodEnd: Date.UTC(2027, 0, 1),
  });
  await keystore.provisionPurchase(
    purchase({
      planId,
      priceId: 'price_1',
      buyer,
      quantity,
      subscription: once ? null : bought,
      paymentIntentId: once ? 'pi_1' : null,
    }),
  );
  const claim = await keystore.claimReveal({ sessionId: SESSION, actor: 'test' });
  if (claim.outcome !== 'claimed') throw new Error(claim.outcome);
  return {
    plaintext: claim.plaintext,
    id: claim.keyId,
    sync: (more: Partial<SubscriptionSnapshot>) =>
      keystore.syncSubscription({
        mode: 'test',
        buyer,
        subscription: { ...bought, ...more },
        actor: 'test',
      }),
    /** A dispute or refund of what was paid for it. */
    syncPayment: (more: Partial<PaymentSnapshot>) =>
      keystore.syncPayment({
        mode: 'test',
        payment: {
          chargeId: 'ch_1',
          paymentIntentId: 'pi_1',
          subscriptionId: once ? null : bought.id,
          refundedAt: null,
          paidUntil: once ? null : bought.currentPeriodEnd,
          dispute: null,
          disputedSince: null,
          fetchedAt: 1000,
          ...more,
        },
        rulesOf: () => ({}),
        actor: 'test',
      }),
  };
}

/** Sends bytes on a connection of its own and returns all that comes back until it closes, or until `done` says so. */
export function sendRaw(
  port: number,
  bytes: string | Buffer | readonly string[],
  done: (received: string) => boolean = () => false,
  onConnect: (socket: Socket) => void = () => {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    let received = '';
    const socket = connect(port, '127.0.0.1', () => {
      for (const part of typeof bytes === 'string' || Buffer.isBuffer(bytes) ? [bytes] : bytes)
        socket.write(part);
      onConnect(socket);
    });
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1');
      if (done(received)) socket.destroy();
    });
    socket.on('error', (error) => (received ? resolve(received) : reject(error)));
    socket.on('close', () => resolve(received));
  });
}
