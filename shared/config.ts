import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { type BlockList, isIP } from 'node:net';
import { dirname, resolve } from 'node:path';
import type { z } from 'zod';
import { addressesIn } from './address-ranges.ts';
import { variables } from './config-variables.ts';
import type { Mode } from './keys.ts';
import { isAbsolutePath, isPostgres, saysWhetherEncrypted, sqlitePath } from './keystore-url.ts';
import { localSecret } from './local-secret.ts';
import { redact } from './log.ts';
import { type ConfigProblem, loadPlans, type PlanCatalogue } from './plans.ts';

export type { ConfigProblem } from './plans.ts';

/** Which part of Tollgate is starting, which decides what is required: `all` is `npm start`, `tool` an operator command. */
export type Service = 'gateway' | 'billing' | 'licensing' | 'all' | 'tool';

export type StripeConfig = {
  secretKey: string;
  webhookSecret: string | null;
  /** `null`: Stripe itself. */
  apiBase: string | null;
  mode: Mode;
  /** How many requests Stripe takes from this account; `null`: no limit (the sandbox). */
  requestsPerSecond: number | null;
};

/** Where e-mail goes out. */
export type MailConfig = {
  /** `smtp://` or `smtps://`, with user name and password where the server asks for them. */
  smtpUrl: string;
  /** The sender: an address, or a name and an address in angle brackets. */
  from: string;
  /** Whether a server that offers no TLS is sent nothing. */
  requireTls: boolean;
};

/** https://docs.stripe.com/rate-limits */
const STRIPE_REQUESTS_PER_SECOND: Readonly<Record<Mode, number>> = { live: 100, test: 25 };

export type Config = {
  /** Whether this is production: `NODE_ENV=production`, or a live Stripe key. */
  production: boolean;
  host: string;
  gatewayPort: number;
  billingPort: number;
  sandboxPort: number;
  /** Where licensing listens when it runs alone. */
  licensingPort: number;
  /** Where metrics and other internal endpoints listen. */
  internalHost: string;
  internalPort: number;
  /** Where the metrics of billing, and of licensing when it runs alone, listen, on the same host. */
  billingInternalPort: number;
  licensingInternalPort: number;
  keystoreUrl: string;
  /** The folder of the keystore's file, else `./data`: generated secrets and logs of local runs lie here. */
  dataDir: string;
  /** How long keys that a gateway knows go on working while the keystore is away. */
  keystoreGraceMs: number;
  /** The Redis in which several gateways count limits; `null`: each counts its own. */
  redisUrl: string | null;
  /** What becomes of limits while Redis is away: each gateway decides on its own, or no request passes. */
  limitsWithoutRedis: 'local' | 'closed';
  /** `null`: the routes file says where requests go, or without one the built-in demo API takes them. */
  upstreamUrl: string | null;
  /** Path of the routes file; `null`: there is none. */
  routesFile: string | null;
  upstreamTimeoutMs: number;
  /** `null`: no key given; `npm start` uses the sandbox. */
  stripe: StripeConfig | null;
  serverSecret: string;
  /** Where the server secret came from, to tell the operator. */
  serverSecretFile: string | null;
  /** How this machine reaches billing. */
  localBillingUrl: string;
  publicBillingUrl: string;
  publicGatewayUrl: string;
  publicLicensingUrl: string;
  /** Keys of entitlement tokens, as {@link readSigningKeys} takes them; `null`: made in the data folder. */
  licensingKeys: string | null;
  redirectOrigins: readonly string[];
  /** What the buyer's pages call the API that is sold. */
  productName: string;
  supportEmail: string | null;
  /** Pages of the seller's own site, shown at the foot of the buyer's pages. */
  policies: { terms: string | null; refunds: string | null; privacy: string | null };
  /** `null`: no e-mail is sent. */
  mail: MailConfig | null;
  keyPrefix: string;
  keyHash: { memoryKib: number; passes: number; lanes: number };
  revealTtlMs: number;
  trustedProxies: BlockList;
  /** The same list in the form Express takes. */
  trustedProxyList: readonly string[];
  plans: PlanCatalogue;
  logLevel: string;
  /** How long requests under way may take to finish when the gateway stops. */
  drainMs: number;
  /** How long the gateway, when it is told to stop, goes on as before, but for saying that it is not ready. */
  stopDelayMs: number;
  /** Connections of clients to the gateway at most, and from one address that is no trusted proxy. */
  maxConnections: number;
  maxConnectionsPerAddress: number;
  /** Whether plain requests go through the gateway's fast lane. */
  fastLane: boolean;
  /** In how many processes the gateway runs. */
  workers: number;
  /** Where a line for each request goes: a file, or `stdout`; `null`: nowhere. */
  accessLog: string | null;
  /** Whether `npm run preflight -- --mode live` may look at the live account. */
  allowLivePreflight: boolean;
  /** Whether `npm run rehearsal -- --mode live` may buy with real money. */
  allowLiveRehearsal: boolean;
};

/** Every mistake found in the configuration at once. */
export class ConfigError extends Error {
  /** `EX_CONFIG` of BSD's sysexits.h. */
  readonly exitCode = 78;
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    const lines = problems.map(
      ({ variable, message, example }) =>
        `  ${variable} ${message}${example ? `\n    for example: ${example}` : ''}`,
    );
    const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`;
    // A secret in the wrong variable must not end up on the terminal.
    super(redact([`The configuration has ${count}. Nothing was started.`, ...lines].join('\n')));
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

const DEFAULT_ROUTES_FILE = './routes.yaml';

type Env = Readonly<Record<string, string | undefined>>;

type Values = { [Name in keyof typeof variables]: z.output<(typeof variables)[Name]['schema']> };

/** Variables that are secrets, or may contain one: each can be given as `NAME_FILE`, the path of a file with the value. */
const SECRET_VARIABLES = [
  'STRIPE_SECRET_KEY',
  'STRIPE_WEBHOOK_SECRET',
  'TOLLGATE_SECRET',
  'KEYSTORE_URL',
  'REDIS_URL',
  'SMTP_URL',
  'LICENSING_KEYS',
] as const;

/**
 * Reads and checks the whole configuration.
 *
 * @param env environment variables; an empty value counts as unset
 * @param service what is starting
 * @throws ConfigError with every problem at once
 */
export function loadConfig(env: Env, service: Service): Config {
  const problems: ConfigProblem[] = [];
  const values = readVariables(withSecretFiles(env, problems), problems);
  // A live key takes real money, so it gets every check of production, whatever NODE_ENV says or forgets to say.
  const live = values.STRIPE_SECRET_KEY !== undefined && stripeMode(values.STRIPE_SECRET_KEY) === 'live';
  const production = values.NODE_ENV === 'production' || live;
  const { catalogue, problems: planProblems } = loadPlans(
    env,
    values.PLANS_FILE ?? './plans.yaml',
    values.PLANS_FILE !== undefined,
  );
  problems.push(...planProblems);
  checkTogether(
    values,
    service,
    production,
    catalogue.plans.some((plan) => plan.licence !== null),
    problems,
  );
  if (problems.length > 0) throw new ConfigError(problems);

  const dataDir = isPostgres(values.KEYSTORE_URL)
    ? resolve('data')
    : dirname(sqlitePath(values.KEYSTORE_URL));
  const generated = values.TOLLGATE_SECRET === undefined ? localServerSecret(dataDir) : null;
  const trustedProxies = addressesIn(values.TRUSTED_PROXIES);
  const [memoryKib, passes, lanes] = values.KEY_HASH;
  const localBillingUrl = `http://${urlHost(values.HOST)}:${values.BILLING_PORT}`;
  return {
    production,
    host: values.HOST,
    gatewayPort: values.GATEWAY_PORT,
    billingPort: values.BILLING_PORT,
    sandboxPort: values.SANDBOX_PORT,
    licensingPort: values.LICENSING_PORT,
    internalHost: values.INTERNAL_HOST,
    internalPort: values.INTERNAL_PORT,
    billingInternalPort: values.BILLING_INTERNAL_PORT,
    licensingInternalPort: values.LICENSING_INTERNAL_PORT,
    keystoreUrl: values.KEYSTORE_URL,
    dataDir,
    keystoreGraceMs: values.KEYSTORE_GRACE_MINUTES * 60_000,
    redisUrl: values.REDIS_URL ?? null,
    limitsWithoutRedis: values.LIMITS_WITHOUT_REDIS,
    upstreamUrl: values.UPSTREAM_URL ?? null,
    routesFile: routesFile(values),
    upstreamTimeoutMs: values.UPSTREAM_TIMEOUT_SECONDS * 1000,
    stripe: values.STRIPE_SECRET_KEY
      ? {
          secretKey: values.STRIPE_SECRET_KEY,
          webhookSecret: values.STRIPE_WEBHOOK_SECRET ?? null,
          apiBase: values.STRIPE_API_BASE ?? null,
          mode: stripeMode(values.STRIPE_SECRET_KEY),
          requestsPerSecond: values.STRIPE_API_BASE
            ? null
            : STRIPE_REQUESTS_PER_SECOND[stripeMode(values.STRIPE_SECRET_KEY)],
        }
      : null,
    serverSecret: values.TOLLGATE_SECRET ?? (generated as { secret: string }).secret,
    serverSecretFile: generated?.file ?? null,
    localBillingUrl,
    publicBillingUrl: values.PUBLIC_BILLING_URL ?? localBillingUrl,
    publicLicensingUrl: values.PUBLIC_LICENSING_URL ?? values.PUBLIC_BILLING_URL ?? localBillingUrl,
    licensingKeys: values.LICENSING_KEYS ?? null,
    publicGatewayUrl: values.PUBLIC_GATEWAY_URL ?? `http://${urlHost(values.HOST)}:${values.GATEWAY_PORT}`,
    redirectOrigins: values.CHECKOUT_REDIRECT_ORIGINS,
    productName: values.PRODUCT_NAME,
    supportEmail: values.SUPPORT_EMAIL ?? null,
    policies: {
      terms: values.TERMS_URL ?? null,
      refunds: values.REFUND_POLICY_URL ?? null,
      privacy: values.PRIVACY_URL ?? null,
    },
    mail:
      values.SMTP_URL && values.MAIL_FROM
        ? {
            smtpUrl: values.SMTP_URL,
            from: values.MAIL_FROM,
            requireTls: mailNeedsTls(values.SMTP_URL, production),
          }
        : null,
    keyPrefix: values.KEY_PREFIX,
    keyHash: { memoryKib, passes, lanes },
    revealTtlMs: values.REVEAL_TTL_HOURS * 3_600_000,
    trustedProxies,
    trustedProxyList: values.TRUSTED_PROXIES,
    plans: catalogue,
    logLevel: values.LOG_LEVEL,
    fastLane: values.FAST_LANE,
    drainMs: values.DRAIN_SECONDS * 1000,
    stopDelayMs: values.STOP_DELAY_SECONDS * 1000,
    maxConnections: values.MAX_CONNECTIONS,
    maxConnectionsPerAddress: values.MAX_CONNECTIONS_PER_ADDRESS,
    workers: values.GATEWAY_WORKERS,
    accessLog: values.ACCESS_LOG === 'off' ? null : values.ACCESS_LOG,
    allowLivePreflight: values.ALLOW_LIVE_PREFLIGHT,
    allowLiveRehearsal: values.ALLOW_LIVE_REHEARSAL,
  };
}

/** Mail carries links that open keys, and the login of the mail server: neither travels in the clear to another machine. */
function mailNeedsTls(smtpUrl: string, production: boolean): boolean {
  const { protocol, hostname, username } = new URL(smtpUrl);
  if (protocol === 'smtps:') return true;
  const local = hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d+){3}$/.test(hostname);
  return !local && (production || username !== '');
}

/** The mode a Stripe key belongs to. */
export function stripeMode(secretKey: string): Mode {
  return /^(sk|rk)_live_/.test(secretKey) ? 'live' : 'test';
}

/** An address as it stands in a URL: IPv6 in brackets, "every interface" as the loopback one can open. */
export function urlHost(host: string): string {
  if (host === '0.0.0.0' || host === '::') return '127.0.0.1';
  return isIP(host) === 6 ? `[${host}]` : host;
}

function withSecretFiles(env: Env, problems: ConfigProblem[]): Env {
  const merged: Record<string, string | undefined> = { ...env };
  for (const name of SECRET_VARIABLES) {
    const file = env[`${name}_FILE`];
    if (!file) continue;
    if (env[name]) {
      problems.push({ variable: `${name}_FILE`, message: `is set beside ${name}: set one of the two` });
      continue;
    }
    try {
      merged[name] = readFileSync(file, 'utf8').trim();
      if (!merged[name])
        problems.push({ variable: `${name}_FILE`, message: `names ${file}, which is empty` });
    } catch (error) {
      const reason = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'does not exist' : 'cannot be read';
      problems.push({ variable: `${name}_FILE`, message: `names ${file}, which ${reason}` });
    }
  }
  return merged;
}

function readVariables(env: Env, problems: ConfigProblem[]): Values {
  const values: Record<string, unknown> = {};
  for (const [name, { schema, example }] of Object.entries(variables)) {
    const given = env[name]?.trim() || undefined;
    const parsed = schema.safeParse(given);
    if (parsed.success) values[name] = parsed.data;
    else {
      problems.push({
        variable: name,
        message: parsed.error.issues[0]?.message ?? 'is not valid',
        example: `${name}=${example}`,
      });
      // The default stands in, so that checks across variables can go on and every problem is reported at once.
      values[name] = schema.safeParse(undefined).data;
    }
  }
  return values as Values;
}

/** What no single variable shows: what production needs, and combinations that are unsafe. */
function checkTogether(
  values: Values,
  service: Service,
  production: boolean,
  sellsLicences: boolean,
  problems: ConfigProblem[],
): void {
  const report = (name: keyof typeof variables, message: string) => {
    if (!problems.some((problem) => problem.variable === name)) {
      problems.push({ variable: name, message, example: `${name}=${variables[name].example}` });
    }
  };
  if (values.STRIPE_API_BASE && values.STRIPE_SECRET_KEY && stripeMode(values.STRIPE_SECRET_KEY) === 'live') {
    report(
      'STRIPE_API_BASE',
      'sends a live Stripe key somewhere other than Stripe: unset it, or use a test key',
    );
  }
  const required = (name: keyof typeof variables, why: string) => {
    if (values[name] === undefined) report(name, `is required${production ? ' in production' : ''}: ${why}`);
  };
  if (values.SMTP_URL && !values.MAIL_FROM)
    report('MAIL_FROM', 'is required beside SMTP_URL: it is the sender');
  if (values.MAIL_FROM && !values.SMTP_URL)
    report('SMTP_URL', 'is required beside MAIL_FROM: it is the server that sends');
  if (service === 'billing' || (service === 'all' && production)) {
    required('STRIPE_SECRET_KEY', 'billing asks Stripe what was paid');
    required('STRIPE_WEBHOOK_SECRET', "an unsigned event could be anyone's");
  }
  if (service === 'gateway' || service === 'all') checkRoutesFile(values, report);
  if (service === 'all' && values.GATEWAY_WORKERS > 1) {
    report(
      'GATEWAY_WORKERS',
      `asks for ${values.GATEWAY_WORKERS} processes, and npm start is one: unset it, or run npm run gateway and npm run billing instead`,
    );
  }
  if (!production) return;
  if (isPostgres(values.KEYSTORE_URL)) {
    if (!saysWhetherEncrypted(values.KEYSTORE_URL)) {
      report(
        'KEYSTORE_URL',
        'must say in production how the connection is encrypted: add ?sslmode=verify-full, or ?sslmode=no-verify or ?sslmode=disable on a network that you trust',
      );
    }
  } else if (!isAbsolutePath(values.KEYSTORE_URL)) {
    report('KEYSTORE_URL', 'must be an absolute path in production, on a disk that outlives the process');
  }
  required('TOLLGATE_SECRET', 'keys and sealed reveals depend on it');
  if (service === 'tool') return;
  for (const name of ['PUBLIC_BILLING_URL', 'PUBLIC_GATEWAY_URL'] as const) {
    if (service !== 'licensing' || name !== 'PUBLIC_GATEWAY_URL') required(name, 'buyers are sent there');
    if (values[name]?.startsWith('http:'))
      report(name, 'must be https:// in production: keys travel over it');
  }
  if ((service === 'gateway' || service === 'all') && routesFile(values) === null) {
    required('UPSTREAM_URL', 'it is the API you sell (or ROUTES_FILE, with its routes)');
  }
  if (service !== 'gateway' && sellsLicences) {
    required('LICENSING_KEYS', 'it signs what programs go by while they cannot reach you');
    if (values.PUBLIC_LICENSING_URL?.startsWith('http:'))
      report('PUBLIC_LICENSING_URL', 'must be https:// in production: keys travel over it');
  }
  if ((service === 'billing' || service === 'all') && values.STRIPE_API_BASE) {
    report('STRIPE_API_BASE', 'must not be set in production: it sends the Stripe key elsewhere');
  }
}

/** What is in the file is the gateway's affair. */
function checkRoutesFile(
  values: Values,
  report: (name: keyof typeof variables, message: string) => void,
): void {
  const file = routesFile(values);
  if (file === null) return;
  if (!existsSync(file)) report('ROUTES_FILE', `names ${file}, which does not exist`);
  else if (values.UPSTREAM_URL !== undefined) {
    report(
      'UPSTREAM_URL',
      `is set beside the routes in ${file}, which say where requests go: unset UPSTREAM_URL, or set ROUTES_FILE=off for one route to it`,
    );
  }
}

/** The file that routes are in, if there is one. */
function routesFile({ ROUTES_FILE }: Pick<Values, 'ROUTES_FILE'>): string | null {
  if (ROUTES_FILE === 'off') return null;
  return ROUTES_FILE ?? (existsSync(DEFAULT_ROUTES_FILE) ? DEFAULT_ROUTES_FILE : null);
}

function localServerSecret(dataDir: string): { secret: string; file: string } {
  try {
    return localSecret(dataDir, 'server-secret', () => randomBytes(48).toString('base64'));
  } catch (error) {
    const message = `is unset, and none can be kept in the data folder: ${(error as Error).message}`;
    throw new ConfigError([{ variable: 'TOLLGATE_SECRET', message }]);
  }
}
