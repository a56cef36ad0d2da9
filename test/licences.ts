import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type BillingUnderTest, startBillingUnderTest } from './billing.ts';
import { temporaryFolder } from './keystores.ts';

/** Plans with licences: `pro` for three devices, `solo` paid once for one, `team` with floating seats, `api` without any. */
const PLANS = `plans:
  free:
    name: Free
    price: { amount: 0, currency: usd, per: month }
    features: [draw]
  pro:
    name: Pro
    price: { amount: 19, currency: usd, per: month }
    devices: 3
    trial_days: 14
    features: { draw: true, export: true, projects: 10, secret: false }
  team:
    name: Team
    price: { amount: 99, currency: usd, per: month }
    per_unit: true
    devices: { count: 2, free_after: 15m }
    token_ttl: 1h
    offline_grace: 0h
    features: { draw: true, export: true, projects: 100, sso: true }
  solo:
    name: Solo
    price: { amount: 49, currency: usd, per: once }
    devices: 1
    features: [draw, export]
  api:
    name: API
    price: { amount: 5, currency: usd, per: month }
    limits: [{ requests: 60, per: minute }]
`;

/** A plan file with {@link PLANS}. */
export function licencePlansFile(): string {
  const file = join(temporaryFolder(), 'plans.yaml');
  writeFileSync(file, PLANS);
  return file;
}

export type Answer = { status: number; headers: Headers; body: Record<string, unknown> };

/** Billing with licensing beside it, on {@link PLANS}. */
export type LicensingUnderTest = BillingUnderTest & {
  /** Asks `POST /licences/<name>`. */
  ask(name: string, body: object, headers?: Record<string, string>): Promise<Answer>;
  /** Asks `GET <path>`. */
  get(path: string, headers?: Record<string, string>): Promise<Answer>;
  /** Buys a plan and claims its key. */
  buyKey(plan: string): Promise<{ key: string; keyId: string; sessionId: string }>;
};

export async function startLicensingUnderTest(env: Record<string, string> = {}): Promise<LicensingUnderTest> {
  const billing = await startBillingUnderTest({ PLANS_FILE: licencePlansFile(), ...env });
  const read = async (response: Response): Promise<Answer> => ({
    status: response.status,
    headers: response.headers,
    body: (await response.json()) as Record<string, unknown>,
  });
  return Object.assign(billing, {
    async ask(name: string, body: object, headers: Record<string, string> = {}) {
      return read(
        await fetch(`${billing.url}/licences/${name}`, {
          method: 'POST',
          headers: { 'Content-Type': 'application/json', ...headers },
          body: JSON.stringify(body),
        }),
      );
    },
    async get(path: string, headers: Record<string, string> = {}) {
      return read(await fetch(`${billing.url}${path}`, { headers }));
    },
    async buyKey(plan: string) {
      const sessionId = await billing.buy(plan);
      const response = await fetch(`${billing.url}/billing/success/claim`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
        body: JSON.stringify({ session_id: sessionId }),
      });
      const body = (await response.json()) as { key: string; key_id: string };
      if (!response.ok) throw new Error(`No key: ${JSON.stringify(body)}`);
      return { key: body.key, keyId: body.key_id, sessionId };
    },
  });
}
