import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { join, resolve } from 'node:path';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls';
import type Stripe from 'stripe';
import { expect } from 'vitest';
import { type PreflightContext, type Result, runPreflight } from '../billing/preflight/preflight.ts';
import { ensurePrice } from '../billing/stripe-catalogue.ts';
import { createStripe } from '../billing/stripe-client.ts';
import { repairPortal } from '../billing/stripe-portal.ts';
import { backupKeystore } from '../keystore/keystore.ts';
import { startCheckedSandbox } from '../sandbox/conformance.ts';
import type { Tollgate } from '../scripts/compose.ts';
import { freePort } from '../scripts/free-port.ts';
import { planVariable } from '../shared/plan-variables.ts';
import { loadPlans } from '../shared/plans.ts';
import { SERVER } from './certificates.ts';
import { newSqliteUrl, SERVER_SECRET, temporaryFolder } from './keystores.ts';
import { controlSandbox, startTollgateUnderTest } from './tollgate.ts';

/** What a command needs to take itself for one about real money. Nobody is there to be asked. */
export const liveEnvironment = () => ({
  KEYSTORE_URL: newSqliteUrl(),
  TOLLGATE_SECRET: SERVER_SECRET,
  STRIPE_SECRET_KEY: 'rk_live_0123456789',
  STRIPE_WEBHOOK_SECRET: 'whsec_0123456789',
  PUBLIC_BILLING_URL: 'https://buy.example.com',
  PUBLIC_GATEWAY_URL: 'https://api.example.com',
});

/** Everything that preflight looks at, all of it as it should be. */
export type PreflightRig = {
  tollgate: Tollgate;
  sandboxUrl: string;
  stripe: Stripe;
  /** What `npm run preflight` needs to look at the same. */
  environment: Record<string, string>;
  folder: string;
  endpointId: string;
  prices: Record<string, string>;
  context: PreflightContext;
  run(changes?: Partial<PreflightContext>, repair?: boolean): Promise<Result[]>;
  control(path: string, body?: object): Promise<Record<string, unknown>>;
  /** Stops everything, and fails if an answer or event of the sandbox was not as Stripe describes it. */
  close(): Promise<void>;
};

/** The sandbox is so far behind: what ends in it has ended a while ago. */
const BEHIND_MS = 3_600_000;

/**
 * @param options.secure whether the public addresses are HTTPS, with a certificate of `test/certificates`
 * @param options.thin whether Stripe sends thin events
 */
export async function startPreflightRig({
  secure = false,
  thin = false,
  plansFile = resolve('plans.yaml'),
}: {
  secure?: boolean;
  thin?: boolean;
  plansFile?: string;
} = {}): Promise<PreflightRig> {
  const sandbox = await startCheckedSandbox({ now: () => Date.now() - BEHIND_MS });
  const upstream = createServer((_request, response) => response.end('hello'));
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
  const accountKey = `sk_test_${randomBytes(16).toString('hex')}`;
  const stripe = createStripe(
    { secretKey: accountKey, apiBase: sandbox.url, requestsPerSecond: null },
    'page',
  );
  const prices: Record<string, string> = {};
  const priceVariables: Record<string, string> = {};
  for (const plan of loadPlans({}, plansFile, true).catalogue.plans.filter(({ price }) => price !== null)) {
    prices[plan.id] = (await ensurePrice(stripe, plan)).object.id;
    priceVariables[`PRICE_ID_TEST_${planVariable(plan.id)}`] = prices[plan.id] as string;
  }
  // Late, and with few connections between here and the start: each of them takes a port, too.
  const [billingPort, gatewayPort] = [await freePort(), await freePort()];
  const proxies = secure ? [await startTlsProxy(billingPort), await startTlsProxy(gatewayPort)] : [];
  const [billingUrl = `http://127.0.0.1:${billingPort}`, gatewayUrl = `http://127.0.0.1:${gatewayPort}`] =
    proxies.map(({ url }) => url);
  const { id: endpointId, secret } = sandbox.listen(`${billingUrl}/billing/webhook`, { thin });
  const environment: Record<string, string> = {
    ...priceVariables,
    PLANS_FILE: plansFile,
    KEYSTORE_URL: newSqliteUrl(),
    // Made anew: one that stands in a file that git tracks is just what is looked for.
    TOLLGATE_SECRET: randomBytes(48).toString('base64'),
    BILLING_PORT: String(billingPort),
    GATEWAY_PORT: String(gatewayPort),
    PUBLIC_BILLING_URL: billingUrl,
    PUBLIC_GATEWAY_URL: gatewayUrl,
    TRUSTED_PROXIES: '127.0.0.1',
    UPSTREAM_URL: `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`,
    STRIPE_SECRET_KEY: accountKey,
    STRIPE_WEBHOOK_SECRET: secret,
    STRIPE_API_BASE: sandbox.url,
    SUPPORT_EMAIL: 'help@example.com',
    TERMS_URL: 'https://www.example.com/terms',
    REFUND_POLICY_URL: 'https://www.example.com/refunds',
    PRIVACY_URL: 'https://www.example.com/privacy',
    ROUTES_FILE: 'off',
  };
  const tollgate = await startTollgateUnderTest(environment);
  const { config, keystore } = tollgate;
  const folder = temporaryFolder();
  writeFileSync(
    join(folder, 'preflight.yaml'),
    ['support_answered', 'prices_approved', 'legal_reviewed', 'accounting_reviewed']
      .map((name) => `${name}: { by: Ada Example, on: 2026-11-01 }\n`)
      .join(''),
  );
  await backupKeystore(config.keystoreUrl, join(temporaryFolder(), 'backup.sqlite'));
  await repairPortal(stripe, {
    plans: config.plans,
    mode: 'test',
    productName: config.productName,
    manageUrl: `${config.publicBillingUrl}/billing/manage`,
  });
  const context: PreflightContext = {
    mode: 'test',
    config,
    stripe,
    keystore,
    upstreamUrls: [config.upstreamUrl as string],
    folder,
    backupFile: null,
    now: Date.now,
  };
  return {
    tollgate,
    sandboxUrl: sandbox.url,
    stripe,
    environment,
    folder,
    endpointId,
    prices,
    context,
    run: (changes = {}, repair = false) => runPreflight({ ...context, ...changes }, { repair }),
    control: (path, body) => controlSandbox(sandbox.url, path, body),
    async close() {
      await tollgate.close();
      await sandbox.close();
      expect(sandbox.problems).toEqual([]);
      for (const { server } of proxies) server.close();
      await new Promise((resolve) => upstream.close(resolve));
    },
  };
}

/** A proxy that speaks HTTPS and passes every byte on to a port of this machine. */
async function startTlsProxy(port: number): Promise<{ url: string; server: TlsServer }> {
  const server = createTlsServer(SERVER, (outside) => {
    const inside = connect(port, '127.0.0.1');
    outside.pipe(inside).pipe(outside);
    outside.on('error', () => inside.destroy());
    inside.on('error', () => outside.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `https://localhost:${(server.address() as AddressInfo).port}`, server };
}
