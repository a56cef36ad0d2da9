import { readFileSync } from 'node:fs';
import { BlockList, isIP } from 'node:net';
import { dirname, isAbsolute, resolve } from 'node:path';
import { z } from 'zod';
import { KEY_PREFIX_PATTERN, type Mode } from './keys.ts';
import { type ConfigProblem, loadPlans, type PlanCatalogue } from './plans.ts';
import { generateServerSecret } from './server-secret.ts';

export type { ConfigProblem } from './plans.ts';

/** Which part of Tollgate is starting, which decides what is required: `all` is `npm start`, `tool` an operator command. */
export type Service = 'gateway' | 'billing' | 'all' | 'tool';

export type StripeConfig = {
  secretKey: string;
  webhookSecret: string | null;
  /** `null`: Stripe itself. */
  apiBase: string | null;
  mode: Mode;
};

export type Config = {
  production: boolean;
  host: string;
  gatewayPort: number;
  billingPort: number;
  sandboxPort: number;
  /** Where metrics and other internal endpoints listen. */
  internalHost: string;
  internalPort: number;
  keystoreUrl: string;
  /** The folder of the keystore: generated secrets and logs of local runs lie here too. */
  dataDir: string;
  /** `null`: the built-in demo API. */
  upstreamUrl: string | null;
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
  redirectOrigins: readonly string[];
  /** What the buyer's pages call the API that is sold. */
  productName: string;
  supportEmail: string | null;
  keyPrefix: string;
  keyHash: { memoryKib: number; passes: number; lanes: number };
  revealTtlMs: number;
  trustedProxies: BlockList;
  /** The same list in the form Express takes. */
  trustedProxyList: readonly string[];
  plans: PlanCatalogue;
  logLevel: string;
};

/** Every mistake found in the configuration at once. */
export class ConfigError extends Error {
  /** `EX_CONFIG` of BSD's sysexits.h. */
  readonly exitCode = 78;
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    super(
      [
        `The configuration has ${problems.length === 1 ? 'a problem' : `${problems.length} problems`}. Nothing was started.`,
        ...problems.map(
          ({ variable, message, example }) =>
            `  ${variable} ${message}${example ? `\n    for example: ${example}` : ''}`,
        ),
      ].join('\n'),
    );
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

type Env = Readonly<Record<string, string | undefined>>;

const port = z.coerce
  .number({ error: 'is not a port number' })
  .int('is not a port number')
  .min(0)
  .max(65_535, 'is not a port number');
const httpUrl = z
  .string()
  .refine(
    (text) => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol),
    'is not an http:// or https:// address',
  )
  .refine(
    (text) =>
      !URL.canParse(text) || (!new URL(text).username && !new URL(text).hash && !new URL(text).search),
    'has a user name, a query or a fragment; leave that out',
  )
  .transform((text) => text.replace(/\/+$/, ''));

/** Each variable with what it must look like; `example` is shown beside a mistake. */
const variables = {
  HOST: { schema: z.string().min(1).default('127.0.0.1'), example: '127.0.0.1' },
  GATEWAY_PORT: { schema: port.default(8010), example: '8010' },
  BILLING_PORT: { schema: port.default(8011), example: '8011' },
  SANDBOX_PORT: { schema: port.default(8012), example: '8012' },
  INTERNAL_HOST: { schema: z.string().min(1).default('127.0.0.1'), example: '127.0.0.1' },
  INTERNAL_PORT: { schema: port.default(8013), example: '8013' },
  KEYSTORE_URL: {
    schema: z
      .string()
      .regex(/^sqlite:.+/, 'is not the address of a keystore')
      .default('sqlite:./data/keystore.sqlite'),
    example: 'sqlite:/var/lib/tollgate/keystore.sqlite',
  },
  UPSTREAM_URL: { schema: httpUrl.optional(), example: 'http://127.0.0.1:3000' },
  UPSTREAM_TIMEOUT_SECONDS: {
    schema: z.coerce.number({ error: 'is not a number of seconds' }).min(1).max(3600).default(60),
    example: '60',
  },
  STRIPE_SECRET_KEY: {
    schema: z
      .string()
      .regex(
        /^(sk|rk)_(test|live)_[0-9A-Za-z_]{4,}$/,
        'is not a Stripe secret key (sk_...) or restricted key (rk_...)',
      )
      .optional(),
    example: 'rk_test_...',
  },
  STRIPE_WEBHOOK_SECRET: {
    schema: z
      .string()
      .regex(/^whsec_.{8,}$/, 'is not the signing secret of a webhook endpoint')
      .optional(),
    example: 'whsec_...',
  },
  STRIPE_API_BASE: { schema: httpUrl.optional(), example: 'http://127.0.0.1:8012' },
  TOLLGATE_SECRET: {
    schema: z
      .string()
      .refine((text) => Buffer.byteLength(text) >= 32, 'is shorter than 32 bytes')
      .refine((text) => new Set(text).size >= 10, 'looks like a placeholder: make a random one')
      .optional(),
    example: 'the output of: openssl rand -base64 48',
  },
  PUBLIC_BILLING_URL: { schema: httpUrl.optional(), example: 'https://buy.example.com' },
  PUBLIC_GATEWAY_URL: { schema: httpUrl.optional(), example: 'https://api.example.com' },
  CHECKOUT_REDIRECT_ORIGINS: {
    schema: list(
      z
        .string()
        .refine(
          (text) => URL.canParse(text) && new URL(text).origin === text,
          'has an entry that is not an origin',
        ),
    ),
    example: 'https://www.example.com,https://docs.example.com',
  },
  PRODUCT_NAME: {
    schema: z.string().max(60, 'is longer than 60 characters').default('Demo API'),
    example: 'Acme Weather API',
  },
  SUPPORT_EMAIL: { schema: z.email('is not an e-mail address').optional(), example: 'support@example.com' },
  KEY_PREFIX: {
    schema: z
      .string()
      .regex(KEY_PREFIX_PATTERN, 'is not 1 to 10 lower-case letters and digits')
      .default('tg'),
    example: 'acme',
  },
  KEY_HASH: {
    schema: z
      .string()
      .regex(/^m=[0-9]{1,7},t=[0-9]{1,3},p=[0-9]{1,2}$/, 'is not Argon2id parameters')
      .default('m=4096,t=1,p=1')
      .transform((text) => text.match(/\d+/g)?.map(Number) as [number, number, number])
      .refine(
        ([m, t, p]) => m >= 8 * p && t >= 1 && p >= 1 && m <= 1_048_576,
        'has Argon2id parameters out of range',
      ),
    example: 'm=4096,t=1,p=1 (memory in KiB, passes, lanes)',
  },
  REVEAL_TTL_HOURS: {
    schema: z.coerce.number({ error: 'is not a number of hours' }).min(1).max(720).default(168),
    example: '168',
  },
  TRUSTED_PROXIES: {
    schema: list(
      z.string().refine(isAddressOrRange, 'has an entry that is neither an IP address nor a range'),
    ),
    example: '10.0.0.0/8,127.0.0.1',
  },
  PLANS_FILE: { schema: z.string().min(1).optional(), example: './plans.yaml' },
  LOG_LEVEL: {
    schema: z
      .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], { error: 'is not a log level' })
      .default('info'),
    example: 'info',
  },
  NODE_ENV: { schema: z.string().default('development'), example: 'production' },
} as const;

type Values = { [Name in keyof typeof variables]: z.output<(typeof variables)[Name]['schema']> };

/** Variables that are secrets, or may contain one: each can be given as `NAME_FILE`, the path of a file with the value. */
const SECRET_VARIABLES = [
  'STRIPE_SECRET_KEY',
  'STRIPE_WEBHOOK_SECRET',
  'TOLLGATE_SECRET',
  'KEYSTORE_URL',
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
  const production = values.NODE_ENV === 'production';
  const { catalogue, problems: planProblems } = loadPlans(
    env,
    values.PLANS_FILE ?? './plans.yaml',
    values.PLANS_FILE !== undefined,
  );
  problems.push(...planProblems);
  checkTogether(values, service, production, problems);
  if (problems.length > 0) throw new ConfigError(problems);

  const dataDir = dirname(sqlitePath(values.KEYSTORE_URL));
  const generated = values.TOLLGATE_SECRET === undefined ? localServerSecret(dataDir) : null;
  const trustedProxies = new BlockList();
  for (const entry of values.TRUSTED_PROXIES) addToBlockList(trustedProxies, entry);
  const [memoryKib, passes, lanes] = values.KEY_HASH;
  const localBillingUrl = `http://${urlHost(values.HOST)}:${values.BILLING_PORT}`;
  return {
    production,
    host: values.HOST,
    gatewayPort: values.GATEWAY_PORT,
    billingPort: values.BILLING_PORT,
    sandboxPort: values.SANDBOX_PORT,
    internalHost: values.INTERNAL_HOST,
    internalPort: values.INTERNAL_PORT,
    keystoreUrl: values.KEYSTORE_URL,
    dataDir,
    upstreamUrl: values.UPSTREAM_URL ?? null,
    upstreamTimeoutMs: values.UPSTREAM_TIMEOUT_SECONDS * 1000,
    stripe: values.STRIPE_SECRET_KEY
      ? {
          secretKey: values.STRIPE_SECRET_KEY,
          webhookSecret: values.STRIPE_WEBHOOK_SECRET ?? null,
          apiBase: values.STRIPE_API_BASE ?? null,
          mode: stripeMode(values.STRIPE_SECRET_KEY),
        }
      : null,
    serverSecret: values.TOLLGATE_SECRET ?? (generated as { secret: string }).secret,
    serverSecretFile: generated?.file ?? null,
    localBillingUrl,
    publicBillingUrl: values.PUBLIC_BILLING_URL ?? localBillingUrl,
    publicGatewayUrl: values.PUBLIC_GATEWAY_URL ?? `http://${urlHost(values.HOST)}:${values.GATEWAY_PORT}`,
    redirectOrigins: values.CHECKOUT_REDIRECT_ORIGINS,
    productName: values.PRODUCT_NAME,
    supportEmail: values.SUPPORT_EMAIL ?? null,
    keyPrefix: values.KEY_PREFIX,
    keyHash: { memoryKib, passes, lanes },
    revealTtlMs: values.REVEAL_TTL_HOURS * 3_600_000,
    trustedProxies,
    trustedProxyList: values.TRUSTED_PROXIES,
    plans: catalogue,
    logLevel: values.LOG_LEVEL,
  };
}

/** The mode a Stripe key belongs to. */
export function stripeMode(secretKey: string): Mode {
  return /^(sk|rk)_live_/.test(secretKey) ? 'live' : 'test';
}

/** The file of a `sqlite:` keystore address, absolute. */
export function sqlitePath(keystoreUrl: string): string {
  return resolve(keystoreUrl.replace(/^sqlite:(\/\/(?=\/))?/, ''));
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
  if (service === 'billing' || (service === 'all' && production)) {
    required('STRIPE_SECRET_KEY', 'billing asks Stripe what was paid');
    required('STRIPE_WEBHOOK_SECRET', "an unsigned event could be anyone's");
  }
  if (!production) return;
  if (!isAbsolute(values.KEYSTORE_URL.replace(/^sqlite:(\/\/(?=\/))?/, ''))) {
    report('KEYSTORE_URL', 'must be an absolute path in production, on a disk that outlives the process');
  }
  required('TOLLGATE_SECRET', 'keys and sealed reveals depend on it');
  if (service === 'tool') return;
  for (const name of ['PUBLIC_BILLING_URL', 'PUBLIC_GATEWAY_URL'] as const) {
    required(name, 'buyers are sent there');
    if (values[name]?.startsWith('http:'))
      report(name, 'must be https:// in production: keys travel over it');
  }
  if (service !== 'billing') required('UPSTREAM_URL', 'it is the API you sell');
  if (service !== 'gateway' && values.STRIPE_API_BASE) {
    report('STRIPE_API_BASE', 'must not be set in production: it sends the Stripe key elsewhere');
  }
}

function localServerSecret(dataDir: string): { secret: string; file: string } {
  try {
    return generateServerSecret(dataDir);
  } catch (error) {
    const message = `is unset, and none can be kept in the data folder: ${(error as Error).message}`;
    throw new ConfigError([{ variable: 'TOLLGATE_SECRET', message }]);
  }
}

function list(entry: z.ZodString) {
  return z
    .string()
    .default('')
    .transform((text) =>
      text
        .split(',')
        .map((part) => part.trim())
        .filter(Boolean),
    )
    .pipe(z.array(entry));
}

function isAddressOrRange(text: string): boolean {
  const [address = '', bits, ...rest] = text.split('/');
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  return bits === undefined || (/^[0-9]{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128));
}

function addToBlockList(blockList: BlockList, entry: string): void {
  const [address = '', bits] = entry.split('/');
  const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
  if (bits === undefined) blockList.addAddress(address, family);
  else blockList.addSubnet(address, Number(bits), family);
}
