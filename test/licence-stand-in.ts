import { generateKeyPairSync, type KeyObject, randomBytes, randomUUID, sign } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mintKey } from '../shared/keys.ts';

/** A plan of the stand-in. Times are in seconds. */
export type StandInPlan = {
  name: string;
  features: Record<string, boolean | number | string>;
  /** How many devices; 0: none. */
  devices: number;
  ttlS: number;
  graceS: number;
  heartbeatS: number | null;
};

/** A problem that is answered in the place of what was asked for. */
export type Refusal = { status: number; code: string; detail?: string; retryAfter?: number };

type Sold = {
  key: string;
  id: string;
  plan: string;
  devices: Map<string, { name: string | null; at: number }>;
  refusal: Refusal | null;
};
type Purchase = {
  id: string;
  plan: string;
  claimToken: string;
  status: string;
  claimed: boolean;
  failure: string | null;
};
type SigningKey = { kid: string; privateKey: KeyObject; publicKey: KeyObject };

/**
 * A seller's server that says what a test wants said, by the HTTP contract of licences and purchases: for what the real one
 * says only in trouble, or at another time.
 */
export type LicenceStandIn = {
  url: string;
  plans: Record<string, StandInPlan>;
  /** Requests that came, newest last, as `POST /licences/activate`. */
  requests: string[];
  /** Called for each request before it is answered. */
  onRequest(listener: (request: string) => void): void;
  setNow(now: () => number): void;
  /** A key that is sold now. */
  sell(plan: string): Sold;
  /** One that was. @throws Error when it was not */
  sold(key: string): Sold;
  /** Answers in the place of all else; `null`: as usual. */
  break(how: Refusal | 'html' | 'hang' | 'cut' | null): void;
  /** Pays at a checkout; `failed` and `canceled` come to nothing. */
  settle(
    checkoutUrl: string,
    status?: 'provisioned' | 'paid' | 'failed' | 'canceled',
    failure?: string,
  ): void;
  /** Signs with a new key from now on. The one before is published on, unless it is taken back. */
  rotate(how?: { takeBack: boolean }): void;
  /** The public keys as they are published. */
  jwks(): { keys: object[] };
  /** A token with these claims in the place of its own, signed by the present key. */
  token(
    sold: Sold,
    device: { id: string; name: string | null },
    claims?: Record<string, unknown>,
    header?: object,
  ): string;
  close(): Promise<void>;
};

const PLANS: Record<string, StandInPlan> = {
  free: { name: 'Free', features: { preview: true }, devices: 0, ttlS: 0, graceS: 0, heartbeatS: null },
  pro: {
    name: 'Pro',
    features: { preview: true, export: true, projects: 10 },
    devices: 2,
    ttlS: 7 * 86_400,
    graceS: 3 * 86_400,
    heartbeatS: null,
  },
  team: { name: 'Team', features: { export: true }, devices: 1, ttlS: 86_400, graceS: 0, heartbeatS: 60 },
  api: { name: 'API', features: {}, devices: 0, ttlS: 0, graceS: 0, heartbeatS: null },
};

export async function startLicenceStandIn(product = 'acme'): Promise<LicenceStandIn> {
  const sold: Sold[] = [];
  const purchases: Purchase[] = [];
  const requests: string[] = [];
  const plans = structuredClone(PLANS);
  let signing: SigningKey[] = [newSigningKey()];
  let broken: Refusal | 'html' | 'hang' | 'cut' | null = null;
  let clock = () => Date.now();
  let onRequest: (request: string) => void = () => {};
  const trials = new Map<string, { plan: string; code: string }>();

  const server = createServer((req, res) => void handle(req, res));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  async function handle(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const path = (req.url ?? '').split('?', 1)[0] as string;
    requests.push(`${req.method} ${path}`);
    onRequest(`${req.method} ${path}`);
    if (broken === 'hang') return;
    if (broken === 'cut') return void req.socket.destroy();
    if (broken === 'html')
      return void res.writeHead(402, { 'Content-Type': 'text/html' }).end('<h1>Pay for Wi-Fi</h1>');
    if (broken !== null) return refuse(res, broken);
    let text = '';
    for await (const chunk of req) text += chunk;
    const body = (text === '' ? {} : JSON.parse(text)) as Record<string, unknown>;
    const bearer = /^Bearer (.+)$/.exec(req.headers.authorization ?? '')?.[1];
    try {
      answer(res, 200, await respond(`${req.method} ${path}`, body, bearer));
    } catch (error) {
      if (!isRefusal(error)) throw error;
      refuse(res, error);
    }
  }

  async function respond(
    request: string,
    body: Record<string, unknown>,
    bearer: string | undefined,
  ): Promise<object> {
    const [, purchaseId, claim] = /^\w+ \/billing\/purchases\/(\w+)(\/claim)?$/.exec(request) ?? [];
    if (purchaseId !== undefined) return claim ? claimed(purchaseId, bearer) : looked(purchaseId, bearer);
    switch (request) {
      case 'GET /.well-known/jwks.json':
        return jwks();
      case 'GET /licences/features': {
        const { name, features } = plans.free as StandInPlan;
        const locked = [
          { feature: 'export', plans: [{ id: 'pro', name: 'Pro', value: true, price: '$19 a month' }] },
        ];
        if (bearer === undefined)
          return { product, plan: { id: 'free', name }, demo: true, features, locked };
        const plan = plans[find(bearer).plan] as StandInPlan;
        return {
          product,
          plan: { id: find(bearer).plan, name: plan.name },
          demo: false,
          features: plan.features,
          locked: [],
        };
      }
      case 'GET /licences/devices': {
        const { devices, plan } = find(bearer);
        return { devices: listed(devices), limit: plans[plan]?.devices };
      }
      case 'POST /licences/activate':
        return activate(good(find(body.key)), body.device as { id: string; name: string | null });
      case 'POST /licences/refresh': {
        const licence = good(find(body.key));
        return activation(licence, held(licence, body.device_id));
      }
      case 'POST /licences/heartbeat': {
        const licence = good(find(body.key));
        held(licence, body.device_id);
        return { heartbeat_s: plans[licence.plan]?.heartbeatS, devices: use(licence) };
      }
      case 'POST /licences/deactivate': {
        const licence = find(body.key);
        licence.devices.delete(body.device_id as string);
        return { deactivated: true, devices: use(licence) };
      }
      case 'POST /licences/validate': {
        const licence = find(body.key);
        const nothing = { licence: null, device: null, devices: null };
        try {
          good(licence);
        } catch (error) {
          if (!isRefusal(error)) throw error;
          return { valid: false, code: error.code, detail: error.detail ?? error.code, ...nothing };
        }
        const more = { licence: said(licence), device: null, devices: use(licence) };
        return { valid: true, code: 'valid', detail: 'This licence is good.', ...more };
      }
      case 'POST /licences/trial':
        return trial(body);
      case 'POST /billing/portal':
        find(bearer);
        return { url: `${url}/portal/session` };
      case 'POST /billing/purchases': {
        if (plans[body.plan as string] === undefined)
          throw { status: 400, code: 'unknown_plan' } satisfies Refusal;
        const purchase = {
          id: `pur_${randomBytes(8).toString('hex')}`,
          plan: body.plan as string,
          claimToken: randomBytes(32).toString('base64url'),
          status: 'pending',
          claimed: false,
          failure: null,
        };
        purchases.push(purchase);
        const { id, claimToken } = purchase;
        const checkout = `${url}/checkout/${id}`;
        return {
          purchase_id: id,
          status: 'pending',
          checkout_url: checkout,
          claim_token: claimToken,
          poll_after_ms: 200,
        };
      }
      default:
        throw { status: 404, code: 'not_found' } satisfies Refusal;
    }
  }

  function find(key: unknown): Sold {
    const licence = sold.find((each) => each.key === key);
    if (licence === undefined) throw { status: 401, code: 'invalid_key' } satisfies Refusal;
    return licence;
  }

  function good(licence: Sold): Sold {
    if (licence.refusal !== null) throw licence.refusal;
    if (plans[licence.plan]?.devices === 0)
      throw { status: 403, code: 'no_licence', detail: 'No devices.' } satisfies Refusal;
    return licence;
  }

  function held({ devices }: Sold, id: unknown): { id: string; name: string | null } {
    const device = devices.get(id as string);
    if (device === undefined) throw { status: 409, code: 'device_not_active' } satisfies Refusal;
    return { id: id as string, name: device.name };
  }

  function activate(licence: Sold, device: { id: string; name: string | null }): object {
    const { devices, plan } = licence;
    const limit = plans[plan]?.devices ?? 0;
    if (!devices.has(device.id) && devices.size >= limit) {
      throw Object.assign(
        { status: 409, code: 'device_limit' },
        { more: { devices: listed(devices), limit } },
      );
    }
    devices.set(device.id, { name: device.name ?? null, at: clock() });
    return activation(licence, device);
  }

  function activation(licence: Sold, device: { id: string; name: string | null }): object {
    const plan = plans[licence.plan] as StandInPlan;
    return {
      token: token(licence, device),
      expires_at: new Date(clock() + plan.ttlS * 1000).toISOString(),
      grace_until: new Date(clock() + (plan.ttlS + plan.graceS) * 1000).toISOString(),
      refresh_after_s: Math.floor(plan.ttlS / 2),
      licence: said(licence),
      device: {
        ...device,
        activated_at: new Date(clock()).toISOString(),
        last_seen_at: new Date(clock()).toISOString(),
      },
      devices: use(licence),
      heartbeat_s: plan.heartbeatS,
    };
  }

  function said({ id, plan }: Sold): object {
    const { name, features } = plans[plan] as StandInPlan;
    return { key_id: id, plan, plan_name: name, mode: 'test', state: 'active', features, until: null };
  }

  function use({ devices, plan }: Sold): object {
    return { used: devices.size, limit: plans[plan]?.devices };
  }

  function trial(body: Record<string, unknown>): object {
    const begun = trials.get(body.trial_id as string);
    if (body.trial_id === undefined && body.email !== undefined) {
      const trialId = randomUUID();
      trials.set(trialId, { plan: body.plan as string, code: '123456' });
      return { trial_id: trialId, status: 'verify_email', detail: 'A code was sent.' };
    }
    if (body.trial_id !== undefined && begun?.code !== body.code)
      throw { status: 400, code: 'code_not_valid' } satisfies Refusal;
    const licence = sell(begun?.plan ?? (body.plan as string));
    const more = { key: licence.key, ends_at: new Date(clock() + 14 * 86_400_000).toISOString() };
    return { ...activate(licence, body.device as { id: string; name: string | null }), ...more };
  }

  function purchaseOf(id: string, claimToken: string | undefined): Purchase {
    const purchase = purchases.find((each) => each.id === id && each.claimToken === claimToken);
    if (purchase === undefined) throw { status: 404, code: 'purchase_not_found' } satisfies Refusal;
    return purchase;
  }

  function looked(id: string, claimToken: string | undefined): object {
    const { status, plan, failure, claimed: taken } = purchaseOf(id, claimToken);
    return {
      purchase_id: id,
      status,
      plan,
      failure,
      claimed: taken,
      poll_after_ms: status === 'provisioned' ? null : 200,
    };
  }

  function claimed(id: string, claimToken: string | undefined): object {
    const purchase = purchaseOf(id, claimToken);
    if (purchase.claimed) throw { status: 410, code: 'already_claimed' } satisfies Refusal;
    if (purchase.status !== 'provisioned') throw { status: 409, code: 'payment_pending' } satisfies Refusal;
    purchase.claimed = true;
    const { key, id: keyId, plan } = sell(purchase.plan);
    return { key, key_id: keyId, last_four: key.slice(-4), mode: 'test', plan, gateway_url: url };
  }

  function sell(plan: string): Sold {
    const { plaintext, id } = mintKey(product, 'test');
    const licence = { key: plaintext, id, plan, devices: new Map(), refusal: null };
    sold.push(licence);
    return licence;
  }

  function token(
    licence: Sold,
    device: object,
    claims: Record<string, unknown> = {},
    header: object = {},
  ): string {
    const plan = plans[licence.plan] as StandInPlan;
    const { kid, privateKey } = signing[0] as SigningKey;
    const iat = Math.floor(clock() / 1000);
    const exp = iat + plan.ttlS;
    const payload = {
      iss: url,
      aud: product,
      sub: licence.id,
      jti: randomUUID(),
      iat,
      exp,
      grace_until: exp + plan.graceS,
      mode: 'test',
      plan: licence.plan,
      plan_name: plan.name,
      features: plan.features,
      device,
      ...claims,
    };
    const signed = [{ alg: 'Ed25519', typ: 'entitlement+jwt', kid, ...header }, payload]
      .map(part64)
      .join('.');
    return `${signed}.${sign(null, Buffer.from(signed), privateKey).toString('base64url')}`;
  }

  function jwks(): { keys: object[] } {
    return {
      keys: signing.map(({ kid, publicKey }) => ({
        ...publicKey.export({ format: 'jwk' }),
        kid,
        use: 'sig',
        alg: 'Ed25519',
      })),
    };
  }

  return {
    url,
    plans,
    requests,
    onRequest: (listener) => {
      onRequest = listener;
    },
    setNow: (now) => {
      clock = now;
    },
    sell,
    sold: find,
    break: (how) => {
      broken = how;
    },
    settle(checkoutUrl, status = 'provisioned', failure = '') {
      const purchase = purchases.find(({ id }) => checkoutUrl.endsWith(id));
      if (purchase === undefined) throw new Error(`No purchase at ${checkoutUrl}`);
      purchase.status = status;
      purchase.failure = failure || null;
    },
    rotate({ takeBack } = { takeBack: false }) {
      signing = [newSigningKey(), ...(takeBack ? [] : signing)];
    },
    jwks,
    token,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };

  function answer(res: ServerResponse, status: number, body: object): void {
    res.writeHead(status, { 'Content-Type': 'application/json', Date: new Date(clock()).toUTCString() });
    res.end(JSON.stringify(body));
  }
}

function refuse(
  res: ServerResponse,
  { status, code, detail = `${code}.`, retryAfter, ...rest }: Refusal,
): void {
  const { more = {} } = rest as { more?: object };
  res.writeHead(status, {
    'Content-Type': 'application/problem+json',
    ...(retryAfter === undefined ? {} : { 'Retry-After': retryAfter }),
  });
  res.end(
    JSON.stringify({
      type: `urn:tollgate:problem:${code}`,
      title: code,
      status,
      code,
      detail,
      request_id: 'r-1',
      ...more,
    }),
  );
}

function isRefusal(error: unknown): error is Refusal {
  return typeof (error as Refusal).code === 'string' && typeof (error as Refusal).status === 'number';
}

function newSigningKey(): SigningKey {
  return { kid: randomBytes(6).toString('hex'), ...generateKeyPairSync('ed25519') };
}

function part64(part: object): string {
  return Buffer.from(JSON.stringify(part)).toString('base64url');
}

function listed(devices: Sold['devices']): object[] {
  return [...devices].map(([id, { name, at }]) => ({
    id,
    name,
    activated_at: new Date(at).toISOString(),
    last_seen_at: new Date(at).toISOString(),
  }));
}
