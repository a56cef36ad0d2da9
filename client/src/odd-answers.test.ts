import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { mintKey } from '../../shared/keys.ts';
import { temporaryFolder } from '../../test/keystores.ts';
import { TollgateError } from './error.ts';
import { Tollgate } from './tollgate.ts';

/** What the odd server answers everything with. */
let answer: { status: number; body: string } = { status: 200, body: '{}' };
let url: string;
const server = createServer((req, res) => {
  const type = answer.status < 400 ? 'application/json' : 'application/problem+json';
  req.resume().once('end', () => res.writeHead(answer.status, { 'Content-Type': type }).end(answer.body));
});

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.close();
  server.closeAllConnections();
});

/** Everything that asks. */
const QUESTIONS: ((tollgate: Tollgate) => Promise<unknown>)[] = [
  (tollgate) => tollgate.activate(),
  (tollgate) => tollgate.refresh(),
  (tollgate) => tollgate.validate(),
  (tollgate) => tollgate.devices(),
  (tollgate) => tollgate.deactivate('another'),
  (tollgate) => tollgate.heartbeat(),
  (tollgate) => tollgate.catalogue(),
  (tollgate) => tollgate.trial({ plan: 'pro' }),
  (tollgate) => tollgate.portal(),
  (tollgate) => tollgate.checkout({ plan: 'pro' }, () => {}, { timeoutMs: 0 }),
];

/** Parts of true answers, so that what is odd is not all of it. */
const PARTS = {
  token: 'a.b.c',
  refresh_after_s: 60,
  heartbeat_s: null,
  licence: {
    key_id: 'k',
    plan: 'pro',
    plan_name: 'Pro',
    mode: 'test',
    state: 'active',
    features: {},
    until: null,
  },
  devices: [],
  limit: 3,
  valid: true,
  code: 'valid',
  detail: 'Good.',
  plan: null,
  product: 'acme',
  demo: false,
  features: {},
  locked: [],
  purchase_id: 'pur_1',
  claim_token: 'tgc_1',
  checkout_url: 'https://checkout.example.com/',
  status: 'pending',
  claimed: false,
  url: 'https://portal.example.com/',
};

it('whatever a server answers, it is understood or a TollgateError', async () => {
  const change = fc.dictionary(fc.constantFrom(...Object.keys(PARTS)), fc.jsonValue({ maxDepth: 2 }));
  const odd = fc.record({
    status: fc.constantFrom(200, 200, 200, 201, 202, 400, 404, 409, 410, 429, 500, 503),
    body: fc.oneof(
      fc.json({ maxDepth: 2 }),
      change.map((some) => JSON.stringify({ ...PARTS, ...some })),
    ),
  });
  await fc.assert(
    fc.asyncProperty(odd, fc.constantFrom(...QUESTIONS), async (said, question) => {
      answer = said;
      const tollgate = new Tollgate({ server: url, product: 'acme', folder: temporaryFolder() });
      await tollgate.keep(mintKey('acme', 'test').plaintext);
      const outcome = await question(tollgate).catch((error) => error);
      if (outcome instanceof Error) expect(outcome).toBeInstanceOf(TollgateError);
      expect((await tollgate.entitlements()).entitled).toBe(false);
    }),
    { numRuns: 300 },
  );
});

it('an address that no browser is to open is not passed on', async () => {
  const tollgate = new Tollgate({ server: url, product: 'acme', folder: temporaryFolder() });
  await tollgate.keep(mintKey('acme', 'test').plaintext);
  for (const address of ['javascript:alert(1)', 'file:///etc/passwd', '--help', 'calculator:', '']) {
    answer = { status: 200, body: JSON.stringify({ url: address }) };
    await expect(tollgate.portal()).rejects.toMatchObject({ code: 'unexpected_answer' });
  }
});
